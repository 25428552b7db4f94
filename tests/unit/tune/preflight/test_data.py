import shutil

import cv2
import pytest
import yaml

from otter_ray.errors import ConfigError, DataError, TrainingError
from otter_ray.space import SearchProblem, load_space
from otter_ray.study.layout import StudyFolder
from otter_ray.train.checkpoint.restore import find_restore
from otter_ray.tune.preflight.data import prepare_data
from otter_ray.tune.preflight.static_checks import check_study, resolve
from otter_ray.tune.preflight.weights import copy_source_checkpoint, prepare_weights
from otter_ray.vision.drawing import draw_document


@pytest.fixture
def said(tiny_config, tmp_path, printed):
    """Prepares the tiny config with some values changed; gives what is printed."""

    def prepare(**values):
        prepare_data(
            SearchProblem(tiny_config.with_values(values), load_space("demo")), StudyFolder(tmp_path)
        )
        return printed()

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


def test_few_negative_pairs_and_documents_are_told_before_the_start(said):
    text = said()
    assert "with only 216 negative pairs" in text
    assert "With only 4 documents, the 95 % interval of valid_fpr@4 is not reliable" in text


def test_several_small_sets_are_told_in_one_line(said):
    """The validation set and the test split; the validation set's is the one that counts."""
    assert said().count("negative pairs, the hardest") == 1


def test_a_test_split_is_counted_and_too_few_documents_end_a_study_before_it_starts(said):
    assert "24 images of 4 classes to validate with, 20 images of 5 classes to test with" in said()
    with pytest.raises(DataError, match=r"Set dataset\.test_options\.options\.held_out to 28 or less"):
        said(**{"dataset.test_options.options.held_out": 40})


@pytest.fixture
def ready(tmp_path, printed):
    """Prepares data and weights of a config and a space of some parameters; gives what is printed."""

    def prepare(config, parameters):
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump({"parameters": parameters}))
        folder = StudyFolder(tmp_path)
        problem = copy_source_checkpoint(SearchProblem(config, load_space(str(path))), folder)
        prepare_weights(problem, prepare_data(problem, folder))
        return printed()

    return prepare


def choices(*values):
    return {"type": "categorical", "choices": list(values)}


BACKBONE = "model.backbone.options.name"


def test_weights_that_cannot_be_had_end_a_study_before_it_starts(ready, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    space = {BACKBONE: choices("lcnet_035", "lcnet_050")}
    ready(tiny_config, space)
    with pytest.raises(TrainingError, match=r"weights of lcnet_0.. could not be downloaded"):
        ready(tiny_config.with_values({"model.backbone.options.pretrained": True}), space)


def restored(config, run, **values):
    where = {"common.is_restore": True, "common.restore_ind": str(run.folder)}
    return config.with_values({**where, **values})


def check(config, parameters, tmp_path):
    (tmp_path / "checked.yaml").write_text(yaml.safe_dump({"parameters": parameters}))
    check_study(resolve(SearchProblem(config, load_space(str(tmp_path / "checked.yaml")))), 0)


def test_a_checkpoint_that_not_every_branch_fits_ends_it_too(tiny_config, tiny_run, tmp_path):
    config = restored(tiny_config, tiny_run)
    check(config, {"optimizer.options.lr": choices(0.003, 0.01)}, tmp_path)
    says = f"another architecture than the config: .* happens if the space sets {BACKBONE}=lcnet_050"
    with pytest.raises(ConfigError, match=says):
        check(config, {BACKBONE: choices("lcnet_035", "lcnet_050")}, tmp_path)
    going_on = restored(config, tiny_run, **{"common.restore_all_states": True, "trainer.max_epochs": 6})
    says = r"checked.yaml:\d+: optimizer.options.lr: 0.01 but .* was trained with 0.003"
    with pytest.raises(ConfigError, match=says):
        check(going_on, {"optimizer.options.lr": choices(0.003, 0.01)}, tmp_path)


def test_all_states_of_other_classes_are_told_once_the_data_is_known(ready, tiny_config, tiny_run):
    config = restored(tiny_config, tiny_run, **{"common.restore_all_states": True, "trainer.max_epochs": 6})
    with pytest.raises(ConfigError, match=r"differ in loss\.weight"):
        ready(config, {"dataset.train_options.options.drawn": choices(40, 60)})


def test_a_checkpoint_that_fits_is_kept_in_the_study(ready, tiny_config, tiny_run, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_run.folder, source)
    config = restored(tiny_config, tiny_run, **{"common.restore_ind": str(source)})
    space = {"dataset.train_options.options.drawn": choices(40, 60)}
    said = ready(config, space)
    assert f"starts from {source}/checkpoints/last.ckpt (epoch 2, valid_fpr@4 " in said
    assert "does not match the config in loss.weight, initialized from scratch" in said
    assert "meta parameter" not in said
    kept, original = tmp_path / "restored" / "last.ckpt", tiny_run.folder / "checkpoints" / "last.ckpt"
    assert kept.read_bytes() == original.read_bytes()
    # Resumed, it needs no source.
    shutil.rmtree(source)
    assert f"starts from {source}" in ready(config, space)
    pinned = copy_source_checkpoint(SearchProblem(config, load_space("demo")), StudyFolder(tmp_path))
    assert find_restore(pinned.config) == kept


def test_nothing_is_kept_where_nothing_is_restored(tiny_config, tmp_path):
    problem = SearchProblem(tiny_config, load_space("demo"))
    assert copy_source_checkpoint(problem, StudyFolder(tmp_path)) is problem
    assert not list(tmp_path.iterdir())


def test_sheets_are_drawn(said, tmp_path):
    said()
    assert cv2.imread(str(tmp_path / "augmented.png")).std() > 10
    assert cv2.imread(str(tmp_path / "captures.png")).std() > 10
