# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of the API and the values that they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

# PVE/UPID.pm, decode: the user may carry a token (root@pam!ci), the id may be empty or hold a disk (100-scsi0).
_UPID = re.compile(
    r"^UPID:(?P<node>[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):(?P<pid>[0-9A-Fa-f]{8}):(?P<pstart>[0-9A-Fa-f]{8,9}):"
    r"(?P<start>[0-9A-Fa-f]{8}):(?P<type>[^:\s]+):(?P<id>[^:\s]*):(?P<user>[^:\s]+):$"
)


@dataclass(frozen=True)
class Upid:
    """The name of a task of the server. :param start: seconds since the epoch, by the node's clock."""

    text: str
    node: str
    type: str
    id: str
    user: str
    start: int


def parse_upid(text: object) -> Upid | None:
    """Return the UPID that the text is, or None: some calls answer OK or nothing where others start a task."""
    match = _UPID.match(text) if isinstance(text, str) else None
    if match is None:
        return None
    return Upid(match[0], match["node"], match["type"], match["id"], match["user"], int(match["start"], 16))


def parse_tags(text: object) -> tuple[str, ...]:
    """Return tags in the server's order; it separates them by semicolons and also accepts commas and blanks."""
    return tuple(tag for tag in re.split(r"[;,\s]+", str(text or "")) if tag)


def is_true(value: object) -> bool:
    """Return what the server means by a boolean: 1 and "1", JSON's true, in property strings also on, yes and true."""
    return value is True or str(value).lower() in ("1", "on", "yes", "true")
