"""What the modules promise, on a cluster: each change is foretold, done, and not done again; nothing else is touched.

Everything here holds for any cluster. Guests are cloned from the template into the suite's own VMIDs and destroyed after.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from .conftest import Target, name_of

POWER, CONFIG, CLONE, SNAPSHOT, MIGRATE = (
    "proxmox_vm_power",
    "proxmox_vm_config",
    "proxmox_vm_clone",
    "proxmox_snapshot",
    "proxmox_migrate",
)

# What the server changes by itself, or what a power cycle changes.
VOLATILE = {"digest", "meta", "vmgenid", "runningmachine", "runningcpu"}


def config_of(target: Target, guest: dict[str, Any]) -> dict[str, Any]:
    client = target.client()
    config = client.get(f"/nodes/{guest['node']}/{guest['type']}/{guest['vmid']}/config")
    return {key: value for key, value in config.items() if key not in VOLATILE}


def test_clone(target: Target, vmid: int) -> None:
    options = {
        "source": str(target.template),
        "vmid": vmid,
        "name": name_of(vmid),
        "full": True,
        "storage": target.storage,
    }
    done = target.changed(CLONE, **options)
    assert (done["guest"]["vmid"], done["guest"]["name"], done["guest"]["lock"]) == (vmid, name_of(vmid), None)
    found = target.run(CLONE, source=str(target.template), name=name_of(vmid))
    assert found["changed"] is False, "it is found by its name alone, though the cluster's list may not know that yet"
    assert found["guest"]["vmid"] == vmid
    target.refused("is taken", CLONE, source=str(target.template), vmid=vmid, name="keel-contract-other")


def test_clone_of_what_does_not_exist(target: Target, vmid: int) -> None:
    target.refused("does not exist", CLONE, source="keel-contract-no-such-guest", vmid=vmid, name=name_of(vmid))


def test_clone_to_a_storage_that_does_not_exist(target: Target, vmid: int) -> None:
    options = {"source": str(target.template), "vmid": vmid, "name": name_of(vmid), "full": True}
    target.refused("no-such-storage", CLONE, storage="no-such-storage", **options)


def test_config(target: Target, guest: dict[str, Any]) -> None:
    vmid = guest["vmid"]
    before = config_of(target, guest)
    wanted: dict[str, Any] = {
        "vmid": vmid,
        "cores": 2,
        "memory": 192,
        "tags": ["Beta", "alpha"],
        "description": "line one\nline two\n",
        "net": {"net3": {"model": "virtio", "bridge": "vmbr0", "link_down": True}},
        "onboot": False,
        "options": {"hotplug": "disk,network"},
    }
    done = target.changed(CONFIG, **wanted)
    assert sorted(done["guest"]["tags"]) == ["alpha", "beta"]
    after = config_of(target, guest)
    touched = {"cores", "memory", "tags", "description", "net3", "hotplug", "boot"}
    assert {key: value for key, value in after.items() if key not in touched} == {
        key: value for key, value in before.items() if key not in touched
    }
    mac = after["net3"].split(",")[0]
    target.changed(CONFIG, vmid=vmid, net={"net3": {"tag": 20}})
    assert config_of(target, guest)["net3"].startswith(mac), "a network card keeps its MAC unless another is named"
    target.changed(CONFIG, vmid=vmid, absent=["net3", "hotplug"])
    assert "net3" not in config_of(target, guest)


def disk_of(config: dict[str, Any]) -> tuple[str, int]:
    """Return the first disk and its size in MiB."""
    units = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
    for slot in ("scsi0", "virtio0", "sata0", "ide0"):
        size = next((part[5:] for part in str(config.get(slot, "")).split(",") if part.startswith("size=")), None)
        if size is not None:
            return slot, int(int(size[:-1]) * units[size[-1]])
    raise AssertionError("the template of the contract suite needs a disk on scsi0, virtio0, sata0 or ide0")


def test_a_disk_grows_and_never_shrinks(target: Target, guest: dict[str, Any]) -> None:
    slot, size = disk_of(config_of(target, guest))
    target.changed(CONFIG, vmid=guest["vmid"], disks={slot: {"size": f"{size + 64}M"}})
    assert disk_of(config_of(target, guest)) == (slot, size + 64)
    result = target.run(CONFIG, vmid=guest["vmid"], disks={slot: {"size": f"{size}M"}})
    assert result["failed"]
    assert not result["calls"]
    assert disk_of(config_of(target, guest)) == (slot, size + 64)


def test_power(target: Target, guest: dict[str, Any]) -> None:
    vmid = guest["vmid"]
    started = target.changed(POWER, vmid=vmid, state="started")
    assert started["guest"]["status"] == "running"
    assert target.changed(POWER, vmid=vmid, state="paused")["guest"]["qmpstatus"] == "paused"
    assert target.changed(POWER, vmid=vmid, state="started")["guest"]["qmpstatus"] == "running"
    reset = target.run(POWER, vmid=vmid, state="reset")
    assert not reset["failed"], reset["msg"]
    restarted = target.run(POWER, vmid=vmid, state="restarted", force="now")
    assert not restarted["failed"], restarted["msg"]
    assert restarted["guest"]["status"] == "running"
    assert target.changed(POWER, vmid=vmid, state="stopped", force="now")["guest"]["status"] == "stopped"


def test_hibernation(target: Target, guest: dict[str, Any]) -> None:
    vmid = guest["vmid"]
    assert not target.run(POWER, vmid=vmid, state="started")["failed"]
    assert (
        target.changed(POWER, vmid=vmid, state="hibernated", statestorage=target.storage)["guest"]["lock"]
        == "suspended"
    )
    assert target.changed(POWER, vmid=vmid, state="started")["guest"]["lock"] is None


def test_a_start_that_fails_is_reported_at_once(target: Target, guest: dict[str, Any]) -> None:
    net = {"net0": {"model": "virtio", "bridge": "vmbr4093"}}
    assert not target.run(CONFIG, vmid=guest["vmid"], net=net)["failed"]
    began = time.monotonic()
    result = target.refused("vmbr4093", POWER, vmid=guest["vmid"], state="started")
    assert time.monotonic() - began < 10.0
    assert result["upid"].startswith("UPID:")
    assert result["log"]


def test_pending_changes_and_the_restart_that_applies_them(target: Target, guest: dict[str, Any]) -> None:
    vmid = guest["vmid"]
    assert not target.run(POWER, vmid=vmid, state="started")["failed"]
    done = target.changed(CONFIG, vmid=vmid, cores=2)
    assert done["reboot_required"] is True
    assert "cores" in done["pending"]
    assert not target.run(POWER, vmid=vmid, state="restarted", force="now")["failed"]
    again = target.run(CONFIG, vmid=vmid, cores=2)
    assert (again["changed"], again["reboot_required"]) == (False, False)


def test_snapshots(target: Target, guest: dict[str, Any]) -> None:
    vmid = guest["vmid"]
    target.changed(SNAPSHOT, vmid=vmid, snapname="keel_one", description="first")
    target.changed(SNAPSHOT, vmid=vmid, snapname="keel_one", description="changed")
    target.changed(SNAPSHOT, vmid=vmid, snapname="keel_two")
    before = config_of(target, guest)
    assert not target.run(CONFIG, vmid=vmid, memory=224)["failed"]
    back = target.run(SNAPSHOT, vmid=vmid, snapname="keel_two", state="rollback")
    assert not back["failed"], back["msg"]
    assert config_of(target, guest)["memory"] == before["memory"]
    done = target.changed(SNAPSHOT, vmid=vmid, snapname="keel_one", state="absent")
    assert [entry["name"] for entry in done["snapshots"]] == ["keel_two"]
    target.refused("keel_two", SNAPSHOT, vmid=vmid, snapname="keel_none", state="rollback")


def test_a_fleet(target: Target, guest: dict[str, Any], second: dict[str, Any]) -> None:
    both = [guest["vmid"], second["vmid"]]
    tagged = target.changed(CONFIG, vmids=both, tags=["keel-contract-fleet"], description="one of two")
    assert [one["guest"]["vmid"] for one in tagged["results"]] == both
    fleet = {"tags": ["keel-contract-fleet"], "max_guests": 2}
    started = target.changed(POWER, state="started", **fleet)
    assert [one["guest"]["status"] for one in started["results"]] == ["running", "running"]
    target.changed(SNAPSHOT, snapname="keel_all", **fleet)
    stopped = target.run(POWER, state="stopped", force="now", status=["running"], **fleet)
    assert not stopped["failed"], stopped["msg"]
    target.refused("running", POWER, state="stopped", force="now", status=["running"], **fleet)
    target.refused("more than max_guests (1)", POWER, vmids=both, max_guests=1, state="started")
    target.changed(SNAPSHOT, snapname="keel_all", state="absent", vmids=both)
    target.changed(CONFIG, vmids=both, tags=[])


def test_migration(target: Target, guest: dict[str, Any]) -> None:
    others = [node for node in target.nodes if node != guest["node"]]
    if not others:
        pytest.skip("PVE_CONTRACT_NODES names one node only")
    there = target.changed(MIGRATE, vmid=guest["vmid"], target_node=others[0])
    assert there["guest"]["node"] == others[0]
    assert not target.run(POWER, vmid=guest["vmid"], state="started")["failed"]
    back = target.changed(MIGRATE, vmid=guest["vmid"], target_node=guest["node"], with_local_disks=True)
    assert (back["guest"]["node"], back["guest"]["status"]) == (guest["node"], "running")


def test_migration_to_a_node_that_does_not_exist(target: Target, guest: dict[str, Any]) -> None:
    result = target.refused("no-such-node", MIGRATE, vmid=guest["vmid"], target_node="no-such-node")
    assert not result["calls"]


def test_clone_to_another_node(target: Target, vmid: int) -> None:
    if len(target.nodes) < 2:
        pytest.skip("PVE_CONTRACT_NODES names one node only")
    options = {
        "source": str(target.template),
        "vmid": vmid,
        "name": name_of(vmid),
        "full": True,
        "storage": target.storage,
    }
    done = target.changed(CLONE, target_node=target.nodes[1], **options)
    assert done["guest"]["node"] == target.nodes[1]


def test_clone_on_shared_storage_to_another_node(target: Target, vmid: int) -> None:
    if target.shared_storage is None or len(target.nodes) < 2:
        pytest.skip("needs PVE_CONTRACT_SHARED_STORAGE and two nodes")
    first = {"source": str(target.template), "vmid": vmid, "name": name_of(vmid), "full": True}
    done = target.changed(CLONE, target_node=target.nodes[1], storage=target.shared_storage, **first)
    assert done["guest"]["node"] == target.nodes[1]


@pytest.mark.parametrize("name", [POWER, CONFIG, SNAPSHOT, MIGRATE])
def test_a_guest_that_does_not_exist(target: Target, vmid: int, name: str) -> None:
    needed: dict[str, Any] = {
        POWER: {"state": "started"},
        SNAPSHOT: {"snapname": "keel_x"},
        MIGRATE: {"target_node": "x"},
    }.get(name, {})
    result = target.refused(f"no guest with VMID {vmid}", name, vmid=vmid, **needed)
    assert not result["calls"]


def test_a_wrong_node_is_no_obstacle(target: Target, guest: dict[str, Any]) -> None:
    other = next((node for node in target.nodes if node != guest["node"]), None)
    if other is None:
        pytest.skip("PVE_CONTRACT_NODES names one node only")
    found = target.run(POWER, vmid=guest["vmid"], node=other, state="stopped")
    assert not found["failed"], found["msg"]
    assert found["guest"]["node"] == guest["node"]


def test_a_wrong_secret_is_told_from_everything_else(target: Target) -> None:
    options = {**target.auth, "api_token_secret": "00000000-0000-0000-0000-000000000000"}
    if "api_token_id" not in options:
        pytest.skip("no token in use")
    result = Target(options, *list(vars(target).values())[1:]).run(POWER, vmid=target.template, state="stopped")
    assert result["failed"]
    assert result["status"] == 401
    assert options["api_token_secret"] not in str(result)


def test_an_authority_that_did_not_sign_is_refused(target: Target) -> None:
    options = {
        key: value for key, value in target.auth.items() if key not in ("ca_path", "api_fingerprint", "validate_certs")
    }
    strict = Target(options | {"validate_certs": True, "api_fingerprint": "00" * 32}, *list(vars(target).values())[1:])
    strict.refused("fingerprint", POWER, vmid=target.template, state="stopped")
