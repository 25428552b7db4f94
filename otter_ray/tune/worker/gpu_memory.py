"""A trial's share of a GPU's memory: the limit that torch keeps, and what the trial used."""

from __future__ import annotations

from otter_ray.tune.cluster.resources import CUDA_CONTEXT
from otter_ray.tune.messages import GpuMemory


def keep_to_share(share: float) -> None:
    """Make torch fail rather than use more than this process's share of its GPU, and reset its peak.

    Args:
        share: in (0, 1); with anything else, or without a GPU, there is nothing to limit.
    """
    import torch

    if not torch.cuda.is_available():
        return
    torch.cuda.reset_peak_memory_stats()
    if 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(memory_fraction(share, torch.cuda.mem_get_info()[1]))


def memory_fraction(share: float, total: int) -> float:
    """Return the fraction of a GPU of `total` bytes that torch may allocate, less CUDA's context."""
    return max(share - CUDA_CONTEXT / total, share / 2)


def used_memory() -> GpuMemory | None:
    """Return what torch held at most since `keep_to_share`; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return GpuMemory(peak=torch.cuda.max_memory_reserved(), total=torch.cuda.mem_get_info()[1])
