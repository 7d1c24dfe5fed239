"""Waiting for tasks of the server: how often it looks, how soon it knows, what it makes of the end."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils import tasks
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError, TimedOut
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Outcome
from ansible_collections.keel.proxmox.plugins.module_utils.progress import Progress, told
from ansible_collections.keel.proxmox.plugins.module_utils.wire import Upid, parse_upid

from .fakes import FakeClock

TEXT = "UPID:pve1:0000031D:00065374:6B006D77:qmstart:101:root@pam!ci:"
PARSED = parse_upid(TEXT)
assert PARSED is not None
UPID: Upid = PARSED


class Server:
    """A task that ends after some seconds with an exit status and a log."""

    def __init__(self, clock: FakeClock, seconds: float, exit_status: str = "OK", log: tuple[str, ...] = ()) -> None:
        self.clock, self.end, self.exit_status, self.log = clock, clock.now() + seconds, exit_status, log
        self.began = clock.now()
        self.looks: list[float] = []
        self.log_looks: list[tuple[float, int]] = []
        self.a_line_each_second = False
        self.zombie = False
        self.down_until = 0.0

    def written(self, over: bool) -> list[str]:
        if over:
            return list(self.log)
        if not self.a_line_each_second:
            return list(self.log[:1])
        seconds = int(self.clock.now() - self.began)
        return [f"transferred {n}.0 MiB of 100.0 MiB ({n}.00%)" for n in range(seconds + 1)]

    def get(self, path: str, **query: object) -> Any:
        if self.clock.now() < self.down_until:
            raise ProxmoxError("595 No route to host", effect=Effect.NOT_EXECUTED, status=595)
        over = self.clock.now() >= self.end
        if path.endswith("/log"):
            self.log_looks.append((self.clock.now() - self.began, int(str(query["start"]))))
            rows = [{"n": n, "t": text} for n, text in enumerate(self.written(over), start=1)]
            return rows[int(str(query["start"])) :]
        assert path == f"/nodes/pve1/tasks/{TEXT}/status"
        self.looks.append(self.clock.now())
        if over and not self.zombie:
            return {"status": "stopped", "exitstatus": self.exit_status}
        return {"status": "running"}


def wait(seconds: float, *args: Any, timeout: float = 600.0, **more: Any) -> tuple[Server, FakeClock, Outcome]:
    clock = FakeClock()
    server = Server(clock, seconds, *args)
    for key, value in more.items():
        setattr(server, key, value)
    return server, clock, tasks.wait(server.get, UPID, clock.now() + timeout, clock)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 5.0, 30.0, 300.0])
def test_the_end_is_seen_soon(seconds: float) -> None:
    server, clock, _outcome = wait(seconds)
    late = clock.now() - 1000.0 - seconds
    assert late <= max(0.05, min(0.5, seconds * 0.11), min(2.0, seconds / 100))
    # Two a second for a minute, then as many again each time the time has doubled.
    assert len(server.looks) <= 36 + 2 * min(seconds, 60) + 120 * max(math.log(seconds / 60), 0) if seconds else 1
    assert all(at > tasks.LOG_LOOK_SECONDS for at, _start in server.log_looks)


@pytest.mark.parametrize("latency", [0.0, 0.001, 0.005])
@pytest.mark.parametrize("seconds", [0.3, 0.7, 2.0, 5.0, 30.0])
def test_the_end_is_seen_soon_of_a_server_that_takes_its_time(seconds: float, latency: float) -> None:
    """A task of 0.3 s costs 0.15 s more at most, and no failing start is told more than half a second late."""
    clock = FakeClock()
    server = Server(clock, seconds, "start failed: QEMU exited with code 1")

    def get(path: str, **query: object) -> Any:
        clock.sleep(latency / 2)
        answer = server.get(path, **query)
        clock.sleep(latency / 2)
        return answer

    with pytest.raises(ProxmoxError, match="QEMU exited"):
        tasks.wait(get, UPID, clock.now() + 600.0, clock)
    late = clock.now() - 1000.0 - seconds
    assert late <= (0.15 if seconds <= 1.0 else 0.52)


def test_who_watches_is_told_now_and_then_and_the_log_is_read_for_that_only() -> None:
    """The first line after two seconds, then seldomer, at most every half minute; what was read is not asked for again."""
    clock = FakeClock()
    server = Server(clock, 600.0)
    server.a_line_each_second = True
    seen: list[Progress] = []
    tasks.wait(server.get, UPID, clock.now() + 3600.0, clock, what="clone VM 9000 to VM 101", watch=seen.append)
    at = [progress.seconds for progress in seen]
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert 2.0 <= at[0] <= 2.5
    assert all(5.0 <= pause <= 32.0 for pause in pauses)
    assert pauses[0] < 5.5
    assert pauses[-1] > 28.0
    assert {progress.what for progress in seen} == {"clone VM 9000 to VM 101"}
    assert {progress.upid for progress in seen} == {TEXT}
    for progress in seen:
        assert list(progress.lines) == [
            f"transferred {n}.0 MiB of 100.0 MiB ({n}.00%)" for n in range(int(progress.seconds) + 1)
        ]
    looked = [seconds for seconds, _start in server.log_looks]
    assert len([one for one in looked if one < 60.0]) <= len([one for one in at if one < 60.0]) + 2
    # Of what was read only the last line is asked for again.
    assert all(start == max(0, int(earlier)) for (earlier, _s), (_at, start) in itertools.pairwise(server.log_looks))


def test_a_quick_task_is_not_told_of() -> None:
    clock = FakeClock()
    server = Server(clock, 1.9)
    seen: list[Progress] = []
    tasks.wait(server.get, UPID, clock.now() + 60.0, clock, watch=seen.append)
    assert seen == []
    assert server.log_looks == []


def test_a_log_that_cannot_be_read_is_told_without() -> None:
    clock = FakeClock()
    server = Server(clock, 8.0)
    seen: list[Progress] = []

    def get(path: str, **query: object) -> Any:
        if path.endswith("/log"):
            raise ProxmoxError("403 Permission check failed", status=403)
        return server.get(path, **query)

    tasks.wait(get, UPID, clock.now() + 60.0, clock, watch=seen.append)
    assert [told(progress) for progress in seen] == ["qmstart 101: 2 s", "qmstart 101: 7 s"]


def test_warnings_come_with_the_success() -> None:
    _server, _clock, outcome = wait(1.0, "WARNINGS: 1", ("begun", "WARN: no bridge", "TASK WARNINGS: 1"))
    assert outcome.warnings == ("no bridge",)


@pytest.mark.parametrize(
    ("exit_status", "effect"),
    [
        ("start failed: QEMU exited with code 1", Effect.PERMANENT),
        ("can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout", Effect.CONTENDED),
        ("clone failed: cfs-lock 'storage-nfs' error: got lock request timeout", Effect.CONTENDED),
        ("VM 101 already running", Effect.STALE),
        ("unexpected status", Effect.AMBIGUOUS),
    ],
)
def test_a_failed_task_says_why_and_shows_its_log(exit_status: str, effect: Effect) -> None:
    log = (*(f"line {n}" for n in range(20)), f"TASK ERROR: {exit_status}")
    with pytest.raises(ProxmoxError) as caught:
        wait(0.2, exit_status, log)
    assert caught.value.effect is effect
    assert exit_status in caught.value.message
    assert caught.value.upid == TEXT
    assert caught.value.log == log[-tasks.LOG_TAIL_LINES :]


@pytest.mark.parametrize(
    ("cause", "effect"),
    [
        ("Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist", Effect.ABSENT),
        ("VM is locked (migrate)", Effect.CONTENDED),
        ("can't migrate VM which uses local devices: hostpci0", Effect.PERMANENT),
    ],
)
def test_the_log_of_a_migration_tells_what_its_exit_status_does_not(cause: str, effect: Effect) -> None:
    lines = (
        "2026-01-01 00:00:00 starting",
        f"2026-01-01 00:00:01 ERROR: migration aborted (duration 00:00:01): {cause}",
    )
    with pytest.raises(ProxmoxError) as caught:
        wait(1.0, "migration aborted", (*lines, "TASK ERROR: migration aborted"))
    assert caught.value.effect is effect


def test_the_wait_ends_and_the_task_is_left_alone() -> None:
    with pytest.raises(TimedOut, match=r"still runs after 20 s and was left alone: UPID:pve1") as caught:
        wait(1000.0, "OK", ("begun",), timeout=20.0)
    assert caught.value.upid == TEXT
    assert caught.value.log == ("begun",)


def test_a_node_that_is_down_for_a_while_does_not_end_the_wait() -> None:
    _server, clock, outcome = wait(1.0, down_until=1030.0)
    assert outcome.upid == TEXT
    assert clock.now() > 1030.0


def test_the_log_is_believed_where_the_status_never_ends() -> None:
    _server, clock, outcome = wait(3.0, "OK", ("begun", "TASK OK"), zombie=True)
    assert outcome.upid == TEXT
    assert clock.now() < 1000.0 + tasks.LOG_LOOK_SECONDS + 3.0


def test_a_lost_task_is_found_among_those_of_its_guest() -> None:
    clock = FakeClock()
    looks: list[dict[str, object]] = []

    def get(path: str, **query: object) -> Any:
        assert path == "/nodes/pve1/tasks"
        looks.append(query)
        old = TEXT.replace("0000031D", "0000031C")
        return [{"upid": old}] + ([{"upid": TEXT}] if len(looks) > 2 else [])

    found = tasks.find(
        get, "pve1", "qmstart", "101", since=1_795_190_000, known={TEXT.replace("0000031D", "0000031C")}, clock=clock
    )
    assert found == UPID
    assert looks[0] == {"source": "all", "typefilter": "qmstart", "vmid": "101", "since": 1_795_190_000}


def test_a_task_that_never_began_is_not_found() -> None:
    clock = FakeClock()
    assert tasks.find(lambda path, **query: [], "pve1", "qmstart", "101", since=0, known=(), clock=clock) is None
    assert 10.0 < clock.now() - 1000.0 < 15.0
