"""All models that have results, side by side."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
