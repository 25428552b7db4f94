"""A study on a cluster whose nodes come and go: real Ray nodes, trials that sleep."""

import re
import threading
import time
from urllib.request import urlopen

import pytest
import ray
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from otter_ray.space import SearchProblem
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.layout import StudyFolder
from otter_ray.tune.cluster.nodes import living_members
from otter_ray.tune.cluster.planner import plan_for
from otter_ray.tune.cluster.resources import Node
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.messages import EpochResult
from tests.support.commands import wait_for

SMALL = {"num_cpus": 1, "object_store_memory": 10**8}


@pytest.fixture
def cluster():
    """A head without CPUs, and one node with one."""
    nodes = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 0, "include_dashboard": False})
    nodes.add_node(**SMALL)
    with RaySession(nodes.address).start():
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
            tune.report(EpochResult(epoch, 0.5, {"valid_fpr@4": 0.5}).to_tune())
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
    enqueue_first(study, SearchProblem(config, space))
    search = StudyContext(SearchProblem(config, space), StudyFolder(tmp_path / "live"), study)
    log, marks = tmp_path / "log", {}

    def ended():
        return len(log.read_text().splitlines()) if log.exists() else 0

    plan = plan_for(SearchProblem(config, space), [member.node for member in living_members()], [])
    assert (plan.slots, plan.trials) == (1, 24)
    trainable = sleeper(str(tmp_path))
    run = threading.Thread(
        target=lambda: StudyTuner(search, plan, ProgressReporter()).run(trainable), daemon=True
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
    wait_for(lambda: sum(member.node == Node(1) for member in living_members()) == 1, 120)
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
