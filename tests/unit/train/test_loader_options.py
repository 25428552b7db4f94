"""Objects of a data loader, by the names of the project's classes and functions."""

import pytest
import torch

from otter_ray.errors import ConfigError
from otter_ray.train.builders import build_dataloader
from otter_ray.train.loader_options import named_flaws, with_objects

PROJECT = """
import torch
from otter_ray.projects.docclassifier import *

def pairs(items, scale=1):
    return torch.tensor(items) * scale

class Padding:
    def __init__(self, value):
        self.value = value
    def __call__(self, items):
        return [*items, self.value]

class Backwards(torch.utils.data.Sampler):
    def __init__(self, dataset, first=0):
        self.dataset, self.first = dataset, first
    def __iter__(self):
        return iter(range(len(self.dataset) - 1, self.first - 1, -1))
    def __len__(self):
        return len(self.dataset) - self.first

class Halves:
    def __init__(self, dataset, batch_size):
        self.dataset, self.batch_size = dataset, batch_size
    def __iter__(self):
        yield [*range(self.batch_size)]
    def __len__(self):
        return 1
"""


@pytest.fixture
def loaded(tiny_config, tmp_path, monkeypatch):
    """The batches that a loader with these options gives of the numbers 0 to 9, four at once."""
    (tmp_path / "loading_project.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(**options):
        config = tiny_config.with_values(
            {
                "project": "loading_project",
                "common.batch_size": 4,
                "dataloader.train_options": {"batch_size": -1, **options},
            }
        )
        assert [*named_flaws(config.dataloader.train_options, "loading_project")] == []
        filled = with_objects(config, "train_options", range(10))
        return [*build_dataloader(range(10), filled, 4, cpus=1)]

    return load


def test_a_function_joins_the_items(loaded):
    assert loaded(collate_fn="pairs")[0].tolist() == [0, 1, 2, 3]
    doubled = loaded(collate_fn={"name": "pairs", "options": {"scale": 2}})
    assert doubled[0].tolist() == [0, 2, 4, 6]


def test_an_object_of_a_class_joins_the_items(loaded):
    assert loaded(collate_fn={"name": "Padding", "options": {"value": 7}})[0] == [0, 1, 2, 3, 7]


def test_a_sampler_is_built_with_the_data(loaded):
    batches = loaded(sampler="Backwards", shuffle=False)
    assert torch.cat(batches).tolist() == [*range(9, -1, -1)]
    assert sum(map(len, loaded(sampler={"name": "Backwards", "options": {"first": 3}}))) == 7
    assert len(loaded(sampler="SequentialSampler")) == 3


def test_a_sampler_of_batches_gets_their_size(loaded):
    assert [batch.tolist() for batch in loaded(batch_sampler="Halves")] == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        ({"collate_fn": "pair"}, "collate_fn", "no class or function 'pair'"),
        ({"collate_fn": 3}, "collate_fn", "Name a class or function of the project"),
        (
            {"sampler": {"name": "RandomSampler", "options": {"replace": True}}},
            "sampler.options.replace",
            "Did you mean 'replacement'",
        ),
        ({"sampler": "RandomSampler", "shuffle": True}, "shuffle", "the sampler decides it"),
        ({"batch_sampler": "RandomSampler", "drop_last": True}, "drop_last", "the batch_sampler decides it"),
        ({"generator": 3}, "generator", "no config can name"),
    ],
)
def test_a_name_that_does_not_fit(options, key, says):
    ((found, message),) = named_flaws(options, "docclassifier")
    assert found == key
    assert says in message


def test_what_only_the_data_tells_is_one_problem(tiny_config):
    sampler = {"name": "RandomSampler", "options": {"num_samples": -3}}
    config = tiny_config.with_values({"dataloader.train_options.sampler": sampler})
    with pytest.raises(ConfigError, match=r"dataloader.train_options.sampler: RandomSampler refuses its"):
        with_objects(config, "train_options", range(10))
