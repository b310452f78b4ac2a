"""How far probabilities can be believed."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar100_transfer.data import Predictions
from cifar100_transfer.evaluation.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    empty_figure,
    styled,
)
from cifar100_transfer.evaluation.metrics import (
    calibration_table,
    expected_calibration_error,
    with_temperature,
)


@styled
def reliability_diagram(
    predictions: Predictions, title: str, temperature: float | None = None
) -> Figure:
    """Draw accuracy over confidence (Guo et al. 2017) and how the confidences are distributed.

    Args:
        predictions: of N images and C classes.
        title: heading of the figure.
        temperature: if given, a line shows the same after division of the logits by it.
    """
    table = calibration_table(predictions)
    figure = empty_figure(
        5.6,
        6.2,
        title,
        "Calibration error (ECE): distance of accuracy and mean confidence in a bin, averaged over "
        "the images.",
    )
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middle, width = (table["lower"] + table["upper"]) / 2, table["upper"] - table["lower"]
    filled = table["count"] > 0
    upper.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="perfect calibration")
    upper.bar(middle, table["accuracy"].fillna(0), width * 0.94, color=BLUE, label="accuracy")
    upper.scatter(
        table["confidence"][filled],
        table["confidence"][filled],
        color=ORANGE,
        marker="_",
        s=90,
        linewidths=2.5,
        zorder=3,
        label="mean confidence",
    )
    if temperature is not None:
        scaled = with_temperature(predictions, temperature)
        bins = calibration_table(scaled).dropna()
        error = expected_calibration_error(scaled)
        upper.plot(
            bins["confidence"],
            bins["accuracy"],
            color=GREEN,
            marker="o",
            markersize=3,
            linewidth=1.2,
            zorder=4,
            label=f"at temperature {temperature:.2f}: error {error:.1%}",
        )
    upper.set(xlim=(0, 1.01), ylim=(0, 1.01), ylabel="accuracy")
    upper.set_title(
        f"calibration error {expected_calibration_error(predictions):.1%}, "
        f"confidence {float(predictions.confidence.mean()):.1%}, "
        f"accuracy {float(predictions.correct.float().mean()):.1%}",
        fontsize=9,
    )
    # A hesitant classifier's bars reach behind the legend.
    upper.legend(loc="upper left", frameon=True, edgecolor="none", framealpha=0.85)
    lower.bar(middle, table["count"] / len(predictions), width * 0.94, color=GREY)
    lower.set(xlabel="confidence", ylabel="share of images")
    for axis in (upper.yaxis, lower.xaxis, lower.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    return figure
