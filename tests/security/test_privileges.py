"""Every module does its work with exactly the privileges that its documentation names, and tells which one is missing."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

from tests import modules
from tests.promises.scenarios import Scenario
from tests.promises.world import VirtualClock, World, make_world

from .privileges import GRANTS, Grants, pairs, scenarios

OWNER, TOKEN = "robot@pve", "least"
CASES = scenarios()


def grant(world: World, grants: Grants) -> str:
    """Make a token that has these privileges and no other, and return its secret."""
    access = world.cluster.access
    access.add_user(OWNER)
    access.set_acl("/", OWNER, "Administrator")
    secret = access.add_token(OWNER, TOKEN, privsep=True)
    for number, (path, privileges) in enumerate(grants.items()):
        access.roles[f"role{number}"] = frozenset(privileges.split())
        access.set_acl(path, f"{OWNER}!{TOKEN}", f"role{number}", propagate=False)
    return secret


def run(monkeypatch: pytest.MonkeyPatch, scenario: Scenario, grants: Grants) -> tuple[World, dict[str, Any]]:
    world = make_world(monkeypatch, scenario.setup)
    secret = grant(world, grants)
    auth = {"api_host": ["pve1"], "api_token_id": f"{OWNER}!{TOKEN}", "api_token_secret": secret}
    waiting = {"timeout": 120} if modules.waits(scenario.module) else {}
    options = {**auth, **waiting, **scenario.options}
    return world, modules.run(scenario.module, options, clock=VirtualClock(world.cluster))


def without(grants: Grants, path: str, privilege: str) -> dict[str, str]:
    left = {**grants, path: " ".join(one for one in grants[path].split() if one != privilege)}
    return {path: text for path, text in left.items() if text}


def test_every_scenario_has_its_privileges() -> None:
    assert set(GRANTS) == {str(scenario) for scenario in CASES}


@pytest.mark.parametrize("scenario", CASES, ids=str)
def test_they_are_enough(monkeypatch: pytest.MonkeyPatch, scenario: Scenario) -> None:
    _world, result = run(monkeypatch, scenario, GRANTS[str(scenario)])
    assert not result["failed"], result["msg"]
    assert result["changed"] is scenario.changes


@pytest.mark.parametrize(
    ("scenario", "path", "privilege"),
    [(scenario, *pair) for scenario in CASES for pair in pairs(GRANTS.get(str(scenario), {}))],
    ids=str,
)
def test_each_is_needed_and_named(
    monkeypatch: pytest.MonkeyPatch, scenario: Scenario, path: str, privilege: str
) -> None:
    with pytest.MonkeyPatch.context() as patches:
        _world, result = run(patches, scenario, without(GRANTS[str(scenario)], path, privilege))
    if not result["failed"] and not modules.waits(scenario.module):
        # What only looks sees less then, and the server does not tell of it.
        _world, whole = run(monkeypatch, scenario, GRANTS[str(scenario)])
        assert result != whole, f"{privilege} on {path} is not needed"
        return
    assert result["failed"], f"{privilege} on {path} is not needed"
    assert privilege in result["msg"]
    assert path in result["msg"] or path.rpartition("/")[0] in result["msg"]


@pytest.mark.parametrize("name", modules.names())
def test_the_documentation_names_them(name: str) -> None:
    documentation = importlib.import_module(f"{modules.PACKAGE}.{name}").DOCUMENTATION
    if name == "proxmox_api":
        # Its privileges are those of whatever is asked.
        assert "privileges that a request needs" in documentation
        return
    told = set(re.findall(r"C\(((?:VM|Datastore|SDN|Pool|Sys)\.[A-Za-z.]+)\)", documentation))
    needed = {
        privilege for scenario in CASES if scenario.module == name for _path, privilege in pairs(GRANTS[str(scenario)])
    }
    assert needed <= told
