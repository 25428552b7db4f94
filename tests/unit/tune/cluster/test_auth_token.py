"""The token of a Ray of our own: written once, whole, for its user alone."""

import stat

import pytest

from otter_ray.tune.cluster.auth import MODE, TOKEN, TOKEN_FILE, provide_token


@pytest.fixture
def file(monkeypatch, tmp_path):
    for name in (MODE, TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "ray/auth_token"))
    return tmp_path / "ray/auth_token"


def test_a_new_token_is_its_users_alone(file):
    provide_token()
    assert len(file.read_text()) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["auth_token"]


def test_a_token_that_is_there_stays(file):
    provide_token()
    before = file.read_text()
    provide_token()
    assert file.read_text() == before
