"""Homes and temporary folders as odd machines have them."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

USE = """
import json, os, tempfile, warnings
from otter_ray.user_folders import private_folder, use_sound_folders
with warnings.catch_warnings(record=True) as caught:
    use_sound_folders()
names = {name: os.environ.get(name) for name in ("TMPDIR", "RAY_TMPDIR", "HOME")}
said = [str(each.message) for each in caught]
print(json.dumps({**names, "used": tempfile.gettempdir(), "private": str(private_folder()), "said": said}))
"""
NAMESPACES = os.geteuid() == 0 and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode
needs_namespaces = pytest.mark.skipif(not NAMESPACES, reason="needs root, and namespaces of users and mounts")
# A user whom the machine does not know, as containers have, and who may do no more than others.
STRANGER = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]


def run(environment, cwd, under=()):
    own = {key: value for key, value in os.environ.items() if key not in ("TMPDIR", "RAY_TMPDIR", "HOME")}
    line = [*under, sys.executable, "-c", USE]
    return subprocess.run(
        line, cwd=cwd, env={**own, **environment}, capture_output=True, text=True, check=False
    )


def used(environment, cwd, under=()):
    """What a command makes of an environment."""
    done = run(environment, cwd, under)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def mounted(script):
    """Runs a command where a script has mounted something."""
    return ["unshare", "--mount", "sh", "-euc", f'{script}\nexec "$@"', "sh"]


@pytest.fixture
def short():
    """A folder whose name Ray's sockets bear."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


def test_sound_folders_are_left_alone(short):
    environment = {"TMPDIR": str(short), "HOME": "/proc"}  # which nobody can write to, but many can read
    found = used(environment, short)
    assert (found["TMPDIR"], found["used"], found["HOME"], found["said"]) == (
        str(short),
        str(short),
        "/proc",
        [],
    )
    found = used({"HOME": "/"}, short)
    assert (found["TMPDIR"], found["used"], found["HOME"], found["said"]) == (None, "/tmp", "/", [])


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("name", ["a b", "über", "專案", "it's", "long" * 10, "relative"])
def test_a_folder_with_an_unsuitable_name_is_used_through_a_link(short, name, variable):
    folder = short / name
    folder.mkdir()
    found = used({variable: name if name == "relative" else str(folder), "HOME": "/root"}, short)
    link = Path(found[variable])
    assert len(os.fsencode(link)) <= 39
    assert link.resolve() == folder
    assert str(link).isascii()
    assert " " not in str(link)
    assert found["said"] == []
    assert Path(found["private"]).stat().st_mode & 0o777 == 0o700
    if variable == "TMPDIR":
        assert found["used"] == str(link)


def test_links_to_folders_that_are_gone_are_removed(short):
    first, second = short / "job 1", short / "job 2"
    for folder in (first, second):
        folder.mkdir()
    link = used({"TMPDIR": str(first), "HOME": "/root"}, short)["TMPDIR"]
    assert used({"TMPDIR": str(first), "HOME": "/root"}, short)["TMPDIR"] == link
    shutil.rmtree(first)
    used({"TMPDIR": str(second), "HOME": "/root"}, short)
    assert not Path(link).is_symlink()


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("", "is empty"),
        ("/absent", "cannot be written to (No such file or directory)"),
        ("/proc", "cannot be written to"),
        ("/dev/null", "cannot be written to (Not a directory)"),
    ],
)
def test_a_folder_that_cannot_be_used_is_replaced(short, given, fault):
    found = used({"TMPDIR": given, "HOME": "/root"}, short)
    assert (found["TMPDIR"], found["used"]) == ("/tmp", "/tmp")
    (said,) = found["said"]
    assert said.startswith(f"TMPDIR: {given!r} {fault}")
    assert said.endswith("Using /tmp instead.")


@needs_namespaces
def test_full_and_read_only_disks(short):
    for folder in ("full", "sealed"):
        (short / folder).mkdir()
    under = mounted(
        f"mount -t tmpfs -o size=1m none {short}/full; mount -t tmpfs -o ro none {short}/sealed; "
        f"head -c 1000000 /dev/zero > {short}/full/filler"
    )
    for folder, fault in (("full", "MiB free"), ("sealed", "(Read-only file system)")):
        found = used({"TMPDIR": str(short / folder), "HOME": "/root"}, short, under)
        assert found["TMPDIR"] == "/tmp"
        assert fault in found["said"][0]
    nowhere = mounted(
        "for place in /tmp /var/tmp /dev/shm; do "
        "mount --bind $place $place; mount -o remount,bind,ro $place; done"
    )
    done = run({"HOME": "/root"}, "/", nowhere)
    assert (
        "OtterError: TMPDIR: '/tmp' cannot be written to (Read-only file system), and /tmp, /var/tmp"
        in done.stderr
    )
    assert "Set TMPDIR to a folder that you can write to." in done.stderr


def test_a_home_that_only_the_list_of_users_knows(short):
    assert used({}, short)["HOME"] == pwd.getpwuid(os.getuid()).pw_dir


@needs_namespaces
def test_a_user_without_a_home_gets_one(short):
    found = used({"TMPDIR": str(short)}, short, STRANGER)
    assert found["HOME"] == found["private"] == f"{short}/otter_ray-54321"
    assert found["said"] == [
        f"HOME: is not set, and this machine does not know the user. Using {found['HOME']} instead."
    ]
    found = used({"TMPDIR": str(short), "HOME": "relative"}, short)
    assert found["HOME"] == f"{short}/otter_ray-0"


@needs_namespaces
def test_nobody_elses_folder_is_taken_for_ones_own(short):
    (short / "otter_ray-0").mkdir(0o700)
    os.chown(short / "otter_ray-0", 1, 1)
    found = used({"TMPDIR": str(short), "HOME": "/root"}, short)
    assert found["private"].startswith(f"{short}/otter_ray-0".removesuffix("0"))
    assert found["private"] != f"{short}/otter_ray-0"
    (short / "otter_ray-0").rmdir()
    (short / "otter_ray-0").symlink_to("/etc")
    assert used({"TMPDIR": str(short), "HOME": "/root"}, short)["private"] != f"{short}/otter_ray-0"
