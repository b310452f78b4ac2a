"""From a classifier and the challenge files to the CSV to hand in: one template, many models."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
