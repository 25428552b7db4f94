"""Trials that fail in every way, one after another, on a Ray that is watched: nothing of it is lost."""

import dataclasses
import io
from collections import Counter

import pytest
import ray
from commands import wait_for
from ray._private.state import actors
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table
from rich.console import Console

from otter_ray.report.rows import read_rows
from otter_ray.tune.cluster import cluster as cluster_of
from otter_ray.tune.driver import run_trainable
from otter_ray.tune.dry_run import plan_for
from otter_ray.tune.first import enqueue_first
from otter_ray.tune.folder import StudyFolder, open_study
from otter_ray.tune.run import Search
from otter_ray.tune.session import ray_session
from otter_ray.tune.show import Lines

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SLOTS = 2


@pytest.fixture
def connected():
    """A Ray of two slots."""
    head = {"num_cpus": SLOTS, "object_store_memory": 10**8, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    with ray_session(nodes.address):
        yield
    nodes.shutdown()


def held():
    """What Ray has given away: living actors, placement groups, resources."""
    groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    living = [actor for actor in actors().values() if actor["State"] != "DEAD"]
    free = {name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "memory")}
    return len(living), len(groups), free


def faulty(folder, faults):
    """A trainable: the base's trial ends well, `faults` fail, and the last ones wait for each other."""

    def train(assignment):
        import os
        import signal
        import time

        from ray import tune

        number = assignment["number"]
        with open(f"{folder}/{number}", "a") as file:
            file.write("attempt\n")
        tune.report({"epoch": 1, "valid_fpr@4": 0.5, "metrics/valid_fpr@4": 0.5})
        if number > faults:
            deadline = time.monotonic() + 120
            while not all(os.path.exists(f"{folder}/{faults + other + 1}") for other in range(SLOTS)):
                assert time.monotonic() < deadline, "a slot was lost"
                time.sleep(0.1)
        kind = number % 8 if 0 < number <= faults else None
        if kind in (0, 1, 2):
            tune.report({"error": f"it diverged ({kind})", "final": True})
        elif kind in (3, 4, 5):
            tune.report({"error": f"a file is busy ({kind})"})
            tune.report({"error": f"a file is busy ({kind})"})
        elif kind == 6:
            raise RuntimeError("an exception that nobody caught")
        elif kind == 7:
            (os.abort, lambda: os._exit(1), lambda: os.kill(os.getpid(), signal.SIGKILL))[number // 8 % 3]()
        for epoch in (2, 3, 4):
            tune.report({"epoch": epoch, "valid_fpr@4": 0.5, "metrics/valid_fpr@4": 0.5})

    return train


def test_no_slot_actor_or_group_is_lost_to_faulty_trials(connected, demo, full, tmp_path):
    config, space = demo
    faults = 200 if full else 24
    space = dataclasses.replace(space, study=space.study.model_copy(update={"retries": 1}))
    space = space.with_trials(1 + faults + SLOTS)
    folder = StudyFolder(tmp_path / "faulty")
    (folder.path / "trials").mkdir(parents=True)
    study = open_study(folder, space.study, begin=lambda new: enqueue_first(new, config, space))
    search = Search(config, space, folder, study)
    plan = plan_for(config, space, *cluster_of())
    assert plan.slots == SLOTS
    attempts, output = tmp_path / "attempts", io.StringIO()
    attempts.mkdir()
    before = held()
    halt = run_trainable(faulty(attempts, faults), search, plan, Lines(Console(file=output, width=200)))
    assert not halt.reason
    rows = read_rows(open_study(folder, space.study))
    states = ["complete", *["failed"] * faults, *["complete"] * SLOTS]
    assert [row.state for row in rows] == states, output.getvalue()
    errors = Counter(row.error.split(" (")[0] for row in rows if row.error)
    died = "its worker process failed or died; its log.txt may say more"
    eighth = faults // 8
    assert errors == {"it diverged": 3 * eighth, "a file is busy": 3 * eighth, died: 2 * eighth}
    # Who failed for good is not tried again; whose process died is, in another one.
    assert {len((attempts / str(number)).read_text().split()) for number in (1, 3, 8)} == {1}
    assert {len((attempts / str(number)).read_text().split()) for number in (6, 7, 15, 23)} == {2}
    wait_for(lambda: held() == before)
