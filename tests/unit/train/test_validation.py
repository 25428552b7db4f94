import re

import pytest
import torch

from otter_ray.config import find_config, load_config
from otter_ray.errors import ConfigError
from otter_ray.projects import docclassifier
from otter_ray.train.checks.option_checks import settings_problems
from otter_ray.train.checks.trainer_checks import precision_flaws
from otter_ray.train.checks.validation import Checker, check_config
from otter_ray.train.model.declared_metrics import metric_problem

SHIPPED = sorted(find_config("demo").parent.glob("*.yaml"))

# (--set, key of the problem, what its message says)
MISTAKES = [
    ("optimizer.name=AdmW", "optimizer.name", ["no class 'AdmW'", "Did you mean 'AdamW'"]),
    ("optimizer.options.momentm=0.9", "optimizer.options.momentm", ["AdamW has no argument 'momentm'"]),
    ("optimizer.options.weigth_decay=0.1", "optimizer.options.weigth_decay", ["Did you mean 'weight_decay'"]),
    ("optimizer.options.lr=-1.0", "optimizer.options", ["AdamW refuses them", "-1.0"]),
    (
        "model.name=ClasifierModel",
        "model.name",
        ["Did you mean 'ClassifierModel'"],
    ),
    ("model.loss.name=CosFase", "model.loss.name", ["Did you mean 'CosFace'"]),
    (
        "model.loss.options.margin=0.4",
        "model.loss.options.margin",
        ["CosFace has no argument 'margin'. Its arguments: "],
    ),
    ("model.loss.num_clases=5", "model.loss.num_clases", ["Did you mean 'num_classes'"]),
    ("model.loss.options.s=-2", "model.loss.options", ["s is -2 but must be > 0"]),
    ("model.loss.embed_dim=64", "model.head.options.embed_dim", ["model.loss.embed_dim", "64", "128"]),
    ("model.head.name=Head", "model.head.name", ["no class 'Head'"]),
    ("model.head.options.embed_dm=3", "model.head.options.embed_dm", ["Did you mean 'embed_dim'"]),
    ("model.head.options.in_dim=7", "model.head.options.in_dim", ["contradicts model.backbone.options.name"]),
    (
        "model.backbone.options.name=lcnet_0500",
        "model.backbone.options",
        ["timm has no model", "'lcnet_050'"],
    ),
    ("dataset.train_options.options.drwn=9", "dataset.train_options.options.drwn", ["Did you mean 'drawn'"]),
    ("dataset.valid_options.name=Real", "dataset.valid_options.name", ["Did you mean 'RealDataset'"]),
    ("dataset.test_options.name=Real", "dataset.test_options.name", ["Did you mean 'RealDataset'"]),
    ("dataset.test_options.options.drwn=9", "dataset.test_options.options.drwn", ["Did you mean 'drawn'"]),
    (
        "dataset.train_options={name: RealDataset}",
        "dataset.train_options.name",
        ["RealDataset has no argument `test_dataset`", "remove dataset.test_options"],
    ),
    ("lr_scheduler.name=PolyLR", "lr_scheduler.name", ["no class 'PolyLR'", "Did you mean"]),
    ("lr_scheduler.options.powr=2", "lr_scheduler.options.powr", ["Did you mean 'power'"]),
    ("logger.name=TensorboardLoger", "logger.name", ["Did you mean 'TensorBoardLogger'"]),
    ("trainer.accelerator=gpu", "trainer.accelerator", ["no GPU is visible", "trainer.accelerator=cpu"]),
    ("trainer.gradient_clip=5", "trainer.gradient_clip", ["Did you mean 'gradient_clip_val'"]),
    ("trainer.logger=false", "trainer.logger", ["is given by the run itself. Remove it."]),
    ("dataloader.train_options.shufle=true", "dataloader.train_options.shufle", ["Did you mean 'shuffle'"]),
    ("dataloader.valid_options.dataset=x", "dataloader.valid_options.dataset", ["Remove it"]),
    ("callbacks.0.name=ModelCheckpont", "callbacks.0.name", ["Did you mean 'ModelCheckpoint'"]),
    ("callbacks.0.options.mode=maximum", "callbacks.0.options", ["ModelCheckpoint refuses them", "maximum"]),
    ("callbacks.0.options.save_topk=3", "callbacks.0.options.save_topk", ["Did you mean 'save_top_k'"]),
    ("callbacks.0.options.save_top_k=-3", "callbacks.0.options", ["refuses them", "save_top_k"]),
    (
        "callbacks.0.options.monitor=valid_fpr",
        "callbacks.0.options.monitor",
        ["never logs 'valid_fpr'", "Did you mean 'valid_fpr@4'"],
    ),
    ("trainer.precision=17", "trainer.precision", ["17", "bf16-mixed"]),
    ("trainer.devices=2", "trainer.devices", ["Set it to 1.", "torchrun", "workers_per_trial"]),
    ("trainer.devices=[0, 1]", "trainer.devices", ["one device"]),
    (
        "trainer.val_check_interval=0.3",
        "trainer.val_check_interval",
        ["does not divide an epoch", "such as 0.25"],
    ),
    ("trainer.limit_val_batches=2", "trainer.limit_val_batches", ["the whole validation set", "Remove it"]),
    ("trainer.limit_val_batches=1", "trainer.limit_val_batches", ["a part of the validation set"]),
    ("trainer.limit_val_batches=0.5", "trainer.limit_val_batches", ["a part of the validation set"]),
    ("trainer.fast_dev_run=true", "trainer.fast_dev_run", ["trainer.limit_train_batches=10"]),
    ("trainer.overfit_batches=0.1", "trainer.overfit_batches", ["validates on a few batches"]),
    (
        "dataloader.valid_options.drop_last=true",
        "dataloader.valid_options.drop_last",
        ["leaves out the last items", "Set it to false"],
    ),
    (
        "dataloader.valid_options.sampler=RandomSampler",
        "dataloader.valid_options.sampler",
        ["chooses among the validation set's items"],
    ),
    ("trainer.check_val_every_n_epoch=99", "trainer.check_val_every_n_epoch", ["a whole number from 1 to"]),
    ("trainer.check_val_every_n_epoch=null", "trainer.check_val_every_n_epoch", ["is None"]),
    ("trainer.precision=16-true", "trainer.precision", ["diverges", "Use 16-mixed, bf16-mixed"]),
    ("trainer.limit_train_batches=1.5", "trainer", ["Lightning's Trainer refuses it", "1.5"]),
    ("trainer.barebones=true", "trainer", ["Lightning's Trainer refuses it", "barebones"]),
    ("trainer.profiler=fastest", "trainer", ["Lightning's Trainer refuses it", "advanced"]),
    (
        "lr_scheduler={name: StepLR, options: {step_size: -1}}",
        "lr_scheduler.options.step_size",
        ["is -1", "Give the number"],
    ),
    (
        "callbacks.0={name: LearningRateFinder}",
        "callbacks.0.name",
        ["LearningRateFinder tries learning rates", "Search the learning rate"],
    ),
    ("callbacks.0={name: BatchSizeFinder}", "callbacks.0.name", ["Search the batch size"]),
    (
        "callbacks.0={name: StochasticWeightAveraging, options: {swa_lrs: 0.1}}",
        "callbacks.0.name",
        ["no checkpoint would have them", "EMAWeightAveraging"],
    ),
    ("logger={name: CometLogger}", "logger.name", ["needs the package comet-ml", "pip install comet-ml"]),
    (
        "logger=[{name: CSVLogger, options: {save_dir: logger}}, {name: CsvLogger}]",
        "logger.1.name",
        ["Did you mean 'CSVLogger'"],
    ),
    ("common.is_restore=true", "common.restore_ind", ["is not a run or finished study", "Name one"]),
    ("model.teacher={name: ClipTeachr}", "model.teacher.name", ["Did you mean 'ClipTeacher'"]),
    (
        "model.teacher={name: ClipTeacher, options: {nme: x}}",
        "model.teacher.options.nme",
        ["Did you mean 'name'"],
    ),
    (
        "dataset.train_options.options.use_clip=true",
        "dataset.train_options.options.use_clip",
        ["True but common.use_clip is False. Make them the same"],
    ),
    (
        "dataset.train_options.options.image_size=[32, 32]",
        "dataset.train_options.options.image_size",
        ["[32, 32] but common.image_size is [64, 64]"],
    ),
    (
        "callbacks.0={name: GradientAccumulationScheduler, options: {scheduling: {first: 2}}}",
        "callbacks.0.options",
        ["GradientAccumulationScheduler refuses them", "'first'"],
    ),
    (
        "callbacks.0={name: GradientAccumulationScheduler, options: {scheduling: 4}}",
        "callbacks.0.options",
        ["GradientAccumulationScheduler refuses them"],
    ),
    (
        "lr_scheduler={name: ReduceLROnPlateau, pl_options: {monitor: valid_fpr, interval: epoch}}",
        "lr_scheduler.pl_options.monitor",
        ["never logs 'valid_fpr'", "Did you mean 'valid_fpr@4'"],
    ),
    ("project=docclasifier", "project", ["neither a project of otter_ray nor a module that can be imported"]),
]


