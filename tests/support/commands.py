"""`python -m otter_ray.tune`, started as a user would, and the processes that it starts."""

import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pyte
import pytest
import typer
from typer.testing import CliRunner

# In the environment of every command. RAY_AUTH_TOKEN is not among them: it would change who gets in.
SECRETS = {"AWS_SECRET_ACCESS_KEY": "planted/aws+secret", "HF_TOKEN": "planted_hf_token"}


def run_here(module, *arguments):
    """What `python -m MODULE ARGUMENTS` does, in this process: half of its time a command imports."""
    app = typer.Typer()
    app.command()(getattr(import_module(f"{module}.__main__"), module.rpartition(".")[2]))
    line = [*map(str, arguments)]
    result = CliRunner().invoke(app, line)
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return subprocess.CompletedProcess(line, result.exit_code, result.output, result.stderr)


class Command:
    """`python -m otter_ray.tune ...` in a process group of its own."""

    def __init__(self, arguments, folder, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otter_ray.tune", *map(str, arguments)],
            cwd=folder, env={**environment, "COLUMNS": "200", **SECRETS}, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        # Two slots on every machine: a study of six trials is not over before it is interrupted.
        os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[:2])
        self.output = ""

    def read_until(self, pattern):
        """Reads lines up to the first that has the pattern."""
        for line in self.process.stdout:
            self.output += line
            if re.search(pattern, line):
                return
        pytest.fail(f"{pattern} was never printed:\n{self.output}")

    def interrupt(self):
        """Ctrl-C: the terminal sends it to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout=500):
        """(exit code, everything that was printed)."""
        rest, _ = self.process.communicate(timeout=timeout)
        self.output += rest
        return self.process.returncode, self.output


class OnTerminal:
    """`python -m otter_ray.tune ...` on a terminal of its own, as a user sees it."""

    def __init__(self, arguments, folder, environment, columns=80, lines=24):
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self.stream = pyte.ByteStream(self.screen)
        self.master, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        # Of what is written and not yet read Linux throws away all but 4,095 bytes at Ctrl-C: half a picture,
        # where this reads more slowly than a terminal does.
        modes = termios.tcgetattr(terminal)
        modes[3] |= termios.NOFLSH
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
        environment = {key: value for key, value in environment.items() if key != "COLUMNS"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otter_ray.tune", *map(str, arguments)],
            cwd=folder, env={**environment, "TERM": "xterm-256color"}, start_new_session=True,
            stdin=terminal, stdout=terminal, stderr=terminal,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )  # fmt: skip
        os.close(terminal)
        os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[:2])

    @property
    def lines(self):
        """What can be seen, without empty lines, and what has scrolled away above it."""
        above = (
            "".join(line[x].data for x in range(self.screen.columns)) for line in self.screen.history.top
        )
        return [line.rstrip() for line in (*above, *self.screen.display) if line.strip()]

    def read_until(self, pattern):
        """Reads until a line has it; gives the lines."""
        while not any(re.search(pattern, line) for line in self.lines):
            if not self._read():
                pytest.fail(f"{pattern} was never shown:\n" + "\n".join(self.lines))
        return self.lines

    def interrupt(self):
        """Ctrl-C, typed."""
        os.write(self.master, b"\x03")

    def end(self, timeout=300):
        """(exit code, everything that was left on the terminal)."""
        while self._read():
            pass
        return self.process.wait(timeout), "\n".join(self.lines)

    def _read(self):
        with suppress(OSError):  # nobody holds the other end any more
            written = os.read(self.master, 65536)
            self.stream.feed(written)
            return bool(written)
        return False


@dataclass(frozen=True)
class Process:
    """A process of this machine. Its number alone may be another's some day: with its start it is not."""

    pid: int
    parent: int
    started: str

    @classmethod
    def all(cls):
        """Every one that lives."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                # What stands in parentheses is the name, which may hold anything.
                fields = path.read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    yield cls(int(path.parent.name), int(fields[1]), fields[19])

    @property
    def title(self):
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
        except OSError:
            return ""

    def kill(self):
        """At once, unless it is gone already."""
        if any((other.pid, other.started) == (self.pid, self.started) for other in Process.all()):
            os.kill(self.pid, signal.SIGKILL)


def descendants(pid):
    """What a process has started, and what that has started."""
    everyone, found, parents = list(Process.all()), [], [pid]
    while parents:
        children = [process for process in everyone if process.parent in parents]
        found += children
        parents = [child.pid for child in children]
    return found


def wait_for(condition, seconds=60):
    """What the condition gives once it holds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail("waited in vain")
        time.sleep(0.1)
    return found


def free_port() -> int:
    """Give a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
