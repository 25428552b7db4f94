"""Mistakes in a config of DocAligner: one clear message, exit code 2, nothing started.

One of the network, one of a data set and one of a file; the unit tests have all of them.
"""

import json

import cv2
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from otter_ray.tune.__main__ import tune as command
from otter_ray.tune.worker.forks import SWITCH

app = typer.Typer()
app.command()(command)
OPTIONS = "dataset.{}_options.options.{}={}"
SMALL = [
    OPTIONS.format(part, key, value)
    for part in ("train", "valid", "test")
    for key, value in (("drawn", 2), ("length_of_dataset", 4))
]


@pytest.fixture
def refused(tmp_path, monkeypatch, cache):
    monkeypatch.setenv(SWITCH, "0")
    monkeypatch.chdir(tmp_path)
    space = {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2}}
    study = {"metric": "valid_iou", "mode": "max"}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"parameters": space, "study": study}))

    def run(*sets):
        arguments = [part for each in (*SMALL, *sets) for part in ("--set", each)]
        result = CliRunner().invoke(app, ["docaligner_demo", "--space", "space.yaml", *arguments])
        assert result.exit_code == 2, (result.output, result.exception)
        assert "Traceback" not in result.output
        assert not list(tmp_path.glob("runs/*/*"))
        return " ".join(result.output.split())

    return run


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["onnx.output_names=[points,has_obj]"], "onnx.output_names: ['points', 'has_obj'] lacks heatmap"),
        (
            [OPTIONS.format("valid", "empty", 1)],
            "dataset.valid_options.options.empty is 1 but must be in [0, 1)",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_in_the_config(refused, sets, told):
    assert told in refused(*sets)


def test_marks_with_a_corner_too_few(refused, tmp_path):
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/one.png"), np.zeros((20, 20, 3), np.uint8))
    entry = {"file_path": "one.png", "polygon": [[[1, 1], [9, 1], [9, 9]]]}
    (tmp_path / "photos/gt.json").write_text(json.dumps([entry]))
    section = "dataset.valid_options={name: PhotoDataset, options: {root: photos}}"
    assert "one.png has 3 corners, but a document has 4" in refused(section)
