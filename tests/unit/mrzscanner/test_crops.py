import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner import CropDataset, SceneDataset
from otter_ray.projects.mrzscanner.data import ocr_b
from otter_ray.projects.mrzscanner.data.crops import draw_crop
from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS


def test_all_glyphs_differ_and_fit_their_cells():
    cells = ocr_b._glyphs(20, 40)
    assert len({cell.tobytes() for cell in cells}) == 37
    assert all(cell.max() > 200 for cell in cells)
    assert not cells[:, [0, -1]].any()  # nothing is cut off above or below


def test_print_is_character_by_character():
    ink = ocr_b.printed(("AB", "BA"), 12, 24)
    assert ink.shape == (48, 24)
    assert np.array_equal(ink[:24, :12], ink[24:, 12:])
    assert not np.array_equal(ink[:24, :12], ink[:24, 12:])


def test_the_corners_are_where_the_zone_is():
    size = 64, 640
    zone = ("W" * 44, "W" * 44)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        image, corners = draw_crop(zone, rng, size, strength=0.0)
        assert np.allclose(corners, [[0, 0], [1, 0], [1, 1], [0, 1]])
        dark = image.mean(axis=2) < image.max() - 60
        columns = np.flatnonzero(dark.any(axis=0))
        assert columns[0] < 8
        assert columns[-1] > 632
        rows = dark.mean(axis=1)
        assert rows[30:34].max() == 0  # between the lines
        assert min(rows[16], rows[48]) > 0.1


def test_items_repeat_by_seed_and_epoch():
    train = CropDataset((48, 480), length_of_dataset=4, seed=3)
    first, labels = train[1]
    assert first.shape == (3, 48, 480)
    assert 0 <= first.min() < first.max() <= 1
    assert labels["zone"].shape == (4, 2)
    assert icao.holds(READER_KEYS.decode(labels["text"].tolist()))
    assert torch.equal(first, CropDataset((48, 480), length_of_dataset=4, seed=3)[1][0])
    assert not torch.equal(first, CropDataset((48, 480), length_of_dataset=4, seed=4)[1][0])
    train.set_epoch(1)
    assert not torch.equal(first, train[1][0])
    frozen = CropDataset((48, 480), length_of_dataset=4, seed=3, frozen=True)
    frozen.set_epoch(1)
    assert torch.equal(first, frozen[1][0])
    with pytest.raises(IndexError):
        train[4]


@pytest.mark.parametrize("kind", [CropDataset, SceneDataset])
def test_a_worker_that_stays_draws_the_next_epoch(kind):
    train = kind((24, 220), length_of_dataset=1)
    loader = DataLoader(train, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in range(2):
        train.set_epoch(epoch)
        seen += [image[0] for image, _ in loader]
        assert torch.equal(seen[-1], train[0][0])
    assert not torch.equal(*seen)


def test_random_text_is_a_share():
    drawn = CropDataset((48, 480), length_of_dataset=40, share_random=1.0, strength=0)
    assert not any(icao.holds(READER_KEYS.decode(drawn[i][1]["text"].tolist())) for i in range(10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": []}, r"formats is \[\]"),
        ({"formats": ["TD3", "MRV-A"]}, "'MRV-A' is not a format. Did you mean 'MRVA'"),
        ({"share_random": 1.5}, r"share_random is 1.5 but must be a share in \[0, 1\]"),
        ({"length_of_dataset": 0}, "length_of_dataset is 0 but must be at least 1"),
        ({"strength": -1}, r"strength is -1 but must be in \[0, 1\]"),
        ({"strength": 1.5}, r"strength is 1.5 but must be in \[0, 1\]"),
        ({"image_size": (16, 480)}, r"8 px a line and 5 px a character. Set it to at least \[24, 220\]"),
        ({"image_size": (48, 200), "formats": ["TD3"]}, r"zones of TD3 need .*\[16, 220\]"),
    ],
)  # fmt: skip
def test_options_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        CropDataset(**{"image_size": (48, 480), **options})


def test_a_font_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(ocr_b, "FONT", tmp_path / "OCRB.otf")
    with pytest.raises(DataError, match=r"OCR-B cannot be read: .*Debian's package fonts-ocr-b"):
        CropDataset((48, 480))
