"""What users of Lightning set and write: each trains, and what it leaves passes the export's gate."""

import csv
import json
import sys

import pytest
import torch

from otter_ray.config import Config
from otter_ray.export.evaluation import measure_checkpoint
from otter_ray.export.exporter import export_checkpoint
from otter_ray.train.checks.validation import check_config
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.tracking.loggers import open_loggers, prepare_loggers
from otter_ray.train.tracking.tensorboard_hparams import HParams
from otter_ray.train.trainer import run_training

PROJECT = """
import lightning as L
import torch
from otter_ray import BaseMixin
from torch import nn

class Grey(torch.utils.data.Dataset):
    "Noise, whose label says whether it is bright."
    num_classes = 2
    def __init__(self, count, seed=0):
        self.count, self.seed = count, seed
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        label = index % 2
        return torch.rand(3, 8, 8, generator=generator) * 0.5 + 0.5 * label, label

def as_dicts(items):
    images, labels = zip(*items)
    labels = torch.tensor(labels)
    return torch.stack(images), {"class": labels, "sides": (labels, ["8 px"] * len(items))}

class Part(nn.Module):
    def __init__(self, **options):
        super().__init__()

class Net(BaseMixin, L.LightningModule):
    METRICS = ("loss", "valid_accuracy")
    SCORES = ("valid_accuracy",)
    def __init__(self, config):
        super().__init__()
        self.config = config
        features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.net = nn.Sequential(features, nn.Linear(144, 2))
        self.seen = []

    def forward(self, img):
        return self.net(img)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        labels = labels["class"] if isinstance(labels, dict) else labels
        loss = nn.functional.cross_entropy(self(images).float(), labels)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.append((self(images), labels["class"] if isinstance(labels, dict) else labels))

    def on_validation_epoch_end(self):
        outputs, labels = (torch.cat(part) for part in zip(*self.seen))
        self.seen.clear()
        self.log_dict(self.score(outputs, {"class": labels}))

    def score(self, outputs, labels):
        labels = labels["class"] if isinstance(labels, dict) else labels
        return {"valid_accuracy": (outputs.argmax(1) == labels).double().mean().item()}

    def on_save_checkpoint(self, checkpoint):
        "A hook of its own, which does not call BaseMixin's."

class Witness(L.Callback):
    "Notes the run that a trial has in W&B."
    runs = []
    def on_train_end(self, trainer, pl_module):
        run = trainer.logger.experiment
        self.runs.append((run.id, run.name, run.group, run.project, dict(run.config)))

class Whole(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
    def forward(self, img):
        return self.model(img)
"""
PART = {"name": "Part"}
CONFIG = {
    "project": "grey_project",
    "common": {"batch_size": 8, "image_size": [8, 8]},
    "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
    "model": {"name": "Net", "backbone": PART, "head": PART, "loss": PART},
    "onnx": {
        "name": "Whole",
        "input_shape": {"img": {"shape": [1, 3, 8, 8]}},
        "input_names": ["img"],
        "output_names": ["logits"],
    },
    "dataset": {
        "train_options": {"name": "Grey", "options": {"count": 32}},
        "valid_options": {"name": "Grey", "options": {"count": 20, "seed": 1}},
    },
    "dataloader": {"train_options": {"shuffle": True}, "valid_options": {}},
    "optimizer": {"name": "AdamW", "options": {"lr": 0.01}},
}
LINEAR = {"name": "LinearLR", "options": {"start_factor": 0.1, "total_iters": 2}}
PARTS = {"schedulers": [LINEAR, {"name": "CosineAnnealingLR", "options": {"T_max": -1}}], "milestones": [2]}
BY_STEP = {"interval": "step"}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Checks and trains the config with some values changed; gives the run's folder."""
    (tmp_path / "grey_project.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "grey_project", raising=False)

    def train(name="run", hooks=None, checkpoint=None, **values):
        config = Config.from_dict(CONFIG, "grey").with_values(values)
        check_config(config, "valid_accuracy", starts=checkpoint is None)
        options = RunOptions(metric="valid_accuracy", cpus=1, checkpoint=checkpoint)
        run_training(config, tmp_path / name, lambda report: None, options, hooks or RunHooks())
        return tmp_path / name

    return train


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": {"name": "Lion", "options": {"lr": 0.001}}},
        {"lr_scheduler": {"name": "SequentialLR", "options": PARTS, "pl_options": BY_STEP}},
        {"lr_scheduler": {"name": "CosineLRScheduler", "options": {"t_initial": -1}, "pl_options": BY_STEP}},
        {"lr_scheduler": {"name": "CosineLRScheduler", "options": {"t_initial": -1, "warmup_t": 1}}},
        {"lr_scheduler": {"name": "ReduceLROnPlateau", "pl_options": {"monitor": "valid_accuracy"}}},
        {
            "callbacks": [
                {"name": "GradientAccumulationScheduler", "options": {"scheduling": {"0": 2, "1": 1}}}
            ],
            "lr_scheduler": {
                "name": "OneCycleLR",
                "options": {"max_lr": 0.1, "total_steps": -1},
                "pl_options": BY_STEP,
            },
        },
        {"callbacks": [{"name": "EMAWeightAveraging", "options": {"decay": 0.5}}]},
        {"trainer.precision": "64-true"},
        {"trainer.precision": "bf16-true"},
        {"trainer.precision": "bf16-mixed"},
        {"trainer.val_check_interval": 0.5},
        {"trainer.max_steps": 6},
        {
            "dataloader.train_options.collate_fn": "as_dicts",
            "dataloader.valid_options.collate_fn": "as_dicts",
        },
        {"dataloader.train_options": {"sampler": "RandomSampler"}},
        {
            "logger": [
                {"name": "CSVLogger", "options": {"save_dir": "a"}},
                {"name": "CSVLogger", "options": {"save_dir": "b"}},
            ]
        },
    ],
    ids=lambda values: json.dumps(values)[:60],
)
def test_it_trains_and_passes_the_gate(trained, values):
    folder = trained(**values)
    best = folder / "checkpoints/best.ckpt"
    exported = export_checkpoint(best, folder, project=CONFIG["project"])
    assert exported.gate.images == 20
    measured = measure_checkpoint(best, CONFIG["project"])
    assert exported.gate.metrics["valid_accuracy"] == measured.value
    if "logger" in values:
        assert [len([*csv.DictReader((folder / name / "metrics.csv").open())]) for name in "ab"] == [2, 2]


