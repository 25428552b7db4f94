"""A table of what configurations reach, epoch by epoch: a small DocClassifier on real documents.

    python benchmarks/search/documents.py FOLDER_OF_DOCUMENTS

Sobol points of six parameters; each is trained for EPOCHS epochs as a lone run would be, on images that are
augmented once and kept in memory, and every signal that a scheduler could look at is written down. It goes on
from where it was stopped, and writes `documents.parquet` as it goes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.stats import qmc
from torch import Tensor

from otter_ray.config import Config, load_config
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.train.builders import build_datasets, build_model, with_classes
from otter_ray.train.schedules import PolynomialLRWarmup

TABLE = Path(__file__).with_suffix(".parquet")
CONFIGURATIONS, EPOCHS, STEPS, BATCH = 192, 10, 128, 64
POOL = 49_152  # augmented images; an epoch sees 8,192 of them
SIDE = 32
KEYS = {
    "lr": "optimizer.options.lr",
    "weight_decay": "optimizer.options.weight_decay",
    "margin": "model.loss.name",
    "m": "model.loss.options.m",
    "s": "model.loss.options.s",
    "embed_dim": "model.loss.embed_dim",
}


def configurations() -> list[dict[str, Any]]:
    """Sobol points, the base config's values first."""
    points = qmc.Sobol(6, seed=0).random(256)[: CONFIGURATIONS - 1]
    base = {"lr": 3e-3, "weight_decay": 1e-3, "margin": "CosFace", "m": 0.2, "s": 32.0, "embed_dim": 128}
    return [base, *map(_configuration, points)]


def _configuration(point: Any) -> dict[str, Any]:
    return {
        "lr": between(point[0], 3e-4, 3e-2),
        "weight_decay": between(point[1], 1e-5, 1e-1),
        "margin": ("CosFace", "ArcFace")[int(point[2] * 2)],
        "m": float(point[3] / 2),
        "s": between(point[4], 8, 64),
        "embed_dim": (64, 128, 256)[int(point[5] * 3)],
    }


def between(share: float, low: float, high: float) -> float:
    """A share of the way from low to high, on a logarithmic scale."""
    return float(low * (high / low) ** share)


def base_config(root: str) -> Config:
    """LCNet-050 at 32 px, with the augmentation that imitates a camera."""
    size = [SIDE, SIDE]
    return load_config("unique_pool").with_values(
        {
            "common.image_size": size,
            "global_settings.image_size": size,
            "onnx.input_shape.img.shape": [1, 3, *size],
            "dataset.train_options.options.root": root,
            "dataset.valid_options.options.root": root,
            "dataset.train_options.options.aug_func": "CaptureAug",
            "dataset.train_options.options.length_of_dataset": POOL,
        }
    )


def kept(dataset: Any) -> tuple[Tensor, Tensor]:
    """(images as bytes `[N, 3, S, S]`, labels `[N]`) of a whole data set."""
    images, labels = torch.empty(len(dataset), 3, SIDE, SIDE, dtype=torch.uint8), []
    for index in range(len(dataset)):
        image, label = dataset[index][:2]
        images[index] = (image * 255).round().to(torch.uint8)
        labels.append(int(label))
    return images.contiguous(memory_format=torch.channels_last), torch.tensor(labels)


def train(
    config: Config, train_set: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]
) -> Iterator[dict[str, Any]]:
    """One row an epoch."""
    torch.manual_seed(config.common.seed)
    (images, labels), started = train_set, time.perf_counter()
    model = build_model(with_classes(config, int(labels.max()) + 1))
    optimizer = torch.optim.AdamW(model.parameters(), **config.optimizer.options)
    total = EPOCHS * STEPS
    schedule = PolynomialLRWarmup(optimizer, total // 10, total)
    for epoch in range(1, EPOCHS + 1):
        model.train()
        losses = []
        for batch in torch.randperm(len(images))[: STEPS * BATCH].split(BATCH):
            loss = model.loss(model(images[batch].float() / 255), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        yield {
            "epoch": epoch,
            "loss": float(torch.stack(losses).mean()),
            **scores(model, *valid),
            "seconds": time.perf_counter() - started,
        }


@torch.no_grad()
def scores(model: Any, images: Tensor, labels: Tensor) -> dict[str, float]:
    """The signals of a model on a validation set."""
    model.eval()
    return signals(torch.cat([model(part.float() / 255) for part in images.split(256)]), labels)


def signals(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Every signal of the ROC curve; NaN where the training has diverged."""
    if not torch.isfinite(embeddings).all():
        return dict.fromkeys(("valid_fpr@4", "tpr@1e-3", "tpr@1e-2", "partial_auc", "auc"), math.nan)
    roc = pair_roc(embeddings, labels)
    rates = {
        name: roc.tpr_at(fpr)[0]
        for name, fpr in (("valid_fpr@4", 1e-4), ("tpr@1e-3", 1e-3), ("tpr@1e-2", 1e-2))
    }
    return {**rates, "partial_auc": roc.partial_auc(), "auc": roc.auc()}


def main(root: str) -> None:
    torch.set_num_threads(1)
    config = base_config(root)
    rows = pq.read_table(TABLE).to_pylist() if TABLE.exists() else []
    done = {row["configuration"] for row in rows}
    train_set, valid = map(kept, build_datasets(config))
    print(f"{len(train_set[0])} images to train on, {len(valid[0])} to validate with", flush=True)
    for number, values in enumerate(configurations()):
        if number in done:
            continue
        changed = {KEYS[key]: value for key, value in values.items()}
        changed["model.head.options.embed_dim"] = values["embed_dim"]
        for row in train(config.with_values(changed), train_set, valid):
            rows.append({"configuration": number, **values, **row})
        partial = TABLE.with_suffix(".partial")
        pq.write_table(pa.Table.from_pylist(rows), partial)
        partial.replace(TABLE)
        print(
            number,
            values,
            [round(row["valid_fpr@4"], 3) for row in rows[-EPOCHS:]],
            f"{row['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1])
