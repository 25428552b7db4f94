"""What any configuration of a table's space would reach: a smooth mean, and the noise of a training.

    python benchmarks/search/surrogate.py

prints how well both regressions predict configurations that are left out.
"""

from __future__ import annotations

from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from tasks import TASKS, Task, task

from otter_ray.space import Parameter

NEIGHBOURS = 5  # of which one lends its noise
Answers = Literal["process", "forest"]


class Process:
    """A Gaussian process with one kernel for all targets."""

    def __init__(self, points: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        kernel = ConstantKernel(1.0) * RBF(np.full(points.shape[1], 1.0), (0.05, 20)) + WhiteKernel(0.1)
        self.process = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=0)
        self.process.fit(points, targets)

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """`[N, targets]` of `[N, parameters]`."""
        return np.asarray(self.process.predict(points))


class Forest:
    """A random forest, whose leaves hold three configurations or more."""

    def __init__(self, points: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        forest = RandomForestRegressor(100, min_samples_leaf=3, max_features=0.5, random_state=0)
        self.trees = forest.fit(points, targets).estimators_

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """`[N, targets]` of `[N, parameters]`."""
        # Without joblib, which takes longer than the trees do.
        cells = points.astype(np.float32)
        return np.asarray(np.mean([tree.predict(cells, check_input=False) for tree in self.trees], axis=0))


REGRESSIONS: dict[Answers, type[Process | Forest]] = {"process": Process, "forest": Forest}


class Surrogate:
    """A regression of the whole curves on the values, all signals of all epochs at once.

    Rates are modelled as arcsin(sqrt(rate)), whose noise hardly depends on the rate. The noise of a
    configuration is what the regression leaves over at one of the table's nearest configurations, drawn by a
    hash of the values: the same values give the same curve, whoever asks.
    """

    def __init__(self, what: Task, answers: Answers = "process") -> None:
        self.parameters, self.signals = what.space.parameters, tuple(what.signals.values())
        self.epochs = max(row["epoch"] for row in what.rows)
        by_number: dict[int, list[dict[str, Any]]] = {}
        for row in what.rows:
            by_number.setdefault(row["configuration"], []).append(row)
        whole = [curve for curve in by_number.values() if len(curve) == self.epochs]
        self.values = [{p.name: curve[0][what.columns[p.name]] for p in self.parameters} for curve in whole]
        self.points = np.array([self.point(values) for values in self.values])
        rates = np.array([[[row[name] for row in curve] for name in what.signals] for curve in whole])
        self.rates = np.nan_to_num(rates, nan=0.0)  # [N, signals, epochs]
        targets = np.arcsin(np.sqrt(self.rates)).reshape(len(whole), -1)
        self.offset, self.scale = targets.mean(0), targets.std(0) + 1e-6
        self.regression = REGRESSIONS[answers](self.points, (targets - self.offset) / self.scale)
        self.residuals = targets - self._smooth(self.points)

    def point(self, values: dict[str, Any]) -> NDArray[np.float64]:
        """Each parameter's share of its range; a categorical one-hot."""
        return np.concatenate([_coordinates(p, values[p.name]) for p in self.parameters])

    def _smooth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.regression(points) * self.scale + self.offset

    def curves(
        self, values: dict[str, Any], seed: str = ""
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(what a training logs, what it would log on average), each `[signals, epochs]`."""
        point = self.point(values)
        distances = np.abs(self.points - point).sum(1)
        nearest = np.argsort(distances)[:NEIGHBOURS]
        drawn = crc32((repr(sorted(values.items())) + seed).encode())
        mean = self._smooth(point[None])[0]
        noisy = mean + self.residuals[nearest[drawn % len(nearest)]]
        return self._rates(noisy), self._rates(mean)

    def _rates(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        return (np.sin(np.clip(targets, 0, np.pi / 2)) ** 2).reshape(len(self.signals), self.epochs)


def _coordinates(parameter: Parameter, value: Any) -> list[float]:
    if parameter.type == "categorical":
        return [0.5 * (choice == value) for choice in parameter.choices]
    low, high, number = float(parameter.low or 0), float(parameter.high or 0), float(value)
    if parameter.log:
        low, high, number = np.log([low, high, number])
    return [(number - low) / (high - low)]


def left_out(what: Task, answers: Answers) -> float:
    """R2 of the last epoch's metric, five folds left out in turn."""
    whole = Surrogate(what, "forest")
    targets = np.arcsin(np.sqrt(whole.rates[:, 0, -1:]))
    targets = (targets - targets.mean()) / targets.std()
    fold = np.random.default_rng(0).permutation(len(targets)) % 5
    found = np.zeros_like(targets)
    for number in range(5):
        kept = fold != number
        regression = REGRESSIONS[answers](whole.points[kept], targets[kept])
        found[~kept] = regression(whole.points[~kept]).reshape(-1, 1)
    return 1 - float(((found - targets) ** 2).mean())


if __name__ == "__main__":
    for name in TASKS:
        what = task(name)
        print(name, {kind: round(left_out(what, kind), 2) for kind in REGRESSIONS})
