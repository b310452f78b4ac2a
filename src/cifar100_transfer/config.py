"""Every parameter of the project: its type, its range, its default, and where the default is from.

Kedro builds these models from `conf/*/parameters_*.yml` before any node runs; a notebook builds
them by hand. Unknown names are refused, so a misspelt parameter can't be silently ignored.
"""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError


def _admits_truth(annotation: Any) -> bool:
    return annotation is bool or any(map(_admits_truth, get_args(annotation)))


class Settings(BaseModel):
    """Base of all parameter groups: immutable, and closed to unknown names."""

    # Built on first use: commands that check no parameter need not wait for it.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Pydantic takes `true` for 1, and a run of one epoch would pass for what was asked.
        entries = value if isinstance(value, list | tuple) else [value]
        wanted = cls.model_fields[str(info.field_name)].annotation
        if not _admits_truth(wanted) and any(isinstance(entry, bool) for entry in entries):
            raise ValueError("input should not be true or false")
        return value


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Torch's and NumPy's generators on the CPU take 32 bits: larger ones would repeat these."""


class SplitConfig(Settings):
    """How the official training images are divided."""

    validation_share: float = Field(
        0.2, gt=0, lt=1, description="Part of every class that is kept for validation."
    )
    train_images: int | None = Field(
        None,
        ge=1,
        description="Training images to keep, evenly over the classes, for a quick trial; null: "
        "all that are not for validation. A larger number includes the images of a smaller one.",
    )
    seed: Seed = Field(0, description="Seed of the division.")


class ComputeConfig(Settings):
    """Where and how tensors are computed. Results may differ in the last digits between devices."""

    device: str = Field(
        "auto",
        description="`cpu`, `mps`, `cuda` or `cuda:N`; `auto` takes a CUDA GPU, else Apple's MPS, "
        "else the CPU.",
    )
    devices: int = Field(
        1,
        ge=1,
        description="Devices that share every training batch, each in a process of its own: the "
        "first GPUs of this machine, or shares of its CPU threads.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="Of training steps; `auto` takes bfloat16 where the hardware is faster in "
        "it. Weights stay float32.",
    )
    compile: bool = Field(
        False,
        description="Train through torch.compile. Needs a C++ compiler.",
    )
    cuda_graphs: bool = Field(
        True,
        description="On one CUDA GPU, record the passes of a step and replay them: the same "
        "results, and quicker where the network is small.",
    )

    @field_validator("device")
    @classmethod
    def _check_device(cls, name: str) -> str:
        if not re.fullmatch("auto|cpu|mps|cuda(:[0-9]+)?", name):
            raise PydanticCustomError("device", "Use auto, cpu, mps, cuda or cuda:N")
        return name

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, devices: int, info: ValidationInfo) -> int:
        device = info.data.get("device", "")
        if devices > 1 and ":" in device:
            raise PydanticCustomError(
                "devices",
                "Several devices are the first GPUs, not {device}: set device to cuda, or devices "
                "to 1",
                {"device": device},
            )
        return devices


class ModelConfig(Settings):
    """The network."""

    architecture: str = Field(
        description="`simple_cnn`, `express`, `express_small`, `express_large`, a wide residual "
        "network such as `wrn_28_8`, or any convolutional network of torchvision."
    )
    pretrained: bool = Field(
        False,
        description="Start from the catalog entry `pretrained_weights`; the head starts anew.",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Probability of dropping a feature before the head; null: as published.",
    )
    zero_init_residual: bool = Field(
        False,
        description="ResNets: blocks start as identities, so that a short training gets further. "
        "Not together with `pretrained`, whose weights replace it.",
    )
    image_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Pixels to which height and width are resized first; null: as they come.",
    )

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.pretrained and self.zero_init_residual:
            raise ValueError(
                "zero_init_residual is of random weights, which pretrained ones replace: "
                "set one of them to false"
            )
        return self


class OptimizerConfig(Settings):
    """The optimiser. Defaults: Adam as the original report used it.

    What each option does and costs: `docs/training.md`.
    """

    name: Literal["adam", "adamw", "sgd", "muon"] = Field(
        "adam",
        description="`sgd` is with Nesterov. `muon` takes the filters and matrices but the head's, "
        "`adamw` the other parameters.",
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(
        0.0, ge=0, description="L2 penalty (`adam`, `sgd`) or decoupled decay (`adamw`, `muon`)."
    )
    decay_norms_and_biases: bool = Field(
        True, description="Whether the decay is on parameters of one dimension, too."
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Momentum of `sgd` and `muon`; Muon's source: 0.95."
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Factor of the learning rate from each layer to the one before; head: 1.",
    )
    head_multiplier: float = Field(
        1.0, gt=0, description="Factor of the learning rate of the last layer."
    )
    clip_norm: float | None = Field(
        None, gt=0, description="Largest norm of all gradients together; null: not clipped."
    )
    sam_radius: float = Field(
        0.0,
        ge=0,
        description="Sharpness-aware minimisation looks this far for a higher loss; 0: it doesn't. "
        "Doubles the work; paper: 0.05.",
    )


class ScheduleConfig(Settings):
    """How the learning rate moves. Defaults: StepLR as the original report used it."""

    name: Literal["constant", "step", "one_cycle", "cosine"] = Field(
        "step",
        description="`step` moves once an epoch, `one_cycle` and `cosine` at every batch.",
    )
    step_epochs: int = Field(7, ge=1, description="`step`: epochs between two reductions.")
    gamma: float = Field(0.1, gt=0, le=1, description="`step`: factor of one reduction.")
    warmup_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="`one_cycle`, `cosine`: part of all batches in which the rate rises.",
    )


# As `data.corruptions` makes them, which needs torch: names are checked before any run.
Corruption = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
]


class AugmentationConfig(Settings):
    """Random changes of training images; validation and test images are never changed.

    A corrupted copy is taken first; then the changes come in the order of these options, but the
    crop before the flip. What each does and costs: `docs/augmentation.md`.
    """

    flip: bool = Field(True, description="Mirror every image with probability one half.")
    crop_padding: int = Field(
        4, ge=0, le=64, description="Zero pixels around an image before a random crop; 0: no crop."
    )
    corruption_share: float = Field(
        0.0, ge=0, le=1, description="Share of images that are taken from corrupted copies."
    )
    corruptions: tuple[Corruption, ...] = Field(
        get_args(Corruption),
        min_length=1,
        description="What copies are made with: some of the nineteen corruptions, or all.",
    )
    corruption_copies: int = Field(
        4,
        ge=1,
        le=64,
        description="Copies of every image under one of `corruptions` at any severity, made once "
        "where `corruption_share` is not 0; they lie on the device.",
    )
    policy: Literal["none", "rand_augment", "trivial_augment", "augmix"] = Field(
        "none", description="Random operations, drawn for every image by itself."
    )
    policy_magnitude: float = Field(
        0.3,
        ge=0,
        le=1,
        description="`rand_augment`: of every operation; `augmix`: the largest. The default is "
        "torchvision's 9 of 30 and AugMix's 3 of 10.",
    )
    policy_operations: int = Field(
        2, ge=1, le=8, description="`rand_augment`: operations an image, one after another."
    )
    augmix_jsd: float = Field(
        0.0,
        ge=0,
        description="`augmix`: weight of the Jensen-Shannon consistency of three views, which "
        "triples the work; AugMix's paper: 12; 0: one view.",
    )
    noise_share: float = Field(0.0, ge=0, le=1, description="Share of images with Gaussian noise.")
    noise_sigma: float = Field(
        0.12,
        gt=0,
        le=1,
        description="Largest standard deviation of the noise, of a range of 1; uniform from 0.",
    )
    erasing_share: float = Field(
        0.0, ge=0, le=1, description="Share of images with a rectangle of random pixels."
    )
    cutout_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Side of a square in mean colour, its centre anywhere; 0: none; paper: 8.",
    )
    mixup_alpha: float = Field(
        0.0, ge=0, description="MixUp's shares are Beta(alpha, alpha); 0: none; papers: 0.2 to 1."
    )
    cutmix_alpha: float = Field(
        0.0, ge=0, description="CutMix's shares are Beta(alpha, alpha); 0: none; paper: 1."
    )
    mix_share: float = Field(
        1.0, ge=0, le=1, description="Share of images that MixUp or CutMix mixes with another."
    )

    @property
    def track(self) -> Literal["held_out", "open"]:
        """Whether training sees any of the nineteen corruptions it is judged on.

        `open` if it does: noise and corruptions, and the policies that change brightness and
        contrast. `held_out` if it does not.
        """
        seen = self.noise_share or self.corruption_share
        return "open" if seen or self.policy in ("rand_augment", "trivial_augment") else "held_out"

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.augmix_jsd and self.policy != "augmix":
            raise ValueError("augmix_jsd compares AugMix views: set policy to augmix, or it to 0")
        if self.augmix_jsd and (self.mixup_alpha or self.cutmix_alpha):
            raise ValueError(
                "augmix_jsd compares views of one image, mixup_alpha and cutmix_alpha mix two: "
                "set either to 0"
            )
        return self


class AveragingConfig(Settings):
    """A mean of the weights over the training; where there is one, it is judged and kept."""

    name: Literal["none", "ema", "swa"] = Field(
        "none",
        description="`ema`: exponential mean over all steps; `swa`: plain mean over the ends of "
        "the last epochs, with the statistics of batch norms measured anew.",
    )
    ema_decay: float = Field(
        0.999, gt=0, lt=1, description="`ema`: weight of the past at every step."
    )
    swa_start: float = Field(
        0.75, ge=0, lt=1, description="`swa`: part of the epochs before the first that counts."
    )
    swa_factor: float | None = Field(
        None,
        gt=0,
        le=1,
        description="`swa`: share of the peak learning rate that is held from there on; null: the "
        "schedule goes on.",
    )


class TrainingConfig(Settings):
    """One training recipe. Defaults: part 1 of the original report."""

    epochs: int = Field(20, ge=1, description="Passes over the training images.")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        128,
        description="Images per step of the optimiser. `auto` measures which size trains fast "
        "enough on this device.",
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes."
    )
    accumulation_steps: int = Field(
        1,
        ge=1,
        description="Parts into which a batch is cut; their gradients add up to the same step.",
    )
    frozen_epochs: int = Field(
        0, ge=0, description="First epochs in which only the last layer is trained."
    )
    averaging: AveragingConfig = Field(default_factory=AveragingConfig)
    patience: int | None = Field(
        None,
        ge=1,
        description="Epochs without a better validation accuracy that end the training, with SWA "
        "counted from its start; null: none do.",
    )
    progressive_sizes: tuple[
        tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[int, Field(ge=8, le=1024)]], ...
    ] = Field(
        (),
        description="Pairs of a share of the epochs and the pixels that training images are "
        "resized to until then, such as [0.5, 24]; afterwards, and in the last epoch always, they "
        "are as large as at validation.",
    )
    seed: Seed = Field(0, description="Seed of initial weights, order and augmentation.")

    @property
    def images_per_step(self) -> int:
        """`batch_size` as a number.

        Raises:
            ValueError: it is still `auto`.
        """
        if self.batch_size == "auto":
            raise ValueError("batch_size=auto is no number yet: see training.choose_batch_size")
        return self.batch_size

    @field_validator("batch_size", mode="wrap")
    @classmethod
    def _say_it_once(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        # Pydantic would say what is wrong for every type that it could have been.
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError(
                "batch_size", "Input should be a whole number greater than 0, or auto"
            ) from None

    @field_validator("progressive_sizes")
    @classmethod
    def _check_order(cls, sizes: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
        shares = [share for share, _ in sizes]
        if shares != sorted(set(shares)):
            raise ValueError("the shares of the epochs must rise")
        return sizes

    @field_validator("accumulation_steps")
    @classmethod
    def _check_accumulation(cls, steps: int, info: ValidationInfo) -> int:
        optimizer = info.data.get("optimizer")
        if steps > 1 and optimizer and optimizer.sam_radius:
            raise ValueError(
                "optimizer.sam_radius needs the gradient of the whole batch first: "
                "set accumulation_steps to 1 or sam_radius to 0"
            )
        size = info.data.get("batch_size")
        if isinstance(size, int) and steps > size:
            raise ValueError("a batch has no more parts than images: raise batch_size")
        return steps


class EnsembleConfig(Settings):
    """Which classifiers are averaged."""

    members: tuple[str, ...] = Field(
        min_length=1,
        description="Models. Of each the newest stored classifier is taken, and those that differ "
        "from it by their seed alone; all weigh the same.",
    )

    @model_validator(mode="after")
    def _names_none_twice(self) -> Self:
        twice = sorted({name for name in self.members if self.members.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: name every model once")
        return self


class ComparisonConfig(Settings):
    """What is compared."""

    all_runs: bool = Field(
        False,
        description="Compare every stored run of every model instead of the newest of each.",
    )


RobustnessMethod = Literal["plain", "batch_norm", "tta", "batch_norm_tta"]
ADAPTING: tuple[RobustnessMethod, ...] = ("batch_norm", "batch_norm_tta")
"""The transductive methods: they use statistics of the images that they classify."""
VIEWING: tuple[RobustnessMethod, ...] = ("tta", "batch_norm_tta")
"""The methods that average over views of each image."""


class RobustnessConfig(Settings):
    """How classifiers are judged on corrupted images."""

    images: int | None = Field(
        1000,
        ge=1,
        description="Images of each set, evenly over the classes; null: all. Time grows with it.",
    )
    seed: Seed = Field(0, description="Seed of the corruptions and of the choice of images.")
    methods: tuple[RobustnessMethod, ...] = Field(
        ("plain", "batch_norm"),
        min_length=1,
        description="`plain`; `batch_norm`: statistics re-estimated on the corrupted images, which "
        "is transductive; `tta`: mean over shifted and mirrored views; `batch_norm_tta`: both.",
    )
    source_weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0, 0.25, 0.5, 0.75),
        min_length=1,
        description="Candidates for the weight of the trained batch-norm statistics in the mixture "
        "with re-estimated ones; corrupted validation images choose.",
    )


class SubmissionConfig(Settings):
    """How the challenge's images are classified."""

    method: RobustnessMethod = Field(
        "plain",
        description="`plain`; `tta`: mean over six shifted and mirrored views; `batch_norm`: "
        "statistics re-estimated on each file's images of one severity; `batch_norm_tta`: both.",
    )
    source_weight: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Weight of the trained batch-norm statistics in the mixture with re-estimated "
        "ones, for `batch_norm` and `batch_norm_tta`: the one that `robustness` has chosen.",
    )

    @model_validator(mode="after")
    def _has_weight(self) -> Self:
        if self.method in ADAPTING and self.source_weight is None:
            raise ValueError(
                f"method {self.method} needs source_weight: give the one that validation images "
                f"chose, adaptation.source_weight in robustness_summary.json"
            )
        return self


