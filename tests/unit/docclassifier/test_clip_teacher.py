import os

import numpy as np
import onnx
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from otter_ray.config import Config, load_config
from otter_ray.errors import ConfigError, TrainingError
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.docclassifier import ClassifierModel, ClipTeacher
from otter_ray.projects.docclassifier.modeling.clip_teacher import TOWER, ClipDistillation
from otter_ray.train.builders import build_model
from otter_ray.train.checks.validation import Checker
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training

TINY = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"

# A project whose training set gives clean images, too: noise, dimmed.
TRIPLES = """
import torch
from otter_ray.projects.docclassifier import *

class Triples(torch.utils.data.Dataset):
    num_classes = 4

    def __init__(self, image_size):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(16, 3, *image_size, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index] / 2, index % 4, self.images[index]

class Pairs(Triples):
    def __getitem__(self, index):
        return super().__getitem__(index)[:2]
"""


@pytest.fixture(scope="module")
def weights():
    """The tiny tower's, drawn at random. An untrained tower sees hardly any difference between images."""
    torch.manual_seed(0)
    tower = timm.create_model(TINY)
    return {key: value * (3 if value.ndim > 1 else 1) for key, value in tower.state_dict().items()}


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    """The weights as .safetensors and as .pt."""
    folder = tmp_path_factory.mktemp("tower")
    paths = {suffix: folder / f"tower.{suffix}" for suffix in ("safetensors", "pt")}
    safetensors.torch.save_file(weights, paths["safetensors"])
    torch.save(weights, paths["pt"])
    return paths


@pytest.fixture(scope="module")
def teacher(files):
    return ClipTeacher(TINY, checkpoint=str(files["safetensors"]))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and nothing in the hub's cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def clip_config(tiny_config, files):
    """Two epochs of two steps that follow the tiny tower."""
    return tiny_config.with_values(
        {
            "project": "triples_project",
            "common.use_clip": True,
            "common.batch_size": 8,
            "model.teacher": {
                "name": "ClipTeacher",
                "options": {"name": TINY, "checkpoint": str(files["pt"])},
            },
            "dataset.train_options": {"name": "Triples"},
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "triples_project.py").write_text(TRIPLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def clip_run(clip_config, project, tmp_path_factory):
    """(best checkpoint, reports) of a run with the teacher."""
    reports = []
    best = run_training(clip_config, tmp_path_factory.mktemp("clip_run"), reports.append, RunOptions(cpus=1))
    return best, reports


def pixels(height, width):
    """Noise that bicubic resizing leaves within 0 ... 255, and black and white stripes that overshoot."""
    noise = np.random.default_rng(0).integers(64, 192, (height, width, 3), dtype=np.uint8)
    stripes = np.broadcast_to(np.arange(width)[:, None] // 5 % 2 * 255, noise.shape).astype(np.uint8)
    return torch.from_numpy(np.stack([noise, stripes]))


@pytest.mark.parametrize("size", [(224, 224), (48, 64), (400, 300)])
def test_the_tower_sees_what_timms_own_transform_gives(teacher, size):
    data = timm.data.resolve_model_data_config(teacher.tower)
    transform = timm.data.create_transform(**{**data, "crop_pct": 1.0, "crop_mode": "squash"})
    images, seen = pixels(*size), []
    hook = teacher.tower.register_forward_pre_hook(lambda tower, inputs: seen.append(inputs[0]))
    features = teacher(images.permute(0, 3, 1, 2) / 255)
    hook.remove()
    expected = torch.stack([transform(Image.fromarray(image.numpy())) for image in images])
    # PIL rounds to whole levels of 255, after each of its two passes.
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=2 / 255 / min(data["std"]))
    with torch.no_grad():
        torch.testing.assert_close(features, F.normalize(teacher.tower(seen[0])))


def test_features_are_unit_vectors_that_tell_images_apart(teacher):
    features = teacher(torch.rand(3, 3, 32, 32))
    assert (features.shape, features.dtype) == ((3, 512), torch.float32)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert not torch.allclose(features[0], features[1], atol=1e-3)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_local_checkpoint(files, weights, suffix):
    tower = ClipTeacher(TINY, checkpoint=str(files[suffix])).tower
    assert all(torch.equal(value, weights[key]) for key, value in tower.state_dict().items())


def test_the_teacher_stays_frozen(teacher):
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize(
    "name",
    [TINY, "resnet50_clip.openai", "convnext_base.clip_laion2b", "vitamin_small_224.datacomp1b_clip"],
)
def test_the_width_is_known_without_the_tower(name):
    with torch.device("meta"):
        tower = timm.create_model(name).eval()
        assert tower(torch.rand(1, *tower.pretrained_cfg["input_size"])).shape == (1, ClipTeacher.width(name))


def test_the_default_tower_is_openais_with_its_own_activation():
    assert ClipTeacher.width() == 512
    with torch.device("meta"):
        tower = timm.create_model(TOWER)
    assert type(tower.blocks[0].mlp.act).__name__ == "QuickGELU"
    assert tower.pretrained_cfg["hf_hub_id"] == "timm/vit_base_patch32_clip_224.openai"


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch32_clip_224.opnai",
        "vit_base_patch32_clip_224",  # timm would take a tag that classifies ImageNet
        "vit_base_patch32_clip_224.openai_ft_in1k",
    ],
)
def test_a_tower_that_is_none(name):
    with pytest.raises(ValueError, match=rf"no CLIP image tower '{name}'.*Did you mean.*_224.openai'"):
        ClipTeacher(name)


