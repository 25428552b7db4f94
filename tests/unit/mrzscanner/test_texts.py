import numpy as np
import pytest

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.metrics.texts import compare, distances
from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.keys import LENGTH, READER_KEYS, SPOTTER_KEYS

ZONE = ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10")


def padded(*words):
    ids = np.full((len(words), 12), -1, np.int64)
    for row, word in zip(ids, words, strict=True):
        row[: len(word)] = [*map(ord, word)]
    return ids, np.array([*map(len, words)])


def test_distances_are_levenshteins():
    pairs = [
        ("kitten", "sitting", 3),
        ("intention", "execution", 5),
        ("flaw", "lawn", 2),
        ("ab", "ba", 2),
        ("abcd", "acd", 1),
        ("acd", "abcd", 1),
        ("same", "same", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("", "", 0),
    ]
    one, other, expected = zip(*pairs, strict=True)
    assert distances(*padded(*one), *padded(*other)).tolist() == [*expected]


@pytest.mark.parametrize("keys", [READER_KEYS, SPOTTER_KEYS])
def test_labels_are_read_back(keys):
    assert len(keys) == 40
    rng = np.random.default_rng(0)
    for form in icao.FORMATS.values():
        zone = icao.random_zone(form, rng)
        assert keys.encode(zone).shape == (LENGTH,)
        assert keys.decode(keys.encode(zone)) == zone


def test_the_clients_count_the_keys_differently():
    assert (READER_KEYS.index["A"], READER_KEYS.index["<"], READER_KEYS.between_lines) == (3, 39, 2)
    assert (SPOTTER_KEYS.index["A"], SPOTTER_KEYS.index["<"], SPOTTER_KEYS.between_lines) == (2, 38, 39)


def test_padding_is_dropped_wherever_it_is():
    ids = READER_KEYS.encode(ZONE)
    spread = np.insert(ids, 5, READER_KEYS.pad)
    assert READER_KEYS.decode(spread) == ZONE


def test_a_text_that_fits_no_label():
    with pytest.raises(DataError, match="a zone of 134 places does not fit a label of 93"):
        READER_KEYS.encode(("A" * 44,) * 3)


def test_one_wrong_character_and_a_missing_line():
    wrong = (ZONE[0], "O" + ZONE[1][1:])
    truth = np.stack([READER_KEYS.encode(ZONE)] * 3)
    read = np.stack([READER_KEYS.encode(zone) for zone in (ZONE, wrong, ZONE[:1])])
    found = compare(read, truth, READER_KEYS)
    assert found.similarity.tolist() == pytest.approx([1, 1 - 1 / 89, 44 / 89])
    assert found.right.tolist() == [True, False, False]
    assert found.checked.tolist() == [True, False, False]
    assert found.format_right.tolist() == [True, True, False]
    assert found.confusions() == [{"true": "L", "read": "O", "times": 1}]
    assert found.by_format() == [{"format": "TD3", "zones": 3, "accuracy": pytest.approx(1 / 3)}]


def test_nothing_read_of_nothing_is_right():
    nothing = np.full((1, LENGTH), READER_KEYS.pad)
    assert compare(nothing, nothing, READER_KEYS).similarity.tolist() == [1]
