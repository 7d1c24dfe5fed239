"""Snapshots: what is wanted against what is there, the calls that lead from one to the other, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import LOOKS_BEFORE_START, Guest
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call, Plan
from ansible_collections.keel.proxmox.plugins.module_utils.snapshots import (
    Observed,
    Snapshot,
    decide,
    observe,
    result,
    wanted,
)

from tests.unit.fakes import FakeReader

VM = Guest(100, "qemu", "pve1", "web", "running", "running")
CT = Guest(101, "lxc", "pve1", "dns", "stopped", "stopped")
S1 = Snapshot("s1", None, "first", 10, vmstate=True)
S2 = Snapshot("s2", "s1", "", 20)
THERE = Observed(VM, (S1, S2), "s2")
PATH = "/nodes/pve1/qemu/100/snapshot"

DAILY = tuple(Snapshot(f"daily-{day}", None, "", day) for day in range(1, 5))


def options(**given: Any) -> dict[str, Any]:
    return {"vmid": 100, "state": "present", "start": False, "force": False, **given}


def planned(observed: Observed, *done: Call, **given: Any) -> Plan:
    return decide(wanted(options(**given)), observed, done)


def sent(plan: Plan) -> list[tuple[str, str, dict[str, object]]]:
    return [(call.method, call.path, dict(call.params)) for call in plan.calls]


# options -> what is sent to a guest with s1 (holds memory, "first") and s2.
CALLS: list[tuple[dict[str, Any], list[tuple[str, str, dict[str, object]]]]] = [
    ({"snapname": "s1"}, []),
    ({"snapname": "s1", "description": "first"}, []),
    ({"snapname": "s1", "description": "first\n"}, []),
    ({"snapname": "s1", "description": "1st"}, [("PUT", f"{PATH}/s1/config", {"description": "1st"})]),
    ({"snapname": "s1", "description": ""}, [("PUT", f"{PATH}/s1/config", {"description": ""})]),
    ({"snapname": "s2", "description": ""}, []),
    ({"snapname": "s2", "vmstate": True}, []),
    ({"snapname": "s3"}, [("POST", PATH, {"snapname": "s3"})]),
    ({"snapname": "S1"}, [("POST", PATH, {"snapname": "S1"})]),
    ({"snapname": "s3", "description": ""}, [("POST", PATH, {"snapname": "s3"})]),
    (
        {"snapname": "s3", "description": "third", "vmstate": True},
        [("POST", PATH, {"snapname": "s3", "description": "third", "vmstate": True})],
    ),
    ({"snapname": "s3", "vmstate": False}, [("POST", PATH, {"snapname": "s3"})]),
    ({"snapname": "s3", "state": "absent"}, []),
    ({"snapname": "s1", "state": "absent"}, [("DELETE", f"{PATH}/s1", {})]),
    ({"snapname": "s1", "state": "absent", "force": True}, [("DELETE", f"{PATH}/s1", {"force": True})]),
    ({"snapname": "s1", "state": "rollback"}, [("POST", f"{PATH}/s1/rollback", {})]),
    ({"snapname": "s2", "state": "rollback", "start": True}, [("POST", f"{PATH}/s2/rollback", {"start": True})]),
    ({"keep": 1, "pattern": "s*"}, [("DELETE", f"{PATH}/s1", {})]),
    ({"keep": 2, "pattern": "s*"}, []),
    ({"keep": 0, "pattern": "s?"}, [("DELETE", f"{PATH}/s1", {}), ("DELETE", f"{PATH}/s2", {})]),
    ({"keep": 0, "pattern": "S*"}, []),
    (
        {"snapname": "s3", "keep": 1, "pattern": "s*"},
        [("POST", PATH, {"snapname": "s3"}), ("DELETE", f"{PATH}/s1", {}), ("DELETE", f"{PATH}/s2", {})],
    ),
    ({"snapname": "other", "keep": 2, "pattern": "s*"}, [("POST", PATH, {"snapname": "other"})]),
]


@pytest.mark.parametrize(("given", "calls"), CALLS, ids=lambda value: str(value)[:60])
def test_calls(given: dict[str, Any], calls: list[Any]) -> None:
    assert sent(planned(THERE, **given)) == calls


@pytest.mark.parametrize(("given", "calls"), [row for row in CALLS if row[0].get("state") != "rollback"])
def test_the_state_that_was_foretold_needs_no_further_call(given: dict[str, Any], calls: list[Any]) -> None:
    first = planned(THERE, **given)
    snapshots = list(THERE.snapshots)
    for method, path, params in calls:
        name = str(params.get("snapname") or path.split("/")[6])
        if method == "POST":
            memory = bool(params.get("vmstate"))
            snapshots.append(Snapshot(name, "s2", str(params.get("description", "")).rstrip(), 30, memory))
        elif method == "PUT":
            text = str(params["description"])
            snapshots = [replace(one, description=text) if one.name == name else one for one in snapshots]
        else:
            snapshots = [one for one in snapshots if one.name != name]
    last = planned(replace(THERE, snapshots=tuple(snapshots)), **given)
    assert not last.calls
    assert last.before == first.after
    assert first.before.keys() == first.after.keys()


def test_a_snapshot_that_is_named_stays_however_old_it_is() -> None:
    there = Observed(VM, DAILY, "daily-4")
    assert sent(planned(there, snapname="daily-1", keep=2, pattern="daily-*")) == [
        ("DELETE", f"{PATH}/daily-2", {}),
        ("DELETE", f"{PATH}/daily-3", {}),
    ]


def test_the_memory_of_a_stopped_guest_is_not_foretold() -> None:
    stopped = replace(THERE, guest=replace(VM, status="stopped"))
    assert planned(THERE, snapname="s3", vmstate=True).after["vmstate"] is True
    assert planned(stopped, snapname="s3", vmstate=True).after["vmstate"] is False


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"snapname": "s1"}, "running"),
        ({"snapname": "s2"}, "stopped"),
        ({"snapname": "s2", "start": True}, "running"),
    ],
)
def test_rolling_back_is_done_once(given: dict[str, Any], status: str) -> None:
    plan = planned(THERE, state="rollback", **given)
    assert plan.after == {"parent": given["snapname"], "status": status}
    there = replace(THERE, guest=replace(VM, status=status), parent=given["snapname"])
    again = planned(there, *plan.calls, state="rollback", **given)
    assert (again.calls, again.before) == ((), plan.after)


def test_the_start_after_a_rollback_is_waited_for_and_made_up_for() -> None:
    call = planned(THERE, state="rollback", snapname="s2", start=True).calls[0]
    stopped = replace(THERE, guest=replace(VM, status="stopped"), stopped_looks=1)
    assert planned(stopped, call, state="rollback", snapname="s2").waiting is None
    early = planned(stopped, call, state="rollback", snapname="s2", start=True)
    assert (early.calls, early.waiting) == ((), "VM 100 to start after it was rolled back")
    patient = replace(stopped, stopped_looks=LOOKS_BEFORE_START)
    assert sent(planned(patient, call, state="rollback", snapname="s2", start=True)) == [
        ("POST", "/nodes/pve1/qemu/100/status/start", {})
    ]
    managed = replace(patient, guest=replace(patient.guest, ha_state="started"))
    assert planned(managed, call, state="rollback", snapname="s2", start=True).calls == ()


def test_the_power_of_guests_of_high_availability_is_not_foretold() -> None:
    managed = replace(THERE, guest=replace(VM, ha_state="started"))
    assert planned(managed, state="rollback", snapname="s2").after == {"parent": "s2"}


TASKS = ["vzsnapshot", "vzdelsnapshot", "vzrollback"]


def test_tasks_of_containers() -> None:
    there = Observed(CT, (S2,), "s2")
    plans = [
        planned(there, vmid=101, snapname="new"),
        planned(there, vmid=101, snapname="s2", state="absent"),
        planned(there, vmid=101, snapname="s2", state="rollback"),
    ]
    assert [plan.calls[0].task for plan in plans] == [(name, "101") for name in TASKS]


REFUSED_ALONE: list[tuple[dict[str, Any], str]] = [
    ({"snapname": "current"}, "'current' is no snapshot"),
    ({"snapname": "1st"}, "cannot be the name"),
    ({"snapname": "a"}, "2 to 40"),
    ({"snapname": "a b"}, "cannot be the name"),
    ({"snapname": "x" * 41}, "2 to 40"),
    ({"snapname": "ok\n"}, "cannot be the name"),
    ({}, "needs snapname"),
    ({"state": "absent"}, "needs snapname"),
    ({"snapname": "s1", "keep": 3}, "belong together"),
    ({"keep": -1, "pattern": "*"}, "less than none"),
    ({"snapname": "s1", "keep": 0, "pattern": "s*"}, "keep=0 would remove"),
    ({"keep": 1, "pattern": "*", "description": "x"}, "description and vmstate need"),
    ({"snapname": "s1", "state": "absent", "keep": 0, "pattern": "*"}, "keep goes with state=present"),
    ({"snapname": "s1", "state": "rollback", "vmstate": True}, "vmstate goes with state=present"),
    ({"snapname": "s1", "start": True}, "start goes with state=rollback"),
    ({"snapname": "s1", "state": "rollback", "force": True}, "force goes with state=absent"),
]


@pytest.mark.parametrize(("given", "why"), REFUSED_ALONE)
def test_options_that_cannot_be_meant(given: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        wanted(options(**given))


BROKEN = Observed(VM, (S1, replace(S2, snapstate="delete")), "s2")

REFUSED_THERE: list[tuple[Observed, dict[str, Any], str]] = [
    (THERE, {"snapname": "s9", "state": "rollback"}, "has no snapshot 's9'; it has: s1, s2"),
    (Observed(VM), {"snapname": "s9", "state": "rollback"}, "it has: none"),
    (THERE, {"snapname": "Pending"}, "keeps the name"),
    (Observed(CT), {"vmid": 101, "snapname": "vzdump"}, "keeps the name"),
    (Observed(CT), {"vmid": 101, "snapname": "s1", "vmstate": True}, "is a container"),
    (replace(THERE, guest=replace(VM, template=True)), {"snapname": "s3"}, "is a template"),
    (replace(THERE, guest=replace(VM, template=True)), {"snapname": "s1", "state": "absent"}, "is a template"),
    (replace(THERE, guest=replace(VM, lock="suspended")), {"snapname": "s3"}, "is hibernated"),
    (replace(THERE, unable=("scsi0: lvm:vm-100-disk-0",)), {"snapname": "s3"}, "scsi0: lvm:vm-100-disk-0"),
    (BROKEN, {"snapname": "s2"}, "incomplete .*force=true"),
    (BROKEN, {"snapname": "s2", "state": "absent"}, "incomplete .*force=true"),
    (BROKEN, {"snapname": "s2", "state": "rollback"}, "incomplete"),
]


@pytest.mark.parametrize(("there", "given", "why"), REFUSED_THERE, ids=lambda value: str(value)[:40])
def test_what_cannot_be_done_is_refused_before(there: Observed, given: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        planned(there, **given)


def test_an_incomplete_snapshot_is_removed_when_asked() -> None:
    assert sent(planned(BROKEN, snapname="s2", state="absent", force=True)) == [
        ("DELETE", f"{PATH}/s2", {"force": True})
    ]


def test_an_incomplete_snapshot_neither_counts_nor_goes() -> None:
    plan = planned(BROKEN, keep=0, pattern="s*")
    assert sent(plan) == [("DELETE", f"{PATH}/s1", {})]
    assert "Snapshot 's2' of VM 100" in plan.warnings[0]


def test_thinning_out_waits_for_a_snapshot_that_goes_or_comes() -> None:
    plan = planned(replace(BROKEN, guest=replace(VM, lock="snapshot-delete")), keep=1, pattern="s*")
    assert plan.calls == ()
    assert "snapshot-delete" in str(plan.waiting)


@pytest.mark.parametrize("state", ["present", "absent", "rollback"])
def test_a_snapshot_that_somebody_works_on_is_waited_for(state: str) -> None:
    busy = replace(BROKEN, guest=replace(VM, lock="snapshot-delete"))
    plan = planned(busy, snapname="s2", state=state)
    assert plan.calls == ()
    assert plan.waiting is not None
    assert "snapshot-delete" in plan.waiting


def test_a_locked_guest_is_waited_for_only_where_something_is_to_be_done() -> None:
    locked = replace(THERE, guest=replace(VM, lock="backup"))
    assert planned(locked, snapname="s3").waiting is not None
    assert planned(locked, snapname="s3").calls
    assert planned(locked, snapname="s1").waiting is None
    assert planned(locked, snapname="s9", state="absent").waiting is None


STATUS = {"status": "running", "qmpstatus": "running", "name": "web"}
ROWS = [
    {"name": "s2", "parent": "s1", "description": "", "snaptime": 10, "vmstate": 0},
    {"name": "s1", "description": "two\nlines\n", "snaptime": 10, "vmstate": 1},
    {"name": "current", "parent": "s2", "description": "You are here!", "digest": "x", "running": 1},
]


def reader(**answers: Any) -> FakeReader:
    base = "/nodes/pve1/qemu/100"
    return FakeReader(
        {
            f"{base}/status/current": STATUS,
            f"{base}/snapshot": ROWS,
            f"{base}/feature": {"hasFeature": answers.get("able", 1)},
            f"{base}/config": {
                "scsi0": "local-lvm:vm-100-disk-0,size=8G",
                "ide2": "local:iso/debian.iso,media=cdrom",
                "scsihw": "virtio-scsi-pci",
            },
        }
    )


def test_observe_takes_two_requests_where_nothing_is_to_be_made() -> None:
    server = reader()
    there = observe(wanted(options(snapname="s1", node="pve1")), server, None)
    assert server.asked == ["/nodes/pve1/qemu/100/status/current", PATH]
    assert [(one.name, one.description, one.vmstate) for one in there.snapshots] == [
        ("s1", "two\nlines", True),
        ("s2", "", False),
    ]
    assert there.parent == "s2"


@pytest.mark.parametrize(("able", "unable"), [(1, None), (0, ("scsi0: local-lvm:vm-100-disk-0",))])
def test_observe_asks_whether_the_storages_can(able: int, unable: tuple[str, ...] | None) -> None:
    there = observe(wanted(options(snapname="new", node="pve1")), reader(able=able), None)
    assert there.unable == unable


def test_result_is_a_tree() -> None:
    branch = Snapshot("s3", "s1", "", 30)
    lost = Snapshot("s4", "gone", "", 40)
    shown = result(wanted(options(snapname="s1")), Observed(VM, (S1, S2, branch, lost), "s2"))
    assert [one["name"] for one in shown["snapshots"]] == ["s1", "s2", "s3", "s4"]  # type: ignore[attr-defined]
    assert shown["tree"] == [
        {
            "name": "s1",
            "current": False,
            "children": [
                {"name": "s2", "current": True, "children": []},
                {"name": "s3", "current": False, "children": []},
            ],
        },
        {"name": "s4", "current": False, "children": []},
    ]


@pytest.mark.parametrize(("uptime", "waits"), [(0, True), (1, True), (2, False), (500, False)])
def test_a_vm_that_was_just_started_is_not_rolled_back_yet(uptime: int, waits: bool) -> None:
    plan = planned(replace(THERE, guest=replace(VM, uptime=uptime)), state="rollback", snapname="s2")
    assert (plan.waiting is not None) is waits
    assert [call.path for call in plan.calls] == [f"{PATH}/s2/rollback"]
