from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from otter_ray.config import Config, load_config
from otter_ray.errors import ConfigError, Problem
from otter_ray.space import load_space

Write = Callable[[str], str]
Faults = Callable[[str], list[Problem]]
SEED = Path(__file__).with_name("seed.yaml")


@pytest.fixture(scope="session")
def seed_text() -> str:
    return SEED.read_text(encoding="utf-8")


@pytest.fixture
def seed() -> Config:
    return load_config(str(SEED))


@pytest.fixture
def design_path() -> str:
    """The search space of the design, conditional parameters first."""
    return str(SEED.with_name("design_space.yaml"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> str:
        path = tmp_path / "written.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


@pytest.fixture
def config_faults(write: Write) -> Callable[..., list[Problem]]:
    """The problems of a config's text and sets."""

    def faults(text: str, *sets: str) -> list[Problem]:
        with pytest.raises(ConfigError) as caught:
            load_config(write(text), sets)
        return caught.value.problems

    return faults


@pytest.fixture
def space_faults(write: Write) -> Faults:
    """The problems of a search space's text."""

    def faults(text: str) -> list[Problem]:
        with pytest.raises(ConfigError) as caught:
            load_space(write(text))
        return caught.value.problems

    return faults
