"""A finished study that goes on, as a user has it go on: with more trials, a wider space, another config."""

import shutil

import pytest
import yaml

from otter_ray.config import find_space, load_config
from otter_ray.space import load_space
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.trials import read_records

SCALE = "model.loss.options.s"


@pytest.fixture
def finished(searched, tmp_path):
    """A copy of a finished study of four trials."""
    return StudyFolder(shutil.copytree(searched[0], tmp_path / "runs/demo/tiny"))


def rows_of(folder):
    return read_records(open_study(folder, load_space("demo").study))


def test_a_finished_study_goes_on(finished, tune_here, tiny_sets, tmp_path):
    before = rows_of(finished)
    space = yaml.safe_load(find_space("demo").read_text())
    space["parameters"][SCALE]["choices"].append(32)
    space["parameters"]["optimizer.options.weight_decay"] = {"type": "float", "low": 1e-4, "high": 0.1}
    (tmp_path / "wider.yaml").write_text(yaml.safe_dump(space))
    wider = ["--space", tmp_path / "wider.yaml", "--name", "tiny", "--resume"]
    same = [*tiny_sets, *wider, "--set", "common.seed=1"]
    code, output = tune_here("demo", *same, "--trials", 6, folder=tmp_path)
    assert code == 0, output
    assert "optimizer.options.weight_decay: - -> float" in output
    after = rows_of(finished)
    assert after[:4] == before
    assert [row.state in ("complete", "pruned") for row in after] == [True] * 6
    assert all("optimizer.options.weight_decay" in row.values for row in after[4:])

    other = [*tiny_sets, *wider, "--set", "common.seed=5"]
    code, output = tune_here("demo", *other, folder=tmp_path)
    assert code == 2
    assert "config  common.seed: 1 -> 5" in output
    assert "Traceback" not in output
    code, output = tune_here("demo", *other, "--trials", 7, "--accept-changes", folder=tmp_path)
    assert code == 0, output
    last = rows_of(finished)[-1]
    assert (last.number, last.is_base, last.config) == (6, True, None)
    assert rows_of(finished)[0].config == "config.1.yaml"
    winner = load_config(str(finished.path / "best.yaml"))
    ranked = max((row for row in rows_of(finished) if row.value is not None), key=lambda row: row.value)
    assert winner.common.seed == (1 if ranked.config else 5)
