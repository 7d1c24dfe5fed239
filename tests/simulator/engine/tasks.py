# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks: workers with a UPID, a log and an end.

Sources: pve-common, PVE/RESTEnvironment.pm (fork_worker) and PVE/UPID.pm; pve-manager, PVE/API2/Tasks.pm and
PVE/API2/Cluster.pm (tasks).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .clock import Interrupted, Process, Sleep, Steps
from .http import ApiError, Reply, bad_parameter, die

if TYPE_CHECKING:
    from .cluster import Call, Cluster

UPID = re.compile(
    r"^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8})"
    r":([^:\s/]+):([^:\s/]*):([^:\s/]+):$"
)
ACTIVE_LOCK = "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"
NO_WORKER = "got no worker upid - start worker failed"


@dataclass
class Task:
    """A worker: what it is, what it logged, how it ended."""

    upid: str
    node: str
    type: str
    id: str
    authid: str
    pid: int
    pstart: int
    start: float
    log_lines: list[str] = field(default_factory=list)
    warnings: int = 0
    end: float | None = None
    status: str | None = None  # exit status
    zombie_until: float = 0.0
    process: Process[None] | None = None

    def log(self, text: str) -> None:
        """Write lines to the log."""
        self.log_lines.extend(text.rstrip("\n").split("\n"))

    def warn(self, text: str) -> None:
        """A warning that counts (RESTEnvironment.pm, log_warn)."""
        self.warnings += 1
        self.log(f"WARN: {text}")

    @property
    def user(self) -> str:
        """The user part of the owner."""
        return self.authid.partition("!")[0]

    def public(self) -> dict[str, Any]:
        """What the UPID says, with a token's user and name apart."""
        user, _rest, token = self.authid.partition("!")
        row: dict[str, Any] = {
            "upid": self.upid,
            "node": self.node,
            "pid": self.pid,
            "pstart": self.pstart,
            "starttime": int(self.start),
            "type": self.type,
            "id": self.id,
            "user": user,
        }
        if token:
            row["tokenid"] = token
        return row


Body = Callable[[Task], Steps[None]]


