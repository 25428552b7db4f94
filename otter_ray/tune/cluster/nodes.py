"""The nodes of the connected Ray, and this machine as it would be one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otter_ray.cpus import available_cpus
from otter_ray.tune.cluster.resources import Node
from otter_ray.tune.ray_compat import draining_nodes


@dataclass(frozen=True)
class Member:
    """A living node of the connected Ray.

    Attributes:
        node: what it offers.
        type: its type's name in the autoscaler's configuration; empty if nobody named it.
        is_head: whether it is the cluster's head.
    """

    node: Node
    type: str = ""
    is_head: bool = False


def local_node() -> Node:
    """Return what this machine would offer to a Ray of its own."""
    import torch

    return Node(available_cpus(), torch.cuda.device_count())


def living_members() -> list[Member]:
    """Return the nodes that accept work."""
    return [_member(entry) for entry in living_entries()]


def living_entries() -> list[dict[str, Any]]:
    """Return what Ray knows of the nodes that are alive and do not drain."""
    import ray

    draining = draining_nodes()
    return [entry for entry in ray.nodes() if entry["Alive"] and entry["NodeID"] not in draining]


def own_node_died() -> bool:
    """Return whether the driver's node is dead for the connected Ray, and every slot that it started."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    return any(entry["NodeID"] == own and not entry["Alive"] for entry in ray.nodes())


def _member(entry: Mapping[str, Any]) -> Member:
    resources, labels = entry["Resources"], entry.get("Labels") or {}
    node = Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0))
    return Member(node, labels.get("ray.io/node-group", ""), "node:__internal_head__" in resources)
