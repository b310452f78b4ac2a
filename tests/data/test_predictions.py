"""What `Predictions` accepts, refuses and derives."""

import pytest
import torch

from cifar100_transfer.data import Predictions
from cifar100_transfer.errors import UserError

LOGITS = torch.tensor([[2.0, 0.0, 1.0, 0.0], [0.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
LABELS = torch.tensor([0, 2, 1])
NAMES = ("a", "b", "c", "d")


def test_derived_values() -> None:
    predictions = Predictions(LOGITS, LABELS, NAMES, ("first", "second"), (0, 0, 1, 1))

    assert len(predictions) == 3
    assert predictions.num_classes == 4
    assert predictions.predicted.tolist() == [0, 1, 3]  # of equal logits the first
    assert predictions.correct.tolist() == [True, False, False]
    assert predictions.coarse_labels.tolist() == [0, 1, 0]
    assert predictions.coarse_predicted.tolist() == [0, 0, 1]
    torch.testing.assert_close(predictions.probabilities.sum(1), torch.ones(3))
    torch.testing.assert_close(predictions.probabilities.log().diff(), LOGITS.diff())
    torch.testing.assert_close(predictions.confidence, predictions.probabilities.max(1).values)


def test_without_hierarchy_there_are_no_coarse_labels() -> None:
    predictions = Predictions(LOGITS, LABELS, NAMES)

    assert not predictions.has_hierarchy
    with pytest.raises(UserError, match="coarse_names"):
        _ = predictions.coarse_labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": LOGITS.double()}, "float64"),
        ({"logits": LOGITS[:, :3]}, r"\[3, 3\]"),
        ({"logits": LOGITS[0]}, "float32"),
        ({"logits": LOGITS.to("meta")}, "meta"),
        ({"logits": LOGITS[:0], "labels": LABELS[:0]}, "zero images"),
        ({"labels": LABELS.int()}, "int32"),
        ({"labels": LABELS[:2]}, r"\[2\]"),
        ({"labels": torch.tensor([0, 4, 1])}, r"0 … 3, got 0 … 4"),
        ({"labels": torch.tensor([0, -1, 1])}, r"-1 … 1"),
        ({"class_names": ("a", "b", "a", "d")}, "'a'"),
        ({"coarse_of_class": (0, 0)}, "coarse_of_class"),
        ({"coarse_of_class": (0, 0, 0, 2), "coarse_names": ("x", "y")}, "coarse_of_class"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, object], message: str) -> None:
    arguments = {"logits": LOGITS, "labels": LABELS, "class_names": NAMES, **change}

    with pytest.raises(UserError, match=message):
        Predictions(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_names_the_first_row_that_is_not_finite(value: float) -> None:
    logits = LOGITS.clone()
    logits[1, 2] = logits[2, 0] = value

    with pytest.raises(UserError, match=r"2 of 3 rows .* first is row 1"):
        Predictions(logits, LABELS, NAMES)
