"""Locks that were left behind: removed by whom may, once nobody holds them, and told to everybody else."""

from __future__ import annotations

from typing import Any

import pytest

from tests import modules

from .world import VirtualClock, World, make_world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(monkeypatch)
    world.cluster.access.users["root@pam"].password = "right"
    world.cluster.set_lock(101, "backup")
    return world


def unlock(world: World, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    """Run as root@pam with a password."""
    auth = {"api_host": ["pve1"], "api_user": "root@pam", "api_password": "right"}
    clock = VirtualClock(world.cluster)
    return modules.run("proxmox_lock", {**auth, "vmid": 101, **options}, check_mode=check_mode, clock=clock)


def test_foretold_done_repeated(world: World) -> None:
    foretold = unlock(world, check_mode=True)
    assert world.cluster.guests[101].config["lock"] == "backup"
    done = unlock(world)
    assert not done["failed"], done["msg"]
    assert "lock" not in world.cluster.guests[101].config
    assert [call["summary"] for call in done["calls"]] == ["unlock VM 101 (backup)"]
    assert (foretold["calls"], foretold["diff"]) == (done["calls"], done["diff"])
    assert (done["guest"]["lock"], done["lock"]["lock"], done["lock"]["held"]) == (None, "backup", False)
    assert "unfinished backup" in done["warnings"][0]
    assert unlock(world)["changed"] is False


def test_nothing_else_is_touched(world: World) -> None:
    before = dict(world.cluster.guests[101].config)
    unlock(world)
    assert world.cluster.guests[101].config == {key: value for key, value in before.items() if key != "lock"}


def test_a_lock_that_a_task_holds_stays(world: World) -> None:
    upid = world.cluster.hang(101, "vzdump")
    for check_mode in (True, False):
        result = unlock(world, check_mode=check_mode)
        assert result["failed"]
        assert upid in result["msg"]
        assert "proxmox_task" in result["msg"]
    assert not unlock(world, force=True)["failed"]
    assert "lock" not in world.cluster.guests[101].config


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_token_may_not(world: World, check_mode: bool) -> None:
    """Not even one of root's; the server would say so after the look, so check mode foretells it."""
    result = world.run("proxmox_lock", {"vmid": 101}, check_mode=check_mode)
    assert result["failed"]
    assert "root@pam with a password" in result["msg"]
    assert "'qm unlock 101' on node pve1" in result["msg"]
    assert not world.cluster.log.writes()
    assert world.cluster.guests[101].config["lock"] == "backup"


def test_containers_are_unlocked_on_their_node(world: World) -> None:
    world.cluster.add_ct(200, "box")
    world.cluster.set_lock(200, "backup")
    result = unlock(world, vmid=200)
    assert result["failed"]
    assert "'pct unlock 200' on node pve1" in result["msg"]


def test_what_hangs_is_listed(world: World) -> None:
    upid = world.cluster.hang(100, "qmmove", lines=["moving"])
    world.cluster.set_lock(100, "disk")
    result = world.run("proxmox_task_info", {"state": ["running"], "locks": True})
    assert [task["upid"] for task in result["tasks"]] == [upid]
    found = {lock["vmid"]: (lock["lock"], lock["task"], lock["held"]) for lock in result["locks"]}
    assert found == {100: ("disk", upid, True), 101: ("backup", None, False)}
    (one,) = world.run("proxmox_task_info", {"upid": upid})["tasks"]
    assert (one["state"], one["log"]) == ("running", ["moving"])


def test_a_task_is_waited_for_and_its_failure_told(world: World) -> None:
    world.cluster.guests[102].behaviour.start_error = "no such bridge"
    begun = world.run("proxmox_vm_power", {"vmid": 102, "state": "started", "wait": False})
    options = {"upid": begun["tasks"][0], "state": "finished"}
    result = world.run("proxmox_task", options)
    assert result["failed"]
    assert result["changed"] is False
    assert "qmstart 102 failed: no such bridge" in result["msg"]
    assert result["task"]["log"][-1] == "TASK ERROR: no such bridge"
    assert not world.run("proxmox_task", {**options, "fail_on_error": False})["failed"]
    unknown = world.run(
        "proxmox_task", {**options, "upid": "UPID:pve1:0000031D:00065374:6B006D77:vzdump:101:root@pam:"}
    )
    assert "knows no task" in unknown["msg"]
