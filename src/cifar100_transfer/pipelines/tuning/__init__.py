"""Many trainings that answer one question; trials are judged on validation images only."""

from .pipeline import create_ablation, create_screening, create_search

__all__ = ["create_ablation", "create_screening", "create_search"]
