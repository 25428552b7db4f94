"""A share of a GPU: what keeps a trial within its own, and how large it needs to be."""

from __future__ import annotations

from math import ceil

from otter_ray.tune.keys import GPU_PEAK, GPU_TOTAL
from otter_ray.tune.plan import Plan, workers_on, workers_on_gpu

GIB = 2**30
# What a process holds on a GPU beside its tensors: CUDA's context, cuDNN's and cuBLAS's kernels.
CONTEXT = GIB
# Batches of another size, another backbone in the space, and what the allocator cannot join again.
SPARE = 1.1


def keep_to_share(share: float) -> None:
    """Makes torch fail rather than take more than this process's share of its GPU, and measures anew.

    Args:
        share: in (0, 1); anything else, and a process without a GPU, has nothing to share.
    """
    import torch

    if not torch.cuda.is_available():
        return
    torch.cuda.reset_peak_memory_stats()
    if 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(memory_fraction(share, torch.cuda.mem_get_info()[1]))


def memory_fraction(share: float, total: int) -> float:
    """What torch may allocate of a GPU of `total` bytes, so that it and the context are within the share."""
    return max(share - CONTEXT / total, share / 2)


def used_memory() -> dict[str, int]:
    """What torch held at most since `keep_to_share`, and what the GPU has, in bytes; empty without one."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {GPU_PEAK: torch.cuda.max_memory_reserved(), GPU_TOTAL: torch.cuda.mem_get_info()[1]}


def needed_share(peak: int, total: int) -> float:
    """The share of a GPU, in hundredths, that a trial of that peak fits into with something to spare."""
    return min(1.0, ceil(100 * (peak * SPARE + CONTEXT) / total) / 100)


def suggestion(trial: int, peak: int, total: int, plan: Plan) -> str:
    """What a first trial's memory says about `gpus_per_worker`; empty where more would not run at once."""
    if not plan.gpus or plan.workers > 1:
        return ""
    share = needed_share(peak, total)
    by_gpu, by_cpu = workers_on_gpu(share), _by_cpus(plan)
    if min(by_gpu, by_cpu) <= workers_on_gpu(plan.gpus):
        return ""
    return (
        f"trial {trial} used {peak / GIB:.1f} of {total / GIB:.0f} GiB: gpus_per_worker: {share:g} would run "
        f"{by_gpu} trials on a GPU (CPUs allow {by_cpu})"
    )


def _by_cpus(plan: Plan) -> int:
    """Trials that the CPUs beside one GPU hold, on the node that is best off."""
    nodes = [*plan.nodes, *(group.node for group in plan.growth)]
    return max((workers_on(node, plan.cpus, 0) // int(node.gpus) for node in nodes if node.gpus), default=0)
