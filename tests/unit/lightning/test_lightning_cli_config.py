"""A YAML of LightningCLI is a config as it is."""

import sys

import lightning.pytorch
import pytest
import torch
import yaml

from otter_ray.config import load_config
from otter_ray.errors import ConfigError
from otter_ray.export.exporter import export_checkpoint
from otter_ray.host_program import left_as_found
from otter_ray.projects.lightning.classes import find_class_path
from otter_ray.projects.lightning.own import OWN
from otter_ray.train.checks.validation import check_config
from otter_ray.train.run_options import RunOptions
from otter_ray.train.trainer import run_training

YAML = """\
# lightning.pytorch==2.6.6
fit:
  seed_everything: true
  trainer:
    accelerator: cpu
    strategy: ddp_find_unused_parameters_true
    devices: auto
    precision: null
    logger:
    - class_path: lightning.pytorch.loggers.CSVLogger
      init_args: {save_dir: logs, name: lightning_logs, version: null}
    - class_path: tests.support.plain_cases.OwnLogger
      init_args: {save_dir: own}
    callbacks:
    - class_path: lightning.pytorch.callbacks.LearningRateMonitor
      init_args: {logging_interval: null}
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {monitor: val_loss, mode: min}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {monitor: val_acc, mode: max, dirpath: null}
    - class_path: lightning.pytorch.callbacks.EMAWeightAveraging
    max_epochs: 1
    plugins: null
  model: {class_path: tests.support.plain_digits.LitBlobs, init_args: {width: 8}}
  data: {class_path: tests.support.plain_digits.Blobs, init_args: {batch_size: 16, count: 48}}
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01, momentum: 0.9}}
  lr_scheduler:
    class_path: lightning.pytorch.cli.ReduceLROnPlateau
    init_args: {monitor: val_loss, patience: 1}
  ckpt_path: null
  weights_only: null
validate:
  trainer: {max_epochs: 3}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cli.yaml"
    path.write_text(YAML)
    return str(path)


def test_every_section_is_used(file, tmp_path):
    lit = load_config(file)
    assert (lit.project, lit.metric, lit.common.seed) == ("lightning", "val_acc", 0)
    assert "strategy" not in lit.trainer.model_extra
    check_config(lit, lit.metric)
    plan = OWN.build_model(lit).lightning_module.configure_optimizers()
    assert isinstance(plan["optimizer"], torch.optim.SGD)
    assert plan["lr_scheduler"]["monitor"] == "val_loss"
    reports = []
    best = run_training(lit, tmp_path / "run", reports.append, RunOptions(metric=lit.metric, cpus=1))
    assert reports[-1].metrics["lr-SGD"] == pytest.approx(0.01)
    assert [*(tmp_path / "run" / "logs").rglob("metrics.csv")]
    assert (tmp_path / "run" / "own").is_dir()
    gate = export_checkpoint(best, tmp_path, project=lit.code).gate
    assert gate.metrics["val_acc"] == pytest.approx(reports[-1].metrics["val_acc"], abs=1e-6)


def test_callbacks_that_need_a_logger_wait_for_one(file, tmp_path):
    lit = load_config(file, ["trainer.logger=false"])
    assert lit.logger_sections() == []
    run_training(lit, tmp_path, lambda report: None, RunOptions(metric=lit.metric, cpus=1))


BAD = {
    "optimizer.init_args.lrr=1": r"optimizer.init_args.lrr: SGD has no argument 'lrr'. Did you mean 'lr'",
    "optimizer.class_path=torch.optim.SDG": "Did you mean 'SGD'",
    "optimizer.init_args.lr=fast": "optimizer.init_args.lr: Expected a float",
    "optimizer=null": "lr_scheduler: is given without an `optimizer:`",
    "trainer.strategy=fsdp": "trainer.strategy: is fsdp, and a trial is one process",
    "logger.name=CSVLoger": "Did you mean 'CSVLogger'",
    "logger.name=tests.support.plain_cases.OwnLoger": "Did you mean 'OwnLogger'",
    "ckpt_path=x.ckpt": "each trial starts from new weights",
    "trainer.callbacks.1.class_path=lightning.pytorch.callbacks.LearningRateFinder": "tries learning rates",
    "trainer.callbacks=null": "metric: is missing. Give the name of what the module logs",
}


@pytest.mark.parametrize("change", BAD)
def test_what_is_wrong_is_told(change, file):
    with pytest.raises(ConfigError, match=BAD[change]):
        check_config(load_config(file, [change]), "val_acc")


def test_a_fault_is_told_at_its_line(file):
    with pytest.raises(ConfigError, match=r"cli.yaml:22: trainer.max_epochs: 0 is too small"):
        load_config(_changed(file, "max_epochs: 1", "max_epochs: 0"))


def _changed(file, old, new):
    with open(file) as stream:
        text = stream.read()
    with open(file, "w") as stream:
        stream.write(text.replace(old, new))
    return file


def test_modules_of_pytorch_lightning_are_lightnings(tmp_path, monkeypatch):
    (tmp_path / "older.py").write_text(
        "import pytorch_lightning as pl\nfrom pytorch_lightning.callbacks import EarlyStopping\n"
        "class Lit(pl.LightningModule):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pytorch_lightning"]:
        monkeypatch.delitem(sys.modules, name)
    finders = [*sys.meta_path]
    with left_as_found():
        assert issubclass(find_class_path("older.Lit"), lightning.pytorch.LightningModule)
        assert sys.modules["pytorch_lightning"] is lightning.pytorch
        assert lightning.pytorch.__spec__.name == "lightning.pytorch"
    assert not [name for name in sys.modules if name.partition(".")[0] == "pytorch_lightning"]
    assert not [finder for finder in sys.meta_path if finder not in finders]
    del sys.modules["older"]


@pytest.mark.parametrize("has_level", [True, False])
def test_classes_that_only_the_program_names(has_level, file):
    with open(file) as stream:
        data = yaml.safe_load(stream)["fit"]
    data["model"] = {"width": 8}
    with open(file, "w") as stream:
        yaml.safe_dump({"fit": data} if has_level else data, stream)
    told = r"cli.yaml:\d+: model: has no class_path. Print the config with subclass_mode_model=True, or write"
    with pytest.raises(ConfigError, match=told):
        load_config(file)
