"""Each mistake: one clear message, exit code 2, nothing started, nothing left behind."""

import re

import pytest
import typer
import yaml
from typer.testing import CliRunner

from otter_ray.tune.__main__ import tune as command
from otter_ray.tune.worker.forks import SWITCH

app = typer.Typer()
app.command()(command)


@pytest.fixture(autouse=True)
def no_fork_server(monkeypatch):
    """This process has imported torch; a server would do it again for each command."""
    monkeypatch.setenv(SWITCH, "0")


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Runs a command that must be refused; gives its message."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == 2, (result.output, result.exception)
        assert "Traceback" not in result.output
        assert not list(tmp_path.glob("runs/*/*"))
        return result.output

    return run


def space_file(folder, parameters, **study):
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"parameters": parameters, "study": study}))
    return path


LR = {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2}}  # one model to check
SCALE = {"model.loss.options.s": {"type": "categorical", "choices": [12, 16]}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dmeo"], ["dmeo", "demo"]),
        (["demo", "--space", "dmeo"], ["dmeo", "demo"]),
        (["demo", "--set", "optimizer.option.lr=1"], ["--set", "option", "options"]),
        (["demo", "--set", "trainer.max_epochs=ten"], ["trainer.max_epochs", "ten"]),
        (["demo", "--resume"], ["none yet"]),
        (["demo", "--name", "team/first"], ["--name: 'team/first'", "no / or"]),
        (["demo", "--name", "../../escaped", "--dry-run"], ["--name: '../../escaped'"]),
        (["demo", "--name", "../../escaped", "--resume", "--storage", "kept"], ["--name: '../../escaped'"]),
        (["demo", "--address", "127.0.0.1:1"], ["127.0.0.1:1"]),
    ],
)  # fmt: skip
def test_a_mistake_in_the_command(refused, arguments, words):
    message = refused(*arguments)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("parameters", "study", "words"),
    [
        ({"optimizer.options.lr": {"type": "float", "low": 1, "high": 0.1}}, {}, ["space.yaml:", "low"]),
        ({"optimizer.options.lr": {"type": "float", "low": 0, "high": 1, "log": True}}, {}, ["log"]),
        ({"optimizer.options.lr": {"type": "float", "lo": 0, "high": 1}}, {}, ["lo", "low"]),
        ({"optimizer.options.lrr": {"type": "float", "low": 0, "high": 1}}, {}, ["lrr", "lr", "AdamW"]),
        ({"model.loss.options.margin": {"type": "float", "low": 0, "high": 1}}, {}, ["margin", "CosFace"]),
        (
            {"model.loss.name": {"type": "categorical", "choices": ["CosFace", "CosFce"]}},
            {},
            ["CosFce", "CosFace"],
        ),
        (LR, {"metric": "loss", "mode": "min"}, ["space.yaml", "loss", "valid_fpr@4"]),
        (LR, {"sampler": {"name": "TPESampler", "options": {"sed": 1}}}, ["sed", "TPESampler"]),
        (
            LR,
            {"scheduler": {"metric": "valid_pauc"}},
            ["space.yaml:", "study.scheduler.metric", "valid_pauc@2"],
        ),
        (LR, {"metric": "valid_fpr"}, ["valid_fpr", "valid_fpr@4"]),
        (
            LR,
            {"scheduler": {"name": "ASHA", "options": {"grace_period": 20}}},
            ["grace_period", "20", "max_epochs"],
        ),
        (LR, {"sampler": {"name": "TPE"}}, ["TPE", "TPESampler"]),
        (
            LR,
            {"sampler": {"name": "GPSampler", "options": {"n_startup_trial": 3}}},
            ["space.yaml:", "n_startup_trial", "Did you mean 'n_startup_trials'"],
        ),
        (LR, {"sampler": {"name": "GPSampler", "options": {"n_startup_trials": "3"}}}, ["'3'", "takes int"]),
        (LR, {"sampler": {"name": "CmaEsSampler", "options": {"popsize": 1}}}, ["popsize", "at least 4"]),
        (LR, {"sampler": {"name": "QMCSampler", "options": {"qmc_type": "sobl"}}}, ["sobl", "sobol"]),
        (SCALE, {"sampler": {"name": "GridSampler", "options": {"search_space": {}}}}, ["It takes seed."]),
        (LR, {"sampler": {"name": "GridSampler"}}, ["optimizer.options.lr", "GridSampler", "`step`"]),
        (
            {"dataset.test_options.options.seed": {"type": "int", "low": 0, "high": 9}},
            {},
            ["space.yaml:", "cannot be searched: a test split is for the one model"],
        ),
        (LR, {"resources": {"cpus_per_worker": 512}}, ["512", "cpus_per_worker"]),
        (LR, {"constraints": ["mac <= 5e7"]}, ["space.yaml:", "mac <= 5e7", "'macs'", "onnx_latency_ms"]),
        (LR, {"constraints": ["valid_auc >= 0.9"]}, ["valid_auc", "Available: macs"]),
        (LR, {"constraints": ["macs < 5e7"]}, ["macs < 5e7", "<= or >="]),
        (LR, {"constraints": ["__import__('os') <= 1"]}, ["is not a constraint"]),
        (LR, {"objectives": {"macs": "smaller"}}, ["macs", "max or min"]),
        (LR, {"objectives": {"mac": "min"}}, ["space.yaml:", "'mac'", "'macs'", "onnx_bytes"]),
        (LR, {"objectives": {"valid_auk": "max"}}, ["'valid_auk'", "'valid_auc'"]),
        (LR, {"objectives": {"valid_fpr@4": "max"}}, ["is the study's metric", "Remove"]),
        (LR, {"finalists": {"top": 3}}, ["study.finalists.seeds", "is missing", "leave finalists out"]),
        (
            {"common.seed": {"type": "int", "low": 0, "high": 9}},
            {"finalists": {"top": 3, "seeds": 3}},
            ["space.yaml:", "common.seed", "averages over seeds. Remove one"],
        ),
    ],
)
def test_a_mistake_in_the_space(refused, tmp_path, parameters, study, words):
    message = refused("demo", "--space", space_file(tmp_path, parameters, **study), "--dry-run")
    assert all(word in message for word in words), message


