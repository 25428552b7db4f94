import dataclasses
from math import e
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otter_ray.config import load_config
from otter_ray.errors import ConfigError, StudyError
from otter_ray.projects.docclassifier import ClassifierModel
from otter_ray.space import SearchProblem, StudyOptions, load_space
from otter_ray.tune.cluster.autoscaler import scale_ups_of
from otter_ray.tune.cluster.nodes import Member
from otter_ray.tune.cluster.planner import log_plan, make_plan, plan_for
from otter_ray.tune.cluster.resources import Node, ScaleUp, workers_on
from otter_ray.tune.preflight.static_checks import check_study, resolve

GPU_NODE = Node(8, 2)


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
        ([Node(64, 2)], {"gpus_per_worker": 0.4}, 4),  # a share lies on one GPU
        ([Node(64, 1)], {"gpus_per_worker": 0.3333}, 3),
        ([Node(64, 1)], {"gpus_per_worker": 1 / 6}, 5),  # Ray counts 0.1667
        ([Node(1)], {"cpus_per_worker": 0.1}, 10),
        ([Node(4), Node(4)], {"workers_per_trial": 2, "cpus_per_worker": 4}, 1),  # a trial spans nodes
        ([Node(6), Node(6)], {"workers_per_trial": 3, "cpus_per_worker": 2}, 2),
        ([Node(7), Node(7)], {"workers_per_trial": 3, "cpus_per_worker": 2}, 2),
        ([Node(0), Node(8, 1), Node(8, 1)], {"workers_per_trial": 2, "gpus_per_worker": 0.5}, 2),
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
    assert "2 GPUs idle" in make_plan(options(gpus_per_worker=0), [Node(4, 2)]).gpu_note
    assert not make_plan(options(gpus_per_worker=1), [Node(4, 2)]).gpu_note
    assert not make_plan(options(), [Node(4)]).gpu_note


def test_gpus_that_are_not_there_are_told():
    note = make_plan(options(gpus_per_worker=0.5), [Node(4)]).gpu_note
    assert "gpus_per_worker (0.5) is ignored" in note
    assert not make_plan(options(gpus_per_worker=0.5), [Node(4)], accelerator="cpu").gpu_note


def test_a_trial_has_a_gpu_of_its_own_where_nothing_else_is_said():
    plan = make_plan(options(), [Node(8, 2)])
    assert (plan.gpus, plan.slots) == (1, 2)


def test_what_can_never_fit_is_refused_with_the_numbers():
    with pytest.raises(StudyError, match=r"needs 4 CPUs and 1 GPU, .*2 CPUs \+ 0 GPUs.*cpus_per_worker"):
        make_plan(options(cpus_per_worker=4, gpus_per_worker=1), [Node(2)], accelerator="gpu")


@pytest.mark.parametrize(
    ("accelerator", "reason"), [("cpu", "trainer.accelerator is cpu"), ("auto", "no node has a GPU")]
)
def test_a_refusal_says_why_gpus_that_were_asked_for_are_not_needed(accelerator, reason):
    asked = options(cpus_per_worker=4, gpus_per_worker=1)
    with pytest.raises(StudyError, match=rf"0 GPUs \(gpus_per_worker is ignored, because {reason}\)"):
        make_plan(asked, [Node(2)], accelerator=accelerator)


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
    plan = make_plan(options(gpus_per_worker=0.5), [node], accelerator=accelerator)
    assert (plan.gpus, plan.slots) == (gpus, slots)


def test_too_few_workers_for_a_trial_are_refused_with_their_number():
    with pytest.raises(StudyError, match=r"workers_per_trial is 4 .* 2 CPUs and 0 GPUs, but only 3 fit"):
        make_plan(options(workers_per_trial=4, cpus_per_worker=2), [Node(4), Node(3)])


def test_the_autoscaler_may_add_what_does_not_fit_yet():
    scale_ups = [ScaleUp("gpu_worker", GPU_NODE, 3)]
    plan = make_plan(options(gpus_per_worker=0.5), [Node(0)], scale_ups)
    assert (plan.slots, plan.slots_now) == (10, 0)
    assert "0 of the slots are there now" in str(plan)
    assert "3 nodes of type gpu_worker (8 CPUs + 2 GPUs each)" in str(plan)


