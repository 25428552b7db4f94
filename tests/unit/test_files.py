"""Names of files that come from outside."""

import pytest

from otter_ray.files import MAX_NAME_BYTES, is_name


@pytest.mark.parametrize(
    "text", ["first", "2026-11-30", "a.b", "a b", "übung", "專案", "a#b", "x" * MAX_NAME_BYTES]
)  # fmt: skip
def test_a_name_is_one_component_of_a_path(tmp_path, text):
    assert is_name(text)
    (tmp_path / text).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [text]


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "../x", "team/first", "/x", "a\\b", ".hidden", "-rf", " a", "a ", "a\nb", "a\x1b[2J",
        "a\0b", "\udcff", "專" * MAX_NAME_BYTES,
    ],
)  # fmt: skip
def test_what_is_more_or_less_than_a_component_is_no_name(text):
    assert not is_name(text)
