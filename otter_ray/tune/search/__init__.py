"""The search loop: the searcher between Ray Tune and Optuna, schedulers, PBT, stopping."""
