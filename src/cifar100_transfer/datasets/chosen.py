"""What a run is told on its command line to work on: one of the stored models, and pictures."""

from pathlib import Path

from cifar100_transfer.data.pictures import PictureFiles, find_pictures
from cifar100_transfer.errors import UserError

from .base import InputDataset
from .tensors import ClassifierDataset

_UNNAMED = "NAME"
"""What stands in the catalog where the command line names no model."""


class ChosenClassifierDataset(ClassifierDataset):
    """The stored classifier of the model that `--params=model=NAME` names.

    Its file lies, as every classifier's, in the folder of its model.
    """

    def check(self) -> None:
        """Raise a `UserError` that names what is stored if this model, or its version, is not."""
        if self.exists():
            return
        model, models, file = self.folder.name, self.folder.parent, Path(self._filepath).name
        if self._version and (versions := self.versions()):
            raise UserError(
                f"the classifier of model '{model}' has no version {self._version.load} in "
                f"{self.folder}: name another with --load-versions=chosen_classifier:VERSION; "
                f"there are: {', '.join(versions)}"
            )
        stored = sorted({path.parent.parent.name for path in models.glob(f"*/{file}/*/")})
        there_are = f"there are: {', '.join(stored)}" if stored else "there is none yet"
        lacking = f"no classifier of a model '{model}' is stored in {models}"
        if model == _UNNAMED:
            lacking = f"no model is named, of those in {models}"
        raise UserError(
            f"{lacking}: name one with --params=model=NAME; {there_are} (kedro run "
            f"--pipelines=NAME trains one, with this run's --env)"
        )


class PicturesDataset(InputDataset[PictureFiles]):
    """Pictures of one's own, named by `--params=images=FILE_OR_FOLDER`. Loading reads none of them.

    Args:
        filepath: a file, or a folder that is searched with the folders in it.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def check(self) -> None:
        """Raise a `UserError` if there is no such file or folder."""
        self._find()

    def load(self) -> PictureFiles:
        """Return the files."""
        return self._find()

    def _find(self) -> PictureFiles:
        try:
            return find_pictures(self._path)
        except UserError as error:
            raise UserError(f"images: {error} with --params=images=FILE_OR_FOLDER") from None
