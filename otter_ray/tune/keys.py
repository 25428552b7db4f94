"""Names of what a trial is given, of what it reports, and of what Optuna keeps about it."""

from __future__ import annotations

from typing import Any

# Given to a trial: its number, and the dotted values that it changes in the base config.
NUMBER, VALUES = "number", "values"
# The base config's trial is the one that changes nothing.
BASE: dict[str, Any] = {}
# Reported by a trial: epochs done, from 1; why it failed; the prefix of everything that was logged.
EPOCH, ERROR, METRICS = "epoch", "error", "metrics/"
# Reported with an error: whether another attempt would fail alike, and whether the study is to blame.
FINAL, FAULT = "final", "fault"
# Reported by a trial with a worker group: its placement group and its Ray Train run, whose requests to the
# autoscaler are known by it. Both outlive a slot that Tune ends.
GROUP, RUN = "group", "run"
# Given to a trial, and kept of it, that begins where another one was: that trial's number and epoch, and
# the number of the trial whose place it takes; kept of the latter: after which epoch.
ORIGIN, TRIAL, INSTEAD_OF, REPLACED = "origin", "trial", "instead of", "replaced"
# The key of a config that says what changed within a run.
SCHEDULE = "schedule"
# Kept of a trial that ASHA stopped: after which epoch.
STOPPED = "stopped"
# Reported by a trial on a GPU: bytes that torch held at most, and that the GPU has.
GPU_PEAK, GPU_TOTAL = "gpu_peak", "gpu_total"
# Where Optuna keeps the parameters that a queued trial is to have.
FIXED = "fixed_params"
