"""Optuna's samplers, made from a search space's `sampler:`, one sampler a file."""
