"""What the package uses of torch, Lightning and TensorBoard beyond their public API, one function a touch.

As of torch 2.15, Lightning 2.6 and TensorBoard 2.21. Nothing else in the package names a private attribute
of theirs. `tests/unit/train/test_torch_compat.py` has a test for each function here, which fails by its name
when the library has changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from timm.scheduler.scheduler import Scheduler as TimmScheduler
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from lightning.pytorch.utilities import CombinedLoader
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter

# Where a learning rate schedule keeps the rates that it starts from, or gave last.
SCHEDULE_RATES = (
    "lr", "initial_lr", "max_lr", "min_lr", "eta_min", "base_lrs", "max_lrs", "min_lrs", "_last_lr",
    # timm's
    "base_values", "lr_min", "warmup_lr_init",
)  # fmt: skip


@contextmanager
def unprinted_onnx_graphs() -> Iterator[None]:
    """Keep a trace to ONNX that fails from printing its graph, unless `verbose` asks for it.

    torch 2.15 wants to ask whether its log is on, but does not call the function: it is always true. Without
    the function torch skips the question.
    """
    name = "_jit_is_onnx_log_enabled"
    function = getattr(torch._C, name, None)
    if function is None:
        yield
        return
    setattr(torch._C, name, None)
    try:
        yield
    finally:
        setattr(torch._C, name, function)


def is_sequential(loaders: CombinedLoader) -> bool:
    """Return whether loaders are run one after the other: a CombinedLoader does not say its mode."""
    mode: str = loaders._mode
    return mode == "sequential"


def uncompile(module: nn.Module) -> None:
    """Put what `torch.compile` wraps in its wrapper's place: the tracer refuses what is compiled."""
    for part in [*module.modules()]:
        if part._compiled_call_impl is not None:  # by `part.compile()`
            part._compiled_call_impl = None
        for name, child in [*part.named_children()]:
            if type(child).__name__ == "OptimizedModule":
                setattr(part, name, child._orig_mod)


def exclude_from_ddp(module: nn.Module, names: Sequence[str]) -> None:
    """Have DistributedDataParallel neither broadcast these parameters nor average their gradients.

    DDP reads the names from the module when it wraps it. There is no public way to give them: Lightning makes
    the wrapper.
    """
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        module, list(names)
    )


def write_summary(writer: SummaryWriter, summary: Summary) -> None:
    """Write a summary for one of TensorBoard's plugins: the public `add_...` methods write only their own."""
    writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


def scale_schedule(schedule: Any, factor: float) -> None:
    """Multiply every rate that a learning rate schedule computes from, and the one that it gave last.

    torch's schedules have no method for that. They keep their rates in public attributes, but for the last
    one.
    """
    scale_rates(vars(schedule), factor)
    # In timm's schedules that is by how much each rate rises in a step, in others a number of steps.
    if isinstance(schedule, TimmScheduler) and isinstance(rises := vars(schedule).get("warmup_steps"), list):
        vars(schedule)["warmup_steps"] = [rise * factor for rise in rises]
    for part in getattr(schedule, "_schedulers", ()):
        scale_schedule(part, factor)


def scale_rates(rates: dict[str, Any], factor: float) -> None:
    """Multiply the rates in a schedule's attributes or in an optimizer's parameter group."""
    for name in SCHEDULE_RATES:
        if isinstance(value := rates.get(name), list):
            rates[name] = [rate * factor for rate in value]
        elif value is not None:
            rates[name] = value * factor


def is_from_epoch_end(record: Mapping[str, Any]) -> bool:
    """Return whether one of Lightning's checkpoints was saved after an epoch's last batch.

    Lightning restores its loops from this part of the checkpoint, whose layout it does not document.
    """
    return bool(record["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"])


def cuda_survives_fork() -> bool:
    """Return whether a fork of this process can use CUDA: not if this one has so much as asked for a GPU.

    Torch knows it in the fork alone, which `torch.cuda.is_initialized` of this process does not tell.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
