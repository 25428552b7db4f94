"""What any configuration of a table's space would reach: a smooth mean, and the noise of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from otter_ray.config import Config, Parameter, Space, load_config, load_space

HERE = Path(__file__).parent
# Column -> what a run of ours logs it as.
SIGNALS = {
    "valid_fpr@4": "valid_fpr@4",
    "tpr@1e-3": "tpr@1e-3",
    "tpr@1e-2": "tpr@1e-2",
    "partial_auc": "valid_pauc@2",
    "auc": "valid_auc",
}
METRIC = "valid_fpr@4"
NEIGHBOURS = 5  # of which one lends its noise


@dataclass(frozen=True)
class Task:
    """A table, the space that it was sampled from and the config of its base."""

    name: str
    config: Config
    space: Space
    columns: dict[str, str]  # parameter -> column

    @property
    def table(self) -> Path:
        """Where its rows are."""
        return HERE / f"{self.name}.parquet"


def task(name: str) -> Task:
    """`documents` or `digits`."""
    space = load_space(str(HERE / f"{name}.space.yaml"))
    columns = {p.name: p.name.rpartition(".")[2] for p in space.parameters}
    if "model.loss.name" in columns:
        columns["model.loss.name"] = "margin"
    first = next(
        row for row in pq.read_table(HERE / f"{name}.parquet").to_pylist() if row["configuration"] == 0
    )
    base = {key: first[columns[p.name]] for p in space.parameters for key in p.keys}
    return Task(name, load_config("demo").with_values(base), space, columns)


class Surrogate:
    """A Gaussian process over the whole curves, all signals of all epochs at once, with one kernel.

    Rates are modelled as arcsin(sqrt(rate)), whose noise hardly depends on the rate. The noise of a
    configuration is what the process leaves over at one of the table's nearest configurations, drawn by a
    hash of the values: the same values give the same curve, whoever asks.
    """

    def __init__(self, what: Task) -> None:
        rows = pq.read_table(what.table).to_pylist()
        self.parameters, self.epochs = what.space.parameters, max(row["epoch"] for row in rows)
        by_number: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            by_number.setdefault(row["configuration"], []).append(row)
        whole = [curve for curve in by_number.values() if len(curve) == self.epochs]
        self.values = [{p.name: curve[0][what.columns[p.name]] for p in self.parameters} for curve in whole]
        self.points = np.array([self.point(values) for values in self.values])
        rates = np.array([[[row[name] for row in curve] for name in SIGNALS] for curve in whole])
        self.rates = np.nan_to_num(rates, nan=0.0)  # [N, signals, epochs]
        targets = np.arcsin(np.sqrt(self.rates)).reshape(len(whole), -1)
        self.offset, self.scale = targets.mean(0), targets.std(0) + 1e-6
        kernel = ConstantKernel(1.0) * RBF(np.full(self.points.shape[1], 1.0), (0.05, 20)) + WhiteKernel(0.1)
        self.process = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=0)
        self.process.fit(self.points, (targets - self.offset) / self.scale)
        self.residuals = targets - self._smooth(self.points)

    def point(self, values: dict[str, Any]) -> NDArray[np.float64]:
        """Each parameter's share of its range; a categorical one-hot."""
        return np.concatenate([_coordinates(p, values[p.name]) for p in self.parameters])

    def _smooth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.process.predict(points)) * self.scale + self.offset

    def curves(self, values: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(what a training logs, what it would log on average), each `[signals, epochs]`."""
        point = self.point(values)
        distances = np.abs(self.points - point).sum(1)
        nearest = np.argsort(distances)[:NEIGHBOURS]
        drawn = crc32(repr(sorted(values.items())).encode())
        mean = self._smooth(point[None])[0]
        noisy = mean + self.residuals[nearest[drawn % len(nearest)]]
        return self._rates(noisy), self._rates(mean)

    def _rates(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        return (np.sin(np.clip(targets, 0, np.pi / 2)) ** 2).reshape(len(SIGNALS), self.epochs)


def _coordinates(parameter: Parameter, value: Any) -> list[float]:
    if parameter.type == "categorical":
        return [0.5 * (choice == value) for choice in parameter.choices]
    low, high, number = float(parameter.low or 0), float(parameter.high or 0), float(value)
    if parameter.log:
        low, high, number = np.log([low, high, number])
    return [(number - low) / (high - low)]
