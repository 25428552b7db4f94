"""Tokens and keys stay in the environment: refused in a config, struck out of what is written down."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from otter_ray.config.paths import KeyPath
from otter_ray.config.rules import Flaw

_NAME = re.compile(
    r"(^|_)(api_?key|access_?key(_id)?|secret\w*|token|passw(or)?d|credentials?)$", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://)[^/\s@]+:[^/\s@]+(?=@)")
_ASSIGNED = re.compile(r"([\w.-]*?([A-Za-z_]+)=)(\S+)")
STRUCK = "***"


def secrets_in(data: Any, path: KeyPath = ()) -> Iterator[Flaw]:
    """Values that a config's dumps would give away, each with what to do."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from secrets_in(value, (*path, str(key)))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from secrets_in(value, (*path, str(index)))
    elif isinstance(data, str) and data and (_NAME.search(path[-1]) or _LOGIN.search(data)):
        yield (
            path,
            "looks like a secret, and a config is written down for each run. Leave it to the environment.",
        )


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """`text` without secrets: the environment's values, assigned ones (`api_key=...`), logins in URLs."""
    for name, value in environment.items():
        if _NAME.search(name) and len(value) >= 6:
            text = text.replace(value, STRUCK)
    text = _ASSIGNED.sub(lambda found: found[1] + STRUCK if _NAME.search(found[2]) else found[0], text)
    return _LOGIN.sub(STRUCK, text)
