"""A network with everything that training treats specially, small enough for many trainings."""

from collections import OrderedDict

from torch import nn

from cifar100_transfer.config import (
    AugmentationConfig,
    ModelConfig,
    ScheduleConfig,
    TrainingConfig,
)
from cifar100_transfer.data import ImageSet, channel_statistics
from cifar100_transfer.models import Classifier
from cifar100_transfer.training import TrainingResult, build_classifier

Sets = tuple[ImageSet, ImageSet]


class Killed(BaseException):
    """Stands for the end of the process."""


def recipe(**changes: object) -> TrainingConfig:
    settings = {
        "epochs": 3,
        "batch_size": 16,
        "augmentation": AugmentationConfig(crop_padding=1),
        "schedule": ScheduleConfig(name="constant"),
    }
    return TrainingConfig(**(settings | changes))


def tiny_network(classes: int, batch_norm: bool = True, dropout: float = 0.2) -> nn.Sequential:
    """Stem, block and head, of two dimensions' parameters and one's; takes any image size."""

    def norm() -> nn.Module:
        return nn.BatchNorm2d(8) if batch_norm else nn.Identity()

    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 8, 3, padding=1),
            norm=norm(),
            relu=nn.ReLU(),
            body=nn.Sequential(
                nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), norm(), nn.ReLU()
            ),
            pool=nn.AdaptiveAvgPool2d(2),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            head=nn.Linear(32, classes),
        )
    )


def tiny_classifier(images: ImageSet, config: TrainingConfig, **options: object) -> Classifier:
    """Build a classifier around the tiny network, with weights that the recipe's seed decides."""
    normalization = vars(channel_statistics(images.images))
    classifier = build_classifier(
        images, normalization, ModelConfig(architecture="simple_cnn"), config
    )
    classifier.network = tiny_network(images.num_classes, **options)  # type: ignore[arg-type]
    return classifier


def results(result: TrainingResult) -> list[tuple[float, ...]]:
    """Return the history without the columns that time makes."""
    return [
        (r.train_loss, r.train_accuracy, r.validation_loss, r.validation_accuracy, r.learning_rate)
        for r in result.history
    ]