def test_all_problems_come_at_once(refused):
    message = refused(
        "demo", "--set", "trainer.max_epochs=0", "--set", "optimizer.nme=x", "--set", "common.seed=a"
    )
    assert all(key in message for key in ("trainer.max_epochs", "optimizer.nme", "common.seed"))


def test_config_and_space_are_told_together(refused, tmp_path):
    space = space_file(tmp_path, {"optimizer.options.lr": {"type": "float", "low": 1, "high": 0.1}})
    message = refused("demo", "--space", space, "--set", "trainer.max_epochs=0")
    assert "trainer.max_epochs" in message
    assert "space.yaml" in message


TRAIN, VALID = "dataset.train_options.options", "dataset.valid_options.options"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--warm-start", "none"], ["--warm-start none: there is no such study", "There are none in runs"]),
        (["--resume"], ["no study", "of demo to resume in runs/demo", "none yet"]),
        (["--resume", "--name", "one"], ["no study one of demo to resume"]),
        (["--resume", "--storage", "kept"], ["--resume with --storage needs the study's --name"]),
        (["--resume", "--name", "one", "--storage", "kept"], ["there is no study at", "kept/demo/one"]),
        (["--storage", "nfs://somewhere"], ["nfs://somewhere", "cannot be used"]),
        (["--runs", "/proc/runs"], ["/proc/runs/demo cannot be written"]),
        (["--runs", "/dev/null"], ["/dev/null/demo cannot be written", "Not a directory"]),
    ],
)
def test_the_dry_run_finds_what_the_start_would_find(refused, tiny_sets, tmp_path, arguments, words):
    message = refused("demo", *tiny_sets, "--space", space_file(tmp_path, LR), "--dry-run", *arguments)
    assert all(word in message for word in words), message


