"""A study of trained trials to export from: a real journal and real checkpoints, without a Ray."""

import json

import torch
from optuna.trial import TrialState, create_trial

from otter_ray.space import SearchProblem, load_space
from otter_ray.study.diff import record
from otter_ray.study.layout import StudyFolder
from otter_ray.study.opening import create_folder, open_study
from otter_ray.tune.context import StudyContext
from otter_ray.tune.preflight.static_checks import resolve
from otter_ray.tune.selection.completion import complete
from otter_ray.tune.selection.winner import export_winner


def trained_study(runs, config, checkpoint):
    """A study named `first` whose base config has ended with this checkpoint."""
    folder = create_folder(runs, "demo", "first")
    record(folder, _problem(config))
    context = opened_study(folder, config)
    add_trial(context, checkpoint, 0.2)
    return context


def opened_study(folder: StudyFolder, config):
    """The study in a folder, as a command has it."""
    problem = _problem(config)
    return StudyContext(problem, folder, open_study(folder, problem.options))


def _problem(config):
    return resolve(SearchProblem(config, load_space("demo")))


def add_trial(context, checkpoint, value):
    """A further trial has ended with this value; its checkpoint is like no other's."""
    number = len(context.study.trials)
    values = {"optimizer.options.lr": 0.001 * number} if number else {}
    context.study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            value=value,
            intermediate_values={1: value},
            user_attrs={"values": values, "curve/1": {"valid_fpr@4": value}},
        )
    )
    own = context.folder.trial(number) / "checkpoints/best.ckpt"
    own.parent.mkdir(parents=True)
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    torch.save({**content, "trial": number}, own)
    return own


def export_and_complete(context):
    """The outcome of a command's export of the winner."""
    return complete(context, export_winner(context))


def models(folder):
    """Name -> trial of each ONNX file in a folder whose JSON says so."""
    found = {path.name: path.with_suffix(".json") for path in folder.glob("*.onnx")}
    return {name: json.loads(facts.read_text())["trial"] for name, facts in found.items()}