Scalar = bool | int | float | str | None
Changes = dict[str, Scalar]


class SpaceEntry(Settings):
    """One parameter of a search: a list of values, or a range."""

    parameter: str = Field(
        description="Dotted path in a model's block, such as `training.batch_size`."
    )
    values: tuple[Scalar, ...] | None = Field(None, min_length=1, description="Candidates.")
    low: float | None = Field(None, description="Smallest value of a range; `tpe` only.")
    high: float | None = Field(None, description="Largest value of a range, included.")
    log: bool = Field(False, description="Draw from the range evenly by order of magnitude.")

    @model_validator(mode="after")
    def _is_list_or_range(self) -> Self:
        if self.values is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either values, or low and high, not both")
            if len(set(map(repr, self.values))) < len(self.values):
                raise ValueError("values must differ")
        elif self.low is None or self.high is None:
            raise ValueError("give either values, or both low and high")
        else:
            if self.low >= self.high:
                raise ValueError(f"low={self.low:g} must be smaller than high={self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"low={self.low:g} must be larger than 0 where log is true")
        return self


CorruptedImages = Annotated[
    int | None,
    Field(
        ge=1,
        description="Trials are judged by this many validation images, evenly over the classes, "
        "under all corruptions at all severities; null: by all of them, as they are.",
    ),
]


class SearchConfig(Settings):
    """A search for a better recipe of one model. Validation images judge, never test images."""

    sampler: Literal["grid", "tpe"] = Field(
        "grid",
        description="`grid` tries every combination of the values; `tpe` (tree-structured Parzen "
        "estimator) draws where earlier trials did well.",
    )
    trials: int = Field(
        50, ge=1, description="`tpe`: trials in all, over all processes. A grid has its own number."
    )
    pruner: Literal["none", "median", "successive_halving"] = Field(
        "none",
        description="When a trial is given up: `median`: its best validation accuracy so far is "
        "below the median of the others at that epoch; `successive_halving`: it is not among the "
        "best quarter at epochs 1, 4, 16, ….",
    )
    space: tuple[SpaceEntry, ...] = Field(min_length=1, description="What is tried.")
    corrupted_images: CorruptedImages = None
    seed: Seed = Field(0, description="Seed of the sampler.")


class NamedChange(Settings):
    """One row of an ablation."""

    name: str = Field(min_length=1, description="How tables and figures call it.")
    set: Changes = Field(min_length=1, description="New values by dotted path in a model's block.")


class AblationConfig(Settings):
    """What each of several changes is worth, other things being equal."""

    base: Changes = Field(
        {}, description="Values by dotted path that turn the model's recipe into the base."
    )
    changes: tuple[NamedChange, ...] = Field(
        min_length=1, description="Each is made to the base alone."
    )
    seeds: tuple[Seed, ...] = Field(
        (0, 1, 2),
        min_length=1,
        description="The base and every change are trained once with each seed.",
    )
    corrupted_images: CorruptedImages = None


class ScreeningConfig(Settings):
    """Several architectures, from random weights, by one recipe and with one budget."""

    architectures: tuple[str, ...] = Field(
        min_length=1,
        description="Names as for `model.architecture`. A network "
        "that can't take the images as they come gets them resized.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="Budget of every training in seconds of training steps: it gets as many "
        "images as its measured speed allows; null: the recipe's epochs are the budget.",
    )
    seeds: tuple[Seed, ...] = Field(
        (0,), min_length=1, description="Every architecture is trained once with each seed."
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)
