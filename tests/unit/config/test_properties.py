"""Whatever is written, the answer is a valid config, a valid space or a ConfigError that names the key."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from otter_ray.config import Config, find_config, find_space, load_config, to_yaml
from otter_ray.config.paths import KeyPath, dotted, overlap, plain
from otter_ray.config.yaml_reader import read_document, read_value
from otter_ray.config.yaml_writer import to_text
from otter_ray.errors import ConfigError, Problem
from otter_ray.space import SearchProblem, Space, check_space, load_space

HERE = Path(__file__).parents[2] / "support"
SHIPPED = sorted(path.stem for path in find_space("demo").parent.glob("*.yaml"))
CONFIGS = {"seed": HERE / "seed.yaml", **{name: find_config(name) for name in SHIPPED}}
SPACES = {"seed": HERE / "design_space.yaml", **{name: find_space(name) for name in SHIPPED}}
READ = {path: read_document(path) for path in (*CONFIGS.values(), *SPACES.values())}
LOADED = {name: load_config(str(path)) for name, path in CONFIGS.items()}
EXAMPLES = settings.default.max_examples  # of each kind; `make test` asks for more of them

numbers = (
    st.integers(-(2**62), 2**62)
    | st.floats()
    | st.sampled_from([0, -1, 2**63 - 1, 1 - 2**63, 1e308, -1e308, 5e-324])
)
texts = st.text(max_size=8) | st.text(alphabet="a1e- :#'\"\n\r\x85\u2028\ufeff\t", max_size=8)
words = st.sampled_from(
    ["CosFace", "model.loss.name", "trainer.max_epochs", "embed_dim", "b", "token", "int"]
)
scalars = st.none() | st.booleans() | numbers | texts | words
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
too_large = st.sampled_from([2**63, -(10**30)])
ends = st.integers(-2, 5) | st.floats(-1, 2) | numbers
entries = st.fixed_dictionaries(
    {"type": st.sampled_from(["float", "int", "categorical"])},
    optional={
        "low": ends,
        "high": ends,
        "step": ends,
        "log": st.booleans(),
        "choices": st.lists(scalars, max_size=3),
        "sets": st.lists(words | texts, max_size=2),
        "when": st.dictionaries(words | texts, scalars | st.lists(scalars, max_size=2), max_size=2),
    },
)

# What may stand behind a key and make a reader of YAML stumble: words, whitespace, great size.
STUMBLING = r"""
~ | = | *a | &a | &a [*a] | &a {<<: *a} | {<<: 5} | {<<: [5]} | {<<: {a: 1}, a: 2} | {a: 1, a: 2} | {~: 1}
{? [a] : 1} | {1.5: 2} | {yes: 1} | {"": 1} | {"\ud800": 1} | {0: 1, '0': 2} | - x | a: b | ? x | @ | ` | %
!!python/object/apply:os.system [ls] | !!set {x} | !!binary aGk= | !!int x | !!int '' | !!float . | !!bool x
!!null x | !!merge x | !!map x | ! x | ! | !! | !< | !<tag:yaml.org,2002:int> x | !%ff x | ' | " | [ | { | ]
.inf | -.inf | .nan | 1e999 | 0b2 | 0o8 | 08 | 1_ | _1 | 1:60 | 2024-01-01 | 2024-13-45 | 2001-1-1T0:0:0Z
"\ud800" | "\UFFFFFFFF" | "\x00" | "\q" | # | a #b | << | > | }
"""
SPACES_AND_BREAKS = ["", "|", "\0", "\x01", "\ufeff", "\x85", "\u2028", "\t", "\r", "\r\nx", "1\nx", "1\n\tx"]
DOCUMENTS = ["1\n---\na: 2", "1\n...\n", "1\n%YAML 9.9\n---", "1\n<<: *x", "1\n? [a]"]
SIXTY, SEXAGESIMAL = ", ".join(["1"] * 60), ":".join(["1"] * 400)
BOMB = f"[&a [{SIXTY}], &b [{', '.join(['*a'] * 60)}], {', '.join(['*b'] * 60)}]"
HUGE = ["9" * 30, "9" * 5000, "-0x" + "F" * 20, SEXAGESIMAL, f"{SEXAGESIMAL}.5", "x" * 70_000, BOMB]
DEEP = ["[" * 60 + "]" * 60, "[" * 3000, "{a: " * 60, "- " * 60]
NASTY = [*re.split(r"\n| \| ", STUMBLING.strip()), *SPACES_AND_BREAKS, *DOCUMENTS, *HUGE, *DEEP]
NOT_UTF8 = st.sampled_from([b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe9"])
nasty = st.sampled_from(NASTY) | st.text(
    alphabet="ab:-[]{}&*<>!|'\"#%@,?= \n\t01e.~\\uU\u2028\x85", max_size=12
)
KEY = re.compile(r"^(\s*(?:- )?[\w.@\"]+:)(.*)$")
# These are faults of a whole file; every other problem has a key.
KEYLESS = ("is not YAML: ", "is not UTF-8", "is not a mapping", "is nested too deeply")


class Mutant(NamedTuple):
    """A file, the base that it comes from and where in that it was changed; nowhere in particular: ()."""

    base: str
    raw: bytes
    touched: tuple[KeyPath, ...] = ()


def places(data: Any, path: KeyPath = ()) -> list[KeyPath]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in items for place in [(*path, str(key)), *places(value, (*path, str(key)))]]


@st.composite
def changed_data(draw: Callable, files: dict[str, Path], replacements: st.SearchStrategy) -> Mutant:
    """One to three keys removed, renamed, or given other values."""
    base = draw(st.sampled_from([*files]))
    data = copy.deepcopy(READ[files[base]][0])
    touched: list[KeyPath] = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        *above, last = draw(st.sampled_from(places(data) or [("new",)]))
        node = data
        for part in above:
            node = node[int(part) if isinstance(node, list) else part]
        touched.append((*above, last))
        action = draw(st.sampled_from(["replace", "replace", "remove", "remove", "rename"]))
        if isinstance(node, list):
            node[int(last)] = draw(replacements)
            continue
        old = node.pop(last, None)
        if action == "replace":
            node[last] = draw(replacements)
        elif action == "rename":
            name = draw(words | texts)
            node[name] = old
            touched.append((*above, name))
    return Mutant(base, to_text(data).encode(), tuple(touched))


@st.composite
def changed_text(draw: Callable, files: dict[str, Path]) -> Mutant:
    """One line with another value, twice or never, or a file cut off, with odd bytes or recoded."""
    base = draw(st.sampled_from([*files]))
    lines = files[base].read_text(encoding="utf-8").splitlines()
    at = draw(st.sampled_from([i for i, line in enumerate(lines) if KEY.match(line)]))
    action = draw(st.sampled_from(["value", "value", "value", "twice", "drop", "cut", "bytes", "recode"]))
    if action == "value":
        value = draw(nasty)
        lines[at] = f"{KEY.match(lines[at])[1]} {value}"
        action = "value" if len(value.splitlines()) < 2 else "further lines"
    elif action == "twice":
        lines.insert(at, lines[at])
    elif action == "drop":
        del lines[at]
    elif action == "cut":
        lines[at:] = [lines[at][: draw(st.integers(0, len(lines[at])))]]
    raw = "\n".join(lines).encode()
    if action == "bytes":
        start = draw(st.integers(0, len(raw)))
        raw = raw[:start] + draw(NOT_UTF8 | st.binary(max_size=3)) + raw[start:]
    elif action == "recode":
        raw = raw.decode().encode(draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "cp500"])))
    written = READ[files[base]][1].places.items() if action in {"value", "twice"} else ()
    return Mutant(base, raw, tuple(key for key, place in written if place.line == at + 1))


def fuzz(max_examples: int) -> settings:
    """The same examples in every run: a fault shows up for everybody, and the counts below hold."""
    calm = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=max_examples, deadline=None, derandomize=True, suppress_health_check=calm)


def check(problems: list[Problem], touched: tuple[KeyPath, ...] = (), most: Callable = all) -> None:
    """A message, a place and a key: what a user needs; `most` of the keys lead to what was touched."""
    assert problems
    for problem in problems:
        assert problem.message
        assert problem.file
        assert problem.line or problem.file == "--set"
        assert problem.key or problem.message.startswith(KEYLESS) or () in touched
        assert str(problem).encode()
    assert not touched or most(not problem.key or names(problem, touched) for problem in problems), problems


def names(problem: Problem, touched: tuple[KeyPath, ...]) -> bool:
    """Whether the problem stands at or below a touched key, or names one in its message.

    An item may be told at its list, a condition at its `when`, and a key given as a whole, `("a.b.c",)`,
    at the first part that is wrong. A rule between keys is told at one of them and lists the others,
    siblings by their last part. A space's parameters go by their names, without `parameters.`, and
    alternatives as `name[condition]`.
    """
    words = [word.strip("`',.:") for word in problem.message.split()]
    said = [problem.key, problem.key.partition("[")[0], *words]

    def told(path: KeyPath) -> bool:
        *above, last = path or ("",)
        near = dotted(above if last.isdigit() or above[-1:] == ["when"] else path)
        is_near = last in words and overlap(problem.key, dotted(above))
        is_whole = not above and overlap(problem.key, last)
        return is_near or is_whole or any(f"{word}.".startswith(f"{near}.") for word in said)

    short = [path[1:2] for path in touched if path[:1] == ("parameters",)]
    return () in touched or any(map(told, (*touched, *short)))


