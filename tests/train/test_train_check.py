import pytest

from otter_ray.config import find_config, load_config
from otter_ray.errors import ConfigError
from otter_ray.train.check import Checker, check_config, metric_problem

SHIPPED = sorted(find_config("demo").parent.glob("*.yaml"))

# (--set, key of the problem, what its message says)
MISTAKES = [
    ("optimizer.name=AdmW", "optimizer.name", ["no class 'AdmW'", "Did you mean 'AdamW'"]),
    ("optimizer.options.momentm=0.9", "optimizer.options.momentm", ["AdamW takes no 'momentm'"]),
    ("optimizer.options.weigth_decay=0.1", "optimizer.options.weigth_decay", ["Did you mean 'weight_decay'"]),
    ("optimizer.options.lr=-1.0", "optimizer.options", ["AdamW refuses them", "-1.0"]),
    (
        "model.name=ClasifierModel",
        "model.name",
        ["Did you mean 'ClassifierModel'"],
    ),
    ("model.loss.name=CosFase", "model.loss.name", ["Did you mean 'CosFace'"]),
    ("model.loss.options.margin=0.4", "model.loss.options.margin", ["CosFace takes no 'margin'", "It takes"]),
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
        ["RealDataset takes no test_dataset", "remove dataset.test_options"],
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
    ("trainer.devices=2", "trainer.devices", ["a process uses one device", "torchrun", "workers_per_trial"]),
    ("trainer.devices=[0, 1]", "trainer.devices", ["one device"]),
    ("trainer.val_check_interval=0.3", "trainer.val_check_interval", ["does not divide an epoch"]),
    ("common.is_restore=true", "common.restore_ind", ["is no run or finished study", "Name one"]),
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
    ("project=docclasifier", "project", ["neither a project of otter_ray nor an importable module"]),
]


SILENT = """
from otter_ray.docclassifier import *
from otter_ray.docclassifier import ClassifierModel as Known

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
