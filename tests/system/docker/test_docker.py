"""docker/: the entrypoint really run in a mount namespace, and what the scripts hand to docker.

The image itself is built and tried by tests/system/docker/build_image.bash, by hand.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
ENTRYPOINT = DOCKER / "entrypoint.sh"
CONSTRAINTS = ROOT / "constraints.txt"
SCRIPTS = sorted(DOCKER.glob("*.bash"))
RUNNERS = ("train", "tune", "to_onnx")
SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


def run(*line, **options):
    return subprocess.run([*map(str, line)], capture_output=True, text=True, check=False, **options)


def start(*line, **options):
    return subprocess.Popen([*map(str, line)], stdout=subprocess.PIPE, text=True, **options)


# Linters


def linter(name):
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        pytest.skip(f"no {name} here: it comes with pip install -e '.[dev]'")
    return found


def test_hadolint():
    ran = run(linter("hadolint"), DOCKER / "Dockerfile")
    assert ran.returncode == 0, ran.stdout


def test_shellcheck():
    ran = run(
        linter("shellcheck"), *SCRIPTS, ENTRYPOINT, Path(__file__).with_name("build_image.bash"), cwd=ROOT
    )
    assert ran.returncode == 0, ran.stdout


# The scripts


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a space in its path, and a `docker` that keeps what it was given."""
    root = tmp_path / "check out"
    shutil.copytree(DOCKER, root / "docker")
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    kept = "import json, sys; open(sys.argv[1], 'w').write(json.dumps(sys.argv[2:]))"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{kept}" "{tmp_path}/argv" "$@"\n')
    fake.chmod(0o755)
    return root


def script(checkout, name, *arguments):
    environment = {"PATH": f"{checkout.parent}/bin:{SYSTEM}", "HOME": str(checkout.parent / "home")}
    return run(checkout / "docker" / f"{name}.bash", *arguments, cwd=checkout, env=environment)


def argv(checkout, name, *arguments):
    """What docker was given."""
    ran = script(checkout, name, *arguments)
    assert ran.returncode == 0, ran.stderr
    return json.loads((checkout.parent / "argv").read_text())


def after(line, option):
    """The values of an option in a command line."""
    return [value for key, value in pairwise(line) if key == option]


@pytest.mark.parametrize("name", ["train", "tune"])
def test_the_command_runs_in_the_image_as_the_caller(checkout, name):
    line = argv(checkout, name, "demo", "--", "--set", "a.b=one two")
    assert line[0] == "run"
    assert line[line.index("otter_ray") :] == [
        "otter_ray", "python", "-m", f"otter_ray.{name}", "demo", "--set", "a.b=one two",
    ]  # fmt: skip
    assert f"USER_ID={os.getuid()}" in after(line, "--env")
    assert f"GROUP_ID={os.getgid()}" in after(line, "--env")


def test_folders_are_mounted_whatever_their_names(checkout):
    data = [checkout.parent / "my data", checkout.parent / "b:c"]
    for folder in data:
        folder.mkdir()
    mounts = after(argv(checkout, "train", "demo", "--data", data[0], f"--data={data[1]}"), "--mount")
    assert mounts[:2] == [f"type=bind,source={folder},target={folder},readonly" for folder in data]
    assert f"type=bind,source={checkout}/runs,target=/code/runs" in mounts
    assert f"type=bind,source={checkout}/configs,target=/code/configs,readonly" in mounts
    # Docker would make them as root.
    assert (checkout / "runs").is_dir()
    assert (checkout.parent / "home/.cache/otter_ray").is_dir()


def test_a_relative_folder_is_found_at_its_full_path_inside(checkout):
    (checkout / "images").mkdir()
    mounts = after(argv(checkout, "train", "demo", "--data", "images", "--runs", "else where"), "--mount")
    assert mounts[0] == f"type=bind,source={checkout}/images,target={checkout}/images,readonly"
    assert f"type=bind,source={checkout}/else where,target=/code/runs" in mounts


@pytest.mark.parametrize(
    ("given", "handed_on"), [("all", ["all"]), ("0", ['"device=0"']), ("0,1", ['"device=0,1"']), ("none", [])]
)
def test_gpus(checkout, given, handed_on):
    assert after(argv(checkout, "tune", "demo", "--gpus", given), "--gpus") == handed_on


def test_cpus_memory_network_and_image(checkout):
    line = argv(
        checkout, "tune", "--cpuset", "0-3,8", "--shm-size=2g", "--network", "none", "--image", "mine", "demo"
    )
    assert after(line, "--cpuset-cpus") == ["0-3,8"]
    assert after(line, "--shm-size") == ["2g"]
    assert after(line, "--network") == ["none"]
    assert line[line.index("mine") + 1 :] == ["python", "-m", "otter_ray.tune", "demo"]


