"""The names under which a study's journal keeps things: attributes of the study and of its trials.

They are on disk. To change one is to change the format.
"""

from __future__ import annotations

from typing import Any

# The version of the format that this page describes. A journal that names none was written before versions
# were recorded, and is version 1. Raise it when an older otter_ray could no longer read what is written.
FORMAT_VERSION = 1

# Of a study. FORMAT: the version. METRIC is written last: a study without it was not completely created.
FORMAT = "format"
METRIC = "metric"
OBJECTIVES = "objectives"  # the other objectives, {name: "max" or "min"}
FINALISTS = "finalists"  # {"top": finalists, "seeds": runs of each}; None: the study ends without any
REJECTED = "rejected"  # why candidates that were better than the winner, or all of them, gave no model
# The model that was exported as the winner's: {TRIAL: the trial's number, CHECKPOINT: of what}. An earlier
# version did not write it.
WINNER, CHECKPOINT = "winner", "checkpoint_sha256"

# Of a trial: the dotted keys that it changes in the base config, and how it went.
VALUES = "values"
BASE: dict[str, Any] = {}  # VALUES of the base config's trial
SCHEDULE = "schedule"  # within VALUES: what changed during the run
ERROR = "error"
SECONDS, HOST = "seconds", "host"
STOPPED = "stopped"  # the epoch after which the scheduler stopped it
# Prefix of one attribute for each epoch, `curve/3`: {EPOCH: 3, and everything that was logged}.
CURVE = "curve/"
# Model statistics and other figures that an objective or a constraint asks for, before training.
FIGURES = "figures"
# Of a trial that ran before the study's config was changed: the file, in the study's folder, of its config.
CONFIG = "config"
# Of a trial that starts from another trial's checkpoint: {TRIAL, EPOCH: which one, INSTEAD_OF: the number of
# the trial whose place it takes}. REPLACED, of the latter: after which epoch.
ORIGIN, TRIAL, EPOCH, INSTEAD_OF = "origin", "trial", "epoch", "instead of"
REPLACED = "replaced"
# Of a finalist's run: the number of the trial in the search that it repeats.
FINALIST = "finalist"

# Optuna's own, among a trial's system attributes: the parameters of a queued trial, and a prefix of how far
# a trial exceeds each constraint.
FIXED = "fixed_params"
CONSTRAINT = "constraints:"
