"""The text of machine-readable zones by ICAO 9303: formats, check digits, and zones that nobody owns.

A zone is a tuple of lines. A check digit is the sum of the characters' values times 7, 3, 1, 7 ... modulo 10,
where `<` is 0, digits are themselves, and A to Z are 10 to 35.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from otter_ray.errors import DataError, did_you_mean

Zone = tuple[str, ...]

FILLER = "<"
ALPHABET = string.ascii_uppercase + string.digits + FILLER
_VALUES = {character: value for value, character in enumerate(string.digits + string.ascii_uppercase)}
_WEIGHTS = (7, 3, 1)


@dataclass(frozen=True)
class Span:
    """The characters `start` to `end` (exclusive) of a zone's line."""

    line: int
    start: int
    end: int


@dataclass(frozen=True)
class Check:
    """A check digit at `place` of its line, over spans that are read one after the other.

    `may_be_empty` says that a filler may be printed in place of the 0 of an empty field.
    """

    line: int
    place: int
    spans: tuple[Span, ...]
    may_be_empty: bool = False


@dataclass(frozen=True)
class Format:
    """One of ICAO's formats."""

    name: str
    lines: int
    columns: int
    codes: tuple[str, ...]  # what the first character may be
    checks: tuple[Check, ...]


def _on(line: int, *ranges: tuple[int, int]) -> tuple[Span, ...]:
    return tuple(Span(line, *span) for span in ranges)


# Document number, date of birth and date of expiry of all two-line formats.
_THREE = tuple(Check(1, end, _on(1, (start, end))) for start, end in ((0, 9), (13, 19), (21, 27)))
_TD1 = (
    Check(0, 14, _on(0, (5, 14))),
    Check(1, 6, _on(1, (0, 6))),
    Check(1, 14, _on(1, (8, 14))),
    Check(1, 29, _on(0, (5, 30)) + _on(1, (0, 7), (8, 15), (18, 29))),
)
_TD2 = (*_THREE, Check(1, 35, _on(1, (0, 10), (13, 20), (21, 35))))
_TD3 = (
    *_THREE,
    Check(1, 42, _on(1, (28, 42)), may_be_empty=True),
    Check(1, 43, _on(1, (0, 10), (13, 20), (21, 43))),
)
FORMATS = {
    "TD1": Format("TD1", 3, 30, ("I", "A", "C"), _TD1),
    "TD2": Format("TD2", 2, 36, ("I", "A", "C"), _TD2),
    "TD3": Format("TD3", 2, 44, ("P",), _TD3),
    "MRVA": Format("MRVA", 2, 44, ("V",), _THREE),
    "MRVB": Format("MRVB", 2, 36, ("V",), _THREE),
}
SHAPES = ((3, 30), (2, 36), (2, 44))  # (lines, columns) that the formats have, the narrowest first
LONGEST = max(lines * columns for lines, columns in SHAPES)


def check_digit(text: str) -> str:
    """Return the check digit of a text over the 37 characters."""
    weighted = (_VALUES.get(character, 0) * weight for character, weight in zip(text, cycle(_WEIGHTS)))
    return str(sum(weighted) % 10)


def format_of(zone: Zone) -> Format | None:
    """Return the format of a zone by its lines' lengths, and V for visas; None if it has none."""
    lengths = {len(line) for line in zone}
    for form in FORMATS.values():
        if (
            len(zone) == form.lines
            and lengths == {form.columns}
            and (zone[0][0] == "V") == (form.codes == ("V",))
        ):
            return form
    return None


def wrong_checks(zone: Zone) -> list[Check] | None:
    """Return the checks whose digits are wrong; None if the zone has no format."""
    form = format_of(zone)
    return None if form is None else [check for check in form.checks if not _holds(zone, check)]


def _holds(zone: Zone, check: Check) -> bool:
    covered = _read(zone, check.spans)
    printed = zone[check.line][check.place]
    if check.may_be_empty and not covered.strip(FILLER):
        return printed in (FILLER, "0")
    return printed == check_digit(covered)


def holds(zone: Zone) -> bool:
    """Return whether a zone has a format and all its check digits are right."""
    return wrong_checks(zone) == []


def _read(zone: Sequence[str], spans: Sequence[Span]) -> str:
    return "".join(zone[span.line][span.start : span.end] for span in spans)


def with_check_digits(zone: Zone, form: Format) -> Zone:
    """Put the right check digits into a zone, in order: a composite one covers those before it."""
    lines = list(zone)
    for check in form.checks:
        covered = _read(lines, check.spans)
        line = lines[check.line]
        lines[check.line] = line[: check.place] + check_digit(covered) + line[check.place + 1 :]
    return tuple(lines)


def formats_named(names: Sequence[str], key: str) -> list[Format]:
    """Return the formats called `names`. Raises DataError, which names `key`, if one does not exist."""
    if isinstance(names, str) or not names:
        raise DataError(f"{key} is {names!r}. Give a list of at least one of {', '.join(FORMATS)}.")
    for name in names:
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise DataError(
                f"{key}: {name!r} is not a format.{did_you_mean(str(name), FORMATS)} Known: {known}."
            )
    return [FORMATS[name] for name in names]


