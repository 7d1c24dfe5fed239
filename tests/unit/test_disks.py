"""One disk of a guest: what is asked, what is seen and what is decided, by tables; and the documentation's examples, run."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.keel.proxmox.plugins.module_utils import disks
from ansible_collections.keel.proxmox.plugins.module_utils.disks import Observed, Slot, Slots, decide, wanted
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call, Plan
from ansible_collections.keel.proxmox.plugins.modules import proxmox_disk

from tests.promises.scenarios import ISO, data
from tests.promises.world import World, make_world
from tests.simulator import Cluster
from tests.simulator.engine.http import die
from tests.simulator.engine.model import Volume

OLD, NEW = "lvm:vm-100-disk-0", "lvm:vm-100-disk-1"


def asked(**options: Any) -> disks.Wanted:
    defaults = {name: spec.get("default") for name, spec in proxmox_disk.ARGUMENTS.items()}
    return wanted({**defaults, "vmid": 100, **options})


def slots(kind: str = "qemu", status: str = "stopped", vmid: int = 100, **found: str | Slot) -> Slots:
    guest = Guest(vmid, kind, "pve1", status=status)
    return Slots(guest, {name: slot if isinstance(slot, Slot) else Slot(slot, slot) for name, slot in found.items()})


def planned(want: disks.Wanted, here: Slots, other: Slots | None = None, **more: Any) -> Plan:
    return decide(want, Observed(here, other, **more), ())


def deed(call: Call) -> dict[str, object]:
    return {key: value for key, value in call.params.items() if not key.endswith("digest")}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "Nothing is asked of scsi0"),
        ({"options": {"ssd": True}}, "Nothing is asked of scsi0"),
        ({"volume": OLD, "options": {"iotread": True}}, "scsi0 has no key 'iotread'; did you mean iothread?"),
        ({"storage": "lvm", "volume": OLD}, "does not go with volume"),
        ({"iso": ISO, "storage": "lvm"}, "iso does not go with storage"),
        ({"storage": "lvm", "options": {"ssd": True}}, "storage does not go with options"),
        (
            {"import_from": "local:import/a.qcow2", "storage": "lvm", "keep_source": True},
            "does not go with keep_source",
        ),
        ({"import_from": "local:import/a.qcow2"}, "needs the storage"),
        ({"state": "absent", "storage": "lvm"}, "state=absent does not go with storage"),
        ({"state": "detached", "keep_source": True}, "state=detached does not go with keep_source"),
        ({"iso": "/root/a.iso"}, "is no CD image"),
        ({"volume": OLD, "target_disk": "scsi1"}, "volume does not go with target_disk"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        asked(disk="scsi0", **options)


@pytest.mark.parametrize(
    ("row", "status", "state", "kind", "slot"),
    [
        ({"value": OLD}, "running", "detached", "qemu", Slot(OLD, OLD)),
        ({"value": OLD, "pending": NEW}, "running", "present", "qemu", Slot(OLD, NEW)),
        ({"pending": NEW}, "running", "present", "qemu", Slot(None, NEW)),
        # What a running guest keeps until it is stopped is gone where it goes as wanted, and only there.
        ({"value": OLD, "delete": 1}, "running", "detached", "qemu", Slot(OLD, None, 1)),
        ({"value": OLD, "delete": 2}, "running", "detached", "qemu", Slot(OLD, OLD, 2)),
        ({"value": OLD, "delete": 1}, "running", "absent", "qemu", Slot(OLD, OLD, 1)),
        ({"value": OLD, "delete": 2}, "running", "absent", "qemu", Slot(OLD, None, 2)),
        ({"value": OLD, "delete": 1}, "running", "absent", "lxc", Slot(OLD, None, 1)),
        ({"value": "none,media=cdrom", "delete": 1}, "running", "absent", "qemu", Slot("none,media=cdrom", None, 1)),
        # A SCSI disk goes at once: the write was cut off.
        ({"value": OLD, "delete": 1}, "running", "detached", "scsi", Slot(OLD, OLD, 1)),
        ({"pending": NEW}, "running", "present", "scsi", Slot(None, None, begun=NEW)),
        # The server has tried, and could not.
        ({"value": OLD, "delete": 1}, "stopped", "detached", "qemu", Slot(OLD, OLD, 1)),
    ],
)
def test_what_waits(row: dict[str, Any], status: str, state: str, kind: str, slot: Slot) -> None:
    name, kind = ("scsi0", "qemu") if kind == "scsi" else ("sata0", kind)
    assert disks._slot(Guest(100, kind, "pve1", status=status), name, row, state) == slot


@pytest.mark.parametrize(
    ("text", "volume", "storage"),
    [
        (f"{OLD},size=8G", OLD, "lvm"),
        (f"size=8G,file={OLD}", OLD, "lvm"),
        (f"volume={OLD},mp=/srv", OLD, "lvm"),
        ("/dev/disk/by-id/x:y,size=1T", "/dev/disk/by-id/x:y", None),
        ("none,media=cdrom", "none", None),
        (None, None, None),
    ],
)
def test_a_volume_and_its_storage(text: str | None, volume: str | None, storage: str | None) -> None:
    assert (disks._volume(text), disks._storage(volume)) == (volume, storage)


@pytest.mark.parametrize(
    ("options", "here", "deeds"),
    [
        ({"storage": "lvm"}, slots(scsi0=OLD), []),
        ({"storage": "ceph"}, slots(scsi0=OLD), [{"disk": "scsi0", "storage": "ceph", "delete": True}]),
        ({"storage": "ceph", "keep_source": True}, slots(scsi0=OLD), [{"disk": "scsi0", "storage": "ceph"}]),
        ({"storage": "lvm", "format": "qcow2"}, slots(scsi0=OLD), []),
        ({"storage": "nfs", "format": "raw"}, slots(scsi0="nfs:100/a.raw"), []),
        (
            {"storage": "nfs", "format": "raw"},
            slots(scsi0="nfs:100/a.qcow2"),
            [{"disk": "scsi0", "storage": "nfs", "format": "raw", "delete": True}],
        ),
        ({"state": "detached"}, slots(), []),
        ({"state": "detached"}, slots(scsi0=OLD), [{"delete": "scsi0"}]),
        ({"state": "detached"}, slots("qemu", "running", scsi0=Slot(OLD, None, 1)), []),
        ({"state": "absent"}, slots(scsi0=OLD), [{"delete": "scsi0", "force": True}]),
        ({"state": "absent"}, slots(scsi0="none,media=cdrom"), [{"delete": "scsi0"}]),
        ({"state": "absent"}, slots(), []),
        ({"state": "absent", "volume": OLD}, slots(unused3=OLD), [{"delete": "unused3"}]),
        ({"state": "absent", "volume": OLD}, slots(unused3=NEW), []),
        ({"volume": "unused1"}, slots(unused1=OLD), [{"scsi0": OLD}]),
        ({"volume": OLD, "options": {"ssd": True}}, slots(), [{"scsi0": f"{OLD},ssd=1"}]),
        ({"volume": "unused1"}, slots(scsi0=OLD), []),
        ({"volume": OLD}, slots(scsi0=f"{OLD},size=8G"), []),
        ({"volume": OLD}, slots("qemu", "running", scsi0=Slot(OLD, None, 1)), [{"revert": "scsi0"}]),
        ({"iso": ISO}, slots(), [{"scsi0": f"{ISO},media=cdrom"}]),
        ({"iso": ISO}, slots(scsi0="none,media=cdrom,serial=x"), [{"scsi0": f"{ISO},media=cdrom,serial=x"}]),
        ({"iso": "none"}, slots(scsi0=f"{ISO},media=cdrom,size=4M"), [{"scsi0": "none,media=cdrom"}]),
        ({"iso": "none"}, slots(), []),
        (
            {"import_from": "nfs:import/a.qcow2", "storage": "lvm", "format": "raw"},
            slots(),
            [{"scsi0": "lvm:0,import-from=nfs:import/a.qcow2,format=raw"}],
        ),
        ({"import_from": "nfs:import/a.qcow2", "storage": "lvm"}, slots(scsi0=OLD), []),
    ],
)
def test_decided(options: dict[str, Any], here: Slots, deeds: list[dict[str, object]]) -> None:
    plan = planned(asked(disk="scsi0", **options), here)
    assert [deed(call) for call in plan.calls] == deeds
    assert (plan.before == plan.after) is not bool(deeds)


@pytest.mark.parametrize(
    ("options", "here", "told"),
    [
        ({"disk": "net0", "state": "detached"}, slots(), "no slot 'net0'"),
        ({"disk": "rootfs", "state": "detached"}, slots("lxc", rootfs=OLD), "without its rootfs"),
        ({"disk": "unused0", "state": "detached"}, slots(unused0=OLD), "attached to nothing"),
        ({"disk": "scsi0", "state": "absent", "volume": NEW}, slots(scsi0=OLD), "holds lvm:vm-100-disk-0, not"),
        ({"disk": "ide0", "state": "absent"}, slots("qemu", "running", ide0=Slot(None, NEW)), "changes when it is"),
        ({"disk": "mp0", "state": "absent"}, slots("lxc", mp0=f"{OLD},mp=/srv"), f"volume={OLD}"),
        ({"disk": "scsi0", "iso": ISO}, slots(scsi0=OLD), "holds a disk"),
        ({"disk": "ide2", "iso": ISO}, slots(ide2="lvm:vm-100-cloudinit,media=cdrom"), "data of cloud-init"),
        ({"disk": "scsi0", "volume": NEW}, slots(scsi0=OLD), "holds lvm:vm-100-disk-0 already"),
        ({"disk": "scsi0", "volume": "unused2"}, slots(unused0=OLD), r"no unused2; its unused volumes: unused0 \("),
        ({"disk": "scsi1", "volume": OLD}, slots(scsi0=OLD), "is scsi0 of VM 100"),
        ({"disk": "scsi0", "storage": "ceph"}, slots(scsi1=OLD), r"no disk in scsi0 \(there are: scsi1\)"),
        ({"disk": "ide2", "storage": "ceph"}, slots(ide2=f"{ISO},media=cdrom"), "no disk on a storage"),
        ({"disk": "scsi0", "storage": "ceph"}, slots("qemu", "running", scsi0=Slot(OLD, f"{OLD},ssd=1")), "wait until"),
        ({"disk": "tpmstate0", "storage": "ceph"}, slots("qemu", "running", tpmstate0=OLD), "state of a TPM"),
        ({"disk": "mp0", "storage": "ceph"}, slots("lxc", "running", mp0=OLD), "containers that are stopped"),
        ({"disk": "unused0", "storage": "ceph"}, slots("lxc", unused0=OLD), "in no slot"),
        ({"disk": "mp0", "storage": "ceph", "format": "raw"}, slots("lxc", mp0=OLD), "format is for VMs"),
        ({"disk": "mp0", "storage": "x", "import_from": "nfs:import/a.raw"}, slots("lxc"), "into VMs only"),
    ],
)
def test_refused(options: dict[str, Any], here: Slots, told: str) -> None:
    with pytest.raises(Refused, match=told):
        planned(asked(**options), here)


def test_a_volume_in_snapshots_is_not_removed() -> None:
    with pytest.raises(Refused, match="in the snapshots before, after"):
        planned(asked(disk="scsi0", state="absent"), slots(scsi0=OLD), snapshots=("before", "after"))


def test_a_mount_point_is_removed_in_two_steps() -> None:
    """And from between them too; a container that runs keeps its volume until it is stopped."""
    want = asked(disk="mp0", state="absent", volume=OLD)
    whole = planned(want, slots("lxc", mp0=f"{OLD},mp=/srv", unused0=NEW))
    assert [deed(call) for call in whole.calls] == [{"delete": "mp0"}, {"delete": "unused1"}]
    between = planned(want, slots("lxc", unused0=NEW, unused1=OLD))
    assert [deed(call) for call in between.calls] == [{"delete": "unused1"}]
    assert whole.after == between.after == {"mp0": None, "volume": None}
    runs = planned(want, slots("lxc", "running", mp0=f"{OLD},mp=/srv"))
    assert [deed(call) for call in runs.calls] == [{"delete": "mp0"}]
    waits = planned(want, slots("lxc", "running", mp0=Slot(f"{OLD},mp=/srv", None, 1)))
    assert not waits.calls
    assert waits.before == waits.after == runs.after
    assert "only when it is stopped" in waits.warnings[0]


@pytest.mark.parametrize(
    ("here", "other", "options", "told"),
    [
        (slots("qemu", "running", scsi0=OLD), slots(vmid=101), {}, "runs; stop it, or detach scsi0"),
        (slots(scsi0=OLD), slots("lxc", vmid=101), {"target_disk": "mp0"}, "different kinds"),
        (slots(scsi0=OLD), slots(vmid=101, scsi0="lvm:vm-101-disk-0"), {}, "choose another slot in target_disk"),
        (slots(), slots(vmid=101), {}, "no disk in scsi0"),
        (slots(scsi0=OLD), slots(vmid=100), {}, "belongs to VM 100 already"),
        (slots(scsi0=f"{ISO},media=cdrom"), slots(vmid=101), {}, "cannot be handed over"),
    ],
)
def test_not_handed_over(here: Slots, other: Slots, options: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        planned(asked(disk="scsi0", target_vmid=101, **options), here, other)


def test_handed_over() -> None:
    want = asked(disk="scsi0", target_vmid=101, target_disk="scsi4")
    plan = planned(want, slots(scsi0=OLD), slots(vmid=101))
    assert [deed(call) for call in plan.calls] == [{"disk": "scsi0", "target-vmid": 101, "target-disk": "scsi4"}]
    done = planned(want, slots(), slots(vmid=101, scsi4="lvm:vm-101-disk-0"))
    assert not done.calls
    assert done.before == plan.after


def test_a_hibernated_guest_is_left_alone() -> None:
    here = Slots(Guest(100, "qemu", "pve1", status="stopped", lock="suspended"), {"scsi0": Slot(OLD, OLD)})
    with pytest.raises(Refused, match="hibernated"):
        planned(asked(disk="scsi0", state="detached"), here)
    assert not planned(asked(disk="scsi1", state="detached"), here).calls


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch, data)


def test_a_source_that_could_not_be_freed_is_told(world: World) -> None:
    """The server only says so in the log of a task that ends well."""
    old = world.cluster.guests[120].config["scsi1"].partition(",")[0]
    storages = world.cluster.storages
    free = storages.free

    def stuck(node: str, volid: str, task: Any = None) -> Any:
        if volid == old:
            yield from ()
            raise die("lvremove failed")
        return (yield from free(node, volid, task))

    storages.free = stuck  # type: ignore[method-assign]
    result = world.run("proxmox_disk", {"vmid": 120, "disk": "scsi1", "storage": "shared"})
    assert not result["failed"], result["msg"]
    assert any(old in text and "named in no configuration" in text for text in result["warnings"])


def test_what_waits_is_warned_of_each_time(world: World) -> None:
    world.run("proxmox_vm_power", {"vmid": 120, "state": "started"})
    for changed in (True, False):
        result = world.run("proxmox_disk", {"vmid": 120, "disk": "sata0", "state": "detached"})
        assert result["changed"] is changed
        assert "only when it is stopped" in result["warnings"][0]
        assert result["disk"]["waits"] is True


def test_a_snapshot_keeps_its_disk(world: World) -> None:
    world.cluster.add_snapshot(120, "before")
    result = world.run("proxmox_disk", {"vmid": 120, "disk": "scsi1", "state": "absent"})
    assert result["failed"]
    assert "in the snapshots before" in result["msg"]
    assert not world.cluster.log.writes()


def test_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def site(cluster: Cluster) -> None:
        for volid, form in (("local:iso/debian-13.iso", "iso"), ("local:import/data.qcow2", "qcow2")):
            content = volid.partition(":")[2].partition("/")[0]
            cluster.storages.volumes["pve1", volid] = Volume(volid, 1024**3, form, content, None, 0)
        cluster.add_vm(104, "web01", running=True, config={"ide2": "none,media=cdrom"})
        cluster.add_vm(103, "other")
        cluster.add_ct(201, "files", config={"mp0": "local-lvm:1,mp=/srv"})

    world = make_world(monkeypatch, site)
    for example in yaml.safe_load(proxmox_disk.EXAMPLES):
        options = {**example["keel.proxmox.proxmox_disk"]}
        if options.get("target_vmid"):
            options["target_vmid"] = 103
        for changed in (True, False):
            result = world.run("proxmox_disk", options)
            assert not result["failed"], (example["name"], result["msg"])
            assert result["changed"] is changed, example["name"]
