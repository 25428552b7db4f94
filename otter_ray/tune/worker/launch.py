"""Ask the fork server for a worker process, and start the server if this machine has none.

    python -S -E launch.py FOLDER MODULE,... default_worker.py ARGUMENTS...

The raylet starts this in place of Python (`py_executable` of a `runtime_env`), so it imports nothing but a
few modules of the standard library. What makes the process that the raylet meant is handed over: arguments,
environment, working directory, descriptors, priority. This process then lives as long as the worker does:
the worker ends if it is killed, and it ends when the worker has.
"""

import contextlib
import fcntl
import json
import os
import resource
import socket
import stat
import struct
import subprocess
import sys
import zlib

SERVER = "otter_ray.tune.worker.fork_server"
DESCRIPTORS = (0, 1, 2)
LENGTH = struct.Struct("!I")  # of a request, in bytes
UCRED = struct.Struct("3i")  # a peer's pid, uid and gid, as Linux gives them
READY, STARTED = b".", b"+"  # the server listens; the child runs
REFUSES = ".refuses"  # beside its socket a server writes why its children would not work
# Threads do not survive a fork. A child sets torch's number of threads itself.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's jemalloc
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime sends it from a thread
}
PRIVATE = 0o700


def main() -> None:
    """Hand the start over to the fork server, and wait for the worker's end."""
    folder, modules, *command = sys.argv[1:]
    try:
        server = connect(folder, modules.split(","))
        send(server, {"command": command, **process_state()})
        started = server.recv(1)
    except (OSError, subprocess.SubprocessError) as exc:
        print(f"this worker imports torch by itself: {exc}", file=sys.stderr, flush=True)
        started = b""
    if not started:
        # There is no server, or it cannot fork. A worker that starts late is better than none.
        os.execv(sys.executable, [sys.executable, *command])
    server.recv(1)  # returns when the worker has ended, however it did


def socket_in(folder: str) -> str:
    """Return the socket's path in a folder: one for each set of this process's namespaces.

    Containers may share a folder. A child of another one's server would see other files and networks.
    """
    names = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "user")]
    return os.path.join(folder, f"{zlib.crc32(''.join(names).encode()):08x}")  # it must be short


def connect(folder: str, modules: list[str]) -> socket.socket:
    """Return a connection to the server in a folder, which is started if there is none.

    Raises:
        OSError: The folder is another user's, its server cannot fork, or does not start.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, PRIVATE)
    about = os.lstat(folder)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(f"{folder} is not private")  # its name is no secret: it may be a trap
    path = socket_in(folder)
    with contextlib.suppress(FileNotFoundError), open(path + REFUSES) as reason:
        raise ChildProcessError(reason.read())
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        return _connection(path)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _connection(path)  # another launcher has started it meanwhile
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)  # of a server that was killed
        start_server(folder, modules, lasting=True)
        return _connection(path)


def start_server(folder: str, modules: list[str], lasting: bool) -> "subprocess.Popen[bytes]":
    """Start the server in a folder, and return when it listens. It imports meanwhile.

    Args:
        folder: A private one, where its socket and its log are.
        modules: That it imports.
        lasting: Whether it outlives this process: until no worker has needed it for a while. Otherwise it
            ends when its standard input does.

    Raises:
        OSError: It does not start.
    """
    options = ["--lasting"] if lasting else []
    path = socket_in(folder)
    with open(f"{path}.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", SERVER, *options, path, *modules],
            stdin=subprocess.DEVNULL if lasting else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,  # neither Ctrl-C nor the end of the worker's process group is for it
        )
    assert process.stdout
    with process.stdout:
        if process.stdout.read(1) != READY:
            process.wait()
            raise ChildProcessError(f"the fork server has not started: {last_words(path)}")
    return process


def last_words(path: str) -> str:
    """Return the last line that the server of a socket has logged."""
    with contextlib.suppress(OSError), open(f"{path}.log", errors="replace") as log:
        if lines := log.read().strip().splitlines():
            return lines[-1]
    return "it has ended"


def process_state() -> dict[str, object]:
    """Return what makes a process this one, beside its command."""
    mask = os.umask(0)
    os.umask(mask)
    with open("/proc/self/oom_score_adj") as score:
        return {
            "environment": dict(os.environ),
            "directory": os.getcwd(),
            "niceness": os.nice(0),
            "affinity": [*os.sched_getaffinity(0)],
            "oom_score": score.read(),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "mask": mask,
        }


def send(server: socket.socket, request: dict[str, object]) -> None:
    """Send a request, and with it this process's standard streams."""
    text = json.dumps(request).encode()
    with contextlib.ExitStack() as stack:
        streams = [descriptor if _is_open(descriptor) else _nothing(stack) for descriptor in DESCRIPTORS]
        socket.send_fds(server, [LENGTH.pack(len(text))], streams)
    server.sendall(text)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _nothing(stack: contextlib.ExitStack) -> int:
    return stack.enter_context(open(os.devnull, "r+b", buffering=0)).fileno()


def _connection(path: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(path)
        if peer_of(server) != os.getuid():
            raise PermissionError(f"{path} is another user's")
    except OSError:
        server.close()
        raise
    return server


def peer_of(connection: socket.socket) -> int:
    """Return the user ID of the process at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    user: int = UCRED.unpack(credentials)[1]
    return user


if __name__ == "__main__":
    main()
