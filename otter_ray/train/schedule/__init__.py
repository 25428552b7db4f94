"""Learning rates and other values that change during a run."""
