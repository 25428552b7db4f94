"""`project: lightning`: what Lightning allows, and what somebody who forges a config might try."""

import sys

import pytest
import torch

from otter_ray.config import Config, to_yaml
from otter_ray.errors import ConfigError, StudyError, TrainingError
from otter_ray.export.evaluation import measure_checkpoint
from otter_ray.export.exporter import export_checkpoint
from otter_ray.projects.lightning.classes import find_class_path
from otter_ray.projects.lightning.own import OWN
from otter_ray.space import SearchProblem, load_space
from otter_ray.study.layout import StudyFolder
from otter_ray.train.checks.validation import check_config
from otter_ray.train.run_options import RunOptions
from otter_ray.train.trainer import run_training
from otter_ray.tune.request import load_study

CASES = "tests.support.plain_cases"
PLAIN = {
    "project": "lightning",
    "model": {"class_path": "tests.support.plain_digits.LitBlobs", "init_args": {"lr": 0.01}},
    "data": {
        "class_path": "tests.support.plain_digits.Blobs",
        "init_args": {"batch_size": 16, "count": 48},
    },
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "metric": "val_acc",
}


def config(model: str = "", data: str | None = "", **values) -> Config:
    given = {**PLAIN}
    if model:
        given["model"] = {"class_path": f"{CASES}.{model}"}
    if data:
        given["data"] = {**PLAIN["data"], "class_path": f"{CASES}.{data}"}
    elif data is None:
        del given["data"]
    return Config.from_dict(given, "plain").with_values({k.replace("__", "."): v for k, v in values.items()})


def trained(lit, folder, reports=None):
    reports = [] if reports is None else reports
    return run_training(lit, folder, reports.append, RunOptions(metric=lit.metric, cpus=1))


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that nobody trusts, and a YAML file that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evilmod.py").write_text("import torch\nclass E(torch.nn.Module):\n    pass\n")
    (tmp_path / "evil_yaml").write_text("class_path: evilmod.E\n")
    yield "evilmod"
    sys.modules.pop("evilmod", None)


@pytest.mark.parametrize(
    "text", ["evil_yaml", "./evil_yaml", "class_path: evilmod.E", "{class_path: evilmod.E}"]
)
def test_no_text_is_read_as_a_file_or_as_yaml_where_a_class_is_wanted(evil, text):
    forged = config(model__init_args__activation=text)
    with pytest.raises(ConfigError, match="activation"):
        check_config(forged, "val_acc")
    with pytest.raises(Exception, match="activation"):
        OWN.build_model(forged)
    assert evil not in sys.modules


@pytest.mark.parametrize(
    "path", ["evilmod.", "evilmod.1", "evilmod.é", "evilmod.E\n", "évil.E", ".evilmod.E"]
)
def test_what_is_no_import_path_is_not_imported(evil, path):
    with pytest.raises(LookupError, match=r"Write package.module.Class"):
        find_class_path(path)
    with pytest.raises(ConfigError, match=r"model.class_path: .*Write package.module.Class"):
        config(model__class_path=path)
    nested = config(model__init_args__activation={"class_path": path})
    with pytest.raises(ConfigError, match=r"activation\.class_path"):
        check_config(nested, "val_acc")
    assert evil not in sys.modules


def test_the_packages_of_a_config():
    code = config().code.split(",")
    assert code == ["lightning", "tests"]
    for text, first in {
        "evilmod.": "evilmod",
        "evilmod.1": "evilmod",
        "evilmod.é": "evilmod",
        "évil.x": "évil",
        "class_path: os.system": "os",
        "a-b.C": None,
        "0.5": None,
    }.items():
        found = config(model__init_args__activation=text).code.split(",")
        assert {*found} - {*code} == ({first} if first else set()), text


def test_a_folders_space_runs_no_code_that_the_user_does_not_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = StudyFolder(tmp_path / "runs" / "plain" / "first")
    folder.path.mkdir(parents=True)
    own = config(model__init_args__activation="torch.nn.ReLU")
    folder.config_file.write_text(to_yaml(own))
    folder.space_file.write_text(
        "parameters:\n  model.init_args.activation:\n"
        "    {type: categorical, choices: [torch.nn.GELU, evilmod.E]}\n"
        "study: {metric: val_acc, mode: max, num_trials: 2}\n"
    )
    (tmp_path / "configs").mkdir()
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "configs/plain.yaml").write_text(to_yaml(own))
    with pytest.raises(StudyError, match="evilmod"):
        load_study(folder, None, [])
    assert load_study(folder, None, ["project=lightning"]).options.num_trials == 2
    space = tmp_path / "search_spaces/plain.yaml"
    space.write_text(folder.space_file.read_text())
    assert "evilmod" in load_study(folder, None, []).code
    assert load_study(folder, str(space), []).options.num_trials == 2


def test_a_module_of_lightnings_own_does_not_hide_the_choices_code(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "parameters:\n  model.class_path: {type: categorical, choices: [lightning.A, evilmod.E]}\n"
        "study: {metric: val_acc, mode: max}\n"
    )
    boring = config(model__class_path="lightning.A", model__init_args={}, data=None)
    assert boring.code == "lightning"
    assert SearchProblem(boring, load_space(str(file))).code == "evilmod,lightning"


