"""What a preparation that fails may remove: the folder that this command has created, and no other."""

import pytest

from otter_ray.errors import StudyError
from otter_ray.space import SearchProblem
from otter_ray.study.diff import record
from otter_ray.study.initial_trials import InitialTrials
from otter_ray.study.opening import create_folder
from otter_ray.tune.cluster.nodes import local_node
from otter_ray.tune.preparation import Machines, prepare
from otter_ray.tune.request import StudyRequest


@pytest.fixture
def study_without_journal(demo, tmp_path):
    """The folder of a finished study whose journal was lost, and the problem that it was about."""
    problem = SearchProblem(*demo)
    folder = create_folder(tmp_path, "demo", "first")
    record(folder, problem)
    (folder.path / "demo_fp32.onnx").write_bytes(b"a model")
    return folder, problem


def refuse(folder, problem, resume):
    """Prepare a study of another config in the folder, which is refused."""
    other = SearchProblem(problem.config.with_values({"common.seed": 7}), problem.space)
    request = StudyRequest(other, folder.path.parents[1], folder.name, resume=resume)
    with pytest.raises(StudyError, match="--accept-changes"):
        prepare(request, folder, None, InitialTrials(other), Machines([local_node()], []))


def test_a_study_that_lost_its_journal_survives_a_refused_resume(study_without_journal):
    folder, problem = study_without_journal
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    refuse(folder, problem, resume=True)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


def test_a_new_study_that_is_refused_leaves_its_name_free(study_without_journal):
    folder, problem = study_without_journal
    refuse(folder, problem, resume=False)
    assert not folder.path.exists()
