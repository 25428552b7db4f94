"""How many trials run at once, and on what: a pure function of what the machines offer."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, exp

from otter_ray.config import StudyOptions
from otter_ray.config.scheduler import ASHA, Hyperband, Scheduler
from otter_ray.errors import StudyError
from otter_ray.train.check import ACCELERATORS_WITH_GPU

# What the driver of a trial of several workers asks for: Tune wants some resource. A byte is on every
# node, on a head without CPUs, too; a CPU's share would break the fit of workers that fill a node.
DRIVER = {"memory": 1}
_UNIT = 10_000  # Ray counts resources in ten-thousandths.


@dataclass(frozen=True)
class Node:
    """What one machine offers to Ray."""

    cpus: float
    gpus: float = 0.0

    def __str__(self) -> str:
        return f"{_count(self.cpus, 'CPU')} + {_count(self.gpus, 'GPU')}"


@dataclass(frozen=True)
class Growth:
    """Nodes of one type that an autoscaler may still add.

    Attributes:
        count: of this type.
        together: of all types; the same for each.
    """

    name: str
    node: Node
    count: int
    together: int = sys.maxsize

    def __str__(self) -> str:
        return f"{_count(self.count, 'node')} of type {self.name} ({self.node} each)"


@dataclass(frozen=True)
class Plan:
    """A study's use of the machines.

    Attributes:
        trials: that the study asks for.
        slots: trials that run at once, on `nodes` and `growth` together.
        slots_now: of them, on `nodes` alone.
        workers: of each trial.
        cpus, gpus: of each worker.
        gpus_wanted: that the search space asks for, whatever there is.
        nodes: that are there.
        growth: what may be added to them.
        scheduler: that stops trials early.
        epochs: of all trials, at most.
        epochs_expected: `expected_epochs` of them.
        unit: what a trial is called here.
    """

    trials: int
    slots: int
    slots_now: int
    workers: int
    cpus: float
    gpus: float
    gpus_wanted: float
    nodes: tuple[Node, ...]
    growth: tuple[Growth, ...]
    scheduler: str
    epochs: int
    epochs_expected: float
    unit: str = "trial"

    def __str__(self) -> str:
        each = f"{_count(self.cpus, 'CPU')} and {_count(self.gpus, 'GPU')} each"
        if self.workers > 1:
            each = f"{self.workers} workers with {each}"
        there = Node(sum(node.cpus for node in self.nodes), gpus_of(self.nodes))
        lines = [
            f"{_count(self.trials, self.unit)} on {_count(self.slots, 'slot')} of {each} "
            f"({_count(len(self.nodes), 'node')}, {there.cpus:g} CPUs, {there.gpus:g} GPUs): "
            f"{_count(ceil(self.trials / self.slots), 'round')}, at most {_count(self.epochs, 'epoch')}"
        ]
        if round(self.epochs_expected) < self.epochs:
            lines[0] += f", about {self.epochs_expected:.0f} with {self.scheduler}"
        if self.slots_now < self.slots:
            lines.append(f"{self.slots_now} of the slots are there now; {_coming(self.growth)}")
        return "\n".join(lines)

    def slots_on(self, nodes: Iterable[Node], growth: Sequence[Growth] = ()) -> int:
        """Trials of this plan's kind that would run at once elsewhere."""
        return _slots(self.workers, self.cpus, self.gpus, nodes, growth)

    @property
    def gpu_note(self) -> str:
        """A warning where GPUs that are there are not asked for, or the other way round; else empty."""
        gpus = gpus_of(self.nodes, self.growth)
        if gpus and not self.gpus:
            return (
                f"{_count(gpus, 'GPU')} idle: resources.gpus_per_worker is 0 in the search space, or "
                "trainer.accelerator is cpu."
            )
        if not gpus and self.gpus_wanted:
            return (
                f"no node has a GPU: resources.gpus_per_worker {self.gpus_wanted:g} is not asked for, and "
                "trials train on CPUs. Where GPU nodes are still to join, start when they have."
            )
        return ""


def make_plan(
    options: StudyOptions,
    nodes: Sequence[Node],
    growth: Sequence[Growth] = (),
    *,
    accelerator: str = "auto",
    max_epochs: int = 1,
) -> Plan:
    """Fits as many trials as go onto the nodes at once; a worker never spans two of them, a trial may.

    Args:
        growth: what may be added to `nodes`. It counts: demand that nobody shows is never met.
        accelerator: the config's. A share of a GPU is asked for where the trials will use one: not with
            `cpu`, and with `auto` only where a node has one.
        max_epochs: of a trial.

    Raises:
        StudyError: not even with all that may be added can a single trial run.
    """
    wanted = options.resources
    uses_gpus = accelerator in ACCELERATORS_WITH_GPU or (accelerator == "auto" and gpus_of(nodes, growth) > 0)
    share = 1.0 if wanted.gpus_per_worker is None else float(wanted.gpus_per_worker)
    cpus, gpus = wanted.cpus_per_worker, share if uses_gpus else 0.0
    workers = wanted.workers_per_trial
    slots = min(_slots(workers, cpus, gpus, nodes, growth), options.num_trials)
    if not slots:
        fit = _slots(1, cpus, gpus, nodes, growth)
        raise StudyError(_refusal(workers, Node(cpus, gpus), fit, nodes, growth))
    return Plan(
        trials=options.num_trials,
        slots=slots,
        slots_now=min(_slots(workers, cpus, gpus, nodes), slots),
        workers=workers,
        cpus=cpus,
        gpus=gpus,
        gpus_wanted=0.0 if accelerator == "cpu" else float(wanted.gpus_per_worker or 0),
        nodes=tuple(nodes),
        growth=tuple(group for group in growth if workers_on(group.node, cpus, gpus)),
        scheduler=options.scheduler.name,
        epochs=options.num_trials * max_epochs,
        epochs_expected=expected_epochs(options.num_trials, options.scheduler, max_epochs),
    )


