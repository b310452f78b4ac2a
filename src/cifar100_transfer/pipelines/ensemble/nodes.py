"""Nodes of the ensemble pipeline."""

import logging
from typing import TYPE_CHECKING, Any

from cifar100_transfer.config import ComputeConfig, EnsembleConfig
from cifar100_transfer.errors import UserError
from cifar100_transfer.pipelines.annotations import Classifier, ImageSet, Predictions

if TYPE_CHECKING:
    from cifar100_transfer.datasets.stored import StoredClassifiers
else:
    StoredClassifiers = Any

logger = logging.getLogger(__name__)


def average_members(
    stored_classifiers: StoredClassifiers, validation_set: ImageSet, settings: EnsembleConfig
) -> Classifier:
    """Make one classifier of all seeds of the models in `settings.members`.

    Its recipe says which they are. All must have been validated on these very images: others may
    have been trained on some of them.
    """
    from cifar100_transfer.evaluation.prediction import VALIDATION_IMAGES, check_validation
    from cifar100_transfer.models import average_classifiers, classifier_digest, load_classifier

    files = [one for model in settings.members for one in stored_classifiers.seeds_of(model)]
    members, described = [], []
    for one in files:
        member = load_classifier(one.file)
        try:
            check_validation(member, validation_set)
        except UserError as error:
            raise UserError(f"{one.model}, seed {one.seed}, run {one.version}: {error}") from None
        members.append(member)
        described.append(
            {
                "model": one.model,
                "run": one.version,
                "architecture": member.spec.architecture,
                "seed": one.seed,
                "seconds": one.seconds,
                "classifier": classifier_digest(member),
            }
        )
        logger.info("member: %s, seed %s, of run %s", one.model, one.seed, one.version or "unknown")
    if len(members) == 1:
        logger.warning(
            "this ensemble has one member, and says what that one says: train others, or the same "
            "model with another seed (--params=%s.training.seed=1)",
            files[0].model,
        )
    recipe = {"members": described, VALIDATION_IMAGES: validation_set.digest()}
    return average_classifiers(members, recipe)


def summarize_members(
    classifier: Classifier, validation_predictions: Predictions, compute: ComputeConfig
) -> dict[str, Any]:
    """Sum up an ensemble as a training is summed up.

    What only a training has is null: epochs, and figures of training images, which are those of
    images as augmented. `seconds` are those of all members' trainings, if all are known.
    """
    from cifar100_transfer.evaluation.metrics import mean_loss
    from cifar100_transfer.models import choose_device, classifier_digest, count_flops

    seconds = [member["seconds"] for member in classifier.spec.recipe["members"]]
    return {
        "architecture": classifier.spec.architecture,
        "parameters": sum(weight.numel() for weight in classifier.parameters()),
        "flops": count_flops(classifier.spec),
        "epochs": None,
        "best_epoch": None,
        "train_loss": None,
        "train_accuracy": None,
        "validation_loss": mean_loss(validation_predictions),
        "validation_accuracy": validation_predictions.correct.double().mean().item(),
        "validation_images": len(validation_predictions),
        "seconds": None if None in seconds else sum(seconds),
        "images_per_second": None,
        "classifier": classifier_digest(classifier),
        "device": str(choose_device(compute.device)),
        "recipe": classifier.spec.recipe,
    }
