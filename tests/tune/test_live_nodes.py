"""A study on a cluster whose nodes come and go: real Ray nodes, trials that sleep."""

import io
import re
import threading
import time
from urllib.request import urlopen

import pytest
import ray
from commands import wait_for
from optuna.trial import TrialState
from ray.cluster_utils import Cluster
from rich.console import Console

from otter_ray.tune.cluster import living
from otter_ray.tune.driver import run_trainable
from otter_ray.tune.dry_run import plan_for
from otter_ray.tune.first import enqueue_first
from otter_ray.tune.folder import StudyFolder
from otter_ray.tune.plan import Node
from otter_ray.tune.run import Search
from otter_ray.tune.session import ray_session
from otter_ray.tune.show import Lines

SMALL = {"num_cpus": 1, "object_store_memory": 10**8}


@pytest.fixture
def cluster():
    """A head without CPUs, and one node with one."""
    nodes = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 0, "include_dashboard": False})
    nodes.add_node(**SMALL)
    with ray_session(nodes.address):
        yield nodes
    nodes.shutdown()


def sleeper(folder):
    """A trainable of two epochs that writes down when it ran; trials wait where the nodes are to change."""

    def sleep(assignment):
        import os
        import time

        from ray import tune

        number, start = assignment["number"], time.time()
        open(f"{folder}/{number}.begun", "w").close()
        for first, file in ((2, "joined"), (14, "left")):
            while number >= first and not os.path.exists(f"{folder}/{file}"):
                assert time.time() < start + 200, file
                time.sleep(0.1)
        for epoch in (1, 2):
            time.sleep(0.4)
            tune.report({"epoch": epoch, "valid_fpr@4": 0.5, "metrics/valid_fpr@4": 0.5})
        with open(f"{folder}/log", "a") as file:
            file.write(f"{start} {time.time()}\n")

    return sleep


def most_at_once(log, since, until):
    """How many trials ran at the same time, at most."""
    spans = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
    spans = [(start, end) for start, end in spans if start >= since and end <= until]
    return max(sum(other[0] <= start < other[1] for other in spans) for start, _ in spans)


def metrics():
    """What the driver's node exports to Prometheus."""
    [head] = [node for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]
    with urlopen(f"http://{head['NodeManagerAddress']}:{head['MetricsExportPort']}/metrics") as page:
        return page.read().decode()


def test_trials_follow_the_nodes(cluster, study, demo, tmp_path):
    config, space = demo
    space = space.with_trials(24)
    enqueue_first(study, config, space)
    search = Search(config, space, StudyFolder(tmp_path / "live"), study)
    log, marks = tmp_path / "log", {}

    def ended():
        return len(log.read_text().splitlines()) if log.exists() else 0

    plan = plan_for(config, space, [member.node for member in living()], [])
    assert (plan.slots, plan.trials) == (1, 24)
    run = threading.Thread(
        target=run_trainable,
        args=(sleeper(str(tmp_path)), search, plan, Lines(Console(file=io.StringIO()))),
        daemon=True,
    )
    run.start()
    wait_for(lambda: ended() >= 2, 120)
    # Asked for are those that fit, not all that Tune would let wait.
    assert len(study.trials) <= ended() + 2
    marks["joins"] = time.time()
    second = cluster.add_node(**SMALL)
    told = 'ray_otter_ray_trials{.*state="running".*study="demo/live".*} 2.0'
    wait_for(lambda: re.search(told, metrics()), 120)
    assert re.search(r'ray_otter_ray_best_value{.*study="demo/live".*} 0.5', metrics())
    (tmp_path / "joined").touch()
    wait_for(lambda: all((tmp_path / f"{number}.begun").exists() for number in (14, 15)), 120)
    marks["leaves"] = time.time()
    cluster.remove_node(second)
    wait_for(lambda: sum(member.node == Node(1) for member in living()) == 1, 120)
    marks["left"] = time.time()
    (tmp_path / "left").touch()
    run.join(timeout=120)
    assert not run.is_alive()
    assert most_at_once(log, 0, marks["joins"]) == 1
    assert most_at_once(log, marks["joins"], marks["leaves"]) == 2
    assert most_at_once(log, marks["left"], time.time()) == 1
    states = [trial.state for trial in study.trials]
    assert len(states) == 24
    # The trial on the node that left broke off; nothing else was disturbed.
    assert states == [TrialState.COMPLETE] * 24
