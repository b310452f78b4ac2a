"""What the figures show: axes, labels, marks and the text on what is left out. Not their pixels."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from cifar100_transfer.data import Predictions
from cifar100_transfer.data.corruptions import CORRUPTIONS
from cifar100_transfer.errors import UserError
from cifar100_transfer.evaluation import figures
from cifar100_transfer.evaluation.metrics import calibration_table, most_confused_pairs
from tests.tuning.conftest import data  # noqa: F401


@pytest.fixture(autouse=True)
def no_global_state() -> object:
    before = dict(mpl.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def predictions_of(classes: int, images: int, groups: int = 0, noise: float = 1.0) -> Predictions:
    random = np.random.default_rng(classes)
    labels = np.arange(images) % classes
    logits = noise * random.normal(size=(images, classes))
    logits[np.arange(images), labels] += 2
    return Predictions(
        torch.tensor(logits, dtype=torch.float32),
        torch.tensor(labels),
        tuple(f"class_{k}" for k in range(classes)),
        tuple(f"group_{k}" for k in range(groups)),
        tuple(k % groups for k in range(classes)) if groups else (),
    )


def random_images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8)


def history(epochs: int, seconds: float = 10.0) -> pd.DataFrame:
    rise = np.linspace(0.1, 0.6, epochs)
    return pd.DataFrame(
        {
            "epoch": np.arange(1, epochs + 1),
            "train_loss": 4 - rise,
            "train_accuracy": rise + 0.1,
            "validation_loss": 4.1 - rise,
            "validation_accuracy": rise,
            "learning_rate": 1e-3,
            "seconds": seconds,
            "images_per_second": 1e3,
        }
    )


def texts(figure: Figure) -> str:
    """All the text of a figure, with every line break as a space."""
    found = [text.get_text() for text in figure.findobj(Text) if text.get_visible()]
    return " | ".join(found).replace("\n", " ")


def ticks(axis: mpl.axis.Axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_learning_curves_mark_the_best_validation_epoch() -> None:
    table = history(5)
    table["validation_accuracy"] = [0.1, 0.5, 0.4, 0.5, 0.3]

    figure = figures.learning_curves(table, "A title")

    loss, accuracy = figure.axes
    mark = accuracy.lines[-1]
    assert (mark.get_xdata(), mark.get_ydata()) == ([2], [0.5])  # the first of equals
    assert "best validation: 50.0% in epoch 2" in texts(figure)
    assert "A title" in texts(figure)
    np.testing.assert_allclose(loss.lines[0].get_ydata(), table["train_loss"])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), table["train_accuracy"])


def test_one_epoch_is_enough() -> None:
    for figure in (
        figures.learning_curves(history(1), "title"),
        figures.overlaid_curves({"model": history(1)}),
    ):
        low, high = figure.axes[0].get_xlim()
        assert [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high] == [1]


@pytest.mark.parametrize("classes", [2, 10])
def test_small_confusion_matrix_counts_images(classes: int) -> None:
    predictions = predictions_of(classes, 60)

    axes = figures.confusion_matrix(predictions, "title").axes[0]

    assert ticks(axes.xaxis) == ticks(axes.yaxis) == [f"class {k}" for k in range(classes)]
    assert sum(int(text.get_text() or 0) for text in axes.texts) == 60


def test_large_confusion_matrix_is_ordered_by_coarse_class() -> None:
    predictions = predictions_of(100, 200, groups=20, noise=0.1)

    axes = figures.confusion_matrix(predictions, "title").axes[0]

    assert ticks(axes.xaxis) == ticks(axes.yaxis) == [f"group {k}" for k in range(20)]
    np.testing.assert_allclose(axes.get_yticks(), 2 + 5 * np.arange(20))
    np.testing.assert_array_equal(axes.images[0].get_array(), np.eye(100))
    assert len(axes.lines) == 2 * 19  # separators


def test_large_confusion_matrix_names_classes_without_hierarchy() -> None:
    axes = figures.confusion_matrix(predictions_of(60, 60), "title").axes[0]

    assert ticks(axes.yaxis) == [f"class {k}" for k in range(60)]


def test_confusion_matrix_of_200_classes_says_which_names_are_missing() -> None:
    figure = figures.confusion_matrix(predictions_of(200, 200), "title")

    assert len(ticks(figure.axes[0].yaxis)) == 100
    assert "One name in 2 is written" in texts(figure)


@pytest.mark.parametrize("noise", [1.0, 0.0])
def test_confusion_matrix_of_1000_classes_says_what_is_left_out(noise: float) -> None:
    figure = figures.confusion_matrix(predictions_of(1000, 2000, noise=noise), "title")

    shares = figure.axes[0].images[0].get_array()
    assert shares.shape == (50, 51)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert "950 of 1,000 are left out" in texts(figure)


def test_confusion_matrix_of_1000_classes_with_hierarchy_is_summed() -> None:
    figure = figures.confusion_matrix(predictions_of(1000, 1000, groups=10), "title")

    assert ticks(figure.axes[0].yaxis) == [f"group {k}" for k in range(10)]
    assert "1,000 classes don't fit: they are summed by coarse class" in texts(figure)


def test_coarse_confusion_matrix_is_in_percent() -> None:
    axes = figures.coarse_confusion_matrix(predictions_of(12, 400, groups=4), "title").axes[0]

    cells = np.array([int(text.get_text() or 0) for text in axes.texts]).reshape(4, 4)
    np.testing.assert_allclose(cells.sum(axis=1), 100, atol=2)
    without = figures.coarse_confusion_matrix(predictions_of(12, 20), "title")
    assert "these classes have no coarse classes" in texts(without)


def test_matrices_are_drawn_without_a_canvas_for_every_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canvases: list[object] = []
    draw = RendererAgg.__init__

    def count(self: RendererAgg, *arguments: float) -> None:
        canvases.append(arguments)
        draw(self, *arguments)

    monkeypatch.setattr(RendererAgg, "__init__", count)
    figures.coarse_confusion_matrix(predictions_of(100, 400, groups=20), "title")
    rows = [("test", "plain", corruption, 1, 0.5, 400) for corruption in CORRUPTIONS]
    columns = ["set", "method", "corruption", "severity", "accuracy", "images"]
    figures.robustness_heat_map(pd.DataFrame(rows, columns=columns), "title")
    assert len(canvases) < 10


def test_reliability_diagram_shows_the_calibration_error() -> None:
    figure = figures.reliability_diagram(predictions_of(10, 500), "title")

    accuracy, shares = figure.axes
    assert "calibration error" in accuracy.get_title(loc="left")
    assert sum(bar.get_height() for bar in shares.patches) == pytest.approx(1)
    assert len(accuracy.patches) == 15
    assert "temperature" not in texts(figure)


def test_reliability_diagram_shows_what_a_temperature_changes() -> None:
    predictions = predictions_of(10, 500)

    plain, flat = (
        figures.reliability_diagram(predictions, "title", temperature).axes[0].lines[1]
        for temperature in (1.0, 1e6)
    )

    table = calibration_table(predictions).dropna()
    np.testing.assert_allclose(plain.get_ydata(), table["accuracy"])
    np.testing.assert_allclose(flat.get_xdata(), [0.1], atol=1e-3)
    assert flat.get_label().startswith("at temperature 1000000.00: error")


def test_per_class_accuracy_is_sorted() -> None:
    figure = figures.per_class_accuracy(predictions_of(100, 1000), "title")

    widths = [bar.get_width() for axes in figure.axes for bar in axes.patches]
    assert len(widths) == 100
    assert widths == sorted(widths, reverse=True)


def test_per_class_accuracy_of_many_classes_says_what_is_left_out() -> None:
    figure = figures.per_class_accuracy(predictions_of(200, 199), "title")

    assert [len(axes.patches) for axes in figure.axes] == [50, 50]
    assert "50 best and the 50 worst of 199 classes; the 99 between" in texts(figure)
    assert "1 classes without images are left out" in texts(figure)


def test_confused_pairs_show_images_of_the_mistakes() -> None:
    predictions = predictions_of(10, 300, noise=3)
    pairs = most_confused_pairs(predictions, 20)

    figure = figures.confused_pairs(pairs, predictions, random_images(300), "title")

    first = pairs.iloc[0]
    assert f"{first['true']} → {first['predicted']}".replace("_", " ") in texts(figure)
    assert f"{first['count']} images, {first['share']:.0%}" in texts(figure)
    assert "Further pairs are left out" in texts(figure)
    assert all(image.get_interpolation() == "nearest" for image in figure.axes[0].images)
    shown = pairs.head(12)
    assert len(figure.axes[0].images) >= shown["count"].clip(upper=6).sum()


def test_confident_mistakes_are_the_surest_first() -> None:
    predictions = predictions_of(10, 200, noise=3)
    images = random_images(200)

    figure = figures.confident_mistakes(predictions, images, "title", count=5)

    wrong = (~predictions.correct).nonzero().squeeze(1)
    surest = wrong[predictions.confidence[wrong].argmax()]
    assert len(figure.axes[0].images) == 5
    np.testing.assert_array_equal(
        figure.axes[0].images[0].get_array(), images[surest].permute(1, 2, 0)
    )
    assert f"The 5 surest of {len(wrong)} mistakes in 200 images" in texts(figure)


def test_perfect_predictions_are_said_to_be_so() -> None:
    predictions = predictions_of(5, 20, noise=0)
    pairs = most_confused_pairs(predictions, 5)

    assert "no mistake among 20 images" in texts(
        figures.confident_mistakes(predictions, random_images(20), "title")
    )
    assert "no class was taken for another" in texts(
        figures.confused_pairs(pairs, predictions, random_images(20), "title")
    )


def test_refuses_images_of_another_set() -> None:
    predictions = predictions_of(5, 20)

    with pytest.raises(UserError, match="19 images and 20 predictions"):
        figures.confident_mistakes(predictions, random_images(19), "title")


@pytest.mark.parametrize("mistaken", [True, False])
def test_class_activation_names_what_was_mistaken(mistaken: bool) -> None:
    logits = torch.tensor([[9.0, 0.0]])
    predictions = Predictions(logits, torch.tensor([int(mistaken)]), ("a_cat", "dog"))
    images = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)

    figure = figures.class_activation(
        predictions, images, torch.tensor([0]), torch.eye(4)[None], "title"
    )

    said = texts(figure).split(" | ")
    assert ("dog" in said and "100% a cat" in said) if mistaken else "100% a cat" in said
    shown, heated = (image.get_array() for image in figure.axes[0].images)
    np.testing.assert_array_equal(shown, images[0].permute(1, 2, 0))
    warm = heated.sum(axis=2)
    assert warm[0, 0] == warm[3, 3] > warm[0, 1]


def test_long_names_are_written_in_two_lines_and_cut_after_that() -> None:
    images, labels = random_images(2), torch.tensor([0, 1])
    names = ["blue_checkered_black", "one two three four five six seven eight nine"]

    texts_of = figures.sample_grid(images, labels, names, "title", seed=0).axes[0].texts

    assert [text.get_text() for text in texts_of] == [
        "blue checkered\nblack",
        "one two three\nfour five six…",
    ]


def distribution(classes: int, groups: int, images: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (part, f"class_{k}", f"group_{k % groups}" if groups else "", images + k)
            for part in ("train", "validation", "test")
            for k in range(classes)
        ],
        columns=["set", "class", "coarse_class", "images"],
    )


def test_distribution_of_few_classes_has_a_bar_for_each() -> None:
    axes = figures.class_distribution(distribution(10, 0, 5), "title").axes[0]

    assert [bar.get_width() for bar in axes.patches] == 3 * list(range(5, 15))


def test_distribution_of_many_classes_is_summed_by_coarse_class() -> None:
    figure = figures.class_distribution(distribution(100, 20, 400), "title")

    assert len(figure.axes[0].patches) == 60
    assert figure.axes[0].patches[0].get_width() == sum(range(400, 500, 20))
    assert "2,200 (5 x 400–480)" in texts(figure)  # noqa: RUF001


def test_distribution_of_many_classes_without_hierarchy_is_ranked() -> None:
    figure = figures.class_distribution(distribution(1000, 0, 1), "title")

    assert "train: from 1,000 (class 999) to 1 (class 0)" in texts(figure)
    assert "1,000 classes are too many to name" in texts(figure)


@pytest.mark.parametrize(("classes", "shown"), [(1, 1), (100, 100), (150, 100)])
def test_sample_grid_shows_an_image_of_every_class(classes: int, shown: int) -> None:
    labels = torch.arange(classes).repeat(2)
    images = labels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    names = [f"class_{k}" for k in range(classes)]

    axes = figures.sample_grid(images, labels, names, "title", seed=3).axes[0]

    assert len(axes.images) == len(axes.texts) == shown
    for image, text in zip(axes.images, axes.texts, strict=True):
        assert text.get_text() == f"class {image.get_array()[0, 0, 0]}"


def test_sample_grid_says_what_is_left_out_and_follows_its_seed() -> None:
    images, labels = random_images(400), torch.arange(400) % 150
    names = [f"class_{k}" for k in range(152)]

    first, again, other = (figures.sample_grid(images, labels, names, "t", s) for s in (1, 1, 2))

    assert "2 classes without images are left out. 100 of 150 classes, drawn by lot." in texts(
        first
    )
    assert texts(first) == texts(again) != texts(other)


def test_comparison_puts_the_best_first() -> None:
    table = pd.DataFrame(
        {
            "model": ["worse", "better_one"],
            "test_accuracy": [0.3, 0.6],
            "test_accuracy_low": [0.29, 0.58],
            "test_accuracy_high": [0.31, 0.61],
            "validation_accuracy": [0.3, np.nan],
            "train_accuracy": [0.4, np.nan],
            "parameters": [820_000, 23_712_932],
            "seconds": [90.0, np.nan],
        }
    )

    figure = figures.comparison(table)

    assert ticks(figure.axes[0].yaxis) == ["better_one", "worse"]
    for text in ("60.0%", "820 k parameters 90 seconds", "23.7 M parameters", "time unknown"):
        assert text in texts(figure)


def test_parts_of_a_second_are_not_written_as_none() -> None:
    row = {"model": "m", "test_accuracy": 0.5, "test_accuracy_low": 0.4, "test_accuracy_high": 0.6}
    table = pd.DataFrame([row | {"seconds": 0.5, "parameters": 1e6, "flops": 1e9}])
    label = figures.accuracy_against_cost(table).axes[0].xaxis.get_major_formatter()
    assert [label(value) for value in (0.1, 1, 10_000)] == ["0.1", "1", "10 k"]


@pytest.mark.parametrize("models", [1, 32])
def test_the_legend_of_costs_names_every_model(models: int) -> None:
    table = pd.DataFrame(
        {
            "model": [f"model_{k}" for k in range(models)],
            "test_accuracy": 0.5,
            "test_accuracy_low": 0.4,
            "test_accuracy_high": 0.6,
            "seconds": 10.0,
            "parameters": 1e6,
            "flops": 1e9,
        }
    )
    figure = figures.accuracy_against_cost(table)

    box = figure.legends[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.y1


def test_overlaid_curves_use_cumulative_time() -> None:
    figure = figures.overlaid_curves({"quick": history(4, 1.0), "slow_one": history(4, 600.0)})

    by_epoch, by_time = figure.axes
    assert [line.get_label() for line in by_epoch.lines] == ["quick", "slow_one"]
    np.testing.assert_allclose(by_time.lines[1].get_xdata(), [10, 20, 30, 40])
    assert by_time.get_xlabel() == "minutes (logarithmic)"
    assert not any("mathdefault" in tick for tick in ticks(by_time.xaxis))


def test_names_are_drawn_as_they_are_written() -> None:
    predictions = Predictions(torch.eye(2), torch.tensor([0, 1]), ("$a$", "x" * 90))

    axes = figures.confusion_matrix(predictions, "title").axes[0]

    assert not any(label.get_parse_math() for label in axes.get_xticklabels())
    assert ticks(axes.xaxis) == ["$a$", "x" * 29 + "…"]


def test_the_style_of_the_caller_changes_nothing() -> None:
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        styled = figures.reliability_diagram(predictions_of(3, 9), "title")
    plain = figures.reliability_diagram(predictions_of(3, 9), "title")

    styled.canvas.draw()
    plain.canvas.draw()
    assert styled.axes[0].get_facecolor() == plain.axes[0].get_facecolor()
    assert styled.axes[0].xaxis.label.get_size() == plain.axes[0].xaxis.label.get_size()


def test_matrices_have_the_true_class_in_the_row_and_neighbours_of_one_coarse_class() -> None:
    labels = torch.arange(30)
    said = labels * 7 % 30  # a permutation that is not its own inverse
    predictions = Predictions(
        *(torch.eye(30)[said], labels, tuple(f"class_{k}" for k in range(30))),
        *(("a", "b", "c"), tuple(k % 3 for k in range(30))),
    )
    shown = figures.confusion_matrix(predictions, "t").axes[0].images[0].get_array()
    order = sorted(range(30), key=lambda k: (k % 3, k))
    assert [order[row.argmax()] for row in np.asarray(shown)] == [int(said[k]) for k in order]


def test_the_coarse_matrix_has_the_true_class_in_the_row() -> None:
    labels = torch.arange(6)
    predictions = Predictions(
        *(torch.eye(6)[[1] * 6], labels, tuple("uvwxyz"), ("a", "b", "c")),
        tuple(k % 3 for k in range(6)),
    )
    axes = figures.coarse_confusion_matrix(predictions, "t").axes[0]
    shown = np.asarray(axes.collections[0].get_array()).reshape(3, 3)
    assert shown.tolist() == [[0, 1, 0]] * 3


def test_bars_of_the_comparison_end_at_the_interval() -> None:
    row = {"model": "m", "test_accuracy": 0.5, "test_accuracy_low": 0.45, "test_accuracy_high": 0.6}
    row |= {"validation_accuracy": 0.5, "train_accuracy": 0.5, "parameters": 1, "seconds": 1.0}
    axes = figures.comparison(pd.DataFrame([row])).axes[0]
    ((start, end),) = axes.containers[0][2][0].get_segments()
    assert (start[0], end[0]) == pytest.approx((0.45, 0.6))
