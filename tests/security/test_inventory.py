"""The inventory with the least privileges, and against a server that wants to configure Ansible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.keel.proxmox.plugins.module_utils.hosts import fact_variables

from tests.playbooks.conftest import Run, Site, served
from tests.simulator import Behaviour

TOKEN = "robot@pve!least"
GRANTS = {
    "/vms/100": "VM.Audit VM.GuestAgent.Audit",
    "/pool/prod": "Pool.Audit",
    "/nodes/pve1": "Sys.Audit",
    "/": "Sys.Audit",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("site")) as site:
        seen = Behaviour(addresses=("10.0.0.5/24",))
        site.cluster.add_vm(100, "web", running=True, config={"agent": "1"}, behaviour=seen)
        site.cluster.add_vm(101, "hidden")
        site.cluster.add_pool("prod", vms=[100])
        site.cluster.access.add_user("robot@pve")
        site.cluster.access.set_acl("/", "robot@pve", "Administrator")
        site.cluster.clock.advance(30.0)
        yield site


def listed(site: Site, without: str = "", **options: Any) -> tuple[Run, dict[str, Any]]:
    """Return what the inventory lists with all privileges, or all but one of them, as `path privilege`."""
    access = site.cluster.access
    access.acl = [entry for entry in access.acl if entry.kind != "token"]
    secret = access.add_token("robot@pve", "least", privsep=True)
    for number, (path, text) in enumerate(GRANTS.items()):
        privileges = [privilege for privilege in text.split() if f"{path} {privilege}" != without]
        access.roles[f"role{number}"] = frozenset(privileges)
        access.set_acl(path, TOKEN, f"role{number}", propagate=False)
    path = site.directory / "least.proxmox.yml"
    path.write_text(yaml.safe_dump({"plugin": "keel.proxmox.proxmox", **options}), encoding="utf-8")
    run = site.run(
        ["ansible-inventory", "-i", str(path), "--list"],
        PROXMOX_TOKEN_ID=TOKEN,
        PROXMOX_TOKEN_SECRET=secret,
        ANSIBLE_INVENTORY_UNPARSED_FAILED="1",
    )
    return run, json.loads(run.stdout) if run.code == 0 else {}


def test_they_are_enough(site: Site) -> None:
    options = {"facts": ["config", "agent"], "want_nodes": True, "want_proxmox_nodes_ansible_host": True}
    run, found = listed(site, **options, address_sources=["agent"])
    assert run.code == 0, run.stderr
    hosts = found["_meta"]["hostvars"]
    assert set(hosts) == {"web", "pve1", "pve2", "pve3"}
    assert "10.0.0.5" in str(hosts["web"]["ansible_host"])
    assert hosts["pve1"]["ansible_host"]
    assert hosts["pve1"]["proxmox_maxmem"]
    assert not hosts["pve2"]["proxmox_maxmem"]
    assert found["proxmox_pool_prod"]["hosts"] == ["web"]


def test_without_vm_audit_a_guest_is_no_host(site: Site) -> None:
    run, found = listed(site, "/vms/100 VM.Audit")
    assert run.code == 0, run.stderr
    assert not found["_meta"]["hostvars"]


def test_without_pool_audit_there_is_no_group(site: Site) -> None:
    _run, found = listed(site, "/pool/prod Pool.Audit")
    assert "web" in found["_meta"]["hostvars"]
    assert "proxmox_pool_prod" not in found


def test_a_missing_privilege_on_the_cluster_is_named(site: Site) -> None:
    run, _found = listed(site, "/ Sys.Audit", want_nodes=True, want_proxmox_nodes_ansible_host=True)
    assert run.code != 0
    assert "(/, Sys.Audit)" in " ".join(run.stderr.split())


def test_a_missing_privilege_on_the_agent_is_named(site: Site) -> None:
    run, found = listed(site, "/vms/100 VM.GuestAgent.Audit", address_sources=["agent"])
    assert run.code == 0, run.stderr
    assert "web" in found["_meta"]["hostvars"]
    assert "/vms/100, VM.GuestAgent.Audit" in " ".join(run.stderr.split())


def test_a_config_sets_nothing_of_ansible() -> None:
    config = {"ansible_connection": "local", "Ansible_Host": "evil.example", "cores": 2}
    assert fact_variables({"config": config}) == {"cores": 2}
