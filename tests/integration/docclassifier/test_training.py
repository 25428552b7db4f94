"""Short runs of every head, and of every place to augment."""

import numpy as np
import pytest

from otter_ray.export.exporter import export_checkpoint
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training

OPTIONS = "dataset.train_options.options"


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "64-true"])
def test_a_run_trains_on_what_the_device_makes(tiny_config, tmp_path, precision):
    changes = {
        f"{OPTIONS}.length_of_dataset": 64,
        "trainer.max_epochs": 1,
        "trainer.precision": precision,
        "callbacks": [],
    }
    losses = {}
    for place, ratio in (("device", 0.0), ("cpu", 0.0), ("device", 1.0)):
        reports = []
        way = {f"{OPTIONS}.aug_on": place, f"{OPTIONS}.aug_ratio": ratio}
        run_training(
            tiny_config.with_values({**changes, **way}),
            tmp_path / f"{place}{ratio}",
            reports.append,
            RunOptions(cpus=1),
        )
        losses[place, ratio] = reports[0].metrics["loss"]
    assert all(np.isfinite(loss) for loss in losses.values())
    assert losses["device", 0.0] == pytest.approx(losses["cpu", 0.0], rel=1e-5)
    assert losses["device", 0.0] != losses["device", 1.0]


HEADS = (
    "FeatureLearningHead",
    "FeatureLearningLNHead",
    "FeatureLearningGAPHead",
    "FeatureLearningSqueezeHead",
    "FeatureLearningSqueezeLBNHead",
)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_trains_and_is_exported(name, tiny_config, tmp_path):
    values = {
        "model.head.name": name,
        "trainer.max_epochs": 1,
        "dataset.train_options.options.length_of_dataset": 32,
        "callbacks": [],
    }
    best = run_training(tiny_config.with_values(values), tmp_path, print, RunOptions(cpus=1), RunHooks())
    assert export_checkpoint(best, tmp_path).gate.opset == 16