def test_a_checkpoint_callback_keeps_away_from_the_runs_own_checkpoints(tmp_path):
    callback = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"filename": "best"},
    }
    best = trained(config(trainer__callbacks=[callback]), tmp_path)
    assert [file.name for file in (best.parent / "callback").iterdir()] == ["best.ckpt"]
    assert "config" in torch.load(best, weights_only=True)
    callback["init_args"]["dirpath"] = str(tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match=r"trainer.callbacks: a dirpath is .* Name another"):
        trained(config(trainer__callbacks=[callback]), tmp_path)


def test_a_frozen_part_stays_frozen_in_the_training(tmp_path):
    lit = config("PartlyFrozen")
    model = OWN.build_model(lit)
    OWN.write_model_stats(lit, model, tmp_path)
    assert model.training
    assert not model.lightning_module.frozen[0].training
    assert '"macs"' in (tmp_path / "model.json").read_text()


def test_a_metric_that_is_not_computed_from_the_outputs_is_told():
    lit = config("AsksInVain")
    model = OWN.build_model(lit)
    _, note = model.measure(model.outputs, None, None)
    assert note.startswith("not measured on the file, because AsksInVain's val_acc does not depend on what")
    lit = config("AlwaysFirst")  # whose accuracy is that of zeros, and of any other single answer
    model = OWN.build_model(lit)
    metrics, note = model.measure(model.outputs, None, None)
    assert not note
    assert "val_acc" in metrics


def test_the_report_is_the_validations(tmp_path):
    reports = []
    best = trained(config("LogsTwice"), tmp_path, reports)
    assert reports[-1].metrics["val_acc"] <= 1
    assert {"train_loss", "val_loss"} <= reports[-1].metrics.keys()
    assert measure_checkpoint(best, config("LogsTwice").code).value == reports[-1].metrics["val_acc"]


@pytest.mark.parametrize(
    ("model", "data"),
    [("Tuples", ""), ("Mappings", ""), ("HasLoaders", None), ("SplitsAtOnce", None), ("", "TidyBlobs")],
)
def test_ordinary_habits_from_the_training_to_the_file(model, data, tmp_path):
    lit, reports = config(model, data), []
    check_config(lit, "val_acc")
    OWN.rehearse_measurement(lit, OWN.build_valid(lit), "val_acc")
    best = trained(lit, tmp_path, reports)
    gate = export_checkpoint(best, tmp_path, project=lit.code).gate
    assert not gate.unmeasured
    assert gate.metrics["val_acc"] == pytest.approx(reports[-1].metrics["val_acc"], abs=1e-6)


def test_a_split_where_the_module_is_made_is_the_same_everywhere():
    lit = config("SplitsAtOnce", None)
    trained_on = OWN.build_model(lit).lightning_module.sets[1].indices
    torch.rand(5)
    assert OWN.build_valid(lit).loader.dataset.indices == trained_on


def test_data_that_is_prepared_with_random_numbers_is_split_the_same(tmp_path):
    lit, reports = config(data="DrawingBlobs"), []
    best = trained(lit, tmp_path, reports)
    model = OWN.build_model(lit)
    model.load_state_dict(torch.load(best, weights_only=True)["state_dict"])
    assert model.validated(model.outputs)[0]["val_loss"] == pytest.approx(reports[-1].metrics["val_loss"])


def test_forward_is_called_with_more_than_is_exported():
    lit = config("TakesLabels")
    with pytest.raises(ConfigError, match=r"onnx.inputs: .*forward with x, y, and y can be left out"):
        OWN.rehearse_measurement(lit, OWN.build_valid(lit), "val_acc")


def test_a_module_that_logs_by_itself(tmp_path):
    logger = {"name": "TensorBoardLogger"}
    lit = config("LogsPictures", logger=logger)
    OWN.rehearse_measurement(lit, OWN.build_valid(lit), "val_acc")
    lit = config("LogsPictures")
    with pytest.raises(ConfigError, match="fails on the validation set"):  # as the training would
        OWN.rehearse_measurement(lit, OWN.build_valid(lit), "val_acc")


def test_what_a_run_gives_itself_is_refused():
    with pytest.raises(ConfigError, match=r"trainer.plugins: is given by the run itself"):
        check_config(config(trainer__plugins=[]), "val_acc")


def test_an_object_in_a_checkpoint_is_told_at_the_first_save(tmp_path):
    with pytest.raises(TrainingError, match=r"'vocabulary' holds an object"):
        trained(config("SavesAnObject"), tmp_path)
    assert not [*tmp_path.rglob("*.ckpt*")]


def test_arguments_that_only_kwargs_take():
    lit = config("AnyOptions", model__dict_kwargs={"size": 5})
    check_config(lit, "val_acc")
    assert OWN.build_model(lit).lightning_module.net[1].out_features == 5
    assert Config.from_dict(lit.to_dict(), "plain") == lit
    with pytest.raises(ConfigError, match=r"model.dict_kwargs.size: LitBlobs has no argument"):
        check_config(config(model__dict_kwargs={"size": 5}), "val_acc")
