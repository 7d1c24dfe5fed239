"""A small cluster with a bit of everything, and modules that run on it in the test's own process and virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils import transport

from tests import modules
from tests.simulator import Cluster
from tests.simulator.adapter import ClusterAdapter

USER, TOKEN = "root@pam", "keel"


class VirtualClock:
    """The simulator's time as the collection's clock: sleeping moves it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def now(self) -> float:
        return self._cluster.now

    def sleep(self, seconds: float) -> None:
        self._cluster.clock.advance(seconds)


@dataclass(frozen=True)
class World:
    """A cluster and the way to run modules on it."""

    cluster: Cluster
    secret: str

    def run(self, module: str, options: dict[str, Any], *, check_mode: bool = False) -> dict[str, Any]:
        """Return the result of a module; nothing that the simulator does not model may be asked."""
        auth = {"api_host": ["pve1"], "api_user": USER, "api_token_id": TOKEN, "api_token_secret": self.secret}
        result = modules.run(module, auth | options, check_mode=check_mode, clock=VirtualClock(self.cluster))
        assert not self.cluster.unmodelled, self.cluster.unmodelled
        return result

    def settle(self, seconds: float = 60.0) -> None:
        """Let what is under way end, and pvestatd tell of it."""
        self.cluster.clock.advance(seconds)


def populate(cluster: Cluster) -> None:
    """Guests of every kind that the scenarios need."""
    net = "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1"
    lvm = {"disk": "local-lvm:2"}
    cluster.add_template(9000, "debian", **lvm, config={"net0": net, "ostype": "l26", "agent": "1"})
    cluster.add_template(9001, "debian-shared", disk="shared:2")
    cluster.add_vm(
        100,
        "web",
        disk="local-lvm:8",
        running=True,
        config={
            "net0": net,
            "cores": 2,
            "memory": 1024,
            "tags": "prod;web",
            "description": "the web server",
            "ide2": "local-lvm:cloudinit",
            "ciuser": "admin",
            "ipconfig0": "ip=dhcp",
            "agent": "enabled=1",
            "ostype": "l26",
            "onboot": 1,
        },
    )
    cluster.add_vm(101, "db", disk="local-lvm:8", config={"net0": net, "memory": 512, "description": "the database"})
    cluster.add_vm(102, "moved", node="pve2", disk="shared:4", config={"net0": net})
    cluster.add_pool("prod", vms=[100])
    cluster.add_pool("test")
    for name in ("before", "after"):
        cluster.add_snapshot(101, name, f"{name} the change")


def make_world(monkeypatch: pytest.MonkeyPatch, setup: Callable[[Cluster], None] | None = None) -> World:
    """Return a populated cluster whose modules talk to it in process."""
    cluster = Cluster()
    populate(cluster)
    if setup is not None:
        setup(cluster)
    session = transport._session
    monkeypatch.setattr(transport, "_session", lambda adapter: session(ClusterAdapter(cluster)))
    secret = cluster.token_header(USER, TOKEN)["Authorization"].rpartition("=")[2]
    return World(cluster, secret)
