"""A cluster in trouble: what the play's task says about it, and that nothing half done is left unsaid."""

from __future__ import annotations

from pathlib import Path

from tests.simulator import Behaviour

from .conftest import served


def test_node_down(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve2")
        site.cluster.node_down("pve2")
        run = site.play(
            [
                {
                    "name": "guest on it",
                    "keel.proxmox.proxmox_vm_power": {"vmid": 101, "state": "started", "timeout": 5},
                    "ignore_errors": True,
                },
                {
                    "name": "target of it",
                    "keel.proxmox.proxmox_migrate": {"vmid": 9000, "target_node": "pve2"},
                    "ignore_errors": True,
                },
            ]
        )
        for name in ("guest on it", "target of it"):
            result = run.one(name)
            assert result.outcome == "failed"
            assert "pve2" in result.message
            assert not result.changed
        assert not [entry for entry in site.cluster.log.writes() if entry.status < 400]


def test_no_quorum(tmp_path: Path) -> None:
    with served(tmp_path) as site:
        site.cluster.add_vm(101, "web01", node="pve1")
        site.cluster.no_quorum()
        run = site.play(
            [
                {
                    "name": "configure",
                    "keel.proxmox.proxmox_vm_config": {"vmid": 101, "node": "pve1", "cores": 2, "timeout": 5},
                }
            ]
        )
        result = run.one("configure")
        assert result.outcome == "failed"
        assert "quorum" in result.message
        assert not result.changed
        assert site.cluster.state()["guests"][101]["config"].get("cores") != "2"


def test_failed_task_is_told_with_its_reason(tmp_path: Path) -> None:
    """A start that fails in the server's task: its exit status, its UPID and its log are in the result."""
    with served(tmp_path) as site:
        reason = "start failed: QEMU exited with code 1"
        site.cluster.add_vm(102, "web02", node="pve1", behaviour=Behaviour(start_error=reason))
        run = site.play([{"name": "start", "keel.proxmox.proxmox_vm_power": {"vmid": 102, "state": "started"}}])
        result = run.one("start")
        assert result.outcome == "failed"
        assert result.result["upid"].startswith("UPID:pve1:")
        assert result.result["log"]
        assert reason in result.message
        assert "QEMU exited" in run.stdout
