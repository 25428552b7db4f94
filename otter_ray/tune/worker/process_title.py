"""The name of a worker's process, as `top` and Ray's dashboard show it."""

from __future__ import annotations

from otter_ray.tune.ray_compat import set_process_title


def show_as(name: str) -> None:
    """Name this process: `top` shows it, and the dashboard among the processes of its node."""
    set_process_title(f"ray::{name}")
