"""What is examined together: the machine, a Ray and its nodes, a config with its space."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from otter_ray.doctor.finding import Finding, error, examine, ok, warning
from otter_ray.doctor.machine import NAMED, disks, gpus, limits, nearest, packages, version_of
from otter_ray.doctor.needs import data_paths, hub, paths, precision
from otter_ray.errors import ConfigError

if TYPE_CHECKING:
    from otter_ray.config import Config, Space
    from otter_ray.tune.probe import Answer

Check = Callable[[], Iterable[Finding]]
SLOW = 180.0  # seconds for what builds models or asks nodes


@dataclass
class Case:
    """What the command was given, and what the checks so far have found out.

    Attributes:
        name, space_name, sets: of the config; None: there is none to look at.
        address, storage, runs: as `otter_ray.tune` takes them.
        config, space: once they are loaded.
        is_connected: whether the Ray at the address was reached.
    """

    name: str | None
    space_name: str | None
    sets: list[str]
    address: str | None
    storage: str | None
    runs: Path
    config: Config | None = None
    space: Space | None = None
    is_connected: bool = False
    stack: ExitStack = field(default_factory=ExitStack)

    def findings(self) -> Iterator[tuple[str, Finding]]:
        """(what about, finding), as they come. One check's failure is no other's."""
        checks: list[tuple[str, Check, float]] = [
            ("packages", packages, 30.0),
            ("gpu", gpus, 60.0),
            ("limits", limits, 5.0),
            ("disk", partial(disks, self.runs), 10.0),
            ("config", self.load, 30.0),
            ("ray", self.connect, 60.0),
            ("storage", self.reach, SLOW),
            ("nodes", self.nodes, SLOW),
            ("config", self.fit, SLOW),
            ("data", self.data, 30.0),
            ("hub", lambda: hub(self.config), 30.0),
        ]
        with self.stack:
            for about, check, seconds in checks:
                for finding in examine(check, seconds):
                    yield about, finding

    def load(self) -> Iterator[Finding]:
        """The config and its space, as their schemas see them."""
        if self.name is None:
            return
        from otter_ray.config import check_space, load_config, load_space
        from otter_ray.config.lookup import find_space

        self.config = load_config(self.name, self.sets)
        name = self.space_name or Path(self.name).stem
        try:
            find_space(name)
        except ConfigError as exc:
            yield warning(f"{exc} otter_ray.train works without one, otter_ray.tune does not.")
            return
        space = load_space(name)
        if problems := check_space(space, self.config):
            raise ConfigError(problems)
        self.space = space

    def connect(self) -> Iterator[Finding]:
        """The Ray at the address, and whether strangers are kept out."""
        from otter_ray.tune.auth import MODE
        from otter_ray.tune.check import local_node
        from otter_ray.tune.cluster import cluster
        from otter_ray.tune.plan import Node, gpus_of
        from otter_ray.tune.session import TOKEN, ray_session

        if _is_open(TOKEN):
            yield warning(f"others can read {TOKEN}, and with it run code here. chmod 600 {TOKEN}")
        if self.address is None:
            if os.environ.get(MODE) == "disabled":
                text = f"{MODE} is disabled: a study's Ray asks nobody for a token. Unset it."
                yield warning(text)
            yield ok(
                f"a study starts one of its own ({local_node()}); another one is examined with --address"
            )
            return
        dashboard = self.stack.enter_context(
            ray_session(self.address, self.config.project if self.config else None)
        )
        self.is_connected = True
        nodes, _ = cluster()
        together = Node(sum(node.cpus for node in nodes), gpus_of(nodes))
        asks = "a token" if os.environ.get(MODE) == "token" else "no token"
        yield ok(
            f"{self.address} asks for {asks}; {len(nodes)} node{'s' * (len(nodes) != 1)} with {together}; "
            f"dashboard: {dashboard or 'none'}"
        )

    def reach(self) -> Iterator[Finding]:
        """Where studies are kept, from here and from each node."""
        from otter_ray.tune.probe import check_nodes, check_storage
        from otter_ray.tune.storage import Storage

        storage = None if self.storage is None else Storage.of(self.storage)
        if storage is not None:
            if "://" not in storage.uri and not Path(storage.uri).is_dir():
                yield error(f"--storage {storage.uri} is no folder. Mount it, or make it.")
                return
            check_storage(storage)
        place = nearest(self.runs)
        if self.is_connected:
            check_nodes(place, storage)
            yield ok(f"every node reads and writes {storage.uri if storage else place}")
        elif storage is not None:
            yield ok(f"this machine reads and writes {storage.uri}")

    def nodes(self) -> Iterator[Finding]:
        """What each node says of itself."""
        if not self.is_connected:
            return
        from otter_ray.tune.probe import ask_nodes

        wanted = {key: str(Path(value).expanduser().absolute()) for key, value in self._paths().items()}
        for answer in ask_nodes(look, None if self.storage else self.runs.absolute(), wanted):
            yield from _of_node(answer)

    def fit(self) -> Iterator[Finding]:
        """Whether each class takes its options, here, in every branch, and what the study's plan is."""
        if self.config is None:
            return
        from otter_ray.train.check import Checker
        from otter_ray.tune.check import check_study, local_node, with_steady_scheduler
        from otter_ray.tune.cluster import autoscaler_config, cluster
        from otter_ray.tune.dry_run import plan_for
        from otter_ray.tune.plan import gpus_of

        nodes, growth = cluster(autoscaler_config()) if self.is_connected else ([local_node()], [])
        if not self.is_connected:
            yield from precision(self.config)
        if self.space is None:
            if problems := Checker(gpus_of(nodes, growth)).problems(self.config):
                raise ConfigError(problems)
            yield ok(f"{self.config.name}: every class takes its options")
            return
        space = with_steady_scheduler(self.space, self.config)
        check_study(self.config, space, gpus_of(nodes, growth))
        plan = plan_for(self.config, space, nodes, growth)
        yield ok(f"{self.config.name} and its search space fit together; {plan}")
        if plan.gpu_note:
            yield warning(plan.gpu_note)

    def data(self) -> Iterator[Finding]:
        """The folders and files that the config names, on this machine."""
        if self.config is not None:
            yield from paths(self._paths())

    def _paths(self) -> dict[str, str]:
        return data_paths(self.config, self.space) if self.config is not None else {}


