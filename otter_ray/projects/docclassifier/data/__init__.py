"""The datasets of DocClassifier."""
