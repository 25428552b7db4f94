"""What the cluster's autoscaler may still add."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from otter_ray.tune.cluster.nodes import Member, living_members
from otter_ray.tune.cluster.resources import Node, ScaleUp
from otter_ray.tune.ray_compat import kuberay_autoscaler_config

# `ray up` puts it on the head.
BOOTSTRAP_CONFIG = "~/ray_bootstrap_config.yaml"
KUBERNETES_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def cluster_capacity(autoscaler: Mapping[str, Any] | None = None) -> tuple[list[Node], list[ScaleUp]]:
    """Return (what each living node of the connected Ray offers, what its autoscaler may add).

    Args:
        autoscaler: its configuration, or None for none.
    """
    members = living_members()
    return [member.node for member in members], scale_ups_of(autoscaler, members)


def scale_ups_of(config: Mapping[str, Any] | None, members: Sequence[Member]) -> list[ScaleUp]:
    """Return the nodes that an autoscaler may add to a cluster.

    Args:
        config: an autoscaler's (`available_node_types`, `max_workers`, `head_node_type`), or None for none.
        members: the cluster's living nodes.
    """
    if config is None:
        return []
    left = config.get("max_workers", 0) - sum(not member.is_head for member in members)
    scale_ups = []
    for name, kind in config["available_node_types"].items():
        offered = kind.get("resources") or {}
        node = Node(float(offered.get("CPU", 0)), float(offered.get("GPU", 0)))
        count = min(kind.get("max_workers", 0) - _workers_of(name, node, members), left)
        # Machines of your own state no resources: they are counted once they are there.
        if count > 0 and offered:
            scale_ups.append(ScaleUp(name, node, count, left))
    return scale_ups


def autoscaler_config() -> dict[str, Any] | None:
    """Return the autoscaler's configuration if the driver runs on the head; None if there is none.

    Ray does not keep it where a driver could ask for it: `ray up` leaves a file on the head, and KubeRay has
    a RayCluster that the head's pod may read.
    """
    file = Path(BOOTSTRAP_CONFIG).expanduser()
    if file.is_file():
        config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        return config
    name = os.environ.get("RAY_CLUSTER_NAME")
    if not name or not KUBERNETES_NAMESPACE.is_file():
        return None
    return kuberay_autoscaler_config(name, KUBERNETES_NAMESPACE.read_text())


def _workers_of(name: str, node: Node, members: Sequence[Member]) -> int:
    """Return how many living workers are of a type; those without a type are told by what they offer."""
    workers = [member for member in members if not member.is_head]
    return sum(member.type == name if member.type else member.node == node for member in workers)
