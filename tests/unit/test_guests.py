"""Finding one guest: by VMID, by name, by a hint that may be wrong, in a list that lags."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError, Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import (
    GuestRef,
    from_resources,
    named,
    observe,
    online_nodes,
    wait_for_lock,
)
from ansible_collections.keel.proxmox.plugins.module_utils.transport import Answer, failure

from .fakes import FakeReader


def row(vmid: int, node: str = "pve1", kind: str = "qemu", **more: object) -> dict[str, object]:
    return {"vmid": vmid, "node": node, "type": kind, "id": f"{kind}/{vmid}", **more}


def status(name: str | None = "web", **more: object) -> dict[str, object]:
    return {"name": name, "status": "running", "qmpstatus": "running", "ha": {"managed": 0}, **more}


def reader(rows: list[dict[str, object]], **answers: Any) -> FakeReader:
    taken = {entry["vmid"] for entry in rows}

    def nextid(vmid: int) -> int:
        if vmid in taken or vmid == 666:
            raise ProxmoxError("VM already exists", effect=Effect.STALE, status=400)
        if vmid < 100:
            raise ProxmoxError("vmid: value must have a minimum value of 100", status=400)
        return vmid

    paths = {path.replace("__", "/"): answer for path, answer in answers.items()}
    nodes = [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "offline"}]
    return FakeReader({"/cluster/resources": rows, "/cluster/nextid": nextid, "/nodes": nodes} | paths)


def at(vmid: int, node: str = "pve1", kind: str = "qemu", page: str = "status/current") -> str:
    return f"/nodes/{node}/{kind}/{vmid}/{page}"


def test_vmid_and_right_node_cost_one_request() -> None:
    api = reader([], **{at(100): status()})
    guest = observe(api, GuestRef(vmid=100, node="pve1"))
    assert (guest.vmid, guest.node, guest.kind, guest.name, guest.status) == (100, "pve1", "qemu", "web", "running")
    assert api.asked == [at(100)]


@pytest.mark.parametrize("ref", [GuestRef(vmid=101), GuestRef(vmid=101, node="pve1"), GuestRef(name="web")], ids=str)
def test_the_guest_is_found_wherever_it_is(ref: GuestRef) -> None:
    api = reader([row(101, "pve2", "lxc", name="web", pool="prod")], **{at(101, "pve2", "lxc"): status(tags="a;b")})
    guest = observe(api, ref)
    assert (guest.node, guest.kind, guest.pool, guest.tags) == ("pve2", "lxc", "prod", ("a", "b"))


def test_a_hint_on_a_node_that_is_down_does_not_hide_a_guest_that_has_moved() -> None:
    api = reader(
        [row(100, "pve2", name="web")],
        **{at(100): ProxmoxError("595 No route to host", status=595), at(100, "pve2"): status()},
    )
    assert observe(api, GuestRef(vmid=100, node="pve1")).node == "pve2"


HUNG = [
    ProxmoxError("596 Connection timed out", effect=Effect.AMBIGUOUS, status=596),
    ProxmoxError("no answer within 35 s", effect=Effect.AMBIGUOUS),
]


@pytest.mark.parametrize("hung", HUNG, ids=str)
def test_a_hint_on_a_node_that_hangs_does_not_hide_a_guest_that_is_elsewhere(hung: ProxmoxError) -> None:
    api = reader([row(100, "pve2", name="web")], **{at(100): hung, at(100, "pve2"): status()})
    assert observe(api, GuestRef(vmid=100, node="pve1")).node == "pve2"
    with pytest.raises(Refused, match="is called 'web', not 'db'"):
        observe(api, GuestRef(vmid=100, name="db", node="pve1"))


@pytest.mark.parametrize("silent", [*HUNG, ProxmoxError("595 No route to host", status=595)], ids=str)
def test_a_node_that_gives_no_answer_is_asked_once_in_a_look(silent: ProxmoxError) -> None:
    api = reader([row(100, name="web")], **{at(100): silent})
    with pytest.raises(ProxmoxError) as failed:
        observe(api, GuestRef(vmid=100, node="pve1"))
    assert failed.value is silent
    assert api.asked == [at(100), "/cluster/resources"]


def test_what_was_found_once_is_looked_for_by_its_vmid() -> None:
    """By now another guest has its name, and its node hangs."""
    before = observe(reader([], **{at(100): status()}), GuestRef(vmid=100, node="pve1"))
    rows = [row(100, "pve2", name="old"), row(101, name="web")]
    api = reader(rows, **{at(100): HUNG[0], at(100, "pve2"): status("old")})
    assert observe(api, GuestRef(name="web"), before).vmid == 100


@pytest.mark.parametrize("hung", HUNG, ids=str)
@pytest.mark.parametrize("many", [1, 10])
def test_a_name_behind_a_node_that_hangs_does_not_pass_for_nobodys(hung: ProxmoxError, many: int) -> None:
    """Or a second guest of that name would be made."""
    rows = [row(vmid) for vmid in range(100, 100 + many)]
    answers = {at(one, page="config"): hung for one in range(100, 100 + many)}
    with pytest.raises(ProxmoxError) as failed:
        named(reader(rows, **answers, **{"/nodes/pve1/qemu": hung}), from_resources(rows), "web")
    assert failed.value is hung


def test_many_fresh_guests_on_a_node_that_went_down_a_moment_ago_are_left_out() -> None:
    down = ProxmoxError("595 No route to host", effect=Effect.NOT_EXECUTED, status=595)
    rows = [*(row(vmid) for vmid in range(100, 110)), row(200, "pve3", name="web")]
    api = reader(rows, **{"/nodes/pve1/qemu": down})
    assert [guest.vmid for guest in named(api, from_resources(rows), "web")] == [200]


def test_a_hint_that_is_no_node_any_more_does_not_hide_the_guest() -> None:
    gone = "hostname lookup 'pve9' failed - failed to get address info for: pve9: Name or service not known"
    api = reader(
        [row(100, "pve2", name="web")],
        **{at(100, "pve9"): failure(Answer(500, None, gone, None, None), "GET"), at(100, "pve2"): status()},
    )
    assert observe(api, GuestRef(vmid=100, node="pve9")).node == "pve2"


def test_several_of_one_name_are_refused() -> None:
    api = reader([row(100, name="web"), row(105, "pve2", name="web")])
    with pytest.raises(Refused, match=r"2 guests are called 'web' \(100 on pve1, 105 on pve2\)"):
        observe(api, GuestRef(name="web"))


def test_vmid_and_name_must_be_of_one_guest() -> None:
    api = reader([row(100, name="db")], **{at(100): status("db")})
    with pytest.raises(Refused, match="VM 100 on node pve1 is called 'db', not 'web'"):
        observe(api, GuestRef(vmid=100, name="web"))


def test_a_fresh_guest_is_asked_for_its_name() -> None:
    api = reader([row(100)], **{at(100, page="config"): {"name": "web"}, at(100): status()})
    assert observe(api, GuestRef(name="web")).vmid == 100


def test_a_made_up_name_is_no_name() -> None:
    # The broadcast came while the guest was cloned, the next one has not come yet.
    api = reader([row(100, name="VM 100")], **{at(100, page="config"): {"name": "web"}, at(100): status()})
    assert observe(api, GuestRef(name="web")).vmid == 100


def test_a_node_that_is_down_is_asked_for_one_name_only() -> None:
    down = ProxmoxError("595 No route to host", status=595)
    rows = [row(100, "pve2"), row(101, "pve2"), row(102, name="web")]
    api = reader(
        rows, **{at(102): status(), at(100, "pve2", page="config"): down, at(101, "pve2", page="config"): down}
    )
    assert observe(api, GuestRef(name="web")).vmid == 102
    assert api.asked == ["/cluster/resources", at(100, "pve2", page="config"), at(102)]


def test_many_fresh_guests_are_looked_up_in_their_nodes_list() -> None:
    rows = [row(vmid) for vmid in range(100, 110)]
    listed = [{"vmid": vmid, "name": f"web{vmid}", "status": "stopped"} for vmid in range(100, 110)]
    api = reader(rows, **{"/nodes/pve1/qemu": listed, "/nodes/pve1/lxc": [], at(107): status("web107")})
    assert observe(api, GuestRef(name="web107")).vmid == 107
    assert len(api.asked) == 5


def test_a_name_that_the_list_still_shows_is_checked_on_the_guest() -> None:
    # 100 was renamed and 101 took its name some seconds ago; the list has not noticed either.
    api = reader(
        [row(100, name="web"), row(101, name="old")],
        **{
            at(100): status("renamed"),
            at(101): status("web"),
            "/nodes/pve1/qemu": [{"vmid": 100, "name": "renamed"}, {"vmid": 101, "name": "web"}],
            "/nodes/pve1/lxc": [],
        },
    )
    assert observe(api, GuestRef(name="web")).vmid == 101


def test_what_does_not_exist_is_told_from_what_may_not_be_seen() -> None:
    with pytest.raises(Refused, match="There is no guest with VMID 555"):
        observe(reader([]), GuestRef(vmid=555))
    with pytest.raises(Refused, match=r"needs? VM.Audit on /vms/666"):
        observe(reader([]), GuestRef(vmid=666))
    with pytest.raises(Refused, match="No guest is called 'web'"):
        observe(reader([], **{"/nodes/pve1/qemu": [], "/nodes/pve1/lxc": []}), GuestRef(name="web"))


def test_a_number_that_is_no_vmid_is_not_taken_for_an_invisible_guest() -> None:
    with pytest.raises(ProxmoxError, match="minimum value of 100"):
        observe(reader([]), GuestRef(vmid=50))


LOCKED = {at(100): status(lock="backup")}
AUDITOR = {"/access/permissions": {"/nodes/pve1": {"Sys.Audit": 1}}}


def test_a_lock_is_traced_to_its_task() -> None:
    api = reader([], **LOCKED, **{"/nodes/pve1/tasks": [{"upid": "UPID:x", "type": "vzdump"}]})
    guest = observe(api, GuestRef(vmid=100, node="pve1"))
    assert wait_for_lock(guest) == "the lock 'backup' of VM 100, held by UPID:x"


def test_a_backup_of_several_guests_holds_the_lock_of_each() -> None:
    def active(**query: object) -> list[dict[str, object]]:
        return [] if "vmid" in query else [{"upid": "UPID:job", "type": "vzdump", "id": ""}]

    api = reader([], **LOCKED, **AUDITOR, **{"/nodes/pve1/tasks": active})
    ref = GuestRef(vmid=100, node="pve1")
    guest = observe(api, ref, observe(api, ref))
    assert wait_for_lock(guest) == "the lock 'backup' of VM 100, held by UPID:job"


def test_a_lock_without_a_task_is_a_leftover_at_the_second_look() -> None:
    api = reader([], **LOCKED, **AUDITOR, **{"/nodes/pve1/tasks": []})
    ref = GuestRef(vmid=100, node="pve1")
    first = observe(api, ref)
    assert wait_for_lock(first) == "the lock 'backup' of VM 100"
    with pytest.raises(Refused, match="qm unlock 100"):
        wait_for_lock(observe(api, ref, first))


def test_who_cannot_see_all_tasks_judges_no_lock() -> None:
    api = reader([], **LOCKED, **{"/nodes/pve1/tasks": [], "/access/permissions": {"/nodes/pve1": {}}})
    ref = GuestRef(vmid=100, node="pve1")
    first = observe(api, ref)
    assert wait_for_lock(observe(api, ref, first)) == "the lock 'backup' of VM 100"


def test_a_hibernated_guest_is_locked_by_nobody() -> None:
    api = reader([], **{at(100): status(lock="suspended")})
    observe(api, GuestRef(vmid=100, node="pve1"))
    assert api.asked == [at(100)]


def test_nodes_that_have_just_started_are_asked_too() -> None:
    rows = [
        {"node": "pve1", "status": "online"},
        {"node": "pve2", "status": "unknown"},
        {"node": "pve3", "status": "offline"},
    ]
    assert online_nodes(FakeReader({"/nodes": rows})) == ["pve1", "pve2"]
