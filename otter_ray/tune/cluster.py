"""What the connected Ray offers: its nodes, and those that its autoscaler may still add."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from otter_ray.tune.plan import Growth, Node, Plan

# `ray up` puts it on the head.
BOOTSTRAP_CONFIG = "~/ray_bootstrap_config.yaml"
KUBERNETES_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Member:
    """A living node: what it offers, and of which of the autoscaler's types it is ('' where nobody said)."""

    node: Node
    type: str = ""
    is_head: bool = False


def cluster(autoscaler: Mapping[str, Any] | None = None) -> tuple[list[Node], list[Growth]]:
    """(what each living node of the connected Ray offers, what its autoscaler may add to them)."""
    members = living()
    return [member.node for member in members], growth_of(autoscaler, members)


def living() -> list[Member]:
    """The nodes that take work."""
    return [_member(entry) for entry in living_entries()]


def living_entries() -> list[dict[str, Any]]:
    """What Ray knows of the nodes that are alive, and not about to go."""
    import ray
    from ray._private.state import state

    going = state.get_draining_nodes()
    return [entry for entry in ray.nodes() if entry["Alive"] and entry["NodeID"] not in going]


def own_node_died() -> bool:
    """Whether the driver's node is gone for the connected Ray, and every slot that it started with it."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    return any(entry["NodeID"] == own and not entry["Alive"] for entry in ray.nodes())


def _member(entry: Mapping[str, Any]) -> Member:
    resources, labels = entry["Resources"], entry.get("Labels") or {}
    node = Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0))
    return Member(node, labels.get("ray.io/node-group", ""), "node:__internal_head__" in resources)


def growth_of(config: Mapping[str, Any] | None, members: Sequence[Member]) -> list[Growth]:
    """What a cluster may grow by.

    Args:
        config: an autoscaler's (`available_node_types`, `max_workers`, `head_node_type`), or None for none.
    """
    if config is None:
        return []
    left = config.get("max_workers", 0) - sum(not member.is_head for member in members)
    growth = []
    for name, kind in config["available_node_types"].items():
        offered = kind.get("resources") or {}
        node = Node(float(offered.get("CPU", 0)), float(offered.get("GPU", 0)))
        count = min(kind.get("max_workers", 0) - _workers_of(name, node, members), left)
        # Your own machines have no stated resources: they are counted once they are there.
        if count > 0 and offered:
            growth.append(Growth(name, node, count, left))
    return growth


def _workers_of(name: str, node: Node, members: Sequence[Member]) -> int:
    workers = [member for member in members if not member.is_head]
    return sum(member.type == name if member.type else member.node == node for member in workers)


def autoscaler_config() -> dict[str, Any] | None:
    """The configuration of the autoscaler, where the driver runs on the head; None where there is none.

    Ray keeps none of it where a driver could ask: `ray up` leaves a file on the head, KubeRay the
    RayCluster that the head's pod may read.
    """
    file = Path(BOOTSTRAP_CONFIG).expanduser()
    if file.is_file():
        config: dict[str, Any] = yaml.safe_load(file.read_text())
        return config
    name = os.environ.get("RAY_CLUSTER_NAME")
    if not name or not KUBERNETES_NAMESPACE.is_file():
        return None
    return _kuberay_config(name, KUBERNETES_NAMESPACE.read_text())


def _kuberay_config(name: str, namespace: str) -> dict[str, Any] | None:
    import requests
    from ray.autoscaler._private.kuberay import autoscaling_config, node_provider

    try:
        found = node_provider.KubernetesHttpApiClient(namespace).get(f"rayclusters/{name}")
    except requests.RequestException:
        # Without autoscaling, the pod may not ask.
        return None
    if not found["spec"].get("enableInTreeAutoscaling"):
        return None
    config: dict[str, Any] = autoscaling_config._derive_autoscaling_config_from_ray_cr(found)
    return config


class LiveLimit:
    """How many trials may run at once, asked anew as nodes come and go.

    Args:
        plan: whose trials they are.
        autoscaler: its configuration, or None for none.
        seconds: for which an answer holds.
    """

    def __init__(self, plan: Plan, autoscaler: Mapping[str, Any] | None = None, seconds: float = 1.0) -> None:
        self.plan, self.autoscaler, self.seconds = plan, autoscaler, seconds
        self._answer, self._until = plan.slots, 0.0

    def __call__(self) -> int:
        """At least 1: a trial that waits is what shows an autoscaler that a node is wanted."""
        if time.monotonic() >= self._until:
            self._answer = max(1, self.plan.slots_on(*cluster(self.autoscaler)))
            self._until = time.monotonic() + self.seconds
        return self._answer
