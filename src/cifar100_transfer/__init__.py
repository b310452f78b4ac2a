"""CIFAR-100 by transfer learning: a Kedro project whose parts also work without Kedro."""

__version__ = "0.1.0"
