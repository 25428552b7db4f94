"""A checkpoint that somebody else wrote: it runs no code, and names no file outside the folder."""

import pytest
import torch
import yaml

from otter_ray.config import load_config
from otter_ray.errors import ExportError
from otter_ray.export.evaluation import config_of, illustrate_checkpoint, measure_checkpoint
from otter_ray.export.exporter import earlier_export, export_checkpoint
from tests.support.commands import run_here


@pytest.fixture
def forged(tmp_path, monkeypatch):
    """Writes a checkpoint whose project lies next to it; gives its path and its content."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "forged_project.py").write_text("from pathlib import Path\nPath('ran').touch()\n")

    def write(project="forged_project", config_name="demo"):
        record = {
            "config": {**load_config("demo").to_dict(), "project": project},
            "config_name": config_name,
            "metric": "valid_fpr@4",
            "metrics": {"valid_fpr@4": 0.5},
            "state_dict": {},
            "epoch": 0,
        }
        torch.save(record, tmp_path / "best.ckpt")
        return tmp_path / "best.ckpt", record

    return write


@pytest.mark.parametrize(
    "use",
    [
        measure_checkpoint,
        illustrate_checkpoint,
        lambda checkpoint: earlier_export(checkpoint, checkpoint.parent),
        lambda checkpoint: export_checkpoint(checkpoint, checkpoint.parent),
        lambda checkpoint: export_checkpoint(checkpoint, checkpoint.parent, project="docclassifier"),
    ],
)
def test_the_project_of_a_foreign_checkpoint_is_not_imported(forged, tmp_path, use):
    checkpoint, _ = forged()
    with pytest.raises(ExportError, match="names the project 'forged_project', whose code would run"):
        use(checkpoint)
    assert not (tmp_path / "ran").exists()


def test_the_command_says_how_to_trust_it(forged, tmp_path):
    checkpoint, _ = forged()
    done = run_here("otter_ray.export", checkpoint)
    assert done.returncode == 2
    assert f"export {checkpoint} --project forged_project" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_project_that_the_user_names_is_used(forged, tmp_path):
    checkpoint, record = forged()
    assert config_of(record, checkpoint, "forged_project").project == "forged_project"


def test_the_current_config_names_the_project(forged, tmp_path, monkeypatch):
    from otter_ray.config import project_here

    forged()
    assert project_here("demo") is None
    (tmp_path / "configs").mkdir()
    own = {**load_config("demo").to_dict(), "project": "my_project"}
    (tmp_path / "configs/demo.yaml").write_text(yaml.safe_dump(own))
    assert project_here("demo") == "my_project"
    assert project_here("../configs/demo") is None


@pytest.mark.parametrize("name", ["../../../x", "a/b", "/tmp/x", "..", "", "a\nb", "x" * 300, 7])
def test_a_config_name_is_not_a_path(forged, tmp_path, name):
    checkpoint, _ = forged("docclassifier", name)
    with pytest.raises(ExportError, match="is not a file name"):
        export_checkpoint(checkpoint, tmp_path / "exports")
    assert [path.name for path in tmp_path.rglob("*") if path.suffix in (".onnx", ".partial", ".json")] == []


@pytest.mark.parametrize("name", ["demo", "my config", "專案", "übung.2"])
def test_a_config_name_may_be_any_file_name(forged, name):
    checkpoint, record = forged("docclassifier", name)
    assert config_of(record, checkpoint).name == name
