"""All classifiers that are stored, of whichever model and seed, for ensembles of them."""

import difflib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from kedro.io import DatasetError

from cifar100_transfer.errors import UserError
from cifar100_transfer.models import ClassifierSpec, EnsembleSpec, read_spec

from .artifacts import JSONDataset
from .base import InputDataset

logger = logging.getLogger(__name__)

_CLASSIFIER = "classifier.safetensors"
_SUMMARY = "training_summary.json"


@dataclass(frozen=True)
class StoredClassifier:
    """One file.

    Attributes:
        model: whose it is.
        version: the run that stored it; empty where versions are not kept.
        seed: of its training; None if it doesn't say.
        seconds: that its training took; None if its summary is not there.
        file: for `load_classifier`.
    """

    model: str
    version: str
    seed: int | None
    seconds: float | None
    file: Path


class StoredClassifiers:
    """The classifiers below a folder. Nothing is read before it is asked for.

    Args:
        folder: holds `06_models` and `08_reporting`, each with one subfolder a model.
    """

    def __init__(self, folder: Path) -> None:
        self._models = folder / "06_models"
        self._reporting = folder / "08_reporting"

    def check(self, model: str) -> None:
        """Raise a `UserError` if a model has no stored classifier, or is an ensemble itself."""
        versions = self._versions(model)
        if not versions:
            stored = [path.name for path in sorted(self._models.glob("*/"))]
            known = [name for name in stored if self._versions(name)]
            near = difflib.get_close_matches(model, known, n=3) or known
            there_is = f"there is {' or '.join(near)}" if near else "there is none yet"
            raise UserError(
                f"ensemble.members: no classifier of a model '{model}' is stored in "
                f"{self._models}: train it first; {there_is}"
            )
        if isinstance(read_spec(versions[max(versions)]), EnsembleSpec):
            raise UserError(f"ensemble.members: '{model}' is an ensemble itself: name its members")

    def seeds_of(self, model: str) -> list[StoredClassifier]:
        """Return the newest classifier of a model, and those that differ from it by seed alone.

        Of several trainings with one seed the newest is taken. The log says which have another
        recipe.

        Returns:
            By rising seed; at least one.

        Raises:
            UserError: none is stored, or a file is damaged.
        """
        self.check(model)
        found: dict[int | None, StoredClassifier] = {}
        wanted, others = None, []
        for version, file in sorted(self._versions(model).items(), reverse=True):
            seed, rest = _apart(read_spec(file))
            wanted = wanted or rest
            if rest != wanted:
                others.append(version)
            elif seed not in found:
                seconds = self._seconds(model, version)
                found[seed] = StoredClassifier(model, version, seed, seconds, file)
        if others:
            logger.info("no members, as of another recipe: %s of run %s", model, ", ".join(others))
        return sorted(found.values(), key=lambda one: -1 if one.seed is None else one.seed)

    def _versions(self, model: str) -> dict[str, Path]:
        path = self._models / model / _CLASSIFIER
        if path.is_file():
            return {"": path}
        return {file.parent.name: file for file in path.glob(f"*/{_CLASSIFIER}")}

    def _seconds(self, model: str, version: str) -> float | None:
        file = self._reporting / model / _SUMMARY / version
        file = file / _SUMMARY if version else file
        try:
            seconds: float | None = JSONDataset(filepath=str(file)).load().get("seconds")
        except DatasetError:  # a time unknown is no reason to stop
            return None
        return seconds


def _apart(spec: ClassifierSpec) -> tuple[int | None, str]:
    """Return the seed of a training and, to be compared, all else that a classifier is."""
    values = json.loads(json.dumps(asdict(spec)))
    seed = values["recipe"].get("training", {}).pop("seed", None)
    return seed, json.dumps(values, sort_keys=True)


class StoredClassifiersDataset(InputDataset[StoredClassifiers]):
    """All stored classifiers, to choose from.

    Args:
        filepath: folder that holds `06_models` and `08_reporting`.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def load(self) -> StoredClassifiers:
        """Return what to choose from."""
        return StoredClassifiers(self._path)
