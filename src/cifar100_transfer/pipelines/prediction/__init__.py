"""From a stored classifier and pictures of one's own to their most probable classes."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