def test_only_a_study_shares_the_network_for_its_dashboard(checkout):
    networks = [after(argv(checkout, name, "demo"), "--network") for name in ("train", "tune")]
    assert networks == [["bridge"], ["host"]]


def test_a_dry_run_prints_the_command_and_makes_nothing(checkout):
    printed = script(checkout, "tune", "demo", "--dry-run", "--", "--set", "a=one two").stdout
    assert not (checkout / "runs").exists()
    assert shlex.split(printed) == ["docker", *argv(checkout, "tune", "demo", "--", "--set", "a=one two")]


def test_build(checkout):
    image = ["--file", f"{checkout}/docker/Dockerfile", "--tag"]
    assert argv(checkout, "build") == ["build", *image, "otter_ray", str(checkout)]
    line = argv(checkout, "build", "--base", "debian:13", "--image", "mine", "--", "--no-cache")
    assert line == [
        "build",
        *image,
        "mine",
        "--build-arg",
        "BASE_IMAGE=debian:13",
        "--no-cache",
        str(checkout),
    ]


def trained(checkout, run, best, when):
    """A run's or a study's folder with a best checkpoint of that age."""
    path = checkout / "runs/demo" / run / best
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (when, when))


def test_to_onnx_takes_the_newest_run_or_the_one_named(checkout):
    trained(checkout, "a", "checkpoints/best.ckpt", 1_000)
    trained(checkout, "b study", "best.ckpt", 3_000)
    trained(checkout, "c", "checkpoints/best.ckpt", 2_000)
    trained(checkout, "z/trials/0000", "checkpoints/best.ckpt", 9_000)  # broken off: no winner
    tail = ["otter_ray", "python", "-m", "otter_ray.export"]
    assert argv(checkout, "to_onnx", "demo")[-5:] == [*tail, "runs/demo/b study"]
    assert argv(checkout, "to_onnx", "configs/demo.yaml", "--run", "c")[-5:] == [*tail, "runs/demo/c"]


@pytest.mark.parametrize("name", [*RUNNERS, "build"])
def test_help(checkout, name):
    ran = script(checkout, name, "--help")
    assert ran.returncode == 0
    assert ran.stdout.startswith(f"usage: docker/{name}.bash ")
    assert ("--run NAME" in ran.stdout) == (name == "to_onnx")


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("train", [], ["which config?", "docker/train.bash demo"]),
        ("train", ["demo", "--data", "nowhere"], ["--data nowhere", "Give the folder"]),
        ("train", ["demo", "--data"], ["--data needs a value"]),
        ("train", ["demo", "--gpus", "0 1"], ["--gpus 0 1", "0,1"]),
        ("train", ["demo", "--cpuset", "4-"], ["--cpuset 4-", "0-31"]),
        ("train", ["demo", "--shm-size", "lots"], ["--shm-size lots", "16g"]),
        ("train", ["demo", "--runs", "a,b"], ["--runs a,b", "comma", "Rename"]),
        ("train", ["demo", "--set", "a=1"], ["--set", "otter_ray.train", "docker/train.bash ... -- --set"]),
        ("train", ["demo", "--run", "x"], ["--run is no option"]),
        ("tune", ["demo", "other"], ["other is no option"]),
        ("to_onnx", ["demo"], ["CFG demo", "runs/demo", "Train it first"]),
        ("to_onnx", ["demo", "--run", "x"], ["--run x", "runs/demo"]),
        ("build", ["demo"], ["demo is no option", "docker build"]),
        ("run", [], ["train.bash, tune.bash and to_onnx.bash"]),
    ],
)
def test_a_mistake_is_told_and_nothing_starts(checkout, name, arguments, told):
    ran = script(checkout, name, *arguments)
    assert ran.returncode == 2
    assert all(part in ran.stderr for part in told), ran.stderr
    assert not (checkout.parent / "argv").exists()


def test_without_docker(checkout):
    (checkout.parent / "bin/docker").unlink()
    if shutil.which("docker", path=SYSTEM):
        pytest.skip("docker is among the system's commands")
    ran = script(checkout, "train", "demo")
    assert ran.returncode == 2
    assert "no docker in PATH" in ran.stderr


# The constraints of a base