def test_what_does_not_fit_onto_added_nodes_either_is_refused():
    scale_ups = [ScaleUp("gpu_worker", GPU_NODE, 3)]
    with pytest.raises(StudyError, match=r"needs 16 CPUs.*may add 3 nodes of type gpu_worker"):
        make_plan(options(cpus_per_worker=16), [Node(4)], scale_ups)


def test_a_plan_that_needs_no_more_nodes_promises_none():
    assert "autoscaler" not in str(make_plan(options(trials=2), [Node(4)], [ScaleUp("more", Node(4), 3)]))


nodes_of = st.lists(st.builds(Node, st.integers(0, 8), st.integers(0, 3)), max_size=5)
shares = st.one_of(st.just(0), st.just(1), st.floats(0.01, 1))


@given(
    nodes_of, nodes_of, st.integers(1, 4), st.floats(0.1, 4) | st.integers(1, 4), shares, st.randoms()
)  # fmt: skip
def test_a_plan_never_promises_more_than_fits(now, later, workers, cpus, gpus, random):
    """Whichever node and GPU each worker is put on, the trials that the plan counts fit at once."""
    scale_ups = [ScaleUp(str(index), node, 1) for index, node in enumerate(later)]
    wanted = options(1000, workers_per_trial=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    try:
        plan = make_plan(wanted, now, scale_ups, accelerator="gpu")
    except StudyError:
        assert placed([*now, *later], cpus, gpus, random) < workers
        return
    assert plan.slots * workers <= placed([*now, *later], cpus, gpus, random) < (plan.slots + 1) * workers
    assert plan.slots_now * workers <= placed(now, cpus, gpus, random)
    assert plan.slots_on([*now, *later]) == plan.slots


def placed(nodes, cpus, gpus, random):
    """Workers that are put where there is room until there is none, as Ray counts: in ten-thousandths."""
    need = max(1, -int(-cpus * 10_000 // 1)), -int(-gpus * 10_000 // 1)
    free = [[int(node.cpus * 10_000), [10_000] * (int(node.gpus) if gpus else 1)] for node in nodes]
    count = 0
    while room := [
        (node, gpu)
        for node in free
        for gpu, left in enumerate(node[1])
        if node[0] >= need[0] and left >= need[1]
    ]:
        node, gpu = random.choice(room)
        node[0] -= need[0]
        node[1][gpu] -= need[1]
        count += 1
    return count


@given(st.integers(1, 16), st.integers(0, 4), st.integers(1, 50))
def test_a_share_of_one_nth_fits_n_times(cpus, gpus, share):
    assert workers_on(Node(cpus, gpus), 0.01, 0) == cpus * 100
    assert workers_on(Node(1000, gpus), 1, round(share / 100, 2)) == gpus * (100 // share)


ASHA = {"name": "ASHA", "options": {"grace_period": 1, "reduction_factor": 3}}


@pytest.mark.parametrize(
    ("trials", "scheduler", "max_epochs", "expected"),
    [
        (24, ASHA, 4, 4 + 23 * (1 + 2 / 3 + 1 / 9)),
        (2, ASHA, 27, 27 + 1 + 2 / 3 + 6 / 9 + 18 / 27),
        (5, {"name": "ASHA", "options": {"grace_period": 4}}, 4, 20),
        (5, {"name": "none"}, 4, 20),
        (5, {"name": "median"}, 4, 20),
        # Rungs at 1, 3, 9 and at 3, 9, of which Ray draws the first e times as often.
        (
            2,
            {"name": "Hyperband", "options": {"brackets": 2}},
            9,
            9 + (e * (1 + 2 / 3 + 6 / 9) + (3 + 6 / 3)) / (e + 1),
        ),
    ],
)
def test_the_expected_epochs_follow_the_rungs(trials, scheduler, max_epochs, expected):
    options = StudyOptions(scheduler=scheduler).scheduler.options
    assert options.expected_epochs(trials, max_epochs) == pytest.approx(expected)


def test_the_plan_says_what_the_study_costs():
    wanted = StudyOptions(num_trials=24, scheduler=ASHA)
    assert "3 rounds, at most 96 epochs, about 45 with ASHA" in str(
        make_plan(wanted, [Node(8)], max_epochs=4)
    )
    without = StudyOptions(num_trials=24, scheduler={"name": "none"})
    assert str(make_plan(without, [Node(8)], max_epochs=4)).endswith("3 rounds, at most 96 epochs")


def test_loaders_that_get_fewer_workers_are_told(printed):
    sets = [f"dataloader.{part}_options.num_workers=24" for part in ("train", "valid")]
    config, space = load_config("demo", sets), load_space("demo")
    log_plan(plan_for(SearchProblem(config, space), [Node(8)], []), config)
    says = printed()
    assert "dataloader.train_options.num_workers 24 becomes 0" in says
    assert "dataloader.valid_options.num_workers 24 becomes 0: a worker has 1 CPU, and one of them" in says
    config = load_config("demo")
    log_plan(plan_for(SearchProblem(config, space), [Node(8)], []), config)
    assert "num_workers" not in printed()


TYPES = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"max_workers": 0, "resources": {"CPU": 4}},
        "spot": {"max_workers": 4, "resources": {"CPU": 8, "GPU": 2}},
        "on_demand": {"max_workers": 4, "resources": {"CPU": 8, "GPU": 2}},
    },
}
HEAD = Member(Node(4), "head", is_head=True)


@pytest.mark.parametrize(
    ("workers", "left"),
    [
        ([], {"spot": 4, "on_demand": 4}),  # five workers at most, whichever
        ([Member(GPU_NODE, "spot")] * 2, {"spot": 2, "on_demand": 3}),
        ([Member(GPU_NODE, "on_demand")] * 4, {"spot": 1}),
        ([Member(GPU_NODE)] * 3, {"spot": 1, "on_demand": 1}),  # of a type that nobody named
        ([Member(GPU_NODE)] * 5, {}),
    ],
)
def test_what_an_autoscaler_may_still_add(workers, left):
    scale_ups = scale_ups_of(TYPES, [HEAD, *workers])
    assert {group.name: group.count for group in scale_ups} == left
    assert {group.max_total for group in scale_ups} <= {5 - len(workers)}
    assert all(group.node == GPU_NODE for group in scale_ups)


def test_machines_of_ones_own_do_not_grow():
    own = {
        "max_workers": 2,
        "available_node_types": {"local.cluster.node": {"max_workers": 2, "resources": {}}},
    }
    assert scale_ups_of(own, [HEAD]) == scale_ups_of(None, [HEAD]) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in Path("search_spaces").glob("*.yaml")))
