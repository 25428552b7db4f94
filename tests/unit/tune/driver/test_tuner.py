"""What Tune is given of a study: it pickles its settings when a run begins."""

import threading

import optuna
import pytest
from ray import cloudpickle

from otter_ray.space import SearchProblem
from otter_ray.study.layout import StudyFolder
from otter_ray.tune.cluster.planner import make_plan
from otter_ray.tune.cluster.resources import Node
from otter_ray.tune.context import StudyContext
from otter_ray.tune.display.reporter import ProgressReporter
from otter_ray.tune.driver.tuner import StudyTuner


def test_what_tune_pickles_does_not_hold_on_to_the_study(demo, tmp_path):
    config, space = demo
    plan = make_plan(space.study, [Node(2)], accelerator="cpu")
    study = optuna.create_study(direction="maximize")
    (tmp_path / "trials").mkdir()
    context = StudyContext(SearchProblem(config, space), StudyFolder(tmp_path), study)
    tuner = StudyTuner(context, plan, ProgressReporter())
    tuner.reporter.lock = threading.RLock()  # as a console has one
    with pytest.raises(TypeError, match="cannot pickle"):
        cloudpickle.dumps(tuner)
    for settings in (tuner._tune_config(), tuner._run_config(str(tmp_path))):
        assert cloudpickle.dumps(settings)
