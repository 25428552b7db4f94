"""Fork processes from one that has imported torch, Lightning and the project already.

    python -m otter_ray.tune.worker.fork_server [--lasting] SOCKET MODULE...

It listens before it imports, so that who asks early waits. Each connection hands over the process that the
child is to become (`launch.py`): a worker of Ray's, or a call of the driver's (`otter_ray/isolation.py`).

The server never imports ray: Ray's core reads the environment once, when it is imported, and a worker's
differs. It never touches CUDA, which does not survive a fork, and has one thread, because no other would
survive either. It ends when its standard input does, whose other end its parent holds; a lasting one when it
has had no child for a while.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import random
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from otter_ray.files import atomic_write
from otter_ray.isolation import forget_exit_handlers, run_exit_handlers, serve_call
from otter_ray.tune.worker.launch import DESCRIPTORS, LENGTH, READY, REFUSES, STARTED, peer_of

PATIENCE = 10.0  # seconds that a request may take to arrive
LASTS = 30.0  # seconds without a child that a lasting server waits for another
LASTING = "--lasting"


def serve(path: str, modules: list[str], lasting: bool = False) -> None:
    """Listen at a path, import modules, and fork a child for each connection.

    Args:
        path: Of the socket. What is there under its name is removed at the end, and an empty folder.
        modules: To import.
        lasting: Whether to end without children, and not when the standard input ends.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    own = os.stat(path)
    listener.listen(128)
    # Whoever started it waits for this, and reads nothing more.
    os.write(sys.stdout.fileno(), READY)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    try:
        preload(modules)
        # What was imported is never freed. A collection would write to its pages, and so copy them.
        gc.collect()
        gc.freeze()
        reason = unforkable()
        if reason:
            print(reason, file=sys.stderr, flush=True)
            with atomic_write(Path(path + REFUSES)) as partial:
                partial.write_text(reason)
        _answer_until_over(listener, lasting, forks=not reason)
    finally:
        _tidy(path, own)


def _tidy(path: str, own: os.stat_result) -> None:
    """Remove what this server has in its folder, and the folder if it is empty then."""
    with suppress(OSError), open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a launcher may be starting another server
        if not os.path.samestat(os.stat(path), own):
            return
        for suffix in ("", ".log", REFUSES, ".lock"):
            with suppress(FileNotFoundError):
                os.remove(path + suffix)
        os.rmdir(os.path.dirname(path))


def preload(modules: list[str]) -> None:
    """Import what children will need.

    A project that cannot be imported is left to whoever uses it, who has a message for that.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit):
            traceback.print_exc()
    sys.stdout.flush()  # or each child would print again what an import printed


def unforkable() -> str:
    """Return why a child of this process would not work; empty if it would."""
    if "ray" in sys.modules:
        return "the project imports ray"
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads:
        return f"the project starts {threads} thread{'s' * (threads > 1)} when it is imported"
    if "torch" in sys.modules and [*Path("/dev").glob("nvidia[0-9]*")]:
        from otter_ray.train.torch_compat import cuda_survives_fork

        if not cuda_survives_fork():
            return "the project asks for CUDA when it is imported"
    return ""


def _answer_until_over(listener: socket.socket, lasting: bool, forks: bool) -> None:
    """Fork a child for each request, or let each end without an answer at once."""
    children: set[int] = set()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    watched: list[Any] = [listener] if lasting else [listener, sys.stdin]
    while True:
        ready, _, _ = select.select(watched, [], [], LASTS)
        children = {pid for pid in children if os.path.exists(f"/proc/{pid}")}
        if sys.stdin in ready or (lasting and not ready and not children):
            return
        if listener in ready:
            try:
                connection, _ = listener.accept()
            except OSError as exc:
                _complain(exc)
                continue
            with connection:
                descriptors: list[int] = []
                try:
                    request = _receive(connection, descriptors)
                    if forks and request is not None:
                        children.add(_fork(listener, connection, request, descriptors))
                except (OSError, ValueError) as exc:
                    _complain(exc)
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)


def _complain(exc: Exception) -> None:
    """Say what kept the server from a fork: no process or no memory is left. Who asked sees the end."""
    print(f"fork server: {exc}", file=sys.stderr, flush=True)
    time.sleep(0.1)  # until there is some again


def _receive(connection: socket.socket, descriptors: list[int]) -> dict[str, Any] | None:
    """Return a request, and add its descriptors to the list; None if it is not one of this user's."""
    if peer_of(connection) != os.getuid():
        return None
    connection.settimeout(PATIENCE)
    head, received, _, _ = socket.recv_fds(connection, LENGTH.size, len(DESCRIPTORS))
    descriptors += received
    if len(head) != LENGTH.size or len(descriptors) != len(DESCRIPTORS):
        return None
    (length,) = LENGTH.unpack(head)
    text = b""
    while len(text) < length and (part := connection.recv(length - len(text))):
        text += part
    connection.settimeout(None)
    if len(text) < length:
        return None  # the launcher was killed
    request: dict[str, Any] = json.loads(text)
    return request


def _fork(
    listener: socket.socket, connection: socket.socket, request: dict[str, Any], descriptors: list[int]
) -> int:
    """Fork a child, and return its process ID."""
    if pid := os.fork():
        return pid
    try:
        forget_exit_handlers()
        listener.close()
        # Processes that the child starts are not to keep the connection open when it has ended.
        os.register_at_fork(after_in_child=connection.close)
        _become(connection, request, descriptors)
    finally:
        os._exit(1)  # whatever happens, a child is no server


def _become(connection: socket.socket, request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Turn this child into the process that a request describes, run it, and end."""
    code = 1
    try:
        _take_over(request, descriptors)
        if command := request.get("command"):
            threading.Thread(target=_end_with, args=[connection], daemon=True).start()
            connection.sendall(STARTED)
            _run_script(command)
        else:
            sys.path[0] = request["directory"]  # as `python -m` has it there
            connection.sendall(STARTED)
            serve_call(Connection(os.dup(connection.fileno())))
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except KeyboardInterrupt:
        code = 130  # the caller is gone
    except BaseException:
        traceback.print_exc()
    finally:
        run_exit_handlers()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what the server would do at its end is not for its children


def _take_over(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take over streams, folder, environment and priority of a process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()  # the raylet kills a worker's whole process group
    for received, meant in zip(descriptors, DESCRIPTORS, strict=True):
        os.dup2(received, meant)
        os.close(received)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.nice(request["niceness"] - os.nice(0))
    os.sched_setaffinity(0, request["affinity"])
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write(request["oom_score"])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(request["files"], most), most))
    os.umask(request["mask"])
    reseed()


def reseed() -> None:
    """Give this process random numbers and threads of its own: a fork has its parent's."""
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.seed()
        torch.set_num_threads(default_threads())


def default_threads() -> int:
    """Return how many threads torch would have chosen: as its environment says, or one for each core."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        first = os.environ.get(name, "").partition(",")[0]
        if first.isdecimal() and int(first) > 0:
            return int(first)
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as siblings:
                cores.add(siblings.read())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def _run_script(command: list[str]) -> None:
    sys.argv = command
    here = os.path.dirname(command[0])
    sys.path[:0] = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    runpy.run_path(command[0], run_name="__main__")


def _end_with(connection: socket.socket) -> None:
    """Wait until the launcher ends, and end with it: the raylet has killed it."""
    with suppress(OSError):
        connection.recv(1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Serve as the command line says."""
    lasting = LASTING in sys.argv[1:2]
    path, *modules = sys.argv[1 + lasting :]
    serve(path, modules, lasting)


if __name__ == "__main__":
    main()
