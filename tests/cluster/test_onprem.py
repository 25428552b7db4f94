"""`cluster.onprem.yaml` on three machines by real SSH: up, a study, a machine lost, down."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hosts import CHECKOUT, Hosts, cannot

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
WORKERS = ["worker1", "worker2"]
PLACE = {"RAY_AUTH_MODE": "token", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
DASHBOARD = "http://127.0.0.1:8265"


@dataclass
class Cluster:
    hosts: Hosts
    file: Path
    shared: Path  # a folder that all machines see, as by NFS

    def __call__(self, *line, check=True, **environment):
        """(exit code, output) of a command of the client."""
        ended = subprocess.run(
            self.hosts.command(*line, **{**PLACE, **environment}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=300,
        )  # fmt: skip
        if check and ended.returncode:
            pytest.fail(f"{line} ended with {ended.returncode}:\n{ended.stdout}")
        return ended.returncode, ended.stdout


def filled_in(hosts):
    """The shipped file, as someone with three machines would fill it in."""
    text = (CHECKOUT / "cluster.onprem.yaml").read_text()
    config = yaml.safe_load(text)
    head, *workers = hosts.addresses.values()
    config["provider"] |= {"head_ip": head, "worker_ips": workers}
    config["auth"]["ssh_user"] = "root"
    # They share this machine's Python: nothing is there to be installed.
    config["setup_commands"] = [
        line.replace("python3 -m venv ~/venv", f"ln -s {sys.prefix} ~/venv")
        for line in config["setup_commands"]
        if "pip install" not in line
    ]
    # One slot for each worker, whatever this machine has: a trial says where it ran.
    for when, cpus in (("head_start_ray_commands", 0), ("worker_start_ray_commands", 1)):
        small = f"ray start --num-cpus={cpus} --object-store-memory=100000000 "
        config[when] = [line.replace("ray start ", small) for line in config[when]]
    return config


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if reason := cannot():
        pytest.skip(reason)
    root, shared = tmp_path_factory.mktemp("hosts"), tmp_path_factory.mktemp("nfs")
    with Hosts(root, ["head", *WORKERS], [shared]) as hosts:
        file = root / "client/home/cluster.yaml"
        file.write_text(yaml.safe_dump(filled_in(hosts)))
        # ~/otter_ray: . is the folder that `ray up` is started in.
        project = root / "client/home/project"
        project.mkdir()
        (project / ".gitignore").write_text("runs/\n")
        at_home = Cluster(hosts, Path.home() / "cluster.yaml", shared)
        at_home("ray", "get-auth-token", "--generate")
        at_home("env", "-C", Path.home() / "project", "ray", "up", "--yes", "--no-config-cache", at_home.file)
        yield at_home


@pytest.fixture(scope="module")
def dashboard(cluster):
    """`ray dashboard`: the tunnel that a user would open."""
    process = subprocess.Popen(
        cluster.hosts.command("ray", "dashboard", cluster.file, **PLACE),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    yield wait_for(lambda: status(cluster) != "000")
    os.killpg(process.pid, signal.SIGKILL)


def status(cluster, token=None):
    """The HTTP status of the dashboard's list of jobs."""
    asks = ["-H", f"Authorization: Bearer {token}"] if token else []
    line = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *asks, f"{DASHBOARD}/api/jobs/"]
    return cluster(*line, check=False)[1]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(1)
    return found


def living(cluster):
    """Addresses of the living nodes."""
    asked = "import ray; ray.init('auto', log_to_driver=False, logging_level='error');"
    asked += "print('ALIVE', *(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"
    _, output = cluster("ray", "exec", cluster.file, f'python -c "{asked}"', check=False)
    found = re.search(r"^ALIVE (.*)$", output, re.MULTILINE)
    return set(found[1].split()) if found else set()


def test_all_machines_join(cluster):
    wait_for(lambda: living(cluster) == set(cluster.hosts.addresses.values()))


def test_nobody_comes_in_without_the_token(cluster, dashboard):
    token = (cluster.hosts.root / "client/home/.ray/auth_token").read_text().strip()
    assert [status(cluster), status(cluster, "wrong"), status(cluster, token)] == ["401", "403", "200"]
    submit = ["ray", "job", "submit", "--address", DASHBOARD, "--", "true"]
    code, output = cluster(*submit, check=False, RAY_AUTH_TOKEN="0" * 32)
    assert code != 0
    assert "token" in output.lower()
    # From the network there is no dashboard at all, and the token lies where only its owner reads it.
    outside = f"http://{cluster.hosts.addresses['head']}:8265/api/version"
    assert cluster("curl", "-s", "-m", "5", outside, check=False)[0] == 7
    for name in cluster.hosts.addresses:
        kept = cluster.hosts.root / name / "home/.ray/auth_token"
        assert (kept.read_text().strip(), oct(kept.stat().st_mode)[-3:]) == (token, "600")


def test_a_study_outlives_one_of_its_machines(cluster, dashboard, tiny_sets):
    runs = cluster.shared / "runs"
    study = ["demo", "--runs", runs, "--name", "far", "--trials", 8, *tiny_sets]
    project = Path.home() / "project"
    submit = ["ray", "job", "submit", "--address", DASHBOARD, "--working-dir", project, "--"]
    process = subprocess.Popen(
        cluster.hosts.command(*submit, "python", "-m", "otter_ray.tune", *study, **PLACE),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(
        lambda: len(list(runs.glob("demo/far/trials/*/checkpoints/last.ckpt"))) >= 3 or process.poll(), 240
    )
    cluster.hosts.kill("worker2")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert "8 trials on 2 slots of 1 CPU" in output
    rows = pq.read_table(runs / "demo/far/trials.parquet").to_pylist()
    assert len(rows) == 8
    assert {row["host"] for row in rows} == set(WORKERS)
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert list(runs.glob("demo/far/*.onnx"))


def test_down(cluster):
    cluster("ray", "down", "--yes", cluster.file)
    wait_for(lambda: not living(cluster))
