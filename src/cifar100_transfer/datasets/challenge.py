"""The challenge files, as published or made from other test images, and the submission."""

from pathlib import Path
from typing import Any

from cifar100_transfer.data.challenge import (
    ChallengeFiles,
    Submission,
    challenge_path,
    file_digests,
    open_official_challenge,
    open_own_challenge,
    read_submission,
    write_challenge,
    write_submission,
)
from cifar100_transfer.data.cifar100 import read_cifar100
from cifar100_transfer.errors import UserError

from .base import ArtifactDataset, InputDataset

_SOURCES = {"official": open_official_challenge, "own": open_own_challenge}


class ChallengeDataset(InputDataset[ChallengeFiles]):
    """Nineteen files of distorted test images. Loading checks them and reads no image.

    Args:
        filepath: folder that holds `distortion00.npy` … `distortion18.npy`.
        source: `official` files are compared with the published checksums, and fetched where
            absent; `own` ones have the same layout and any number of images.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def __init__(
        self, *, filepath: str, source: str = "official", metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._source = source

    def load(self) -> ChallengeFiles:
        """Return a handle on the files.

        Raises:
            UserError: files are absent, damaged or others than they should be.
        """
        if self._source not in _SOURCES:
            raise UserError(f"challenge_source={self._source}: choose {' or '.join(_SOURCES)}")
        return _SOURCES[self._source](self._path)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every file, remembered beside the files."""
        return _checksums(self._path)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path, "source": self._source}


class GeneratedChallengeDataset(InputDataset[ChallengeFiles]):
    """A challenge of the same layout, made of a data set's test images by the own corruptions.

    Args:
        filepath: folder that holds `cifar-100-python/`, official or not, and gets `challenge/`;
            the files in it are made anew when the test images have changed.
        metadata: free entries of the catalog, read by kedro-viz.
    """

    def load(self) -> ChallengeFiles:
        """Return a handle on the files, making those that are absent.

        Raises:
            UserError: there are no test images, or the files can't be written.
        """
        try:
            _, test_images = read_cifar100(self._path, official=False)
        except UserError as error:
            raise UserError(
                f"no challenge can be made of the test images ({error}): run the pipeline "
                f"'ingestion' first"
            ) from error
        folder = self._path / "challenge"
        write_challenge(folder, test_images.images)
        return open_own_challenge(folder)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every file, remembered beside the files."""
        return _checksums(self._path / "challenge")


def _checksums(folder: Path) -> dict[str, str]:
    digests = enumerate(file_digests(folder))
    return {challenge_path(folder, distortion).name: digest for distortion, digest in digests}


class SubmissionDataset(ArtifactDataset[Submission]):
    """A submission as CSV; compressed if `filepath` ends in `.csv.gz`."""

    def read(self, path: Path) -> Submission:
        """Read the submission."""
        return read_submission(path)

    def write(self, data: Submission, path: Path) -> None:
        """Write the submission; it appears under its name only after it was checked."""
        write_submission(data, path)
