"""Mistakes that only a start can see: one clear message, exit code 2, and nothing is left behind."""

import pytest
import yaml


def space_file(folder, parameters, **study):
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"parameters": parameters, "study": study}))
    return path


@pytest.fixture
def refused(tune_here, tmp_path):
    """Runs a command that must be refused; gives its message."""

    def run(*arguments):
        code, output = tune_here(*arguments, folder=tmp_path)
        return refusal(code, output, tmp_path)

    return run


def refusal(code, output, folder):
    """The message of a command that was refused and left nothing."""
    assert code == 2, output
    assert "Traceback" not in output
    assert not list(folder.glob("runs/*/*"))
    return output


LR = {"optimizer.options.lr": {"type": "float", "low": 1e-3, "high": 1e-2}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--set", "trainer.max_epoch=3"], ["trainer.max_epoch", "max_epochs"]),
        (["demo", "--set", "model.backbone.options.name=timm_lcnet_05"], ["lcnet_05", "lcnet_050"]),
        (["demo", "--set", "dataset.valid_options.options.root=/nowhere", "--set",
          "dataset.valid_options.options.drawn=0"], ["/nowhere", "dataset.valid_options.options.root"]),
        (["demo", "--set", "callbacks.0.options.monitor=valid_fpr4"], ["valid_fpr4", "valid_fpr@4"]),
    ],
)  # fmt: skip
def test_a_mistake_in_the_command(refused, arguments, words):
    message = refused(*arguments)
    assert all(word in message for word in words), message


def test_a_gpu_without_a_share_of_it(refused, tmp_path):
    space = space_file(tmp_path, LR, resources={"gpus_per_worker": 0})
    message = refused("demo", "--set", "trainer.accelerator=gpu", "--space", space)
    assert "trainer.accelerator: 'gpu' but study.resources.gpus_per_worker is 0" in message


def test_an_empty_folder_and_one_without_images(refused, tiny_sets, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    roots = [
        "--set",
        f"dataset.valid_options.options.root={folder}",
        "--set",
        "dataset.valid_options.options.drawn=0",
    ]
    assert str(folder) in refused("demo", *tiny_sets, *roots)
    (folder / "a.jpg").write_bytes(b"no image")
    assert str(folder) in refused("demo", *tiny_sets, *roots)


def test_a_folder_that_cannot_be_written(refused, tiny_sets, tmp_path):
    (tmp_path / "file").touch()
    assert "--runs" in refused("demo", *tiny_sets, "--runs", tmp_path / "file")


def test_a_branch_with_impossible_data_is_refused(refused, tiny_sets, tmp_path):
    key = "dataset.train_options.options.aug_func"
    space = space_file(tmp_path, {key: {"type": "categorical", "choices": ["DefaultImageAug", "CapturAug"]}})
    assert "CapturAug" in refused("demo", *tiny_sets, "--space", space)


def test_data_that_a_branch_switches_on_in_common_is_looked_at(refused, tiny_sets, tmp_path):
    space = space_file(tmp_path, {"common.use_imagenet": {"type": "categorical", "choices": [False, True]}})
    assert "imagenet_root is not set" in refused("demo", *tiny_sets, "--space", space)


def test_a_mistake_that_is_found_on_a_ray_of_its_own(tune, tmp_path):
    ended = tune("demo", "--set", "trainer.accelerator=gpu", folder=tmp_path).end()
    message = refusal(*ended, tmp_path)
    assert all(word in message for word in ("trainer.accelerator", "auto", "cpu")), message