def _is_open(file: Path) -> bool:
    """Whether others than its owner can read a file, and come to it."""
    way = [folder.stat().st_mode & 0o011 for folder in file.parents if folder.is_dir()]
    return file.is_file() and bool(file.stat().st_mode & 0o044) and all(way)


@dataclass(frozen=True)
class Look:
    """What a node found about itself. Plain data: it travels."""

    findings: list[Finding]
    gpus: int
    versions: dict[str, str | None]


def look(runs: Path | None, wanted: dict[str, str]) -> Look:
    """Examines the machine that this runs on; `wanted` are the paths that a config names."""
    import torch

    checks: list[Check] = [packages, gpus, limits, partial(disks, runs)]
    checks += [partial(paths, wanted)] if wanted else []
    findings = [finding for check in checks for finding in examine(check, 30.0)]
    return Look(findings, torch.cuda.device_count(), {name: version_of(name) for name in NAMED})


def _of_node(answer: Answer) -> Iterator[Finding]:
    """What is well in one line, each trouble in its own."""
    if answer.trouble:
        yield error(
            f"{answer.node}: {answer.trouble}. Install otter_ray there, as here; see docs/cluster.md."
        )
        return
    seen: Look = answer.value
    offered = int(answer.entry["Resources"].get("GPU", 0))
    if offered != seen.gpus:
        yield error(
            f"{answer.node}: Ray offers {offered} GPUs, torch sees {seen.gpus}. Start Ray there with "
            f"--num-gpus={seen.gpus}, or mend torch or the driver."
        )
    other = [
        f"{name} {version} (here {version_of(name)})"
        for name, version in seen.versions.items()
        if version != version_of(name)
    ]
    if other:
        yield warning(f"{answer.node}: other versions: {', '.join(other)}. Install constraints.txt on all.")
    for finding in seen.findings:
        if finding.level != "ok":
            yield Finding(finding.level, f"{answer.node}: {finding.text}")
    yield ok(
        f"{answer.node}: " + "; ".join(finding.text for finding in seen.findings if finding.level == "ok")
    )
