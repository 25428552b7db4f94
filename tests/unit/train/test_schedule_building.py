"""Learning rate schedules of otter_ray, torch and timm, built by their names."""

import io

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from otter_ray.errors import ConfigError
from otter_ray.train.schedule.schedule_building import RunLength, build_schedule, schedule_problems, step_timm

PEAK = 0.1
STEPS = 40
EPOCHS = 4
LINEAR = {"name": "LinearLR", "options": {"start_factor": 0.1, "total_iters": 10}}
COSINE = {"name": "CosineAnnealingLR", "options": {"T_max": -1}}
# (name, options): every -1 means the run's length.
SCHEDULES = [
    ("PolynomialLRWarmup", {"warmup_iters": -1, "total_iters": -1}),
    ("CosineAnnealingLR", {"T_max": -1}),
    ("CosineAnnealingWarmRestarts", {"T_0": -1}),
    ("OneCycleLR", {"max_lr": PEAK, "total_steps": -1}),
    ("OneCycleLR", {"max_lr": PEAK, "epochs": -1, "steps_per_epoch": -1}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": -1}),
    ("PolynomialLR", {"total_iters": -1}),
    ("MultiStepLR", {"milestones": [10, 20]}),
    ("SequentialLR", {"schedulers": [LINEAR, COSINE], "milestones": [10]}),
    ("ChainedScheduler", {"schedulers": [LINEAR, COSINE]}),
    ("CosineLRScheduler", {"t_initial": -1, "warmup_t": -1, "warmup_lr_init": 0.001}),
    ("PolyLRScheduler", {"t_initial": -1}),
    ("StepLRScheduler", {"decay_t": 10}),
    ("TanhLRScheduler", {"t_initial": -1}),
]


def sgd():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)


def with_schedule(config, name, options, **pl_options):
    return config.with_values(
        {"lr_scheduler": {"name": name, "options": options, "pl_options": {"interval": "step", **pl_options}}}
    )


