"""Tasks of the server and locks of guests: what is asked, what is told, what is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils import locks, task_info, task_list, task_state, unlock
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError, Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest, GuestRef
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call
from ansible_collections.keel.proxmox.plugins.module_utils.wire import last_words
from ansible_collections.keel.proxmox.plugins.module_utils.wire import task_state as state_of

from .fakes import FakeReader

UPID = "UPID:pve1:0000031D:00065374:6B006D77:vzdump:101:root@pam!ci:"
TASK = task_list.Task(task_list.parsed(UPID))
PATH = f"/nodes/pve1/tasks/{UPID}"


@pytest.mark.parametrize(
    ("exit_status", "state"),
    [
        (None, "running"),
        ("OK", "ok"),
        ("WARNINGS: 2", "warning"),
        ("job errors", "error"),
        ("OK then not", "error"),
        ("", "unknown"),
        ("unexpected status", "unknown"),
    ],
)
def test_states(exit_status: str | None, state: str) -> None:
    assert state_of(exit_status) == state


def test_last_words() -> None:
    assert last_words(["a", "TASK OK", ""]) == "OK"
    assert last_words(["TASK WARNINGS: 1"]) == "WARNINGS: 1"
    assert last_words(["TASK ERROR: no"]) == "no"
    assert last_words(["TASK OK", "more"]) is last_words([]) is None


@pytest.mark.parametrize(
    ("row", "state", "end"),
    [
        ({"status": "RUNNING"}, "running", None),
        ({}, "running", None),
        ({"status": "OK", "endtime": 1}, "ok", 1),
        ({"endtime": 1}, "unknown", 1),
    ],
)
def test_rows(row: dict[str, Any], state: str, end: int | None) -> None:
    task = task_list.from_row({"upid": UPID, **row})
    assert task is not None
    assert (task.state, task.end) == (state, end)
    assert task_list.from_row({**row, "upid": "nonsense"}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1795190000", 1795190000),
        ("2026-11-20T15:13:20Z", 1795187600),
        ("2026-11-20 16:13:20+01:00", 1795187600),
        (None, None),
    ],
)
def test_moments(text: str | None, seconds: int | None) -> None:
    assert task_list.moment("since", text) == seconds


def test_what_is_no_moment() -> None:
    with pytest.raises(Refused, match="since: 'yesterday'"):
        task_list.moment("since", "yesterday")


def looking(**options: Any) -> task_info.Wanted:
    return task_info.wanted({"limit": 50, "locks": False, **options})


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({}, {"source": "all"}),
        ({"state": ["running"]}, {"source": "active"}),
        ({"state": ["error"]}, {"source": "archive", "statusfilter": "error"}),
        ({"state": ["running", "error"]}, {"source": "all", "statusfilter": "error,unknown"}),
        (
            {"vmid": 101, "task_type": "vzdump", "user": "root", "since": "5"},
            {"source": "all", "vmid": 101, "typefilter": "vzdump", "userfilter": "root", "since": 5},
        ),
    ],
)
def test_what_a_node_is_asked(options: dict[str, Any], query: dict[str, Any]) -> None:
    asked: list[dict[str, object]] = []
    reader = FakeReader({"/nodes/pve1/tasks": lambda **found: asked.append(found) or []})
    task_info.observe(looking(node="pve1", **options), reader, None)
    assert asked == [{"limit": 50, **query}]


def test_the_newest_of_all_nodes_and_those_that_do_not_answer() -> None:
    rows = [{"upid": UPID.replace("6B006D77", f"6B006D7{number}"), "status": "OK", "endtime": 9} for number in range(3)]
    reader = FakeReader(
        {
            "/nodes": [{"node": node, "status": "online"} for node in ("pve1", "pve2", "pve3")],
            "/nodes/pve1/tasks": rows[:1],
            "/nodes/pve2/tasks": ProxmoxError("down", status=595, effect=Effect.NOT_EXECUTED),
            "/nodes/pve3/tasks": rows[1:],
        }
    )
    want = looking(limit=2)
    found = task_info.result(want, task_info.observe(want, reader, None))
    assert [str(row["upid"])[28:36] for row in found["tasks"]] == ["6B006D72", "6B006D71"]  # type: ignore[attr-defined]
    assert found["unreachable_nodes"] == ["pve2"]
    assert "locks" not in found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"upid": "x"}, "not the UPID"),
        ({"upid": UPID, "vmid": 1, "node": "a"}, "node and vmid"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        looking(**options)


# One task


def wanted(state: str, *, fail_on_error: bool = True) -> task_state.Wanted:
    return task_state.wanted({"upid": UPID, "state": state, "fail_on_error": fail_on_error})


STOP = Call("DELETE", PATH, {}, "")


@pytest.mark.parametrize(
    ("state", "exit_status", "done", "calls", "waits", "fails"),
    [
        ("finished", None, (), 0, True, False),
        ("finished", "OK", (), 0, False, False),
        ("finished", "WARNINGS: 1", (), 0, False, False),
        ("finished", "job errors", (), 0, False, True),
        ("finished", "unexpected status", (), 0, False, True),
        ("stopped", None, (), 1, False, False),
        ("stopped", None, (STOP,), 0, True, False),
        ("stopped", "received interrupt", (STOP,), 0, False, False),
        ("stopped", "job errors", (), 0, False, False),
    ],
)
def test_what_is_left(
    state: str, exit_status: str | None, done: tuple[Call, ...], calls: int, waits: bool, fails: bool
) -> None:
    observed = task_state.Observed(replace(TASK, exit_status=exit_status))
    plan = task_state.decide(wanted(state), observed, done)
    assert (len(plan.calls), plan.waiting is not None, plan.failure is not None) == (calls, waits, fails)
    assert all(call.same_deed(STOP) for call in plan.calls)
    assert task_state.decide(wanted(state, fail_on_error=False), observed, done).failure is None


def test_a_task_that_is_not_known() -> None:
    reader = FakeReader({f"{PATH}/status": ProxmoxError("no such task", status=400)})
    with pytest.raises(Refused, match="knows no task"):
        task_state.observe(wanted("finished"), reader, None)
    with pytest.raises(Refused, match="no node pve1"):
        task_state.observe(wanted("finished"), FakeReader({}), None)


def test_a_node_that_is_down_for_a_while_is_waited_for() -> None:
    down = ProxmoxError("down", status=595, effect=Effect.NOT_EXECUTED)
    reader = FakeReader({f"{PATH}/status": down})
    with pytest.raises(ProxmoxError, match="down"):
        task_state.observe(wanted("finished"), reader, None)
    seen = task_state.observe(wanted("finished"), reader, task_state.Observed(TASK))
    assert (seen.task, seen.looks) == (TASK, 1)


def test_a_task_has_ended_when_its_log_says_so() -> None:
    reader = FakeReader({f"{PATH}/status": {"status": "running"}, f"{PATH}/log": [{"t": "TASK OK"}]})
    seen = None
    for _look in range(task_state.LOOKS_BEFORE_LOG):
        assert seen is None or seen.task.state == "running"
        seen = task_state.observe(wanted("finished"), reader, seen)
    assert seen is not None
    assert seen.task.state == "ok"


# Locks

VM = Guest(101, "qemu", "pve1", "db", "stopped", lock="backup")
CT = replace(VM, vmid=200, kind="lxc")
UNLOCK = unlock.Wanted(GuestRef(101))
FORCE = replace(UNLOCK, force=True)


def seen(guest: Guest, first: Guest | None = None) -> unlock.Observed:
    return unlock.Observed(guest, first or guest, "digest")


def test_a_lock_that_is_proved_idle_is_removed_after_a_second_look() -> None:
    once, twice = (unlock.decide(UNLOCK, seen(replace(VM, unheld=looks)), ()) for looks in (1, 2))
    assert once.waiting is not None
    assert twice.waiting is None
    assert once.calls == twice.calls
    (call,) = twice.calls
    assert call.params == {"delete": "lock", "skiplock": True, "digest": "digest"}


@pytest.mark.parametrize(
    ("guest", "says"),
    [
        (replace(VM, lock_task=UPID), UPID),
        (VM, "Sys.Audit"),
        (replace(VM, ha_state="started"), "ha-manager status"),
        (replace(VM, lock="suspended"), "hibernated"),
        (replace(CT, unheld=2), "pct unlock 200"),
        (replace(CT, lock_task=UPID), UPID),
    ],
)
def test_a_lock_that_stays(guest: Guest, says: str) -> None:
    with pytest.raises(Refused, match=says.replace("!", ".")):
        unlock.decide(UNLOCK, seen(guest), ())


@pytest.mark.parametrize("guest", [replace(VM, lock_task=UPID), VM, replace(VM, lock="suspended")])
def test_force(guest: Guest) -> None:
    plan = unlock.decide(FORCE, seen(guest), ())
    assert len(plan.calls) == 1
    assert plan.waiting is None


def test_what_is_left_to_do_is_told_once_it_is_gone() -> None:
    gone = seen(replace(VM, lock=None), VM)
    assert "unfinished backup" in str(unlock.decide(UNLOCK, gone, (STOP,)).warnings)
    assert unlock.decide(UNLOCK, gone, ()).warnings == ()


def test_locks_as_results_show_them() -> None:
    assert locks.remedy(replace(VM, lock=None)) is None
    shown = [locks.shown(guest) for guest in (VM, replace(VM, unheld=1), replace(VM, lock_task=UPID))]
    assert [one["held"] for one in shown] == [None, False, True]
    assert "proxmox_lock" in str(shown[1]["remedy"])