def test_a_run_with_a_schedule_of_timm_goes_on_where_it_was(trained, tmp_path):
    values = {
        "lr_scheduler": {"name": "CosineLRScheduler", "options": {"t_initial": 8}, "pl_options": BY_STEP},
        "optimizer": {"name": "Lion", "options": {"lr": 0.001}},
    }

    def weights(folder):
        record = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        return record["state_dict"]["net.1.weight"], record["optimizer_states"][0]["param_groups"][0]["lr"]

    whole = weights(trained("whole", **values))
    half = trained("half", **values, **{"trainer.max_epochs": 1})
    trained("half", checkpoint=half / "checkpoints/last.ckpt", **values)
    resumed = weights(half)
    assert torch.equal(whole[0], resumed[0])
    assert whole[1] == resumed[1] < 0.001


def trials(trained, logger, **values):
    """Two trials of one study, one after the other in this process; the second is tried again."""
    last = None
    for trial, lr, epochs in ((0, 0.01, 1), (1, 0.02, 1), (1, 0.02, 2)):
        hparams = HParams(f"grey/{trial:04d} lr={lr}", "grey/study", {"optimizer.options.lr": lr})
        changes = {"logger": logger, "optimizer.options.lr": lr, "trainer.max_epochs": epochs, **values}
        hooks = RunHooks(hparams=hparams)
        folder = trained(f"trials/{trial:04d}", hooks, last if epochs == 2 else None, **changes)
        last = folder / "checkpoints/last.ckpt"


def test_a_trial_is_one_run_of_mlflow(trained, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    logger = {"name": "MLFlowLogger", "options": {"tracking_uri": uri}}
    # Twice: a resumed study has its experiment already.
    for _ in range(2):
        prepare_loggers(
            Config.from_dict(CONFIG | {"logger": logger, "project": "docclassifier"}), "grey/study"
        )
    trials(trained, logger)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("grey/study")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    assert [run.info.run_name for run in runs] == ["grey/0000 lr=0.01", "grey/0001 lr=0.02"]
    assert [run.data.params for run in runs] == [{"optimizer.options.lr": str(lr)} for lr in (0.01, 0.02)]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert all("valid_accuracy" in run.data.metrics for run in runs)
    steps = [len(client.get_metric_history(run.info.run_id, "valid_accuracy")) for run in runs]
    assert steps == [1, 2]


def test_a_trial_that_a_scheduler_stops_has_not_failed(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    logger = {"name": "MLFlowLogger", "options": {"tracking_uri": uri}}
    config = Config.from_dict(CONFIG | {"logger": logger, "project": "docclassifier"}, "grey")
    runs = []

    def stopped():
        with open_loggers(config, tmp_path, None) as (opened,):
            runs.append(opened.run_id)
            opened.finalize("failed")  # as Lightning does
            raise SystemExit

    with pytest.raises(SystemExit):
        stopped()
    assert mlflow.MlflowClient(uri).get_run(runs[0]).info.status == "FINISHED"


def test_a_trial_is_one_run_of_wandb(trained, tmp_path, monkeypatch):
    """A process has one run at a time: without an end of each, a trial would log to the one before."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    trials(
        trained,
        {"name": "WandbLogger", "options": {"offline": True, "save_dir": "logger"}},
        callbacks=[{"name": "Witness"}],
    )
    assert wandb.run is None
    second = ("grey-study-0001", "grey/0001 lr=0.02", "grey/study", "grey", {"optimizer.options.lr": 0.02})
    first = ("grey-study-0000", "grey/0000 lr=0.01", "grey/study", "grey", {"optimizer.options.lr": 0.01})
    assert sys.modules["grey_project"].Witness.runs == [first, second, second]
    kept = [path.parent.parent.parent.name for path in tmp_path.glob("trials/*/logger/wandb/offline-run-*")]
    assert sorted(kept) == ["0000", "0001", "0001"]
