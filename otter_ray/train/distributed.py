"""Several processes that train one run together, each by calling `run_training`, and how they talk."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def torchrun_world_size() -> int:
    """Return how many processes `torchrun` started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def torchrun_launcher() -> dict[str, Any]:
    """Return the Trainer arguments for `torchrun -m otter_ray.train`; none without torchrun."""
    if torchrun_world_size() == 1:
        return {}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"strategy": "ddp", "devices": here, "num_nodes": torchrun_world_size() // here}


def world_size() -> int:
    """Return how many processes the run has now; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_rank() -> int:
    """Return this process's number among them, counted from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def any_rank(answer: bool, device: torch.device) -> bool:
    """Return whether any rank's answer is yes; all ranks must call this.

    Args:
        answer: This rank's answer.
        device: The device that the process group sends tensors from.
    """
    if world_size() == 1:
        return answer
    answers = torch.tensor([answer], dtype=torch.int32, device=device)
    dist.all_reduce(answers, dist.ReduceOp.MAX)
    return bool(answers.item())


def all_gather(values: Tensor) -> Tensor:
    """Concatenate `[N, ...]` of every rank; N must be the same on each."""
    if world_size() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def all_gather_rows(values: Tensor) -> Tensor:
    """Concatenate `[N_r, ...]` of every rank."""
    counts = all_gather(torch.tensor([len(values)], device=values.device)).tolist()
    padding = [0, 0] * (values.ndim - 1) + [0, max(counts) - len(values)]
    chunks = all_gather(F.pad(values, padding)).chunk(len(counts))
    return torch.cat([chunk[:count] for chunk, count in zip(chunks, counts, strict=True)])
