"""Several processes for one run: real `torchrun`, gloo on CPU."""

import os
import re
import subprocess
import sys

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from otter_ray.config import load_config
from otter_ray.train.builders import build_datasets, load_model_from_config
from otter_ray.train.checkpoint.checkpoint_io import read_checkpoint
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training
from tests.support.commands import run_here

# A project whose model leaves behind what each rank ended with.
WITNESS = """
import os
import torch
from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier import ClassifierModel as Original


class ClassifierModel(Original):
    def on_train_end(self):
        if "RANK" not in os.environ:
            return
        shared = [value.clone() for name, value in self.named_parameters() if name != "loss.weight"]
        torch.save(shared, os.environ["WITNESS"] + os.environ["RANK"] + ".pt")
"""
SETS = {
    "dataset.train_options.options.drawn": 41,
    "project": "witness",
    "trainer.gradient_clip_val": 0.1,
    # 25 images: one rank has 13 of them in two batches, the other 12 in one. 35 classes: shards of 18 and 17.
    "dataset.valid_options.options.held_out": 5,
    "dataset.valid_options.options.captures": 5,
    "dataloader.valid_options.batch_size": 12,
}


def torchrun(tiny_sets, place, *arguments):
    """`torchrun --nproc-per-node 2 -m otter_ray.train demo ...` in the folder `place`."""
    sets = [*tiny_sets, *(part for key, value in SETS.items() for part in ("--set", f"{key}={value}"))]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [
            sys.executable,
            *launch,
            "-m",
            "otter_ray.train",
            "demo",
            *sets,
            "--cpus",
            "1",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "WITNESS": f"{place}/rank"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "witness.py").write_text(WITNESS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def done(place, tiny_sets):
    """A finished run of two ranks."""
    done = torchrun(tiny_sets, place, "--folder", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def config(place, tiny_config):
    return tiny_config.with_values(SETS)


def test_each_epoch_is_told_once(done, place):
    told = re.findall(r"^epoch (\d): ", done.stdout + done.stderr, re.MULTILINE)
    assert told == ["1", "2"]
    assert len(re.findall("best checkpoint: ", done.stdout)) == 1
    assert {path.name for path in (place / "run").iterdir()} >= {"config.yaml", "model.json", "preview"}


def test_the_metric_is_that_of_one_process(done, place, config):
    last = place / "run/checkpoints/last.ckpt"
    written = load_config(str(place / "run/config.yaml"))
    model = load_model_from_config(written, last)
    _, valid = build_datasets(config)
    assert len(valid) == 25
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    trainer.validate(model, DataLoader(valid, batch_size=25), verbose=False)
    recorded = read_checkpoint(last)["metrics"]
    for name in ("valid_fpr@4", "valid_auc"):
        assert float(trainer.callback_metrics[name]) == pytest.approx(recorded[name], abs=1e-6)


def test_a_checkpoint_knows_nothing_of_ranks(done, place, config, tmp_path):
    """One process goes on from it for an epoch, two go on from that one's."""
    record = read_checkpoint(place / "run/checkpoints/last.ckpt")
    classes = load_config(str(place / "run/config.yaml")).get("model.loss.num_classes")
    assert classes % 2
    assert record["state_dict"]["loss.weight"].shape == (classes, 128)
    moments = record["optimizer_states"][0]["state"][record["centres"]]
    assert moments["exp_avg"].shape == (classes, 128)
    assert (moments["exp_avg_sq"].sum(1) > 0).all()


@pytest.mark.usefixtures("done")
def test_what_is_shared_stays_the_same_on_every_rank(place):
    """Although a small bound clips each step, and each rank has other centres."""
    first, second = (torch.load(place / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(first) > 50
    assert all(map(torch.equal, first, second))


@pytest.mark.usefixtures("done")
def test_one_process_goes_on_from_two_and_two_from_one(place, config, tiny_sets):
    longer = config.with_values({"trainer.max_epochs": 3})
    epochs = []
    run_training(
        longer,
        place / "run",
        lambda epoch: epochs.append(epoch.epoch),
        RunOptions(cpus=1, checkpoint=place / "run/checkpoints/last.ckpt"),
        RunHooks(),
    )
    assert epochs == [3]
    again = torchrun(tiny_sets, place, "--folder", "run", "--resume", "--set", "trainer.max_epochs=4")
    assert again.returncode == 0, again.stderr
    assert re.findall(r"^epoch (\d): ", again.stdout + again.stderr, re.MULTILINE) == ["4"]


def test_several_processes_need_the_name_of_their_folder(monkeypatch, tiny_sets, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun does
    failed = run_here("otter_ray.train", "demo", *tiny_sets)
    assert failed.returncode == 2
    assert "--folder: is not given, but 2 processes need the same one. Name it." in failed.stderr
    assert not list(tmp_path.iterdir())
