# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people and files get to see: without secrets, and without characters that do something to a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from .plan import MASK

LONGEST = 2000

_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def redact(value: Any, secrets: Iterable[str]) -> Any:
    """Return the value with each secret masked in strings at any depth, keys included, however the secret is encoded there.

    To be used before `printable`, which may cut a secret in half.
    """
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    # The longest first: a secret may contain another.
    return _redact(value, sorted(forms, key=len, reverse=True))


def _forms(secret: str) -> set[str]:
    """Return the secret as it is, as in a URL, in JSON, and as Python shows it."""
    encodable = secret.encode("utf-8", "replace").decode()
    shown = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return {secret, quote(encodable, safe=""), quote(encodable), quote_plus(encodable)} | shown


def _redact(value: Any, forms: list[str]) -> Any:
    if isinstance(value, str):
        for form in forms:
            value = value.replace(form, MASK)
        return value
    if isinstance(value, Mapping):
        return {_redact(key, forms): _redact(item, forms) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redact(item, forms) for item in value]
    return value


def harmless(value: Any) -> Any:
    r"""Return data in which control characters that a terminal obeys are shown as ``\x1b``, in strings at any depth.

    Tabs, line breaks, and NUL, by which the server separates entries, stay: data may be used.
    """
    if isinstance(value, str):
        return value if value.isprintable() else _CONTROL.sub(_escaped, value)
    if isinstance(value, Mapping):
        return {harmless(key): harmless(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [harmless(item) for item in value]
    return value


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def printable(text: str) -> str:
    r"""Return the text for a terminal: one line of at most LONGEST characters and a few, control characters as ``\x1b``.

    Names, log lines and errors come from the server and from what runs in its guests.
    """
    shown = text[:LONGEST]
    if not shown.isprintable():
        shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown)
    rest = len(text) - LONGEST
    return shown if rest <= 0 else f"{shown}… ({rest} more characters)"
