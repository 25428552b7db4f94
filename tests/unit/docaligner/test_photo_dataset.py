import json

import cv2
import numpy as np
import pytest
import torch

from otter_ray.errors import DataError
from otter_ray.projects.docaligner import PhotoDataset
from otter_ray.projects.docaligner.corners import corners_of, has_document

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


def test_the_test_set_has_photographs_of_its_own(folder):
    write(folder, ("one.png", [BOX]))
    valid = PhotoDataset(SIZE, root=str(folder))
    with pytest.raises(DataError, match=r"dataset.test_options.*the same photographs"):
        PhotoDataset(SIZE, root=str(folder), valid_dataset=valid, dataset_part="test")
