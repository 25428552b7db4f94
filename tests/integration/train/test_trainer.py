import math
import re

import pytest
import torch
from torch.utils.data import DataLoader

from otter_ray.config import Config, load_config
from otter_ray.direction import Direction
from otter_ray.errors import ConfigError, TrainingError
from otter_ray.export.evaluation import measure_checkpoint
from otter_ray.projects.docclassifier.metrics.pair_roc import pair_roc
from otter_ray.train.builders import (
    build_dataset,
    load_model_from_config,
    offered_settings,
)
from otter_ray.train.callbacks import reports_so_far
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training

# A model that logs what the test says, epoch by epoch.
TOLD = """
from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier import ClassifierModel as Known

class ClassifierModel(Known):
    METRICS = ()
    VALUES = {values}

    def on_validation_epoch_end(self):
        self._validation.clear()
        self.log({name!r}, self.VALUES[self.current_epoch])
"""


@pytest.fixture(scope="module")
def short(tiny_config):
    """Two epochs of two steps."""
    return tiny_config.with_values({"dataset.train_options.options.length_of_dataset": 32})


@pytest.fixture
def told(short, tmp_path, monkeypatch):
    """A config whose model logs these values under this name, an epoch each."""

    def make(name, values, module):
        source = TOLD.format(name=name, values=f"[float(value) for value in {[str(v) for v in values]}]")
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        return short.with_values({"project": module, "trainer.max_epochs": len(values), "callbacks": []})

    return make


def trained(config, folder, **options):
    reports = []
    run_training(config, folder, reports.append, RunOptions(cpus=1, **options), RunHooks())
    return reports