def _slots(
    workers: int, cpus: float, gpus: float, nodes: Iterable[Node], growth: Sequence[Growth] = ()
) -> int:
    here = sum(workers_on(node, cpus, gpus) for node in nodes)
    later, left = 0, min((group.together for group in growth), default=0)
    for group in sorted(growth, key=lambda group: workers_on(group.node, cpus, gpus), reverse=True):
        added = min(group.count, left)
        later, left = later + added * workers_on(group.node, cpus, gpus), left - added
    return (here + later) // workers


def workers_on(node: Node, cpus: float, gpus: float) -> int:
    """How many workers of `cpus` CPUs and `gpus` GPUs (at most 1) a node holds.

    All workers are alike, so the order in which they come cannot leave holes. A share of a GPU lies on one
    GPU: of 0.4 each holds two, and two GPUs four, not five.
    """
    by_cpu = _units(node.cpus, round_up=False) // _units(cpus)
    return min(by_cpu, int(node.gpus) * workers_on_gpu(gpus)) if gpus else by_cpu


def workers_on_gpu(share: float) -> int:
    """How many workers of that share one GPU holds."""
    return _UNIT // _units(share)


def gpus_of(nodes: Iterable[Node], growth: Iterable[Growth] = ()) -> float:
    """GPUs that are there or may be added."""
    return sum(node.gpus for node in nodes) + sum(
        group.node.gpus * min(group.count, group.together) for group in growth
    )


def whole_cpus(cpus: float) -> int:
    """Threads for a worker of that many CPUs."""
    return max(1, int(cpus))


def expected_epochs(trials: int, scheduler: Scheduler, max_epochs: int) -> float:
    """Epochs of all trials if successive halving goes as it says on paper; all that there are without it.

    The base config takes all. The asynchronous kind lets some more go on: the first at a rung pass.
    """
    options = scheduler.options
    if scheduler.name == "none" or not isinstance(options, ASHA):
        return float(trials * max_epochs)
    firsts = options.first_rungs() if isinstance(options, Hyperband) else [options.grace_period]
    halved = [_halved(first, options.reduction_factor, max_epochs) for first in firsts]
    # Ray draws a bracket with the softmax of how many rungs each has.
    weights = [exp(rungs) for rungs, _ in halved]
    each = sum(weight * epochs for weight, (_, epochs) in zip(weights, halved, strict=True)) / sum(weights)
    return max_epochs + (trials - 1) * each


def _halved(rung: int, factor: int, max_epochs: int) -> tuple[int, float]:
    """(rungs, epochs of a trial) from a first rung r on.

    Rungs lie at r, r f, r f^2, ... < T, and one trial of f goes on from each. A trial then takes
    r + sum over k >= 1 of (min(r f^k, T) - r f^(k-1)) / f^k epochs.
    """
    count, reached, share, epochs = 0, 0, 1.0, 0.0
    while reached < max_epochs:
        count += rung <= max_epochs
        epochs += share * (min(rung, max_epochs) - reached)
        reached, rung, share = min(rung, max_epochs), rung * factor, share / factor
    return count, epochs


def _refusal(workers: int, worker: Node, fit: int, nodes: Sequence[Node], growth: Sequence[Growth]) -> str:
    wants = f"needs {_count(worker.cpus, 'CPU')} and {_count(worker.gpus, 'GPU')}"
    advice = "Lower resources.cpus_per_worker" + (" or gpus_per_worker" if worker.gpus else "")
    there = f"nodes: {_listed(nodes)}"
    if growth:
        there += f"; {_coming(growth)}"
    if not fit:
        whose = "a trial" if workers == 1 else f"each of a trial's {workers} workers"
        return f"{whose} {wants}, and no node has them ({there}). {advice} in the search space."
    return (
        f"resources.workers_per_trial is {workers} and each worker {wants}, but only {fit} fit ({there}). "
        f"{advice} or workers_per_trial in the search space."
    )


def _coming(growth: Sequence[Growth]) -> str:
    """What the autoscaler may add, in words."""
    listed = ", ".join(map(str, growth))
    together = min(group.together for group in growth)
    limit = f", {_count(together, 'node')} in all" if together < sum(group.count for group in growth) else ""
    return f"the autoscaler may add {listed}{limit}"


def _listed(nodes: Iterable[Node]) -> str:
    counts = Counter(nodes)
    return (
        ", ".join(f"{count} x {node}" if count > 1 else str(node) for node, count in counts.items()) or "none"
    )


def _units(amount: float, round_up: bool = True) -> int:
    """An amount as Ray counts it; what lies between two units counts against us."""
    units = Fraction(str(amount)) * _UNIT
    return max(1, ceil(units)) if round_up else int(units)


def _count(number: float, word: str) -> str:
    return f"{number:g} {word}{'s' * (number != 1)}"
