import pickle

import cv2
import numpy as np
import pytest
import torch

from otter_ray.errors import DataError
from otter_ray.projects.docaligner import PaperDataset
from otter_ray.projects.docaligner.corners import LABEL, corners_of, has_document, in_order
from otter_ray.projects.docaligner.data import paper_dataset
from otter_ray.projects.docaligner.data.documents import folder_documents
from otter_ray.projects.docaligner.data.papers import draw_paper
from otter_ray.projects.docaligner.data.scene import SceneOptions, cover_corner, scene_size, take_photo
from otter_ray.train.builders import build_datasets
from otter_ray.vision import drawing

SIZE = (48, 48)


def dataset(**options):
    return PaperDataset(SIZE, **{"drawn": 3, "length_of_dataset": 24, **options})


def test_items():
    data = dataset(empty=0.3)
    images, labels = map(torch.stack, zip(*(data[index] for index in range(24)), strict=True))
    assert images.shape == (24, 3, *SIZE)
    assert 0 <= images.min() < 0.2
    assert 0.8 < images.max() <= 1
    assert labels.shape == (24, LABEL)
    shown = has_document(labels)
    assert 0 < shown.sum() < 24
    corners = corners_of(labels)[shown]
    assert ((corners >= 0) & (corners <= 1)).all()
    assert all(np.array_equal(in_order(each), each) for each in corners.double().numpy())
    assert (labels[:, 9:].amax(1) == 1920).all()


def test_an_item_depends_on_seed_epoch_and_index_alone():
    data, other = dataset(), dataset(seed=1)
    item = data[5][0]
    data[6]
    torch.testing.assert_close(data[5][0], item, rtol=0, atol=0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(data))[5][0], item, rtol=0, atol=0)
    assert not torch.equal(other[5][0], item)
    data.set_epoch(1)
    assert not torch.equal(data[5][0], item)


def test_sets_of_other_documents_have_other_scenes(tmp_path):
    """With the same seed: a validation set must not have the training set's backgrounds."""
    for number in range(4):
        folder = tmp_path / f"{number // 2}"
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (64, 48, 3))
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    sets = [dataset(empty=0.99, drawn_seed=series) for series in (0, 1)]
    sets += [dataset(empty=0.99, drawn=0, root=str(tmp_path / folder)) for folder in ("0", "1")]
    photographs = {data.photograph(0)[0].tobytes() for data in sets}
    assert len(photographs) == 4


def test_frozen_photographs_depend_on_all_code_that_draws_them(monkeypatch):
    found = []
    monkeypatch.setattr(
        paper_dataset, "source_digest", lambda module: found.append(module) or module.__name__
    )
    dataset(frozen=True, length_of_dataset=2)
    assert {paper_dataset, drawing} <= {*found}


def test_a_patch_over_a_corner_outside_the_frame_paints_nothing_inside():
    scene = np.zeros((60, 60, 3), np.uint8)
    for seed in range(20):
        cover_corner(np.random.default_rng(seed), scene, np.full((4, 2), -0.2))
    assert not scene.any()


def test_frozen_photographs_are_those_of_the_first_epoch():
    live, frozen = dataset(), dataset(frozen=True)
    frozen.set_epoch(3)
    for index in (0, 7, 23):
        for part, expected in zip(frozen[index], live[index], strict=True):
            torch.testing.assert_close(part, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (200, 256)])
def test_the_labels_are_where_the_corners_are(size):
    """A white page on black, without disturbances: where what is bright has its centre."""
    options = SceneOptions(strength=0.0, occlusion=0.0, patch=0.0)
    y, x = np.mgrid[: size[0], : size[1]]
    for index in range(10):
        rng = np.random.default_rng(index)
        surface = np.zeros((*scene_size(size), 3), np.uint8)
        page = np.full((64, 64, 3), 255, np.uint8)
        image, label = take_photo(rng, size, surface, (page, 0.7), options)
        light = np.where(image.max(2) > 8, image.max(2), 0) / float(np.quantile(image.max(2), 0.99))
        outline = label[:8].reshape(4, 2) * np.float32(size[::-1]) - 0.5
        moments = cv2.moments(outline.astype(np.float32))
        assert light.sum() == pytest.approx(moments["m00"], rel=0.02)
        centre = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
        expected = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
        assert centre == pytest.approx(expected, abs=0.12)


