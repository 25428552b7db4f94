from pathlib import Path

import pytest

from otter_ray.tune.samplers.factory import make_sampler
from tests.support.commands import SECRETS


@pytest.fixture(scope="session")
def secrets():
    """What must be found nowhere: planted values, and the token of the Ray that a study starts."""
    token = Path.home() / ".ray" / "auth_token"
    return [*SECRETS.values(), *([token.read_text().strip()] if token.exists() else [])]


@pytest.fixture(scope="session")
def searched(tune, tiny_sets, tmp_path_factory):
    """A finished tiny study: (its folder, what the command printed)."""
    folder = tmp_path_factory.mktemp("searched")
    # With this seed another trial than the base config's wins.
    arguments = [*tiny_sets, "--set", "common.seed=1", "--trials", 4, "--name", "tiny"]
    code, output = tune("demo", *arguments, folder=folder).end()
    assert code == 0, output
    return folder / "runs/demo/tiny", output


@pytest.fixture
def reopened(tiny_config):
    """Opens the study at a path, as a StudyContext."""
    from otter_ray.space import SearchProblem, load_space
    from otter_ray.study.layout import StudyFolder
    from otter_ray.study.opening import open_study
    from otter_ray.tune.context import StudyContext

    def reopen(path):
        space, folder = load_space("demo"), StudyFolder(path)
        config = tiny_config.with_values({"common.seed": 1})
        study = open_study(folder, space.study, make_sampler(space.study, 0))
        return StudyContext(SearchProblem(config, space), folder, study)

    return reopen


@pytest.fixture(scope="module")
def connected():
    """A Ray of one slot."""
    from ray.cluster_utils import Cluster

    from otter_ray.tune.cluster.session import RaySession

    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False},
    )
    with RaySession(nodes.address).start():
        yield
    nodes.shutdown()