def assert_survives(config: Config, path: Path) -> None:
    """What was loaded can be written and loaded again. (By repr: NaN is not equal to itself.)"""
    path.write_text(to_yaml(config), encoding="utf-8")
    for again in (load_config(str(path)), Config.from_dict(config.to_dict())):
        assert repr(again.to_dict()) == repr(config.to_dict())


def assert_usable(space: Space, mutant: Mutant) -> None:
    """What was loaded can be shown and checked; what passes the check can be searched."""
    config = LOADED[mutant.base]
    assert all(str(parameter) for parameter in space.parameters)
    if problems := check_space(SearchProblem(config, space)):
        changed = [
            parameter for parameter in space.parameters if names(parameter.problem(""), mutant.touched)
        ]
        check(problems, (*mutant.touched, *((key,) for parameter in changed for key in parameter.keys)))
        return
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    assert config.with_values(space.suggest(trial, config))
    asked = {parameter.name: parameter for parameter in space.parameters}
    assert all(asked[name].contains(value) for name, value in trial.params.items())
    assert space.base_values(config).keys() <= asked.keys()


CONFIG = (load_config, CONFIGS, values | too_large)
SPACE = (load_space, SPACES, values | entries | ends | words | too_large)


@pytest.mark.parametrize("kind", [CONFIG, SPACE], ids=["config", "space"])
@pytest.mark.parametrize("changed", ["data", "text"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::optuna.exceptions.ExperimentalWarning")
def test_mutated_files(tmp_path, kind, changed):
    load, files, replacements = kind
    mutants = changed_text(files) if changed == "text" else changed_data(files, replacements)
    most = any if changed == "text" else all  # text may swallow the next lines, which then are missing
    path, outcomes = tmp_path / "mutant.yaml", Counter()

    @fuzz(EXAMPLES)
    @given(mutant=mutants)
    def load_one(mutant: Mutant) -> None:
        path.write_bytes(mutant.raw)
        try:
            loaded = load(str(path))
        except ConfigError as exc:
            outcomes["invalid"] += 1
            check(exc.problems, mutant.touched, most)
        else:
            outcomes["valid"] += 1
            assert_survives(loaded, path) if isinstance(loaded, Config) else assert_usable(loaded, mutant)

    load_one()
    assert min(outcomes["valid"], outcomes["invalid"]) > EXAMPLES / 20, outcomes


free_keys = st.sampled_from(["trainer.x", "optimizer.options.lr", "model.loss.options.m", "onnx.options.a.b"])
known_keys = st.sampled_from([dotted(path) for path in places(LOADED["seed"].to_dict())])
odd_keys = st.sampled_from(["", ".", "a..b", " trainer", "\udcff", "onnx.options.\udcff", "\0"]) | texts
below = st.sampled_from(["", "", "", "", ".x", ".0", ".-1", ".a.b", ".a" * 50, ".a" * 3000])


def test_any_set(tmp_path):
    path, outcomes = tmp_path / "set.yaml", Counter()

    @fuzz(EXAMPLES)
    @given(key=free_keys | known_keys | odd_keys, below=below, text=nasty | values.map(str))
    @example(key="onnx.options", below=".a" * 30, text="[" * 30 + "]" * 30)
    @example(key="onnx.options", below="", text="\udcff")
    @example(key="[key]", below="", text="1")  # pydantic's mark of a key among the parts of a path
    def set_one(key: str, below: str, text: str) -> None:
        key += below
        try:
            config = LOADED["seed"].with_sets([f"{key}={text}"])
        except ConfigError as exc:
            outcomes["invalid"] += 1
            check(exc.problems, ((key.partition("=")[0].strip(),),))
        else:
            outcomes["valid"] += 1
            assert_survives(config, path)

    set_one()
    assert min(outcomes["valid"], outcomes["invalid"]) > EXAMPLES / 30, outcomes


@fuzz(EXAMPLES // 2)
@given(raw=st.binary(max_size=40) | nasty.map(str.encode))
def test_any_bytes(tmp_path, raw):
    path = tmp_path / "any.yaml"
    path.write_bytes(raw)
    for load in (load_config, load_space):
        with pytest.raises(ConfigError) as caught:
            load(str(path))
        check(caught.value.problems, ((),))


@fuzz(EXAMPLES // 2)
@given(value=values)
def test_any_value_survives_yaml(value):
    data = plain({"x": value})
    assert repr(read_value(to_text(data), "test")) == repr(data)
