"""Configuration: what is wanted against what is there, the calls that lead from one to the other, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.argspec import FLEET, GUEST, WAIT
from ansible_collections.keel.proxmox.plugins.module_utils.config import (
    GROUPS,
    TYPED,
    Observed,
    Row,
    decide,
    observe,
    result,
    wanted,
)
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import LOOKS_BEFORE_START, Guest
from ansible_collections.keel.proxmox.plugins.module_utils.options import OPTIONS
from ansible_collections.keel.proxmox.plugins.module_utils.plan import MASK, Call, Plan
from ansible_collections.keel.proxmox.plugins.modules.proxmox_vm_config import ARGUMENTS

from tests.unit.fakes import FakeReader, absent

VM = Guest(100, "qemu", "pve1", "web", "stopped", "stopped")
CT = Guest(101, "lxc", "pve1", "dns", "stopped", "stopped")
RUNNING = replace(VM, status="running", qmpstatus="running")

CONFIG = {
    "agent": "enabled=1",
    "boot": "order=scsi0;net0",
    "ciuser": "admin",
    "cores": "2",
    "description": "the web server",
    "memory": "1024",
    "name": "web",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1",
    "ostype": "l26",
    "scsi0": "local-lvm:vm-100-disk-0,size=8G",
    "tags": "prod;web",
}
CT_CONFIG = {
    "arch": "amd64",
    "hostname": "dns",
    "memory": "512",
    "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:02,ip=dhcp,type=veth",
    "ostype": "debian",
    "rootfs": "local-lvm:vm-101-disk-0,size=4G",
    "swap": "512",
}

POST = ("POST", "/nodes/pve1/qemu/100/config")
PUT = ("PUT", "/nodes/pve1/lxc/101/config")
RESIZE = ("PUT", "/nodes/pve1/qemu/100/resize")
REBOOT: tuple[str, str, dict[str, object]] = ("POST", "/nodes/pve1/qemu/100/status/reboot", {})
CLOUDINIT: tuple[str, str, dict[str, object]] = ("PUT", "/nodes/pve1/qemu/100/cloudinit", {})


def there(guest: Guest = VM, pending: dict[str, str | None] | None = None, **config: str | None) -> Observed:
    """A guest with its usual configuration; None removes a key, in `pending` it is one that is to be deleted."""
    usual = CONFIG if guest.kind == "qemu" else CT_CONFIG
    rows = {key: Row(value) for key, value in {**usual, **config}.items() if value is not None}
    for key, value in (pending or {}).items():
        rows[key] = replace(rows.get(key, Row()), pending=value, delete=value is None)
    return Observed(guest, rows, "d1")


def planned(observed: Observed, *done: Call, **options: Any) -> Plan:
    return decide(wanted({"vmid": observed.guest.vmid, **options}), observed, done)


def sent(plan: Plan) -> list[tuple[str, str, dict[str, object]]]:
    return [
        (call.method, call.path, {key: value for key, value in call.params.items() if key != "digest"})
        for call in plan.calls
    ]


SAME: list[dict[str, Any]] = [
    {},
    {"cores": 2, "memory": 1024, "sockets": 1, "onboot": False, "balloon": None},
    {"tags": ["web", "prod"]},
    {"tags": ["Web", "PROD"]},
    {"description": "the web server\n"},
    {"agent": True},
    {"agent": {"enabled": True, "fstrim_cloned_disks": False}},
    {"name": "web"},
    {"boot": ["scsi0", "net0"]},
    {"net": {"net0": {"bridge": "vmbr0", "model": "virtio", "firewall": "on"}}},
    {"net": {"net0": "virtio,bridge=vmbr0"}},
    {"net": {"net0": {}}},
    {"disks": {"scsi0": {"size": 8}}},
    {"disks": {"scsi0": {"size": "8192M", "storage": "local-lvm", "format": "raw"}}},
    {"disks": {"scsi0": "local-lvm:8"}},
    {"disks": {"scsi0": "local-lvm:vm-100-disk-0,backup=1"}},
    {"options": {"acpi": True, "tablet": 1, "hotplug": "usb,disk,network"}},
    {"options": {"kvm": None}},
    {"absent": ["onboot", "net5", "unused3"]},
    {"cpu": {}},
]


@pytest.mark.parametrize("options", SAME, ids=str)
def test_what_is_there_is_not_written(options: dict[str, Any]) -> None:
    plan = planned(there(), **options)
    assert sent(plan) == []
    assert plan.before == plan.after
    assert plan.waiting is None


CALLS: list[tuple[dict[str, Any], list[tuple[str, str, dict[str, object]]]]] = [
    ({"cores": 4, "memory": 1024}, [(*POST, {"cores": 4})]),
    ({"cores": 4, "absent": ["description"]}, [(*POST, {"cores": 4, "delete": "description"})]),
    ({"description": "", "tags": []}, [(*POST, {"delete": "description,tags"})]),
    ({"name": "www"}, [(*POST, {"name": "www"})]),
    (
        {"net": {"net0": {"tag": 20}}},
        [(*POST, {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,tag=20"})],
    ),
    ({"net": {"net0": {"firewall": ""}}}, [(*POST, {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"})]),
    ({"net": {"net0": ""}}, [(*POST, {"delete": "net0"})]),
    ({"absent": ["scsi0"]}, [(*POST, {"delete": "scsi0"})]),
    ({"absent": ["scsi0"], "destroy_disks": True}, [(*POST, {"delete": "scsi0", "force": True})]),
    ({"absent": ["description"], "destroy_disks": True}, [(*POST, {"delete": "description"})]),
    ({"disks": {"scsi0": {"size": 12}}}, [(*RESIZE, {"disk": "scsi0", "size": "12G"})]),
    (
        {"cores": 4, "disks": {"scsi0": {"size": 12, "discard": True}}},
        [
            (*RESIZE, {"disk": "scsi0", "size": "12G"}),
            (*POST, {"cores": 4, "scsi0": "local-lvm:vm-100-disk-0,discard=on,size=12G"}),
        ],
    ),
    ({"disks": {"scsi1": {"storage": "local-lvm", "size": 4}}}, [(*POST, {"scsi1": "local-lvm:4"})]),
    (
        {"disks": {"scsi1": {"storage": "local", "import_from": "local:import/debian.qcow2", "size": 32}}},
        [
            (*POST, {"scsi1": "local:0,import-from=local:import/debian.qcow2"}),
            (*RESIZE, {"disk": "scsi1", "size": "32G"}),
        ],
    ),
    (
        {"disks": {"ide2": {"cloudinit": "local-lvm"}}, "ciuser": "bob"},
        [(*POST, {"ciuser": "bob", "ide2": "local-lvm:cloudinit"})],
    ),
    ({"pool": "prod"}, [("PUT", "/pools", {"poolid": "prod", "vms": "100", "allow-move": True})]),
    ({"options": {"smbios1": {"serial": "QUJD", "base64": True}}}, [(*POST, {"smbios1": "base64=1,serial=QUJD"})]),
    ({"options": {"cdrom": "none"}}, [(*POST, {"ide2": "none,media=cdrom"})]),
    ({"options": {"from_the_future": 1}}, [(*POST, {"from_the_future": "1"})]),
    ({"cipassword": "geheim"}, [(*POST, {"cipassword": "geheim"})]),
    ({"agent": {"type": "isa"}}, [(*POST, {"agent": "1,type=isa"})]),
]


@pytest.mark.parametrize(("options", "calls"), CALLS, ids=str)
def test_calls(options: dict[str, Any], calls: list[tuple[str, str, dict[str, object]]]) -> None:
    plan = planned(there(), **options)
    assert sent(plan) == calls
    assert plan.before != plan.after
    for call in plan.calls:
        assert call.path == "/pools" or call.params["digest"] == "d1"


CONTAINER: list[tuple[dict[str, Any], list[tuple[str, str, dict[str, object]]]]] = [
    ({"name": "dns", "swap": 512, "memory": 512}, []),
    ({"name": "dns2"}, [(*PUT, {"hostname": "dns2"})]),
    ({"options": {"hostname": "dns2"}}, [(*PUT, {"hostname": "dns2"})]),
    ({"swap": 0, "features": {"nesting": True}}, [(*PUT, {"features": "nesting=1", "swap": 0})]),
    (
        {"net": {"net0": {"ip": "10.0.0.2/24", "gw": "10.0.0.1"}}},
        [(*PUT, {"net0": "bridge=vmbr0,gw=10.0.0.1,hwaddr=BC:24:11:00:00:02,ip=10.0.0.2/24,name=eth0,type=veth"})],
    ),
    ({"net": {"net1": {"bridge": "vmbr1"}}}, [(*PUT, {"net1": "bridge=vmbr1,name=eth1"})]),
    (
        {"disks": {"rootfs": {"size": 8}, "mp0": {"storage": "local-lvm", "size": 2, "mp": "/data", "backup": True}}},
        [
            ("PUT", "/nodes/pve1/lxc/101/resize", {"disk": "rootfs", "size": "8G"}),
            (*PUT, {"mp0": "local-lvm:2,backup=1,mp=/data"}),
        ],
    ),
    ({"disks": {"mp1": {"volume": "/mnt/host", "mp": "/host"}}}, [(*PUT, {"mp1": "/mnt/host,mp=/host"})]),
]


@pytest.mark.parametrize(("options", "calls"), CONTAINER, ids=str)
def test_calls_of_containers(options: dict[str, Any], calls: list[tuple[str, str, dict[str, object]]]) -> None:
    plan = planned(there(CT), **options)
    assert sent(plan) == calls
    assert all(call.task is None for call in plan.calls if call.path.endswith("config"))


REFUSED: list[tuple[Observed, dict[str, Any], str]] = [
    (there(), {"swap": 512}, "'swap' is an option of containers"),
    (there(CT), {"sockets": 2}, "'sockets' is an option of VMs"),
    (there(CT), {"ciuser": "x"}, "'ciuser' is an option of VMs"),
    (there(), {"net": {"net32": {}}}, "VMs have net0 to net31"),
    (there(), {"disks": {"scsi31": {"storage": "a", "size": 1}}}, "VMs have scsi0 to scsi30"),
    (there(), {"disks": {"mp0": {"storage": "a", "size": 1}}}, "'mp0' is an option of containers"),
    (there(), {"disks": {"nvme0": {"size": 1}}}, "'nvme0' is no key of disks"),
    (there(), {"net": {"eth0": {}}}, "'eth0' is no key of net"),
    (there(), {"cores": 2, "absent": ["cores"]}, "cores: wanted and in absent"),
    (there(), {"cores": 2, "options": {"cores": 4}}, "'cores' is named twice"),
    (there(), {"name": "x", "options": {"hostname": "y"}}, "'name' is named twice"),
    (there(), {"disks": {"ide2": {"cdrom": "none"}}, "options": {"cdrom": "none"}}, "'ide2' is named twice"),
    (there(), {"options": {"digest": "x"}}, "parameter of the request"),
    (there(), {"boot": ["scsi0", "scsi7"]}, "boot names scsi7, and VM 100 has no such device"),
    (there(), {"boot": ["net0"], "absent": ["net0"]}, "boot names net0"),
    (there(), {"options": {"cipassword": "x"}}, "would be seen in logs"),
    (there(), {"net": {"net0": {"tag": "many"}}}, "net0 of VM 100: 'many' is no number"),
    (there(), {"options": {"tablet": "perhaps"}}, "neither true nor false"),
    (there(), {"disks": {"scsi0": {"size": 4}}}, "is 8G, and 4G is wanted; disks are never shrunk"),
    (there(), {"cores": 8, "disks": {"scsi0": {"size": 4}}}, "never shrunk"),
    (
        there(),
        {"disks": {"scsi0": {"storage": "ceph", "size": 8}}},
        "is on storage local-lvm, and it is wanted on ceph",
    ),
    (there(), {"disks": {"scsi0": {"volume": "ceph:vm-100-disk-1"}}}, "holds the volume local-lvm:vm-100-disk-0"),
    (there(), {"disks": {"scsi0": {"iso": "local:iso/a.iso"}}}, "holds the disk"),
    (there(), {"disks": {"scsi1": {"discard": True}}}, "is empty"),
    (there(), {"disks": {"scsi1": {"volume": "unused0"}}}, "there is no unused0"),
    (there(), {"disks": {"scsi1": {"storage": "x", "size": "lots"}}}, "is no size"),
    (there(), {"disks": {"scsi1": {"volume": "a:b", "cdrom": "none"}}}, "exclude each other"),
    (there(CT), {"disks": {"mp0": {"cdrom": "none"}}}, "containers have no cdrom"),
    (there(replace(VM, lock="suspended")), {"cores": 4}, "is hibernated and cannot be configured"),
    (there(replace(VM, lock="backup", unheld=2)), {"cores": 4}, "qm unlock 100"),
    (there(CT), {"absent": ["mp0"], "destroy_disks": True}, "destroy_disks is for VMs"),
    (there(), {"tags": ["prod", "my tag"]}, "'my tag' cannot be a tag: it holds a blank"),
    (there(), {"tags": ["prod; my\ttag"]}, "'my\ttag' cannot be a tag"),
    (there(), {"options": {"tags": ["my tag"]}}, "'my tag' cannot be a tag"),
]

# Before anything is asked, so whether it is a VM or a container is not known yet.
SLIPS: list[tuple[dict[str, Any], str]] = [
    ({"net": {"net0": {"brige": "vmbr0"}}}, "net0 has no key 'brige'; did you mean bridge?"),
    ({"net": {"net0": {"hwadr": "BC:24:11:2F:30:6B"}}}, "net0 has no key 'hwadr'; did you mean hwaddr?"),
    ({"net": {"net0": {"virtoi": "BC:24:11:2F:30:6B"}}}, "net0 has no key 'virtoi'; did you mean virtio?"),
    ({"disks": {"scsi0": {"sise": 40}}}, "scsi0 has no key 'sise'; did you mean size?"),
    ({"disks": {"scsi0": {"import_form": "a:b"}}}, "scsi0 has no key 'import_form'; did you mean import_from?"),
    (
        {"disks": {"efidisk0": {"pre_enrolled_keys": True}}},
        "efidisk0 has no key 'pre_enrolled_keys'; did you mean pre-enrolled-keys?",
    ),
    ({"disks": {"rootfs": {"replicat": True}}}, "rootfs has no key 'replicat'; did you mean replicate?"),
    ({"ipconfig": {"ipconfig0": {"ipp": "dhcp"}}}, "ipconfig0 has no key 'ipp'; did you mean ip?"),
    ({"agent": {"enable": True}}, "agent has no key 'enable'; did you mean enabled?"),
    ({"startup": {"ordr": 1}}, "startup has no key 'ordr'; did you mean order?"),
    ({"options": {"rng0": {"sourc": "/dev/urandom"}}}, "rng0 has no key 'sourc'; did you mean source?"),
    ({"options": {"tabelt": True}}, "There is no option 'tabelt'; did you mean tablet?"),
    ({"options": {"hostpic1": "00:02.0"}}, "There is no option 'hostpic1'; did you mean hostpci1?"),
    ({"options": {"smbois1": "serial=QUJD"}}, "There is no option 'smbois1'; did you mean smbios1?"),
]

# Names that are like none of the tables, that only count further, or that are longer as those of new servers are.
NEWER: list[dict[str, Any]] = [
    {"options": {"colour": "red"}},
    {"options": {"rng1": "source=/dev/urandom"}},
    {"options": {"tablet-mode": "on"}},
    {"net": {"net0": {"speed": "fast"}}},
    {"net": {"net0": {"host-bridge": "x"}}},
    {"net": {"net0": "virtio,brige=vmbr0"}},
    {"options": {"machine": {"enable-s5": True}}},
]


@pytest.mark.parametrize(
    ("observed", "options", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_refused(observed: Observed, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        planned(observed, **options)


@pytest.mark.parametrize(("options", "message"), SLIPS, ids=str)
def test_slips_of_the_pen(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        wanted({"vmid": 100, **options})
    assert refused.value.message == message


@pytest.mark.parametrize("options", NEWER, ids=str)
def test_what_newer_servers_may_know_is_left_to_them(options: dict[str, Any]) -> None:
    assert wanted({"vmid": 100, **options})


@pytest.mark.parametrize(
    ("tags", "sent_as"), [(["web", "x;y"], "web;x;y"), (["x; y"], "x;y"), ([" x "], "x"), (["x,y"], "x;y")], ids=str
)
def test_spellings_of_tags(tags: list[str], sent_as: str) -> None:
    assert sent(planned(there(), tags=tags)) == [(*POST, {"tags": sent_as})]


def test_a_locked_guest_is_waited_for_only_when_there_is_something_to_write() -> None:
    locked = there(replace(VM, lock="backup", lock_task="UPID:x"))
    plan = planned(locked, cores=4)
    assert plan.waiting == "the lock 'backup' of VM 100, held by UPID:x"
    assert sent(plan) == [(*POST, {"cores": 4})]
    assert planned(locked, cores=2).waiting is None


def test_what_waits_already_is_not_asked_again() -> None:
    observed = there(RUNNING, pending={"cores": "4", "description": None})
    assert sent(planned(observed, cores=4, absent=["description"])) == []
    assert sent(planned(observed, cores=2)) == [(*POST, {"cores": 2})]
    assert sent(planned(observed, description="the web server")) == [(*POST, {"description": "the web server"})]


def test_the_password_is_set_once_and_shown_never() -> None:
    fresh, known = there(), there(cipassword="**********")
    assert sent(planned(fresh, cipassword="geheim")) == [(*POST, {"cipassword": "geheim"})]
    assert sent(planned(known, cipassword="geheim")) == []
    always = planned(known, cipassword="geheim", update_password="always")
    assert sent(always) == [(*POST, {"cipassword": "geheim"})]
    assert always.calls[0].shown()["params"] == {"cipassword": MASK, "digest": "d1"}
    assert "geheim" not in str([always.before, always.after])
    assert sent(planned(known, always.calls[0], cipassword="geheim", update_password="always")) == []
    assert sent(planned(known, absent=["cipassword"])) == [(*POST, {"delete": "cipassword"})]


def test_a_resized_disk_with_a_pending_value_is_written_again() -> None:
    observed = there(
        RUNNING,
        pending={"scsi0": "local-lvm:vm-100-disk-0,cache=none,size=8G"},
        scsi0="local-lvm:vm-100-disk-0,size=12G",
    )
    written = (*POST, {"scsi0": "local-lvm:vm-100-disk-0,cache=none,size=12G"})
    assert sent(planned(observed, disks={"scsi0": {"size": 12}})) == [written]
    grown = there(RUNNING, pending={"scsi0": "local-lvm:vm-100-disk-0,cache=none,size=8G"})
    assert sent(planned(grown, disks={"scsi0": {"size": 12}})) == [(*RESIZE, {"disk": "scsi0", "size": "12G"}), written]


def test_a_boot_order_comes_after_cd_drives_that_the_server_appends_to_it() -> None:
    disks = {"ide0": {"iso": "local:iso/a.iso"}}
    cd = (*POST, {"ide0": "local:iso/a.iso,media=cdrom"})
    assert sent(planned(there(), disks=disks, boot=["net0", "ide0"])) == [cd, (*POST, {"boot": "order=net0;ide0"})]
    assert sent(planned(there(), disks=disks, boot=["scsi0", "net0"])) == [cd, (*POST, {"boot": "order=scsi0;net0"})]
    assert sent(planned(there(), disks=disks, boot=["scsi0", "net0", "ide0"])) == [cd]
    together = (*POST, {"boot": "order=ide0", "ide0": "local:iso/a.iso,media=cdrom"})
    assert sent(planned(there(boot=None), disks=disks, boot=["ide0"])) == [together]


def test_a_running_vm_gets_a_new_cloud_init_drive() -> None:
    drive = "local-lvm:vm-100-cloudinit,media=cdrom"
    running = there(RUNNING, ide2=drive)
    write = (*POST, {"ciuser": "bob"})
    plan = planned(running, ciuser="bob")
    assert sent(plan) == [write, CLOUDINIT]
    after = there(RUNNING, ide2=drive, ciuser="bob")
    assert sent(planned(after, plan.calls[0], ciuser="bob")) == [CLOUDINIT]
    assert sent(planned(after, *plan.calls, ciuser="bob")) == []
    assert sent(planned(there(VM, ide2=drive), ciuser="bob")) == [write]
    assert sent(planned(there(RUNNING), ciuser="bob")) == [write]
    assert sent(planned(there(RUNNING, ide2=drive, hotplug="network,cloudinit"), ciuser="bob")) == [write]
    assert sent(planned(running, cores=4)) == [(*POST, {"cores": 4})]
    removed = planned(running, absent=["ciuser"])
    assert sent(planned(there(RUNNING, ide2=drive, ciuser=None), removed.calls[0], absent=["ciuser"])) == [CLOUDINIT]


def test_reboot() -> None:
    write = (*POST, {"cores": 4})
    wish: dict[str, Any] = {"cores": 4, "reboot": "if_required"}
    plan = planned(there(RUNNING), **wish)
    assert sent(plan) == [write, REBOOT]
    assert sent(planned(there(VM), **wish)) == [write]
    assert sent(planned(there(RUNNING), cores=4, reboot="never")) == [write]
    assert sent(planned(there(RUNNING), description="x", reboot="if_required")) == [(*POST, {"description": "x"})]
    cd = planned(there(RUNNING), disks={"scsi3": {"cdrom": "none"}}, reboot="if_required")
    assert sent(cd) == [(*POST, {"scsi3": "none,media=cdrom"}), REBOOT], (
        "the server appends it to the boot order, which waits"
    )
    assert sent(planned(there(RUNNING), disks={"scsi3": {"storage": "a", "size": 1}}, reboot="if_required"))[1:] == []
    waits = there(RUNNING, pending={"cores": "4"})
    assert sent(planned(waits, **wish)) == [REBOOT]
    assert sent(planned(waits, cores=2, reboot="if_required")) == [(*POST, {"cores": 2})]
    stopped = replace(there(VM, cores="4"), stopped_looks=1)
    coming = planned(stopped, *plan.calls, **wish)
    assert (sent(coming), coming.waiting) == ([], "VM 100 to come back after its reboot")
    late = planned(replace(stopped, stopped_looks=LOOKS_BEFORE_START), *plan.calls, **wish)
    assert sent(late) == [("POST", "/nodes/pve1/qemu/100/status/start", {})]
    assert late.calls[0].task == ("qmstart", "100")
    back = planned(there(RUNNING, cores="4"), *plan.calls, **wish)
    assert (sent(back), back.waiting, back.warnings) == ([], None, ())
    stuck = planned(waits, *plan.calls, **wish)
    assert sent(stuck) == []
    assert stuck.warnings == ("VM 100 was rebooted, and this waits still: cores.",)


def test_reboot_makes_the_cloud_init_drive_anew_by_itself() -> None:
    running = there(RUNNING, ide2="local-lvm:vm-100-cloudinit,media=cdrom")
    plan = planned(running, cores=4, ciuser="bob", reboot="if_required")
    assert sent(plan) == [(*POST, {"ciuser": "bob", "cores": 4}), REBOOT]


def test_a_container_reboots_as_one() -> None:
    running = there(replace(CT, status="running"))
    plan = planned(running, features="nesting=1", reboot="if_required")
    assert [call.task for call in plan.calls] == [None, ("vzreboot", "101")]


def test_pool() -> None:
    inside = there(replace(VM, pool="prod"))
    plan = planned(inside, pool="")
    assert sent(plan) == [("PUT", "/pools", {"poolid": "prod", "vms": "100", "delete": True})]
    assert (plan.before, plan.after) == ({"pool": "prod"}, {"pool": None})
    assert sent(planned(inside, pool="prod")) == []
    assert sent(planned(there(), pool="")) == []


def test_a_typo_in_absent_is_told() -> None:
    plan = planned(there(), absent=["descripton"])
    assert sent(plan) == []
    assert len(plan.warnings) == 1
    assert "'descripton'" in plan.warnings[0]


def test_the_plan_shows_only_what_the_task_names() -> None:
    plan = planned(there(), net={"net0": {"tag": 20}}, disks={"scsi0": {"size": 12, "ssd": True}}, tags=["b", "A"])
    assert plan.before == {
        "net0": {},
        "scsi0": {"size": "8G", "ssd": False},
        "tags": ["prod", "web"],
    }
    assert plan.after == {
        "net0": {"tag": 20},
        "scsi0": {"size": "12G", "ssd": True},
        "tags": ["a", "b"],
    }


# --- observing ---

STATUS = "/nodes/pve1/qemu/100/status/current"
PENDING = "/nodes/pve1/qemu/100/pending"
RESOURCES = "/cluster/resources"


def reader(*rows: dict[str, Any], **status: Any) -> FakeReader:
    usual = [{"key": "name", "value": "web"}, {"key": "cores", "value": 2}, {"key": "digest", "value": "d2"}]
    found = {"vmid": 100, "type": "qemu", "node": "pve1", "name": "web", "status": "running", "pool": "prod"}
    return FakeReader(
        {
            STATUS: {"status": "running", "qmpstatus": "running", "name": "web", **status},
            PENDING: [*usual, *rows],
            RESOURCES: [found],
        }
    )


def test_observing_costs_two_requests() -> None:
    asking = reader({"key": "tags", "value": "a;b"}, {"key": "memory", "value": "512", "pending": "1024"})
    seen = observe(wanted({"vmid": 100, "node": "pve1"}), asking, None)
    assert asking.asked == [STATUS, PENDING]
    assert seen.digest == "d2"
    assert "digest" not in seen.rows
    assert seen.guest.tags == ("a", "b")
    assert (seen.to_come("memory"), seen.in_force["memory"], seen.to_come("cores")) == ("1024", "512", "2")
    assert result(wanted({"vmid": 100}), seen)["pending"] == {
        "memory": {"current": "512", "pending": "1024", "delete": False}
    }
    assert result(wanted({"vmid": 100}), seen)["reboot_required"] is True


def test_looking_again_costs_one_request() -> None:
    asking = reader()
    want = wanted({"vmid": 100, "node": "pve1"})
    first = observe(want, asking, None)
    asking.asked.clear()
    again = observe(want, asking, first)
    assert asking.asked == [PENDING]
    assert again == first


def test_by_name_costs_three_requests_and_knows_the_pool() -> None:
    asking = reader()
    seen = observe(wanted({"name": "web", "pool": "prod"}), asking, None)
    assert asking.asked == [RESOURCES, STATUS, PENDING]
    assert seen.guest.pool == "prod"


def test_the_pool_is_asked_for_where_it_is_wanted_and_not_known() -> None:
    asking = reader()
    seen = observe(wanted({"vmid": 100, "node": "pve1", "pool": "prod"}), asking, None)
    assert asking.asked == [STATUS, PENDING, RESOURCES]
    assert seen.guest.pool == "prod"


def test_the_status_is_looked_at_again_while_a_reboot_is_under_way() -> None:
    asking = reader({"key": "memory", "value": "512", "pending": "1024"})
    want = wanted({"vmid": 100, "node": "pve1", "reboot": "if_required"})
    first = observe(want, asking, None)
    assert first.stopped_looks == 0
    asking.answers[STATUS] = {"status": "stopped"}
    asking.answers[PENDING] = [{"key": "memory", "value": "1024"}]
    second = observe(want, asking, first)
    third = observe(want, asking, second)
    assert (second.stopped_looks, third.stopped_looks) == (1, 2)
    asking.answers[STATUS] = {"status": "running"}
    fourth = observe(want, asking, third)
    assert (fourth.stopped_looks, fourth.running) == (0, True)


def test_a_guest_that_moved_is_found_again() -> None:
    asking = reader()
    want = wanted({"vmid": 100, "node": "pve1"})
    first = observe(want, asking, None)
    for path in (STATUS, PENDING):
        moved = path.replace("pve1", "pve2")
        asking.answers[moved] = asking.answers[path]
        asking.answers[path] = absent(path)
    asking.answers[RESOURCES] = [{"vmid": 100, "type": "qemu", "node": "pve2", "name": "web", "status": "running"}]
    assert observe(want, asking, first).guest.node == "pve2"


def test_who_holds_a_lock_is_asked_when_it_appears() -> None:
    asking = reader()
    want = wanted({"vmid": 100, "node": "pve1"})
    first = observe(want, asking, None)
    asking.answers[PENDING] = [{"key": "lock", "value": "backup"}]
    asking.answers[STATUS] = {"status": "running", "lock": "backup"}
    asking.answers["/nodes/pve1/tasks"] = [{"upid": "UPID:backup", "type": "vzdump"}]
    locked = observe(want, asking, first)
    assert (locked.guest.lock, locked.guest.lock_task) == ("backup", "UPID:backup")
    asking.answers[PENDING] = []
    assert observe(want, asking, locked).guest.lock is None


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ({}, [(*POST, {"tags": "web"})]),
        ({"tag-style": {"case-sensitive": 1}}, [(*POST, {"tags": "Web"})]),
        ({"tag-style": "case-sensitive=1,ordering=config"}, [(*POST, {"tags": "Web"})]),
        ({"tag-style": "shape=dense"}, [(*POST, {"tags": "web"})]),
    ],
)
def test_the_case_of_tags_is_the_datacenters(style: dict[str, Any], expected: list[Any]) -> None:
    asking = reader()
    asking.answers["/cluster/options"] = style
    want = wanted({"vmid": 100, "node": "pve1", "tags": ["Web"]})
    seen = observe(want, asking, None)
    assert asking.asked == [STATUS, PENDING, "/cluster/options"]
    assert sent(decide(want, seen, ())) == expected
    observe(want, asking, seen)
    assert asking.asked.count("/cluster/options") == 1


def test_result_shows_no_password() -> None:
    seen = there(cipassword="**********")
    shown = result(wanted({"vmid": 100}), seen)
    assert shown["config"] == CONFIG
    assert shown["reboot_required"] is False
    assert shown["pending"] == {}


def test_every_typed_option_is_one_of_the_configuration() -> None:
    assert set(TYPED) <= set(OPTIONS["qemu"]) | set(OPTIONS["lxc"])


def test_the_module_has_an_option_for_each() -> None:
    others = {*GUEST, *FLEET, *WAIT, "options", "absent", "destroy_disks", "pool", "reboot", "update_password"}
    assert set(ARGUMENTS) - others == {*TYPED, *GROUPS}
