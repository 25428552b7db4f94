import os
import shutil

import pytest
import torch
import yaml

from otter_ray.errors import ConfigError
from otter_ray.train.checkpoint.restore import find_restore, pin_restore
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training

RESTORE = {"common.is_restore": True, "common.restore_ind": "first"}
# The schedule of `first` does not know that the run ends early.
STEPS = {"lr_scheduler.options.total_iters": 4, "lr_scheduler.options.warmup_iters": 1}
ALL = {**RESTORE, **STEPS, "common.restore_all_states": True}


@pytest.fixture(scope="module")
def short(tiny_config):
    """Two epochs of two steps."""
    return tiny_config.with_values({"dataset.train_options.options.length_of_dataset": 32})


@pytest.fixture(scope="module")
def first(short, tmp_path_factory):
    """A run of one epoch. Copy it, never write into its folder."""
    folder = tmp_path_factory.mktemp("first")
    within = {"name": "ModelCheckpoint", "options": {"every_n_train_steps": 1, "save_top_k": -1}}
    one = short.with_values(
        {**STEPS, "trainer.max_epochs": 1, "callbacks": [*short.get("callbacks"), within]}
    )
    run_training(one, folder, print, RunOptions(cpus=1))
    return folder


@pytest.fixture
def runs(first, tmp_path, monkeypatch):
    """A working directory where `runs/demo/first` holds one epoch."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(first, tmp_path / "runs" / "demo" / "first")
    return tmp_path / "runs"


def trained(config, folder):
    reports = []
    run_training(config, folder, reports.append, RunOptions(cpus=1), RunHooks())
    return reports


def problem(config):
    with pytest.raises(ConfigError) as caught:
        find_restore(config)
    return str(caught.value)


def weights(folder, name="last.ckpt"):
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def test_nothing_is_restored_unless_asked_for(short):
    assert find_restore(short) is None


def test_where_runs_and_checkpoints_are_found(short, runs):
    first = runs / "demo" / "first"
    newest = find_restore(short.with_values(RESTORE))
    assert newest.name == "last.ckpt"
    assert newest.resolve().is_relative_to(first)
    for name in ("best.ckpt", "epoch=0-step=2.ckpt"):
        found = find_restore(short.with_values({**RESTORE, "common.restore_ckpt": name}))
        assert (found.name, found.resolve().is_relative_to(first)) == (name, True)
    (runs / "other").mkdir()
    shutil.move(first, runs / "other" / "elsewhere")
    assert find_restore(short.with_values({**RESTORE, "common.restore_ind": "elsewhere"}))
    by_path = str(runs / "other" / "elsewhere")
    assert find_restore(short.with_values({**RESTORE, "common.restore_ind": by_path}))


def test_of_several_last_checkpoints_the_newest_is_taken_whatever_the_files_times_are(
    short, tmp_path, monkeypatch
):
    """Each as Lightning names and fills it; a copy gives all of them one time, or the order of the names."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/demo/first/checkpoints"

    def saved(name, steps, age):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {}, "global_step": steps}, folder / name)
        os.utime(folder / name, (2e9 - age, 2e9 - age))
        return str(find_restore(short.with_values(RESTORE)).relative_to("runs/demo/first/checkpoints"))

    assert saved("a/last.ckpt", 40, age=0) == "a/last.ckpt"
    assert saved("b/last.ckpt", 60, age=9) == "b/last.ckpt"
    (folder / "b/last.ckpt").write_bytes(b"torn")
    assert saved("c/last.ckpt", 20, age=5) == "a/last.ckpt"
    # A run that began again in the same folder: fewer steps, a higher version.
    assert saved("a/last-v2.ckpt", 8, age=20) == "a/last-v2.ckpt"
    assert saved("a/last-v10.ckpt", 4, age=30) == "a/last-v10.ckpt"
    assert saved("last.ckpt", 2, age=90) == "last.ckpt"


def test_a_missing_run_lists_those_that_there_are(short, runs):
    text = problem(short.with_values({**RESTORE, "common.restore_ind": "fist"}))
    for part in ("common.restore_ind", "'fist'", "Did you mean 'first'?", "There are: demo/first."):
        assert part in text
    assert "There are: demo/first" in problem(short.with_values({**RESTORE, "common.restore_ind": ""}))
    (runs / "demo" / "study" / "trials").mkdir(parents=True)
    (runs / "demo" / "study" / "best.ckpt").touch()
    assert "There are: demo/first, demo/study." in text_of(short, "fist")


def text_of(config, name):
    return problem(config.with_values({**RESTORE, "common.restore_ind": name}))


def test_of_a_study_its_best_is_taken_and_no_trials_last(short, runs):
    study = runs / "demo" / "study"
    shutil.copytree(runs / "demo" / "first" / "checkpoints", study / "trials" / "0000" / "checkpoints")
    assert "'study' is not a run or finished study" in text_of(short, "study")
    shutil.copyfile(runs / "demo" / "first" / "checkpoints" / "best.ckpt", study / "best.ckpt")
    config = short.with_values({**RESTORE, "common.restore_ind": "study"})
    assert find_restore(config) == study.relative_to(runs.parent) / "best.ckpt"
    assert "There are: best.ckpt" in problem(config.with_values({"common.restore_ckpt": "last.ckpt"}))


