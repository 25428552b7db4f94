"""Recognize secrets by their names and by their shapes, and strike them out of what is written.

The shapes of tokens are detect-secrets' (GitHub's, Slack's, AWS's and some thirty more). The names are those
of its KeywordDetector and more: that one expects source code, and here are shells' variables, URLs and
headers. Text may come from anywhere, so everything here takes time in proportion to its length.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache

from otter_ray.formatting import printable

STRUCK = "***"
# Longer text is cut: the rules of detect-secrets are not all linear, and nobody reads such a line.
LONGEST_LINE, LONGEST_TEXT = 4_000, 200_000
SHORTEST_VALUE = 6  # of a variable: `1` and `true` are no secrets
LONGEST_NAME = 80

# Names that denote a secret, in words: `privateKey` and `X-Private-Key` are `private_key`.
_SECRET_NAME = re.compile(
    r"(api|access|auth|service|account|db|database|priv|private|client|storage|ssh|secret)_?keys?(_?id)?(_|$)"
    r"|(db|database|key)_?pass|passw(or)?d|passphrase|contrase[nñ]a|secret"
    r"|(^|_)pwd(_|$)|(^|_)(pass|pw|pat|credentials?|authorization)$|token$"
)
# Names that also denote other things: `sort_key`, `auth`. Their value decides.
_AMBIGUOUS_NAME = re.compile(r"(^|_)(keys?|auth|sig|signature|cookie|session|sas)$")
_RANDOM = re.compile(r"(?=[^\d\s]*\d)(?=[^a-zA-Z\s]*[a-zA-Z])\S{16}")  # letters and digits, 16 or more
_FOLDERS = {"PWD", "OLDPWD"}
_WORD_BEGINS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]")

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----.*?"
    r"(?:-----END [A-Z0-9 ]{0,60}-----|\Z)",
    re.DOTALL,
)
_LOGIN = re.compile(r"(?<=://)[^/\s:]*:[^/\s]+(?=@)")
_BEARER = re.compile(r"(?<!\w)(bearer\s{1,3})[^\s\"',;]{8,}", re.IGNORECASE)
# A name, which begins where a word begins, and what follows it: nothing is looked at twice.
_ASSIGNMENT = re.compile(r"(?<![\w.-])([\w.-]++)\\?[\"']?(\s{0,3}(?:=>|:=|=|:)\s{0,3})")
_VALUE = re.compile(
    r"\\?\"[^\"\n]*\"?|\\?'[^'\n]*'?|(?:(?:bearer|basic|digest|token)\s{1,3})?[^\s\"']+", re.IGNORECASE
)
_DIGIT = re.compile(r"\d")
_ENDS_THERE = re.compile(r"[ \t]*(?:[,;}\])]|$)")
# Each of detect-secrets' tokens has a word of that many characters, with digits.
_LONG_WORD = re.compile(r"[\w+=-]{20,}")


def is_secret(name: str, value: str) -> bool:
    """Return whether a value looks like a secret, by its name or by itself.

    Args:
        name: Of the variable, the key or the argument; it may be empty.
        value: Not empty.
    """
    text = value[:LONGEST_LINE]
    return _denotes_secret(name, text) or _without_secrets(text) != text


def is_secret_variable(name: str, value: str) -> bool:
    """Return whether an environment variable holds a secret, by its name."""
    return name not in _FOLDERS and len(value) >= SHORTEST_VALUE and _denotes_secret(name, value)


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Strike secrets out: values of the environment, assigned ones, tokens, private keys, logins in URLs.

    A very long line, or a very long text, is cut.

    Args:
        text: From anywhere.
        environment: Whose secrets are struck out wherever they stand.
    """
    secrets = {value for name, value in environment.items() if is_secret_variable(name, value)}
    for value in sorted(secrets, key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(value, STRUCK)
    text = _cut(text, LONGEST_TEXT)
    return _without_secrets("\n".join(_cut(line, LONGEST_LINE) for line in text.split("\n")))


def safe_text(text: str) -> str:
    """Return text from anywhere as it may be shown and kept: without control characters and secrets."""
    # In this order: an escape sequence within a token would hide it.
    return redacted(printable(text))


def _denotes_secret(name: str, value: str) -> bool:
    words = _WORD_BEGINS.sub("_", name[-LONGEST_NAME:]).lower()
    return bool(_SECRET_NAME.search(words) or (_AMBIGUOUS_NAME.search(words) and _RANDOM.match(value)))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most} more characters)"


def _without_secrets(text: str) -> str:
    return "\n".join(map(_redacted_line, _PRIVATE_KEY.sub(STRUCK, text).split("\n")))


def _redacted_line(line: str) -> str:
    line = _without_assigned(_LOGIN.sub(STRUCK, line))
    line = _BEARER.sub(rf"\1{STRUCK}", line)
    for secret in _tokens_in(line):
        line = line.replace(secret, STRUCK)
    return line


def _without_assigned(line: str) -> str:
    kept, end = "", 0
    for found in _ASSIGNMENT.finditer(line):
        value = _VALUE.match(line, found.end())
        if found.start() >= end and value and _is_assigned(found[1], found[2].strip(), value):
            quote = value[0].lstrip("\\")[0]
            mark = f"{quote}{STRUCK}{quote}" if quote in "\"'" else STRUCK
            kept, end = kept + line[end : found.end()] + mark, value.end()
    return kept + line[end:]


def _is_assigned(name: str, sign: str, value: re.Match[str]) -> bool:
    """Return whether a secret is assigned. After a colon prose may follow: `token: is missing`."""
    bare = value[0].strip("\\\"'")
    if bare in ("", STRUCK) or not _denotes_secret(name, bare):
        return False
    is_word = sign == ":" and bare == value[0] and " " not in bare and not _RANDOM.match(bare)
    return not is_word or _ENDS_THERE.match(value.string, value.end()) is not None


def _tokens_in(text: str) -> list[str]:
    """Return the tokens in a text that is not too long."""
    if not any(map(_DIGIT.search, _LONG_WORD.findall(text))):
        return []
    return [found[0] for shape in _shapes() for found in shape.finditer(text)]


@cache
def _shapes() -> list[re.Pattern[str]]:
    """Return detect-secrets' rules for tokens. It imports requests: not before there is such a text."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector
    from detect_secrets.plugins.ip_public import IPPublicDetector

    classes: list[type] = [*get_mapping_from_secret_type_to_class().values()]
    detectors = [
        cls() for cls in classes if issubclass(cls, RegexBasedDetector) and cls is not IPPublicDetector
    ]
    return [shape for detector in detectors for shape in detector.denylist]
