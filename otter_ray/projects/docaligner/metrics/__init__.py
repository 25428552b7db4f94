"""The metrics of DocAligner."""
