"""Spaces and samplers that tests of the search go through."""

from otter_ray.space import Parameter

LR, DECAY = "optimizer.options.lr", "optimizer.options.weight_decay"
SCALE, LOSS = "model.loss.options.s", "model.loss.name"
NUMBERS = (
    Parameter(LR, (LR,), "float", 1e-4, 1e-1, log=True),
    Parameter(DECAY, (DECAY,), "float", 0.0, 0.1),
    Parameter(SCALE, (SCALE,), "int", 8, 32),
)
GRID = (
    Parameter(DECAY, (DECAY,), "float", 0.1, 0.2, step=0.1),
    Parameter(SCALE, (SCALE,), "int", 8, 24, step=8),
    Parameter(LOSS, (LOSS,), "categorical", choices=("CosFace", "ArcFace")),
)
# Each with options that make it leave its random beginning soon.
SAMPLERS = {
    "TPESampler": {"n_startup_trials": 3},
    "GPSampler": {"n_startup_trials": 3},
    "CmaEsSampler": {"popsize": 4},
    "QMCSampler": {"scramble": True},
    "RandomSampler": {},
    "GridSampler": {},
    "NSGAIISampler": {"population_size": 3, "mutation_prob": 0.0},
}
