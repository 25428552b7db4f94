"""The model of DocAligner: its heads, loss, targets and export wrappers."""