def check_zone(zone: Sequence[str], key: str) -> Zone:
    """Return lines as a zone.

    Raises:
        DataError: The lines are not those of a zone; the message names `key`.
    """
    if not 2 <= len(zone) <= 3:
        raise DataError(f"{key}: a zone has 2 or 3 lines, but this one has {len(zone)}.")
    for number, line in enumerate(zone, 1):
        if wrong := sorted(set(line) - set(ALPHABET)):
            lower = " Write it in capitals." if line.upper() != line else ""
            raise DataError(
                f"{key}: line {number} has {', '.join(map(repr, wrong))}, but a zone has only A-Z, 0-9 and "
                f"{FILLER}.{lower}"
            )
    lengths = [len(line) for line in zone]
    if (len(zone), lengths[0]) not in SHAPES or len(set(lengths)) > 1:
        shapes = ", ".join(f"{lines}x{columns}" for lines, columns in SHAPES)
        raise DataError(
            f"{key}: the lines have {', '.join(map(str, lengths))} characters, but zones are {shapes}. "
            "Correct the lines."
        )
    return tuple(zone)


def random_zone(form: Format, rng: np.random.Generator) -> Zone:
    """Make up the zone of a person who does not exist, with right check digits."""
    columns = form.columns
    state, nation = _state(rng), _state(rng)
    code = str(rng.choice(form.codes)) + (FILLER if rng.random() < 0.6 else _letter(rng))
    number = _padded(_mixed(rng, int(rng.integers(7, 10))), 9)
    birth, expiry, sex = (
        _date(rng, 0, 100),
        _date(rng, 20, 40),
        str(rng.choice(list("MF<"), p=(0.48, 0.48, 0.04))),
    )
    if form.lines == 3:
        first = code + state + number + "0" + _optional(rng, 15)
        second = birth + "0" + sex + expiry + "0" + nation + _optional(rng, 11) + "0"
        zone: Zone = (first, second, _name(rng, columns))
    else:
        end = "00" if form.name == "TD3" else "0" if form.name == "TD2" else ""
        second = number + "0" + nation + birth + "0" + sex + expiry + "0"
        second += _optional(rng, columns - len(second) - len(end)) + end
        zone = (code + state + _name(rng, columns - 5), second)
    zone = with_check_digits(zone, form)
    if form.name == "TD3" and not zone[1][28:42].strip(FILLER) and rng.random() < 0.5:
        # The filler and 0 have the same value: the composite digit stays right.
        zone = (zone[0], zone[1][:42] + FILLER + zone[1][43:])
    return zone


def random_text(form: Format, rng: np.random.Generator) -> Zone:
    """Draw each character of a zone at random, with runs of fillers as real zones have them."""
    letters = np.array(list(ALPHABET))
    text = rng.choice(letters, (form.lines, form.columns))
    for row in text:
        if rng.random() < 0.5:
            row[int(rng.integers(form.columns)) :] = FILLER
    return tuple("".join(row) for row in text)


def _letter(rng: np.random.Generator) -> str:
    return string.ascii_uppercase[rng.integers(26)]


def _mixed(rng: np.random.Generator, length: int) -> str:
    """Draw digits, a third of the time with letters among them."""
    characters = string.digits + (string.ascii_uppercase if rng.random() < 0.35 else "")
    return "".join(characters[place] for place in rng.integers(0, len(characters), length))


def _padded(text: str, length: int) -> str:
    return text[:length].ljust(length, FILLER)


def _optional(rng: np.random.Generator, length: int) -> str:
    return _padded(_mixed(rng, int(rng.integers(0, length + 1))) if rng.random() < 0.5 else "", length)


def _date(rng: np.random.Generator, first: int, last: int) -> str:
    return f"{rng.integers(first, last):02d}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"


# Codes that are printed often, and any three letters now and then: whoever reads must not guess.
_STATES = [
    "UTO",
    "D<<",
    "USA",
    "GBR",
    "FRA",
    "ESP",
    "ITA",
    "NLD",
    "BEL",
    "CHE",
    "AUT",
    "POL",
    "CZE",
    "SWE",
    "NOR",
    "DNK",
    "FIN",
    "GRC",
    "PRT",
    "IRL",
    "ROU",
    "HUN",
    "UKR",
    "RUS",
    "TUR",
    "CHN",
    "TWN",
    "JPN",
    "KOR",
    "IND",
    "IDN",
    "VNM",
    "THA",
    "PHL",
    "MYS",
    "SGP",
    "AUS",
    "NZL",
    "CAN",
    "MEX",
    "BRA",
    "ARG",
    "CHL",
    "COL",
    "PER",
    "ZAF",
    "NGA",
    "KEN",
    "EGY",
    "MAR",
]


def _state(rng: np.random.Generator) -> str:
    return str(rng.choice(_STATES)) if rng.random() < 0.7 else "".join(_letter(rng) for _ in range(3))


_SYLLABLES: tuple[Callable[[np.random.Generator], str], ...] = (
    lambda rng: "BCDFGHJKLMNPQRSTVWXYZ"[rng.integers(21)] + "AEIOUY"[rng.integers(6)],
    lambda rng: "AEIOU"[rng.integers(5)] + "BCDFGHKLMNPRSTVWXZ"[rng.integers(18)],
    lambda rng: ("CH", "SH", "TH", "KR", "ST", "BR", "ZH", "PH")[rng.integers(8)] + "AEIOU"[rng.integers(5)],
)


def _word(rng: np.random.Generator) -> str:
    return "".join(_SYLLABLES[rng.integers(len(_SYLLABLES))](rng) for _ in range(rng.integers(2, 5)))


def _name(rng: np.random.Generator, length: int) -> str:
    """Make up a surname and given names: `PEKO<RUNAL<<SHAMI<BATO<<<`."""
    surname, given = ([_word(rng) for _ in range(rng.integers(1, most + 1))] for most in (2, 3))
    return _padded(FILLER.join(surname) + 2 * FILLER + FILLER.join(given), length)
