"""The winner next to the base config: on the same items, resampled together."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from otter_ray.config import Config
from otter_ray.direction import Direction
from otter_ray.export.comparison.gain import Winner, compare, gain_of
from otter_ray.export.comparison.network import Network, Score, checkpoint_network, same_labels
from otter_ray.export.comparison.optimism import expected_optimism, selection_optimism
from otter_ray.export.evaluation import evaluation_loader
from otter_ray.projects.docclassifier.metrics import bootstrap
from otter_ray.projects.docclassifier.metrics.bootstrap import replicates
from otter_ray.train.builders import build_held_out
from otter_ray.train.model.replicates import Replicates, paired_interval

METRIC = "valid_fpr@4"


def drawn(*values, units=10):
    return Replicates(np.array(values), units)


def score(value, found=None, labels=None):
    return Score(value, None, found, torch.arange(3) if labels is None else labels, None)


def test_what_both_share_does_not_widen_the_interval_of_their_difference():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(0, 0.2, 500), rng.normal(0, 0.01, 500)
    low, high = paired_interval(0.1, drawn(*(0.6 + shared + own)), drawn(*(0.5 + shared)))
    assert low == pytest.approx(0.1 - 2.262 * own.std(ddof=1), abs=1e-4)
    assert high == pytest.approx(0.2 - low)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (None, drawn(0.1, 0.2)),
        (drawn(0.1, 0.2, 0.3), drawn(0.1, 0.2)),
        (drawn(0.1, 0.2), drawn(0.1, 0.2)),  # no resample tells them apart
        (drawn(0.1, np.nan, np.nan, 0.3), drawn(0.1, 0.1, np.nan, np.nan)),
        (drawn(0.1, 0.3, units=1), drawn(0.1, 0.2, units=1)),
    ],
)
def test_without_a_spread_there_is_no_interval(first, second):
    assert paired_interval(0.0, first, second) is None


def test_less_is_gained_if_less_is_better():
    better, worse = score(0.2, drawn(0.1, 0.2, 0.3)), score(0.5, drawn(0.4, 0.5, 0.65))
    found = gain_of(better, worse, Direction.MIN)
    assert found["value"] == pytest.approx(0.3)
    assert found["interval"][0] < 0.3 < found["interval"][1]
    assert found["interval"][0] > 0.2
    assert gain_of(better, worse, Direction.MAX)["value"] == pytest.approx(-0.3)


def test_the_same_labels_are_resampled_in_the_same_way(monkeypatch):
    """However many pairs are weighed at once: models need different numbers of them."""
    rng = np.random.default_rng(0)
    labels = torch.arange(9).repeat_interleave(5)
    embeddings = torch.tensor(rng.normal(size=(9, 1, 4)) + rng.normal(size=(9, 5, 4))).reshape(-1, 4).float()
    whole = replicates(embeddings, labels, METRIC)
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 3000)
    parts = replicates(embeddings, labels, METRIC)
    assert whole.units == parts.units == 9
    assert np.ptp(whole.values) > 0
    np.testing.assert_array_equal(whole.values, parts.values)
    assert replicates(embeddings, labels, "valid_pauc@2") is None


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (torch.arange(3), torch.arange(3), True),
        (torch.arange(3), torch.tensor([0, 2, 1]), False),
        (torch.arange(3), torch.arange(4), False),
        ({"a": torch.ones(2), "b": ["x"]}, {"a": torch.ones(2), "b": ["x"]}, True),
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, False),
        ((torch.ones(2), ["x", "y"]), (torch.ones(2), ["x", "z"]), False),
        (["x"], torch.ones(1), False),
        (torch.tensor([1, math.nan]), torch.tensor([1, math.nan]), True),
        (torch.tensor([1, math.nan]), torch.tensor([math.nan, 1]), False),
        (torch.tensor([1.0]), torch.tensor([1.0000001]), False),
    ],
)
def test_labels_are_compared_by_their_content(first, second, same):
    assert same_labels(first, second) == same


@pytest.fixture(scope="module")
def network(tiny_run):
    return checkpoint_network(tiny_run.best, None, as_onnx=True)


@pytest.fixture(scope="module")
def winner(network):
    valid, test = build_held_out(network.config)
    predictions = network.predict(evaluation_loader(network.config, valid))
    return Winner(network, METRIC, valid, predictions, test)


class Blurred:
    """A network whose outputs lose most of what they hold."""

    def __init__(self, network):
        self.network = network

    def __call__(self, inputs):
        return [output.round(decimals=1) for output in self.network.run(inputs)]


def test_both_are_measured_on_both_splits(network, winner):
    base = replace(network, run=Blurred(network))
    found = compare(base, winner, Direction.MAX)
    facts, own = found.facts, network.score(winner.predictions, METRIC)
    assert facts["unpaired"] == ""
    assert facts["gain"]["value"] == pytest.approx(own.value - facts["value"])
    assert facts["test"]["value"] != facts["value"]
    assert facts["test_gain"] is not None
    assert found.valid is winner.valid


def test_other_labels_are_no_pair(network, winner):
    class Renamed(type(network.model)):
        def exported_batch(self, batch):
            inputs, labels = super().exported_batch(batch)
            return inputs, labels + 1

    renamed = Renamed(network.config)
    # Of the same class as the winner's, and with labels of its own.
    renamed.__class__ = type("ClassifierModel", (Renamed,), {})
    base = Network(network.config, renamed, network.run)
    other = replace(winner, network=replace(network, model=renamed))
    facts = compare(base, other, Direction.MAX).facts
    assert facts["gain"] is None
    assert facts["unpaired"] == "the labels of base and winner differ"


def test_models_of_other_sizes_are_paired_by_the_names_of_their_documents(network, winner):
    """Their labels are always 0, 1, 2, whatever the documents are."""
    data = network.config.to_dict()
    for section in ("common", "global_settings"):
        data[section]["image_size"] = [40, 40]
    data["onnx"]["input_shape"]["img"]["shape"] = [1, 3, 40, 40]
    larger = Config.from_dict(data, "demo")

    def run(inputs):
        assert inputs[0].shape[-1] == 40
        return network.run([torch.nn.functional.interpolate(inputs[0], (32, 32))])

    base = Network(larger, network.model, run)
    facts = compare(base, winner, Direction.MAX).facts
    assert (facts["gain"] is None) == bool(facts["unpaired"])
    # The space has changed the set: the same labels and documents do not make them the same photographs.
    other = larger.with_values({"dataset.valid_options.options.strength": 0.123})
    facts = compare(replace(base, config=other), winner, Direction.MAX).facts
    assert facts["gain"] is None
    differ = "take different inputs, and their configs differ in dataset.valid_options"
    assert facts["unpaired"] == f"base and winner {differ}"
    # Those that take the same inputs see the winner's set.
    shared = replace(
        network, config=network.config.with_values({"dataset.valid_options.options.strength": 0.123})
    )
    assert compare(shared, winner, Direction.MAX).facts["unpaired"] == ""


@pytest.mark.parametrize("direction", Direction)
def test_the_best_of_equals_is_too_good_by_what_chance_gives_it(direction):
    rng = np.random.default_rng(0)
    models = [Replicates(rng.normal(0.5, 0.1, 4000), 10) for _ in range(5)]
    found = expected_optimism([0.5] * 5, models, direction)
    assert found == pytest.approx(0.1163, abs=0.005)  # the expectation of the largest of five normal ones
    # One that is far better is chosen in every resample.
    assert expected_optimism([0.5, 0.5 + 9 * direction.sign], models[:2], direction) == pytest.approx(
        0, abs=1e-9
    )
    assert expected_optimism([0.5], models[:1], direction) is None


def test_models_are_chosen_among_as_long_as_there_is_time(network, winner):
    def load_old():
        raise RuntimeError("Error(s) in loading state_dict")

    def load():
        return replace(network, run=Blurred(network))

    others = [load, load_old, load]
    found = selection_optimism(winner, others, Direction.MAX)
    assert found["models"] == 3
    assert found["optimism"] >= 0
    assert selection_optimism(winner, others, Direction.MAX, seconds=-1) is None
