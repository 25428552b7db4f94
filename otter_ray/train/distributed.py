"""Several processes for one run, each of which calls `run_training`, and what they tell each other."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def torchrun_ranks() -> int:
    """How many processes `torchrun` started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def torchrun_launcher() -> dict[str, Any]:
    """Arguments of Lightning's Trainer for `torchrun -m otter_ray.train`; none without it."""
    if torchrun_ranks() == 1:
        return {}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"strategy": "ddp", "devices": here, "num_nodes": torchrun_ranks() // here}


def ranks() -> int:
    """How many processes the run has, now; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if ranks() > 1 else 0


def any_rank(answer: bool, device: torch.device) -> bool:
    """Whether any rank's answer is yes; all of them must ask. `device`: where tensors travel from."""
    if ranks() == 1:
        return answer
    answers = torch.tensor([answer], dtype=torch.int32, device=device)
    dist.all_reduce(answers, dist.ReduceOp.MAX)
    return bool(answers.item())


def all_gather(values: Tensor) -> Tensor:
    """`[N, ...]` of every rank, one below the other; N must be the same on each."""
    if ranks() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(ranks())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def all_gather_rows(values: Tensor) -> Tensor:
    """`[N_r, ...]` of every rank, one below the other."""
    counts = all_gather(torch.tensor([len(values)], device=values.device)).tolist()
    padding = [0, 0] * (values.ndim - 1) + [0, max(counts) - len(values)]
    chunks = all_gather(F.pad(values, padding)).chunk(len(counts))
    return torch.cat([chunk[:count] for chunk, count in zip(chunks, counts, strict=True)])
