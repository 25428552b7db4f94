"""Read YAML text as plain data, with the line of every key. Any fault is a ConfigError."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from otter_ray.config.paths import HALF_CHARACTER, MAX_DEPTH, KeyPath, dotted, is_whole
from otter_ray.errors import ConfigError, Problem

MAX_BYTES = 1 << 20
MAX_VALUES = 50_000  # after aliases are expanded; a config has a few hundred
MAX_INT = 2**63
FLOAT = "tag:yaml.org,2002:float"
# PyYAML follows YAML 1.1, where a float needs a dot and its exponent a sign: 1e-3 would be text.
EXPONENT = re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")


@dataclass(frozen=True)
class Place:
    """Where a key was written; `line` counts from 1."""

    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Origin:
    """Where a document and each of its keys come from."""

    name: str = ""
    file: str | None = None
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Return a Problem at `path`, or at the nearest key below or above it that was written."""
        place = self._place(path)
        return Problem(dotted(path), message, place.file, place.line)

    def _place(self, path: KeyPath) -> Place:
        below = (key for key in self.places if key[: len(path)] == path)
        above = (path[:length] for length in range(len(path), 0, -1) if path[:length] in self.places)
        nearest = [path] if path in self.places else [*([next(below, None)] if path else []), *above]
        return next((self.places[key] for key in nearest if key), Place(self.file, 1 if self.file else None))

    def with_place(self, path: KeyPath, place: Place) -> Origin:
        """Return a copy in which `path`, and everything below it, was written at `place`."""
        others = {key: old for key, old in self.places.items() if key[: len(path)] != path}
        return Origin(self.name, self.file, {**others, path: place})


def read_document(path: Path) -> tuple[dict[str, Any], Origin]:
    """Read the mapping in a YAML file. Raises ConfigError with every duplicate or unusable key in it."""
    file = str(path)
    data, origin = _parse(_text(path), file, path.stem)
    if not isinstance(data, dict):
        raise ConfigError([Problem("", "is not a mapping. Write `key: value` lines.", file, 1)])
    return data, origin


def read_value(text: str, file: str) -> Any:
    """Read a value written in YAML. Raises ConfigError."""
    return _parse(text, file, "")[0]


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as exc:
        reason = exc.strerror or exc
        raise ConfigError([Problem("", f"cannot be read: {reason}.", str(path))]) from exc
    if len(raw) > MAX_BYTES:
        message = f"has {len(raw)} bytes; a config can have at most {MAX_BYTES}. Is it the right file?"
        raise ConfigError([Problem("", message, str(path))])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        raise ConfigError([Problem("", "is not UTF-8 text. Save it as UTF-8.", str(path), line)]) from exc


def _parse(text: str, file: str, name: str) -> tuple[Any, Origin]:
    reader = _Reader(Origin(name, file))
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        message = f"is not YAML: {exc.problem}. Correct the line, or quote the text."
        raise ConfigError([Problem("", message, file, line)]) from exc
    except (yaml.YAMLError, ValueError, OverflowError) as exc:
        line = text.count("\n", 0, getattr(exc, "position", 0)) + 1
        reason = str(exc).splitlines()[0]
        raise ConfigError([Problem("", f"is not YAML: {reason}.", file, line)]) from exc
    except RecursionError as exc:
        raise ConfigError([Problem("", "is nested too deeply. Make it flatter.", file, 1)]) from exc
    data = None if node is None else reader.value(node, ())
    if reader.problems:
        raise ConfigError(reader.problems)
    return data, reader.origin


class _Loader(yaml.SafeLoader):
    """Used only to compose. Dates stay text; `=` has no meaning."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own attribute)
        first: [pair for pair in pairs if not pair[0].endswith((":timestamp", ":value"))]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(FLOAT, EXPONENT, list("-+.0123456789"))


class _Reader:
    """Turns composed nodes into data, with each key's line, and expands aliases up to a limit."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.problems: list[Problem] = []
        self._values = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the data of `node`, which is at `path`."""
        self._guard(node, path)
        if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
            return [self._entry(item, item, (*path, str(i))) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._report(node, path, f"has the tag {node.tag}, which a config cannot use. Remove it.")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, pair in self._pairs(node, path):
            merged.setdefault(key, pair)
        return {key: self._entry(*pair, (*path, key)) for key, pair in merged.items()}

    def _entry(self, place: yaml.Node, node: yaml.Node, path: KeyPath) -> Any:
        self.origin.places[path] = Place(self.origin.file, place.start_mark.line + 1)
        return self.value(node, path)

    def _pairs(
        self, node: yaml.MappingNode, path: KeyPath, depth: int = 0
    ) -> list[tuple[str, tuple[yaml.Node, yaml.Node]]]:
        """List a mapping's own entries, then those that `<<` merges into it; the first of a name counts."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            self._guard(key_node, path, depth)
            if key_node.tag.endswith(":merge"):
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            elif (key := self._key(key_node, path)) in own:
                self._report(key_node, (*path, key), "is written twice. Remove one of the two.")
            else:
                own[key] = (key_node, value_node)
        pairs = list(own.items())
        for source in merged:
            if isinstance(source, yaml.MappingNode):
                pairs += self._pairs(source, path, depth + 1)
            else:
                self._report(source, (*path, "<<"), "merges what is not a mapping. Name an anchor of one.")
        return pairs

    def _key(self, node: yaml.Node, path: KeyPath) -> str:
        written = str(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        key = self._scalar(node, (*path, written)) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, str) or type(key) is int:
            return str(key)
        self._report(node, (*path, written), "is not usable as a key. Write text, in quotes if need be.")
        return written

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind = node.tag.rpartition(":")[2]
        read = getattr(self._scalars, f"construct_yaml_{kind}", None)
        if kind not in {"str", "int", "float", "bool", "null"} or read is None:
            return self._report(node, path, f"has the tag {node.tag}, which a config cannot use. Remove it.")
        try:
            value = read(node)
        except (ArithmeticError, ValueError, LookupError):
            return self._report(
                node, path, f"{node.value[:40]!r} is not a usable {kind}. Quote it if it is text."
            )
        if _too_large(value, node.value):
            return self._report(node, path, f"{node.value[:40]} is too large. Quote it if it is text.")
        if isinstance(value, str) and not is_whole(value):
            return self._report(node, path, f"contains {HALF_CHARACTER}")
        return value

    def _guard(self, node: yaml.Node, path: KeyPath, depth: int = 0) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            self._stop(node, path, f"expands to more than {MAX_VALUES} values. Use fewer aliases.")
        if len(path) + depth > MAX_DEPTH:
            self._stop(node, path, f"is nested deeper than {MAX_DEPTH} levels. Make it flatter.")

    def _report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(dotted(path), message, self.origin.file, line))

    def _stop(self, node: yaml.Node, path: KeyPath, message: str) -> NoReturn:
        self._report(node, path[:5], message)  # enough to find it; a path may have 40 parts
        raise ConfigError(self.problems)


def _too_large(value: Any, written: str) -> bool:
    if isinstance(value, float):
        return math.isinf(value) and "inf" not in written.lower()
    return isinstance(value, int) and abs(value) >= MAX_INT