def test_documents_keep_their_aspect_ratio(tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((20, 60, 3), 200, np.uint8))
    cv2.imwrite(str(tmp_path / "tall.png"), np.full((50, 20, 3), 90, np.uint8))
    found = folder_documents(str(tmp_path), SIZE, "root", "train", 2)
    assert dict(zip(found.table.names, found.aspects, strict=True)) == {"tall.png": 0.4, "wide.png": 3.0}
    assert {
        round(draw_paper(index, 0).shape[1] / draw_paper(index, 0).shape[0], 2) for index in range(12)
    } > {0.71}


def test_photographs_as_backgrounds(tmp_path):
    cv2.imwrite(str(tmp_path / "room.png"), np.full((90, 120, 3), (0, 0, 255), np.uint8))
    data = dataset(indoor_root=str(tmp_path), empty=0.9, occlusion=0, patch=0, strength=0)
    red = [float((image[0] - image[2]).median()) for image, _ in (data[index] for index in range(24))]
    assert 4 < sum(each > 0.7 for each in red) < 20


def test_documents_of_the_other_sets_are_left_out(tmp_path):
    for folder, numbers in (("train", range(5)), ("valid", range(3, 6))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            cv2.imwrite(
                str(tmp_path / folder / f"{number}.png"),
                np.random.default_rng(number).integers(0, 255, (64, 48, 3)),
            )
    valid = PaperDataset(SIZE, root=str(tmp_path / "valid"), length_of_dataset=2, frozen=True)
    train = PaperDataset(SIZE, root=str(tmp_path / "train"), valid_dataset=valid)
    assert len(train._documents) == 3
    with pytest.raises(DataError, match=r"train_options\.options\.root: only 0 of 3"):
        PaperDataset(SIZE, root=str(tmp_path / "valid"), valid_dataset=valid)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"drawn": 0}, "Set exactly one of dataset.train_options.options.root .*: neither is given"),
        ({"root": "."}, "both are given"),
        ({"empty": 1}, r"empty is 1 but must be in \[0, 1\)"),
        ({"length_of_dataset": 0}, "length_of_dataset is 0 but must be at least 1"),
        ({"occlusion": 1.1}, r"occlusion is 1.1 but must be in \[0, 1\]"),
        ({"strength": -1}, "strength is -1"),
        ({"indoor_root": "nowhere"}, "indoor_root is 'nowhere' but there is no such folder"),
    ],
)
def test_bad_options(options, told):
    with pytest.raises(DataError, match=told):
        dataset(**options)


def test_messages_name_the_data_set_of_the_config(config):
    """A validation set that is not frozen, and a training set that is."""
    key = "dataset.{}_options.options.{}".format
    small = {"drawn": 2, "length_of_dataset": 2, "empty": 0.5}
    parts = ("train", "valid", "test")
    config = config.with_values({key(part, name): value for part in parts for name, value in small.items()})
    for part in ("valid", "train"):
        wrong = config.with_values({key(part, "empty"): 1, key(part, "frozen"): part == "train"})
        with pytest.raises(DataError, match=key(part, "empty is 1")):
            build_datasets(wrong)


def test_folders_without_enough_documents(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        PaperDataset(SIZE, root=str(tmp_path))
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(DataError, match=r"holds 1 usable image\. At least 2"):
        PaperDataset(SIZE, root=str(tmp_path))


def test_two_sets_of_the_same_drawn_documents():
    valid = dataset(drawn_seed=3, frozen=True, length_of_dataset=2)
    with pytest.raises(DataError, match="drawn_seed is 3, as in another data set"):
        dataset(drawn_seed=3, valid_dataset=valid)
    assert len(dataset(drawn_seed=4, valid_dataset=valid)) == 24
