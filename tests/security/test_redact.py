"""Secrets and control characters, whatever they are in."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.plan import MASK
from ansible_collections.keel.proxmox.plugins.module_utils.redact import LONGEST, harmless, printable, redact

SECRET = 'pä ss/%&"\\\n+'


@pytest.mark.parametrize(
    "form",
    [SECRET, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET), json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1]],
)
@pytest.mark.parametrize("around", [lambda text: text, lambda text: [{"a": (text,)}], lambda text: {text: 1}])
def test_a_secret_is_masked_in_every_form(form: str, around: Any) -> None:
    shown = redact(around(f"before {form} after"), [SECRET])
    assert shown == json.loads(json.dumps(around(f"before {MASK} after")))


def test_a_secret_that_holds_another_is_masked_whole() -> None:
    assert redact("abcdef abc", ["abc", "abcdef"]) == f"{MASK} {MASK}"
    assert redact({"a": 1, "b": None, "c": True}, ["a-secret", ""]) == {"a": 1, "b": None, "c": True}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 日本 😀", "plain, größer, 日本 😀"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r\x00\x9b\x7f", "two\\nlines\\r\\x00\\x9b\\x7f"),
        ("\u202egnp\u2028\ud800", "\\u202egnp\\u2028\\ud800"),
        ("a" * LONGEST + "bc", "a" * LONGEST + "… (2 more characters)"),
    ],
)
def test_messages_are_one_printable_line(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_data_keeps_its_lines_and_separators() -> None:
    data = {"a": "one\r\ntwo\tthree\0four\n", "b\x1b": ["\x9b2J", "\rover", 7, None]}
    assert harmless(data) == {"a": "one\r\ntwo\tthree\0four\n", "b\\x1b": ["\\x9b2J", "\\rover", 7, None]}
