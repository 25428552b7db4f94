"""`Study.of`: classes of a program, and no file. They travel to the workers of the program's own Ray."""

import importlib.util
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from otter_ray import Study
from otter_ray.config.given import GIVEN, LOADERS, given_to
from otter_ray.errors import ConfigError
from otter_ray.train.checks.validation import check_config
from tests.support.plain_digits import Blobs, LitBlobs

SCRIPT = """
from functools import partial
from optuna.distributions import FloatDistribution
from otter_ray import Study
from tests.support.plain_digits import Blobs, LitBlobs

SCALE = 2.0

class Mine(LitBlobs):
    def forward(self, x):
        return SCALE * super().forward(x)

class Data(Blobs):
    pass

if __name__ == "__main__":
    study = Study.of(
        Mine, Data(count=48), metric="val_acc", max_epochs=1, trials=2, name="s",
        trainer={"accelerator": "cpu"},
        space={"lr": FloatDistribution(1e-3, 1e-1, log=True)}, quiet=True,
    )
    Study.of(Mine, Data(count=24), metric="val_acc", max_epochs=1, space={"lr": [0.01, 0.1]})  # another one
    result = study.run()
    assert result.best.facts["gate"]["images"] == 12, "trained on the other study's data"
    assert type(result.load()) is Mine
    print("best", result.best.params, result.best.onnx.name, result.best.facts["gate"]["unmeasured"] == "")
    assert "iframe" in result._repr_html_()
"""


def test_classes_of_a_script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best {" in done.stdout
    assert done.stdout.rstrip().endswith("True")
    config = (tmp_path / "runs" / "Mine" / "s" / "config.yaml").read_text()
    assert "class_path: __main__.Mine" in config
    done = subprocess.run(
        [sys.executable, "-m", "otter_ray.tune", "--resume", "runs/Mine/s", "--set", "project=lightning"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "__main__ has no class 'Mine'" in done.stderr + done.stdout
    assert "Study.of" in done.stderr + done.stdout


def of(model=LitBlobs, data=Blobs, space=None, **options):
    return Study.of(
        model,
        data,
        metric="val_acc",
        max_epochs=1,
        space={"lr": [0.01, 0.1]} if space is None else space,
        **options,
    )


def test_what_is_given_becomes_a_config_and_a_space():
    searched = {
        "width": IntDistribution(8, 32),
        "lr": FloatDistribution(1e-3, 0.1, log=True),
        "data.init_args.noise": CategoricalDistribution([0.5, 1.0]),
        "trainer.gradient_clip_val": {"type": "float", "low": 0.5, "high": 1.0},
    }
    study = of(partial(LitBlobs, width=9), Blobs, searched, mode="min", trials=5)
    problem = study.request().problem
    assert problem.config.get("model.init_args") == {"width": 9, "lr": 0.003}
    assert problem.config.get("data.init_args") == {"noise": 0.5}
    assert problem.options.num_trials == 5
    entries = problem.space.to_dict()["parameters"]
    assert entries["model.init_args.lr"] == {"type": "float", "low": 0.001, "high": 0.1, "log": True}
    assert entries["model.init_args.width"] == {"type": "int", "low": 8, "high": 32}
    with study.given():
        assert given_to(problem.config) == {
            f"{Blobs.__module__}.{cls.__name__}": cls for cls in (LitBlobs, Blobs)
        }
    assert given_to(problem.config) == {}


def test_loaders_and_objects_are_data():
    from otter_ray.projects.lightning.own import OWN

    study = of(data=loaders_of(48))
    loaders = study.request().problem.config
    assert loaders.get("data.class_path") == LOADERS
    with study.given():
        train, valid = OWN.build_datasets(loaders)
        assert (len(train), len(valid), OWN.build_test(loaders, valid)) == (36, 12, None)
    fresh = Blobs(count=24)
    study = of(data=fresh)
    with study.given():
        assert len(OWN.build_datasets(study.request().problem.config)[0]) == 18
    assert not hasattr(fresh, "train_set")  # a copy was set up


def loaders_of(count):
    data = Blobs(count=count)
    data.setup("fit")
    return data.train_dataloader(), data.val_dataloader()


def test_each_study_has_its_own_objects():
    from otter_ray.projects.lightning.own import OWN

    studies = [of(data=loaders_of(count)) for count in (48, 24)]
    for study, items in zip([*studies, studies[0]], (36, 18, 36), strict=True):
        config = study.request().problem.config
        with study.given():
            assert len(OWN.build_datasets(config)[0]) == items
    assert not GIVEN
    with pytest.raises(ConfigError, match=r"data.class_path: .*loaders of a program's .*Study.of"):
        check_config(config, "val_acc")  # as the command line does, which has no loaders


class NeedsWidth(LitBlobs):
    def __init__(self, width: int):
        super().__init__(width)


def test_an_argument_without_a_default_starts_where_its_range_does():
    for searched, start in (([16, 8], 16), (IntDistribution(9, 32), 9)):
        assert of(NeedsWidth, space={"width": searched}).config.get("model.init_args.width") == start


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: of(space={"lrr": [1, 2]}), "space.lrr: LitBlobs has no argument 'lrr'. Did you mean 'lr'?"),
        (lambda: of(LitBlobs()), "(?s)model: .* is not a class"),
        (lambda: of(partial(LitBlobs, 3)), "model: .* has arguments by position"),
        (lambda: of(data=[1]), "data: has 1 loaders"),
        (lambda: of(space={"lr": 3}).request(), "model.init_args.lr: 3 is not a mapping"),
        (lambda: of(space={}).request(), "is empty"),
        (lambda: of(NeedsWidth, space={"width": []}), "model.init_args.width.choices: "),
        (lambda: of(NeedsWidth, space={"width": 3}), "model.init_args.width: 3 is not a mapping"),
        (lambda: of(NeedsWidth, space={"width": {"type": "int"}}), "model.init_args.width.low: "),
        (
            lambda: of(trainer={"callbacks": [EarlyStopping("val_acc")]}),
            r'trainer.callbacks.0: .* is an object.*Write {"class_path": ".*\.EarlyStopping", "init_args": ',
        ),
        (lambda: of(data=partial(Blobs, noise=Path("x"))), r'data.init_args.noise: .*Write "x"'),
    ],
)
def test_what_cannot_be_meant(call, told):
    with pytest.raises(ConfigError, match=told):
        call()


