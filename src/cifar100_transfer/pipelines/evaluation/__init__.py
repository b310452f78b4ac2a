"""From a classifier and the test set to evidence: one template, many models."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
