import json

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from otter_ray.errors import DataError
from otter_ray.projects.docaligner import AlignerModel, PhotoDataset
from otter_ray.projects.docaligner.corners import corners_of, has_document
from otter_ray.train.builders import build_datasets
from otter_ray.train.checks.validation import Checker

SIZE = (32, 32)
BOX = [[10, 12], [99, 20], [90, 70], [5, 60]]


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two", "none"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((80, 100, 3), 120, np.uint8))
    return tmp_path


def write(folder, *entries):
    entries = [{"file_path": name, "polygon": polygon} for name, polygon in entries]
    (folder / "gt.json").write_text(json.dumps(entries))


def test_photographs_and_their_corners(folder):
    write(folder, ("two.png", [BOX[::-1]]), ("none.png", []))
    data = PhotoDataset(SIZE, root=str(folder))
    (image, marked), (_, empty) = data[0], data[1]
    assert len(data) == 2
    assert image.shape == (3, *SIZE)
    expected = (torch.tensor(BOX) + 0.5) / torch.tensor([100, 80])
    torch.testing.assert_close(corners_of(marked[None])[0], expected)
    assert marked[9:].tolist() == [100, 80]
    assert not has_document(empty[None]).any()


@pytest.mark.parametrize(
    ("polygon", "told"),
    [
        ([BOX[:3]], "one.png has 3 corners, but a document has 4"),
        ([[*BOX, [1, 1]]], "has 5 corners"),
        ([[[float("nan"), 12], *BOX[1:]]], "not a finite number"),
        ([[BOX[0], BOX[2], BOX[1], BOX[3]]], "the sides of its polygon cross"),
        ([[[-9, 12], *BOX[1:]]], "a corner outside the photograph, which is 100x80"),
        ([BOX, BOX], "has 2 polygons, but a photograph shows one document"),
        ([[["a", 1], *BOX[1:]]], "not numbers"),
        ([BOX[0]], "not numbers"),
        ("x", "polygon is no list"),
    ],
)
def test_faulty_marks(folder, polygon, told):
    write(folder, ("one.png", polygon))
    with pytest.raises(DataError, match=told) as caught:
        PhotoDataset(SIZE, root=str(folder))
    assert "dataset.valid_options.options.root" in str(caught.value)
    assert "entry 0" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "gt.json cannot be read"),
        ("{", "is not JSON"),
        ("[]", "must be a list"),
        ('[{"file_path": "one.png"}]', "no file_path, or no polygon"),
        ('[{"file_path": "gone.png", "polygon": []}]', "gone.png is no image below the folder"),
        ('[{"file_path": "../one.png", "polygon": []}]', "is no image below the folder"),
        ('[{"file_path": "one.png", "polygon": []}]', "none of its photographs shows a document"),
        (
            '[{"file_path": "one.png", "polygon": []}, {"file_path": "one.png", "polygon": []}]',
            "marked twice",
        ),
    ],
)
def test_faulty_files(folder, text, told):
    if text is not None:
        (folder / "gt.json").write_text(text)
    with pytest.raises(DataError, match=told):
        PhotoDataset(SIZE, root=str(folder))


def sheet(polygon=BOX, light=230):
    """A light sheet on a dark ground, whose corners can be found again."""
    image = np.full((80, 100, 3), 40, np.uint8)
    return cv2.fillPoly(image, [np.array(polygon, np.int32)], (light, light, light))


def marked_folder(folder):
    cv2.imwrite(str(folder / "sheet.png"), sheet())
    write(folder, ("sheet.png", [BOX]), ("none.png", []))
    return str(folder)


def test_in_training_photographs_are_taken_again(folder):
    data = PhotoDataset((64, 64), root=marked_folder(folder), dataset_part="train", length_of_dataset=40)
    first = [data[index] for index in range(0, 40, 2)]
    assert len(data) == 40
    for image, marked in first:
        corners = corners_of(marked[None])[0]
        assert ((corners >= 0) & (corners <= 1)).all()
        inside = np.zeros((64, 64), np.uint8)
        cv2.fillPoly(inside, [(corners.numpy() * 64 - 0.5).round().astype(np.int32)], 1)
        around = cv2.dilate(inside, np.ones((9, 9))) - cv2.dilate(inside, np.ones((3, 3)))
        grey = image.mean(0).numpy()
        # The light sheet lies where the label says.
        assert grey[inside == 1].mean() > grey[around == 1].mean() + 0.15
        assert marked[9:].tolist() == [100, 80]
    assert not torch.equal(first[0][1], first[1][1])
    assert not any(has_document(data[index][1][None]) for index in range(1, 40, 2))
    assert torch.equal(data[0][0], first[0][0])
    data.set_epoch(1)
    assert not torch.equal(data[0][1], first[0][1])
    plain = data.without_augmentation()
    assert (len(plain), torch.equal(plain[0][0], PhotoDataset((64, 64), root=str(folder))[0][0])) == (2, True)


