"""What a run ends in its loggers."""

import sys
from types import SimpleNamespace

import pytest

from otter_ray.train.tracking.loggers import open_loggers


@pytest.mark.parametrize(("name", "ends"), [("WandbLogger", 2), ("CSVLogger", 0), (None, 0)])
def test_only_a_run_of_this_configs_logger_is_ended(tiny_config, tmp_path, monkeypatch, name, ends):
    """A program that trains may have a run of its own open in W&B."""
    ended = []
    wandb = SimpleNamespace(run=object(), finish=lambda: ended.append(1))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("otter_ray.train.tracking.loggers.build_loggers", lambda *_: [])
    logger = None if name is None else {"name": name, "options": {"save_dir": "logger"}}
    with open_loggers(tiny_config.with_values({"logger": logger}), tmp_path, None):
        pass
    assert len(ended) == ends
