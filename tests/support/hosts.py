"""Machines on one machine: namespaces of their own, joined by a bridge, each with a real sshd.

A host has its own network, processes, hostname, home, /tmp and /dev/shm: files and tokens really have to
travel, and `ray stop` in one cannot reach another. It shares the disk otherwise: Python, this checkout, and
the folders that the caller names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import otter_ray

CHECKOUT = Path(otter_ray.__file__).parents[1]
HOME = Path.home()
NETWORK = "10.77.0"
# Below the home and /tmp, which become the host's own, what is shared is mounted back under its own path.
ENTER = """
set -e
mount --make-rprivate /
root=$1 name=$2 home=$3 shared=$4; shift 4
fds=(); paths=()
IFS=: read -ra wanted <<< "$shared"
for path in "${wanted[@]}"; do exec {fd}< "$path"; fds+=("$fd"); paths+=("$path"); done
for file in hosts resolv.conf; do mount --bind "$root/$file" /etc/$file; done
[ -d "$root/ssh" ] && mount --bind "$root/ssh" /etc/ssh
mount --bind "$root/home" "$home"
mount --bind "$root/tmp" /tmp
mount -t tmpfs -o size=1g tmpfs /dev/shm
for i in "${!fds[@]}"; do
  mkdir -p "${paths[$i]}"
  mount --no-canonicalize --bind "/proc/self/fd/${fds[$i]}" "${paths[$i]}"
  exec {fds[$i]}<&-
done
cd /
exec "$@"
"""
SSHD = """
ListenAddress {address}:22
HostKey /etc/ssh/host_key
PidFile none
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
MaxSessions 50
MaxStartups 100
"""


def cannot() -> str | None:
    """Why there can be no hosts here; None where there can."""
    if os.geteuid():
        return "namespaces and sshd need root"
    missing = [
        tool for tool in ("ip", "sshd", "ssh-keygen", "rsync", "unshare", "curl") if not shutil.which(tool)
    ]
    if missing:
        return f"not installed: {', '.join(missing)} (openssh-server, rsync, iproute2)"
    probe = f"otter-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "`ip netns add` is not permitted"
    run("ip", "netns", "del", probe)
    return None


def run(*line: object) -> None:
    subprocess.run(list(map(str, line)), check=True, capture_output=True)


class Hosts:
    """A client and some hosts; `with` ends them all."""

    def __init__(self, root: Path, names: list[str], shared: list[Path]) -> None:
        self.root, self.shared = root, [*map(Path, (CHECKOUT, sys.prefix, sys.base_prefix)), *shared]
        self.client = f"o{os.getpid() % 100000}c"
        self.addresses = {name: f"{NETWORK}.{10 + number}" for number, name in enumerate(names)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Hosts:
        try:
            self._make_client()
            for name in self.addresses:
                self._make_host(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for name in list(self.processes):
            self.kill(name)
        for name in [*self.addresses, None]:
            with suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", self._namespace(name))

    def kill(self, name: str) -> None:
        """Pulls the plug: every process of the host is gone at once."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def command(self, *line: object, **environment: str) -> list[str]:
        """`line` as the client runs it, for subprocess."""
        sets = [f"{key}={value}" for key, value in {"HOME": str(HOME), **environment}.items()]
        inner = self._enter("client", "env", *sets, *map(str, line))
        return ["ip", "netns", "exec", self._namespace(None), "unshare", "--mount", *inner]

    def _namespace(self, name: str | None) -> str:
        return self.client if name is None else f"{self.client}-{name}"

    def _enter(self, name: str, *line: str) -> list[str]:
        below = [path for path in self.shared if path.is_relative_to("/tmp") or path.is_relative_to(HOME)]
        outermost = [
            path for path in below if not any(path != other and path.is_relative_to(other) for other in below)
        ]
        shared = ":".join(dict.fromkeys(map(str, outermost)))
        return ["bash", "-c", ENTER, "enter", str(self.root / name), name, str(HOME), shared, *line]

    def _make_root(self, name: str) -> Path:
        root = self.root / name
        for folder in ("home/.ssh", "tmp"):
            (root / folder).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        known = "".join(f"{address} {host}\n" for host, address in self.addresses.items())
        (root / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        (root / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        return root

    def _make_client(self) -> None:
        root = self._make_root("client")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "home/.ssh/id_ed25519")
        run("ip", "netns", "add", self.client)
        at = ["ip", "-n", self.client]
        run(*at, "link", "set", "lo", "up")
        run(*at, "link", "add", "br0", "type", "bridge")
        run(*at, "addr", "add", f"{NETWORK}.1/24", "dev", "br0")
        run(*at, "link", "set", "br0", "up")
        Path("/run/sshd").mkdir(exist_ok=True)

    def _make_host(self, name: str) -> None:
        root = self._make_root(name)
        shutil.copy(self.root / "client/home/.ssh/id_ed25519.pub", root / "home/.ssh/authorized_keys")
        (root / "ssh").mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "ssh/host_key")
        address = self.addresses[name]
        (root / "ssh/sshd_config").write_text(SSHD.format(address=address))
        space, link = self._namespace(name), f"v{address.rpartition('.')[2]}"
        run("ip", "netns", "add", space)
        run(
            "ip",
            "-n",
            self.client,
            "link",
            "add",
            link,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            space,
        )
        run("ip", "-n", self.client, "link", "set", link, "master", "br0", "up")
        at = ["ip", "-n", space]
        run(*at, "link", "set", "lo", "up")
        run(*at, "addr", "add", f"{address}/24", "dev", "eth0")
        run(*at, "link", "set", "eth0", "up")
        # Without a default route the head takes 127.0.0.1 as its address.
        run(*at, "route", "add", "default", "via", f"{NETWORK}.1")
        inside = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--mount-proc"]
        start = self._enter(
            name, "bash", "-c", f"hostname {name}; exec $(command -v sshd) -D -e -f /etc/ssh/sshd_config"
        )
        log = (root / "sshd.log").open("wb")
        self.processes[name] = subprocess.Popen(
            ["ip", "netns", "exec", space, "unshare", *inside, *start],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
