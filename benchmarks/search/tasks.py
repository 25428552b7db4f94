"""The tables of real trainings that searches are replayed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from otter_ray.config import Config, load_config
from otter_ray.space import Space, load_space

HERE = Path(__file__).parent
TASKS = ("documents", "digits", "batches")
METRIC = "valid_fpr@4"
STEADIER = "valid_pauc@2"  # what ASHA looks at by default, where a table has it
# Column -> what a run of ours logs it as.
SIGNALS = {
    "valid_fpr@4": METRIC,
    "tpr@1e-3": "tpr@1e-3",
    "tpr@1e-2": "tpr@1e-2",
    "partial_auc": STEADIER,
    "auc": "valid_auc",
}
# Of a table without a base config: what a user might begin with, the 76th percentile of the table.
BASES = {
    "batches": {
        "lr": 3e-3,
        "weight_decay": 1e-3,
        "m": 0.2,
        "s": 16.0,
        "embed_dim": 64,
        "batch_size": 64,
    }
}


@dataclass(frozen=True)
class Task:
    """A table, the space that it was sampled from and the config of its base."""

    name: str
    config: Config
    space: Space
    columns: dict[str, str]  # parameter -> column

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One for each epoch of a configuration."""
        return _rows(self.name)

    @cached_property
    def signals(self) -> dict[str, str]:
        """Those of SIGNALS that the table has."""
        return {column: name for column, name in SIGNALS.items() if column in self.rows[0]}


def task(name: str) -> Task:
    """One of TASKS."""
    space = load_space(str(HERE / f"{name}.space.yaml"))
    columns = {p.name: p.name.rpartition(".")[2] for p in space.parameters}
    if "model.loss.name" in columns:
        columns["model.loss.name"] = "margin"
    first = BASES.get(name) or next(row for row in _rows(name) if row["configuration"] == 0)
    base = {key: first[columns[p.name]] for p in space.parameters for key in p.keys}
    return Task(name, load_config("demo").with_values(base), space, columns)


def _rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(HERE / f"{name}.parquet").to_pylist()
    return found
