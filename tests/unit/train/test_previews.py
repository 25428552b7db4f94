import io
import warnings

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from otter_ray.config import Config
from otter_ray.errors import ConfigError
from otter_ray.train.run_options import RunHooks, RunOptions
from otter_ray.train.trainer import run_training

EPOCH = {"roc.png", "pca.png", "tpr_fpr_table.txt", "train_batch_0.png"}

NAN_IN_VALIDATION = """
from otter_ray.projects.docclassifier import *
from otter_ray.projects.docclassifier import ClassifierModel as Known

class ClassifierModel(Known):
    def forward(self, img):
        return super().forward(img) * (1.0 if self.training else float("nan"))
"""


@pytest.fixture(scope="module")
def brief(tiny_config):
    """One epoch of two steps."""
    changes = {
        "dataset.train_options.options.length_of_dataset": 32,
        "trainer.max_epochs": 1,
        "callbacks": [],
    }
    return tiny_config.with_values(changes)


def trained(config, folder, standalone=True):
    reports = []
    with warnings.catch_warnings():
        # A preview that fails only warns: here it is to be seen.
        warnings.filterwarnings("error", message=".*preview")
        run_training(config, folder, reports.append, RunOptions(cpus=1), None if standalone else RunHooks())
    return reports


def previews(folder):
    return {str(path.relative_to(folder / "preview")) for path in folder.glob("preview/*/*")}


@pytest.fixture(scope="module")
def events(tiny_run):
    accumulator = EventAccumulator(str(tiny_run.folder / "logger"), size_guidance={"images": 0, "tensors": 0})
    return accumulator.Reload()


def test_a_lone_run_leaves_pictures_of_each_epoch(tiny_run):
    expected = {f"epoch_{epoch:04d}/{name}" for epoch in (1, 2) for name in EPOCH}
    assert previews(tiny_run.folder) == expected
    for name in ("roc.png", "pca.png"):
        assert Image.open(tiny_run.folder / "preview" / "epoch_0002" / name).size == (900, 700)


def test_the_table_is_of_the_epoch_that_was_reported(tiny_run):
    for report in tiny_run.reports:
        text = (tiny_run.folder / "preview" / f"epoch_{report.epoch:04d}" / "tpr_fpr_table.txt").read_text()
        assert f"1e-04 {report.metrics['valid_fpr@4']:8.4f} " in text


def test_tensorboard_has_the_same_pictures(tiny_run, events):
    assert set(events.Tags()["images"]) == {"preview/roc", "preview/pca", "preview/train_batch_0"}
    for tag in events.Tags()["images"]:
        shown = events.Images(tag)
        assert len(shown) == 2
        for epoch, event in enumerate(shown, 1):
            path = tiny_run.folder / "preview" / f"epoch_{epoch:04d}" / f"{tag.removeprefix('preview/')}.png"
            pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
            assert (pixels == np.asarray(Image.open(path))).all()
    assert [event.step for event in events.Images("preview/roc")] == [8, 16]
    assert [event.step for event in events.Images("preview/train_batch_0")] == [0, 8]


def test_tensorboard_has_the_table(tiny_run, events):
    tag = "preview/tpr_fpr_table/text_summary"
    assert [event.step for event in events.Tensors(tag)] == [8, 16]
    (text,) = events.Tensors(tag)[1].tensor_proto.string_val
    lines = text.decode().splitlines()
    assert all(line.startswith("    ") for line in lines if line)
    written = (tiny_run.folder / "preview" / "epoch_0002" / "tpr_fpr_table.txt").read_text()
    assert [line[4:] for line in lines] == written.splitlines()


@pytest.mark.parametrize(
    ("preview", "standalone", "drawn"), [(None, False, False), (True, False, True), (False, True, False)]
)
def test_who_draws(brief, tmp_path, preview, standalone, drawn):
    config = brief if preview is None else brief.with_values({"common.preview": preview})
    trained(config, tmp_path, standalone)
    assert (tmp_path / "preview").exists() is drawn


def test_a_run_that_draws_trains_like_one_that_does_not(brief, tmp_path):
    two = brief.with_values({"trainer.max_epochs": 2})
    quiet = trained(two.with_values({"common.preview": False}), tmp_path / "quiet")
    drawing = trained(two.with_values({"common.preview": True}), tmp_path / "drawing")
    assert [report.metrics for report in quiet] == [report.metrics for report in drawing]


def test_every_so_many_steps_a_batch(tiny_config, tmp_path):
    trained(tiny_config.with_values({"common.preview_batch": 3, "trainer.max_epochs": 1}), tmp_path)
    batches = {name for name in previews(tmp_path) if "train_batch" in name}
    assert batches == {f"epoch_0001/train_batch_{step}.png" for step in (0, 3, 6)}


def test_no_logger_no_matter(brief, tmp_path):
    data = brief.to_dict()
    del data["logger"]
    trained(Config.from_dict(data, "demo"), tmp_path)
    assert previews(tmp_path) == {f"epoch_0001/{name}" for name in EPOCH}


def test_a_logger_that_shows_no_pictures(brief, tmp_path):
    logger = {"name": "CSVLogger", "options": {"save_dir": "logger"}}
    trained(brief.with_values({"logger": logger}), tmp_path)
    assert previews(tmp_path) == {f"epoch_0001/{name}" for name in EPOCH}


def test_what_cannot_be_written_costs_pictures_not_the_run(brief, tmp_path):
    (tmp_path / "preview").write_text("no folder can be made here")
    reports = []
    with pytest.warns(UserWarning, match=r"a preview failed.*Error.*common.preview: false") as caught:
        run_training(
            brief.with_values({"trainer.max_epochs": 2}), tmp_path, reports.append, RunOptions(cpus=1)
        )
    assert [report.epoch for report in reports] == [1, 2]
    assert len([warning for warning in caught if "preview" in str(warning.message)]) == 1


def test_embeddings_without_a_curve_have_no_picture(brief, tmp_path, monkeypatch):
    (tmp_path / "nan_project.py").write_text(NAN_IN_VALIDATION)
    monkeypatch.syspath_prepend(str(tmp_path))
    (report,) = trained(brief.with_values({"project": "nan_project"}), tmp_path / "run")
    assert np.isnan(report.metrics["valid_fpr@4"])
    assert previews(tmp_path / "run") == {"epoch_0001/train_batch_0.png"}


def test_an_absent_switch_stays_absent(brief):
    assert "preview" not in brief.to_dict()["common"]
    assert brief.with_values({"common.preview": False}).to_dict()["common"]["preview"] is False
    with pytest.raises(ConfigError, match=r"common.preview: 'no' .*true or false"):
        brief.with_values({"common.preview": "no"})
