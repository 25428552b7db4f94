"""A cluster that `ray up` starts on `hosts`, and what a user types at it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.hosts import CHECKOUT, Hosts, cannot

PLACE = {"RAY_AUTH_MODE": "token", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
DASHBOARD = "http://127.0.0.1:8265"


@dataclass
class Cluster:
    hosts: Hosts
    file: Path
    shared: Path  # a folder that all machines see, as by NFS

    def __call__(self, *line: object, check: bool = True, **environment: str) -> tuple[int, str]:
        """(exit code, output) of a command of the client."""
        ended = subprocess.run(
            self.hosts.command(*line, **{**PLACE, **environment}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=300,
        )  # fmt: skip
        if check and ended.returncode:
            pytest.fail(f"{line} ended with {ended.returncode}:\n{ended.stdout}")
        return ended.returncode, ended.stdout

    def start(self, *line: object) -> subprocess.Popen[str]:
        """The same in the background."""
        return subprocess.Popen(
            self.hosts.command(*line, **PLACE), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def living(self) -> set[str]:
        """Addresses of the living nodes; none where there is no Ray."""
        asked = "import ray; ray.init('auto', log_to_driver=False, logging_level='error');"
        asked += "print('ALIVE', *(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"
        _, output = self("ray", "exec", self.file, f'python -c "{asked}"', check=False)
        found = re.search(r"^ALIVE (.*)$", output, re.MULTILINE)
        return set(found[1].split()) if found else set()


@contextmanager
def joined(
    folder: Path, names: list[str], fill_in: Callable[[Hosts, Path], dict[str, Any]]
) -> Iterator[Cluster]:
    """Hosts, of which the first is the head, after `ray up` of what `fill_in` gives."""
    if reason := cannot():
        pytest.skip(reason)
    root, shared = folder / "hosts", folder / "nfs"
    shared.mkdir()
    with Hosts(root, names, [shared]) as hosts:
        home = root / "client/home"
        (home / "cluster.yaml").write_text(yaml.safe_dump(fill_in(hosts, shared)))
        # ~/project: . is the folder that `ray up` is started in.
        (home / "project").mkdir()
        (home / "project/.gitignore").write_text("runs/\n")
        cluster = Cluster(hosts, Path.home() / "cluster.yaml", shared)
        cluster("ray", "get-auth-token", "--generate")
        cluster("env", "-C", Path.home() / "project", "ray", "up", "--yes", "--no-config-cache", cluster.file)
        yield cluster


def shipped(name: str) -> dict[str, Any]:
    """A shipped file, but for what would install: the hosts share this machine's Python."""
    config: dict[str, Any] = yaml.safe_load((CHECKOUT / name).read_text())
    config["auth"]["ssh_user"] = "root"
    config["setup_commands"] = [
        line.replace("python3 -m venv ~/venv", f"ln -s {sys.prefix} ~/venv")
        for line in config["setup_commands"]
        if "pip install" not in line and "apt-get" not in line
    ]
    return config


def small(config: dict[str, Any], when: str, options: str) -> None:
    """Adds to the `ray start` of `when`."""
    start = f"ray start --object-store-memory=100000000 {options} "
    config[when] = [line.replace("ray start ", start) for line in config[when]]


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(1)
    return found
