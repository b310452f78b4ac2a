"""Classifying the challenge: the same as one by one, resumable, and suspicious of nonsense."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar100_transfer.config import RobustnessMethod, SubmissionConfig
from cifar100_transfer.data.challenge import (
    ChallengeFiles,
    Submission,
    challenge_path,
    open_own_challenge,
)
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation import adaptation, challenge
from cifar100_transfer.evaluation.adaptation import augmented, plain, transductive_batch_norm
from cifar100_transfer.evaluation.challenge import (
    ChallengePredictions,
    challenge_accuracy,
    predict_challenge,
    summarize,
    suspicions,
)
from cifar100_transfer.models import Classifier, ClassifierSpec, classifier_digest
from tests.challenge_files import write_random_challenge

N = 4
CPU = torch.device("cpu")
NAMES = tuple(f"class_{index:02}" for index in range(100))


def random_classifier(
    seed: int = 0, classes: int = 100, architecture: str = "simple_cnn"
) -> Classifier:
    torch.manual_seed(seed)
    spec = ClassifierSpec(
        architecture=architecture,
        class_names=tuple(f"class_{index:02}" for index in range(classes)),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
    )
    return Classifier(spec).eval()


@pytest.fixture
def files(tmp_path: Path) -> ChallengeFiles:
    return write_random_challenge(tmp_path / "challenge", N)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    return folder


class Spy:
    """Counts the images that are classified, and may be told to stop a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_before: int | None = None) -> None:
        self.images = 0
        self._stop_before = stop_before
        self._real = adaptation.predict_logits
        monkeypatch.setattr(adaptation, "predict_logits", self)

    def __call__(self, classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
        if self.images == self._stop_before:
            raise KeyboardInterrupt
        self.images += len(images)
        return self._real(classifier, images)


@torch.inference_mode()
def test_predictions_equal_those_of_every_file_by_itself(
    files: ChallengeFiles, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "CHUNK", 3)
    classifier = random_classifier()
    predictions = predict_challenge(classifier, files, parts, CPU)
    assert predictions.labels.dtype == np.int16
    for distortion in range(19):
        images = np.load(challenge_path(files.folder, distortion))
        probabilities = classifier(torch.from_numpy(images).permute(0, 3, 1, 2)).softmax(dim=1)
        expected = probabilities.max(dim=1)
        assert predictions.labels[distortion].ravel().tolist() == expected.indices.tolist()
        np.testing.assert_allclose(
            predictions.confidence[distortion].ravel(), expected.values.numpy(), rtol=1e-5
        )


@pytest.mark.parametrize("method", ["tta", "batch_norm", "batch_norm_tta"])
def test_each_method_predicts_as_where_it_is_judged(
    files: ChallengeFiles,
    parts: Path,
    method: RobustnessMethod,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(challenge, "CHUNK", 3)
    classifier = random_classifier(architecture="wrn_10_1")
    views = augmented(plain(classifier))
    expected_of = {
        "tta": views,
        "batch_norm": transductive_batch_norm(classifier, 0.25),
        "batch_norm_tta": transductive_batch_norm(
            classifier, 0.25, lambda adapted: augmented(plain(adapted))
        ),
    }
    weight = None if method == "tta" else 0.25
    config = SubmissionConfig(method=method, source_weight=weight)
    predictions = predict_challenge(classifier, files, parts, CPU, config)
    for distortion in (0, 18):
        images = np.load(challenge_path(files.folder, distortion))
        # Every severity by itself: adaptation is for images of one kind.
        for severity, of_one in enumerate(np.split(images, 5)):
            channels_first = torch.from_numpy(of_one).permute(0, 3, 1, 2)
            probabilities = expected_of[method](channels_first).softmax(dim=1)
            np.testing.assert_allclose(
                predictions.confidence[distortion, severity],
                probabilities.max(dim=1).values.numpy(),
                rtol=1e-4,
            )


def test_parts_of_another_method_are_not_taken(
    files: ChallengeFiles, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = random_classifier(architecture="wrn_10_1")
    configs = [
        SubmissionConfig(),
        SubmissionConfig(method="batch_norm", source_weight=0.5),
        SubmissionConfig(method="batch_norm", source_weight=0.75),
    ]
    for config in configs:
        predict_challenge(classifier, files, parts, CPU, config)
    assert len(list(parts.iterdir())) == 3 * 19
    spy = Spy(monkeypatch)
    for config in configs:
        predict_challenge(classifier, files, parts, CPU, config)
    # A weight that plays no part changes nothing.
    predict_challenge(classifier, files, parts, CPU, SubmissionConfig(source_weight=0.5))
    assert spy.images == 0
    views = SubmissionConfig(method="tta")
    predict_challenge(classifier, files, parts, CPU, views)
    assert spy.images == 6 * 19 * 5 * N
    weighted = views.model_copy(update={"source_weight": 0.5})
    predict_challenge(classifier, files, parts, CPU, weighted)
    assert spy.images == 6 * 19 * 5 * N


def test_a_classifier_with_nothing_to_adapt_is_refused_at_once(
    files: ChallengeFiles, parts: Path
) -> None:
    config = SubmissionConfig(method="batch_norm_tta", source_weight=0.5)
    with pytest.raises(UserError, match=r"batch_norm_tta: simple_cnn has no batch norm.* or tta"):
        predict_challenge(random_classifier(), files, parts, CPU, config)


def test_a_method_that_adapts_needs_a_weight() -> None:
    with pytest.raises(ValueError, match=r"batch_norm needs source_weight: .*summary\.json"):
        SubmissionConfig(method="batch_norm")


def test_a_killed_run_goes_on_after_the_last_finished_file(
    files: ChallengeFiles, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge, "CHUNK", N)
    per_file = 5 * N
    # Killed within the eighth file.
    first = Spy(monkeypatch, stop_before=7 * per_file + 2 * N)
    with pytest.raises(KeyboardInterrupt):
        predict_challenge(random_classifier(), files, parts, CPU)
    assert len(list(parts.iterdir())) == 7
    monkeypatch.undo()

    # Chunks as before: in others, the last digits differ on some processors.
    monkeypatch.setattr(challenge, "CHUNK", N)
    second = Spy(monkeypatch)
    resumed = predict_challenge(random_classifier(), files, parts, CPU)
    assert (first.images, second.images) == (7 * per_file + 2 * N, 12 * per_file)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    at_once = predict_challenge(random_classifier(), files, fresh, CPU)
    np.testing.assert_array_equal(resumed.labels, at_once.labels)
    np.testing.assert_array_equal(resumed.confidence, at_once.confidence)


def test_parts_of_another_classifier_or_of_other_images_are_not_taken(
    files: ChallengeFiles, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_challenge(random_classifier(0), files, parts, CPU)
    spy = Spy(monkeypatch)
    predict_challenge(random_classifier(0), files, parts, CPU)
    assert spy.images == 0
    predict_challenge(random_classifier(1), files, parts, CPU)
    assert spy.images == 19 * 5 * N
    np.save(challenge_path(files.folder, 6), np.zeros((5 * N, 32, 32, 3), np.uint8))
    predict_challenge(random_classifier(0), open_own_challenge(files.folder), parts, CPU)
    assert spy.images == 20 * 5 * N


@pytest.mark.parametrize("content", [b"", b"no safetensors at all"])
def test_a_damaged_part_is_classified_anew(
    files: ChallengeFiles,
    parts: Path,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = predict_challenge(random_classifier(), files, parts, CPU)
    damaged = min(parts.iterdir())
    damaged.write_bytes(content)
    spy = Spy(monkeypatch)
    after = predict_challenge(random_classifier(), files, parts, CPU)
    assert spy.images == 5 * N
    assert f"{damaged} is damaged" in caplog.text
    np.testing.assert_array_equal(before.labels, after.labels)


def test_the_digest_follows_weights_and_preprocessing() -> None:
    classifier = random_classifier(0)
    assert classifier_digest(classifier) == classifier_digest(random_classifier(0))
    assert classifier_digest(classifier) != classifier_digest(random_classifier(1))
    classifier.mean[0, 0] += 0.1
    assert classifier_digest(classifier) != classifier_digest(random_classifier(0))


def test_a_classifier_of_other_classes_is_refused_at_once(
    files: ChallengeFiles, parts: Path
) -> None:
    with pytest.raises(UserError, match="100 classes, but the classifier knows 6"):
        predict_challenge(random_classifier(classes=6), files, parts, CPU)


def test_a_classifier_of_other_images_is_refused_at_once(
    files: ChallengeFiles, parts: Path
) -> None:
    classifier = random_classifier()
    classifier.spec = replace(classifier.spec, input_size=(64, 48))
    with pytest.raises(UserError, match=r"of 32 x 32 pixels, but .* on 64 x 48"):
        predict_challenge(classifier, files, parts, CPU)


def test_outputs_that_are_not_finite_are_refused(files: ChallengeFiles, parts: Path) -> None:
    broken = random_classifier()
    with torch.no_grad():
        next(broken.network.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match=r"distortion00: .*not finite"):
        predict_challenge(broken, files, parts, CPU)
    assert not list(parts.iterdir())


def test_files_without_a_terminal_get_a_line_each(
    files: ChallengeFiles, parts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cifar100_transfer")
    predict_challenge(random_classifier(), files, parts, CPU)
    lines = [record.message for record in caplog.records if "images/s" in record.message]
    assert len(lines) == 19
    assert lines[0].startswith("distortion00 (1 of 19)")
    caplog.clear()
    predict_challenge(random_classifier(), files, parts, CPU)
    kept = [record.message for record in caplog.records if "kept" in record.message]
    assert kept[18] == "distortion18 (19 of 19): kept from an earlier run"


def test_a_class_that_is_predicted_too_often_is_warned_of() -> None:
    confident = np.full(1000, 0.9, np.float32)
    even = np.arange(1000, dtype=np.int16) % 100
    assert suspicions("distortion00", even, confident, NAMES) == []
    often = even.copy()
    often[:91] = 7  # 100 of 1,000: just ten times the even share
    assert suspicions("distortion00", often, confident, NAMES) == []
    often[91:120] = 7
    (warning,) = suspicions("distortion00", often, confident, NAMES)
    assert "'class_07'" in warning
    assert "distortion00" in warning


def test_confidence_at_chance_is_warned_of() -> None:
    even = np.arange(1000, dtype=np.int16) % 100
    (warning,) = suspicions("distortion05", even, np.full(1000, 0.0101, np.float32), NAMES)
    assert "distortion05: the mean confidence is 1.01%" in warning


def test_warnings_are_loud_and_kept(
    files: ChallengeFiles, parts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    constant = random_classifier()
    with torch.no_grad():
        for parameter in constant.network.parameters():
            parameter.zero_()
    predictions = predict_challenge(constant, files, parts, CPU)
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    summary = summarize(predictions, NAMES)
    assert [record.message for record in warned] == summary["warnings"]
    assert len(warned) == 2 * 19


def test_the_summary_counts_and_averages() -> None:
    labels = np.zeros((19, 5, 2), np.int16)
    labels[..., 1] = 99
    confidence = np.full((19, 5, 2), 0.5, np.float32)
    confidence[3, 4] = [0.2, 0.4]
    summary = summarize(ChallengePredictions(labels, confidence, (0.5,) * 19), NAMES)
    assert summary["images"] == 190
    assert summary["images_per_second"] == pytest.approx(20)
    assert summary["predicted_images"] == {
        name: 95 if name in ("class_00", "class_99") else 0 for name in NAMES
    }
    by_severity = summary["mean_confidence_by_severity"]["distortion03"]
    assert by_severity == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.3])
    assert summary["mean_confidence_by_distortion"]["distortion03"] == pytest.approx(0.46)
    assert summary["mean_confidence"] == pytest.approx(0.5 - 0.2 / 95)


def test_accuracy_is_counted_by_distortion_and_severity() -> None:
    truth = torch.tensor([4, 8, 15, 16])
    labels = np.broadcast_to(truth.numpy().astype(np.int16), (19, 5, 4)).copy()
    labels[2, 1, :3] += 1
    table = challenge_accuracy(Submission(labels), truth)
    assert len(table) == 95
    row = table[(table["distortion"] == "distortion02") & (table["severity"] == 2)]
    assert row["accuracy"].tolist() == [0.25]
    assert row["corruption"].tolist() == ["impulse_noise"]
    assert table["accuracy"].sum() == pytest.approx(94.25)


def test_a_submission_about_another_test_set_is_not_scored() -> None:
    submission = Submission(np.zeros((19, 5, 4), np.int16))
    labels: Any = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(UserError, match="4 images a severity, the test set has 5"):
        challenge_accuracy(submission, labels)
