"""Configs as YAML that people like to read."""

from __future__ import annotations

from typing import Any

import yaml

from otter_ray.config.document import EXPONENT, FLOAT
from otter_ray.config.model import Config
from otter_ray.config.space import Space

INLINE_ITEMS = 8


class _Dumper(yaml.SafeDumper):
    """Short lists of single values inline; text that would be read as a number in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out: an anchor in a config is for people to place."""
        return True

    def _list(self, data: list[Any]) -> yaml.Node:
        is_short = len(data) <= INLINE_ITEMS and not any(isinstance(item, list | dict) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=is_short)

    def _text(self, data: str) -> yaml.Node:
        # PyYAML writes these line breaks as they are and reads them back as others; escaped they last.
        style = '"' if any(character in data for character in "\r\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper._text)
_Dumper.add_representer(list, _Dumper._list)
_Dumper.add_implicit_resolver(FLOAT, EXPONENT, list("-+.0123456789"))


def to_yaml(config: Config) -> str:
    """The config as YAML, sections in their order, defaults written out; `load_config` reads it back."""
    return to_text(config.to_dict())


def space_to_yaml(space: Space) -> str:
    """The search space as YAML; `load_space` reads it back."""
    return to_text(space.to_dict())


def to_text(data: dict[str, Any]) -> str:
    """Plain data as YAML in the same style."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