def test_a_config_trains_on_photographs(config, folder, tmp_path_factory):
    """Its own folder to validate with: a photograph in both is refused."""
    train, other = marked_folder(folder), tmp_path_factory.mktemp("other")
    cv2.imwrite(str(other / "table.png"), np.tile(np.arange(100, dtype=np.uint8), (80, 1)))
    moved = [[x - 4, y + 3] for x, y in BOX]
    cv2.imwrite(str(other / "sheet.png"), sheet(moved))
    write(other, ("sheet.png", [moved]), ("table.png", []))
    valid = str(other)
    photos = {"name": "PhotoDataset", "options": {"root": train, "length_of_dataset": 32}}
    changes = {"dataset.train_options": photos, "dataset.test_options": None}
    config = config.with_values(
        {**changes, "dataset.valid_options": {"name": "PhotoDataset", "options": {"root": valid}}}
    )
    assert Checker(0).problems(config) == []
    datasets = build_datasets(config)
    assert [len(data) for data in datasets] == [32, 2]
    model = AlignerModel(config)
    images, labels = default_collate([datasets[0][index] for index in range(4)])
    assert torch.stack([*model.loss(model(images), labels).values()]).sum().isfinite()
    config = config.with_values({"dataset.train_options.options.root": valid})
    with pytest.raises(
        DataError, match=r"dataset.train_options.options.root: the validation set has the same"
    ):
        build_datasets(config)


def test_the_test_set_has_photographs_of_its_own(folder):
    write(folder, ("one.png", [BOX]))
    valid = PhotoDataset(SIZE, root=str(folder))
    with pytest.raises(DataError, match=r"dataset.test_options.*the same photographs"):
        PhotoDataset(SIZE, root=str(folder), valid_dataset=valid, dataset_part="test")


def test_a_copy_in_another_folder_is_the_same_photograph(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    valid = PhotoDataset(SIZE, root=marked_folder(folder))
    cv2.imwrite(str(other / "copy.jpg"), sheet(), [cv2.IMWRITE_JPEG_QUALITY, 75])
    cv2.imwrite(str(other / "new.png"), sheet([[x - 1, y] for x, y in BOX]))
    write(other, ("new.png", [BOX]))
    train = PhotoDataset(SIZE, root=str(other), valid_dataset=valid, dataset_part="train")
    assert len(train) == 1
    write(other, ("new.png", [BOX]), ("copy.jpg", []))
    with pytest.raises(DataError, match=r"same photographs, or copies of them: [^ ]*/copy\.jpg\. Remove"):
        PhotoDataset(SIZE, root=str(other), valid_dataset=valid, dataset_part="train")


def test_short_epochs_show_all_photographs_in_turn(folder):
    lights = [50, 100, 150, 200, 250]
    for light in lights:
        cv2.imwrite(str(folder / f"{light}.png"), sheet(light=light))
    write(folder, *((f"{light}.png", [BOX]) for light in lights))
    options = {"root": str(folder), "strength": 0, "dataset_part": "train"}
    data, seen = PhotoDataset(SIZE, length_of_dataset=2, **options), []
    for epoch in range(5):
        data.set_epoch(epoch)
        seen += [round(image.max().item() * 255) for image, _ in (data[0], data[1])]
    assert seen == lights * 2
    plain = data.without_augmentation()
    assert [round(plain[index][0].max().item() * 255) for index in range(5)] == lights


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"seed": -1}, "seed is -1 but must be at least 0"),
        ({"length_of_dataset": 0}, "length_of_dataset is 0 but must be at least 1"),
    ],
)
def test_numbers_that_cannot_be(folder, option, told):
    with pytest.raises(DataError, match=rf"^dataset\.train_options\.options\.{told}"):
        PhotoDataset(SIZE, root=marked_folder(folder), dataset_part="train", **option)
