"""The examples in the documentation of what looks inside guests, at tasks and at locks, run as they stand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import modules

from .conftest import served

# A guest that runs must be stopped first where the example starts it.
STOP = {"name": "Stop it", "keel.proxmox.proxmox_vm_power": {"name": "web01", "state": "stopped", "force": "now"}}


def examples(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(importlib.import_module(f"{modules.PACKAGE}.{name}").EXAMPLES)
    return found


@pytest.mark.parametrize("name", ["proxmox_agent", "proxmox_lock", "proxmox_task", "proxmox_task_info"])
def test_examples(tmp_path: Path, name: str) -> None:
    with served(tmp_path) as site:
        guest = site.cluster.add_vm(101, "web01", running=True, config={"agent": "1", "net0": "virtio,bridge=vmbr0"})
        guest.behaviour.boot_seconds = 0.5
        site.cluster.access.users["root@pam"].password = "right"
        if name == "proxmox_lock":
            site.cluster.set_lock(101, "backup")
        tasks = [*([STOP] if name == "proxmox_task" else []), *examples(name)]
        run = site.play([{**task, "vars": {"root_password": "right"}} for task in tasks])
        assert run.code == 0, run.stdout + run.stderr
        outcomes = {result.task: result.outcome for result in run.results}
        assert set(outcomes) == {task["name"] for task in tasks}
        assert set(outcomes.values()) <= {"ok", "skipped"}
