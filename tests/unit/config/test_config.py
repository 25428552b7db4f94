from __future__ import annotations

import copy
import pickle

import pytest

from otter_ray.config import Config, load_config, to_yaml
from otter_ray.errors import ConfigError

IN_DIM, MAP_SIZE = "model.head.options.in_dim", "model.head.options.feature_map_size"


def test_round_trips(seed, write):
    assert Config.from_dict(seed.to_dict(), name="seed") == seed
    assert load_config(write(to_yaml(seed))).to_dict() == seed.to_dict()
    assert pickle.loads(pickle.dumps(seed)) == seed
    assert pickle.loads(pickle.dumps(seed)).problem("trainer", "").line == seed.problem("trainer", "").line
    assert Config.from_dict(seed.to_dict(), name="other") != seed


def test_the_yaml_is_readable(seed):
    text = to_yaml(seed)
    assert "image_size: [128, 128]" in text
    assert "null" not in text
    sections = [line.rstrip(":").split(":")[0] for line in text.splitlines() if line[0].isalpha()]
    assert sections[:4] == ["project", "common", "global_settings", "trainer"]
    assert sections[-2:] == ["callbacks", "logger"]


@pytest.mark.parametrize(
    "value", ["1e-3", "yes", "", "0", "a: b", "é\n語", "=", "<<", "2024-01-01", 1e-05, None, {}, []]
)
def test_every_value_survives_yaml(seed, write, value):
    changed = seed.with_values({"logger.options.x": value})
    assert load_config(write(to_yaml(changed))).get("logger.options.x") == value


def test_to_dict_is_a_copy(seed):
    data = seed.to_dict()
    data["model"]["loss"]["options"]["m"] = 9
    data["trainer"]["devices"].append(7)
    assert seed.get("model.loss.options.m") == 0.4
    assert seed.trainer.devices == [0]


def test_get_and_has(seed):
    assert seed.get("callbacks.0.options.monitor") == "valid_fpr@4"
    assert seed.get("onnx.dynamic_axes.img.0") == "batch_size"
    assert seed.get("common.seed") == 0
    assert seed.get("model.loss.num_classes") == -1
    assert not seed.has("quantize")
    assert not seed.has("callbacks.4")
    assert not seed.has("common..seed")
    with pytest.raises(ConfigError, match=r"seed\.yaml:39: model\.loss\.options\.z"):
        seed.get("model.loss.options.z")


def test_what_get_returns_is_a_copy(seed):
    seed.get("common")["image_size"].append(1)
    assert seed.get("common.image_size") == seed.to_dict()["common"]["image_size"] == [128, 128]


def test_problem_has_the_line_of_the_nearest_key(seed, seed_text):
    lines = seed_text.splitlines()
    assert lines[seed.problem("optimizer.options.lr", "x").line - 1].strip() == "lr: 0.001"
    assert lines[seed.problem("optimizer.options.momentum", "x").line - 1].strip() == "options:"
    assert lines[seed.problem("callbacks.2.options.max_depth", "x").line - 1].strip() == "max_depth: 3"
    assert seed.problem("nowhere", "x").line == 1


def test_with_values_changes_a_copy(seed):
    before = copy.deepcopy(seed.to_dict())
    changed = seed.with_values({"optimizer.options.lr": 1, "trainer.devices": (0, 1)})
    assert changed.optimizer.options["lr"] == 1
    assert changed.trainer.devices == [0, 1]
    assert changed.name == "seed"
    assert changed.problem("optimizer.options.lr", "").file is None
    assert (
        changed.problem("optimizer.options.betas", "").line
        == seed.problem("optimizer.options.betas", "").line
    )
    assert seed.to_dict() == before


def test_with_values_reports_all_problems(seed):
    with pytest.raises(ConfigError) as caught:
        seed.with_values({"trainer.max_epochs": 0, "model.los.m": 1, "x": object(), "callbacks.8": 1})
    assert {fault.key for fault in caught.value.problems} == {
        "trainer.max_epochs",
        "model.los",
        "x",
        "callbacks.8",
    }
    assert all(fault.file is None for fault in caught.value.problems)


