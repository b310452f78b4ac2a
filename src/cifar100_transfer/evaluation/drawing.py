"""What all figures share: colours, style, empty figures, and words for numbers.

The style is set while one figure is drawn, and nowhere else.
"""

import math
import textwrap
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart by people of every kind of colour vision.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, SKY, AMBER = "#CC79A7", "#56B4E9", "#E69F00"
INK, GREY, PALE = "#222222", "#6B6B6B", "#D9D9D9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, INK)
SET_COLOURS = {"train": BLUE, "validation": ORANGE, "test": GREEN}
SHARES = LinearSegmentedColormap.from_list(
    "shares", ["#FFFFFF", "#CFE3F1", "#7FB5D8", "#2A7AB5", "#0B3C6B", "#061D38"]
)
STYLE = {
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.dpi": 150,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5" or "a_b"
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}

SHOWN_OF_MANY = 50
"""Classes, of more than a figure has room for."""

P = ParamSpec("P")
# Matplotlib's settings belong to the process: two threads in a style of their own would leave one.
_STYLE_LOCK = threading.Lock()


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the project's style and lay the figure out before the style ends."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _STYLE_LOCK, matplotlib.style.context(["default", STYLE]):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()
        # Laid out once: to do it again for every picture that is saved would double the time.
        figure.set_layout_engine("none")
        return figure

    return inside


def empty_figure(width: float, height: float, title: str, note: str = "") -> Figure:
    """Make an empty figure (inches) with its heading and, at its foot, what a reader must know."""
    figure = Figure(figsize=(width, height))
    # Characters an inch of the two sizes, measured on English text in the default font.
    heading = textwrap.fill(title, int(9.5 * width))
    figure.suptitle(heading, x=0.012, ha="left", fontsize=12, fontweight="bold")
    if note:
        foot = textwrap.fill(note, int(14.5 * width))
        figure.supxlabel(foot, x=0.012, ha="left", fontsize=8, color=GREY)
    return figure


def message(title: str, text: str) -> Figure:
    """Make a figure that says why there is nothing to draw."""
    figure, axes = canvas((0, 5), (0, 0.6), 1, title, "")
    axes.text(2.5, 0.3, text, ha="center", va="center", color=GREY)
    return figure


def canvas(
    x: tuple[float, float], y: tuple[float, float], unit: float, title: str, note: str
) -> tuple[Figure, Axes]:
    """Make axes without frame or ticks; an image is one unit, `unit` inches, large; y downwards."""
    width, height = (x[1] - x[0]) * unit, (y[1] - y[0]) * unit
    figure = empty_figure(max(width + 0.2, 5.2), height + (0.9 if note else 0.65), title, note)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_anchor("NW")
    axes.set(xlim=x, ylim=y[::-1], aspect="equal", autoscale_on=False)
    return figure, axes


def cut(text: str, length: int) -> str:
    """Cut a text off after at most `length` characters, the last of them an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def amount(number: float | None) -> str:
    """Write a large number with three digits and a suffix, or a dash where it is unknown."""
    if number is None or math.isnan(number):
        return "\N{EN DASH}"
    rounded = float(f"{number:.3g}")  # first, as it may reach the next unit
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:.3g} {suffix}"
    return f"{rounded:.0f}"


def time_unit(seconds: float) -> tuple[str, float]:
    """Choose the unit in which a duration reads best: its name and its seconds."""
    if seconds >= 2 * 3600:
        return "hours", 3600
    return ("minutes", 60) if seconds >= 120 else ("seconds", 1)


def short_name(name: str, length: int = 20) -> str:
    """Write the name of a class for people, in at most `length` characters."""
    return cut(name.replace("_", " "), length)


def in_lines(name: str, length: int, lines: int) -> str:
    """Write the name of a class for people in at most `lines` lines of `length` characters."""
    return textwrap.fill(name.replace("_", " "), length, max_lines=lines, placeholder="…")
