"""A Ray with and without a token, asked from outside: real ones, each in a process of its own."""

import os
import uuid
import warnings

import pytest

from otter_ray.errors import StudyError
from otter_ray.tune.cluster.auth import MODE, agree_on_token


@pytest.fixture
def agree(monkeypatch):
    """What `agree_on_token` makes of an address where the user's token is `token`: (mode, warnings)."""
    import ray

    def agree(address, token):
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        monkeypatch.setenv(MODE, "token")
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            agree_on_token(address)
        return os.environ[MODE], [str(warning.message) for warning in caught]

    yield agree
    monkeypatch.undo()
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    ray._raylet.Config.initialize("")


def test_an_open_ray_is_warned_of_and_our_token_kept_to_ourselves(open_ray, agree):
    address = open_ray.address
    mode, [warning] = agree(address, uuid.uuid4().hex)
    assert mode == "disabled"
    assert f"the Ray at {address} does not require a token" in warning
    assert "RAY_AUTH_MODE=token" in warning


def test_a_ray_that_asks_gets_our_token_and_refuses_another(token_ray, agree):
    token = uuid.uuid4().hex
    address = token_ray(token)
    assert agree(address, token) == ("token", [])
    with pytest.raises(StudyError, match="asks for another token than yours"):
        agree(address, uuid.uuid4().hex)
