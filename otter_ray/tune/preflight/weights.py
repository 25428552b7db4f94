"""Fetch and check the weights that trials start from, once before the trials start."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import torch

from otter_ray.checkpoints import ANY_CHECKPOINT
from otter_ray.config import Config
from otter_ray.errors import FileError
from otter_ray.files import read_text
from otter_ray.space import SearchProblem
from otter_ray.study.layout import RESTORE, RESTORED, StudyFolder
from otter_ray.train.builders import build_model, with_classes
from otter_ray.train.checkpoint.checkpoint_io import describe_checkpoint
from otter_ray.train.checkpoint.restore import STATEFUL_SECTIONS, find_restore, pin_restore, restore
from otter_ray.tune.preflight.data import data_key, distinct_configs, log_warnings_once

SOURCE = "from.txt"  # says where the copy comes from
logger = logging.getLogger(__name__)


def copy_source_checkpoint(problem: SearchProblem, folder: StudyFolder) -> SearchProblem:
    """Copy the checkpoint that the config starts from into the study's folder, where nothing changes it.

    If the space searches among checkpoints, nothing is copied.

    Args:
        problem: to be searched.
        folder: of the study.

    Returns:
        The problem, with a config that names the copy.

    Raises:
        ConfigError: there is no such checkpoint.
        FileError: the copy is damaged.
    """
    place = folder.path / RESTORED
    if {*problem.space.keys} & {"common.restore_ind", "common.restore_ckpt"}:
        return problem
    if not place.is_dir():
        source = find_restore(problem.config)
        if source is None:
            return problem
        partial = place.with_name(f"{RESTORED}.partial")
        partial.mkdir(exist_ok=True)
        shutil.copyfile(source, partial / source.name)
        described = f"{describe_checkpoint(source.absolute())}\n"
        (partial / SOURCE).write_text(described, encoding="utf-8")
        partial.replace(place)
    copies = [*place.glob(ANY_CHECKPOINT)]
    if len(copies) != 1:
        raise FileError(f"{place}: must hold the one checkpoint that the study starts from. {RESTORE}")
    logger.info(f"starts from {read_text(place / SOURCE, RESTORE) or copies[0].name}")
    return replace(problem, config=pin_restore(problem.config, copies[0]))


def prepare_weights(problem: SearchProblem, classes: dict[str, int]) -> None:
    """Fetch all weights that trials can start from, and check that they fit.

    Each backbone, teacher and pretrained neck or head is built once, so that its weights are in the hub's
    cache before several worker slots need them. Each checkpoint of `common.is_restore` is compared with the
    model that it is for.

    Args:
        problem: to be searched.
        classes: as `prepare_data` returns it.

    Raises:
        ConfigError: a checkpoint's states are not those that a branch describes.
        TrainingError: weights are not available, or do not fit.
    """
    for branch in distinct_configs(problem, _pretrained_key):
        build_model(with_classes(branch, 2)).setup("fit")
    with log_warnings_once():
        for branch in distinct_configs(problem, _restored_key):
            if branch.common.is_restore:
                with torch.device("meta"):
                    model = build_model(with_classes(branch, classes[data_key(branch)]))
                restore(branch, model)


def _pretrained_key(config: Config) -> str:
    model = config.model
    parts = {"backbone": model.backbone, "neck": model.neck, "head": model.head, "teacher": model.teacher}
    own = {
        name: part.model_dump()
        for name, part in parts.items()
        if part and (name in ("backbone", "teacher") or part.options.get("pretrained"))
    }
    return json.dumps([own, config.common.use_clip], sort_keys=True)


def _restored_key(config: Config) -> str:
    sections = ["common", "model", "dataset", "trainer"]
    sections += STATEFUL_SECTIONS if config.common.restore_all_states else []
    return json.dumps([config.to_dict().get(section) for section in sections], sort_keys=True)