class Tasks:
    """All tasks of the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.all: dict[str, Task] = {}
        self.ended: list[Task] = []  # in the order of their ends
        # Applied to the next tasks to be started, in order: see faults.AT_FORK.
        self.start_failures: list[str] = []
        self.zombie_seconds = 0.0

    def start(
        self, node: str, type_: str, id_: str | int, authid: str, body: Body, undo: Callable[[], None] | None = None
    ) -> str:
        """Fork a worker. `undo` is what it does when it fails before its work begins.

        Returns:
            The UPID.

        Raises:
            ApiError: forking failed; with `ACTIVE_LOCK` although the worker runs.
        """
        failure = self.start_failures.pop(0) if self.start_failures else None
        if failure == "no_worker_upid":
            raise die(NO_WORKER)
        cluster = self._cluster
        host = cluster.nodes[node]
        host.pids += 1 + cluster.random.randrange(4)
        now = cluster.now
        pstart = int((now - host.since) * 100)
        upid = f"UPID:{node}:{host.pids:08X}:{pstart:08X}:{int(now):08X}:{type_}:{id_}:{authid}:"
        task = Task(upid, node, type_, str(id_), authid, host.pids, pstart, now)
        self.all[upid] = task

        def steps() -> Steps[None]:
            yield Sleep(cluster.durations.fork)
            if failure == "task_lock":
                yield Sleep(10.0)
                if undo is not None:
                    undo()
                raise die(f"can't lock file '/var/lock/qemu-server/lock-{id_}.conf' - got timeout")
            elif failure == "task_killed":
                yield from _begun(body(task))
                raise _Killed
            else:
                yield from body(task)
            if failure == "task_warning":
                task.warn("something was not as it should be")
            elif failure == "task_unexpected":
                raise _Killed

        task.process = cluster.scheduler.spawn(steps(), lambda process: self._finish(task, process))
        if failure == "active_lock":
            raise die(ACTIVE_LOCK)
        return upid

    def put(self, upid: str, *, seconds: float | None = None, status: str = "OK", lines: Sequence[str] = ()) -> Task:
        """A task with a known UPID: it has ended with that status, or runs for some seconds more and then ends with it."""
        parsed = UPID.match(upid)
        assert parsed is not None, upid
        node, pid, pstart, start, type_, id_, authid = parsed.groups()
        task = Task(upid, node, type_, id_, authid, int(pid, 16), int(pstart, 16), float(int(start, 16)))
        task.log_lines.extend(lines)
        self.all[upid] = task

        def body() -> Steps[None]:
            yield Sleep(seconds or 0.0)
            if status != "OK":
                raise die(status)

        if seconds is None:
            task.log(f"TASK {status}" if status == "OK" else f"TASK ERROR: {status}")
            self._end(task, status)
        else:
            task.process = self._cluster.scheduler.spawn(body(), lambda process: self._finish(task, process))
        return task

    def _finish(self, task: Task, process: Process[None]) -> None:
        if isinstance(process.error, _Killed):
            self._end(task, "unexpected status")  # nobody was left to write a last line
            return
        if isinstance(process.error, Interrupted):
            status = "received interrupt"
        elif isinstance(process.error, ApiError):
            status = process.error.in_task().replace("\n", " ")
        elif task.warnings:
            status = f"WARNINGS: {task.warnings}"
        else:
            status = "OK"
        if status == "OK" or process.error is None:
            task.log(f"TASK {status}")
        else:
            task.log(f"TASK ERROR: {status}")
        self._end(task, status)

    def _end(self, task: Task, status: str) -> None:
        task.status = status
        task.end = self._cluster.now
        task.zombie_until = self._cluster.now + self.zombie_seconds
        self.ended.append(task)

    def wait(self, upid: str, seconds: float, failure: str) -> Steps[str | None]:
        """Wait some seconds for a task inside a request: its UPID when it still runs, nothing when it ended well."""
        task, until = self.all[upid], self._cluster.now + seconds
        while task.end is None and self._cluster.now < until:
            yield Sleep(min(1.0, until - self._cluster.now))
        if task.end is None:
            return upid
        if task.status == "OK" or task.status is None or task.status.startswith("WARNINGS"):
            return None
        raise die(f"{failure}: {task.status}")

    def vanish(self, node: str) -> None:
        """The node of the tasks lost power: what ran there ends without a last line."""
        for task in self.all.values():
            if task.node == node and task.end is None and task.process is not None:
                task.process.kill()
                self._end(task, "unexpected status")

    def running(self, node: str | None = None) -> list[Task]:
        """Tasks under way."""
        return [task for task in self.all.values() if task.end is None and node in (None, task.node)]

    def find(self, node: str, upid: str) -> Task:
        """A task by its UPID.

        Raises:
            ApiError: 400 for what is no UPID or not known on this node.
        """
        if not UPID.match(upid):
            raise bad_parameter(upid="unable to parse worker upid")
        task = self.all.get(upid)
        if task is None or task.node != node:
            raise bad_parameter(upid="no such task")
        return task


class _Killed(Interrupted):
    """The worker got KILL."""


def _begun(steps: Steps[None]) -> Steps[None]:
    """The first half second of a body; its locks are free afterwards, as the kernel sees to that, and nothing else is put right."""
    wait, left = next(steps, None), 0.5
    while isinstance(wait, Sleep) and left > 0:
        yield Sleep(min(wait.seconds, left))
        left -= wait.seconds
        if left > 0:
            wait = next(steps, None)
    steps.close()


def _owns(authid: str, owner: str) -> bool:
    """A token sees its own tasks, a user also those of the user's tokens."""
    return authid == owner or authid == owner.partition("!")[0]


def _may_see(call: Call, node: str, owner: str, privilege: str = "Sys.Audit") -> None:
    if not _owns(call.authid, owner):
        call.check(f"/nodes/{node}", privilege)


