"""From a stored classifier to files that run without this project."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
