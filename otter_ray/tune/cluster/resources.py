"""What machines offer and workers ask for, counted as Ray counts it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from otter_ray.formatting import GIB

# What the coordinator of a trial of several workers asks for: Tune requires some resource. Every node has a
# byte of memory, a head without CPUs included. A fraction of a CPU would break the fit of workers that fill
# a node.
COORDINATOR_RESOURCES = {"memory": 1}
# What a process holds on a GPU besides its tensors: CUDA's context, cuDNN's and cuBLAS's kernels.
CUDA_CONTEXT = GIB
_UNIT = 10_000  # Ray counts resources in ten-thousandths.


@dataclass(frozen=True)
class Node:
    """What one machine offers to Ray."""

    cpus: float
    gpus: float = 0.0

    def __str__(self) -> str:
        return f"{counted(self.cpus, 'CPU')} + {counted(self.gpus, 'GPU')}"


@dataclass(frozen=True)
class ScaleUp:
    """Nodes of one type that an autoscaler may still add.

    Attributes:
        name: the node type's name in the autoscaler's configuration.
        node: what each of them offers.
        count: how many of this type may be added.
        max_total: how many of all types together may be added; the same for each type.
    """

    name: str
    node: Node
    count: int
    max_total: int = sys.maxsize

    def __str__(self) -> str:
        return f"{counted(self.count, 'node')} of type {self.name} ({self.node} each)"


def workers_on(node: Node, cpus: float, gpus: float) -> int:
    """Return how many workers of `cpus` CPUs and `gpus` GPUs (at most 1) a node holds.

    All workers are the same, so the order in which they come cannot leave holes. A share of a GPU lies on
    one GPU: a GPU holds two workers of 0.4, and two GPUs hold four, not five.
    """
    by_cpu = _units(node.cpus, round_up=False) // _units(cpus)
    return min(by_cpu, int(node.gpus) * workers_on_gpu(gpus)) if gpus else by_cpu


def workers_on_gpu(share: float) -> int:
    """Return how many workers of that share one GPU holds."""
    return _UNIT // _units(share)


def slots_on(
    workers: int, cpus: float, gpus: float, nodes: Iterable[Node], scale_ups: Sequence[ScaleUp] = ()
) -> int:
    """Return how many trials of `workers` workers run at once on nodes and on those that may be added."""
    here = sum(workers_on(node, cpus, gpus) for node in nodes)
    later, left = 0, min((group.max_total for group in scale_ups), default=0)
    for group in sorted(scale_ups, key=lambda group: workers_on(group.node, cpus, gpus), reverse=True):
        added = min(group.count, left)
        later, left = later + added * workers_on(group.node, cpus, gpus), left - added
    return (here + later) // workers


def gpus_of(nodes: Iterable[Node], scale_ups: Iterable[ScaleUp] = ()) -> float:
    """Return the number of GPUs that are there or may be added."""
    return sum(node.gpus for node in nodes) + sum(
        group.node.gpus * min(group.count, group.max_total) for group in scale_ups
    )


def whole_cpus(cpus: float) -> int:
    """Return the number of threads for a worker of that many CPUs."""
    return max(1, int(cpus))


def counted(number: float, word: str) -> str:
    """Return a number with its noun: `1 node`, `2 nodes`."""
    return f"{number:g} {word}{'s' * (number != 1)}"


def listed(nodes: Iterable[Node]) -> str:
    """Return the nodes in words, those that offer the same together."""
    counts = Counter(nodes)
    return (
        ", ".join(f"{count} x {node}" if count > 1 else str(node) for node, count in counts.items()) or "none"
    )


def listed_scale_ups(scale_ups: Sequence[ScaleUp]) -> str:
    """Return what the autoscaler may add, in words."""
    names = ", ".join(map(str, scale_ups))
    total = min(group.max_total for group in scale_ups)
    limit = f", {counted(total, 'node')} in all" if total < sum(group.count for group in scale_ups) else ""
    return f"the autoscaler may add {names}{limit}"


def _units(amount: float, round_up: bool = True) -> int:
    """Return an amount in Ray's units; what lies between two units counts against us."""
    units = Fraction(str(amount)) * _UNIT
    return max(1, ceil(units)) if round_up else int(units)
