"""The collection's roles, and what they must agree with."""

from __future__ import annotations

import yaml
from ansible_collections.keel.proxmox.plugins.modules.proxmox_vm import ARGUMENTS

from .conftest import ROOT


def test_role_guest_knows_the_options_of_the_module() -> None:
    known = yaml.safe_load((ROOT / "roles/guest/vars/main.yml").read_text(encoding="utf-8"))["guest_options"]
    assert known == list(ARGUMENTS)
    tasks = yaml.safe_load((ROOT / "roles/guest/tasks/main.yml").read_text(encoding="utf-8"))
    (given,) = (
        task["keel.proxmox.proxmox_vm"]
        for task in tasks[1]["block"]
        if "register" in task and "name" in task["keel.proxmox.proxmox_vm"]
    )
    assert list(given) == [option for option in ARGUMENTS if option != "wait_for"]


def test_every_role_has_a_scenario() -> None:
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    assert roles == {path.name for path in (ROOT / "extensions" / "molecule").iterdir()} - {"default"}
