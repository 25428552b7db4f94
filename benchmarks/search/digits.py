"""A table of what configurations reach, epoch by epoch: an embedding MLP on scikit-learn's digits.

    python benchmarks/search/digits.py

Another task than `documents.py`'s, to guard against a search that fits one table. Sobol points of six
parameters; minutes on one core. Writes `digits.parquet`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from documents import between, signals
from scipy.stats import qmc
from sklearn.datasets import load_digits
from torch import Tensor, nn

from otter_ray.projects.docclassifier.modeling.losses import CosFace
from otter_ray.train.schedules import PolynomialLRWarmup

TABLE = Path(__file__).with_suffix(".parquet")
CONFIGURATIONS, EPOCHS, BATCH = 512, 27, 64
BASE = {"lr": 3e-3, "weight_decay": 1e-3, "m": 0.2, "s": 16.0, "dropout": 0.2, "width": 64}


def configurations() -> list[dict[str, Any]]:
    """Sobol points, the base config's values first."""
    points = qmc.Sobol(6, seed=0).random(CONFIGURATIONS)[: CONFIGURATIONS - 1]
    return [BASE, *map(_configuration, points)]


def _configuration(point: Any) -> dict[str, Any]:
    return {
        "lr": between(point[0], 1e-4, 1e-1),
        "weight_decay": between(point[1], 1e-5, 1.0),
        "m": float(point[2] * 0.6),
        "s": between(point[3], 2, 64),
        "dropout": float(point[4] * 0.7),
        "width": (16, 32, 64, 128)[int(point[5] * 4)],
    }


def train(
    values: dict[str, Any], images: Tensor, labels: Tensor, valid: tuple[Tensor, Tensor]
) -> Iterator[dict[str, Any]]:
    """One row an epoch."""
    torch.manual_seed(0)
    width, started = values["width"], time.perf_counter()
    layers = [nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(values["dropout"])]
    model = nn.Sequential(*layers, nn.Linear(width, 16))
    loss_of = CosFace(num_classes=10, embed_dim=16, s=values["s"], m=values["m"])
    parameters = [*model.parameters(), *loss_of.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=values["lr"], weight_decay=values["weight_decay"])
    steps = len(images) // BATCH
    schedule = PolynomialLRWarmup(optimizer, EPOCHS * steps // 10, EPOCHS * steps)
    for epoch in range(1, EPOCHS + 1):
        model.train()
        losses = []
        for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            loss = loss_of(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        model.eval()
        with torch.no_grad():
            found = signals(model(valid[0]), valid[1])
        seconds = time.perf_counter() - started
        yield {"epoch": epoch, "loss": float(torch.stack(losses).mean()), **found, "seconds": seconds}


def main() -> None:
    torch.set_num_threads(1)
    data = load_digits()
    images = torch.tensor(data.data / 16 - 0.3, dtype=torch.float32)
    labels = torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels, rows = images[order], labels[order], []
    half = len(images) // 2
    for number, values in enumerate(configurations()):
        for row in train(values, images[:half], labels[:half], (images[half:], labels[half:])):
            rows.append({"configuration": number, **values, **row})
    assert any(not math.isnan(row["valid_fpr@4"]) for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), TABLE)


if __name__ == "__main__":
    main()
