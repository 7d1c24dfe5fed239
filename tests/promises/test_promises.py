"""The promises, over every module and scenario."""

from __future__ import annotations

from typing import Any

import pytest

from tests import modules

from .scenarios import ANYTHING, SCENARIOS, Scenario
from .world import World, make_world

every = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
acting = pytest.mark.parametrize("scenario", [scenario for scenario in SCENARIOS if scenario.changes], ids=str)


@pytest.fixture
def world(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch, scenario.setup)


def run(world: World, scenario: Scenario, *, check_mode: bool = False) -> dict[str, Any]:
    result = world.run(scenario.module, dict(scenario.options), check_mode=check_mode)
    assert not result["failed"], (result["msg"], result.get("log"))
    return result


def deeds(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calls of a result without their digests, which say what was read and not what is done."""
    return [
        {**call, "params": {key: value for key, value in call["params"].items() if key != "digest"}}
        for call in result.get("calls", ())
    ]


def test_every_module_keeps_the_promises() -> None:
    assert {scenario.module for scenario in SCENARIOS} == set(modules.names())


@every
def test_check_mode_writes_nothing(world: World, scenario: Scenario) -> None:
    before = world.cluster.state()
    result = run(world, scenario, check_mode=True)
    assert world.cluster.log.writes() == []
    assert world.cluster.state() == before
    assert result["changed"] is scenario.changes


@every
def test_the_deed_is_what_check_mode_foretold(world: World, scenario: Scenario) -> None:
    foretold = run(world, scenario, check_mode=True)
    done = run(world, scenario)
    assert done["changed"] is foretold["changed"] is scenario.changes
    assert deeds(done) == deeds(foretold)
    assert done.get("diff") == foretold.get("diff")
    assert ("diff" in done) is ("calls" in done), "only what can do something foretells"


@every
def test_the_second_run_changes_nothing(world: World, scenario: Scenario) -> None:
    run(world, scenario)
    world.cluster.log.clear()
    second = run(world, scenario)
    assert second["changed"] is bool(scenario.again)
    assert bool(world.cluster.log.writes()) is bool(scenario.again)


@every
def test_the_second_run_changes_nothing_when_the_dust_has_settled(world: World, scenario: Scenario) -> None:
    run(world, scenario)
    world.settle()
    world.cluster.log.clear()
    assert run(world, scenario)["changed"] is bool(scenario.again)


@acting
def test_what_is_not_named_stays_untouched(world: World, scenario: Scenario) -> None:
    before = world.cluster.state()["guests"]
    run(world, scenario)
    world.settle()
    after = world.cluster.state()["guests"]
    for vmid in before.keys() | after.keys():
        touched = scenario.touches.get(vmid, frozenset())
        if touched != ANYTHING:
            assert untouched(after[vmid], touched) == untouched(before[vmid], touched), vmid


def untouched(guest: dict[str, Any], touched: frozenset[str]) -> dict[str, str]:
    """Return the configuration, pending changes applied, without the keys that may differ."""
    config = {key: value for key, value in guest["config"].items() if key not in guest["pending_delete"]}
    return {key: value for key, value in (config | guest["pending"]).items() if key not in touched | {"parent"}}


@every
def test_the_result_is_what_is_observed(world: World, scenario: Scenario) -> None:
    result = run(world, scenario)
    guests = [one.get("guest") for one in result.get("results", [result])]
    if guests == [None] and scenario.options.get("state") == "absent":
        assert scenario.options.get("vmid") not in world.cluster.guests
        names = [guest.config.get("name", guest.config.get("hostname")) for guest in world.cluster.guests.values()]
        assert "vmid" in scenario.options or scenario.options.get("name") not in names
        return
    if guests == [None]:
        of_a_guest = modules.returns(scenario.module, "guest") and scenario.options.keys() & {"vmid", "name"}
        assert not of_a_guest or not modules.waits(scenario.module)
        return
    for shown in guests:
        guest = world.cluster.guests[shown["vmid"]]
        status = "running" if guest.running else "stopped"
        assert (shown["node"], shown["type"], shown["status"]) == (guest.node, guest.kind, status)
        assert shown["lock"] == guest.config.get("lock")
        assert shown["name"] == guest.config.get("name", guest.config.get("hostname"))
        assert shown["tags"] == [tag for tag in guest.config.get("tags", "").split(";") if tag]


@acting
def test_every_task_is_named_and_every_write_is_told(world: World, scenario: Scenario) -> None:
    result = run(world, scenario)
    writes = world.cluster.log.writes()
    assert [(call["method"], call["path"]) for call in result["calls"]] == [
        (entry.method, entry.path.removeprefix("/api2/json")) for entry in writes
    ]
    assert all(upid.startswith("UPID:") for upid in result["tasks"])
    assert all(call["summary"] for call in result["calls"])
