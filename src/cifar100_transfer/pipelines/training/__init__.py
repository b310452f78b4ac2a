"""From image sets and a recipe to a classifier and its history: one template, many models."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
