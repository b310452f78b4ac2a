"""From classifiers and clean images to their accuracy on corrupted ones: one template."""

from .pipeline import create_corruption_grid, create_pipeline

__all__ = ["create_corruption_grid", "create_pipeline"]
