"""What only the number of items tells is told before a run starts."""

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from otter_ray.errors import ConfigError
from otter_ray.train.checks.epoch_checks import check_epochs, check_loader

ITEMS = 80  # five batches of 16


def refused(config, changes, items=ITEMS, workers=1):
    with pytest.raises(ConfigError) as caught:
        check_epochs(config.with_sets(changes), range(items), workers)
    (problem,) = caught.value.problems
    return f"{problem.key}: {problem.message}"


def test_a_validation_that_is_not_at_the_epochs_end(tiny_config):
    check_epochs(tiny_config.with_sets(["trainer.val_check_interval=0.5"]), range(96))
    text = refused(tiny_config, ["trainer.val_check_interval=0.5"])
    assert "0.5 validates after every 2 of an epoch's 5 batches" in text
    check_epochs(tiny_config.with_sets(["trainer.val_check_interval=5"]), range(ITEMS))
    assert "divides them: 1" in refused(tiny_config, ["trainer.val_check_interval=10"])


def test_a_run_that_ends_within_its_first_epoch(tiny_config):
    check_epochs(tiny_config.with_sets(["trainer.max_steps=5"]), range(ITEMS))
    assert "4 ends the run within its first epoch of 5 steps" in refused(tiny_config, ["trainer.max_steps=4"])
    two = ["trainer.accumulate_grad_batches=2", "trainer.max_steps=3"]
    check_epochs(tiny_config.with_sets(two), range(ITEMS))


@pytest.mark.parametrize("limit", ["0", "0.0", "0.1"])
def test_an_epoch_without_a_batch(tiny_config, limit):
    text = refused(tiny_config, [f"trainer.limit_train_batches={limit}"])
    assert text.startswith("trainer.limit_train_batches: is 0")
    assert "common.batch_size: 16 is more than" in refused(
        tiny_config, ["dataloader.train_options.drop_last=true"], items=8
    )


def test_a_schedule_that_the_run_is_too_short_for(tiny_config):
    changes = ["lr_scheduler.options.warmup_iters=30", "lr_scheduler.options.total_iters=-1"]
    assert "warmup_iters is 30 but must be >= 0 and < total_iters (10)" in refused(tiny_config, changes)


def test_a_last_batch_of_one_that_the_model_cannot_train_on(tiny_config):
    whole = "dataloader.train_options.drop_last=false"
    text = refused(tiny_config, [whole], items=ITEMS + 1)
    assert text.startswith(
        "dataloader.train_options.drop_last: is false, so an epoch of 81 items ends with a"
    )
    assert "Expected more than 1 value per channel" in text
    check_epochs(tiny_config.with_sets([whole]), range(ITEMS + 2))
    check_epochs(tiny_config.with_sets(["dataloader.train_options.drop_last=true"]), range(ITEMS + 1))
    check_epochs(tiny_config.with_sets([whole, "trainer.limit_train_batches=5"]), range(ITEMS + 1))


def test_a_check_draws_no_random_numbers_of_the_run(tiny_config):
    before = torch.random.get_rng_state()
    check_epochs(tiny_config.with_sets(["dataloader.train_options.drop_last=false"]), range(ITEMS))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_each_of_several_workers_has_its_share(tiny_config):
    """161 items are 81 for each of two workers, and five batches and one item."""
    whole = "dataloader.train_options.drop_last=false"
    check_epochs(tiny_config.with_sets([whole]), range(162 + 2), workers=2)
    assert "an epoch of 81 items" in refused(tiny_config, [whole], items=161, workers=2)
    assert "cannot share items out among 2 workers" in refused(
        tiny_config, ["dataloader.train_options.sampler=SequentialSampler"], workers=2
    )


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(ITEMS + 1))


class LongStream(Stream):
    def __len__(self):
        return ITEMS + 1


class Order:
    """A sampler that does not say how many items it gives."""

    def __iter__(self):
        return iter(range(ITEMS))


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        (DataLoader(range(ITEMS), 16, sampler=Order()), "train_options: cannot be counted in batches"),
        (DataLoader(Stream(), 16), "train_options: cannot be counted in batches"),
        (DataLoader(LongStream(), 16), "train_options.drop_last: is false, so an epoch of 81 items"),
        (DataLoader(range(ITEMS), batch_sampler=[]), "train_options.batch_sampler: gives no batch"),
    ],
    ids=["sampler without a length", "stream", "stream with a length", "no batch"],
)
def test_a_loader_of_objects_of_the_project(tiny_config, loader, says):
    with pytest.raises(ConfigError, match=f"dataloader.{says}"):
        check_loader(tiny_config, loader)


def test_a_schedule_may_have_a_rate_for_each_group(tiny_config):
    """Weights that decay are one group, and those that do not are another."""
    schedule = (
        "{name: OneCycleLR, options: {max_lr: [0.1, 0.2], total_steps: -1}, pl_options: {interval: step}}"
    )
    check_epochs(
        tiny_config.with_sets([f"lr_scheduler={schedule}", "optimizer.options.weight_decay=0.1"]),
        range(ITEMS),
    )
