"""Whatever is written, the answer is a valid config, a valid space or a ConfigError."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otter_ray.config import Config, check_space, load_config, load_space, to_yaml
from otter_ray.config.document import read_value
from otter_ray.config.dump import to_text
from otter_ray.config.paths import plain
from otter_ray.errors import ConfigError

HERE = Path(__file__).parent
SEED_TEXT = (HERE / "seed.yaml").read_text(encoding="utf-8")
SEED = yaml.safe_load(SEED_TEXT)
SPACE = yaml.safe_load((HERE / "design_space.yaml").read_text(encoding="utf-8"))
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False)
texts = st.text(max_size=8) | st.text(alphabet="a1e- :#'\"\n\r\x85\u2028\ufeff\t", max_size=8)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def places(data: Any, path: tuple = ()) -> list[tuple]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in items for place in [(*path, key), *places(value, (*path, key))]]


@st.composite
def mutations(draw, original: Any) -> Any:
    data = copy.deepcopy(original)
    for path in draw(st.lists(st.sampled_from(places(data)), min_size=1, max_size=3)):
        node = data
        for part in path[:-1]:
            node = node[part] if isinstance(node, dict) and part in node else {}
        action = draw(st.sampled_from(["replace", "remove", "rename"]))
        if not isinstance(node, dict):
            continue
        old = node.pop(path[-1], None)
        if action == "replace":
            node[path[-1]] = draw(values | st.just(10**30))
        elif action == "rename":
            node[draw(st.text(max_size=5))] = old
    return data


def attempt(action, *arguments):
    try:
        return action(*arguments)
    except ConfigError as exc:
        return check_error(exc)


def check_error(error: ConfigError) -> None:
    assert error.problems
    assert all(problem.message for problem in error.problems)
    assert str(error).encode()


@quick
@given(data=mutations(SEED))
def test_mutated_configs(tmp_path, data):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    config = attempt(load_config, str(path))
    if config:
        path.write_text(to_yaml(config), encoding="utf-8")
        assert load_config(str(path)) == config == Config.from_dict(config.to_dict(), name="c")


@quick
@given(data=mutations(SPACE))
def test_mutated_spaces(tmp_path, data):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    space = attempt(load_space, str(path))
    if space:
        config = Config.from_dict(SEED)
        if not check_space(space, config):
            assert all(config.with_values(branch) for branch in space.branches(config))


@quick
@given(text=st.text(alphabet="ab:-[]{}&*<>!|'\"#%@,?= \n\t01e.~\\uU\u2028\x85", max_size=30))
def test_any_text_and_any_set(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    attempt(load_config, str(path))
    attempt(load_space, str(path))
    path.write_text(SEED_TEXT, encoding="utf-8")
    attempt(load_config, str(path), [text, f"model.loss.options.m={text}", f"{text}=1"])


@quick
@given(raw=st.binary(max_size=40))
def test_any_bytes(tmp_path, raw):
    path = tmp_path / "c.yaml"
    path.write_bytes(raw)
    assert attempt(load_config, str(path)) is None


@settings(quick, max_examples=300)
@given(value=values)
def test_any_value_survives_yaml(value):
    data = plain({"x": value})
    assert read_value(to_text(data), "test") == data


def test_mutations_reach_both_outcomes():
    assert attempt(Config.from_dict, SEED)
    with pytest.raises(ConfigError):
        Config.from_dict({})
