"""What a slip of the pen is answered with: the same words by every module, and what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from .world import World, make_world

NO_NODE = "There is no node 'pve9' in this cluster; its nodes are pve1, pve2, pve3."


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def refused(world: World, module: str, **options: Any) -> str:
    result = world.run(module, options)
    assert result["failed"], result
    return str(result["msg"])


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("proxmox_backup_info", {}),
        ("proxmox_backup_info", {"storage": "local"}),
        ("proxmox_capacity_info", {"nodes": ["pve9"]}),
        ("proxmox_metrics_info", {}),
        ("proxmox_metrics_info", {"storage": "local"}),
        ("proxmox_node_info", {}),
        ("proxmox_storage_content", {"storage": "local"}),
        ("proxmox_storage_content", {"storage": "local", "filename": "a.iso", "state": "absent"}),
        ("proxmox_task_info", {}),
        ("proxmox_task_info", {"locks": True}),
        ("proxmox_template_info", {}),
        ("proxmox_vm_info", {}),
        ("proxmox_vm_info", {"name": "web"}),
    ],
    ids=str,
)
def test_a_node_that_does_not_exist(world: World, module: str, options: dict[str, Any]) -> None:
    node = {} if "nodes" in options else {"node": "pve9"}
    assert refused(world, module, **node, **options) == NO_NODE


def test_a_node_without_guests_exists(world: World) -> None:
    for vmid in [vmid for vmid, guest in world.cluster.guests.items() if guest.node == "pve3"]:
        del world.cluster.guests[vmid]
    assert world.run("proxmox_vm_info", {"node": "pve3"})["guests"] == []


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("proxmox_agent", {"action": "ping"}),
        ("proxmox_backup", {"storage": "local"}),
        ("proxmox_disk", {"disk": "scsi0", "state": "detached"}),
        ("proxmox_lock", {}),
        ("proxmox_metrics_info", {}),
        ("proxmox_migrate", {"target_node": "pve2"}),
        ("proxmox_snapshot", {"snapshot": "a"}),
        ("proxmox_vm", {"name": "new"}),
        ("proxmox_vm_config", {"cores": 2}),
        ("proxmox_vm_power", {"state": "started"}),
    ],
    ids=str,
)
def test_a_number_that_is_no_vmid(world: World, module: str, options: dict[str, Any]) -> None:
    assert refused(world, module, vmid=99, **options) == "99 is no VMID; they go from 100 to 999999999."


@pytest.mark.parametrize(
    ("module", "options", "text"),
    [
        (
            "proxmox_vm_power",
            {"name": "wbe", "state": "started"},
            "No guest is called 'wbe' (did you mean web?). Guests",
        ),
        ("proxmox_vm_power", {"name": "nothing-like-it", "state": "started"}, "No guest is called 'nothing-like-it'. "),
        (
            "proxmox_vm_clone",
            {"source": "debain", "name": "new"},
            "guest 'debain' (did you mean debian?), does not exist",
        ),
        ("proxmox_vm", {"clone": "debain", "name": "new"}, "guest 'debain' (did you mean debian?), does not exist"),
        ("proxmox_vm", {"clone": "nothing-like-it", "name": "new"}, "guest 'nothing-like-it', does not exist"),
    ],
    ids=str,
)
def test_the_name_of_a_guest(world: World, module: str, options: dict[str, Any], text: str) -> None:
    assert text in refused(world, module, **options)


@pytest.mark.parametrize("options", [{"vmid": 100}, {"vmids": [100]}], ids=["one", "fleet"])
def test_a_password_beside_a_token(world: World, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    monkeypatch.delenv("PROXMOX_PASSWORD", raising=False)
    done = world.run("proxmox_vm_power", {**options, "state": "started", "api_password": "geheim"})
    assert not done["failed"]
    (warning,) = done["warnings"]
    assert warning.startswith("api_password is not used, for an API token is given")
    monkeypatch.setenv("PROXMOX_PASSWORD", "geheim")
    assert world.run("proxmox_vm_power", {**options, "state": "started"})["warnings"] == []


def test_a_password_that_was_not_used_is_told_of_a_failure_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXMOX_PASSWORD", raising=False)
    failed = world.run("proxmox_vm_power", {"vmid": 555, "state": "started", "api_password": "geheim"})
    assert failed["failed"]
    assert len(failed["warnings"]) == 1