@pytest.mark.parametrize(
    ("values", "in_dim", "map_size"),
    [
        ({"model.backbone.options.name": "resnet18"}, -1, -1),
        ({"model.backbone.options.name": "resnet18", IN_DIM: 512}, 512, -1),
        ({"model.backbone.name": "X", "model.head.options": {"in_dim": 7}}, 7, None),
        ({"optimizer.options.lr": 0.1}, 256, 4),
        (
            {
                "common.image_size": [64, 64],
                "global_settings.image_size.0": 64,
                "global_settings.image_size.1": 64,
                "onnx.input_shape.img.shape": [1, 3, 64, 64],
            },
            -1,
            -1,
        ),
        ({"onnx.input_shape.img.shape.0": 2}, -1, -1),
    ],
)
def test_derived_keys_follow(seed, values, in_dim, map_size):
    changed = seed.with_values(values)
    assert changed.get(IN_DIM) == in_dim
    assert (changed.get(MAP_SIZE) if changed.has(MAP_SIZE) else None) == map_size


def test_derived_keys_are_not_invented(seed):
    bare = seed.with_values({"model.head.options": {"embed_dim": 256}})
    assert not bare.with_values({"model.backbone.options.name": "resnet18"}).has(IN_DIM)


def test_loading_leaves_derived_keys_alone(write, seed_text):
    config = load_config(write(seed_text), ["model.backbone.options.name=resnet18"])
    assert config.get(IN_DIM) == 256


def test_from_dict_refuses(seed):
    with pytest.raises(ConfigError, match=r"^trainer.max_epochs: 'ten' is not an integer"):
        Config.from_dict(seed.to_dict() | {"trainer": {"max_epochs": "ten"}})
    with pytest.raises(ConfigError, match="cannot be written as YAML"):
        Config.from_dict({"common": object()})


def test_with_sets_is_with_values_for_texts(seed):
    assert seed.with_sets(["optimizer.options.lr=1e-2"]) == seed.with_values({"optimizer.options.lr": 0.01})
    with pytest.raises(ConfigError, match=r"--set: trainer\.max_epochs: 'ten' is not an integer"):
        seed.with_sets(["trainer.max_epochs=ten"])


LR = "optimizer.options.lr"
SCHEDULE = [{"epochs": 3, "values": {LR: 0.5}}, {"epochs": 5, "values": {LR: 0.25}}]


def test_a_schedule_says_what_holds_in_an_epoch(seed, write):
    config = seed.with_values({"trainer.max_epochs": 9, LR: 0.125, "schedule": SCHEDULE})
    rates = [config.during(epoch).get(LR) for epoch in range(1, 10)]
    assert rates == [0.5] * 3 + [0.25] * 2 + [0.125] * 4
    assert config.during(1).schedule is None
    assert load_config(str(write(to_yaml(config)))).schedule == config.schedule


@pytest.mark.parametrize(
    ("schedule", "key", "says"),
    [
        (
            [SCHEDULE[1], SCHEDULE[0]],
            "schedule.1.epochs",
            "is 3 but must be above 5 (the phase before) and below 9",
        ),
        ([{"epochs": 9, "values": {LR: 0.5}}], "schedule.0.epochs", "below 9"),
        ([{"epochs": 0, "values": {LR: 0.5}}], "schedule.0.epochs", "Give a whole number >= 1."),
        ([{"epochs": 2, "values": {"common.seed": 5}}], "schedule.0.values.common.seed", "nothing else can"),
        ([{"epochs": 2, "values": {f"{LR}s": 5}}], f"schedule.0.values.{LR}s", "nothing else can"),
        ([{"epochs": 2, "values": {LR: 0}}], f"schedule.0.values.{LR}", "Give two numbers > 0."),
        ([{"epochs": 2, "values": {LR: "high"}}], f"schedule.0.values.{LR}", "Give two numbers > 0."),
        ([{"epoch": 2, "values": {}}], "schedule.0.epoch", "Did you mean 'epochs'"),
    ],
)
def test_a_schedule_that_cannot_be(seed, schedule, key, says):
    with pytest.raises(ConfigError) as caught:
        seed.with_values({"trainer.max_epochs": 9, "schedule": schedule})
    messages = {fault.key.replace('"', ""): fault.message for fault in caught.value.problems}
    assert says in messages[key]