def test_a_module_that_no_worker_can_import_is_pickled_by_value(tmp_path):
    from ray import cloudpickle

    from otter_ray.tune.ray_compat import pickled_by_value

    file = tmp_path / "far_away.py"
    file.write_text(
        "class Far:\n    def __init__(self):\n        self.x = helper()\ndef helper():\n    return 3\n"
    )
    spec = importlib.util.spec_from_file_location("far_away", file)
    module = sys.modules["far_away"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        with pickled_by_value([module.Far, LitBlobs]):
            far, near = cloudpickle.dumps(module.Far), cloudpickle.dumps(LitBlobs)
        assert len(near) < 100  # by name
        assert b"helper" in far
        assert len(cloudpickle.dumps(module.Far)) < 100
    finally:
        del sys.modules["far_away"]


def test_a_programs_random_numbers_stay():
    from otter_ray.host_program import same_random_numbers

    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(1), random.random()
    torch.manual_seed(3)
    random.seed(3)
    with same_random_numbers():
        torch.manual_seed(4)
        random.seed(4)
    assert (torch.rand(1), random.random()) == expected


def test_a_programs_random_numbers_on_its_gpus_stay(monkeypatch):
    """No GPU is needed: CUDA's part of torch is played by a list."""
    from otter_ray.host_program import same_random_numbers

    states = ["of the first", "of the second"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", states.copy)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda given: states.__setitem__(slice(None), given))
    with same_random_numbers():
        states[:] = ["seeded", "seeded"]
    assert states == ["of the first", "of the second"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_programs_random_numbers_stay_on_a_gpu():
    from otter_ray.host_program import same_random_numbers

    torch.manual_seed(3)
    expected = torch.rand(1, device="cuda")
    torch.manual_seed(3)
    with same_random_numbers():
        torch.manual_seed(4)
    assert torch.equal(torch.rand(1, device="cuda"), expected)
