"""What the driver and a trial's process tell each other, and the flat dicts in which Ray Tune carries it.

The driver sends a `TrialAssignment`, the trial answers with an `EpochResult` after each epoch and with a
`TrialFailure` if it fails. Only this module knows the keys of the dicts (the wire). The searcher and the
schedulers in `tune/search` read what `tune/worker` writes, and neither imports the other, so the module is
below both. Nothing here is on disk: the journal's names are in `study/schema.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from otter_ray.study.layout import epoch_checkpoint
from otter_ray.study.schema import BASE

Wire = dict[str, Any]
# Before what was logged. Tune would make this prefix of a nested dict on the way to the driver.
_LOGGED = "metrics/"


@dataclass(frozen=True)
class ParentCheckpoint:
    """The checkpoint of another trial that a trial starts from.

    Attributes:
        trial: the other trial's number.
        epoch: the epoch after which the checkpoint was saved.
    """

    trial: int
    epoch: int

    @property
    def path(self) -> str:
        """Where it is, in the study's folder."""
        return epoch_checkpoint(self.trial, self.epoch)


@dataclass(frozen=True)
class TrialAssignment:
    """What a trial is to do.

    Attributes:
        number: the trial's, from 0.
        values: dotted keys that it changes in the base config.
        parent: the checkpoint that it starts from; None to start as the config says.
    """

    number: int
    values: Mapping[str, Any]
    parent: ParentCheckpoint | None = None

    @property
    def is_base(self) -> bool:
        """Whether it is the baseline trial, which changes nothing."""
        return self.values == BASE

    def to_tune(self) -> Wire:
        """Return it as a trial's config."""
        wire = {"number": self.number, "values": dict(self.values)}
        if self.parent is not None:
            wire["parent"] = {"trial": self.parent.trial, "epoch": self.parent.epoch}
        return wire

    @classmethod
    def from_tune(cls, config: Mapping[str, Any]) -> TrialAssignment:
        """Read it from a trial's config."""
        parent = config.get("parent")
        return cls(config["number"], config["values"], ParentCheckpoint(**parent) if parent else None)


@dataclass(frozen=True, order=True)
class GpuMemory:
    """A trial's use of its GPU's memory, in bytes.

    Attributes:
        peak: that torch held at most.
        total: that the GPU has.
    """

    peak: int
    total: int


@dataclass(frozen=True)
class TrialResources:
    """What a trial has used so far.

    Attributes:
        seconds: since it began.
        host: the machine that it runs on.
        gpu: None if it does not train on a GPU.
    """

    seconds: float | None = None
    host: str | None = None
    gpu: GpuMemory | None = None

    def to_tune(self) -> Wire:
        """Return the part of a report that says it."""
        gpu = {"gpu_peak": self.gpu.peak, "gpu_total": self.gpu.total} if self.gpu else {}
        return {"seconds": self.seconds, "host": self.host, **gpu}

    @classmethod
    def from_tune(cls, report: Mapping[str, Any]) -> TrialResources:
        """Read it from a report."""
        gpu = GpuMemory(report["gpu_peak"], report["gpu_total"]) if report.get("gpu_peak") else None
        return cls(report.get("seconds"), report.get("host"), gpu)


@dataclass(frozen=True)
class EpochResult:
    """An epoch of a trial.

    Attributes:
        epoch: how many epochs are done, from 1.
        value: of the study's metric.
        metrics: everything that was logged, the study's metric included.
        resources: what the trial has used so far.
    """

    epoch: int
    value: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    resources: TrialResources = TrialResources()

    def to_tune(self) -> Wire:
        """Return it as a report to Tune."""
        logged = {_LOGGED + name: number for name, number in self.metrics.items()}
        return {"epoch": self.epoch, "value": self.value, **logged, **self.resources.to_tune()}

    @classmethod
    def from_tune(cls, report: Mapping[str, Any]) -> EpochResult:
        """Read it from a report."""
        logged = {
            key.removeprefix(_LOGGED): number for key, number in report.items() if key.startswith(_LOGGED)
        }
        return cls(report["epoch"], report["value"], logged, TrialResources.from_tune(report))


class FailureKind(StrEnum):
    """What a failure says about another attempt.

    Attributes:
        ERROR: an exception, which may not come again.
        DETERMINISTIC: an error of the trial's own config or data. With the same seed it comes again.
        STUDY: an error that every trial of the study would meet.
        PROCESS_DIED: the trial's process, its worker group or its node died.
    """

    ERROR = "error"
    DETERMINISTIC = "deterministic"
    STUDY = "study"
    PROCESS_DIED = "process died"


@dataclass(frozen=True)
class TrialFailure:
    """A failed attempt of a trial.

    Attributes:
        error: why, in one line.
        kind: what it says about another attempt.
        resources: what the trial has used so far.
    """

    error: str
    kind: FailureKind = FailureKind.ERROR
    resources: TrialResources = TrialResources()

    def to_tune(self) -> Wire:
        """Return it as a report to Tune."""
        return {"error": self.error, "kind": self.kind.value, **self.resources.to_tune()}

    @classmethod
    def from_tune(cls, report: Mapping[str, Any]) -> TrialFailure:
        """Read it from a report."""
        return cls(report["error"], FailureKind(report["kind"]), TrialResources.from_tune(report))


@dataclass(frozen=True)
class WorkerGroup:
    """The worker group of a trial, which outlives a slot that Tune ends. It goes along with each report.

    Attributes:
        placement_group: its ID, in hexadecimal.
        run: the ID of its Ray Train run, by which the autoscaler knows its requests; empty in the workers,
            which do not know it.
    """

    placement_group: str
    run: str = ""

    def to_tune(self) -> Wire:
        """Return the part of a report that says it."""
        return {"placement_group": self.placement_group, "run": self.run}

    @classmethod
    def from_tune(cls, report: Mapping[str, Any]) -> WorkerGroup | None:
        """Read it from a report; None if the trial has no worker group."""
        return cls(report["placement_group"], report["run"]) if "placement_group" in report else None


def read_report(report: Mapping[str, Any] | None) -> EpochResult | TrialFailure | None:
    """Read what a trial reported.

    Args:
        report: the last that Tune has of a trial.

    Returns:
        None if the trial has reported nothing: Tune makes up a result for it.
    """
    if not report:
        return None
    if "error" in report:
        return TrialFailure.from_tune(report)
    return EpochResult.from_tune(report) if "value" in report else None


def is_last(report: Mapping[str, Any] | None) -> bool:
    """Return whether Tune has marked a report as the trial's last, which it does when it ends the trial."""
    return bool(report and report.get("done"))