def task_status(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/tasks/{upid}/status."""
    task = call.cluster.tasks.find(call.node, call.params["upid"])
    _may_see(call, call.node, task.authid)
    running = task.end is None or call.cluster.now < task.zombie_until
    row = {**task.public(), "status": "running" if running else "stopped"}
    if not running:
        row["exitstatus"] = task.status
    return row


def task_log(call: Call) -> Reply:
    """GET /nodes/{node}/tasks/{upid}/log."""
    upid = call.params["upid"]
    parsed = UPID.match(upid)
    if parsed is None:
        raise bad_parameter(upid="unable to parse worker upid")
    _may_see(call, call.node, parsed[7])
    task = call.cluster.tasks.all.get(upid)
    if task is None or task.node != call.node:
        return Reply([{"n": 1, "t": "unable to open file - No such file or directory"}], total=1)
    if call.params.get("download"):
        if "start" in call.params or "limit" in call.params:
            raise die("'download' cannot be used together with 'start' or 'limit' parameters")
        return Reply(None, raw=("\n".join(task.log_lines) + "\n").encode(), content_type="text/plain")
    if not task.log_lines:
        return Reply([{"n": 1, "t": "no content"}], total=1)
    start, limit = call.params.get("start", 0), call.params.get("limit", 50)
    stop = None if limit == 0 else start + limit
    rows = [{"n": number, "t": text} for number, text in enumerate(task.log_lines, 1)][start:stop]
    return Reply(rows, total=len(task.log_lines))


def task_stop(call: Call) -> None:
    """DELETE /nodes/{node}/tasks/{upid}."""
    task = call.cluster.tasks.find(call.node, call.params["upid"])
    _may_see(call, call.node, task.authid, "Sys.Modify")
    if task.process is not None:
        task.process.interrupt()


def _status_type(status: str | None) -> str:
    if not status or status == "unexpected status":
        return "unknown"
    if status == "OK":
        return "ok"
    return "warning" if re.fullmatch(r"WARNINGS: \d+", status) else "error"


def task_list(call: Call) -> Reply:
    """GET /nodes/{node}/tasks."""
    params, node = call.params, call.node
    start, limit = params.get("start", 0), params.get("limit", 50)
    wanted = {"ok", "warning", "error", "unknown"}
    if params.get("errors"):
        wanted.discard("ok")
    elif "statusfilter" in params:
        wanted = {word.lower() for word in re.split(r"[,;\s\0]+", params["statusfilter"]) if word}
    auditor = call.allowed(f"/nodes/{node}", "Sys.Audit")
    rows: list[dict[str, Any]] = []
    count = 0

    def add(task: Task, status: str | None) -> None:
        nonlocal count
        shown = task.user if "!" in task.authid else task.authid
        if "userfilter" in params and params["userfilter"].lower() not in shown.lower():
            return
        if not (auditor or _owns(call.authid, task.authid)):
            return
        if "typefilter" in params and task.type != params["typefilter"]:
            return
        if params.get("vmid") and task.id != str(params["vmid"]):
            return
        if "since" in params and int(task.start) < params["since"]:
            return
        if "until" in params and int(task.start) > params["until"]:
            return
        if _status_type(status) not in wanted:
            return
        count += 1
        if count <= start or len(rows) >= limit:
            return
        row = task.public()
        if task.end is not None:
            row["endtime"] = int(task.end)
        row["status"] = status or "RUNNING"
        rows.append(row)

    source = params.get("source", "archive")
    tasks = call.cluster.tasks
    if source in ("active", "all"):
        for task in reversed(tasks.running(node)):
            add(task, None)
    if source != "active":
        for task in reversed(tasks.ended):
            if task.node == node:
                add(task, task.status)
    return Reply(rows, total=count)


def cluster_tasks(call: Call) -> list[dict[str, Any]]:
    """GET /cluster/tasks: the recent ones of every node; a token without Sys.Audit on / sees none, not even its own."""
    tasks, auditor = call.cluster.tasks, call.allowed("/", "Sys.Audit")
    rows: list[dict[str, Any]] = []
    for node in call.cluster.nodes:
        recent = [*reversed(tasks.running(node)), *(task for task in reversed(tasks.ended) if task.node == node)]
        for task in recent[:25]:
            # The server compares the user part with the whole token id.
            if not (auditor or task.user == call.authid):
                continue
            row = task.public()
            del row["pid"], row["pstart"]
            if task.end is not None:
                row |= {"endtime": int(task.end), "status": task.status, "saved": "1"}
            rows.append(row)
    return rows


ROUTES = {
    ("GET", "/nodes/{node}/tasks"): task_list,
    ("GET", "/nodes/{node}/tasks/{upid}"): lambda call: [{"name": "log"}, {"name": "status"}],
    ("GET", "/nodes/{node}/tasks/{upid}/status"): task_status,
    ("GET", "/nodes/{node}/tasks/{upid}/log"): task_log,
    ("DELETE", "/nodes/{node}/tasks/{upid}"): task_stop,
    ("GET", "/cluster/tasks"): cluster_tasks,
}
