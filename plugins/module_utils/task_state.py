# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task of the server that has ended, by itself or because it was stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import Effect, ProxmoxError
from .phrases import hint_for
from .plan import Call, Feature, Plan, Reader
from .task_list import Task, parsed, read, with_log
from .wire import Upid

# A task may have ended although its status does not say so; its log, which is long, is asked at every so many looks.
LOOKS_BEFORE_LOG = 8


@dataclass(frozen=True)
class Wanted:
    """:param stop: whether it is stopped. :param fail_on_error: whether a task that has failed is a failure here."""

    upid: Upid
    stop: bool
    fail_on_error: bool


@dataclass(frozen=True)
class Observed:
    """:param looks: how often it was seen running."""

    task: Task
    looks: int = 0


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    return Wanted(parsed(options["upid"]), options["state"] == "stopped", options["fail_on_error"])


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return how the task is; a node that cannot be asked for a while is waited for."""
    if previous is not None and previous.task.exit_status is not None:
        return previous
    looks = previous.looks + 1 if previous is not None else 0
    try:
        task = read(reader, want.upid)
        return Observed(with_log(reader, task) if looks % LOOKS_BEFORE_LOG == LOOKS_BEFORE_LOG - 1 else task, looks)
    except ProxmoxError as error:
        if previous is None or error.effect not in (Effect.NOT_EXECUTED, Effect.AMBIGUOUS):
            raise
        return replace(previous, looks=looks)


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the call that stops it, or what to wait for."""
    task = observed.task
    # Its end is its own; only what is stopped here is a change.
    before = {"running": task.exit_status is None} if want.stop else {}
    if task.exit_status is not None:
        return Plan(before, before, failure=_failure(want, task))
    waiting = f"the task {want.upid.text} ({task}) to end"
    if not want.stop or done:
        return Plan(before, before, waiting=waiting)
    path = f"/nodes/{want.upid.node}/tasks/{want.upid.text}"
    return Plan(before, {"running": False}, [Call("DELETE", path, {}, f"stop the task {want.upid.text} ({task})")])


def _failure(want: Wanted, task: Task) -> str | None:
    """Return why it has failed, where that matters: one that is to be stopped ends with whatever it was interrupted at."""
    if want.stop or not want.fail_on_error or task.state in ("ok", "warning"):
        return None
    hint = hint_for(task.exit_status or "")
    return f"The server's task {task} failed: {(task.exit_status or '').rstrip('.')}." + (f" {hint}" if hint else "")


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the task."""
    return {"task": observed.task.shown()}


FEATURE = Feature(wanted, observe, decide, result)
