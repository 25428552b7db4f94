"""What a run writes down besides its checkpoints: loggers, hyperparameters, warnings, its environment."""
