"""From stored classifiers to the one that averages them."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
