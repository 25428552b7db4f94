import numpy as np
import pytest
import torch

from otter_ray.projects.docaligner.corners import (
    corners_of,
    has_document,
    in_order,
    label,
    to_fractions,
    to_pixels,
)
from otter_ray.projects.docaligner.modeling.decoding import PeakPlace, decode
from otter_ray.projects.docaligner.modeling.targets import corner_maps, edge_maps, inside
from otter_ray.vision.jaccard import jaccard

BOX = np.array([[0.2, 0.25], [0.8, 0.2], [0.75, 0.9], [0.15, 0.8]])


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("mirrored", [1, -1])
def test_corners_are_sorted_as_clients_name_them(shift, mirrored):
    assert np.array_equal(in_order(np.roll(BOX, shift, axis=0)[::mirrored]), BOX)


def test_a_label():
    row = torch.tensor(label(BOX, 1920, 1080))[None]
    assert has_document(row).all()
    torch.testing.assert_close(corners_of(row)[0], torch.tensor(BOX, dtype=torch.float32))
    assert row[0, 9:].tolist() == [1920, 1080]
    assert not has_document(torch.tensor(label(None, 3, 4))[None]).any()


def test_fractions_are_measured_from_edge_to_edge():
    assert to_pixels(torch.tensor([0.5, 0.5]), (3, 5)).tolist() == [2, 1]
    torch.testing.assert_close(to_fractions(torch.tensor([2.0, 1.0]), (3, 5)), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(
    ("size", "cells", "sigma"), [(256, 128, 2.5), (256, 64, 1.0), (64, 16, 1.0), (64, 32, 2.0)]
)
def test_perfect_heatmaps_give_the_corners_back(size, cells, sigma):
    rng = np.random.default_rng(0)
    true = BOX + rng.uniform(-0.08, 0.08, (20, 4, 2))
    maps = corner_maps(torch.tensor(true), (cells, cells), sigma)
    found = decode(maps, (size, size)).numpy()
    assert np.mean([jaccard(*pair) for pair in zip(found, true, strict=True)]) > (
        0.997 if size == 256 else 0.98
    )
    expected = PeakPlace()(maps).numpy()
    assert np.mean([jaccard(*pair) for pair in zip(expected, true, strict=True)]) > 0.985


def test_what_the_client_does_not_see():
    maps = corner_maps(torch.tensor(BOX[None]), (32, 32), 1.5)
    maps[0, 1] *= 0.29
    maps[0, 2] = 0
    missing = decode(maps, (64, 64)).isnan().any(2)
    assert missing.tolist() == [[False, True, True, False]]
    assert PeakPlace()(maps).isfinite().all()


def test_the_largest_blob_wins_however_weak():
    maps = corner_maps(torch.tensor(BOX[None]), (32, 32), 1.0)
    maps[0, 0, 20:28, 20:28] = 0.6
    found = decode(maps, (64, 64))[0, 0]
    torch.testing.assert_close(found, torch.tensor([0.75, 0.75], dtype=torch.float64), atol=0.02, rtol=0)


def test_a_flat_map_has_a_place_that_rounding_does_not_move():
    flat = torch.full((1, 4, 16, 16), 0.05)
    noisy = flat + 1e-7 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    assert (PeakPlace()(flat) - PeakPlace()(noisy)).abs().max() < 1e-5


def test_the_outline():
    square = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]])
    outline = edge_maps(square, (16, 16), 1.0)[0, 0]
    assert outline[4, 8] > 0.8
    assert outline[8, 8] < 0.01
    assert outline[0, 0] < 0.01


def test_corners_outside_the_frame():
    corners = torch.tensor([[[-0.1, 0.5], [0.0, 1.0], [0.5, 1.01], [0.5, 0.5]]])
    assert inside(corners).tolist() == [[False, True, False, True]]
