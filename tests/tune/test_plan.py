from pathlib import Path

import pytest

from otter_ray.config import StudyOptions, load_config, load_space
from otter_ray.errors import ConfigError, StudyError
from otter_ray.tune.check import check_study
from otter_ray.tune.plan import Node, make_plan


def options(trials=10, **resources):
    return StudyOptions(num_trials=trials, resources=resources)


@pytest.mark.parametrize(
    ("nodes", "resources", "slots"),
    [
        ([Node(2)], {"cpus_per_worker": 1}, 2),
        ([Node(3), Node(3)], {"cpus_per_worker": 2}, 2),  # a slot never spans two nodes
        ([Node(16, 2)], {"cpus_per_worker": 4, "gpus_per_worker": 0.5}, 4),
        ([Node(4, 8)], {"cpus_per_worker": 2, "gpus_per_worker": 1}, 2),
        ([Node(64, 1)], {"gpus_per_worker": 0.1}, 10),
        ([Node(64), Node(8, 1)], {"gpus_per_worker": 1}, 1),  # the head has no GPU
    ],
)
def test_slots_are_what_fits_onto_each_node(nodes, resources, slots):
    assert make_plan(options(**resources), nodes).slots == slots


def test_no_more_slots_than_trials():
    assert make_plan(options(trials=3), [Node(16)]).slots == 3


def test_the_plan_says_what_it_does():
    text = str(make_plan(options(trials=8, cpus_per_worker=2), [Node(4)]))
    assert "8 trials on 2 slots of 2 CPUs and 0 GPUs each" in text
    assert "1 node, 4 CPUs" in text


def test_gpus_that_nobody_asks_for_are_told():
    assert "2 GPUs stay idle" in make_plan(options(), [Node(4, 2)]).idle_gpus
    assert not make_plan(options(gpus_per_worker=1), [Node(4, 2)]).idle_gpus


def test_what_can_never_fit_is_refused_with_the_numbers():
    with pytest.raises(StudyError, match=r"needs 4 CPUs and 1 GPUs.*2 CPUs \+ 0 GPUs.*cpus_per_worker"):
        make_plan(options(cpus_per_worker=4, gpus_per_worker=1), [Node(2)], "gpu")


@pytest.mark.parametrize(
    ("accelerator", "node", "gpus", "slots"),
    [
        ("gpu", Node(4, 1), 0.5, 2),
        ("auto", Node(4, 1), 0.5, 2),
        ("auto", Node(4), 0, 4),
        ("cpu", Node(4, 1), 0, 4),
        ("cpu", Node(4), 0, 4),
    ],
)
def test_a_share_of_a_gpu_only_where_trials_use_one(accelerator, node, gpus, slots):
    plan = make_plan(options(gpus_per_worker=0.5), [node], accelerator)
    assert (plan.gpus, plan.slots) == (gpus, slots)


def test_several_workers_a_trial_are_refused():
    with pytest.raises(StudyError, match="workers_per_trial is 2"):
        make_plan(options(workers_per_trial=2), [Node(8)])


@pytest.mark.parametrize("name", sorted(path.stem for path in Path("search_spaces").glob("*.yaml")))
def test_every_shipped_space_fits_its_config(name):
    # The second stage starts from a run of the first, which is the user's.
    sets = ["trainer.accelerator=cpu", "common.is_restore=false"]
    check_study(load_config(name, sets), load_space(name), gpus=0)


def test_the_number_of_epochs_cannot_be_searched(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("parameters:\n  trainer.max_epochs: {type: int, low: 2, high: 8}\n")
    with pytest.raises(ConfigError, match=r"space.yaml:2: trainer.max_epochs: .*rungs are epochs"):
        check_study(load_config("demo"), load_space(str(path)), gpus=0)
