"""How many requests a play's task costs, polls of the server's tasks aside. The README's table is held to these numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import modules
from tests.simulator import Cluster

from .scenarios import SCENARIOS
from .world import World, make_world

README = Path(__file__).resolve().parents[2] / "README.md"

BY_NAME = {"name": "web"}
BY_VMID = {"vmid": 100}
HINTED = {"vmid": 100, "node": "pve1"}

# what it is -> module, options without the guest, requests by name, by vmid, by vmid and right node
UNCHANGED: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {
    "whole": ("proxmox_vm", {"cores": 2, "tags": ["prod", "web"], "power": "started"}, (3, 3, 2)),
    "power": ("proxmox_vm_power", {"state": "started"}, (2, 2, 1)),
    "config": ("proxmox_vm_config", {"cores": 2, "tags": ["prod", "web"]}, (3, 3, 2)),
    "disk": ("proxmox_disk", {"disk": "scsi0", "storage": "local-lvm"}, (3, 3, 2)),
    "snapshot": ("proxmox_snapshot", {"snapname": "first"}, (3, 3, 2)),
    "backup": ("proxmox_backup", {"storage": "local", "max_age": "24h"}, (4, 4, 3)),
    "migrate": ("proxmox_migrate", {"target_node": "pve1"}, (2, 2, 1)),
    "agent": ("proxmox_agent", {"action": "thaw"}, (4, 4, 3)),
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    def setup(cluster: Cluster) -> None:
        cluster.add_snapshot(100, "first")
        cluster.add_backup(100, "local")

    return make_world(monkeypatch, setup)


def count(world: World, module: str, options: dict[str, Any], *, changed: bool) -> int:
    """Return the requests of one run, polls aside."""
    world.cluster.log.clear()
    result = world.run(module, options)
    assert not result["failed"], result["msg"]
    assert result["changed"] is changed
    return len([entry for entry in world.cluster.log if "/tasks/{upid}" not in entry.template])


@pytest.mark.parametrize("what", UNCHANGED)
def test_a_task_without_change(world: World, what: str) -> None:
    module, options, expected = UNCHANGED[what]
    ways = (BY_NAME, BY_VMID, HINTED)
    assert tuple(count(world, module, {**way, **options}, changed=False) for way in ways) == expected


@pytest.mark.parametrize("what", [what for what, (module, *_rest) in UNCHANGED.items() if modules.takes_fleets(module)])
def test_a_fleet_without_change(world: World, what: str) -> None:
    """One request for all, and for each guest what it costs by its VMID and right node."""
    module, options, (_name, _vmid, hinted) = UNCHANGED[what]
    for vmid in (110, 111, 112):
        world.cluster.add_vm(vmid, f"web{vmid}", disk="shared:1", config={"tags": "prod;web", "cores": 2}, running=True)
        world.cluster.add_snapshot(vmid, "first")
    fleet = {"with_tags": ["prod"], "parallel": 1}
    assert count(world, module, {**fleet, **options}, changed=False) == 1 + 4 * hinted
    # Of each of two nodes with guests, VMs and containers.
    states = {"names": ["*"], "status": ["running"], "parallel": 1}
    assert count(world, module, {**states, **options}, changed=False) == 1 + 2 * 2 + 4 * hinted


@pytest.mark.parametrize("what", UNCHANGED)
def test_the_readme_says_so(what: str) -> None:
    module, _options, (name, vmid, hinted) = UNCHANGED[what]
    assert f"| `{module}` | {name} | {vmid} | {hinted} |" in README.read_text(encoding="utf-8")


def test_clone_configure_grow_and_start(world: World) -> None:
    clone = {"source": "debian", "name": "new", "full": True}
    requests = count(world, "proxmox_vm_clone", clone, changed=True)
    made = world.run("proxmox_vm_clone", clone)["guest"]
    guest = {"vmid": made["vmid"], "node": made["node"]}
    config = {
        **guest,
        "cores": 4,
        "memory": 4096,
        "tags": ["prod"],
        "net": {"net0": {"tag": 20}},
        "disks": {"scsi0": {"size": "20G"}},
    }
    requests += count(world, "proxmox_vm_config", config, changed=True)
    requests += count(world, "proxmox_vm_power", {**guest, "state": "started"}, changed=True)
    assert requests <= 14
    assert f"{requests} requests" in README.read_text(encoding="utf-8")
    world.cluster.log.clear()
    for module, options in (
        ("proxmox_vm_clone", clone),
        ("proxmox_vm_config", config),
        ("proxmox_vm_power", {**guest, "state": "started"}),
    ):
        assert world.run(module, options)["changed"] is False
    assert world.cluster.log.writes() == []


WHOLE = next(scenario for scenario in SCENARIOS if str(scenario) == "vm-create").options


def test_a_whole_guest_in_one_task(world: World) -> None:
    """Made from nothing with cloud-init, two disks, two cards, tags and pool, started, and asked for its address."""
    requests = count(world, "proxmox_vm", dict(WHOLE), changed=True)
    assert [f"{entry.method} {entry.template}" for entry in world.cluster.log.writes()] == [
        "POST /nodes/{node}/qemu",
        "POST /nodes/{node}/qemu/{vmid}/status/start",
    ]
    assert f"takes {requests} requests from nothing" in README.read_text(encoding="utf-8")
    assert count(world, "proxmox_vm", dict(WHOLE), changed=False) <= 3
    assert count(world, "proxmox_vm", {**WHOLE, "cores": 4}, changed=True) <= 8
    assert [entry.template for entry in world.cluster.log.writes()] == ["/nodes/{node}/qemu/{vmid}/config"]


def test_an_agent_that_does_not_answer_is_asked_every_five_seconds(world: World) -> None:
    guest = world.cluster.guests[100]
    guest.behaviour.agent = False
    result = world.run("proxmox_vm", {"vmid": 100, "wait_for": "agent", "timeout": 60})
    assert result["failed"]
    assert "the guest agent of VM 100 to answer" in result["msg"]
    asked = [entry.time for entry in world.cluster.log if entry.template.endswith("/agent/network-get-interfaces")]
    assert 5 <= len(asked) <= 9
    assert min(later - earlier for earlier, later in pairwise(asked[:-1])) >= 5.0


def test_a_start_that_fails_in_the_first_second_is_reported_within_one(world: World) -> None:
    world.cluster.guests[101].config["net0"] = "virtio=BC:24:11:00:00:09,bridge=vmbr77"
    began = world.cluster.now
    result = world.run("proxmox_vm_power", {"vmid": 101, "state": "started"})
    assert result["failed"]
    assert "bridge 'vmbr77' does not exist" in result["msg"]
    assert world.cluster.now - began < 1.0
