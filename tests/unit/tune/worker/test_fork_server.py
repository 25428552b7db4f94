"""Processes that are forked from one that has imported what they need."""

import errno
import json
import logging
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from otter_ray.errors import ConfigError, Problem, SoleWarning, StudyError
from otter_ray.isolation import call
from otter_ray.tune.worker import launch
from otter_ray.tune.worker.forks import SWITCH, ForkServer, worker_imports
from otter_ray.warn import SAID

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs Linux")

# Where Linux counts processes: version 1 of control groups, and 2.
PIDS_GROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
# What Ray's own script does, as far as this is about: it says who it is, and lives until it is killed.
WORKER = """
import atexit, json, os, sys
import random
print(json.dumps({
    "argv": sys.argv, "cwd": os.getcwd(), "shown": os.environ.get("SHOWN"), "nice": os.nice(0),
    "pid": os.getpid(), "group": os.getpgrp(), "draw": random.random(),
    "preloaded": "colorsys" in sys.modules,
}), flush=True)
atexit.register(print, "over", flush=True)
if "stay" in sys.argv:
    sys.stdin.read()
"""


@pytest.fixture
def server():
    with ForkServer(["colorsys"]) as running:
        yield running


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return path


def started(server, script, *arguments, **options):
    """A launcher, as the raylet would start it."""
    command = [*launcher_of(server), str(script), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def children_of(server):
    pids = Path(f"/proc/{server._process.pid}/task/{server._process.pid}/children").read_text()
    return [int(pid) for pid in pids.split()]


def socket_of(server):
    return launch.socket_in(str(server._folder))


def launcher_of(server):
    return [sys.executable, "-S", "-E", launch.__file__, str(server._folder), ",".join(server.modules)]


def said(process):
    assert select.select([process.stdout], [], [], 20)[0], "it says nothing"
    return json.loads(process.stdout.readline())


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def own_process():
    return os.getpid(), os.getppid(), "colorsys" in sys.modules, sys.orig_argv


def logs_and_warns():
    logging.getLogger("otter_ray.of_a_fork").info("hello %s", "there")
    return "done"


def fails(kind):
    raise {
        "config": ConfigError([Problem("model.name", "is wrong", "a.yaml", 3)]),
        "os": FileNotFoundError(2, "No such file", "/absent"),
    }[kind]


def has_a_bug():
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as exc:
        raise KeyError("width") from exc


def loses_its_reader():
    raise BrokenPipeError("of a logger's server")


def gives_what_cannot_travel():
    return lambda: 0


def dies():
    os.kill(os.getpid(), signal.SIGSEGV)


def cleans_up(folder):
    """Runs until it is interrupted, with a child of its own."""
    child = subprocess.Popen(["sleep", "60"])
    Path(folder, "child").write_text(str(child.pid))
    try:
        signal.pause()
    finally:
        child.kill()
        Path(folder, "clean").touch()


def threads_of_torch():
    import torch

    return torch.get_num_threads()


def draws():
    import numpy as np
    import torch

    name = next(tempfile._RandomNameSequence())
    return random.random(), np.random.random(), torch.rand(1, dtype=torch.float64).item(), name


def warned():
    return sorted(SAID)


def test_a_call_runs_in_a_fork_of_the_server(server):
    pid, parent, preloaded, command = call(own_process)
    assert parent == server._process.pid != os.getpid() != pid
    assert preloaded
    assert command == sys.orig_argv  # of the command that the user gave


def test_without_a_server_a_call_runs_here():
    assert call(own_process)[0] == os.getpid()


def test_what_a_call_logs_is_logged_here(server, caplog):
    with caplog.at_level(logging.INFO, "otter_ray"):
        assert call(logs_and_warns) == "done"
    assert [(r.name, r.getMessage()) for r in caplog.records] == [("otter_ray.of_a_fork", "hello there")]


def test_an_error_of_a_call_is_raised_here(server):
    with pytest.raises(ConfigError, match=r"a\.yaml:3: model\.name: is wrong") as caught:
        call(fails, "config")
    assert caught.value.problems == [Problem("model.name", "is wrong", "a.yaml", 3)]
    with pytest.raises(FileNotFoundError) as missing:
        call(fails, "os")
    assert missing.value.filename == "/absent"


def test_causes_and_the_place_of_a_bug_come_along(server):
    with pytest.raises(KeyError) as caught:
        call(has_a_bug)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert "in has_a_bug" in "".join(traceback.format_exception(caught.value))


def test_an_error_that_looks_like_a_lost_connection_is_the_functions_own(server):
    with pytest.raises(BrokenPipeError):
        call(loses_its_reader)


def test_a_result_that_cannot_travel_is_an_error(server):
    with pytest.raises(Exception, match="lambda"):
        call(gives_what_cannot_travel)


def test_what_an_import_prints_is_not_printed_by_each_fork(tmp_path, monkeypatch, capfd):
    (tmp_path / "talks.py").write_text("print('hello from the import')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with ForkServer(["talks"]):
        assert call(own_process)[0] != os.getpid()
    assert "hello" not in capfd.readouterr().out


def test_a_worker_ends_whose_launcher_was_killed_before_it_could_know(server, script):
    """The word that it runs is unread then, and Linux says "reset" in place of "end"."""
    with launch.connect(str(server._folder), server.modules) as launcher:
        launch.send(launcher, {"command": [str(script), "stay"], **launch.process_state()})
        assert select.select([launcher], [], [], 10)[0]
        (pid,) = children_of(server)
    wait_until(lambda: gone(pid))


def test_a_call_that_exits_is_no_death(server):
    with pytest.raises(RuntimeError, match="my text"):
        call(sys.exit, "my text")


def test_closed_streams_are_no_reason_to_refuse(script):
    """A service manager may start a command without any."""
    code = """
import os, sys
os.close(0)
from otter_ray.isolation import call
from otter_ray.tune.worker.forks import ForkServer
with ForkServer(["colorsys"]):
    print(call(os.getppid) != os.getppid())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("kind", ["driver", "interrupt"])
def test_a_call_dies_with_its_driver(tmp_path, kind):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_fork_server import cleans_up
from otter_ray.isolation import call
from otter_ray.tune.worker.forks import ForkServer
with ForkServer(["colorsys"]):
    call(cleans_up, {str(tmp_path)!r})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    driver = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    driver.send_signal(signal.SIGKILL if kind == "driver" else signal.SIGINT)
    driver.wait(10)
    wait_until(lambda: gone(int((tmp_path / "child").read_text())))
    assert (tmp_path / "clean").exists() == (kind == "interrupt")


def test_a_call_that_dies_is_a_message(server):
    with pytest.raises(StudyError, match="dies: its process died"):
        call(dies)
    assert call(own_process)[1] == server._process.pid  # the server still serves


def test_ctrl_c_ends_a_call_with_time_to_clean_up(server, tmp_path):
    main = os.getpid()
    watcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import os, signal, time
while not os.path.exists({str(tmp_path / "child")!r}): time.sleep(0.02)
time.sleep(0.2)
os.kill({main}, signal.SIGINT)
""",
        ]
    )
    with pytest.raises(KeyboardInterrupt):
        call(cleans_up, str(tmp_path))
    watcher.wait()
    assert (tmp_path / "clean").exists()
    wait_until(lambda: gone(int((tmp_path / "child").read_text())))


