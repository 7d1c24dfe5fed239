"""The collection's own playbooks."""

from __future__ import annotations

from pathlib import Path

from .conftest import ROOT, served


def test_every_playbook_has_a_test() -> None:
    assert [path.stem for path in sorted((ROOT / "playbooks").glob("*.yml"))] == ["drain_node"]


def test_drain_node(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1", disk="shared:2", running=True)
        site.cluster.add_vm(102, "web02", node="pve1", disk="shared:2")
        site.cluster.add_vm(103, "web03", node="pve3", disk="shared:2")
        inventory = tmp_path / "lab.proxmox.yml"
        inventory.write_text("plugin: keel.proxmox.proxmox\n", encoding="utf-8")
        drain = ["ansible-playbook", "-i", str(inventory), "keel.proxmox.drain_node"]
        drain += ["-e", "from_node=pve1", "-e", "to_node=pve2"]

        run = site.run(drain)
        assert run.code == 0, run.stdout + run.stderr
        assert {result.host for result in run.results if result.changed} == {"web01", "web02"}
        guests = site.cluster.state()["guests"]
        where = {vmid: guest["node"] for vmid, guest in guests.items()}
        assert where == {101: "pve2", 102: "pve2", 103: "pve3", 9000: "pve1", 9001: "pve1"}
        assert guests[101]["power"] is not None, "it goes on running"

        # From there to wherever there is room, which is the empty node.
        site.cluster.nodes["pve1"].maxmem //= 2
        anywhere = [*drain[:4], "-e", "from_node=pve2"]
        run = site.run(anywhere)
        assert run.code == 0, run.stdout + run.stderr
        assert {site.cluster.guests[vmid].node for vmid in (101, 102)} == {"pve3"}

        writes = site.writes()
        for same in (drain, anywhere):
            again = site.run(same)
            assert again.code == 0, again.stdout + again.stderr
            assert site.writes() == writes


def test_drain_node_wants_to_know_the_node(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        run = site.run(["ansible-playbook", "keel.proxmox.drain_node"])
        assert run.code != 0
        assert "Name the node" in run.stdout
        assert not site.cluster.log
