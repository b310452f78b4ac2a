"""Types for the annotations of node functions.

Kedro evaluates these annotations to find typed parameters, also in commands that need no torch, so
at run time the heavy types are stand-ins; type checkers see the real ones.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor

    from cifar100_transfer.data import ImageSet, Predictions
    from cifar100_transfer.data.challenge import ChallengeFiles, Submission
    from cifar100_transfer.data.pictures import PictureFiles
    from cifar100_transfer.models import Classifier
else:
    Classifier = DataFrame = Figure = ImageSet = Predictions = Tensor = Any
    ChallengeFiles = PictureFiles = Submission = Any

__all__ = [
    "ChallengeFiles",
    "Classifier",
    "DataFrame",
    "Figure",
    "ImageSet",
    "PictureFiles",
    "Predictions",
    "Submission",
    "Tensor",
]
