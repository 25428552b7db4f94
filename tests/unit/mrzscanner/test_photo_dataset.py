import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner import PhotoDataset
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS, SPOTTER_KEYS

ZONE = ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10")
ENTRY = {"img_path": "a.png", "mrz_1": ZONE[0], "mrz_2": ZONE[1]}


@pytest.fixture
def folder(tmp_path):
    image = np.zeros((40, 120, 3), np.uint8)
    image[..., 2] = 255  # red, for OpenCV
    cv2.imwrite(str(tmp_path / "a.png"), image)

    def annotate(entries):
        text = entries if isinstance(entries, str) else json.dumps(entries)
        (tmp_path / "annotations.json").write_text(text)
        return str(tmp_path)

    return annotate


def test_crops_are_resized_and_scenes_padded(folder):
    root = folder({"1": ENTRY})
    image, labels = PhotoDataset((20, 60), root=root)[0]
    assert READER_KEYS.decode(labels["text"].tolist()) == ZONE
    assert labels["zone"].isnan().all()
    assert torch.equal(image.mean(dim=(1, 2)), torch.tensor([1.0, 0.0, 0.0]))
    image, labels = PhotoDataset((60, 60), root=root, keys="spotter")[0]
    assert SPOTTER_KEYS.decode(labels["text"].tolist()) == ZONE
    assert image[0].mean().item() == pytest.approx(1 / 3, abs=0.02)
    assert image[0, 30].min() == 1


def test_an_image_is_decoded_once(folder, monkeypatch):
    root = folder({"1": ENTRY})
    first = PhotoDataset((20, 60), root=root)[0][0]
    monkeypatch.setattr("PIL.Image.open", None)  # nothing decodes any more
    assert torch.equal(PhotoDataset((20, 60), root=root)[0][0], first)


def test_an_image_that_is_none(folder, tmp_path):
    root = folder({"1": ENTRY, "2": {**ENTRY, "img_path": "b.png"}})
    (tmp_path / "b.png").write_bytes(b"no image")
    told = r"dataset.test_options.options.annotations: 1 images cannot be used, .* b\.png: it cannot be read"
    with (
        pytest.warns(UserWarning, match="1 unreadable images left out"),
        pytest.raises(DataError, match=told),
    ):
        PhotoDataset((20, 60), root=root, dataset_part="test")


def test_an_image_under_another_of_its_names(folder, tmp_path):
    (tmp_path / "again").symlink_to(tmp_path)
    names = [str(tmp_path / "a.png"), "./a.png", "again/a.png", str(tmp_path / "again/a.png")]
    root = folder({name: {**ENTRY, "img_path": name} for name in names})
    data = PhotoDataset((20, 60), root=root)
    assert len(data) == 4
    assert all(torch.equal(image, data[0][0]) for image, _ in data)
    assert len(PhotoDataset((20, 60), root=str(tmp_path / "again"))) == 4


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("b.gif", r"b\.gif: images end in \.bmp, .*, and do not begin with a dot\. Replace"),
        (".b.png", "images end in .*, and do not begin with a dot"),
        ("../b.png", r"\.\./b\.png: it is not below /"),
    ],
)
def test_an_image_that_is_left_out(folder, tmp_path, name, told):
    (tmp_path / "below").mkdir()
    for place in (tmp_path / "below" / "a.png", tmp_path / "below" / name):
        shutil.copy(tmp_path / "a.png", place)
    folder({"1": ENTRY, "2": {**ENTRY, "img_path": name}})
    shutil.move(tmp_path / "annotations.json", tmp_path / "below")
    with pytest.raises(DataError, match=r"annotations: 1 images cannot be used, such as .*" + told):
        PhotoDataset((20, 60), root=str(tmp_path / "below"))


def test_home_in_root(folder, tmp_path, monkeypatch):
    folder({"1": ENTRY})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(PhotoDataset((20, 60), root="~")) == 1


def test_wrong_check_digits_are_a_warning(folder):
    root = folder({"1": {**ENTRY, "mrz_2": ZONE[1][:-1] + "9"}})
    with pytest.warns(UserWarning, match=r"check digits do not hold in 1 of 1 zones, .*: a\.png"):
        assert len(PhotoDataset((20, 60), root=root)) == 1


def test_an_image_of_two_sets(folder):
    root = folder({"1": ENTRY})
    valid = PhotoDataset((20, 60), root=root)
    with pytest.raises(DataError, match="1 images are in two data sets"):
        PhotoDataset((20, 60), root=root, valid_dataset=valid)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[", "is not JSON"),
        ({}, "has no entries"),
        ({"7": {"mrz_1": ZONE[0]}}, "7 has no img_path"),
        ({"7": {**ENTRY, "img_path": "b.png"}}, "7: there is no image .*b.png"),
        ({"7": {"img_path": "a.png", "mrz_1": ZONE[0]}}, "7 has no line mrz_2"),
        ({"7": {**ENTRY, "mrz_3": 5}}, r"annotations\.json: 7: mrz_3 is 5 but must be a text"),
        ({"7": {**ENTRY, "mrz_2": ZONE[1].lower()}}, "7: line 2 has 'b', .*Write it in capitals"),
        ({"7": {**ENTRY, "mrz_2": ZONE[1][:-1]}}, "7: the lines have 44, 43 characters"),
    ],
)
def test_annotations_that_cannot_be_used(folder, entries, message):
    with pytest.raises(DataError, match=message):
        PhotoDataset((20, 60), root=folder(entries))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="root is None but must be a folder"):
        PhotoDataset((20, 60))
    with pytest.raises(DataError, match="root is '' but must be a folder"):
        PhotoDataset((20, 60), root="")
    with pytest.raises(DataError, match=r"annotations: .* cannot be read"):
        PhotoDataset((20, 60), root=str(tmp_path / "none"))
