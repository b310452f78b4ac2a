"""From raw data to three image sets and the normalisation statistics."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
