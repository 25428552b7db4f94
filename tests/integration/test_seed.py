"""The seed's config, as a user of Otter has it, from training to ONNX."""

import json
import shutil

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import save_file

from otter_ray.config import find_config, load_config
from otter_ray.errors import DataError
from otter_ray.projects.docclassifier import CaptureDataset
from otter_ray.train.builders import build_datasets
from otter_ray.vision.drawing import draw_document
from tests.support.commands import run_here

NAME = "lcnet050_cosface_f256_r128_squeeze_lbn_imagenet"
# Paths and accelerator are the user's. The rest only makes it small enough for a test.
SMALL = {
    "common.batch_size": 16,
    "trainer.max_epochs": 2,
    "dataset.train_options.options.length_of_dataset": 32,
}


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three folders: documents, other images in a tree, photographs of three other documents."""
    root = tmp_path_factory.mktemp("seed_data")
    for index in range(12):
        write(draw_document(index, seed=9), root / "documents" / f"{index}.png")
        write(draw_document(index, seed=5)[::-1], root / "imagenet" / f"n{index % 3}" / f"{index}.png")
    shots = CaptureDataset((128, 128), drawn=12, held_out=3, captures=4, return_tensor=False)
    for index in range(len(shots)):
        image, label = shots[index]
        write(image, root / "photographs" / f"document_{label}" / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub's cache that holds weights for LCNet-050, as if downloaded once."""
    import timm

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub")
    source = timm.create_model("lcnet_050")
    repository = source.pretrained_cfg["hf_hub_id"] or "timm/lcnet_050.ra2_in1k"
    place = folder / f"models--{repository.replace('/', '--')}"
    (place / "snapshots" / "0").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0")
    save_file(source.state_dict(), place / "snapshots" / "0" / "model.safetensors")
    return folder, source


@pytest.fixture(scope="module")
def sets(data):
    values = {
        "trainer.accelerator": "cpu",
        "dataset.train_options.options.root": data / "documents",
        "dataset.train_options.options.imagenet_root": data / "imagenet",
        "dataset.valid_options.options.root": data / "photographs",
        **SMALL,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def home(tmp_path_factory, hub):
    """A working directory and a hub that cannot be reached but by its cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.chdir(folder)
        # For this process, which has read its environment, and for those that it starts.
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub[0]))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setenv("HF_HUB_CACHE", str(hub[0]))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="module")
def run(home, sets):
    done = run_here("otter_ray.train", NAME, *sets, "--folder", f"runs/{NAME}/first")
    assert done.returncode == 0, done.stderr
    return home / "runs" / NAME / "first"


def test_the_shipped_config_is_the_seeds():
    shipped = yaml.safe_load(find_config(NAME).read_text())
    seed = yaml.safe_load((find_config(NAME).parents[1] / "tests" / "support" / "seed.yaml").read_text())
    assert shipped == seed


def test_every_part_of_it_does_what_it_says(run):
    left = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    # ModelCheckpoint: the best five and the last; TensorBoardLogger; the record of the run.
    kept = {name for name in left if name.startswith("checkpoints/callback/")}
    assert {name.rsplit("/")[-1] for name in kept} == {
        "epoch=0-step=2.ckpt",
        "epoch=1-step=4.ckpt",
        "last.ckpt",
    }
    assert any(name.startswith("logger/events.out.tfevents") for name in left)
    assert {"config.yaml", "environment.json", "model.json"} <= left
    written = load_config(str(run / "config.yaml"))
    assert written.model.loss.arguments["num_classes"] == 24
    record = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert record["lr_schedulers"][0]["last_epoch"] == 4
    assert record["optimizer_states"][0]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert json.loads((run / "model.json").read_text())["parameters_of"]["loss"] == 24 * 256


@pytest.mark.usefixtures("home")
def test_pretrained_weights_are_where_it_starts(hub):
    from otter_ray.projects.docclassifier import Backbone

    model = Backbone("timm_lcnet_050", pretrained=True).model
    own, theirs = model.state_dict(), hub[1].state_dict()
    shared = own.keys() & theirs.keys()
    assert len(shared) > 100
    assert all(torch.equal(own[name], theirs[name]) for name in shared)


def test_it_is_exported_as_it_asks(run):
    done = run_here("otter_ray.export", run)
    assert done.returncode == 0, done.stderr
    assert "warning: onnx.dynamic_axes names 'output'" in done.stderr
    assert "UserWarning" not in done.stderr
    (path,) = run.rglob("*.onnx")
    session = onnxruntime.InferenceSession(str(path))
    (given,), (taken,) = session.get_outputs(), session.get_inputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("img", "tensor(float)", [3, 128, 128])
    assert (given.name, given.shape[1:]) == ("feats", [256])
    for count in (1, 5):
        (feats,) = session.run(None, {"img": np.random.rand(count, 3, 128, 128).astype(np.float32)})
        assert feats.shape == (count, 256)
        np.testing.assert_allclose(np.linalg.norm(feats, axis=1), 1, rtol=1e-5)
    assert json.loads(path.with_suffix(".json").read_text())["gate"]["opset"] == 16


def test_a_study_takes_it_too(home, sets, tune):
    """Its own fork server knows the hub of `home`: the shared one read its environment before."""
    sets = [*sets, "--set", "trainer.max_epochs=3"]  # the space lets no trial be stopped before
    code, output = tune(NAME, *sets, "--trials", 2, "--name", "study", folder=home, own_server=True).end()
    assert code == 0, output
    assert "gate passed: opset 16" in output
    assert len(list((home / "runs" / NAME / "study").glob("*.onnx"))) == 1


@pytest.fixture(scope="module")
def second_stage(sets, tmp_path_factory):
    """The `--set`s of the second stage, with a tiny tower."""
    import timm

    tower = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"
    file = tmp_path_factory.mktemp("tower") / "tower.safetensors"
    save_file(timm.create_model(tower).state_dict(), file)
    extra = {
        "common.restore_ind": "first",
        "model.teacher.options.name": tower,
        "model.teacher.options.checkpoint": file,
        "lr_scheduler.options.warmup_milestone": 1,
        "lr_scheduler.options.milestones": [1, 2],
        "trainer.max_epochs": 1,
    }
    return [*sets, *(part for key, value in extra.items() for part in ("--set", f"{key}={value}"))]


def test_the_second_stage_as_a_study(home, run, second_stage, tune):
    arguments = [f"{NAME}_finetune", *second_stage, "--trials", 1, "--name", "second"]
    code, output = tune(*arguments, folder=home, own_server=True).end()
    assert code == 0, output
    assert f"starts from {run}/checkpoints/last.ckpt (epoch 2, valid_fpr@4" in output
    assert "gate passed: opset 16" in output


def test_the_second_stage(run, second_stage, tmp_path):
    folder, checkpoint = tmp_path / "second", "common.restore_ckpt=epoch=0-step=2.ckpt"
    done = run_here(
        "otter_ray.train", f"{NAME}_finetune", *second_stage, "--set", checkpoint, "--folder", folder
    )
    assert done.returncode == 0, done.stderr
    assert "clip_loss" in done.stdout
    record = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert not [name for name in record["state_dict"] if "teacher" in name]
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "key", ["train_options.options.root", "train_options.options.imagenet_root", "valid_options.options.root"]
)
def test_a_root_that_is_not_there_names_its_key(sets, key):
    with pytest.raises(DataError, match=f"^dataset.{key} is '/not/there' but there is no such folder. Set"):
        build_datasets(load_config(NAME, [*sets[1::2], f"dataset.{key}=/not/there"]))