@pytest.mark.usefixtures("offline")
def test_no_network_and_no_file():
    with pytest.raises(TrainingError) as caught:
        ClipTeacher()
    for text in (
        "timm/vit_base_patch32_clip_224.openai on the hub) could not be downloaded: ",
        "Start once with a network",
        "hub's cache",
        "model.teacher.options.checkpoint",
    ):
        assert text in str(caught.value)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_checkpoint_that_runs_code_is_refused(tmp_path, suffix):
    path = tmp_path / f"evil.{suffix}"
    torch.save({"head.weight": Malicious(tmp_path / "hacked")}, path)
    with pytest.raises(TrainingError, match=rf"evil.{suffix} cannot be read as weights: \w.*timm's weights"):
        ClipTeacher(TINY, checkpoint=str(path))
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("content", [b"", b"no weights"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_that_is_no_checkpoint(tmp_path, suffix, content):
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=rf"broken.{suffix} cannot be read as weights: \w"):
        ClipTeacher(TINY, checkpoint=str(path))


def test_a_checkpoint_that_is_missing(tmp_path):
    with pytest.raises(TrainingError, match=r"checkpoint: there is no file .*gone.pt. Give a .safetensors"):
        ClipTeacher(TINY, checkpoint=str(tmp_path / "gone.pt"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: {**weights, "head.weight": torch.zeros(1000, 256)}, "head.weight"),
        (lambda weights: {k: v for k, v in weights.items() if k != "pos_embed"}, "pos_embed"),
        (lambda weights: {**weights, "spare": torch.zeros(1)}, "spare"),
        (lambda weights: {**weights, "cls_token": 3}, "cls_token"),
    ],
)
def test_weights_of_another_architecture(weights, tmp_path, change, named):
    torch.save(change(weights), tmp_path / "other.pt")
    with pytest.raises(
        TrainingError, match=rf"weights of another architecture than {TINY}.*{named} \(1 keys\)"
    ):
        ClipTeacher(TINY, checkpoint=str(tmp_path / "other.pt"))


def divergence(embeddings, projection, features):
    """The formula, in float64 and by hand."""
    projected = embeddings.double().numpy() @ projection.double().numpy().T
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    log_p, log_q = (
        x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (features.double().numpy(), unit)
    )
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_loss_is_the_divergence_of_the_two(precision):
    torch.manual_seed(0)
    distillation = ClipDistillation(16, 512)
    embeddings, features = torch.randn(6, 16), F.normalize(torch.randn(6, 512))
    with torch.autocast("cpu", dtype=precision, enabled=precision is not torch.float32):
        loss = distillation(embeddings, features)
    expected = divergence(embeddings, distillation.projection.weight.detach(), features)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(1 / 512, rel=0.2)


def test_a_student_that_agrees_loses_nothing():
    distillation, features = ClipDistillation(8, 8), F.normalize(torch.randn(4, 8))
    nn.init.eye_(distillation.projection.weight)
    assert distillation(7 * features, features).item() == pytest.approx(0, abs=1e-7)


def test_gradients_reach_the_student_and_the_projection_only(teacher):
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    student, distillation = nn.Linear(12, 4), ClipDistillation(4, 512)
    distillation(student(torch.rand(2, 12)), teacher(images)).backward()
    for parameter in (*student.parameters(), *distillation.parameters()):
        assert parameter.grad.abs().sum() > 0
    assert images.grad is None
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_run_learns_from_both(clip_run):
    _, reports = clip_run
    assert [report.epoch for report in reports] == [1, 2]
    for report in reports:
        assert {"margin_loss", "clip_loss", "valid_fpr@4"} <= report.metrics.keys()
        both = report.metrics["margin_loss"] + report.metrics["clip_loss"]
        assert report.metrics["loss"] == pytest.approx(both, rel=1e-6)
    assert 0 < reports[1].metrics["clip_loss"] < reports[0].metrics["clip_loss"]