def read(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def test_what_a_run_leaves(tiny_run):
    names = {path.name for path in tiny_run.folder.rglob("*") if path.is_file()}
    assert {"config.yaml", "best.ckpt", "last.ckpt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert tiny_run.best == tiny_run.folder / "checkpoints" / "best.ckpt"
    assert not [name for name in names if name.endswith(".partial")]


def test_the_written_config_is_the_one_that_ran(tiny_run, tiny_config):
    written = load_config(str(tiny_run.folder / "config.yaml")).to_dict()
    classes = written["model"]["loss"]["num_classes"]
    assert 2 <= classes <= 40
    assert written == tiny_config.with_values({"model.loss.num_classes": classes}).to_dict()


def test_the_reports_count_epochs(tiny_run):
    assert [report.epoch for report in tiny_run.reports] == [1, 2]
    for report in tiny_run.reports:
        assert {"loss", "lr", "valid_fpr@4", "valid_auc"} <= report.metrics.keys()
        assert all(isinstance(value, float) for value in report.metrics.values())
    first, second = (report.seconds for report in tiny_run.reports)
    assert 0 < first < second
    assert tiny_run.reports[0].improved


def test_best_and_last_are_what_they_are_called(tiny_run):
    rates = [report.metrics["valid_fpr@4"] for report in tiny_run.reports]
    best, last = read(tiny_run.best), read(tiny_run.best.with_name("last.ckpt"))
    assert max(rates) > 0
    assert best["epoch"] == rates.index(max(rates))
    assert best["metrics"]["valid_fpr@4"] == max(rates)
    assert (last["epoch"], last["metrics"]) == (1, tiny_run.reports[1].metrics)


def test_a_checkpoint_holds_its_config_and_metrics(tiny_run):
    record = read(tiny_run.best)
    assert (record["config_name"], record["metric"]) == ("demo", "valid_fpr@4")
    config = Config.from_dict(record["config"], record["config_name"])
    assert config.to_dict() == load_config(str(tiny_run.folder / "config.yaml")).to_dict()


def test_the_weights_give_the_metric_again(tiny_run):
    record = read(tiny_run.best)
    config = Config.from_dict(record["config"], "demo")
    model = load_model_from_config(config, tiny_run.best)
    valid = build_dataset(config.dataset.valid_options, config.project, offered_settings(config))
    with torch.inference_mode():
        embeddings = model(torch.stack([image for image, _ in valid]))
    rate, _ = pair_roc(embeddings, torch.tensor([label for _, label in valid])).tpr_at(1e-4)
    assert rate == pytest.approx(record["metrics"]["valid_fpr@4"], abs=1e-6)


def test_weights_of_another_architecture_are_refused(tiny_run, tiny_config):
    other = tiny_config.with_values({"model.backbone.options.name": "lcnet_050", "model.loss.num_classes": 3})
    with pytest.raises(TrainingError, match=r"another architecture than the config: they differ in backbone"):
        load_model_from_config(other, tiny_run.best)


def test_the_same_seed_gives_the_same_digits(short, tmp_path):
    first, second = trained(short, tmp_path / "a"), trained(short, tmp_path / "b")
    assert [report.metrics for report in first] == [report.metrics for report in second]
    other = trained(short.with_values({"common.seed": 1}), tmp_path / "c")
    assert other[0].metrics["loss"] != first[0].metrics["loss"]


def test_a_resumed_run_goes_on(short, tmp_path, monkeypatch):
    one = short.with_values({"trainer.max_epochs": 1})
    trained(one, tmp_path)
    before = read(tmp_path / "checkpoints" / "last.ckpt")
    last = tmp_path / "checkpoints" / "last.ckpt"
    begun, iterate = [], DataLoader.__iter__

    def noting(loader):
        begun.append(getattr(loader.dataset, "epoch", None))
        return iterate(loader)

    monkeypatch.setattr(DataLoader, "__iter__", noting)
    reports = trained(short.with_values({"trainer.max_epochs": 3}), tmp_path, checkpoint=last)
    after = read(tmp_path / "checkpoints" / "last.ckpt")
    assert [report.epoch for report in reports] == [2, 3]
    assert (before["global_step"], after["global_step"]) == (2, 6)
    # Workers fetch the first items as soon as the loader is iterated.
    assert [epoch for epoch in begun if epoch is not None] == [1, 2]


def test_a_resumed_run_equals_one_that_was_never_stopped(short, tmp_path):
    whole = trained(short, tmp_path / "whole")

    def stop(report):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run_training(short, tmp_path / "half", stop, RunOptions(cpus=1), RunHooks())
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert last.with_name("best.ckpt").is_file()
    (first,) = reports_so_far(last)
    (second,) = trained(short, tmp_path / "half", checkpoint=last)
    assert second.epoch == 2
    assert second.metrics == whole[1].metrics
    assert reports_so_far(last) == [first, second]


def test_what_is_logged_now_and_then_is_logged_by_a_resumed_run_too(short, tmp_path):
    """The learning rates, every fourth step: in the second epoch of two steps, not in the third."""
    every = short.with_values({"trainer.max_epochs": 3, "trainer.log_every_n_steps": 4})
    whole = trained(every, tmp_path / "whole")
    assert "lr-AdamW/pg1" in whole[2].metrics
    reports = []

    def stop(report):
        reports.append(report)
        if report.epoch == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run_training(every, tmp_path / "half", stop, RunOptions(cpus=1), RunHooks())
    (third,) = trained(every, tmp_path / "half", checkpoint=tmp_path / "half/checkpoints/last.ckpt")
    assert [report.metrics for report in [*reports, third]] == [report.metrics for report in whole]


def test_nothing_to_go_on_from(short, tmp_path):
    with pytest.raises(TrainingError, match=r"no checkpoint at .*last.ckpt to resume from"):
        trained(short, tmp_path, checkpoint=tmp_path / "last.ckpt")


def test_a_metric_that_is_never_logged(told, tmp_path):
    with pytest.raises(
        TrainingError, match=r"never logged 'valid_fpr@4'. Did you mean 'valid_fpr_4'.*It logged.*loss"
    ):
        trained(told("valid_fpr_4", [0.5], "unlogged_project"), tmp_path / "run")


@pytest.mark.parametrize(
    ("mode", "values", "improved"),
    [
        ("max", [0.2, 0.1, 0.3], [True, False, True]),
        ("min", [0.2, 0.1, 0.3], [True, True, False]),
        ("max", [math.nan, 0.1, math.nan], [True, True, False]),
    ],
)
def test_which_epoch_is_best(told, tmp_path, mode, values, improved):
    config = told("score", values, f"told_{mode}_{values[0]}".replace(".", "_"))
    reports = trained(config, tmp_path / "run", metric="score", direction=Direction(mode))
    assert [report.improved for report in reports] == improved
    best = read(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert best["epoch"] == max(index for index, better in enumerate(improved) if better)


def test_a_resumed_run_remembers_the_best(told, tmp_path):
    config = told("score", [0.9, 0.1, 0.2], "remembering_project")
    once = config.with_values({"trainer.max_epochs": 1})
    trained(once, tmp_path / "run", metric="score")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    reports = trained(config, tmp_path / "run", metric="score", checkpoint=last)
    assert [report.improved for report in reports] == [False, False]
    assert read(last.with_name("best.ckpt"))["epoch"] == 0


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"trainer.limit_val_batches": 0}, TrainingError, "no epoch was validated"),
        ({"trainer.check_val_every_n_epoch": 9}, TrainingError, "no epoch was validated"),
        ({"common.batch_size": 64}, ConfigError, "common.batch_size: 64 is more than the training set has"),
        (
            {"lr_scheduler.options.warmup_iters": 99},
            ConfigError,
            "lr_scheduler.options: PolynomialLRWarmup refuses",
        ),
        ({"trainer.precision": 17}, ConfigError, "trainer: Lightning's Trainer refuses it: Precision 17"),
    ],
)
def test_a_run_that_cannot_be_says_why(short, tmp_path, changes, error, says):
    with pytest.raises(error, match=says):
        trained(short.with_values(changes), tmp_path)


