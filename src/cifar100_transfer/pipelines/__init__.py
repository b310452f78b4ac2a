"""Which step feeds which. Importing any of this does not import torch."""
