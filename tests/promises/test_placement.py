"""Where a guest goes when the play leaves that to the cluster: to where there is room, and no further."""

from __future__ import annotations

from typing import Any

import pytest

from .world import World, make_world

GIB = 1024**3


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def leave(world: World, *nodes: str, **more: Any) -> dict[str, Any]:
    return world.run("proxmox_migrate", {"vmid": 102, "target_node": "auto", "exclude_nodes": list(nodes), **more})


def fill(world: World, node: str, mib: int, vmid: int) -> None:
    world.cluster.add_vm(vmid, f"big{vmid}", node=node, disk=None, running=True, config={"memory": mib})


def test_to_the_node_with_the_most_room(world: World) -> None:
    fill(world, "pve1", 40 * 1024, 120)
    assert leave(world, "pve2")["guest"]["node"] == "pve3"
    fill(world, "pve3", 60 * 1024, 121)
    assert leave(world, "pve3")["guest"]["node"] == "pve2"
    fill(world, "pve2", 62 * 1024, 122)
    assert leave(world, "pve2")["guest"]["node"] == "pve1"


def test_not_to_where_something_bars_the_way(world: World) -> None:
    """The node with the most room has not the guest's storage; the next one is taken."""
    fill(world, "pve1", 8 * 1024, 120)
    world.cluster.storages.all["shared"].nodes = ("pve1", "pve2")
    assert leave(world, "pve2")["guest"]["node"] == "pve1"


def test_nowhere_to_go(world: World) -> None:
    world.cluster.node_down("pve3")
    world.cluster.storages.all["shared"].nodes = ("pve2", "pve3")
    result = leave(world, "pve2")
    assert result["failed"]
    assert not result["changed"]
    for text in ("VM 102 cannot leave node pve2", "pve3: is down", "pve1: storage 'shared'"):
        assert text in result["msg"]


def test_all_nodes_are_to_be_left(world: World) -> None:
    result = leave(world, "pve1", "pve2", "pve3")
    assert "there is no other node" in result["msg"]
    assert "There is no node 'pve9'" in leave(world, "pve2", "pve9")["msg"]


def test_check_mode_foretells_the_node(world: World) -> None:
    options = {"vmid": 102, "target_node": "auto", "exclude_nodes": ["pve2"]}
    foretold = world.run("proxmox_migrate", options, check_mode=True)
    assert foretold["diff"]["after"] == {"node": leave(world, "pve2")["guest"]["node"]}


def clone(world: World, source: str, **more: Any) -> dict[str, Any]:
    return world.run("proxmox_vm_clone", {"source": source, "name": "new", "target_node": "auto", **more})


def test_a_clone_goes_to_the_node_with_the_most_room(world: World) -> None:
    fill(world, "pve1", 30 * 1024, 120)
    fill(world, "pve2", 40 * 1024, 121)
    assert clone(world, "9001")["guest"]["node"] == "pve3"
    fill(world, "pve3", 60 * 1024, 122)
    again = clone(world, "9001")
    assert (again["changed"], again["guest"]["node"]) == (False, "pve3"), "one that exists may be anywhere"


def test_a_clone_of_a_local_template_stays_there(world: World) -> None:
    fill(world, "pve1", 30 * 1024, 120)
    assert clone(world, "9000")["guest"]["node"] == "pve1"


def test_no_node_for_a_clone(world: World) -> None:
    fill(world, "pve1", 64 * 1024, 120)
    result = clone(world, "9000")
    assert result["failed"]
    assert not result["changed"]
    for text in ("There is no node for a clone of VM 9000", "pve1: 0.0 GiB of 64.0 GiB", "pve2: the storages"):
        assert text in result["msg"]
