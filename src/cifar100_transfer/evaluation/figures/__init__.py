"""Figures of a data set, a training, a classifier and a comparison.

Every function draws through matplotlib's objects on a figure of its own, in one style, and leaves
no global state behind: it works in a notebook, a pipeline and without a display. The same
arguments give the same picture. Where not everything fits, the picture itself says what is missing.
"""

from .calibration import reliability_diagram
from .classes import class_distribution, per_class_accuracy
from .confusion import coarse_confusion_matrix, confusion_matrix
from .curves import learning_curves, overlaid_curves
from .images import (
    class_activation,
    confident_mistakes,
    confused_pairs,
    contact_sheet,
    corruption_grid,
    sample_grid,
)
from .model_comparison import accuracy_against_cost, comparison
from .robustness import robustness_heat_map

__all__ = [
    "accuracy_against_cost",
    "class_activation",
    "class_distribution",
    "coarse_confusion_matrix",
    "comparison",
    "confident_mistakes",
    "confused_pairs",
    "confusion_matrix",
    "contact_sheet",
    "corruption_grid",
    "learning_curves",
    "overlaid_curves",
    "per_class_accuracy",
    "reliability_diagram",
    "robustness_heat_map",
    "sample_grid",
]
