"""The role safe_change: what a change that fails leaves behind, and what a run does that finds another's snapshot."""

from __future__ import annotations

import contextlib
import itertools
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.simulator.engine.model import Behaviour, Guest

from .conftest import Run, Site, served

VMIDS = itertools.count(101)
OURS = "keel.proxmox.safe_change, of a guest that was running"
CHANGE = {
    "name": "Change the guest",
    "keel.proxmox.proxmox_vm_config": {"vmid": "{{ safe_change_guest.vmid }}", "tags": ["changed"]},
    "delegate_to": "localhost",
}
BREAK = {"name": "Break it", "ansible.builtin.fail": {"msg": "the new version does not start"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("safe")) as site:
        yield site


@pytest.fixture
def guest(site: Site) -> Guest:
    """A VM of its own that runs and has no snapshot."""
    vmid = next(VMIDS)
    config = {"agent": "1", "tags": "before", "ipconfig0": "ip=10.0.0.5/8", "net0": "virtio,bridge=vmbr0"}
    behaviour = Behaviour(addresses=("10.0.0.5/8",))
    return site.cluster.add_vm(
        vmid, "web01", node="pve1", disk="shared:1", config=config, running=True, behaviour=behaviour
    )


def run(
    site: Site,
    guest: Guest,
    *tasks: dict[str, Any],
    variables: dict[str, Any] | None = None,
    check: bool = False,
    **options: Any,
) -> Run:
    """Run the role on localhost, or on another host with these variables."""
    change = site.directory / "change.yml"
    change.write_text(yaml.safe_dump(list(tasks)), encoding="utf-8")
    book, inventory = site.directory / "safe.yml", site.directory / "hosts.yml"
    settings = {
        f"safe_change_{name}": value for name, value in {"tasks": str(change), "vmid": guest.vmid, **options}.items()
    }
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {"localhost": local, "web01": {**local, **(variables or {})}}}}),
        encoding="utf-8",
    )
    role = {"ansible.builtin.include_role": {"name": "keel.proxmox.safe_change"}, "vars": settings}
    play = {"name": "Change it", "hosts": "web01", "gather_facts": False, "tasks": [role]}
    book.write_text(yaml.safe_dump([play]), encoding="utf-8")
    return site.run(["ansible-playbook", str(book), "-i", str(inventory), *(["--check"] if check else [])])


def left(site: Site, guest: Guest, description: str = OURS, tags: str = "half") -> None:
    """Leave what a run that was cut off leaves: its snapshot, and half of the change."""
    options = {"vmid": guest.vmid, "snapname": "safe_change", "description": description}
    done = site.play([{"keel.proxmox.proxmox_snapshot": options}])
    assert done.code == 0, done.stdout
    guest.config["tags"] = tags


def told(run: Run) -> str:
    """What the last task that failed told."""
    return [result.message for result in run.results if result.outcome == "failed"][-1]


def test_a_change_leaves_no_snapshot(site: Site, guest: Guest) -> None:
    done = run(site, guest, CHANGE, wait_for="ip")
    assert done.code == 0, done.stdout
    assert (guest.config["tags"], guest.running, sorted(guest.snapshots)) == ("changed", True, [])
    again = run(site, guest, CHANGE, wait_for="ip")
    assert "changed=0" in again.stdout


def test_a_change_that_fails_is_undone(site: Site, guest: Guest) -> None:
    done = run(site, guest, CHANGE, BREAK)
    assert done.code != 0
    assert "has failed and was rolled back" in told(done)
    assert "Break it: the new version does not start" in told(done)
    assert (guest.config["tags"], guest.running, sorted(guest.snapshots)) == ("before", True, [])


def test_check_mode_changes_nothing(site: Site, guest: Guest) -> None:
    before = site.writes()
    done = run(site, guest, CHANGE, check=True)
    assert done.code == 0, done.stdout
    assert done.one("Change the guest").changed
    assert (site.writes(), guest.config["tags"]) == (before, "before")


def test_a_run_goes_on_where_another_was_cut_off(site: Site, guest: Guest) -> None:
    left(site, guest)
    done = run(site, guest, CHANGE)
    assert done.code == 0, done.stdout
    assert (guest.config["tags"], guest.running, sorted(guest.snapshots)) == ("changed", True, [])


def test_a_second_try_that_fails_leads_back_to_before_the_first(site: Site, guest: Guest) -> None:
    left(site, guest)
    done = run(site, guest, CHANGE, BREAK)
    assert done.code != 0
    assert (guest.config["tags"], guest.running, sorted(guest.snapshots)) == ("before", True, [])


def test_a_run_can_go_back_first(site: Site, guest: Guest) -> None:
    left(site, guest)
    look = {
        "name": "Look",
        "keel.proxmox.proxmox_vm_info": {"vmid": "{{ safe_change_guest.vmid }}", "facts": ["config"]},
        "delegate_to": "localhost",
    }
    done = run(site, guest, look, CHANGE, leftover="rollback")
    assert done.code == 0, done.stdout
    assert done.one("Look").result["guests"][0]["config"]["tags"] == "before"
    assert (guest.config["tags"], guest.running, sorted(guest.snapshots)) == ("changed", True, [])


@pytest.mark.parametrize(
    ("description", "options", "why"),
    [
        (OURS, {"leftover": "fail"}, "left by a run that was cut off"),
        ("before the holidays", {}, "not by this role"),
        (OURS, {"leftover_age": -1_000_000}, "seconds old"),
    ],
    ids=["not to be gone on with", "of a person", "too old"],
)
def test_a_snapshot_that_may_not_be_used_stops_the_role(
    site: Site, guest: Guest, description: str, options: dict[str, Any], why: str
) -> None:
    left(site, guest, description)
    before = site.writes()
    done = run(site, guest, CHANGE, **options)
    assert done.code != 0
    assert why in told(done)
    assert "Nothing was done" in told(done)
    assert (site.writes(), guest.config["tags"], sorted(guest.snapshots)) == (
        before,
        "half",
        ["safe_change"],
    )


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port of this machine that somebody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_open_port_tells_that_it_is_well(site: Site, guest: Guest) -> None:
    with listening() as port:
        done = run(site, guest, CHANGE, wait_for="port", port=port, host="127.0.0.1")
    assert done.code == 0, done.stdout
    assert (guest.config["tags"], sorted(guest.snapshots)) == ("changed", [])


def test_a_port_that_stays_closed_undoes_the_change(site: Site, guest: Guest) -> None:
    with listening() as port:
        pass
    done = run(site, guest, CHANGE, wait_for="port", port=port, host="127.0.0.1", timeout=15)
    assert done.code != 0
    assert "The port is open" in told(done)
    assert (guest.config["tags"], guest.running, sorted(guest.snapshots)) == ("before", True, [])


def test_a_host_that_is_lost_undoes_the_change(site: Site, guest: Guest, tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'connect to host: No route to host' >&2\nexit 255\n", encoding="ascii")
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    lost = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh), "ansible_ssh_retries": 0}
    done = run(site, guest, CHANGE, {"name": "Ask it", "ansible.builtin.command": "true"}, variables=lost, timeout=15)
    assert done.code != 0
    assert "has failed and was rolled back" in told(done)
    assert (guest.config["tags"], guest.running, sorted(guest.snapshots)) == ("before", True, [])
