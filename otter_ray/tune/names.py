"""What trials are called where people look: in Ray's dashboard, in logs, in a list of processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otter_ray.tune.keys import BASE, NUMBER, SCHEDULE, VALUES


def trial_name(config: str, assignment: Mapping[str, Any]) -> str:
    """`demo/0007 lr=0.00565 s=12`."""
    return f"{config}/{assignment[NUMBER]:04d} {changes_of(assignment[VALUES])}"


def changes_of(values: Mapping[str, Any]) -> str:
    """`lr=0.00565 s=12`, or `base`; keys that one parameter sets together stand there once."""
    changes = {key: value for key, value in values.items() if key != SCHEDULE}
    words = dict.fromkeys(f"{key.rpartition('.')[2]}={_value(value)}" for key, value in changes.items())
    return "base" if changes == BASE else " ".join(words)


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_as(name: str) -> None:
    """Names this process: `top` shows it, and the dashboard among the processes of its node."""
    import ray

    ray._raylet.setproctitle(f"ray::{name}")
