import numpy as np
import pytest
import torch

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner import SceneDataset
from otter_ray.projects.mrzscanner.data.documents import draw_page
from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.keys import SPOTTER_KEYS


@pytest.mark.parametrize("name", icao.FORMATS)
def test_a_page_has_its_zone_at_its_foot(name):
    rng = np.random.default_rng(1)
    form = icao.FORMATS[name]
    page, corners = draw_page(icao.random_zone(form, rng), form, rng, 400)
    (left, top), (right, bottom) = corners[0], corners[2]
    assert 0 <= left < right <= 400
    assert 0.5 * len(page) < top < bottom <= len(page)
    lines = page[int(top) : int(bottom), int(left) : int(right)].min(axis=2)
    assert np.median(lines) - np.percentile(lines, 2) > 60  # dark print


def test_scenes_have_their_zone_inside_and_black_around():
    scenes = SceneDataset((160, 160), length_of_dataset=12, seed=3)
    for index in range(6):
        image, labels = scenes[index]
        assert image.shape == (3, 160, 160)
        assert 0 <= labels["zone"].min() < labels["zone"].max() <= 1
        x, y = (labels["zone"] * 160).long().clamp(0, 159).unbind(1)
        assert (image[:, y, x].amax(dim=0) > 0).all()
        assert icao.holds(SPOTTER_KEYS.decode(labels["text"].tolist()))
    assert torch.equal(scenes[2][0], SceneDataset((160, 160), length_of_dataset=4, seed=3)[2][0])


def test_scenes_without_a_zone():
    scenes = SceneDataset((64, 64), empty=0.9, length_of_dataset=12)
    there = [bool(scenes[index][1]["zone"].isfinite().all()) for index in range(12)]
    assert there[0]
    assert not all(there)
    empty = scenes[there.index(False)][1]["text"].tolist()
    assert SPOTTER_KEYS.decode(empty) == ("",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["TD5"]}, "'TD5' is not a format"),
        (
            {"empty": 1},
            r"empty is 1 but must be a share in \[0, 1\): without a zone there is nothing to score",
        ),
        ({"share_random": -0.1}, "share_random is -0.1"),
        ({"max_turn": 200}, r"max_turn is 200 but must be an angle in \[0, 180\]"),
        ({"strength": 2}, r"strength is 2 but must be in \[0, 1\]"),
        ({"length_of_dataset": 0}, "length_of_dataset is 0 but must be at least 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        SceneDataset((64, 64), **options)
