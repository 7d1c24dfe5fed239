"""The collection's own playbooks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Run, served


def test_every_playbook_has_a_test() -> None:
    assert [path.stem for path in sorted((ROOT / "playbooks").glob("*.yml"))] == [
        "drain_node",
        "migrate",
        "power",
        "provision",
        "snapshot",
    ]


def test_drain_node(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1", disk="shared:2", running=True)
        site.cluster.add_vm(102, "web02", node="pve1", disk="shared:2")
        site.cluster.add_vm(103, "web03", node="pve3", disk="shared:2")
        drain = _book("drain_node", ["from_node=pve1", "to_node=pve2"])

        foretold = site.run([*drain, "--check"])
        assert _moved(foretold) == {"web01", "web02"}
        assert not site.writes()
        run = site.run(drain)
        assert run.code == 0, run.stdout + run.stderr
        assert _moved(run) == {"web01", "web02"}
        guests = site.cluster.state()["guests"]
        where = {vmid: guest["node"] for vmid, guest in guests.items()}
        assert where == {101: "pve2", 102: "pve2", 103: "pve3", 9000: "pve1", 9001: "pve1"}
        assert guests[101]["power"] is not None, "it goes on running"

        # From there to wherever there is room, which is the empty node.
        site.cluster.nodes["pve1"].maxmem //= 2
        anywhere = _book("drain_node", ["from_node=pve2", "to_node="])
        run = site.run(anywhere)
        assert run.code == 0, run.stdout + run.stderr
        assert {site.cluster.guests[vmid].node for vmid in (101, 102)} == {"pve3"}

        writes = site.writes()
        for same in (drain, anywhere):
            again = site.run(same)
            assert again.code == 0, again.stdout + again.stderr
            assert site.writes() == writes


def test_drain_node_takes_local_disks_along(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1", disk="local-lvm:2", running=True)
        drain = ["from_node=pve1", "to_node=pve2"]
        assert site.run(_book("drain_node", drain)).code != 0
        assert site.cluster.guests[101].node == "pve1"
        run = site.run(_book("drain_node", [*drain, "with_local_disks=yes"]))
        assert run.code == 0, run.stdout + run.stderr
        assert site.cluster.guests[101].node == "pve2"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["from_node=pve9"], "There is no node 'pve9' in this cluster; its nodes are pve1, pve2, pve3."),
        (["from_node=PVE1"], "There is no node 'PVE1'"),
        (["from_node=pve*"], "There is no node 'pve*'"),
        (["from_node=pve1", "to_node=pve1"], "are to leave pve1 for pve1"),
    ],
)
def test_drain_node_refuses_what_would_leave_the_guests(tmp_path: Path, told: list[str], said: str) -> None:
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1", disk="shared:2")
        run = site.run(_book("drain_node", told))
        assert run.code != 0
        assert any(said in result.message for result in run.results)
        assert not site.writes()


# What each playbook is told, and what it says where that is missing or wrong.
GOOD = {
    "power": ["state=started", "vms=web01, web02", "nodes=", "max_guests=2"],
    "snapshot": ["snapname=before", "with_tags=prod", "state="],
    "migrate": ["target_node=pve2", "vmids=101,102"],
    "provision": ["vms=web05,web06", "clone=debian-13", "guests="],
}
BAD = {
    "power": [
        (["vms=web01"], "state is ''; say one of started"),
        (["state=started", "vms="], "Say which guests are meant"),
        (["state=started", "vms=web01", "max_guests=two"], "max_guests is 'two'; it must be a number"),
    ],
    "snapshot": [(["vms=web01"], "Name the snapshot"), (["snapname=before"], "Say which guests are meant")],
    "migrate": [(["vms=web01"], "Name the node"), (["target_node=pve2"], "Say which guests are meant")],
    "provision": [(["vms=web01"], "Say which guests there are to be")],
    "drain_node": [(["to_node=pve2"], "Name the node"), (["from_node="], "Name the node")],
}


def _book(name: str, told: list[str]) -> list[str]:
    return ["ansible-playbook", f"keel.proxmox.{name}", *(word for one in told for word in ("-e", one))]


def _moved(run: Run) -> set[str]:
    """Return the names of the guests that a task for several has changed."""
    (fleet,) = [result.result["results"] for result in run.results if "results" in result.result]
    return {one["guest"]["name"] for one in fleet if one["changed"]}


@pytest.mark.parametrize("name", GOOD)
def test_fleet_playbook(tmp_path: Path, name: str) -> None:
    with served(tmp_path) as site:
        for vmid, guest in ((101, "web01"), (102, "web02")):
            site.cluster.add_vm(vmid, guest, node="pve1", disk="shared:2", config={"tags": "prod"})
        foretold = site.run([*_book(name, GOOD[name]), "--check"])
        assert foretold.code == 0, foretold.stdout + foretold.stderr
        assert any(result.changed for result in foretold.results)
        assert not site.writes()
        run = site.run(_book(name, GOOD[name]))
        assert run.code == 0, run.stdout + run.stderr
        assert any(result.changed for result in run.results)
        writes = site.writes()
        again = site.run(_book(name, GOOD[name]))
        assert again.code == 0, again.stdout + again.stderr
        assert not any(result.changed for result in again.results)
        assert site.writes() == writes > 0


@pytest.mark.parametrize(("name", "told", "said"), [(name, *row) for name, rows in BAD.items() for row in rows])
def test_playbook_says_what_is_missing(tmp_path: Path, name: str, told: list[str], said: str) -> None:
    with served(tmp_path) as site:
        run = site.run(_book(name, told))
        assert run.code != 0
        assert said in run.stdout
        assert not site.cluster.log


# The number 0 is a number, not nothing.
ZERO = {
    "power": ({"state": "started", "nodes": "pve1", "max_guests": 0}, "max_guests is 0; it must be 1 or more"),
    "snapshot": (
        {"nodes": "pve1", "keep": 0, "pattern": "b*", "snapname": "before"},
        "keep=0 would remove snapshot 'before'",
    ),
    "migrate": ({"target_node": "pve2", "nodes": "pve1", "vmids": 0}, "vmids: there is no guest 0"),
}


@pytest.mark.parametrize("name", ZERO)
def test_zero_is_a_number(tmp_path: Path, name: str) -> None:
    told, said = ZERO[name]
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1", disk="shared:2", running=True)
        run = site.run(_book(name, [json.dumps(told)]))
        assert run.code != 0
        assert any(said in result.message for result in run.results)
        assert not site.writes()


def test_none_of_the_snapshots_may_stay(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1", disk="shared:2")
        assert site.run(_book("snapshot", ["vms=web01", "snapname=before"])).code == 0
        run = site.run(_book("snapshot", ["vms=web01", "pattern=b*", '{"keep": 0}']))
        assert run.code == 0, run.stdout + run.stderr
        assert not site.cluster.state()["guests"][101]["snapshots"]


@pytest.mark.parametrize(("limit", "sent"), [(0, ["0"]), ("0", ["0"]), ("", ["None"]), (" ", ["None"])])
def test_no_limit_is_not_the_same_as_nothing_said(tmp_path: Path, limit: object, sent: list[str]) -> None:
    nothing = {"max_guests": "", "parallel": " ", "wait_seconds": "", "nodes": "", "overcommit": ""}
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1", disk="shared:2", running=True)
        told = {"target_node": "pve2", "vmids": "101", "bwlimit": limit, **nothing}
        run = site.run(_book("migrate", [json.dumps(told)]))
        assert run.code == 0, run.stdout + run.stderr
        calls = run.one("Bring the guests to the node").result["calls"]
        assert [str(call["params"].get("bwlimit")) for call in calls] == sent


def test_provision_the_example_as_awx_does(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        (tmp_path / "env").mkdir()
        (tmp_path / "project").mkdir()
        (tmp_path / "env" / "envvars").write_text(yaml.safe_dump(site.environment()), encoding="utf-8")
        tier = (ROOT / "examples" / "web-tier.yml").read_text(encoding="utf-8")
        (tmp_path / "env" / "extravars").write_text(tier, encoding="utf-8")
        runner = ["ansible-runner", "run", str(tmp_path), "-p", "keel.proxmox.provision"]
        for changes in (True, False):
            run = site.run(runner)
            assert run.code == 0, run.stdout + run.stderr
            assert any(result.changed for result in run.results) == changes
            assert site.environment()["PROXMOX_TOKEN_SECRET"] not in run.stdout + run.stderr
        names = {guest["config"].get("name") for guest in site.cluster.state()["guests"].values()}
        assert {"web01", "web02", "db01"} <= names
