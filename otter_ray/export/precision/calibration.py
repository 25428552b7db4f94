"""The items by which the ranges of an int8 file are found: those of training, without augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from otter_ray.config import Config
from otter_ray.errors import ExportError
from otter_ray.export.comparison.network import Network
from otter_ray.export.evaluation import evaluation_loader
from otter_ray.export.onnx_file import onnx_section
from otter_ray.export.precision.conversion import Batch
from otter_ray.train.builders import build_datasets

MAX_BATCH = 16  # all activations of a batch are in memory while their ranges are found


def calibration_batches(network: Network, images: int) -> Iterator[Batch]:
    """Yield inputs of the exported model for training items, evenly spread over the training set.

    Nothing of the validation set or the test split is among them: training has left it out.

    Args:
        network: The fp32 file's.
        images: The largest number of items.

    Raises:
        ExportError: The training set has no items without augmentation.
    """
    names = onnx_section(network.config).input_names
    for batch in evaluation_loader(network.config, _items(network.config, images)):
        inputs, _ = network.model.exported_batch(batch)
        for part in zip(*(torch.split(each, MAX_BATCH) for each in inputs), strict=True):
            yield {name: each.numpy() for name, each in zip(names, part, strict=True)}


def _items(config: Config, images: int) -> Dataset[Any]:
    train, _ = build_datasets(config)
    clean = getattr(train, "without_augmentation", None)
    if clean is None:
        raise ExportError(
            f"{type(train).__name__} has no without_augmentation(), which returns a data set of training "
            "items without augmentation. Write it, or leave out int8."
        )
    dataset = clean()
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(images, len(dataset))).astype(int))
    return Subset(dataset, chosen.tolist())
