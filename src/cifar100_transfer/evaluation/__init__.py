"""From a classifier and an image set to predictions, numbers and figures. Import its modules."""