def test_a_call_has_torchs_own_threads_and_random_numbers_of_its_own():
    command = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    with ForkServer(["torch", "numpy"]):
        here = call(threads_of_torch)
        first, second = call(draws), call(draws)
    assert not {*first} & {*second}
    fresh = subprocess.run(command, capture_output=True, text=True, check=True)
    assert here == int(fresh.stdout)


@pytest.mark.parametrize("set_to", ["pip", "py_executable"])
def test_a_job_that_chooses_its_python_keeps_it(server, monkeypatch, set_to):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {set_to: ["x"]}}))
    assert server.py_executable(elsewhere=True) is None
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"working_dir": "x"}}))
    assert server.py_executable(elsewhere=True)


def test_what_was_warned_of_once_is_known_to_the_next_call(server):
    class Once(SoleWarning):
        pass

    with warnings.catch_warnings():
        SAID.add("Once")
        try:
            assert "Once" in call(warned)
        finally:
            SAID.clear()


def test_a_worker_becomes_the_process_that_the_raylet_meant(server, script, tmp_path):
    (tmp_path / "here").mkdir()
    environment = {**os.environ, "SHOWN": "\udcff of a byte that is no UTF-8"}
    worker = started(
        server, script, "--id", "a b", "stay", cwd=tmp_path / "here", env=environment,
        preexec_fn=lambda: os.nice(3),
    )  # fmt: skip
    about = said(worker)
    assert about["argv"] == [str(script), "--id", "a b", "stay"]
    assert about["cwd"] == str(tmp_path / "here")
    assert about["shown"] == environment["SHOWN"]
    assert about["nice"] == min(os.nice(0) + 3, 19)
    assert about["group"] == about["pid"] != worker.pid  # the raylet kills whole groups
    assert about["preloaded"]
    worker.stdin.close()
    assert worker.wait(10) == 0  # the launcher ends with its worker
    assert worker.stdout.read() == "over\n"
    wait_until(lambda: gone(about["pid"]))


