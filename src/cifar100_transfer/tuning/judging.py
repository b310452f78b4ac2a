"""What a finished training is worth."""

from cifar100_transfer.data import stratified_subset
from cifar100_transfer.evaluation.robustness import measure_robustness, predictors_of
from cifar100_transfer.manifest import hardware_name
from cifar100_transfer.models import Classifier
from cifar100_transfer.training import TrainingResult

from .study import Outcome
from .trial_data import TrialData

# Columns of the tables of trials.
CLEAN = "validation_accuracy"
CORRUPTED = "corrupted_accuracy"
# One for all trials: they are compared on the same images under the same corruptions.
CORRUPTION_SEED = 0


def judged_by(corrupted_images: int | None) -> str:
    """Return the column that trials are compared by; see `judge`."""
    return CLEAN if corrupted_images is None else CORRUPTED


def judge(result: TrainingResult, data: TrialData, corrupted_images: int | None) -> Outcome:
    """Judge the best epoch of a training by validation images.

    Args:
        result: of the training.
        data: the trials' images and device.
        corrupted_images: how many validation images judge, evenly over the classes, under all
            corruptions at all severities; None: all of them judge, as they are.
    """
    summary = result.summary()
    names = (CLEAN, "best_epoch", "epochs", "train_accuracy", "seconds", "images_per_second")
    figures = {name: summary[name] for name in names}
    figures["hardware"] = hardware_name(str(data.compute.device))
    if corrupted_images is not None:
        accuracy = _mean_corruption_accuracy(result.classifier, data, corrupted_images)
        figures = {CORRUPTED: accuracy, **figures}
    return Outcome(figures[judged_by(corrupted_images)], figures)


def _mean_corruption_accuracy(classifier: Classifier, data: TrialData, count: int) -> float:
    chosen = stratified_subset(data.validation_set, count, CORRUPTION_SEED)
    chosen = chosen.with_images(chosen.images.to(data.compute.device))
    predictors = predictors_of(classifier.to(data.compute.device), ["plain"], source_weight=None)
    table = measure_robustness(predictors, chosen, "validation", CORRUPTION_SEED)
    return float(table["accuracy"].mean())
