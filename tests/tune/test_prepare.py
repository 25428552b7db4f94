import io

import cv2
import pytest
from rich.console import Console

from otter_ray.config import load_space
from otter_ray.docclassifier.drawing import draw_document
from otter_ray.errors import TrainingError
from otter_ray.tune.folder import StudyFolder
from otter_ray.tune.prepare import prepare_data, prepare_weights


@pytest.fixture
def said(tiny_config, tmp_path):
    """Prepares the tiny config with some values changed; gives what is printed."""

    def prepare(**values):
        output = io.StringIO()
        config, console = tiny_config.with_values(values), Console(file=output, width=300)
        prepare_data(config, load_space("demo"), StudyFolder(tmp_path), console)
        return output.getvalue()

    return prepare


def test_a_corrupt_image_is_skipped_counted_and_named(said, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for index in range(12):
        cv2.imwrite(str(images / f"{index}.png"), draw_document(index))
    (images / "broken.jpg").write_bytes(b"no image")
    roots = {f"dataset.{part}_options.options.root": str(images) for part in ("train", "valid")}
    drawn = {f"dataset.{part}_options.options.drawn": 0 for part in ("train", "valid")}
    text = said(**roots, **drawn)
    assert "broken.jpg" in text
    assert "1 unreadable image" in text


def test_few_negative_pairs_are_told_before_the_start(said):
    assert "rests on 216 negative pairs" in said()


def test_weights_that_cannot_be_had_end_a_study_before_it_starts(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    space = tmp_path / "space.yaml"
    choices = "{type: categorical, choices: [lcnet_035, lcnet_050]}"
    space.write_text(f"parameters:\n  model.backbone.options.name: {choices}\n")
    prepare_weights(tiny_config, load_space(str(space)))
    pretrained = tiny_config.with_values({"model.backbone.options.pretrained": True})
    with pytest.raises(TrainingError, match=r"weights of lcnet_0.. cannot be had"):
        prepare_weights(pretrained, load_space(str(space)))
    prepare_weights(tiny_config, load_space("demo"))


def test_sheets_are_drawn(said, tmp_path):
    said()
    assert cv2.imread(str(tmp_path / "augmented.png")).std() > 10
    assert cv2.imread(str(tmp_path / "captures.png")).std() > 10
