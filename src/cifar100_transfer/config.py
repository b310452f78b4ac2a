"""Every parameter of the project: its type, its range, its default, and where the default is from.

Kedro builds these models from `conf/*/parameters_*.yml` before any node runs; a notebook builds
them by hand. Unknown names are refused, so a misspelt parameter can't be silently ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Settings(BaseModel):
    """Base of all parameter groups: immutable, and closed to unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Pydantic takes `true` for 1, and a run of one epoch would pass for what was asked.
        entries = value if isinstance(value, list | tuple) else [value]
        wanted = cls.model_fields[str(info.field_name)].annotation
        if wanted is not bool and any(isinstance(entry, bool) for entry in entries):
            raise ValueError("input should not be true or false")
        return value


class SplitConfig(Settings):
    """How the official training images are divided."""

    validation_share: float = Field(
        0.2, gt=0, lt=1, description="Part of every class that is kept for validation."
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="Seed of the division; scikit-learn takes 32 bits."
    )


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