def test_a_checkpoint_holds_the_projection_and_no_teacher(clip_run):
    record = torch.load(clip_run[0], weights_only=True)
    assert {key.split(".")[0] for key in record["state_dict"]} == {"backbone", "head", "loss", "distillation"}
    model = ClassifierModel(Config.from_dict(record["config"], "demo"))
    assert [key for key in model.state_dict() if key.startswith("distillation.")] == [
        "distillation.projection.weight"
    ]
    (optimizer,) = record["optimizer_states"]
    trained = sum(len(group["params"]) for group in optimizer["param_groups"])
    assert trained == len(list(model.parameters()))
    assert model.teacher == ()


def test_the_export_needs_no_teacher(clip_run, tmp_path):
    record = torch.load(clip_run[0], weights_only=True)
    gone = {"model.teacher.options.checkpoint": str(tmp_path / "gone.pt")}
    config = Config.from_dict(record["config"], "demo").with_values(gone)
    exported = export_checkpoint(clip_run[0], tmp_path, config)
    names = [tensor.name for tensor in onnx.load(str(exported.onnx)).graph.initializer]
    assert names
    assert not [name for name in names if "distillation" in name or "tower" in name]


def test_the_teacher_is_built_for_a_fit_only(clip_config, project):
    model = build_model(clip_config.with_values({"model.loss.num_classes": 4}))
    for stage in ("validate", "test", "predict"):
        model.setup(stage)
        assert model.teacher == ()
    before = list(model.state_dict())
    model.setup("fit")
    assert isinstance(model.teacher[0], ClipTeacher)
    assert list(model.state_dict()) == before
    assert not any(isinstance(module, ClipTeacher) for module in model.modules())


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
def test_a_steps_loss(clip_config, project, monkeypatch):
    """Labels belong to the augmented images, the teacher to the clean ones."""
    model = build_model(clip_config.with_values({"model.loss.num_classes": 4})).eval()
    model.setup("fit")
    monkeypatch.setattr(model, "get_lr", lambda: 0.0)  # there is no trainer to ask
    images, clean = torch.rand(2, 3, 3, 32, 32)
    labels = torch.tensor([3, 0, 1])
    expected = model.loss(model(images), labels)
    expected = expected + 100 * model.distillation(model(clean), model.teacher[0](clean))
    # A hundredfold, or the margin loss would drown it.
    model.distillation.register_forward_hook(lambda module, inputs, loss: 100 * loss)
    torch.testing.assert_close(model.training_step([images, labels, clean], 0), expected, rtol=1e-4, atol=0)


@pytest.mark.usefixtures("offline")
def test_a_fit_whose_teacher_cannot_be_had_ends_before_it_starts(tiny_config):
    model = build_model(tiny_config.with_values({"common.use_clip": True, "model.loss.num_classes": 4}))
    with pytest.raises(TrainingError, match="the CLIP teacher's weights"):
        model.setup("fit")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"common.use_clip": False},
            r"use_clip is false, but .* \(image, label, clean image\)\. Set it to true, or",
        ),
        (
            {"dataset.train_options.name": "Pairs"},
            r"use_clip is true, but .* \(image, label\)\. Set it to false, or",
        ),
    ],
)
def test_clean_images_without_a_teacher_and_the_other_way(clip_config, project, tmp_path, change, says):
    with pytest.raises(TrainingError, match=says):
        run_training(clip_config.with_values(change), tmp_path, print, RunOptions(cpus=1), RunHooks())


def test_a_wrong_tower_is_told_before_anything_starts():
    checker, config = (
        Checker(0),
        load_config("demo", ["model.teacher={name: ClipTeacher, options: {name: x}}"]),
    )
    assert checker.problems(config) == []
    (problem,) = checker.problems(config.with_values({"common.use_clip": True}))
    assert problem.key == "model.teacher.options"
    assert "ClipTeacher refuses them: timm has no CLIP image tower 'x'" in problem.message
    assert checker.problems(load_config("demo", ["common.use_clip=true"])) == []


def test_a_teacher_that_is_not_used_is_not_looked_at(tiny_config):
    section = {"name": "ClipTeacher", "options": {"checkpoint": "gone.pt"}}
    model = build_model(tiny_config.with_values({"model.teacher": section, "model.loss.num_classes": 4}))
    model.setup("fit")
    assert model.teacher == ()
    assert not [key for key in model.state_dict() if key.startswith("distillation")]


def test_a_teacher_must_have_a_name(tiny_config):
    with pytest.raises(ConfigError, match=r"model.teacher.name"):
        tiny_config.with_values({"model.teacher": {"options": {}}})
