"""Each mistake: one clear message, exit code 2, nothing started, nothing left behind."""

import pytest
import typer
import yaml
from typer.testing import CliRunner

from otter_ray.tune.__main__ import tune as command

app = typer.Typer()
app.command()(command)


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


LR = {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2}}
SCALE = {"model.loss.options.s": {"type": "categorical", "choices": [12, 16]}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dmeo"], ["dmeo", "demo"]),
        (["demo", "--space", "dmeo"], ["dmeo", "demo"]),
        (["demo", "--set", "optimizer.option.lr=1"], ["--set", "option", "options"]),
        (["demo", "--set", "trainer.max_epochs=ten"], ["trainer.max_epochs", "ten"]),
        (["demo", "--set", "trainer.max_epoch=3"], ["trainer.max_epoch", "max_epochs"]),
        (["demo", "--set", "model.backbone.options.name=timm_lcnet_05"], ["lcnet_05", "lcnet_050"]),
        (["demo", "--set", "trainer.accelerator=gpu"], ["trainer.accelerator", "auto", "cpu"]),
        (["demo", "--set", "dataset.valid_options.options.root=/nowhere", "--set",
          "dataset.valid_options.options.drawn=0"], ["/nowhere", "dataset.valid_options.options.root"]),
        (["demo", "--set", "callbacks.0.options.monitor=valid_fpr4"], ["valid_fpr4", "valid_fpr@4"]),
        (["demo", "--resume"], ["none yet"]),
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
        (LR, {"constraints": ["valid_auc >= 0.9"]}, ["valid_auc", "Known before a training"]),
        (LR, {"constraints": ["macs < 5e7"]}, ["macs < 5e7", "<= or >="]),
        (LR, {"constraints": ["__import__('os') <= 1"]}, ["is no constraint"]),
        (LR, {"objectives": {"macs": "smaller"}}, ["macs", "max or min"]),
        (LR, {"objectives": {"mac": "min"}}, ["space.yaml:", "'mac'", "'macs'", "onnx_bytes"]),
        (LR, {"objectives": {"valid_auk": "max"}}, ["'valid_auk'", "'valid_auc'"]),
        (LR, {"objectives": {"valid_fpr@4": "max"}}, ["is the study's metric", "Remove"]),
        (LR, {"finalists": {"top": 3}}, ["study.finalists.seeds", "is missing", "leave finalists out"]),
        (
            {"common.seed": {"type": "int", "low": 0, "high": 9}},
            {"finalists": {"top": 3, "seeds": 3}},
            ["space.yaml:", "common.seed", "leave finalists out"],
        ),
    ],
)
def test_a_mistake_in_the_space(refused, tmp_path, parameters, study, words):
    message = refused("demo", "--space", space_file(tmp_path, parameters, **study), "--dry-run")
    assert all(word in message for word in words), message


def test_a_gpu_without_a_share_of_it(refused, tmp_path):
    space = space_file(tmp_path, LR, resources={"gpus_per_worker": 0})
    message = refused("demo", "--set", "trainer.accelerator=gpu", "--space", space)
    assert "trainer.accelerator: 'gpu' but study.resources.gpus_per_worker is 0" in message


def test_an_empty_folder_and_one_without_images(refused, tiny_sets, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    roots = [
        "--set",
        f"dataset.valid_options.options.root={folder}",
        "--set",
        "dataset.valid_options.options.drawn=0",
    ]
    assert str(folder) in refused("demo", *tiny_sets, *roots)
    (folder / "a.jpg").write_bytes(b"no image")
    assert str(folder) in refused("demo", *tiny_sets, *roots)


def test_a_folder_that_cannot_be_written(refused, tiny_sets, tmp_path):
    (tmp_path / "file").touch()
    assert "--runs" in refused("demo", *tiny_sets, "--runs", tmp_path / "file")


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


def test_a_branch_with_impossible_data_is_refused(refused, tiny_sets, tmp_path):
    key = "dataset.train_options.options.aug_func"
    space = space_file(tmp_path, {key: {"type": "categorical", "choices": ["DefaultImageAug", "CapturAug"]}})
    assert "CapturAug" in refused("demo", *tiny_sets, "--space", space)


def test_data_that_a_branch_switches_on_in_common_is_looked_at(refused, tiny_sets, tmp_path):
    space = space_file(tmp_path, {"common.use_imagenet": {"type": "categorical", "choices": [False, True]}})
    assert "imagenet_root is not set" in refused("demo", *tiny_sets, "--space", space)


def test_the_dry_run_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--dry-run", "--samples", "2"])
    assert result.exit_code == 0, result.output
    assert "plan: 14 trials" in result.output
    assert result.output.count("sampled config") == 2
    assert "optimizer.options.lr: float 0.002 to 0.02, log" in result.output
    assert not list(tmp_path.iterdir())


def test_the_dry_run_counts_the_finalists_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = space_file(tmp_path, LR, num_trials=2, finalists={"top": 3, "seeds": 4})
    result = CliRunner().invoke(app, ["demo", "--space", str(space), "--dry-run", "--samples", "0"])
    assert result.exit_code == 0, result.output
    assert "+ 8 runs of finalists, 32 epochs: the best 2 of the trials over 4 seeds each" in result.output


@pytest.mark.parametrize(
    ("trials", "says"), [(64, "the grid is done after 6 trials, not 64"), (4, "4 of the grid's 6 trials")]
)
def test_the_plan_of_a_grid(tmp_path, monkeypatch, trials, says):
    monkeypatch.chdir(tmp_path)
    parameters = {
        "model.loss.options.s": {"type": "int", "low": 12, "high": 20, "step": 4},
        "model.loss.name": {"type": "categorical", "choices": ["CosFace", "ArcFace"]},
    }
    space = space_file(tmp_path, parameters, sampler={"name": "GridSampler"}, num_trials=trials)
    result = CliRunner().invoke(app, ["demo", "--space", str(space), "--dry-run", "--samples", "0"])
    assert result.exit_code == 0, result.output
    assert f"GridSampler: {says}" in result.output
    assert f"plan: {min(trials, 6)} trials" in result.output
