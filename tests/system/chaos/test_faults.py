"""Trials that fail in every way, one after another, on a Ray that is watched: nothing of it is lost."""

import dataclasses
from collections import Counter

import pytest
import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from otter_ray.space import SearchProblem
from otter_ray.study.initial_trials import enqueue_first
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import open_study
from otter_ray.study.trials import read_records
from otter_ray.tune.cluster.autoscaler import cluster_capacity
from otter_ray.tune.cluster.planner import plan_for
from otter_ray.tune.cluster.session import RaySession
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.plain import PlainReporter
from otter_ray.tune.driver.tuner import StudyTuner
from otter_ray.tune.messages import EpochResult, FailureKind, TrialFailure
from otter_ray.tune.samplers.factory import make_sampler
from tests.support.commands import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SLOTS = 2


@pytest.fixture
def connected():
    """A Ray of two slots."""
    head = {"num_cpus": SLOTS, "object_store_memory": 10**8, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    with RaySession(nodes.address).start():
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
        tune.report(EpochResult(1, 0.5, {"valid_fpr@4": 0.5}).to_tune())
        if number > faults:
            deadline = time.monotonic() + 120
            while not all(os.path.exists(f"{folder}/{faults + other + 1}") for other in range(SLOTS)):
                assert time.monotonic() < deadline, "a slot was lost"
                time.sleep(0.1)
        kind = number % 8 if 0 < number <= faults else None
        if kind in (0, 1, 2):
            tune.report(TrialFailure(f"it diverged ({kind})", FailureKind.DETERMINISTIC).to_tune())
        elif kind in (3, 4, 5):
            tune.report(TrialFailure(f"a file is busy ({kind})").to_tune())
            tune.report(TrialFailure(f"a file is busy ({kind})").to_tune())
        elif kind == 6:
            raise RuntimeError("an exception that nobody caught")
        elif kind == 7:
            (os.abort, lambda: os._exit(1), lambda: os.kill(os.getpid(), signal.SIGKILL))[number // 8 % 3]()
        for epoch in (2, 3, 4):
            tune.report(EpochResult(epoch, 0.5, {"valid_fpr@4": 0.5}).to_tune())

    return train


def test_no_slot_actor_or_group_is_lost_to_faulty_trials(connected, demo, full, tmp_path, printed):
    config, space = demo
    faults = 200 if full else 24
    space = dataclasses.replace(space, study=space.study.model_copy(update={"retries": 1}))
    space = space.with_trials(1 + faults + SLOTS)
    folder = StudyFolder(tmp_path / "faulty")
    (folder.path / "trials").mkdir(parents=True)
    study = open_study(
        folder,
        space.study,
        make_sampler(space.study, 0),
        lambda new: enqueue_first(new, SearchProblem(config, space)),
    )
    search = StudyContext(SearchProblem(config, space), folder, study)
    plan = plan_for(SearchProblem(config, space), *cluster_capacity())
    assert plan.slots == SLOTS
    attempts = tmp_path / "attempts"
    attempts.mkdir()
    before = held()
    controller = StudyTuner(search, plan, PlainReporter()).run(faulty(attempts, faults))
    assert not controller.reason
    rows = read_records(open_study(folder, space.study))
    states = ["complete", *["failed"] * faults, *["complete"] * SLOTS]
    assert [row.state for row in rows] == states, printed()
    errors = Counter(row.error.split(" (")[0] for row in rows if row.error)
    died = "its worker process failed or died; its log.txt may say more"
    eighth = faults // 8
    assert errors == {"it diverged": 3 * eighth, "a file is busy": 3 * eighth, died: 2 * eighth}
    # Who failed for good is not tried again; whose process died is, in another one.
    assert {len((attempts / str(number)).read_text().split()) for number in (1, 3, 8)} == {1}
    assert {len((attempts / str(number)).read_text().split()) for number in (6, 7, 15, 23)} == {2}
    wait_for(lambda: held() == before)
