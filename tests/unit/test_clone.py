"""Clone: which calls make the wanted guest from what there is, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.clone import Observed, Wanted, decide, observe, wanted
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest, GuestRef

from .fakes import FakeReader

TEMPLATE = Guest(9000, "qemu", "pve1", "debian", "stopped", "stopped", template=True)
WANT = Wanted(GuestRef(vmid=9000), None, "web")
FREE = Observed(source=TEMPLATE, newid=101)


def test_a_guest_that_does_not_exist_is_cloned() -> None:
    plan = decide(WANT, FREE, ())
    assert [(call.path, dict(call.params)) for call in plan.calls] == [
        ("/nodes/pve1/qemu/9000/clone", {"newid": 101, "name": "web"})
    ]
    assert plan.before == {"guest": None}
    assert plan.after == {"guest": {"vmid": 101, "node": "pve1", "name": "web"}}


def test_a_container_gets_a_host_name() -> None:
    (call,) = decide(WANT, replace(FREE, source=replace(TEMPLATE, kind="lxc")), ()).calls
    assert call.params == {"newid": 101, "hostname": "web"}


def test_a_guest_that_exists_is_left_alone() -> None:
    there = Guest(105, "qemu", "pve2", "web", "running", "running")
    plan = decide(WANT, Observed(existing=there, source=TEMPLATE), ())
    assert not plan.calls
    assert plan.before == plan.after


def test_another_guest_with_that_vmid_is_refused() -> None:
    there = Guest(101, "qemu", "pve2", "db", "running", "running")
    with pytest.raises(Refused, match="VMID 101 is taken: it is VM 101 on node pve2, called 'db', not 'web'"):
        decide(replace(WANT, vmid=101), Observed(existing=there), ())


def test_a_clone_under_way_is_waited_for() -> None:
    there = Guest(101, "qemu", "pve1", "VM 101", "stopped", "stopped", lock="clone")
    plan = decide(replace(WANT, vmid=101), Observed(existing=there), ())
    assert not plan.calls
    assert plan.waiting == "the lock 'clone' of VM 101"


def test_the_end_of_the_move_of_a_new_guest_is_waited_for() -> None:
    there = Guest(101, "qemu", "pve2", "web", "stopped", "stopped", lock="migrate")
    assert "migrate" in str(decide(replace(WANT, target_node="pve2"), Observed(existing=there), ()).waiting)
    assert decide(WANT, Observed(existing=there), ()).waiting is None


def test_the_rest_of_a_clone_is_reported_with_the_remedy() -> None:
    there = Guest(101, "qemu", "pve1", "VM 101", "stopped", "stopped", lock="clone", unheld=2)
    with pytest.raises(Refused, match="'qm unlock 101' and 'qm destroy 101'"):
        decide(replace(WANT, vmid=101), Observed(existing=there), ())


def test_the_disks_decide_whether_the_server_clones_across() -> None:
    want = replace(WANT, full=True, target_node="pve2", storage="fast")
    (direct,) = decide(want, FREE, ()).calls
    assert direct.params["target"] == "pve2"
    clone, move = decide(want, replace(FREE, movable=False), ()).calls
    assert "target" not in clone.params
    assert clone.params["storage"] == "fast"
    assert (move.path, dict(move.params)) == ("/nodes/pve1/qemu/101/migrate", {"target": "pve2"})
    clone, move = decide(want, replace(FREE, movable=False, storage_here=False), ()).calls
    assert "storage" not in clone.params
    assert move.params == {"target": "pve2", "targetstorage": "fast"}


def test_a_move_that_a_run_was_kept_from_is_made_up_for() -> None:
    want = replace(WANT, target_node="pve2", full=True)
    there = Guest(101, "qemu", "pve1", "web", "stopped", "stopped")
    (move,) = decide(want, Observed(existing=there, source=TEMPLATE), ()).calls
    assert move.path == "/nodes/pve1/qemu/101/migrate"
    running = decide(want, Observed(existing=replace(there, status="running"), source=TEMPLATE), ())
    assert not running.calls
    assert "left there" in running.warnings[0]
    third = decide(want, Observed(existing=replace(there, node="pve3"), source=TEMPLATE), ())
    assert not third.calls


REFUSED = {
    "storage": (replace(WANT, storage="fast"), FREE, "set full: true"),
    "no source": (WANT, replace(FREE, source=None), "guest 9000, does not exist"),
    "target is down": (replace(WANT, target_node="pve2"), replace(FREE, target_online=False), "pve2 is down"),
    "linked clone across": (replace(WANT, target_node="pve2"), replace(FREE, movable=False), "Set full: true"),
    "storage not on target": (
        replace(WANT, full=True, storage="fast", target_node="pve2"),
        replace(FREE, movable=False, storage_there=False),
        "no storage 'fast' on node pve2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_sent(case: str) -> None:
    want, observed, text = REFUSED[case]
    with pytest.raises(Refused, match=text):
        decide(want, observed, ())


def test_a_source_of_digits_is_a_vmid() -> None:
    options = {"source": "9000", "name": "web"}
    assert wanted(options).source == GuestRef(vmid=9000)
    assert wanted({**options, "source": "debian-13"}).source == GuestRef(name="debian-13")


@pytest.mark.parametrize("name", ["web_01", "-web", "web.", "web 01", "büro", "web\n"])
def test_names_that_the_server_takes_for_none_are_refused_before(name: str) -> None:
    with pytest.raises(Refused, match="cannot be the name of a guest"):
        wanted({"source": "9000", "name": name})


@pytest.mark.parametrize("name", ["web", "web-01", "1", "web.example.com", "A"])
def test_names_that_the_server_takes(name: str) -> None:
    assert wanted({"source": "9000", "name": name}).name == name


def test_numbers_that_are_no_vmid_are_refused_before() -> None:
    with pytest.raises(Refused, match="99 is no VMID"):
        wanted({"source": "9000", "vmid": 99})


def api(*rows: dict[str, object], free: int = 101) -> FakeReader:
    template = {"vmid": 9000, "type": "qemu", "node": "pve1", "name": "debian", "template": 1}
    return FakeReader({"/cluster/resources": [template, *rows], "/cluster/nextid": lambda vmid=free: vmid})


def test_a_new_guest_costs_three_requests() -> None:
    reader = api()
    assert observe(WANT, reader, None).newid == 101
    # The list once more: whoever took the VMID before this one for the same name is in it by now.
    assert reader.asked == ["/cluster/resources", "/cluster/nextid", "/cluster/resources"]


def test_a_clone_whose_name_nobody_knows_yet_is_waited_for() -> None:
    reader = api({"vmid": 101, "type": "qemu", "node": "pve1", "lock": "clone"}, free=102)
    first = observe(WANT, reader, None)
    plan = decide(WANT, first, ())
    assert plan.waiting is not None
    assert plan.waiting.startswith("the lock 'clone' of VM 101")
    # Clones that others begin later are not waited for: one run could wait for ever.
    reader.answers["/cluster/resources"] += [{"vmid": 103, "type": "qemu", "node": "pve1", "lock": "clone"}]
    assert [guest.vmid for guest in observe(WANT, reader, first).newcomers.unnamed] == [101]


GIVES = {
    "an image only here": (
        {"ide2": "local:iso/debian.iso,media=cdrom", "scsi0": "lvm:base-9000-disk-0"},
        None,
        "ide2 holds local:iso/debian.iso, which cannot be moved",
    ),
    "a storage only here": ({"scsi0": "ssd:base-9000-disk-0,size=4G"}, None, "no storage 'ssd' on node pve2"),
    "disks that a move leaves": ({"scsi0": "nfs:9000/base.raw"}, "far", "on the shared storage 'nfs'"),
    "a storage that nobody sees": ({"scsi0": "hidden:base-9000-disk-0"}, None, None),
    "a cloud-init drive": ({"ide2": "lvm:vm-9000-cloudinit,media=cdrom"}, None, None),
    "disks that move": ({"scsi0": "lvm:base-9000-disk-0"}, "far", None),
}


@pytest.mark.parametrize("case", GIVES)
def test_a_clone_that_could_not_be_moved_is_not_made(case: str) -> None:
    config, storage, text = GIVES[case]
    places = [("pve1", "local", 0), ("pve2", "local", 0), ("pve1", "lvm", 0), ("pve2", "lvm", 0), ("pve1", "ssd", 0)]
    places += [("pve1", "nfs", 1), ("pve2", "nfs", 1), ("pve2", "far", 0)]
    reader = api(
        *({"type": "node", "node": node, "status": "online"} for node in ("pve1", "pve2")),
        *({"type": "storage", "node": node, "storage": name, "shared": shared} for node, name, shared in places),
    )
    reader.answers["/nodes/pve1/qemu/9000/config"] = {**config, "net0": "virtio=BC:24:11:00:00:01", "template": 1}
    want = replace(WANT, full=True, target_node="pve2", storage=storage)
    observed = observe(want, reader, None)
    if text is None:
        assert len(decide(want, observed, ()).calls) == 2
    else:
        with pytest.raises(Refused, match=text):
            decide(want, observed, ())


def test_a_template_is_known_before_the_cluster_list_knows() -> None:
    reader = api(*({"type": "node", "node": node, "status": "online"} for node in ("pve1", "pve2")))
    reader.answers["/cluster/resources"][0].pop("template")
    reader.answers["/nodes/pve1/qemu/9000/config"] = {"scsi0": "lvm:base-9000-disk-0", "template": 1}
    want = replace(WANT, target_node="pve2")
    with pytest.raises(Refused, match="a linked clone must stay on pve1"):
        decide(want, observe(want, reader, None), ())


def listed(reader: FakeReader, **names: str) -> None:
    rows = [{"vmid": int(key[2:]), "name": name, "status": "stopped"} for key, name in names.items()]
    reader.answers |= {
        "/nodes": [{"node": "pve1", "status": "online"}],
        "/nodes/pve1/qemu": rows,
        "/nodes/pve1/lxc": [],
    }


def test_a_source_that_was_just_renamed_is_found() -> None:
    reader = api()
    listed(reader, vm9000="debian-13")
    observed = observe(replace(WANT, source=GuestRef(name="debian-13")), reader, None)
    assert observed.source is not None
    assert observed.source.vmid == 9000


def test_a_name_that_the_guest_has_no_more_is_free() -> None:
    reader = api({"vmid": 100, "type": "qemu", "node": "pve1", "name": "web"})
    reader.answers["/nodes/pve1/qemu/100/status/current"] = {"name": "web-old", "status": "running"}
    listed(reader, vm100="web-old", vm9000="debian")
    plan = decide(WANT, observe(WANT, reader, None), ())
    assert [call.path for call in plan.calls] == ["/nodes/pve1/qemu/9000/clone"]


def test_a_vmid_that_was_tried_stays_while_it_is_free() -> None:
    reader = api(free=101)
    first = observe(WANT, reader, None)
    reader.answers["/cluster/nextid"] = lambda vmid=120: vmid
    assert observe(WANT, reader, first).newid == 101
