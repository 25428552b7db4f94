"""Write configs as YAML that people like to read."""

from __future__ import annotations

from typing import Any

import yaml

from otter_ray.config.config import Config
from otter_ray.config.yaml_reader import EXPONENT, FLOAT

INLINE_ITEMS = 8


class _Dumper(yaml.SafeDumper):
    """Writes short lists of single values inline, and quotes text that would be read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out: anchors are for people to place."""
        return True

    def _list(self, data: list[Any]) -> yaml.Node:
        is_short = len(data) <= INLINE_ITEMS and not any(isinstance(item, list | dict) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=is_short)

    def _text(self, data: str) -> yaml.Node:
        # PyYAML writes these line breaks as they are and reads them back as others, unless they are escaped.
        style = '"' if any(character in data for character in "\r\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper._text)
_Dumper.add_representer(list, _Dumper._list)
_Dumper.add_implicit_resolver(FLOAT, EXPONENT, list("-+.0123456789"))


def to_yaml(config: Config) -> str:
    """Write the config as YAML, sections in order, with defaults; `load_config` reads it back."""
    return to_text(config.to_dict())


def to_text(data: dict[str, Any]) -> str:
    """Write plain data as YAML in the same style."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
