# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep secrets out of everything that people or files get to see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from .plan import MASK


def redact(value: Any, secrets: Iterable[str]) -> Any:
    """Return the value with each secret masked, as it is and percent-encoded, in strings at any depth, keys included."""
    forms = {form for secret in secrets if secret for form in (secret, quote(secret, safe=""), quote_plus(secret))}
    # The longest first: a secret may contain another.
    return _redact(value, sorted(forms, key=len, reverse=True))


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
