import pytest
import torch

from otter_ray.errors import TrainingError
from otter_ray.train.builders import build_model
from otter_ray.train.checkpoint.checkpoint_io import (
    describe_checkpoint,
    differing_keys,
    load_weights,
    read_checkpoint,
    summarize_keys,
)


def test_keys_differ_by_name_and_by_shape():
    own = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}
    weights = {"a": torch.zeros(2), "b": torch.zeros(4), "d": torch.zeros(1)}
    assert differing_keys(own, weights) == ["b", "c", "d"]
    assert summarize_keys(["b", "c", "d"]) == "b, c, d (3 keys)"
    assert summarize_keys(list("abcdefg")) == "a, b, c, d, e ... (7 keys)"


def test_a_checkpoint_says_what_is_known_of_its_epoch(tiny_run, tmp_path):
    record = read_checkpoint(tiny_run.best)
    assert describe_checkpoint(tiny_run.best) == (
        f"{tiny_run.best} (epoch {record['epoch'] + 1}, valid_fpr@4 {record['metrics']['valid_fpr@4']:.4f})"
    )
    bare = tmp_path / "bare.ckpt"
    torch.save({"state_dict": {}}, bare)
    assert describe_checkpoint(bare) == str(bare)


def test_what_is_not_plain_data_is_never_unpickled(tiny_config, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("exploded").touch, ())

    torch.save({"state_dict": {}, "bomb": Bomb()}, tmp_path / "bomb.ckpt")
    model = build_model(tiny_config.with_values({"model.loss.num_classes": 5}))
    with pytest.raises(
        TrainingError,
        match=r"bomb.ckpt is not loaded: .* Python objects, .*Use a checkpoint that otter_ray wrote",
    ):
        load_weights(model, tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_every_checkpoint_of_a_run_holds_plain_data_only(tiny_run):
    found = list(tiny_run.folder.rglob("*.ckpt"))
    assert {"best.ckpt", "last.ckpt"} < {path.name for path in found}
    for path in found:
        assert torch.load(path, weights_only=True)["state_dict"]
