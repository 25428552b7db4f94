"""A trial's log holds what is printed, line by line, without secrets."""

import sys

import pytest

from otter_ray.tune.worker.trial_log import RedactedLog, log_to

PLANTED = "planted_token"


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    return tmp_path / "log.txt"


def test_secrets_are_struck_out_even_if_they_come_in_pieces(log):
    with log_to(log):
        print("fetching with", PLANTED)
        for piece in ("api_", "key", "=", "abc", "\n"):
            sys.stderr.write(piece)
        sys.stdout.write("the last line, without an end: planted_")
        sys.stdout.write("token")
    assert log.read_text() == "fetching with ***\napi_key=***\nthe last line, without an end: ***"


def test_a_line_can_be_read_as_soon_as_it_ends(log):
    with log_to(log):
        print("first")
        sys.stdout.write("10 %\r")
        assert log.read_text() == "first\n10 %\n"
    with log_to(log):
        print("another attempt")
    assert log.read_text().splitlines() == ["first", "10 %", "another attempt"]


def test_a_megabyte_without_a_line_end_is_no_megabyte_of_work(log):
    file = RedactedLog(log)
    for _ in range(1000):
        file.write("x" * 1000)
    file.close()
    assert log.stat().st_size > 990_000


def test_text_that_is_no_text_is_written_all_the_same(log):
    with log_to(log):
        print("a name \udcff")
    assert log.read_text() == "a name \\udcff\n"
