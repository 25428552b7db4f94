"""Keep secrets out of configs: each run writes its config down, so tokens and keys belong elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from otter_ray.config.paths import KeyPath
from otter_ray.config.types import Flaw
from otter_ray.redaction import is_secret


def secrets_in(data: Any, path: KeyPath = (), name: str = "") -> Iterator[Flaw]:
    """Yield values that look like secrets.

    Args:
        data: A config, or a part of it.
        path: Of that part.
        name: The key that the value stands under, perhaps in a list.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from secrets_in(value, (*path, str(key)), str(key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from secrets_in(value, (*path, str(index)), name)
    elif isinstance(data, str) and data and is_secret(name, data):
        yield (
            path,
            "looks like a secret, and each run writes its config down. Keep it in the environment.",
        )
