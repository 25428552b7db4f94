from __future__ import annotations

from pathlib import Path

import pytest

from otter_ray.config.yaml_reader import MAX_BYTES, read_document
from otter_ray.errors import ConfigError, Problem


def read(tmp_path: Path, text: str | bytes) -> dict:
    path = tmp_path / "some.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)[0]


def faults(tmp_path: Path, text: str | bytes) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E5", -100000.0),
        ("2.5e3", 2500.0),
        (".5e-1", 0.05),
        ("1.0e-4", 0.0001),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("yes", True),
        ("off", False),
        ("010", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("2024-01-02", "2024-01-02"),
        ("~", None),
        ("", None),
        ("=", "="),
        (".inf", float("inf")),
    ],
)
def test_scalars(tmp_path, text, value):
    read_value = read(tmp_path, f"a: {text}\n")["a"]
    assert (read_value, type(read_value)) == (value, type(value))


def test_anchors_aliases_and_merge_keys(tmp_path):
    text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nboth: {<<: [*b, *o], x: 9}\nsame: *b\n"
    data = read(tmp_path, text)
    assert data["both"] == {"x": 9, "y": 2, "z": 4}
    assert data["same"] == {"x": 1, "y": 2}
    assert data["same"] is not data["base"]


def test_a_file_of_windows(tmp_path):
    """With a byte order mark and its line ends; lines are counted as an editor does."""
    assert read(tmp_path, "\ufeffa: 1\r\nb:\r\n  c: 專案\r\n") == {"a": 1, "b": {"c": "專案"}}
    (fault,) = faults(tmp_path, "\ufeffa: 1\r\nb: 2\r\na: 3\r\n")
    assert (fault.key, fault.line) == ("a", 3)


def test_whole_number_keys_become_text(tmp_path):
    assert read(tmp_path, "axes: {0: batch}") == {"axes": {"0": "batch"}}


def bomb(merge: bool) -> str:
    lines = ["a0: &a0 {k: [1, 2, 3, 4, 5, 6, 7, 8, 9]}"]
    for i in range(1, 12):
        aliases = ", ".join(f"k{j}: *a{i - 1}" for j in range(9))
        merges = ", ".join([f"*a{i - 1}"] * 9)
        lines.append(f"a{i}: &a{i} " + (f"{{<<: [{merges}]}}" if merge else f"{{{aliases}}}"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: {c: 1,\n  c: 2}\n", 3, "is written twice"),
        ("a: 1\n0: 1\n'0': 2\n", 3, "is written twice"),
        ("- a\n", 1, "is not a mapping"),
        ("", 1, "is not a mapping"),
        ("a: 1\n---\nb: 2\n", 2, "is not YAML"),
        ("a: [1\nb: 2\n", 2, "is not YAML"),
        ("a: 1\nb: \x01\n", 2, "is not YAML"),
        (b"a: 1\nb: \xff\n", 2, "UTF-8"),
        ("a: 1\nb: !!python/name:os.system x\n", 2, "tag"),
        ("a: 1\nb: !!set {x}\n", 2, "tag"),
        ("a: 1\nb: !!int x\n", 2, "not a usable int"),
        ("a: 1\nb: !!bool x\n", 2, "not a usable bool"),
        ("a: 1\n? [b]\n: 1\n", 2, "not usable as a key"),
        ("a: 1\n~: 2\n", 2, "not usable as a key"),
        ("a: 1\nyes: 2\n", 2, "not usable as a key"),
        ("a: 1\nb: {<<: 3}\n", 2, "merges what is not a mapping"),
        ("a: 1\nb: " + "9" * 30, 2, "too large"),
        ("a: 1\nb: " + "9" * 5000, 2, "not a usable int"),
        ("a: 1\nb: 1e999", 2, "too large"),
        ("a: 1\nb: " + ":".join(["1"] * 400) + ".5", 2, "not a usable float"),
        ('a: 1\nb: "\\ud800"', 2, "contains an invalid character"),
        ('a: 1\nb: "\\UFFFFFFFF"', None, "is not YAML"),
        ("a: &a [*a]", 1, "nested deeper"),
        ("a: &a {<<: *a}", 1, "nested deeper"),
        ("a: " + "[" * 60 + "]" * 60, 1, "nested deeper"),
        ("a: " + "[" * 5000, 1, "nested too deeply"),
        (bomb(merge=False), None, "use fewer aliases"),
        (bomb(merge=True), None, "use fewer aliases"),
        ("a" * (MAX_BYTES + 1), None, "right file"),
    ],
)
def test_faults(tmp_path, text, line, says):
    fault = faults(tmp_path, text)[-1]
    assert says.lower() in fault.message.lower()
    assert line is None or fault.line == line
    assert fault.file.endswith("some.yaml")


def test_every_duplicate_is_reported(tmp_path):
    assert [(f.key, f.line) for f in faults(tmp_path, "a: 1\na: 2\nb:\n  c: 1\n  c: 2\n")] == [
        ("a", 2),
        ("b.c", 5),
    ]


@pytest.mark.parametrize(
    ("written", "key"),
    [("~", "~"), ("1.5", "1.5"), ("!!set x", "x"), ("[b]", "a list or mapping"), ('"\\ud800"', "\\ud800")],
)
def test_keys_that_cannot_be_used_are_named(tmp_path, written, key):
    for fault in faults(tmp_path, f"a:\n  {{{written}: 1}}\n"):
        assert str(fault) == f"{tmp_path}/some.yaml:2: a.{key}: {fault.message}"


def test_a_file_name_that_is_no_text_can_be_printed(tmp_path):
    path = tmp_path / "\udcff.yaml"
    path.write_text("- a")
    with pytest.raises(ConfigError, match=r"\\udcff\.yaml:1: is not a mapping"):
        read_document(path)


def test_a_bomb_is_found_at_its_key(tmp_path):
    (fault,) = faults(tmp_path, "model:\n  head:\n    options:\n      in_dim: &a [*a]\n")
    assert (fault.key, fault.line) == ("model.head.options.in_dim.0", 4)


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(tmp_path)
