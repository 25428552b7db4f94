"""`~` in a path is the user's home, and a variable in one is reported, wherever the path is written."""

import os

import pytest

from otter_ray.config import Config, load_config
from otter_ray.config.user_paths import user_path, user_place
from otter_ray.errors import ConfigError
from otter_ray.space import load_space
from tests.support.commands import run_here

ROOT = "dataset.train_options.options.root"
SPACE = """
parameters:
  dataset.train_options.options.root: {type: categorical, choices: [~/first, /second]}
  model.backbone.options.name: {type: categorical, choices: [~x, y]}
"""


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    return "/home/of/somebody"


def test_a_home_in_a_config_and_in_its_changes(home):
    sets = ["dataset.train_options.options.root=~/docs", "common.restore_ind=~/runs/one"]
    sets += ["dataset.train_options.options.roots=[~/a, /b]", "dataset.train_options.options.title=~/not"]
    config = load_config("demo", sets)
    assert config.get(ROOT) == f"{home}/docs"
    assert config.get("common.restore_ind") == f"{home}/runs/one"
    assert config.get("dataset.train_options.options.roots") == [f"{home}/a", "/b"]
    assert config.get("dataset.train_options.options.title") == "~/not"
    assert config.with_values({ROOT: "~/other"}).get(ROOT) == f"{home}/other"
    assert Config.from_dict({**config.to_dict()}, config.name) == config


def test_a_home_among_the_choices_of_a_space(home, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    space = load_space(str(tmp_path / "space.yaml"))
    assert [parameter.choices for parameter in space.parameters] == [
        (f"{home}/first", "/second"),
        ("~x", "y"),
    ]


@pytest.mark.parametrize("path", ["$DATA/docs", "/mnt/${DATA}"])
def test_a_variable_in_a_config_is_named(path):
    with pytest.raises(ConfigError, match=rf"{ROOT}: '.*' contains \$\{{?DATA\}}?, which nothing replaces"):
        load_config("demo", [f"{ROOT}={path}"])


def test_a_folder_whose_name_looks_like_a_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "$DATA").mkdir()
    assert load_config("demo", [f"{ROOT}=$DATA"]).get(ROOT) == "$DATA"


def test_paths_on_the_command_line(home, tmp_path):
    assert str(user_path(tmp_path / "~", "--runs")) == f"{tmp_path}/~"
    assert user_place("~/kept", "--storage") == f"{home}/kept"
    assert user_place("s3://bucket/$x", "--storage") == "s3://bucket/$x"
    with pytest.raises(
        ConfigError, match="--runs: '~nobody_at_all/x': ~nobody_at_all is nobody's home folder"
    ):
        user_place("~nobody_at_all/x", "--runs")


@pytest.mark.parametrize(
    ("module", "arguments", "option"),
    [
        ("otter_ray.tune", ["demo", "--dry-run", "--runs", "$DATA/x"], "--runs"),
        ("otter_ray.tune", ["demo", "--dry-run", "--storage", "$DATA/x"], "--storage"),
        ("otter_ray.tune", ["demo", "--dry-run", "--warm-start", "$DATA/x"], "--warm-start"),
        ("otter_ray.doctor", ["--runs", "$DATA/x"], "--runs"),
        ("otter_ray.train", ["demo", "--folder", "$DATA/x"], "--folder"),
        ("otter_ray.export", ["$DATA/x"], "RUN_OR_CHECKPOINT"),
        ("otter_ray.report", ["$DATA/x"], "STUDY"),
    ],
)
def test_every_command_names_the_option_with_a_variable(module, arguments, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here(module, *arguments)
    assert done.returncode == 2, done.stdout
    assert f"{option}: '$DATA/x' contains $DATA, which nothing replaces" in done.stderr
    assert os.listdir() == []


@pytest.mark.parametrize("written", ["20241010", '"20241010"'])
def test_a_run_that_is_called_by_a_number(written):
    assert load_config("demo", [f"common.restore_ind={written}"]).common.restore_ind == "20241010"
