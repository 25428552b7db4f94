"""Fork from a process that has imported torch already: Ray's workers, and the driver's calls.

Importing torch, Lightning and timm takes longer than a tiny trial. One process does it once on each machine,
while Ray starts (`tune/worker/fork_server.py`).
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from otter_ray.isolation import calls_answered_by
from otter_ray.train.registry import PROJECTS
from otter_ray.tune.cluster.job_submission import JOB
from otter_ray.tune.ray_compat import node_python
from otter_ray.tune.worker import launch

logger = logging.getLogger(__name__)

# None of it asks the GPU's driver, which would settle what the process sees.
IMPORTS = (
    "otter_ray.train.trainer",
    "otter_ray.tune.worker.trainable",
    "otter_ray.tune.preparation",
    "otter_ray.tune.selection.winner",
)
# Parts of a job's `runtime_env` that decide which Python its workers are.
PYTHONS = ("conda", "container", "image_uri", "nsight", "pip", "py_executable", "rocprof_sys", "uv")
SWITCH = "OTTER_RAY_FORK_SERVER"
SLOWER = "each worker imports torch by itself, which takes longer"


class ForkServer:
    """A process that others are forked from. It ends with this one, however that ends.

    If `OTTER_RAY_FORK_SERVER` names a folder, the server there is used, which somebody else has started.

    Args:
        modules: What it imports.
        answers: Whether calls are answered; objects of this process's own would be unknown there.
    """

    def __init__(self, modules: Sequence[str], answers: bool = True) -> None:
        self.modules, self.answers = [*modules], answers
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._has_failed = self._is_shared = False
        self._stack = ExitStack()

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and has not ended."""
        return self._is_shared or (self._process is not None and self._process.poll() is None)

    def start(self) -> Self:
        """Start it, where that is possible. It imports while this process continues."""
        if self._process is not None:
            return self
        if sys.platform != "linux":
            logger.info(f"{SLOWER}: this is not Linux")
            return self
        if os.environ.get(SWITCH) == "0":
            logger.info(f"{SLOWER}: {SWITCH}=0")
            return self
        if os.path.isabs(shared := os.environ.get(SWITCH, "")):
            self._folder, self._is_shared = Path(shared), True
            return self
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="otter_ray_"))  # only this user may look into it
            self._process = launch.start_server(str(self._folder), self.modules, lasting=False)
        except (OSError, subprocess.SubprocessError) as exc:
            self._warn(str(exc))
        return self

    def stop(self) -> None:
        """End it. Workers that were forked live until Ray ends them."""
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None and not self._is_shared:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        self._stack.callback(self.stop)
        self.start()
        self._stack.enter_context(calls_answered_by(self._connection))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def py_executable(self, elsewhere: bool) -> str | None:
        """Return what Ray is to start in place of Python, as a shell reads it; None for Python as ever.

        Args:
            elsewhere: Whether there are other machines. Each has a server of its own then, which its first
                worker starts, if this package has the same place there.
        """
        if not self.is_running:
            return None
        if own := _job_pythons():
            self._warn(f"the job's runtime_env has {', '.join(own)}, which says what Python they are")
            return None
        words = ["-S", "-E", launch.__file__, str(self._folder), ",".join(self.modules)]
        if not elsewhere:
            return shlex.join([sys.executable, *words])
        launcher = " ".join(words)
        if shlex.join(words) != launcher:  # what a shell prints cannot be quoted
            self._warn(f"{launcher!r} has characters that a shell would change")
            return None
        return f"$({node_python()}; [ ! -f {launch.__file__} ] || echo {launcher})"

    def _connection(self) -> Connection | None:
        """Return a connection to a fork that waits for a call; None if there is no server."""
        if not self.answers or not self.is_running or self._has_failed:
            return None
        try:
            server = launch.connect(str(self._folder), self.modules)
            launch.send(server, launch.process_state())
            if server.recv(1) == launch.STARTED:
                return Connection(server.detach())
            server.close()
            reason = launch.last_words(launch.socket_in(str(self._folder)))
        except OSError as exc:
            reason = str(exc)
        self._has_failed = True
        self._warn(reason)
        return None

    def _warn(self, reason: str) -> None:
        logger.warning(f"{SLOWER}: {reason}")


def worker_imports(project: str) -> list[str]:
    """Return what trials and the driver's calls import, Ray aside.

    Args:
        project: A config's.
    """
    return [*IMPORTS, own if _exists(own := f"{PROJECTS}.{project}") else project]


def _job_pythons() -> list[str]:
    """Return by what a submitted job has chosen the Python of its workers itself: no other replaces it."""
    job = json.loads(os.environ.get(JOB) or "{}")
    return sorted({*PYTHONS} & (job.get("runtime_env") or {}).keys())


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # of its parent; or the name is not one
        return False