def constraints(tmp_path, *flags):
    command = [sys.executable, *flags, DOCKER / "base_constraints.py", CONSTRAINTS]
    ran = run(*command, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_base_without_torch_gets_every_constraint(tmp_path):
    assert constraints(tmp_path, "-S") == CONSTRAINTS.read_text().splitlines()


def test_a_torch_that_the_base_brings_stays(tmp_path):
    for package, version in {"torch": "2.10.0a0+b4.nv25.12", "torchvision": "0.25.0a0+1e"}.items():
        info = tmp_path / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = constraints(tmp_path, "-S")
    assert lines[-2:] == ["torch==2.10.0a0+b4.nv25.12", "torchvision==0.25.0a0+1e"]
    left_out = [line for line in CONSTRAINTS.read_text().splitlines() if line not in lines]
    assert left_out
    assert all(
        line.startswith(("cuda-", "nvidia-", "torch==", "torchvision==", "triton==")) for line in left_out
    )


# The entrypoint

IDS = 'echo "$(id -u):$(id -g) $HOME"'


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ({"USER_ID": "1000"}, "GROUP_ID is ''"),
        ({"GROUP_ID": "1000"}, "USER_ID is ''"),
        ({"USER_ID": "me", "GROUP_ID": "1"}, "USER_ID is 'me'"),
        ({"USER_ID": "1", "GROUP_ID": "-1"}, "GROUP_ID is '-1'"),
        ({"USER_ID": "1", "GROUP_ID": "010"}, "GROUP_ID is '010'"),
        ({"USER_ID": "4294967295", "GROUP_ID": "1"}, "USER_ID is '4294967295'"),
    ],
)
def test_half_a_user_or_none_at_all_is_refused(ids, told):
    ran = run(ENTRYPOINT, "true", env={"PATH": os.environ["PATH"], **ids})
    assert ran.returncode == 2
    assert told in ran.stderr
    assert "Set both: -e USER_ID=$(id -u) -e GROUP_ID=$(id -g), or neither." in ran.stderr


def test_without_ids_the_command_runs_as_it_is():
    ran = run(ENTRYPOINT, "sh", "-c", IDS, env={"PATH": os.environ["PATH"], "HOME": "/somewhere"})
    assert ran.stdout == f"{os.getuid()}:{os.getgid()} /somewhere\n"


@pytest.fixture
def container(tmp_path):
    """The start of a line that sees an /etc and a /home of its own: users made there are gone afterwards."""
    if os.getuid() != 0:
        pytest.skip("only root can make users")
    if run("unshare", "--mount", "true").returncode != 0:
        pytest.skip("no mount namespace can be made here")
    for folder in ("etc", "home", "bin"):
        (tmp_path / folder).mkdir()
    for name in ("passwd", "group", "login.defs", "nsswitch.conf"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), tmp_path / "etc")
    if not shutil.which("gosu", path=SYSTEM):
        # What gosu does, by util-linux.
        ids = '--reuid "${ids%:*}" --regid "${ids#*:}" --clear-groups'
        (tmp_path / "bin/gosu").write_text(f'#!/bin/sh\nids=$1; shift\nexec setpriv {ids} "$@"\n')
        (tmp_path / "bin/gosu").chmod(0o755)
    binds = 'mount --bind "$0/etc" /etc; mount --bind "$0/home" /home; exec "$@"'
    return ["unshare", "--mount", "sh", "-euc", binds, tmp_path]


def as_user(container, user, group, *command, start=run):
    """Starts the entrypoint as root, in the fresh namespace."""
    path = f"{container[-1]}/bin:{SYSTEM}"
    environment = {"PATH": path, "HOME": "/root", "USER_ID": str(user), "GROUP_ID": str(group)}
    return start(*container, ENTRYPOINT, *command, env=environment)


@pytest.mark.parametrize(("user", "group"), [(61234, 62345), (1, 1), (61234, 1), (1, 62345), (0, 0)])
def test_the_command_runs_as_the_ids_known_or_not(container, tmp_path, user, group):
    mount = tmp_path / "home/mount"
    mount.mkdir()
    os.chown(mount, user, group)
    ran = as_user(container, user, group, "sh", "-c", f"{IDS}; touch /home/mount/file ~/file; id -un")
    assert ran.returncode == 0, ran.stderr
    first, name = ran.stdout.splitlines()
    assert first == f"{user}:{group} /home/otter"
    assert name == {0: "root", 1: "daemon"}.get(user, "otter")
    for file in (mount / "file", tmp_path / "home/otter/file"):
        assert (file.stat().st_uid, file.stat().st_gid) == (user, group)
    assert "otter" not in Path("/etc/passwd").read_text()


def test_a_restart_finds_its_user_again(container):
    ran = [as_user(container, 61234, 61234, "id", "-un") for _ in range(2)]
    assert [each.stdout for each in ran] == ["otter\n", "otter\n"]


def test_nothing_below_the_home_changes_hands(container, tmp_path):
    mount = tmp_path / "home/otter/mount"
    mount.mkdir(parents=True)
    assert as_user(container, 61234, 61234, "true").returncode == 0
    assert mount.stat().st_uid == 0


def test_a_signal_reaches_the_command_and_its_exit_code_comes_back(container):
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
        "print('up', flush=True); signal.pause()"
    )
    with as_user(container, 61234, 61234, "/usr/bin/python3", "-c", code, start=start) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 7
