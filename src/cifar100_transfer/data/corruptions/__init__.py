"""Nineteen ways in which an image can be worse than it was, batched. Imports torch."""

from .engine import CORRUPTIONS, SEVERITIES, corrupt

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]
