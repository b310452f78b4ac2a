"""What a classifier said about a set of images, beside what is true."""

from dataclasses import dataclass

import torch

from cifar100_transfer.errors import UserError

from .image_set import check_classes


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits, true labels and the names of the classes: all that judging a classifier needs.

    Attributes:
        logits: float32 [N, C] on the CPU, N at least 1, every value finite.
        labels: int64 [N] on the CPU, values 0 to C - 1.
        class_names: one name a (fine) class, in label order; C different ones.
        coarse_names: one name a coarse class; empty where the data has no hierarchy.
        coarse_of_class: for each fine class the index of its coarse class; C long, or empty.
        classifier: digest of the classifier that said it; empty where none is known, as in files
            of earlier releases.
        image_set: digest of the images; empty likewise.

    Raises:
        UserError: a shape, a dtype or a value is not as above.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...] = ()
    coarse_of_class: tuple[int, ...] = ()
    classifier: str = ""
    image_set: str = ""

    def __post_init__(self) -> None:
        classes = len(self.class_names)
        check_classes(self.class_names, self.coarse_names, self.coarse_of_class)
        if (
            self.logits.dtype != torch.float32
            or self.logits.device.type != "cpu"
            or self.logits.ndim != 2
            or self.logits.shape[1] != classes
        ):
            raise UserError(
                f"logits must be float32 [N, {classes}] on the CPU, one column a class name, got "
                f"{self.logits.dtype} {list(self.logits.shape)} on {self.logits.device}"
            )
        if len(self.logits) == 0:
            raise UserError("predictions of zero images can't be judged: give at least one image")
        if (
            self.labels.dtype != torch.int64
            or self.labels.device.type != "cpu"
            or self.labels.shape != self.logits.shape[:1]
        ):
            raise UserError(
                f"labels must be int64 [{len(self.logits)}] on the CPU, one an image, got "
                f"{self.labels.dtype} {list(self.labels.shape)} on {self.labels.device}"
            )
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes:
            raise UserError(
                f"labels must lie in 0 … {classes - 1}, got "
                f"{int(self.labels.min())} … {int(self.labels.max())}"
            )
        broken = ~self.logits.isfinite().all(dim=1)
        if bool(broken.any()):
            raise UserError(
                f"logits must be finite, but {int(broken.sum())} of {len(broken)} rows hold NaN or "
                f"infinity, the first is row {int(broken.int().argmax())}: the classifier diverged "
                f"in training or its weights are damaged"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of (fine) classes, C."""
        return len(self.class_names)

    @property
    def has_hierarchy(self) -> bool:
        """Whether every class belongs to a coarse one."""
        return bool(self.coarse_of_class)

    @property
    def probabilities(self) -> torch.Tensor:
        """Softmax of the logits: float32 [N, C], every row sums to 1."""
        return self.logits.softmax(dim=1)

    @property
    def predicted(self) -> torch.Tensor:
        """Class with the largest logit, the first of equals: int64 [N]."""
        return self.logits.argmax(dim=1)

    @property
    def confidence(self) -> torch.Tensor:
        """Probability of the predicted class: float32 [N], in [1/C, 1]."""
        return self.probabilities.amax(dim=1)

    @property
    def correct(self) -> torch.Tensor:
        """Whether the predicted class is the true one: bool [N]."""
        return self.predicted == self.labels

    @property
    def coarse_labels(self) -> torch.Tensor:
        """Coarse class of the true class: int64 [N].

        Raises:
            UserError: the classes have no hierarchy.
        """
        return self._coarse(self.labels)

    @property
    def coarse_predicted(self) -> torch.Tensor:
        """Coarse class of the predicted (fine) class: int64 [N].

        Raises:
            UserError: the classes have no hierarchy.
        """
        return self._coarse(self.predicted)

    def _coarse(self, fine: torch.Tensor) -> torch.Tensor:
        if not self.has_hierarchy:
            raise UserError(
                "these predictions have no coarse classes: give coarse_names and coarse_of_class"
            )
        return torch.tensor(self.coarse_of_class, dtype=torch.int64)[fine]