def test_ctrl_c_is_not_an_exit(short, tmp_path):
    def interrupt(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(short, tmp_path, interrupt, RunOptions(cpus=1), RunHooks())
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_no_schedule_and_no_logger(short, tmp_path):
    data = short.with_values({"callbacks": [], "trainer.max_epochs": 1}).to_dict()
    del data["lr_scheduler"], data["logger"]
    (report,) = trained(Config.from_dict(data, "demo"), tmp_path)
    assert report.metrics["lr"] == pytest.approx(0.003)
    assert not list(tmp_path.rglob("*tfevents*"))


def test_all_in_bfloat16_with_a_summary(short, tmp_path, capsys):
    config = short.with_values(
        {
            "trainer.precision": "bf16-true",
            "trainer.max_epochs": 1,
            "callbacks": [{"name": "RichModelSummary"}],
        }
    )
    best = run_training(config, tmp_path, print, RunOptions(cpus=1))
    weights = torch.load(best, weights_only=True)["state_dict"]
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.bfloat16}
    assert int(re.search(r"Total FLOPs[^0-9]*(\d+)", capsys.readouterr().out)[1]) > 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16"])
def test_a_mixed_precision_clips_gradients_and_validates_in_float32(short, tmp_path, precision):
    """Lightning alone refuses to clip the gradients of a fused optimizer."""
    changes = {"trainer.precision": precision, "trainer.gradient_clip_val": 5, "trainer.max_epochs": 1}
    [report] = trained(short.with_values(changes), tmp_path, metric="valid_auc")
    assert 0 < report.metrics["loss"] < 20
    # It is validated in float32, as the gate measures.
    best = tmp_path / "checkpoints/best.ckpt"
    assert read(best)["scored_in"] == "float32"
    assert report.metrics["valid_auc"] == pytest.approx(measure_checkpoint(best).value, abs=1e-6)


def test_minus_one_is_filled_in(tiny_run):
    record = read(tiny_run.best.with_name("last.ckpt"))
    # 16 steps: 10 % of them warm up, so the second one already trains with the peak rate.
    (schedule,) = record["lr_schedulers"]
    assert schedule["last_epoch"] == record["global_step"] == 16
    assert tiny_run.reports[0].metrics["lr"] == pytest.approx(0.003 * (16 - 7) / 15)
    assert tiny_run.reports[1].metrics["lr"] == pytest.approx(0.003 * (16 - 15) / 15)


def test_biases_and_norms_do_not_decay(tiny_run):
    (optimizer,) = read(tiny_run.best)["optimizer_states"]
    assert sorted(group["weight_decay"] for group in optimizer["param_groups"]) == [0.0, 0.001]
