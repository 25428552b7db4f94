"""Studies replayed: the real searchers and schedulers, a table's surrogate, a virtual clock."""

from __future__ import annotations

import heapq
import math
from zlib import crc32

import numpy as np
from methods import Make, Method, Values, seeded
from numpy.typing import NDArray
from surrogate import Surrogate
from tasks import Task

JITTER = 0.1  # of an epoch's seconds, and of a configuration's


class Study:
    """One study: slots, an event for each epoch, and what its winner would really reach.

    The winner is the trial with the best value at any epoch, as every method's user would pick it. Beside
    what it logged there, the surrogate's mean is kept: what it would log on average over seeds.
    """

    def __init__(self, surrogate: Surrogate, method: Method, slots: int, seed: int) -> None:
        self.surrogate, self.method, self.slots = surrogate, method, slots
        self.random = np.random.default_rng(seed)
        self.events: list[tuple[float, int, str, int]] = []
        self.curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self.speed: dict[str, float] = {}
        self.best, self.average = -math.inf, 0.0
        self.values: dict[str, Values] = {}
        self.gains: list[tuple[int, str, float]] = []  # (epochs spent, trial, its best value so far)
        self.counter = 0

    def run(self, budget: int) -> NDArray[np.float32]:
        """`[2, budget]`: what the winner after each epoch logged, and would log on average."""
        found = np.zeros((2, budget), np.float32)
        for _ in range(self.slots):
            self._start(0.0)
        for spent in range(budget):
            if not self.events:
                found[:, spent:] = found[:, spent - 1, None]
                break
            now, _, key, epoch = heapq.heappop(self.events)
            noisy, mean = self.curves[key]
            value = float(noisy[0, epoch - 1])
            if value >= noisy[0, :epoch].max():
                self.gains.append((spent, key, value))
            if value > self.best:
                self.best, self.average = value, float(mean[0, epoch - 1])
            found[:, spent] = self.best, self.average
            signals = dict(zip(self.surrogate.signals, map(float, noisy[:, epoch - 1]), strict=True))
            if self.method.epoch(key, epoch, signals, epoch == self.surrogate.epochs):
                self._next(now, key, epoch + 1)
            else:
                self._start(now)
        return found

    def top(self, count: int, budget: int) -> list[str]:
        """The best trials by what they had logged when so many epochs were spent."""
        best = {key: value for spent, key, value in self.gains if spent < budget}
        return heapq.nlargest(count, best, key=lambda key: best[key])

    def _start(self, now: float) -> None:
        self.counter += 1
        key = f"t{self.counter}"
        values = self.method.begin(key)
        if values is None:
            return
        self.values[key] = values
        self.curves[key] = self.surrogate.curves(values)
        self.speed[key] = float(np.exp(self.random.normal(0, JITTER)))
        self._next(now, key, 1)

    def _next(self, now: float, key: str, epoch: int) -> None:
        seconds = self.speed[key] * float(np.exp(self.random.normal(0, JITTER)))
        heapq.heappush(self.events, (now + seconds, crc32(key.encode()), key, epoch))


def replay(
    make: Make, task: Task, surrogate: Surrogate, slots: int, seed: int, budget: int
) -> NDArray[np.float32]:
    """`[2, budget]`: the winner after each epoch of one study; see `Study.run`."""
    seeded(seed)
    return Study(surrogate, make(task, surrogate.epochs, seed), slots, seed).run(budget)