SILENT = """
from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier import ClassifierModel as Known

class ClassifierModel(Known):
    METRICS = ()
    SCORES = ()
"""


def found(config, gpus=0):
    return Checker(gpus).problems(config)


@pytest.mark.parametrize(("change", "key", "says"), MISTAKES, ids=[change for change, _, _ in MISTAKES])
def test_a_mistake_is_one_problem_at_its_key(change, key, says):
    (problem,) = found(load_config("demo", ["model.head.options.embed_dim=128", change]))
    assert problem.key == key
    assert problem.file is not None
    for words in says:
        assert words in problem.message


def test_all_mistakes_are_told_at_once():
    config = load_config("demo", ["optimizer.name=A", "trainer.fast=1", "callbacks.1.options.every=2"])
    with pytest.raises(ConfigError) as caught:
        check_config(config)
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {"optimizer.name", "trainer.fast", "callbacks.1.options.every"}
    assert len(str(caught.value).splitlines()) == 3


def test_a_problem_of_the_file_names_its_line(tmp_path):
    text = find_config("demo").read_text().replace("lr: 0.003", "lrr: 0.003")
    (tmp_path / "written.yaml").write_text(text)
    (problem,) = found(load_config(str(tmp_path / "written.yaml")))
    assert (problem.key, text.splitlines()[problem.line - 1].strip()) == (
        "optimizer.options.lrr",
        "lrr: 0.003",
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_passes(path):
    # The second stage starts from a run of the first, which is the user's.
    assert found(load_config(str(path), ["common.is_restore=false"]), gpus=1) == []


ACCUMULATING = """
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from otter_ray.projects.docclassifier import *

class Growing(GradientAccumulationScheduler):
    def __init__(self):
        super().__init__({0: 1, 2: 4})
"""


def test_a_projects_own_accumulation_is_one(tmp_path, monkeypatch):
    (tmp_path / "accumulating_project.py").write_text(ACCUMULATING)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = load_config("demo", ["project=accumulating_project", "callbacks.0={name: Growing}"])
    assert found(own) == []
    (problem,) = found(own.with_values({"trainer.accumulate_grad_batches": 2}))
    assert problem.key == "trainer.accumulate_grad_batches"
    assert "is decided by the callback Growing" in problem.message


def test_a_precision_whose_package_is_missing(monkeypatch):
    def build(**options):
        raise ModuleNotFoundError("No module named 'transformer_engine'")

    monkeypatch.setattr("lightning.Trainer", build)
    ((key, message),) = precision_flaws("transformer-engine")
    assert key == "trainer.precision"
    assert "needs a package that is not installed. No module named 'transformer_engine'" in message


def test_gpus_of_the_cluster_count():
    assert found(load_config("demo", ["trainer.accelerator=gpu"]), gpus=0.5) == []


def test_a_study_is_about_what_can_be_measured_on_the_exported_model():
    assert metric_problem(load_config("demo"), "valid_auc") == ""
    assert "Did you mean 'valid_auc'" in metric_problem(load_config("demo"), "valid_aux")
    assert "cannot be measured" in metric_problem(load_config("demo"), "loss")


def test_a_model_that_does_not_say_what_it_logs_may_log_anything(tmp_path, monkeypatch):
    (tmp_path / "silent_project.py").write_text(SILENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    silent = load_config("demo", ["project=silent_project", "callbacks.0.options.monitor=anything"])
    assert found(silent) == []
    assert metric_problem(silent, "anything") == ""


def test_pretrained_weights_are_not_fetched_to_check():
    assert found(load_config("demo", ["model.backbone.options.pretrained=true"])) == []


def test_a_checker_remembers_sections_but_not_across_changes():
    checker, config = Checker(0), load_config("demo")
    assert checker.problems(config) == []
    (wrong,) = checker.problems(config.with_values({"optimizer.options.lr": -2.0}))
    assert wrong.key == "optimizer.options"
    assert checker.problems(config.with_values({"optimizer.options.lr": 0.1})) == []
    (wrong,) = checker.problems(config.with_values({"model.loss.options.s": -1}))
    assert "s is -1" in wrong.message


ODD_MODELS = """
import lightning as L
import torch
from otter_ray import BaseMixin
from otter_ray.projects.docclassifier import *

class Plain(L.LightningModule):
    "As people write it for Lightning alone."
    def __init__(self, width):
        super().__init__()

class Counting(BaseMixin, L.LightningModule):
    "It takes the config for a number."
    def __init__(self, width):
        super().__init__()
        self.rest = width % 8

class Hidden(L.LightningModule):
    def __init__(self, config):
        super().__init__()

class Behind(Hidden, BaseMixin):
    "Lightning's hooks come first."

class Halfway(BaseMixin, torch.nn.Module):
    "No LightningModule at all."
    def __init__(self, config):
        super().__init__()

class Forgetful(BaseMixin, L.LightningModule):
    def __init__(self, config):
        super().__init__()

class Reader(BaseMixin, L.LightningModule):
    "It reads words, by their numbers."
    def __init__(self, config):
        super().__init__()
        self.config, self.words = config, torch.nn.Embedding(10, 4)
    def forward(self, words):
        return self.words(words).mean(dim=1)

class Narrow(BaseMixin, L.LightningModule):
    def __init__(self, config):
        super().__init__()
        self.config, self.layer = config, torch.nn.Linear(5, 5)
    def forward(self, img):
        return self.layer(img)
"""


@pytest.mark.parametrize(
    ("model", "key", "says"),
    [
        (
            "Plain",
            "model.name",
            "Plain must be a child of otter_ray.BaseMixin. See docs/reference/project.md.",
        ),
        (
            "Counting",
            "model",
            r"Counting\(config\) failed: TypeError: .*\. otter_ray builds a model from the ",
        ),
        ("Behind", "model.name", r"BaseMixin after a .* Put it first: class Behind\(BaseMixin, Hidden\)\."),
        ("Halfway", "model.name", "Halfway must be a child of LightningModule"),
        ("Forgetful", "model.name", "Forgetful must keep its only argument as self.config"),
        ("Narrow", "model", "Narrow cannot be run on the inputs of onnx.input_shape: RuntimeError"),
    ],
)
def test_a_model_that_otter_ray_cannot_build_says_why(tmp_path, monkeypatch, model, key, says):
    (tmp_path / "odd_models_project.py").write_text(ODD_MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    (problem,) = found(load_config("demo", ["project=odd_models_project", f"model.name={model}"]))
    assert problem.key == key
    assert re.search(says, problem.message)
    assert metric_problem(
        load_config("demo", ["project=odd_models_project", f"model.name={model}"]), "x"
    ) == (
        f"'x' cannot be measured on an exported model: {model} does not implement score(outputs, labels). "
        "Implement it; see docs/reference/project.md."
    )


def test_inputs_are_of_the_type_that_the_config_gives(tmp_path, monkeypatch):
    (tmp_path / "reading_project.py").write_text(ODD_MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = load_config("demo", ["project=reading_project", "model.name=Reader"])
    words = {"shape": [1, 7], "dtype": "int64"}
    assert found(config.with_values({"onnx.input_shape.img": words})) == []
    (problem,) = found(config)
    assert "Reader cannot be run on the inputs of onnx.input_shape" in problem.message


class Drawn(torch.utils.data.Dataset):
    """Leaves nothing out: its seed tells it apart."""

    disjoint_by = "seed"

    def __init__(self, seed=0):
        self.seed = seed


class Photographs(Drawn):
    disjoint_by = None


@pytest.mark.parametrize(
    ("train", "valid", "test", "refused"),
    [
        ("Drawn", "{name: Drawn, options: {seed: 1}}", "{name: Drawn, options: {seed: 2}}", {}),
        ("Drawn", "{name: RealDataset}", "{name: Drawn, options: {seed: 2}}", {}),
        ("Drawn", "{name: RealDataset}", "{name: Photographs}", {"test_options.name": "valid_dataset"}),
        ("Drawn", "{name: Drawn}", "null", {"valid_options.options.seed": "0 is also that of"}),
        (
            "Drawn",
            "{name: Drawn, options: {seed: 1}}",
            "{name: Drawn, options: {seed: 1}}",
            {"test_options.options.seed": "1 is also that of dataset.valid_options"},
        ),
    ],
)
def test_drawn_data_sets_are_told_apart_by_an_option(monkeypatch, train, valid, test, refused):
    for cls in (Drawn, Photographs):
        monkeypatch.setattr(docclassifier, cls.__name__, cls, raising=False)
    sections = {"train_options": f"{{name: {train}}}", "valid_options": valid, "test_options": test}
    config = load_config("demo", [f"dataset.{name}={section}" for name, section in sections.items()])
    found = {problem.key: problem.message for problem in settings_problems(config, 0)}
    assert found.keys() == {f"dataset.{key}" for key in refused}
    for key, words in refused.items():
        assert words in found[f"dataset.{key}"]


def test_a_setting_that_the_projects_data_do_not_take_is_refused(monkeypatch):
    monkeypatch.setattr(docclassifier, "Drawn", Drawn, raising=False)
    config = load_config("demo", ["common.use_clip=true", "dataset.test_options=null"])
    config = config.with_values({"model.teacher": {"name": "ClipDistillation"}})
    assert not [*settings_problems(config, 0)]
    drawn = config.with_values({"dataset.train_options": {"name": "Drawn"}})
    clip, teacher = map(str, settings_problems(drawn, 0))
    assert clip.endswith("common.use_clip: is true, but Drawn has no argument `use_clip`. Remove this key.")
    assert "model.teacher: is given, but Drawn has no argument `use_clip`: nothing uses it." in teacher


def test_a_model_is_checked_again_if_its_data_sets_change():
    """Some models refuse the labels of others' data sets."""
    config = load_config("mrz_demo", ["trainer.accelerator=cpu"])
    checker = Checker(0)
    assert checker.problems(config) == []
    scenes = {"name": "SceneDataset", "options": {"seed": 1}}
    (problem,) = checker.problems(config.with_values({"dataset.valid_options": scenes}))
    assert problem.key == "dataset.valid_options.name"
