# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks of the server: wait for one, read its log, find one whose UPID was lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from .clock import Clock, pause_after
from .errors import Effect, ProxmoxError, TimedOut
from .phrases import effect_of, hint_for
from .plan import Outcome
from .progress import Due, Progress, Watch
from .wire import Upid, last_words, parse_upid, succeeded

Get = Callable[..., Any]

# The exit status of a migration or backup does not name the cause, the last lines of its log do (PVE/AbstractMigrate.pm, migrate;
# PVE/VZDump.pm, exec_backup_task).
_CAUSE = re.compile(r"migration aborted \(duration [\d:]+\): (.+)|ERROR: Backup of VM \d+ failed - (.+)")

# A look takes one of the node's three workers (pvedaemon) for some milliseconds: it opens a file and a directory of /proc
# (PVE/API2/Tasks.pm, read_task_status). Twenty tasks waited for side by side are 40 looks a second, a tenth of what the
# workers can do; an end is seen half a second late at most in the first minute, and later a 120th of the time.
FIRST_PAUSE_SECONDS = 0.05
PAUSE_SECONDS = 0.5
# Within that first minute a tenth of the time already waited is late enough for nobody to mind.
PAUSE_SHARE = 0.1
LOG_TAIL_LINES = 10
# Of a long log so much is kept for whoever watches.
LOG_KEPT_LINES = 1000
# The status of a finished task may stay "running" while its parent has not reaped it; the last line of its log ends sooner.
LOG_LOOK_SECONDS = 10.0
LOOKUP_SECONDS = (0.1, 0.4, 1.0, 2.0, 3.0, 5.0)


def wait(
    get: Get, upid: Upid, deadline: float, clock: Clock, *, what: str | None = None, watch: Watch | None = None
) -> Outcome:
    """Return when the task has succeeded, with the warnings in its log.

    :param deadline: by the clock, when to stop waiting; the server's task is then left alone.
    :param what: what the task does, for people. :param watch: who is told now and then; the log is read for that.
    :raises ProxmoxError: the task failed: its exit status and the last lines of its log.
    :raises TimedOut: it still runs.
    """
    began = clock.now()
    looked_at_log = began
    path = f"/nodes/{upid.node}/tasks/{upid.text}"
    so_far, due = _Log(get, path), Due()
    while True:
        waited = clock.now() - began
        pause = pause_after(waited, min(max(FIRST_PAUSE_SECONDS, waited * PAUSE_SHARE), PAUSE_SECONDS))
        if clock.now() + pause > deadline:
            pause = max(deadline - clock.now(), 0.0)
        clock.sleep(pause)
        exit_status = _exit_status(get, path)
        told = exit_status is None and watch is not None and due.at(clock.now() - began)
        if exit_status is None and (told or clock.now() - looked_at_log > LOG_LOOK_SECONDS):
            looked_at_log = clock.now()
            exit_status = last_words(so_far.read_on())
        if exit_status is not None:
            return _judge(get, upid, path, exit_status)
        if told and watch is not None:
            watch(Progress(what or f"{upid.type} {upid.id}", clock.now() - began, so_far.lines, upid.text))
        if clock.now() >= deadline:
            raise TimedOut(
                f"The server's task still runs after {clock.now() - began:.0f} s and was left alone: {upid.text}. Run this play's "
                "task again to go on waiting, with a longer timeout where it needs more.",
                effect=Effect.AMBIGUOUS,
                upid=upid.text,
                log=so_far.read_on()[-LOG_TAIL_LINES:],
            )


def _exit_status(get: Get, path: str) -> str | None:
    """Return the exit status, None while the task runs or its node cannot be asked."""
    try:
        status = get(f"{path}/status")
    except ProxmoxError as error:
        if error.effect in (Effect.NOT_EXECUTED, Effect.AMBIGUOUS):
            return None
        raise
    return None if status.get("status") == "running" else str(status.get("exitstatus") or "unexpected status")


class _Log:
    """The end of the log of a task that runs; of what was read already nothing is asked for again."""

    def __init__(self, get: Get, path: str) -> None:
        self._get, self._path = get, path
        self._count = 0
        self.lines: list[str] = []

    def read_on(self) -> list[str]:
        """Return the last lines as they are now, or as they were where the log cannot be read."""
        # The last line may have been half written.
        start = max(self._count - 1, 0)
        more = log(self._get, self._path, start)
        if more:
            self.lines = [*self.lines[:-1], *more][-LOG_KEPT_LINES:]
            self._count = start + len(more)
        return self.lines


def log(get: Get, path: str, start: int = 0) -> list[str]:
    """Return every line of a task's log, but for so many at its start; none where it cannot be read."""
    try:
        lines = get(f"{path}/log", start=start, limit=0)
    except ProxmoxError:
        return []
    return [str(line.get("t", "")) for line in lines if isinstance(line, dict)]


def _judge(get: Get, upid: Upid, path: str, exit_status: str) -> Outcome:
    if exit_status == "OK":
        return Outcome(upid.text, upid.text)
    lines = log(get, path)
    if succeeded(exit_status):
        warnings = [line.strip() for line in lines if line.startswith("WARN: ")]
        named = tuple(warning.removeprefix("WARN: ") for warning in warnings)
        return Outcome(
            upid.text, upid.text, named or (f"{upid.type} ended with {exit_status}; see the log of {upid.text}",)
        )
    causes = [found[1] or found[2] for line in lines if (found := _CAUSE.search(line)) is not None]
    told = f"{exit_status}: {causes[-1]}" if causes and exit_status == "job errors" else exit_status
    hint = hint_for(told)
    raise ProxmoxError(
        f"The server's task {upid.type} {upid.id} failed: {told.rstrip('.')}." + (f" {hint}" if hint else ""),
        effect=effect_of(causes[-1] if causes else exit_status),
        upid=upid.text,
        log=lines[-LOG_TAIL_LINES:],
    )


def find(
    get: Get,
    node: str,
    kind: str,
    ident: str,
    *,
    since: int,
    known: Collection[str],
    clock: Clock,
    looks: Iterable[float] = LOOKUP_SECONDS,
) -> Upid | None:
    """Return the newest task of that type and id that was started since, or None when none shows up for some seconds.

    This is how a task is found whose UPID never reached us: the request may still be on its way to the worker.

    :param since: seconds since the epoch, by the server's clock.
    :param known: UPIDs of tasks that cannot be the one.
    :param looks: how many seconds pass before each look.
    """
    for pause in looks:
        clock.sleep(pause)
        try:
            rows = get(f"/nodes/{node}/tasks", source="all", typefilter=kind, vmid=ident, since=since)
        except ProxmoxError as error:
            if error.effect is Effect.PERMANENT:
                return None
            continue
        found = [upid for row in rows if row["upid"] not in known and (upid := parse_upid(row["upid"])) is not None]
        if found:
            return max(found, key=lambda upid: upid.start)
    return None