def test_a_run_writes_down_which_checkpoint_it_started_from(short, runs):
    config = short.with_values(RESTORE)
    pinned = pin_restore(config, find_restore(config))
    source = find_restore(pinned)
    assert source.is_absolute()
    assert source == runs / "demo" / "first" / "checkpoints" / "last.ckpt"
    shutil.copytree(source.parent, runs / "other" / "first" / "checkpoints")
    assert find_restore(pinned) == source
    trained(short.with_values({**RESTORE, "trainer.max_epochs": 1}), runs / "demo" / "second")
    assert written(runs / "demo" / "second") == (str(source.parent), source.name)
    # It goes on without the run that it started from, and does not forget it.
    shutil.rmtree(runs / "demo" / "first")
    last = runs / "demo" / "second" / "checkpoints" / "last.ckpt"
    run_training(
        short.with_values(RESTORE), runs / "demo" / "second", print, RunOptions(cpus=1, checkpoint=last)
    )
    assert written(runs / "demo" / "second") == (str(source.parent), source.name)


def written(run):
    common = yaml.safe_load((run / "config.yaml").read_text())["common"]
    return common["restore_ind"], common["restore_ckpt"]


def test_every_name_that_is_listed_is_one(short, runs):
    shutil.copytree(runs / "demo" / "first", runs / "other" / "first")
    shutil.copytree(runs / "demo" / "first", runs / "third" / "second")
    for name in ("demo/first", "other/first", "third/second"):
        config = short.with_values({**RESTORE, "common.restore_ind": name})
        assert find_restore(config).resolve() == runs / name / "checkpoints" / "last.ckpt"
    assert find_restore(short.with_values(RESTORE)).resolve().is_relative_to(runs / "demo")
    shutil.move(runs / "demo" / "first", runs / "fourth" / "first")
    assert "'first' matches several runs. There are: fourth/first, other/first." in text_of(short, "first")


def test_a_checkpoint_by_its_path_is_that_one(short, runs):
    first = runs / "demo" / "first" / "checkpoints"
    (callback,) = first.glob("*/epoch=0-step=2.ckpt")
    shutil.copyfile(callback, callback.with_name("last.ckpt"))  # the newer one
    for name, path in (("last.ckpt", "last.ckpt"), ("checkpoints/callback/last.ckpt", "callback/last.ckpt")):
        found = find_restore(short.with_values({**RESTORE, "common.restore_ckpt": name}))
        assert found.resolve() == first / path
    text = problem(short.with_values({**RESTORE, "common.restore_ckpt": "elsewhere/best.ckpt"}))
    assert "'elsewhere/best.ckpt' is not a checkpoint of" in text
    assert "checkpoints/callback/last.ckpt" in text


def test_no_runs_at_all(short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"There are none in {tmp_path / 'runs'}." in problem(short.with_values(RESTORE))


def test_a_missing_checkpoint_lists_those_that_there_are(short, runs):
    text = problem(short.with_values({**RESTORE, "common.restore_ckpt": "epoch=1-step=2.ckpt"}))
    for part in ("common.restore_ckpt", "Did you mean", "best.ckpt", "epoch=0-step=2.ckpt", "last.ckpt"):
        assert part in text


def test_weights_alone_begin_a_new_run(short, runs):
    first = weights(runs / "demo" / "first")
    frozen = {**RESTORE, "optimizer.options.lr": 0.0, "trainer.max_epochs": 1}
    (report,) = trained(short.with_values(frozen), runs / "demo" / "second")
    second = weights(runs / "demo" / "second")
    assert (report.epoch, second["global_step"]) == (1, 2)
    for name, values in first["state_dict"].items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(second["state_dict"][name], values, msg=name)


def test_all_states_go_on_as_if_never_stopped(short, runs):
    whole = trained(short.with_values(STEPS), runs / "demo" / "whole")
    (second,) = trained(short.with_values(ALL), runs / "demo" / "second")
    assert second.epoch == 2
    assert second.metrics == whole[1].metrics
    assert second.improved
    ends = [weights(runs / "demo" / name) for name in ("whole", "second")]
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({"trainer.max_epochs": 1}, "trainer.max_epochs", "1 but .*first.* has trained 1 already"),
        ({"optimizer.options.lr": 0.1}, "optimizer.options.lr", "0.1 but .*first.* was trained with 0.003"),
        ({"lr_scheduler.options.power": 2}, "lr_scheduler.options.power", "2 but .*first.* was trained with"),
        ({"common.restore_ckpt": "epoch=0-step=1.ckpt"}, "common.restore_ckpt", "was saved within epoch 1"),
    ],
)
def test_states_that_cannot_go_on_are_refused(short, runs, change, key, says):
    with pytest.raises(ConfigError, match=f"{key}: .*{says}"):
        trained(short.with_values({**ALL, **change}), runs / "demo" / "second")


def test_weights_alone_have_no_states(short, runs):
    alone = runs / "demo" / "first" / "checkpoints" / "alone.ckpt"
    torch.save({"state_dict": weights(runs / "demo" / "first")["state_dict"]}, alone)
    with pytest.raises(ConfigError, match=r"restore_all_states: true but .*alone.ckpt holds no states"):
        trained(short.with_values({**ALL, "common.restore_ckpt": "alone.ckpt"}), runs / "demo" / "second")
    config = short.with_values({**RESTORE, "common.restore_ckpt": "alone.ckpt", "trainer.max_epochs": 1})
    assert trained(config, runs / "demo" / "second")


def test_a_loss_of_other_classes_stays_fresh(short, runs):
    more = short.with_values({**RESTORE, "dataset.train_options.options.drawn": 60})
    with pytest.warns(
        UserWarning, match=r"does not match the config in loss.weight, initialized from scratch"
    ):
        trained(more, runs / "demo" / "second")


@pytest.mark.parametrize("every", [False, True])
def test_another_architecture_names_the_first_keys(short, runs, every):
    other = {**STEPS, "model.backbone.options.name": "lcnet_050", "common.restore_all_states": every}
    with pytest.raises(ConfigError, match=r"they differ in backbone\.model\.\S+, .* \.\.\. \(\d+ keys\)"):
        trained(short.with_values({**RESTORE, **other}), runs / "demo" / "second")