def rates(optimizer, schedule, steps=STEPS, done=0):
    """The rate that each of the next steps trains with."""
    seen = []
    for step in range(done, done + steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if hasattr(schedule, "step_update"):
            step_timm(schedule, 0, step + 1, None)
        else:
            schedule.step()
    return seen


def built(config):
    optimizer = sgd()
    length = RunLength.of(config.with_values({"trainer.max_epochs": EPOCHS}), STEPS // EPOCHS)
    return optimizer, build_schedule(config, optimizer, length)["scheduler"]


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_a_checkpoint_holds_the_schedule_and_it_goes_on(tiny_config, name, options):
    """Checkpoints are plain data: they are read with `weights_only`."""
    config = with_schedule(tiny_config, name, options)
    whole = rates(*built(config))
    optimizer, schedule = built(config)
    before = rates(optimizer, schedule, 15)
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), schedule.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    optimizer, schedule = built(config)
    optimizer.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    assert before + rates(optimizer, schedule, STEPS - 15, done=15) == pytest.approx(whole)
    assert schedule_problems(config) == []


@pytest.mark.parametrize(
    ("name", "options"), [case for case in SCHEDULES if -1 in case[1].values() and case[0] != "LinearLR"]
)
def test_minus_one_ends_where_the_run_ends(tiny_config, name, options):
    """The rate falls until the last step. It once went up and down with a period of two steps."""
    seen = rates(*built(with_schedule(tiny_config, name, options)))
    falling = seen[seen.index(max(seen)) :]
    assert falling == sorted(falling, reverse=True)
    assert 0 < falling[-1] < 0.2 * PEAK


def test_cosine_equals_torchs_over_the_whole_run(tiny_config):
    optimizer = sgd()
    expected = rates(optimizer, CosineAnnealingLR(optimizer, T_max=STEPS))
    assert rates(*built(with_schedule(tiny_config, "CosineAnnealingLR", {"T_max": -1}))) == expected


def test_epochs_are_counted_where_the_schedule_goes_by_epochs(tiny_config):
    config = with_schedule(tiny_config, "CosineAnnealingLR", {"T_max": -1}, interval="epoch")
    assert built(config)[1].T_max == EPOCHS
    every_other = with_schedule(tiny_config, "CosineAnnealingLR", {"T_max": -1}, frequency=2)
    assert built(every_other)[1].T_max == STEPS / 2
    timm = with_schedule(tiny_config, "CosineLRScheduler", {"t_initial": -1}, interval="epoch")
    optimizer, schedule = built(timm)
    assert isinstance(schedule, CosineLRScheduler)
    step_timm(schedule, 2, 20, None)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(PEAK / 2)


def test_the_parts_of_a_sequence_share_its_length(tiny_config):
    optimizer = sgd()
    parts = [
        LinearLR(optimizer, start_factor=0.1, total_iters=10),
        CosineAnnealingLR(optimizer, T_max=STEPS - 10),
    ]
    expected = rates(optimizer, SequentialLR(optimizer, parts, milestones=[10]))
    config = with_schedule(tiny_config, "SequentialLR", {"schedulers": [LINEAR, COSINE], "milestones": [10]})
    assert rates(*built(config)) == expected


def test_a_function_of_the_project_is_found_by_its_name(tiny_config, tmp_path, monkeypatch):
    source = "from otter_ray.projects.docclassifier import *\ndef halving(step): return 0.5 ** step\n"
    (tmp_path / "halving_project.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = with_schedule(tiny_config, "LambdaLR", {"lr_lambda": "halving"})
    config = config.with_values({"project": "halving_project"})
    assert rates(*built(config), 3) == pytest.approx([PEAK, PEAK / 2, PEAK / 4])


def test_the_steps_of_a_run_whose_accumulation_changes(tiny_config):
    scheduler = {"name": "GradientAccumulationScheduler", "options": {"scheduling": {"0": 4, "2": 3}}}
    config = tiny_config.with_values({"callbacks": [scheduler], "trainer.max_epochs": 3})
    config = with_schedule(config, *SCHEDULES[0])
    assert RunLength.of(config, batches=8) == RunLength(3, 2 + 2 + 3, ticks=7)
    config = with_schedule(tiny_config, *SCHEDULES[0])
    assert RunLength.of(config, batches=8) == RunLength(2, 16, ticks=16)
    short = config.with_sets(["trainer.max_steps=10"])
    assert RunLength.of(short, batches=8) == RunLength(2, 10, ticks=10)


@pytest.mark.parametrize(
    ("batches", "accumulated", "frequency", "most", "ticks"),
    [
        (7, 1, 2, -1, 2 * 3),  # after the batches 2, 4, 6
        (7, 2, 3, -1, 2 * 1),  # steps after 2, 4, 6, 7
        (9, 2, 3, -1, 2 * 2),  # steps after 2, 4, 6, 8, 9
        (9, 2, 3, 8, 3),  # the second epoch ends after its batch 6
        (3, 1, 4, -1, 1),
    ],
)
def test_lightning_steps_a_schedule_where_the_frequency_divides_the_batch(
    tiny_config, batches, accumulated, frequency, most, ticks
):
    config = tiny_config.with_values(
        {"trainer.accumulate_grad_batches": accumulated, "trainer.max_steps": most}
    )
    by_step = with_schedule(config, "CosineAnnealingLR", {"T_max": -1}, frequency=frequency)
    assert RunLength.of(by_step, batches).ticks == ticks
    timm = with_schedule(config, "CosineLRScheduler", {"t_initial": -1}, frequency=frequency)
    length = RunLength.of(timm, batches)
    assert length.ticks == length.steps


def test_the_steps_of_an_epoch_are_enough_for_the_run(tiny_config):
    config = with_schedule(tiny_config, "OneCycleLR", {"max_lr": PEAK, "epochs": -1, "steps_per_epoch": -1})
    assert build_schedule(config, sgd(), RunLength(2, 7, 7))["scheduler"].total_steps == 8


def test_what_a_class_refuses_is_one_problem(tiny_config):
    config = with_schedule(tiny_config, "PolynomialLRWarmup", {"warmup_iters": 50, "total_iters": -1})
    with pytest.raises(ConfigError, match=r"lr_scheduler.options: .*warmup_iters is 50 but .* \(40\)"):
        built(config)


@pytest.mark.parametrize(
    ("name", "options", "pl_options", "key", "says"),
    [
        (
            "StepLR",
            {"step_size": -1},
            {},
            "options.step_size",
            "is -1, but -1 means the run's length only",
        ),
        ("MultiStepLR", {"milestones": [3, -1]}, {}, "options.milestones", "is [3, -1], but -1 means"),
        ("StepLR", {"step_size": 3, "last_epoch": -1}, {}, None, ""),
        (
            "SequentialLR",
            {"schedulers": [{"name": "CosineLRScheduler", "options": {"t_initial": 3}}], "milestones": []},
            {},
            "options.schedulers.0.name",
            "torch's schedules cannot step it",
        ),
        (
            "SequentialLR",
            {"schedulers": [{"name": "ConstntLR"}], "milestones": []},
            {},
            "options.schedulers.0.name",
            "Did you mean 'ConstantLR'",
        ),
        (
            "SequentialLR",
            {"schedulers": [{"name": "ConstantLR", "options": {"factr": 2}}], "milestones": []},
            {},
            "options.schedulers.0.options.factr",
            "Did you mean 'factor'",
        ),
        ("ChainedScheduler", {"schedulers": ["ConstantLR"]}, {}, "options.schedulers.0", "{name: LinearLR"),
        ("ReduceLROnPlateau", {}, {"interval": "epoch"}, "pl_options.monitor", "waits for a metric"),
        (
            "ReduceLROnPlateau",
            {},
            {"monitor": "valid_fpr@4"},
            "pl_options.interval",
            "known only after an epoch's validation",
        ),
        ("ReduceLROnPlateau", {}, {"monitor": "valid_fpr@4", "interval": "epoch"}, None, ""),
        (
            "StepLR",
            {"step_size": 3},
            {"intervall": "step"},
            "pl_options.intervall",
            "Did you mean 'interval'",
        ),
        ("StepLR", {"step_size": 3}, {"interval": "batch"}, "pl_options.interval", "Give step or epoch"),
        ("StepLR", {"step_size": 3}, {"frequency": 0}, "pl_options.frequency", "a whole number >= 1"),
        ("CosineLRScheduler", {"t_initial": -1, "t_in_epochs": True}, {}, "options.t_in_epochs", "Remove it"),
        ("PlateauLRScheduler", {}, {}, "name", "Use torch's ReduceLROnPlateau"),
    ],
)
def test_what_is_wrong_whatever_the_length(tiny_config, name, options, pl_options, key, says):
    problems = schedule_problems(with_schedule(tiny_config, name, options, **pl_options))
    assert [problem.key for problem in problems] == ([] if key is None else [f"lr_scheduler.{key}"])
    assert all(says in problem.message for problem in problems)