def test_no_two_processes_draw_the_same_random_numbers(server, script):
    random.seed(0)
    draws = set()
    for _ in range(3):
        worker = started(server, script)
        draws.add(said(worker)["draw"])
        worker.wait(10)
    assert len(draws) == 3


@pytest.mark.parametrize("victim", ["launcher", "worker"])
def test_launcher_and_worker_end_together(server, script, victim):
    worker = started(server, script, "stay")
    pid = said(worker)["pid"]
    os.kill(worker.pid if victim == "launcher" else pid, signal.SIGKILL)
    worker.wait(10)
    wait_until(lambda: gone(pid))


def test_workers_outlive_a_killed_server_and_the_next_one_starts_another(server, script):
    first = started(server, script, "stay")
    pid = said(first)["pid"]
    server._process.kill()
    server._process.wait()
    second = started(server, script, "stay")
    about = said(second)
    assert about["preloaded"]
    assert not gone(pid)
    assert call(own_process)[2]  # calls go on, too
    for worker in (first, second):
        worker.stdin.close()
        worker.wait(10)


def test_a_server_ends_with_its_driver_and_leaves_nothing(tmp_path):
    code = """
import signal
from otter_ray.tune.worker.forks import ForkServer
server = ForkServer(["colorsys"]).start()
print(server._process.pid, server._folder, flush=True)
signal.pause()
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid, folder = driver.stdout.readline().split()
    driver.kill()
    driver.wait()
    wait_until(lambda: gone(int(pid)) and not Path(folder).exists())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys, types; sys.modules['ray'] = types.ModuleType('ray')", "imports ray"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=[60], daemon=True).start()",
            "starts 1 thread",
        ),
    ],
)
def test_a_project_that_cannot_be_forked_is_named_and_workers_start_as_ever(
    tmp_path, monkeypatch, caplog, script, code, reason
):
    (tmp_path / "unforkable.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with ForkServer(["unforkable"]) as server:
        worker = started(server, script)
        about = said(worker)
        assert about["pid"] == worker.pid  # it is Python itself
        assert not about["preloaded"]
        worker.wait(10)
        assert call(own_process)[0] == os.getpid()
        assert reason in caplog.text
        assert caplog.text.count("imports torch by itself") == 1


def test_a_project_that_cannot_be_imported_is_left_to_who_uses_it(tmp_path, script):
    with ForkServer(["absent_project", "colorsys"]):
        assert call(own_process)[2]


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    with ForkServer(["colorsys"]) as server:
        assert not server.is_running
        assert server.py_executable(elsewhere=False) is server.py_executable(elsewhere=True) is None
        assert call(own_process)[0] == os.getpid()


def test_a_stale_socket_is_replaced(server, script):
    server._process.kill()
    server._process.wait()
    with pytest.raises(ConnectionRefusedError):
        socket.socket(socket.AF_UNIX).connect(socket_of(server))
    worker = started(server, script)
    assert said(worker)["preloaded"]
    worker.wait(10)


def test_a_worker_whose_server_dies_while_it_forks_starts_as_ever(server, script):
    server._process.send_signal(signal.SIGSTOP)
    worker = started(server, script, "stay")
    time.sleep(1)  # it has asked, and waits
    server._process.kill()
    about = said(worker)
    assert about["pid"] == worker.pid
    assert not about["preloaded"]
    worker.stdin.close()
    worker.wait(10)


@pytest.fixture
def full_group():
    """A control group in which no process may be added to one; gives the file that takes it."""
    group = next((g for g in PIDS_GROUPS if os.access(g, os.W_OK) and (g / "cgroup.procs").exists()), None)
    if group is None:
        pytest.skip("needs root, and control groups for processes")
    own = group / f"otter_ray_{os.getpid()}"
    own.mkdir()
    if not (own / "pids.max").exists():
        own.rmdir()
        pytest.skip("control groups do not count processes here")
    (own / "pids.max").write_text("1")
    yield own / "cgroup.procs"
    wait_until(lambda: not (own / "cgroup.procs").read_text())
    own.rmdir()


def test_a_server_that_may_not_fork_lets_workers_start_as_ever(full_group, script):
    """As with `ulimit -u`, which does not hold for root."""
    with ForkServer(["colorsys"]) as server:
        full_group.write_text(str(server._process.pid))
        worker = started(server, script)
        assert said(worker)["pid"] == worker.pid
        worker.wait(10)


def test_two_drivers_on_one_machine_have_a_server_each(script):
    with ForkServer(["colorsys"]) as one, ForkServer(["antigravity_absent"]) as other:
        workers = [started(server, script) for server in (one, other)]
        assert [said(worker)["preloaded"] for worker in workers] == [True, False]
        for worker in workers:
            worker.wait(10)


def test_the_folder_of_another_is_not_used(tmp_path, script, monkeypatch):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    command = [sys.executable, "-S", "-E", launch.__file__, str(folder), "colorsys", str(script)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert not said(worker)["preloaded"]
    worker.wait(10)
    assert not list(folder.iterdir())
    with socket.socket(socket.AF_UNIX) as trap:  # it would get the environment
        monkeypatch.chdir(folder)
        trap.bind(os.path.basename(launch.socket_in(str(folder))))
        trap.listen()
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert not said(worker)["preloaded"]
        worker.wait(10)
        trap.settimeout(0)
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_a_server_without_a_driver_ends_when_it_is_idle(script):
    """On another node of a cluster, the first launcher starts it."""
    folder = Path(tempfile.mkdtemp())  # a socket's path has 107 bytes at most
    path = launch.socket_in(str(folder))
    code = f"""
