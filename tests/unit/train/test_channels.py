"""The order of the colour channels, which a project's wrapper may offer as a choice."""

import pytest

from otter_ray.errors import ConfigError
from otter_ray.train.model.channels import exported_channels

WRAPPERS = """
from otter_ray.projects.docclassifier import *

class Counting:
    "Its channels are a number."
    def __init__(self, model, channels=3):
        pass

class Choosing:
    def __init__(self, model, channels="bgr"):
        pass
"""


def test_only_a_wrapper_with_an_order_as_its_default_has_one(tiny_config, tmp_path, monkeypatch):
    (tmp_path / "channels_project.py").write_text(WRAPPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = tiny_config.with_values({"project": "channels_project", "onnx.name": "Counting"})
    assert exported_channels(config) is None
    assert exported_channels(config.with_values({"onnx.wrapper_options": {"channels": 1}})) is None
    choosing = config.with_values({"onnx.name": "Choosing"})
    assert exported_channels(choosing) == "bgr"
    with pytest.raises(ConfigError, match="3 is not an order"):
        exported_channels(choosing.with_values({"onnx.wrapper_options": {"channels": 3}}))
