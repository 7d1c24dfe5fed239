"""The cluster under contract: a real one where the environment names it, the simulator otherwise.

A real cluster is used when PROXMOX_HOST and a token (PROXMOX_USER, PROXMOX_TOKEN_ID, PROXMOX_TOKEN_SECRET) are set, with

* PVE_CONTRACT_TEMPLATE: VMID of a template VM with one small disk, on the first of the nodes;
* PVE_CONTRACT_STORAGE: storage for full clones that can take snapshots, on every node;
* PVE_CONTRACT_SHARED_STORAGE: optional, storage that the nodes share;
* PVE_CONTRACT_NODES: comma-separated nodes that may be used;
* PVE_CONTRACT_VMIDS: first-last, VMIDs that the suite may create and destroy. Nothing else is ever written to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.argspec import AUTH
from ansible_collections.keel.proxmox.plugins.module_utils.client import Client, connect
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError
from ansible_collections.keel.proxmox.plugins.module_utils.guests import vmid_is_taken
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call

from tests import modules
from tests.simulator import Server

from .simulated import serve_cluster

NEEDED = ("PVE_CONTRACT_TEMPLATE", "PVE_CONTRACT_STORAGE", "PVE_CONTRACT_NODES", "PVE_CONTRACT_VMIDS")


@dataclass(frozen=True)
class Target:
    """The cluster and what the suite may use of it."""

    auth: dict[str, Any]
    template: int
    storage: str
    shared_storage: str | None
    nodes: tuple[str, ...]
    vmids: tuple[int, int]

    def run(self, module: str, /, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a module and return its result."""
        return modules.run(module, {**self.auth, **options}, check_mode=check_mode)

    def changed(self, module: str, /, **options: Any) -> dict[str, Any]:
        """Run a module that must change something: first foretold, then done, then unchanged; return the result of the deed."""
        foretold = self.run(module, check_mode=True, **options)
        done = self.run(module, **options)
        again = self.run(module, **options)
        assert not foretold["failed"], foretold["msg"]
        assert not done["failed"], (done["msg"], done.get("log"))
        assert done["changed"] is foretold["changed"] is True
        assert [call["path"] for call in done["calls"]] == [call["path"] for call in foretold["calls"]]
        assert not again["failed"], again["msg"]
        assert again["changed"] is False, again["calls"]
        return done

    def refused(self, text: str, module: str, /, **options: Any) -> dict[str, Any]:
        """Run a module that must fail with this text in its message; return the result."""
        result = self.run(module, **options)
        assert result["failed"]
        assert text in result["msg"]
        return result

    def client(self) -> Client:
        """Return a client of its own, for looking behind the modules."""
        return connect({**{name: rules.get("default") for name, rules in AUTH.items()}, **self.auth})


def from_environment() -> Target:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise pytest.UsageError(f"PROXMOX_HOST is set, so the contract suite needs also: {', '.join(missing)}")
    first, last = os.environ["PVE_CONTRACT_VMIDS"].split("-")
    # The connection itself is read from PROXMOX_* by the option rules, as users have it.
    options = {
        name: os.environ[f"PROXMOX_{variable}"]
        for name, variable in _variables()
        if f"PROXMOX_{variable}" in os.environ
    }
    options["api_host"] = options["api_host"].split(",")
    return Target(
        auth=options,
        template=int(os.environ["PVE_CONTRACT_TEMPLATE"]),
        storage=os.environ["PVE_CONTRACT_STORAGE"],
        shared_storage=os.environ.get("PVE_CONTRACT_SHARED_STORAGE") or None,
        nodes=tuple(os.environ["PVE_CONTRACT_NODES"].split(",")),
        vmids=(int(first), int(last)),
    )


def _variables() -> list[tuple[str, str]]:
    return [(name, rules["fallback"][1][0].removeprefix("PROXMOX_")) for name, rules in AUTH.items()]


def simulated(server: Server) -> Target:
    """Return the target for a served simulator."""
    return Target(
        auth={
            "api_host": [server.host],
            "api_port": server.port,
            "api_user": "root@pam",
            "api_token_id": server.token_id,
            "api_token_secret": server.token_secret,
            "ca_path": str(server.ca_path),
        },
        template=9000,
        storage="local-lvm",
        shared_storage="shared",
        nodes=("pve1", "pve2", "pve3"),
        vmids=(7000, 7999),
    )


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The cluster under contract."""
    if os.environ.get("PROXMOX_HOST"):
        yield from_environment()
        return
    with serve_cluster() as server:
        yield simulated(server)


@pytest.fixture
def vmid(target: Target) -> Iterator[int]:
    """A VMID of the range that is free now; whatever the test makes of it is destroyed at its end."""
    yield from free_vmid(target)


def free_vmid(target: Target) -> Iterator[int]:
    client = target.client()
    free = next((vmid for vmid in range(target.vmids[0], target.vmids[1] + 1) if is_free(client, vmid)), None)
    assert free is not None, "every VMID of PVE_CONTRACT_VMIDS is taken; the suite destroys only guests of its own run"
    yield free
    destroy(client, target, free)


def is_free(client: Client, vmid: int) -> bool:
    return not vmid_is_taken(client, vmid)


def destroy(client: Client, target: Target, vmid: int) -> None:
    """Destroy a guest of this run, wherever the test has brought it."""
    assert target.vmids[0] <= vmid <= target.vmids[1]
    if is_free(client, vmid):
        return
    stopped = target.run("proxmox_vm_power", vmid=vmid, state="stopped", force="now", timeout=120)
    assert not stopped["failed"], stopped["msg"]
    guest = stopped["guest"]
    path = f"/nodes/{guest['node']}/{guest['type']}/{vmid}"
    deadline = time.monotonic() + 120
    while True:
        try:
            client.send(Call("DELETE", path, {"purge": True}, f"destroy {vmid}"), deadline=deadline)
            return
        except ProxmoxError as error:
            # A guest that was stopped within a second of its start stays locked for half a minute (qm cleanup).
            if error.effect is not Effect.CONTENDED or time.monotonic() > deadline:
                raise


@pytest.fixture
def guest(target: Target, vmid: int) -> dict[str, Any]:
    """A full clone of the template, stopped, on the first of the nodes."""
    return clone(target, vmid)


@pytest.fixture
def second(target: Target, guest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Another one like it."""
    for vmid in free_vmid(target):
        yield clone(target, vmid)


def clone(target: Target, vmid: int) -> dict[str, Any]:
    options = {
        "source": str(target.template),
        "vmid": vmid,
        "name": name_of(vmid),
        "full": True,
        "storage": target.storage,
    }
    made = target.run("proxmox_vm_clone", **options)
    assert not made["failed"], (made["msg"], made.get("log"))
    found: dict[str, Any] = made["guest"]
    return found


def name_of(vmid: int) -> str:
    return f"keel-contract-{vmid}"
