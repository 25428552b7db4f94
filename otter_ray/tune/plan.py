"""How many trials run at once, and on what: decided before the start, from what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from otter_ray.config import StudyOptions
from otter_ray.errors import StudyError
from otter_ray.train.check import ACCELERATORS_WITH_GPU


@dataclass(frozen=True)
class Node:
    """What one machine offers to Ray."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A study's use of the machines.

    Attributes:
        trials: that the study asks for.
        slots: trials that run at once.
        cpus, gpus: of each slot.
        nodes: what the slots were fitted into.
    """

    trials: int
    slots: int
    cpus: float
    gpus: float
    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        total = sum(node.cpus for node in self.nodes), sum(node.gpus for node in self.nodes)
        return (
            f"{self.trials} trials on {self.slots} slot{'s' * (self.slots != 1)} of "
            f"{self.cpus:g} CPU{'s' * (self.cpus != 1)} and {self.gpus:g} GPU{'s' * (self.gpus != 1)} each "
            f"({len(self.nodes)} node{'s' * (len(self.nodes) != 1)}, {total[0]:g} CPUs, {total[1]:g} GPUs)"
        )

    @property
    def idle_gpus(self) -> str:
        """A warning where there are GPUs that no slot asks for, else empty."""
        gpus = sum(node.gpus for node in self.nodes)
        if self.gpus or not gpus:
            return ""
        return (
            f"{gpus:g} GPUs stay idle: resources.gpus_per_worker is 0 in the search space, or "
            "trainer.accelerator is cpu."
        )


def make_plan(options: StudyOptions, nodes: Sequence[Node], accelerator: str = "auto") -> Plan:
    """Fits as many slots as go onto the nodes; a slot never spans two of them.

    Args:
        accelerator: the config's. A share of a GPU is asked for where the trials will use one: not with
            `cpu`, and with `auto` only where a node has one.

    Raises:
        StudyError: no node can hold a single trial.
    """
    wanted = options.resources
    has_gpus = any(node.gpus for node in nodes)
    uses_gpus = accelerator in ACCELERATORS_WITH_GPU or (accelerator == "auto" and has_gpus)
    cpus, gpus = wanted.cpus_per_worker, wanted.gpus_per_worker if uses_gpus else 0.0
    slots = sum(_slots_on(node, cpus, gpus) for node in nodes)
    slots //= wanted.workers_per_trial
    if not slots:
        largest = ", ".join(f"{node.cpus:g} CPUs + {node.gpus:g} GPUs" for node in nodes) or "none"
        raise StudyError(
            f"a trial needs {cpus:g} CPUs and {gpus:g} GPUs, and no node has them (nodes: {largest}). "
            "Lower resources.cpus_per_worker or gpus_per_worker in the search space."
        )
    return Plan(options.num_trials, min(slots, options.num_trials), cpus, gpus, tuple(nodes))


def _slots_on(node: Node, cpus: float, gpus: float) -> int:
    # The tolerance keeps 1.0 / 0.1 from becoming 9.
    by_cpu = int(node.cpus / cpus + 1e-9)
    return min(by_cpu, int(node.gpus / gpus + 1e-9)) if gpus else by_cpu
