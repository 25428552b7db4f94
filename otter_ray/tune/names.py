"""What trials are called where people look: in Ray's dashboard, in logs, in a list of processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otter_ray.tune.keys import BASE, NUMBER, SCHEDULE, VALUES


def trial_name(config: str, assignment: Mapping[str, Any]) -> str:
    """`demo/0007 lr=0.00565 s=12`; keys that one parameter sets together stand there once."""
    values = {key: value for key, value in assignment[VALUES].items() if key != SCHEDULE}
    changes = dict.fromkeys(f"{key.rpartition('.')[2]}={_value(value)}" for key, value in values.items())
    return f"{config}/{assignment[NUMBER]:04d} {'base' if values == BASE else ' '.join(changes)}"


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_as(name: str) -> None:
    """Names this process: `top` shows it, and the dashboard among the processes of its node."""
    import ray

    ray._raylet.setproctitle(f"ray::{name}")
