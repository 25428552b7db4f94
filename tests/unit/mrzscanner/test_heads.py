import numpy as np
import pytest
import torch

from otter_ray.projects.mrzscanner import CtcHead, GridHead, QueryHead
from otter_ray.projects.mrzscanner.modeling.grid_head import _cells, _zone_loss
from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.keys import READER_KEYS, SPOTTER_KEYS

SIZE = 12, 120


def heads(keys=READER_KEYS):
    torch.manual_seed(0)
    return {
        "grid": GridHead(8, SIZE, keys, dim=16),
        "ctc": CtcHead(8, SIZE, keys, dim=16),
        "query": QueryHead([8], [SIZE], keys, dim=16, layers=1),
    }


def labels(keys=READER_KEYS):
    rng = np.random.default_rng(0)
    zones = [icao.random_zone(form, rng) for form in icao.FORMATS.values()]
    text = torch.from_numpy(np.stack([keys.encode(zone) for zone in zones]))
    return zones, {"text": text, "zone": torch.full((len(zones), 4, 2), torch.nan)}


def perfect_outputs(name, keys, zones, text):
    """What a head would tell if it were sure."""
    rows = [[key for key in row if key not in (keys.pad, keys.eos)] for row in text.tolist()]
    if name == "query":
        return (30.0 * torch.nn.functional.one_hot(text, len(keys)),)
    if name == "ctc":
        steps = torch.zeros(len(rows), 3 * SIZE[1], dtype=torch.long)
        for row, ids in zip(steps, rows, strict=True):
            row[1 : 2 * len(ids) + 1 : 2] = torch.tensor(ids)
        return (30.0 * torch.nn.functional.one_hot(steps, len(keys)),)
    form = torch.tensor([icao.SHAPES.index((len(zone), len(zone[0]))) for zone in zones])
    grids = [torch.zeros(len(zones), *shape, 37) for shape in icao.SHAPES]
    for place, (zone, shape) in enumerate(zip(zones, form.tolist(), strict=True)):
        ids = torch.tensor([[icao.ALPHABET.index(character) for character in line] for line in zone])
        grids[shape][place] = 30.0 * torch.nn.functional.one_hot(ids, 37)
    return (30.0 * torch.nn.functional.one_hot(form, 3), torch.zeros(len(zones), 6), *grids)


@pytest.mark.parametrize("keys", [READER_KEYS, SPOTTER_KEYS])
@pytest.mark.parametrize("name", ["grid", "ctc", "query"])
def test_what_a_head_is_sure_of_is_the_text_and_costs_nothing(name, keys):
    (zones, truth), head = labels(keys), heads(keys)[name]
    outputs = perfect_outputs(name, keys, zones, truth["text"])
    text = head.text(outputs)
    assert text.shape == (5, 93, 40)
    assert [keys.decode(row) for row in text.argmax(2).tolist()] == zones
    assert all(loss < 1e-3 for loss in head.losses(outputs, truth, 0.0).values())
    wrong = head.losses([output.flip(0) for output in outputs], truth, 0.0)
    assert all(loss > 1 for name, loss in wrong.items() if name != "zone")


@pytest.mark.parametrize("name", ["grid", "ctc", "query"])
def test_every_weight_is_trained(name):
    (_, truth), head = labels(), heads()[name]
    outputs = head([torch.randn(5, 8, *SIZE, generator=torch.manual_seed(1))])
    sum(head.losses(outputs, truth, 0.1).values()).backward()
    assert [key for key, weight in head.named_parameters() if weight.grad is None] == []


def test_the_grid_reads_features_where_the_characters_are():
    # One channel says the column, one the row: cells read the places of their middles.
    y, x = torch.meshgrid((torch.arange(12) + 0.5) / 12, (torch.arange(120) + 0.5) / 120, indexing="ij")
    places = torch.tensor([[0.1, 0.8, 0.2, 0.7, 0.3, 0.8]])
    cells = _cells(torch.stack([x, y])[None], places, 3, 30).reshape(3, 30, -1, 2).mean(dim=2)
    assert cells[:, [0, -1], 0].flatten().tolist() == pytest.approx([0.1, 0.8] * 3, abs=1e-3)
    # 0.2 at a sixth of the width and 0.3 at five sixths: a slope of 0.15.
    assert cells[0, [0, -1], 1].tolist() == pytest.approx([0.19, 0.295], abs=0.005)
    assert cells[2, [0, -1], 1].tolist() == pytest.approx([0.69, 0.795], abs=0.005)


def test_the_place_of_a_zone_is_that_of_its_corner_cells():
    zone = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    right = torch.tensor([[0.5 / 44, 1 - 0.5 / 44, 0.25, 0.75, 0.25, 0.75]])
    assert _zone_loss(right, zone, torch.tensor([2])).item() == pytest.approx(0, abs=1e-9)
    assert _zone_loss(right + 0.1, zone, torch.tensor([2])).item() > 0.1
    assert _zone_loss(right, zone.fill_(torch.nan), torch.tensor([2])).item() == 0


def test_ctc_collapses_as_it_is_defined():
    head = heads()["ctc"]
    ids = torch.tensor([[0, 3, 3, 0, 3, 4, 4, 2, 2, 0, 0, 5, 1]])
    logits = torch.nn.functional.one_hot(ids, 40).float()
    assert head.text((logits,)).argmax(2)[0, :8].tolist() == [3, 3, 4, 2, 5, 1, 0, 0]


def test_rounding_moves_no_text_of_ctc():
    head = heads()["ctc"]
    (zones, truth), generator = labels(), torch.manual_seed(2)
    (logits,) = perfect_outputs("ctc", READER_KEYS, zones, truth["text"])
    logits += torch.rand(logits.shape, generator=generator)
    # The blank after the first character is tied with a character that would come in.
    logits[:, 2, READER_KEYS.index["X"]] = logits[:, 2, READER_KEYS.pad]
    noise = 1e-6 * (2 * torch.rand(logits.shape, generator=generator) - 1)
    texts = [head.text((each,)) for each in (logits, logits + noise)]
    assert (texts[0] - texts[1]).abs().max() < 1e-4
    lengths = []
    for tilt in (-0.01, 0.01):
        logits[:, 2, READER_KEYS.index["X"]] += tilt
        text = head.text((logits,))
        assert torch.allclose(text.sum(2), torch.ones(5, 93))
        lengths.append((text.argmax(2) != READER_KEYS.pad).sum(1))
        logits[:, 2, READER_KEYS.index["X"]] -= tilt
    assert (lengths[1] - lengths[0]).tolist() == [1] * 5


def test_too_few_columns_for_ctc():
    with pytest.raises(ValueError, match="the feature map is 12x80, but CTC needs 3 rows, and 88 columns"):
        CtcHead(8, (12, 80), READER_KEYS)


def test_heads_of_attention_that_do_not_divide():
    with pytest.raises(ValueError, match=r"dim is 30, which heads \(4\) does not divide"):
        QueryHead([8], [SIZE], READER_KEYS, dim=30)


def test_queries_and_positions_are_not_decayed():
    assert heads()["query"].no_weight_decay() == {"queries", "positions.0"}
