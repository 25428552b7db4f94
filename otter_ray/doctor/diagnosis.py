"""Everything that one diagnosis covers: the machine, a Ray cluster and its nodes, a config with its space."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from otter_ray.disk import nearest_folder
from otter_ray.doctor.finding import Finding, error, examine, ok, warning
from otter_ray.doctor.machine import disks, gpus, limits, packages, user_folders
from otter_ray.doctor.needs import data_paths, hub, paths, precision
from otter_ray.doctor.node_report import examine_node, node_findings
from otter_ray.errors import ConfigError

if TYPE_CHECKING:
    from otter_ray.config import Config
    from otter_ray.space import SearchProblem

Check = Callable[[], Iterable[Finding]]
SLOW = 180.0  # seconds for what builds models or asks nodes
PATIENT = 7200.0  # seconds for what decodes images that no study has decoded yet


@dataclass
class Diagnosis:
    """The checks of one call of the command, and what they have found out so far.

    Attributes:
        name: Name or path of the config; None if there is none to check.
        space_name: Name or path of its search space; None for the config's name.
        sets: `--set` values for the config.
        address: Address of a Ray cluster, as `otter_ray.tune` accepts it.
        storage: Where studies are stored, as `otter_ray.tune` accepts it.
        runs: Folder for studies.
        config: The config, once it is loaded.
        problem: The config with its search space, once both are loaded.
        is_connected: Whether the Ray cluster at the address was reached.
        is_fit: Whether the config fits its classes, its space and the machines.
        has_data: Whether the folders and files that the config names are there.
        stack: What is closed after the last check.
    """

    name: str | None
    space_name: str | None
    sets: list[str]
    address: str | None
    storage: str | None
    runs: Path
    config: Config | None = None
    problem: SearchProblem | None = None
    is_connected: bool = False
    is_fit: bool = False
    has_data: bool = False
    stack: ExitStack = field(default_factory=ExitStack)

    def findings(self) -> Iterator[tuple[str, Finding]]:
        """Yield (topic, finding) as they come. A check that fails does not stop the others."""
        checks: list[tuple[str, Check, float]] = [
            ("folders", user_folders, 10.0),
            ("packages", packages, 30.0),
            ("gpu", gpus, 60.0),
            ("limits", limits, 5.0),
            ("disk", partial(disks, self.runs), 10.0),
            ("config", self.load, 30.0),
            ("ray", self.connect, 60.0),
            ("storage", self.reach, SLOW),
            ("nodes", self.nodes, SLOW),
            ("config", self.fit, SLOW),
            ("models", self.models, SLOW),
            ("data", self.data, 30.0),
            ("data", self.read, PATIENT),
            ("hub", lambda: hub(self.config), 30.0),
        ]
        with self.stack:
            for about, check, seconds in checks:
                for finding in examine(check, seconds):
                    yield about, finding

    def load(self) -> Iterator[Finding]:
        """Load the config and its space, and check them by their schemas."""
        if self.name is None:
            return
        from otter_ray.config import load_config
        from otter_ray.config.lookup import find_space
        from otter_ray.space import SearchProblem, check_space, load_space

        self.config = load_config(self.name, self.sets)
        name = self.space_name or Path(self.name).stem
        try:
            find_space(name)
        except ConfigError as exc:
            yield warning(f"{exc} otter_ray.train works without one, otter_ray.tune does not.")
            return
        problem = SearchProblem(self.config, load_space(name))
        if faults := check_space(problem):
            raise ConfigError(faults)
        self.problem = problem

    def connect(self) -> Iterator[Finding]:
        """Connect to the Ray cluster at the address, and check that it keeps strangers out."""
        from otter_ray.tune.cluster.auth import MODE, token_file
        from otter_ray.tune.cluster.autoscaler import cluster_capacity
        from otter_ray.tune.cluster.job_submission import code_of
        from otter_ray.tune.cluster.nodes import local_node
        from otter_ray.tune.cluster.resources import Node, gpus_of
        from otter_ray.tune.cluster.session import RaySession

        if _is_open(token := token_file()):
            yield warning(f"other users can read {token} and run code here with it. Run chmod 600 {token}")
        if self.address is None:
            if os.environ.get(MODE) == "disabled":
                yield warning(f"{MODE} is disabled, so a study's Ray requires no token. Unset it.")
            yield ok(f"a study starts its own ({local_node()}); --address checks another one")
            return
        session = self.stack.enter_context(
            RaySession(self.address, code_of(self.config.project) if self.config else ())
        ).start()
        self.is_connected = True
        nodes, _ = cluster_capacity()
        total = Node(sum(node.cpus for node in nodes), gpus_of(nodes))
        required = "a token" if os.environ.get(MODE) == "token" else "no token"
        yield ok(
            f"{self.address} requires {required}; {len(nodes)} node{'s' * (len(nodes) != 1)} with {total}; "
            f"dashboard: {session.dashboard_url or 'none'}"
        )

    def reach(self) -> Iterator[Finding]:
        """Check the place where studies are stored, from here and from each node."""
        from otter_ray.study.storage import Storage
        from otter_ray.tune.cluster.node_checks import check_nodes, check_storage

        storage = None if self.storage is None else Storage.of(self.storage)
        if storage is not None:
            if "://" not in storage.uri and not Path(storage.uri).is_dir():
                yield error(f"--storage {storage.uri} is not a folder. Mount it, or create it.")
                return
            check_storage(storage)
        place = nearest_folder(self.runs)
        if self.is_connected:
            check_nodes(place, storage)
            yield ok(f"every node reads and writes {storage.uri if storage else place}")
        elif storage is not None:
            yield ok(f"this machine reads and writes {storage.uri}")

    def nodes(self) -> Iterator[Finding]:
        """Have each node examine itself."""
        if not self.is_connected:
            return
        from otter_ray.tune.cluster.node_checks import ask_nodes

        wanted = {key: str(Path(value).expanduser().absolute()) for key, value in self._paths().items()}
        for answer in ask_nodes(examine_node, None if self.storage else self.runs.absolute(), wanted):
            yield from node_findings(answer)

    def fit(self) -> Iterator[Finding]:
        """Check that each class accepts its options in every branch of the space, and plan the study."""
        if self.config is None:
            return
        from otter_ray.space import idle_parameters
        from otter_ray.train.checks.validation import Checker
        from otter_ray.tune.cluster.autoscaler import autoscaler_config, cluster_capacity
        from otter_ray.tune.cluster.nodes import local_node
        from otter_ray.tune.cluster.planner import plan_for
        from otter_ray.tune.cluster.resources import gpus_of
        from otter_ray.tune.preflight.doubts import doubts
        from otter_ray.tune.preflight.idle_options import idle_options
        from otter_ray.tune.preflight.static_checks import check_study, resolve

        nodes, scale_ups = (
            cluster_capacity(autoscaler_config()) if self.is_connected else ([local_node()], [])
        )
        if not self.is_connected:
            yield from precision(self.config)
        if self.problem is None:
            if problems := Checker(gpus_of(nodes, scale_ups)).problems(self.config):
                raise ConfigError(problems)
            self.is_fit = True
            yield ok(f"{self.config.name}: every class accepts its options")
            return
        problem = resolve(self.problem)
        check_study(problem, gpus_of(nodes, scale_ups))
        plan = plan_for(problem, nodes, scale_ups)
        self.is_fit = True
        yield ok(f"{self.config.name} and its search space fit together; {plan}")
        if self.problem.grid_note:
            yield ok(self.problem.grid_note)
        for doubt in (*doubts(problem), *idle_parameters(problem), *idle_options(problem)):
            yield warning(str(doubt))
        if plan.gpu_note:
            yield warning(plan.gpu_note)

    def models(self) -> Iterator[Finding]:
        """Build, train and export each model that the space reaches, as a study does before its trials."""
        if self.config is None or self.config.onnx is None or not self.is_fit:
            return
        from otter_ray.tune.constraints import ModelStatsCache
        from otter_ray.tune.preflight.models import preflight

        searched = self._searched(self.config)
        cache = ModelStatsCache(searched.options.model_stats)
        preflight(searched, cache)
        yield ok(f"every model that can be reached ({len(cache.tried)}) trains a step and can be exported")

    def data(self) -> Iterator[Finding]:
        """Check the folders and files that the config names, on this machine."""
        if self.config is None:
            return
        found = [*paths(self._paths())]
        self.has_data = all(finding.level != "error" for finding in found)
        yield from found

    def read(self) -> Iterator[Finding]:
        """Build the data sets, as a study does before its trials."""
        if self.config is None or not (self.is_fit and self.has_data):
            return
        from otter_ray.tune.preflight.data import read_data

        yield ok(read_data(self._searched(self.config))[1])

    def _searched(self, config: Config) -> SearchProblem:
        from otter_ray.space import SearchProblem, Space

        return self.problem or SearchProblem(config, Space(config.name, ()))

    def _paths(self) -> dict[str, str]:
        return data_paths(self.config, self.problem) if self.config is not None else {}


def _is_open(file: Path) -> bool:
    """Return whether users other than its owner can reach and read a file."""
    way = [folder.stat().st_mode & 0o011 for folder in file.parents if folder.is_dir()]
    return file.is_file() and bool(file.stat().st_mode & 0o044) and all(way)
