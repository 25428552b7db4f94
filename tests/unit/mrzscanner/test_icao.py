import numpy as np
import pytest

from otter_ray.errors import DataError
from otter_ray.projects.mrzscanner.text import icao
from otter_ray.projects.mrzscanner.text.icao import FORMATS

# ICAO Doc 9303, parts 4 to 7: the specimens of the state of Utopia.
SPECIMENS = {
    "TD3": ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10"),
    "TD2": ("I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6"),
    "TD1": (
        "I<UTOD231458907<<<<<<<<<<<<<<<",
        "7408122F1204159UTO<<<<<<<<<<<6",
        "ERIKSSON<<ANNA<MARIA<<<<<<<<<<",
    ),
    "MRVA": ("V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L8988901C4XXX4009078F96121096ZE184226B<<<<<<"),
    "MRVB": ("V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "L8988901C4XXX4009078F9612109<<<<<<<<"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_specimens_hold(name):
    zone = SPECIMENS[name]
    assert icao.check_zone(zone, "mrz") == zone
    assert icao.format_of(zone) is FORMATS[name]
    assert icao.holds(zone)


@pytest.mark.parametrize("name", FORMATS)
def test_each_check_digit_counts(name):
    zone = SPECIMENS[name]
    for check in FORMATS[name].checks:
        line = zone[check.line]
        other = str((int(line[check.place]) + 1) % 10)
        wrong = [*zone]
        wrong[check.line] = line[: check.place] + other + line[check.place + 1 :]
        assert check in icao.wrong_checks(tuple(wrong))


@pytest.mark.parametrize("name", FORMATS)
def test_zones_that_are_made_up_hold(name):
    rng = np.random.default_rng(3)
    zones = [icao.random_zone(FORMATS[name], rng) for _ in range(60)]
    assert all(icao.holds(icao.check_zone(zone, "mrz")) for zone in zones)
    assert {icao.format_of(zone).name for zone in zones} == {name}
    assert len(set(zones)) == 60


def test_the_filler_for_an_empty_personal_number():
    zone = SPECIMENS["TD3"]
    empty = icao.with_check_digits((zone[0], zone[1][:28] + "<" * 15 + "0"), FORMATS["TD3"])
    filled = (empty[0], empty[1][:42] + "<" + empty[1][43])
    assert empty[1][42] == "0"
    assert icao.holds(empty)
    assert icao.holds(filled)


def test_random_text_has_the_shape_and_hardly_ever_holds():
    rng = np.random.default_rng(0)
    zones = [icao.random_text(FORMATS["TD1"], rng) for _ in range(50)]
    assert {tuple(map(len, zone)) for zone in zones} == {(30, 30, 30)}
    assert sum(map(icao.holds, zones)) <= 1
    assert set("".join(map("".join, zones))) == set(icao.ALPHABET)


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        (("A" * 44,), "a zone has 2 or 3 lines, but this one has 1"),
        (("A" * 30,) * 4, "but this one has 4"),
        (("A" * 44, "a" * 44), r"line 2 has 'a', but a zone has only A-Z, 0-9 and <\. Write it in capitals"),
        (("A" * 44, "É" * 44), "line 2 has 'É'"),
        (("A" * 44, "A" * 43), "the lines have 44, 43 characters, but zones are 3x30, 2x36, 2x44"),
        (("A" * 30, "A" * 30), "the lines have 30, 30 characters"),
    ],
)
def test_lines_that_are_no_zone(zone, message):
    with pytest.raises(DataError, match=f"mrz_7: .*{message}"):
        icao.check_zone(zone, "mrz_7")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"formats is \[\]. Give a list of at least one of TD1, TD2, TD3, MRVA, MRVB"),
        ("TD1", "formats is 'TD1'. Give a list"),
        (["TD1", "TD4"], "formats: 'TD4' is not a format. Did you mean"),
    ],
)
def test_formats_that_are_none(names, message):
    with pytest.raises(DataError, match=message):
        icao.formats_named(names, "formats")