def test_the_dry_run_reads_the_data(refused, tiny_sets, tmp_path):
    """A folder that is not there, an empty one, none in one of two data sets."""
    (tmp_path / "empty").mkdir()
    space = space_file(tmp_path, LR)
    for key, root, says in (
        (TRAIN, "absent", f"{TRAIN}.root is 'absent' but there is no such folder"),
        (VALID, "empty", f"{VALID}.root is 'empty' but that folder holds no images"),
        (TRAIN, "", f"Set exactly one of {TRAIN}.root (a folder) and {TRAIN}.drawn"),
    ):
        roots = ["--set", f"{key}.drawn=0", *(["--set", f"{key}.root={root}"] if root else [])]
        message = refused("demo", *tiny_sets, *roots, "--space", space, "--dry-run")
        assert says in message, message


@pytest.fixture
def planned(tmp_path, tiny_sets, monkeypatch):
    """Runs a dry run of the tiny demo that must find nothing wrong; gives what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(parameters, *arguments, **study):
        space = str(space_file(tmp_path, parameters, **study))
        result = CliRunner().invoke(app, ["demo", *tiny_sets, "--space", space, "--dry-run", *arguments])
        assert result.exit_code == 0, result.output
        assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]
        return result.output

    return run


def test_the_dry_run_of_a_name_that_is_taken(tmp_path, tiny_sets, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/demo/one").mkdir(parents=True)
    space = str(space_file(tmp_path, LR))
    result = CliRunner().invoke(app, ["demo", *tiny_sets, "--space", space, "--dry-run", "--name", "one"])
    assert result.exit_code == 2, result.output
    assert "study 'one' exists in" in result.output


def test_the_dry_run_starts_nothing(planned):
    output = planned(LR, "--samples", "2", num_trials=14)
    assert "plan: 14 trials" in output
    assert output.count("sampled config") == 2
    # What a sample changes, and nothing else of the config.
    first = output.partition("sampled config 1")[2].partition("sampled config 2")[0]
    assert re.search(r"^  optimizer.options.lr: 0.003 -> 0\.\d+$", first, re.MULTILINE), first
    assert "trainer" not in first
    assert "optimizer.options.lr: float 0.001 to 0.01" in output
    # The plan is the last to be read.
    assert output.index("sampled config 2") < output.index("search: ") < output.index("plan: ")


def test_the_dry_run_warns_of_a_parameter_without_effect(planned):
    decay = {"optimizer.options.weight_decay": {"type": "float", "low": 0.1, "high": 0.2, "step": 0.3}}
    output = planned(LR | decay, "--samples", "0")
    assert "optimizer.options.weight_decay: is always 0.1: step 0.3 is larger than its range" in output


def test_the_dry_run_counts_the_finalists_runs(planned):
    output = planned(LR, "--samples", "0", num_trials=2, finalists={"top": 3, "seeds": 4})
    assert "+ 8 runs of finalists, 16 epochs: the best 2 of the trials over 4 seeds each" in output


@pytest.mark.parametrize(
    ("trials", "says"), [(64, "the grid is done after 6 trials, not 64"), (4, "4 of the grid's 6 trials")]
)
def test_the_plan_of_a_grid(planned, trials, says):
    parameters = {
        "model.loss.options.s": {"type": "int", "low": 12, "high": 20, "step": 4},
        "model.loss.name": {"type": "categorical", "choices": ["CosFace", "ArcFace"]},
    }
    output = planned(parameters, "--samples", "0", sampler={"name": "GridSampler"}, num_trials=trials)
    assert f"GridSampler: {says}" in output
    assert f"plan: {min(trials, 6)} trials" in output
