"""Each private touch of torch, Lightning and TensorBoard, by the function that makes it.

A test that fails here says that the library has changed: mend the function of its name, or do without it.
"""

import subprocess
import sys

import lightning as L
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities import CombinedLoader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LambdaLR, MultiStepLR, OneCycleLR, StepLR
from torch.utils.tensorboard import SummaryWriter

from otter_ray.train.schedules import MultiStepLRWarmUp, PolynomialLRWarmup
from otter_ray.train.torch_compat import (
    exclude_from_ddp,
    is_from_epoch_end,
    is_sequential,
    scale_rates,
    scale_schedule,
    uncompile,
    unprinted_onnx_graphs,
    write_summary,
)


def test_whether_loaders_are_run_one_after_the_other():
    assert is_sequential(CombinedLoader([], "sequential"))
    assert not is_sequential(CombinedLoader([], "max_size"))


class Untraceable(nn.Module):
    """An operator that ONNX does not have: the exporter fails with a graph in its hands."""

    def forward(self, x):
        return torch.fft.fft(x).real


class Compiled(nn.Module):
    """As projects compile: a part by the function, another in its place."""

    def __init__(self):
        super().__init__()
        self.first = torch.compile(nn.Linear(3, 3), backend="eager")
        self.second = nn.Sequential(nn.Linear(3, 3))
        self.second.compile(backend="eager")

    def forward(self, x):
        return self.second(self.first(x))


def test_what_is_compiled_can_be_traced(tmp_path):
    module = Compiled()
    weights = [weight.data_ptr() for weight in module.parameters()]
    uncompile(module)
    with unprinted_onnx_graphs():
        torch.onnx.export(module, (torch.eye(3),), str(tmp_path / "compiled.onnx"), dynamo=False)
    assert [weight.data_ptr() for weight in module.parameters()] == weights
    assert all(type(part) in (Compiled, nn.Linear, nn.Sequential) for part in module.modules())


def trace(path):
    with pytest.raises(torch.onnx.errors.OnnxExporterError):
        torch.onnx.export(Untraceable(), (torch.eye(3),), str(path), dynamo=False)


@pytest.mark.filterwarnings("ignore")
def test_unprinted_onnx_graphs(tmp_path, capfd):
    """Without it the graph is printed. If it no longer is, torch has its parentheses, and this can go."""
    function = torch._C._jit_is_onnx_log_enabled
    with unprinted_onnx_graphs():
        trace(tmp_path / "quiet.onnx")
    assert "graph(" not in "".join(capfd.readouterr())
    assert torch._C._jit_is_onnx_log_enabled is function
    trace(tmp_path / "loud.onnx")
    torch._C._jit_set_onnx_log_enabled(False)
    assert "graph(" in "".join(capfd.readouterr())


def test_exclude_from_ddp(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    exclude_from_ddp(model, ["1.weight"])
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(model)
        reduced = {id(parameter) for parameter in wrapped._module_parameters}
    finally:
        dist.destroy_process_group()
    names = {name for name, parameter in model.named_parameters() if id(parameter) in reduced}
    assert names == {"0.weight", "0.bias", "1.bias"}


def test_write_summary(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    write_summary(writer, Summary(value=[Summary.Value(tag="ours", simple_value=0.5)]))
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("ours")] == [0.5]


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: PolynomialLRWarmup(optimizer, 2, 8),
        lambda optimizer: MultiStepLRWarmUp(optimizer, [2, 3], 2),
        lambda optimizer: StepLR(optimizer, 2),
        lambda optimizer: MultiStepLR(optimizer, [2, 4]),
        lambda optimizer: CosineAnnealingLR(optimizer, 8, eta_min=0.01),
        lambda optimizer: CyclicLR(optimizer, 0.1, 0.4, step_size_up=3),
        lambda optimizer: OneCycleLR(optimizer, 0.4, total_steps=10),
    ],
    ids=["polynomial", "multi-step with warm-up", "step", "multi-step", "cosine", "cyclic", "one cycle"],
)
def test_scale_schedule(make):
    """Scaled after three steps, a schedule gives what one with a scaled optimizer gives from there on."""
    factor, rates = 0.5, {}
    for scaled in (False, True):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4, momentum=0.9)
        schedule = make(optimizer)
        for step in range(7):
            if scaled and step == 3:
                scale_rates(optimizer.param_groups[0], factor)
                scale_schedule(schedule, factor)
            optimizer.step()
            schedule.step()
            rates.setdefault(scaled, []).append(schedule.get_last_lr()[0])
            assert optimizer.param_groups[0]["lr"] == rates[scaled][-1]
    assert rates[True][:3] == rates[False][:3]
    assert rates[True][3:] == pytest.approx([rate * factor for rate in rates[False][3:]])


class OwnWarmup(LambdaLR):
    """A project's own schedule, with a number of steps under the name of timm's rates."""

    def __init__(self, optimizer, warmup_steps):
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, lambda step: min(1, (step + 1) / warmup_steps))


def test_a_warm_up_is_scaled_only_where_it_is_a_rate():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    own = OwnWarmup(optimizer, warmup_steps=5)
    scale_schedule(own, 0.5)
    assert own.warmup_steps == 5
    timm = CosineLRScheduler(optimizer, t_initial=10, warmup_t=4)
    (rise,) = timm.warmup_steps
    scale_schedule(timm, 0.5)
    assert timm.warmup_steps == [rise / 2]


@pytest.mark.filterwarnings("ignore")
def test_is_from_epoch_end(tmp_path):
    every_step = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=1, save_top_k=-1)
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=3, limit_val_batches=0, accelerator="cpu", devices=1, logger=False,
        callbacks=[every_step], enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(BoringModel())
    ends = {path.stem: is_from_epoch_end(torch.load(path, weights_only=True)) for path in tmp_path.iterdir()}
    assert ends == {"epoch=0-step=1": False, "epoch=0-step=2": False, "epoch=0-step=3": True}


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(("code", "survives"), [("", True), ("torch.cuda.is_available()", False)])
def test_cuda_survives_fork(code, survives):
    """Asking for a GPU is enough to lose it, and the process that asked does not know."""
    lines = ["import torch", "from otter_ray.train.torch_compat import cuda_survives_fork", code]
    lines += ["print(torch.cuda.is_initialized(), cuda_survives_fork())"]
    fresh = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert fresh.stdout == f"False {survives}\n"
