# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks of the server as its lists and their own status tell of them (PVE/API2/Tasks.pm)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .errors import Effect, ProxmoxError, Refused
from .plan import Reader
from .wire import Upid, last_words, parse_upid, task_state

STATES = ("running", "ok", "warning", "error", "unknown")


@dataclass(frozen=True)
class Task:
    """A task. :param exit_status: None while it runs. :param log: its lines, where somebody asked for them."""

    upid: Upid
    end: int | None = None
    exit_status: str | None = None
    log: tuple[str, ...] | None = None

    @property
    def state(self) -> str:
        return task_state(self.exit_status)

    def __str__(self) -> str:
        return f"{self.upid.type} {self.upid.id}".rstrip()

    def shown(self) -> dict[str, object]:
        """Return the task as results show it."""
        upid = self.upid
        row: dict[str, object] = {
            "upid": upid.text,
            "node": upid.node,
            "type": upid.type,
            "id": upid.id,
            "user": upid.user,
            "starttime": upid.start,
            "endtime": self.end,
            "state": self.state,
            "exitstatus": self.exit_status,
        }
        return row if self.log is None else {**row, "log": list(self.log)}


def parsed(text: str) -> Upid:
    """Return the UPID that a user has given; raises Refused for what is none."""
    upid = parse_upid(text.strip())
    if upid is None:
        raise Refused(
            f"'{text}' is not the UPID of a task; one looks like UPID:pve1:0000031D:00065374:6B006D77:qmstart:101:root@pam:."
        )
    return upid


def from_row(row: Mapping[str, Any]) -> Task | None:
    """Return the task that an entry of a node's list tells of, None for what is none."""
    upid = parse_upid(row["upid"])
    if upid is None:
        return None
    status = row.get("status")
    end = row.get("endtime")
    # Of a task that still runs the list says RUNNING.
    running = status in (None, "RUNNING") and end is None
    return Task(upid, None if end is None else int(end), None if running else str(status or "unexpected status"))


def read(reader: Reader, upid: Upid) -> Task:
    """Return how a task is, one request; of one that has ended with its log, one more.

    :raises Refused: the node does not know it.
    """
    path = f"/nodes/{upid.node}/tasks/{upid.text}"
    try:
        status = reader.get(f"{path}/status")
    except ProxmoxError as error:
        if error.status == 400:
            raise Refused(
                f"Node {upid.node} knows no task {upid.text}; it was never there, or is so old that its log was removed."
            ) from error
        if error.effect is Effect.ABSENT:
            raise Refused(f"There is no node {upid.node} in this cluster, so no task {upid.text}.") from error
        raise
    if status.get("status") == "running":
        return Task(upid)
    return Task(upid, None, str(status.get("exitstatus") or "unexpected status"), log_of(reader, upid))


def log_of(reader: Reader, upid: Upid) -> tuple[str, ...]:
    """Return every line of the log."""
    lines = reader.get(f"/nodes/{upid.node}/tasks/{upid.text}/log", limit=0)
    return tuple(str(line.get("t", "")) for line in lines)


def with_log(reader: Reader, task: Task) -> Task:
    """Return a task that seems to run with its log, by whose last line it may have ended: its parent may not have noticed yet."""
    if task.exit_status is not None:
        return task
    log = log_of(reader, task.upid)
    return Task(task.upid, None, last_words(log), log)


def moment(option: str, text: str | None) -> int | None:
    """Return seconds since the epoch of a number of them, or of a date and time as ISO 8601 has it; raises Refused for neither."""
    if text is None:
        return None
    if text.strip().isdigit():
        return int(text)
    try:
        return int(datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp())
    except (ValueError, OverflowError) as error:
        raise Refused(
            f"{option}: '{text}' is neither a number of seconds since 1970 nor a date and time such as 2026-11-28 06:00 or "
            "2026-11-28T06:00:00+01:00."
        ) from error
