"""Read a checkpoint, load its weights, and compare them with a model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from otter_ray.errors import TrainingError

LISTED_KEYS = 5


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Read everything in a checkpoint, its weights mapped from the file.

    Raises:
        TrainingError: The file holds no weights, or more than plain data, which is never unpickled.
    """
    try:
        # Mapped: most callers only need the shapes.
        record: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        dict(record["state_dict"])
    except Exception as exc:  # torch raises half a dozen kinds for a file that is no checkpoint
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise TrainingError(
            f"{checkpoint} is not loaded: it is damaged, or it holds Python objects, which could run code. "
            "Use a checkpoint that otter_ray wrote, or save only the weights: "
            f"torch.save({{'state_dict': model.state_dict()}}, PATH). ({reason})"
        ) from exc
    return record


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Load a checkpoint's weights, and nothing else of it, into a model.

    Raises:
        TrainingError: See `read_checkpoint`; or the weights belong to another architecture. The message
            names the first keys that differ.
    """
    weights = read_checkpoint(checkpoint)["state_dict"]
    if differing := differing_keys(model.state_dict(), weights):
        raise TrainingError(
            f"{checkpoint} holds another architecture than the config: they differ in "
            f"{summarize_keys(differing)}. Use the config that it was trained with."
        )
    model.load_state_dict(weights)


def describe_checkpoint(checkpoint: Path) -> str:
    """Describe a checkpoint for people: its path, and what is known of its epoch."""
    record = read_checkpoint(checkpoint)
    metric = record.get("metric", "")
    value = f", {metric} {record['metrics'][metric]:.4f}" if metric in record.get("metrics", {}) else ""
    return f"{checkpoint} (epoch {record['epoch'] + 1}{value})" if "epoch" in record else str(checkpoint)


def differing_keys(own: Mapping[str, torch.Tensor], weights: Mapping[str, Any]) -> list[str]:
    """Return the keys that only one of them has, or whose shapes differ."""
    return [
        key
        for key in sorted(own.keys() | weights.keys())
        if key not in own or own[key].shape != getattr(weights.get(key), "shape", None)
    ]


def summarize_keys(keys: Sequence[str]) -> str:
    """Return the first keys as text, and how many there are."""
    more = " ..." if len(keys) > LISTED_KEYS else ""
    return f"{', '.join(keys[:LISTED_KEYS])}{more} ({len(keys)} keys)"
