"""Files of every kind the project reads, and a way to damage each in a thousand ways."""

import hashlib
import io
import pickle
import random
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from kedro.config import OmegaConfigLoader

from cifar100_transfer import configuration, parameter_checks
from cifar100_transfer.data import ImageSet, Predictions, challenge, cifar100
from cifar100_transfer.data.files import (
    load_image_set,
    load_predictions,
    save_image_set,
    save_predictions,
)
from cifar100_transfer.errors import UserError
from cifar100_transfer.models import Classifier, ClassifierSpec, load_classifier, save_classifier
from cifar100_transfer.sealed import content_digest
from cifar100_transfer.settings import CONFIG_LOADER_ARGS
from cifar100_transfer.training.checkpoint import (
    ResumePoint,
    identify,
    load_resume_point,
    save_resume_point,
)
from tests.test_hooks import EVERYTHING, REGISTERED

SLOW_S = 5


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        make: writes a sound file into a folder and returns its path.
        read: reads it as a run does, and returns something that equals what sound content gives;
            None where the file was left unused with a warning. Refuses by a `UserError`.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Return the content with a flipped bit, other bytes, a piece cut out, added or doubled."""
    changed = bytearray(content)
    position = chance.randrange(len(changed))
    length = chance.choice([1, 2, 8, 64])
    match chance.choice(["flip", "flip", "overwrite", "truncate", "insert", "remove", "double"]):
        case "flip":
            changed[position] ^= 1 << chance.randrange(8)
        case "overwrite":
            changed[position : position + length] = chance.randbytes(length)
        case "truncate":
            del changed[position:]
        case "insert":
            changed[position:position] = chance.randbytes(length)
        case "remove":
            del changed[position : position + length]
        case "double":
            changed[position:position] = changed[position : position + length]
    return bytes(changed)


def outcomes(name: str, folder: Path, count: int, seed: int) -> Counter[str]:
    """Damage a file `count` times and count what reading it comes to.

    Returns:
        How often it was `refused`, `unused` (a warning, and the run goes without it) or `right`.

    Raises:
        AssertionError: another exception, a message over several lines, an altered result that is
            read without a word, or a read of more than five seconds.
    """
    target, chance = TARGETS[name], random.Random(seed)
    path = target.make(folder)
    sound = path.read_bytes()
    wanted = target.read(path)
    counted: Counter[str] = Counter()
    for number in range(count):
        content = mutate(sound, chance)
        path.write_bytes(content)
        started = time.monotonic()
        what = f"{name}, mutation {number} of seed {seed}"
        try:
            found = target.read(path)
        except UserError as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"{what}: {error!r}") from error
            counted["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
        else:
            assert found is None or found == wanted, f"{what}: altered, and taken for right"
            counted["unused" if found is None else "right"] += 1
        assert time.monotonic() - started < SLOW_S, what
    return counted


def _images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        images=torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator),
        labels=torch.arange(8) % 4,
        class_names=("apple", "bear", "cup", "dolphin"),
        coarse_names=("food", "animal"),
        coarse_of_class=(0, 1, 0, 1),
    )


def _digest(images: ImageSet | Predictions) -> str:
    tensors = {key: value for key, value in vars(images).items() if torch.is_tensor(value)}
    names = {key: value for key, value in vars(images).items() if key not in tensors}
    return content_digest(tensors, names)


def _make_image_set(folder: Path) -> Path:
    save_image_set(_images(), folder / "set.safetensors")
    return folder / "set.safetensors"


def _make_predictions(folder: Path) -> Path:
    images = _images()
    logits = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    predictions = Predictions(
        logits, images.labels, images.class_names, images.coarse_names, images.coarse_of_class
    )
    save_predictions(predictions, folder / "predictions.safetensors")
    return folder / "predictions.safetensors"


def _classifier() -> Classifier:
    torch.manual_seed(0)
    spec = ClassifierSpec("simple_cnn", ("a", "b"), (0.5,) * 3, (0.2,) * 3, input_size=(4, 4))
    return Classifier(spec)


def _make_classifier(folder: Path) -> Path:
    save_classifier(_classifier(), folder / "classifier.safetensors")
    return folder / "classifier.safetensors"


def _read_classifier(path: Path) -> str:
    classifier = load_classifier(path)
    return content_digest(classifier.state_dict(), vars(classifier.spec))


_IDENTITY = identify({"training": {"epochs": 3}})


def _make_resume_point(folder: Path) -> Path:
    state = _classifier().state_dict()
    past = [{"epoch": 1}]
    save_resume_point(folder, ResumePoint(_IDENTITY, {}, 1, state, {"state": {}}, None, None, past))
    return folder / "resume.pt"


def _read_resume_point(path: Path) -> str | None:
    point = load_resume_point(path.parent, _IDENTITY, {})
    return point and content_digest(point.weights, {"epoch": point.epoch, "past": point.history})


def _make_archive(folder: Path) -> Path:
    names = [b"apple", b"bear", b"cup", b"dolphin"]
    images = _images()
    part = {
        b"fine_labels": images.labels.tolist(),
        b"coarse_labels": [images.coarse_of_class[label] for label in images.labels],
        b"data": images.images.reshape(8, -1).numpy(),
    }
    meta = {b"fine_label_names": names, b"coarse_label_names": [b"food", b"animal"]}
    with tarfile.open(folder / cifar100.ARCHIVE, "w:gz") as tar:
        for name, content in (("train", part), ("test", part), ("meta", meta)):
            pickled = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(f"{cifar100.FOLDER}/{name}")
            member.size = len(pickled)
            tar.addfile(member, io.BytesIO(pickled))
    return folder / cifar100.ARCHIVE


def _make_train_file(folder: Path) -> Path:
    archive = _make_archive(folder)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder / cifar100.FOLDER / "train"


def _read_archive(path: Path) -> list[str]:
    return [_digest(part) for part in cifar100.read_cifar100(path.parent, official=False)]


def _read_train_file(path: Path) -> str:
    # Without checksums altered pixels can't be known; the official files have them.
    cifar100.read_cifar100(path.parent.parent, official=False)
    return "read"


def _make_challenge(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    for distortion in range(len(challenge.DISTORTIONS)):
        images = generator.integers(0, 256, (10, 32, 32, 3), np.uint8)
        np.save(challenge.challenge_path(folder, distortion), images)
    return challenge.challenge_path(folder, 3)


def _read_challenge(path: Path) -> str:
    files = challenge.open_official_challenge(path.parent)
    return hashlib.sha256(files.open(3).tobytes()).hexdigest()


@contextmanager
def official_challenge() -> Iterator[None]:
    """Publish the checksums of the tiny challenge as if they were the official ones."""
    digests = []
    generator = np.random.default_rng(0)
    for _ in challenge.DISTORTIONS:
        buffer = io.BytesIO()
        np.save(buffer, generator.integers(0, 256, (10, 32, 32, 3), np.uint8))
        digests.append(hashlib.sha256(buffer.getvalue()).hexdigest())
    with (
        patch.object(challenge, "FILE_SHA256", tuple(digests)),
        patch.object(challenge, "IMAGES_PER_SEVERITY", 2),
    ):
        yield


_CONF = Path(__file__).resolve().parents[2] / "conf"
_PARAMETERS = "parameters_training.yml"


def _make_parameters(folder: Path) -> Path:
    for file in (_CONF / "base").glob("parameters*.yml"):
        (folder / "base").mkdir(exist_ok=True)
        (folder / "base" / file.name).write_bytes(file.read_bytes())
    (folder / "base" / "catalog.yml").write_text("anything: {type: MemoryDataset}\n")
    (folder / "local").mkdir()
    return folder / "base" / _PARAMETERS


def _read_parameters(path: Path) -> str:
    # Another number within its limits is another wish, and as good; what counts is that whatever is
    # accepted fits the typed models.
    loader = OmegaConfigLoader(str(path.parent.parent), env="local", **CONFIG_LOADER_ARGS)
    context: Any = SimpleNamespace(config_loader=loader, env="local")
    values, origin, _ = configuration.read_configuration(context)
    parameter_checks.check_names(values, REGISTERED, origin)
    parameter_checks.check_values(values, REGISTERED, origin, EVERYTHING)
    return "accepted"


TARGETS = {
    "archive": Target(_make_archive, _read_archive),
    "pickled images": Target(_make_train_file, _read_train_file),
    "classifier": Target(_make_classifier, _read_classifier),
    "image set": Target(_make_image_set, lambda path: _digest(load_image_set(path))),
    "predictions": Target(_make_predictions, lambda path: _digest(load_predictions(path))),
    "resume point": Target(_make_resume_point, _read_resume_point),
    "challenge file": Target(_make_challenge, _read_challenge),
    "parameters file": Target(_make_parameters, _read_parameters),
}
