"""What counts as a secret, and that striking it out takes time in proportion to the text, whatever it is."""

import re
import time

import pytest
from detect_secrets.plugins.keyword import DENYLIST

from otter_ray.redaction import LONGEST_LINE, LONGEST_TEXT, is_secret, is_secret_variable, redacted, safe_text

HEX = "0123456789abcdef" * 4
GITHUB = "ghp_" + "a1" * 18
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{HEX}\n{HEX}\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize("name", ["PGPASSWORD", "GITHUB_PAT", "WANDB_KEY", "awsAccessKeyId"])
def test_a_secret_of_the_environment_is_struck_out_wherever_it_stands(name):
    value = f"planted-{HEX}"
    assert redacted(f"no host called {value} at {value}:5", {name: value}) == "no host called *** at ***:5"


def test_folders_and_short_values_of_the_environment_stay():
    environment = {"PWD": "/home/me/project", "OLDPWD": "/home/me", "X_TOKEN": "on", "LANG": "C.UTF-8"}
    text = "/home/me/project in /home/me is on C.UTF-8"
    assert redacted(text, environment) == text
    assert not any(is_secret_variable(*each) for each in environment.items())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("--set logger.options.api_key=abc lr=1", "--set logger.options.api_key=*** lr=1"),
        ("https://host/a?X-Amz-Date=1&X-Amz-Signature=" + HEX, "https://host/a?X-Amz-Date=1&X-Amz-Signature=***"),
        ("Authorization: Bearer abc.def.ghi", "Authorization: ***"),
        ("curl -H 'Authorization: Basic dXNlcg=='", "curl -H 'Authorization: ***'"),
        ("sent Bearer abc.def.ghi, refused", "sent Bearer ***, refused"),
        ("postgres://me:p@ss@host/db", "postgres://***@host/db"),
        ("{'private_key': 'a b', 'lr': 1}", "{'private_key': '***', 'lr': 1}"),
        (r'{\"clientSecret\": \"a b\"}', r'{\"clientSecret\": "***"}'),
        ("password: hunter2", "password: ***"),
        (f"cloned with {GITHUB}.", "cloned with ***."),
        (f"before\n{KEY}\nafter", "before\n***\nafter"),
    ],
)  # fmt: skip
def test_what_stands_in_a_text_is_struck_out(text, left):
    assert redacted(text, {}) == left


@pytest.mark.parametrize(
    "text",
    [
        "optimizer.options.lr: 3 is too high",
        "logger.options.api_key: looks like a secret. Keep it in the environment.",
        "ValueError: Unexpected token: foo at line 3",
        "KeyError: 'key', sort_key=name, auth=none",
        "valid_fpr@4 0.8344 in runs/demo/20261125-015429 at 10.0.0.1:6379",
        f"checkpoint_sha256 {HEX}",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text, {}) == text


def test_every_name_of_the_rule_set_is_known():
    for pattern in DENYLIST:
        for name in (pattern.replace("_?", "_"), pattern.replace("_?", "")):
            assert re.fullmatch(pattern, name)
            assert is_secret(name, "abc"), name


@pytest.mark.parametrize(("name", "value"), [("sort_key", "name"), ("tokenizer", "bpe"), ("", "docs/a.png")])
def test_an_ordinary_value_is_none(name, value):
    assert not is_secret(name, value)


PARTS = [
    "a", "_", "a.b-", "a=", "=", "://", "://a:", "eyJ", "sk-" + "a" * 25, "//", "xoxb-1", "token: ", "1.",
    "bearer ", "aws key ", 'password="', "'", '\\"', "-----BEGIN PRIVATE KEY-----", "\x1b]", "secret=\n",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_megabyte_of_anything_takes_no_time(part):
    began = time.perf_counter()
    redacted(part * (10**6 // len(part)), {"HF_TOKEN": "planted"})
    assert time.perf_counter() - began < 5


def test_a_line_that_nobody_reads_is_cut():
    text = redacted("x" * 10**6 + GITHUB, {})
    assert text.endswith("more characters)")
    assert len(text) < LONGEST_LINE + 100


def test_a_secret_that_begins_with_another_is_struck_out_whole():
    environment = {"A_PASSWORD": "abc123", "B_PASSWORD": "abc1234XYZ"}
    assert redacted("abc1234XYZ abc123", environment) == "*** ***"


def test_a_secret_across_the_end_of_what_is_kept_is_struck_out():
    text = "\n".join(["a" * 99] * (LONGEST_TEXT // 100)) + "planted-secret"
    assert "planted" not in redacted(text[14:], {"A_PASSWORD": "planted-secret"})


def test_colours_within_a_token_do_not_hide_it():
    assert GITHUB not in safe_text(f"{GITHUB[:9]}\x1b[31m{GITHUB[9:]}\x1b[0m was refused")