import sys
from otter_ray.tune.worker import fork_server
fork_server.LASTS = 0.5
sys.argv = ["", "--lasting", {path!r}, "colorsys"]
fork_server.main()
"""
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert server.stdout.read(1) == launch.READY
    command = [sys.executable, "-S", "-E", launch.__file__, str(folder), "colorsys", str(script), "stay"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert said(worker)["preloaded"]
    time.sleep(1.5)
    assert server.poll() is None  # not while a worker lives
    worker.stdin.close()
    worker.wait(10)
    assert server.wait(10) == 0
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs root")
def test_a_container_that_shares_the_folder_has_a_server_of_its_own(server, script):
    """Its workers must see its own files."""
    inside = subprocess.Popen(
        ["unshare", "--mount", *launcher_of(server), str(script), "stay"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    pid = said(inside)["pid"]
    assert os.stat(f"/proc/{pid}/ns/mnt").st_ino != os.stat("/proc/self/ns/mnt").st_ino
    assert pid != inside.pid
    inside.stdin.close()
    inside.wait(10)


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs root")
def test_another_user_who_reaches_the_socket_gets_no_fork(server):
    server._folder.chmod(0o711)
    os.chmod(socket_of(server), 0o777)
    request = launch.process_state() | {"command": ["/bin/true"]}
    read, write = os.pipe()
    stranger = os.fork()
    if stranger == 0:
        try:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(socket_of(server))
                with suppress(ConnectionError):
                    launch.send(line, request)
                    os.write(write, line.recv(1))
                os.write(write, b"-")
        finally:
            os._exit(0)
    os.waitpid(stranger, 0)
    assert os.read(read, 10) == b"-"
    for descriptor in (read, write):
        os.close(descriptor)


def test_the_folder_is_the_users_alone(server):
    assert server._folder.stat().st_mode & 0o077 == 0


def test_what_is_no_request_costs_no_server(server):
    for words in (b"", b"\0\0\0\5hello", b"GET / HTTP/1.1", b"\0\0\1\0{"):
        for streams in ([], [0, 1, 2]):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(socket_of(server))
                if words:
                    socket.send_fds(stranger, [words[:4]], streams)
                    stranger.sendall(words[4:])
    assert call(own_process)[1] == server._process.pid


@pytest.mark.parametrize(
    ("project", "own"), [("docclassifier", True), ("absent", False), ("mine.vision", False)]
)
def test_a_projects_own_module_is_imported(project, own):
    assert worker_imports(project)[-1] == (f"otter_ray.projects.{project}" if own else project)


def test_a_server_that_somebody_else_has_started_is_used_and_left_alone(server, monkeypatch, tmp_path):
    (tmp_path / "found_here.py").write_text("import os\ndef parent():\n    return os.getppid()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)  # of which the server knows nothing
    monkeypatch.setenv(SWITCH, str(server._folder))
    with ForkServer(["antigravity_absent"]) as other:
        assert call(import_module("found_here").parent) == server._process.pid
        assert str(server._folder) in other.py_executable(elsewhere=False)
    assert server.is_running
    assert Path(socket_of(server)).exists()
