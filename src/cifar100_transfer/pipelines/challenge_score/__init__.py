"""What a stored submission scores by the test labels: after the fact, read by nothing else."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
