"""Migration: the call that moves a guest, everything that keeps it from moving, and high availability's part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import ProxmoxError, Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest, GuestRef
from ansible_collections.keel.proxmox.plugins.module_utils.guests import observe as observe_guest
from ansible_collections.keel.proxmox.plugins.module_utils.migration import (
    Conditions,
    Disk,
    Node,
    Observed,
    Storage,
    StorageMap,
    decide,
    observe,
    obstacles,
    storage_map,
    wanted,
)
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call, Plan

from tests.unit.fakes import FakeReader

GIB = 1024**3
STOPPED = Guest(100, "qemu", "pve1", "web", "stopped", "stopped")
RUNNING = replace(STOPPED, status="running", qmpstatus="running")
CT = Guest(101, "lxc", "pve1", "dns", "stopped", "stopped")
CT_RUNNING = replace(CT, status="running")

GUEST_DISKS = frozenset({"images", "rootdir"})
STORAGES = {
    "local": Storage("dir", content=GUEST_DISKS),
    "thin": Storage("lvmthin", content=GUEST_DISKS, nodes=frozenset({"pve1"})),
    "zfs": Storage("zfspool", content=GUEST_DISKS, nodes=frozenset({"pve1", "pve2"})),
    "chains": Storage("dir", content=GUEST_DISKS, chained=True),
    "iscsi": Storage("iscsidirect", content=GUEST_DISKS),
    "nfs": Storage("nfs", shared=True, content=GUEST_DISKS),
    "san": Storage("rbd", shared=True, content=GUEST_DISKS, nodes=frozenset({"pve1"})),
    "isos": Storage("dir", content=frozenset({"iso"})),
    "off": Storage("dir", content=GUEST_DISKS, disabled=True),
}
FINE = Conditions(
    {"pve1": Node(True, 8 * GIB), "pve2": Node(True, 4 * GIB), "pve3": Node(False)}, STORAGES, memory=2 * GIB
)
LOCAL = Disk("local:100/vm-100-disk-0.qcow2", "scsi0")
THIN = Disk("thin:vm-100-disk-0", "scsi0")
MOUNT = Disk("local:101/vm-101-disk-0.raw", "rootfs")


def options(**given: Any) -> dict[str, Any]:
    return {"vmid": 100, "target_node": "pve2", "timeout": 600, **given}


def planned(
    guest: Guest, *done: Call, conditions: Conditions | None = FINE, gave_up: bool = False, **given: Any
) -> Plan:
    return decide(wanted(options(**given)), Observed(guest, "pve2", conditions, gave_up), done)


def reasons(guest: Guest, conditions: Conditions, **given: Any) -> list[str]:
    return list(obstacles(wanted(options(**given)), guest, conditions))


@pytest.mark.parametrize(
    ("guest", "given", "params"),
    [
        (STOPPED, {}, {"target": "pve2"}),
        (RUNNING, {}, {"target": "pve2", "online": True}),
        (RUNNING, {"with_local_disks": True}, {"target": "pve2", "online": True, "with-local-disks": True}),
        (STOPPED, {"target_storage": "zfs", "bwlimit": 0}, {"target": "pve2", "targetstorage": "zfs", "bwlimit": 0}),
        (STOPPED, {"target_storage": 1}, {"target": "pve2", "targetstorage": "1"}),
        (STOPPED, {"target_storage": {"thin": "zfs"}}, {"target": "pve2", "targetstorage": "thin:zfs"}),
        (STOPPED, {"shutdown_timeout": 30}, {"target": "pve2"}),
        (CT, {}, {"target": "pve2"}),
        (CT_RUNNING, {}, {"target": "pve2", "restart": True}),
        (CT_RUNNING, {"shutdown_timeout": 30}, {"target": "pve2", "restart": True, "timeout": 30}),
        (CT, {"target_storage": "zfs", "with_local_disks": True}, {"target": "pve2", "target-storage": "zfs"}),
    ],
)
def test_the_call(guest: Guest, given: dict[str, Any], params: dict[str, object]) -> None:
    plan = planned(guest, **given)
    (call,) = plan.calls
    assert (call.method, call.path, dict(call.params)) == ("POST", f"{guest.path}/migrate", params)
    assert call.task == ("qmigrate" if guest.kind == "qemu" else "vzmigrate", str(guest.vmid))
    assert (plan.before, plan.after, plan.waiting) == ({"node": "pve1"}, {"node": "pve2"}, None)


def test_a_guest_that_is_there_stays() -> None:
    plan = planned(replace(RUNNING, node="pve2"), conditions=None, target_storage="zfs", with_local_disks=True)
    assert (plan.calls, plan.waiting, plan.before, plan.after) == ((), None, {"node": "pve2"}, {"node": "pve2"})


@pytest.mark.parametrize(
    ("value", "expected", "text"),
    [
        (None, StorageMap(), "1"),
        ("", StorageMap(), "1"),
        ("1", StorageMap(given=True), "1"),
        (1, StorageMap(given=True), "1"),
        ("zfs", StorageMap(default="zfs", given=True), "zfs"),
        ({"a1": "b1", "a2": "b2"}, StorageMap({"a1": "b1", "a2": "b2"}, given=True), "a1:b1,a2:b2"),
        ("a1:b1, zfs", StorageMap({"a1": "b1"}, "zfs", given=True), "a1:b1,zfs"),
    ],
)
def test_storage_maps(value: object, expected: StorageMap, text: str) -> None:
    found = storage_map(value)
    assert (found, found.text()) == (expected, text)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"target_storage": "a b c:"}, "no storage can be called so"),
        ({"target_storage": "zfs,other"}, "two targets"),
        ({"target_storage": "1,zfs"}, "no storage can be called so"),
        ({"target_storage": {"local": "1"}}, "no storage can be called so"),
        ({"target_storage": ["zfs"]}, "must be a storage"),
        ({"target_storage": True}, "must be a storage"),
        ({"bwlimit": -1}, "less than nothing"),
        ({"shutdown_timeout": 600}, "shorter than timeout"),
    ],
)
def test_options_that_cannot_be_meant(given: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        wanted(options(**given))


# guest, conditions, options -> a word of each obstacle.
OBSTACLES: list[tuple[Guest, Conditions, dict[str, Any], list[str]]] = [
    (STOPPED, FINE, {}, []),
    (STOPPED, FINE, {"target_node": "pve3"}, ["pve3 is down"]),
    (STOPPED, replace(FINE, apart=("vm:102 (resource-affinity)",)), {}, ["apart from vm:102"]),
    (STOPPED, replace(FINE, missing=("hostpci0",)), {}, ["no mapping for hostpci0"]),
    (STOPPED, replace(FINE, devices=("usb0", "hostpci1")), {}, ["(usb0, hostpci1)"]),
    (replace(STOPPED, ha_state="started"), replace(FINE, devices=("usb0",)), {}, []),
    (RUNNING, replace(FINE, fixed=("hostpci0",)), {}, ["hostpci0 cannot move while it runs"]),
    (STOPPED, replace(FINE, fixed=("hostpci0",)), {}, []),
    # local disks
    (STOPPED, replace(FINE, disks=(LOCAL,)), {}, []),
    (RUNNING, replace(FINE, disks=(LOCAL,)), {}, ["with_local_disks: true"]),
    (RUNNING, replace(FINE, disks=(LOCAL,)), {"with_local_disks": True}, []),
    (replace(RUNNING, ha_state="started"), replace(FINE, disks=(LOCAL,)), {}, []),
    (RUNNING, replace(FINE, disks=(replace(LOCAL, attached=False),)), {}, []),
    (RUNNING, replace(FINE, disks=(replace(LOCAL, made_anew=True),)), {}, []),
    (STOPPED, replace(FINE, disks=(Disk("/dev/sdb", "scsi1"),)), {}, ["device or file of node pve1"]),
    (STOPPED, replace(FINE, disks=(Disk("cdrom", "ide2", cdrom=True),)), {}, ["drive of node pve1"]),
    (STOPPED, replace(FINE, disks=(Disk("local:iso/a.iso", "ide2", cdrom=True),)), {}, ["eject it"]),
    (
        STOPPED,
        replace(FINE, disks=(Disk("local:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2", "scsi0"),)),
        {},
        ["linked clone"],
    ),
    (STOPPED, replace(FINE, disks=(Disk("zfs:base-9000-disk-0/vm-100-disk-0", "scsi0"),)), {}, ["linked clone"]),
    (STOPPED, replace(FINE, disks=(Disk("local:9000/base-9000-disk-0.qcow2", "scsi0"),)), {}, []),
    (STOPPED, replace(FINE, disks=(Disk("iscsi:lun0", "scsi0"),)), {}, ["type iscsidirect"]),
    # snapshots
    (STOPPED, replace(FINE, disks=(replace(LOCAL, in_snapshot=True),)), {}, []),
    (RUNNING, replace(FINE, disks=(replace(LOCAL, in_snapshot=True),)), {"with_local_disks": True}, ["in snapshots"]),
    (
        RUNNING,
        replace(FINE, disks=(replace(LOCAL, in_snapshot=True),), replicated=True),
        {"with_local_disks": True},
        [],
    ),
    (STOPPED, replace(FINE, disks=(Disk("chains:100/a.qcow2", "scsi0", in_snapshot=True),)), {}, ["in snapshots"]),
    (STOPPED, replace(FINE, disks=(Disk("local:100/a.raw", "scsi0", in_snapshot=True),)), {}, ["in snapshots"]),
    (STOPPED, replace(FINE, disks=(Disk("zfs:vm-100-disk-0", "scsi0", in_snapshot=True),)), {}, []),
    (CT, replace(FINE, disks=(replace(MOUNT, in_snapshot=True),)), {}, ["in snapshots"]),
    (CT, replace(FINE, disks=(Disk("zfs:subvol-101-disk-0", "rootfs", in_snapshot=True),)), {}, []),
    # storages
    (STOPPED, replace(FINE, disks=(THIN,)), {}, ["'thin', which it uses, is not on node pve2; name another"]),
    (STOPPED, replace(FINE, unavailable=("thin",)), {}, ["'thin', which it uses"]),
    (STOPPED, replace(FINE, disks=(THIN,), unavailable=("thin",)), {}, ["'thin', which it uses"]),
    (STOPPED, replace(FINE, disks=(THIN,), unavailable=("thin",)), {"target_storage": "zfs"}, []),
    (STOPPED, replace(FINE, disks=(THIN,), unavailable=("thin",)), {"target_storage": {"thin": "local"}}, []),
    (STOPPED, replace(FINE, disks=(THIN,), unavailable=("thin",)), {"target_storage": {"local": "zfs"}}, ["'thin'"]),
    (STOPPED, replace(FINE, disks=(THIN,)), {"target_storage": "1"}, ["'thin'"]),
    (STOPPED, replace(FINE, unavailable=("san",)), {"target_storage": "zfs"}, ["'san', which it uses, is not on"]),
    (STOPPED, FINE, {"target_storage": "thin"}, ["target storage 'thin' is not on node pve2"]),
    (STOPPED, FINE, {"target_storage": "nosuch"}, ["target storage 'nosuch' does not exist"]),
    (STOPPED, FINE, {"target_storage": "isos"}, ["holds no guest disks (content 'images')"]),
    (CT, FINE, {"target_storage": "isos"}, ["holds no guest disks (content 'rootdir')"]),
    (STOPPED, FINE, {"target_storage": "off"}, ["target storage 'off' is disabled"]),
    (replace(STOPPED, ha_state="stopped"), FINE, {"target_storage": "zfs"}, ["does not pass on target_storage"]),
    (replace(STOPPED, ha_state="stopped"), FINE, {"target_storage": "1"}, []),
    # containers
    (CT, replace(FINE, disks=(Disk("/srv/data", "mp0"),)), {}, ["mp0 /srv/data is a directory"]),
    (CT_RUNNING, replace(FINE, disks=(MOUNT,)), {}, []),
    # memory
    (RUNNING, replace(FINE, memory=5 * GIB), {}, ["5.0 GiB of memory, and node pve2 has 4.0 GiB free"]),
    (RUNNING, replace(FINE, memory=5 * GIB), {"overcommit": True}, []),
    (STOPPED, replace(FINE, memory=None), {}, []),
    (RUNNING, replace(FINE, nodes={"pve2": Node(True, None)}, memory=500 * GIB), {}, []),
    # everything at once
    (
        RUNNING,
        replace(FINE, disks=(LOCAL, Disk("local:iso/a.iso", "ide2", cdrom=True)), devices=("usb0",), memory=9 * GIB),
        {},
        ["usb0", "with_local_disks", "eject", "9.0 GiB"],
    ),
]


@pytest.mark.parametrize(("guest", "conditions", "given", "words"), OBSTACLES)
def test_obstacles(guest: Guest, conditions: Conditions, given: dict[str, Any], words: list[str]) -> None:
    found = reasons(guest, conditions, **given)
    assert len(found) == len(words), found
    for text, word in zip(found, words, strict=True):
        assert word in text


def test_all_obstacles_are_one_message() -> None:
    conditions = replace(FINE, disks=(LOCAL,), devices=("usb0",))
    with pytest.raises(Refused, match=r"VM 100 cannot be moved from node pve1 to pve2: it uses .*usb0.*; scsi0 local:"):
        planned(RUNNING, conditions=conditions)


def test_a_hibernated_guest_is_refused() -> None:
    with pytest.raises(Refused, match="hibernated"):
        planned(replace(STOPPED, lock="suspended"), conditions=None)


@pytest.mark.parametrize("lock", ["backup", "migrate"])
def test_a_lock_is_waited_for(lock: str) -> None:
    plan = planned(replace(STOPPED, lock=lock), conditions=None)
    assert plan.calls
    assert plan.waiting is not None


def test_the_end_of_a_move_is_waited_for() -> None:
    plan = planned(replace(RUNNING, node="pve2", lock="migrate"), conditions=None)
    assert (plan.calls, plan.before) == ((), {"node": "pve2"})
    assert plan.waiting is not None
    assert planned(replace(RUNNING, node="pve2", ha_state="migrate"), conditions=None).waiting is not None


MANAGED = replace(RUNNING, ha_state="started")


def test_high_availability_is_asked_once_and_waited_for() -> None:
    (call,) = planned(MANAGED).calls
    assert call.task == ("hamigrate", "100")
    for state in ("started", "migrate"):
        plan = planned(replace(MANAGED, ha_state=state), call, conditions=None)
        assert plan.calls == ()
        assert plan.waiting is not None
    arrived = planned(replace(MANAGED, node="pve2"), call, conditions=None)
    assert (arrived.calls, arrived.waiting) == ((), None)


def test_a_move_that_high_availability_has_under_way_is_waited_for() -> None:
    plan = planned(replace(MANAGED, ha_state="relocate"), conditions=None)
    assert plan.calls
    assert plan.waiting is not None


def test_high_availability_that_gives_up_is_told() -> None:
    (call,) = planned(MANAGED).calls
    with pytest.raises(ProxmoxError, match="left it on pve1"):
        planned(MANAGED, call, conditions=None, gave_up=True)
    with pytest.raises(ProxmoxError, match="state there: error"):
        planned(replace(MANAGED, ha_state="error"), call, conditions=None)
    with pytest.raises(Refused, match="error state"):
        planned(replace(MANAGED, ha_state="error"))


def test_what_high_availability_adds_is_told() -> None:
    plan = planned(MANAGED, conditions=replace(FINE, together=("ct:101",)), bwlimit=1000)
    assert ["ct:101" in plan.warnings[0], "bwlimit" in plan.warnings[1]] == [True, True]


PRECONDITIONS = {
    "running": 1,
    "allowed_nodes": ["pve3"],
    "not_allowed_nodes": {
        "pve2": {
            "unavailable_storages": ["thin"],
            "unavailable-resources": ["hostpci0"],
            "blocking-ha-resources": [{"sid": "vm:102", "cause": "resource-affinity"}],
        }
    },
    "local_disks": [
        {"volid": "thin:vm-100-disk-0", "drivename": "scsi0", "is_attached": 1, "cdrom": 0},
        {"volid": "thin:vm-100-cloudinit", "drivename": "ide2", "is_attached": 1, "cdrom": 1, "is_cloudinit": 1},
        {"volid": "thin:vm-100-disk-1", "is_unused": 1, "cdrom": 0, "referenced_in_snapshot": {"s1": 1}},
    ],
    "local_resources": ["usb0", "hostpci0"],
    "mapped-resource-info": {"hostpci0": {"name": "gpu"}, "hostpci1": {"name": "nic", "live-migration": 1}},
    "dependent-ha-resources": ["vm:103"],
}


def reader(path: str, status: dict[str, Any], **answers: Any) -> FakeReader:
    return FakeReader(
        {
            f"{path}/status/current": status,
            f"{path}/migrate": PRECONDITIONS,
            "/nodes": [
                {"node": "pve1", "status": "online"},
                {"node": "pve2", "status": "online", "maxmem": 8 * GIB, "mem": 3 * GIB},
                {"node": "pve3", "status": "offline"},
            ],
            "/storage": [
                {"storage": "thin", "type": "lvmthin", "content": "images,rootdir", "nodes": "pve1"},
                {"storage": "nfs", "type": "nfs", "content": "images", "shared": 1},
            ],
            "/cluster/replication": [{"guest": 100, "target": "pve2", "type": "local"}],
            **answers,
        }
    )


def test_observe_a_vm() -> None:
    server = reader("/nodes/pve1/qemu/100", {"status": "running", "maxmem": 2 * GIB, "name": "web"})
    there = observe(wanted(options(node="pve1")), server, None)
    assert there.conditions == Conditions(
        nodes={"pve1": Node(True), "pve2": Node(True, 5 * GIB), "pve3": Node(False)},
        storages={
            "thin": Storage("lvmthin", nodes=frozenset({"pve1"}), content=GUEST_DISKS),
            "nfs": Storage("nfs", shared=True, content=frozenset({"images"})),
        },
        disks=(
            Disk("thin:vm-100-disk-0", "scsi0"),
            Disk("thin:vm-100-cloudinit", "ide2", made_anew=True),
            Disk("thin:vm-100-disk-1", "unused disk", attached=False, in_snapshot=True),
        ),
        devices=("usb0",),
        fixed=("hostpci0",),
        missing=("hostpci0",),
        unavailable=("thin",),
        apart=("vm:102 (resource-affinity)",),
        together=("vm:103",),
        replicated=True,
        memory=2 * GIB,
    )
    assert observe(wanted(options(node="pve1")), server, there).conditions is there.conditions
    assert server.asked.count("/nodes/pve1/qemu/100/migrate") == 1


def test_observe_mapped_devices_of_older_servers() -> None:
    older = {"local_resources": ["usb0", "hostpci0"], "mapped-resources": ["hostpci0"]}
    path = "/nodes/pve1/qemu/100"
    server = reader(path, {"status": "stopped", "name": "web"}, **{f"{path}/migrate": older})
    conditions = observe(wanted(options(node="pve1")), server, None).conditions
    assert conditions is not None
    assert (conditions.devices, conditions.fixed) == (("usb0",), ("hostpci0",))


def test_observe_a_container() -> None:
    path = "/nodes/pve1/lxc/101"
    config = {
        "rootfs": "thin:vm-101-disk-0,size=4G",
        "mp0": "/srv/data,mp=/data",
        "mp1": "/srv/all,mp=/all,shared=1",
        "mp2": "nfs:101/vm-101-disk-0.raw,mp=/nfs",
        "hostname": "dns",
    }
    answers = {f"{path}/config": config, f"{path}/snapshot": [{"name": "current"}], f"{path}/migrate": {"running": 0}}
    server = reader(path, {"status": "stopped", "name": "dns"}, **answers)
    there = observe(wanted(options(vmid=101, node="pve1", type="lxc")), server, None)
    assert there.conditions is not None
    assert there.conditions.disks == (Disk("/srv/data", "mp0"), Disk("thin:vm-101-disk-0", "rootfs"))
    assert there.conditions.memory is None


def test_observe_a_guest_that_is_there_takes_one_request() -> None:
    server = FakeReader({"/nodes/pve2/qemu/100/status/current": {"status": "running", "name": "web"}})
    there = observe(wanted(options(node="pve2")), server, None)
    assert there.conditions is None
    assert len(server.asked) == 1


def test_an_unknown_node_is_refused_with_those_that_exist() -> None:
    server = reader("/nodes/pve1/qemu/100", {"status": "stopped", "name": "web"})
    with pytest.raises(Refused, match=r"no node 'pve9' in this cluster; its nodes are pve1, pve2, pve3"):
        observe(wanted(options(node="pve1", target_node="pve9")), server, None)


def test_a_move_is_seen_to_be_given_up() -> None:
    path = "/nodes/pve1/qemu/100"
    server = reader(path, {"status": "running", "name": "web", "ha": {"managed": 1, "state": "started"}})
    want = wanted(options(node="pve1"))
    assert observe(want, server, Observed(replace(MANAGED, ha_state="migrate"), "pve2")).gave_up
    assert not observe(want, server, Observed(MANAGED, "pve2")).gave_up


def test_the_task_of_a_move_is_found_on_the_node_that_the_guest_has_left() -> None:
    server = reader(
        "/nodes/pve2/qemu/100",
        {"status": "running", "name": "web", "lock": "migrate"},
        **{
            "/nodes/pve1/tasks": [{"upid": "UPID:pve1:move", "type": "qmigrate"}],
            "/nodes/pve2/tasks": [],
        },
    )
    assert observe_guest(server, GuestRef(100, node="pve2")).lock_task == "UPID:pve1:move"


@pytest.mark.parametrize(
    "given",
    [
        {"target_node": "auto"},
        {"target_node": "pve2", "exclude_nodes": ["pve1"]},
        {"target_node": "auto", "exclude_nodes": []},
    ],
)
def test_leaving_needs_to_know_what(given: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="exclude_nodes goes with target_node=auto"):
        wanted(options(**given))
