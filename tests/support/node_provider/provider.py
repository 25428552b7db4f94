"""A cloud whose machines are a test's hosts: Ray's node provider interface over a file that all see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from ray.autoscaler.node_provider import NodeProvider


class Provider(NodeProvider):  # type: ignore[misc]
    """Hands out the addresses of `pool` in turn, and remembers each start in `started`."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self.pool, self.file = provider_config["pool"], Path(provider_config["file"])

    @contextmanager
    def nodes(self) -> Iterator[dict[str, dict[str, str]]]:
        """Address -> tags of what runs."""
        with FileLock(f"{self.file}.lock"):
            nodes = json.loads(self.file.read_text()) if self.file.exists() else {}
            yield nodes
            # Whoever reads it without the lock reads a whole one.
            partial = self.file.with_suffix(".partial")
            partial.write_text(json.dumps(nodes))
            partial.replace(self.file)

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        with self.nodes() as nodes:
            return [node for node, tags in nodes.items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        with self.nodes() as nodes:
            return node_id in nodes

    def is_terminated(self, node_id: str) -> bool:
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        with self.nodes() as nodes:
            return nodes.get(node_id, {})

    def external_ip(self, node_id: str) -> str:
        return node_id

    internal_ip = external_ip

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        with self.nodes() as nodes:
            free = [address for address in self.pool if address not in nodes]
            nodes.update({address: dict(tags) for address in free[:count]})
        with Path(f"{self.file}.started").open("a") as log:
            log.write(f"{tags['ray-user-node-type']}\n" * count)

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        with self.nodes() as nodes:
            nodes[node_id] |= tags

    def terminate_node(self, node_id: str) -> None:
        with self.nodes() as nodes:
            nodes.pop(node_id, None)