def test_every_shipped_space_fits_its_config(name):
    # The second stage starts from a run of the first, which is the user's.
    sets = ["trainer.accelerator=cpu", "common.is_restore=false"]
    check_study(SearchProblem(load_config(name, sets), load_space(name)), gpus=0)


def test_the_number_of_epochs_cannot_be_searched(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("parameters:\n  trainer.max_epochs: {type: int, low: 2, high: 8}\n")
    with pytest.raises(ConfigError, match=r"space.yaml:2: trainer.max_epochs: .*rungs are epochs"):
        check_study(SearchProblem(load_config("demo"), load_space(str(path))), gpus=0)


def test_a_study_without_a_metric_is_about_the_models_first(demo, monkeypatch):
    config, space = demo
    problem = SearchProblem(config, dataclasses.replace(space, study=StudyOptions()))
    assert resolve(problem).options.metric == "valid_fpr@4"
    monkeypatch.setattr(ClassifierModel, "SCORES", ("valid_auc", "valid_fpr@4"))
    assert resolve(problem).options.metric == "valid_auc"
    assert resolve(problem.with_options(metric="valid_fpr@4")).options.metric == "valid_fpr@4"
    monkeypatch.setattr(ClassifierModel, "SCORES", ())
    with pytest.raises(ConfigError, match=r"study\.metric: is not given, and ClassifierModel declares no"):
        resolve(problem)


def test_a_scheduler_without_a_name_looks_at_what_is_steady_early(demo):
    config, space = demo

    def looks_at(**study):
        searched = dataclasses.replace(space, study=StudyOptions.model_validate(study))
        return resolve(SearchProblem(config, searched)).options.scheduler.metric

    assert looks_at() == looks_at(scheduler={"options": {"grace_period": 2}}) == "valid_pauc@2"
    # Who asks for plain ASHA gets it.
    assert looks_at(scheduler={"name": "ASHA"}) is None
    assert looks_at(scheduler={"metric": "valid_auc"}) == "valid_auc"
    assert looks_at(metric="valid_auc") is None
