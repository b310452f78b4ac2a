"""Every parameter of the project: its type, its range, its default, and where the default is from.

Kedro builds these models from `conf/*/parameters_*.yml` before any node runs; a notebook builds
them by hand. Unknown names are refused, so a misspelt parameter can't be silently ignored.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Base of all parameter groups: immutable, and closed to unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitConfig(Settings):
    """How the official training images are divided."""

    validation_share: float = Field(
        0.2, gt=0, lt=1, description="Part of every class that is kept for validation."
    )
    seed: int = Field(0, ge=0, description="Seed of the division.")


class ComputeConfig(Settings):
    """Where tensors live. Results may differ in the last digits between devices."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="`auto` takes a CUDA GPU, else Apple's MPS, else the CPU.",
    )


class ModelConfig(Settings):
    """The network."""

    architecture: str = Field(
        description="`simple_cnn`, or the name of any convolutional network of torchvision."
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
        description="ResNets: blocks start as identities, so that a short training gets further.",
    )
    image_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Pixels to which height and width are resized first; null: as they come.",
    )


class OptimizerConfig(Settings):
    """The optimiser. Defaults: Adam as the seed report used it."""

    name: Literal["adam", "adamw", "sgd"] = Field("adam", description="`sgd` is with Nesterov.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(
        0.0, ge=0, description="L2 penalty (`adam`, `sgd`) or decoupled decay (`adamw`)."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of `sgd`.")


class ScheduleConfig(Settings):
    """How the learning rate moves. Defaults: StepLR as the seed report used it."""

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


class AugmentationConfig(Settings):
    """Random changes of training images; validation and test images are never changed."""

    flip: bool = Field(True, description="Mirror every image with probability one half.")
    crop_padding: int = Field(
        4, ge=0, le=64, description="Zero pixels around an image before a random crop; 0: no crop."
    )


class TrainingConfig(Settings):
    """One training recipe. Defaults: part 1 of the seed report."""

    epochs: int = Field(20, ge=1, description="Passes over the training images.")
    batch_size: int = Field(128, ge=1, description="Images per step of the optimiser.")
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes."
    )
    seed: int = Field(0, ge=0, description="Seed of initial weights, order and augmentation.")


RobustnessMethod = Literal["plain", "batch_norm", "tta", "batch_norm_tta"]


class RobustnessConfig(Settings):
    """How classifiers are judged on corrupted images."""

    images: int | None = Field(
        1000,
        ge=1,
        description="Images of each set, evenly over the classes; null: all. Time grows with it.",
    )
    seed: int = Field(0, ge=0, description="Seed of the corruptions and of the choice of images.")
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
    seed: int = Field(0, ge=0, description="Seed of the sampler.")


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
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2),
        min_length=1,
        description="The base and every change are trained once with each seed.",
    )


class ScreeningConfig(Settings):
    """Several architectures, from random weights, by one recipe and with one budget."""

    architectures: tuple[str, ...] = Field(
        min_length=1,
        description="`simple_cnn`, or names of convolutional networks of torchvision. A network "
        "that can't take the images as they come gets them resized.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="Budget of every training in seconds of training steps: it gets as many "
        "images as its measured speed allows; null: the recipe's epochs are the budget.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="Every architecture is trained once with each seed."
    )
    training: TrainingConfig = TrainingConfig()
