"""What a run does when the connection, the proxy or a lock gets between it and the server: the deed is done once."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils import transport

from tests.simulator import Fault
from tests.simulator.adapter import ClusterAdapter
from tests.simulator.engine.clock import Sleep
from tests.simulator.engine.cluster import WORKERS

from .world import World, make_world

START = {"vmid": 101, "state": "started"}
STARTED = r"/nodes/pve1/qemu/101/status/start$"
CLONED = r"/nodes/pve1/qemu/9000/clone$"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def tasks(world: World, kind: str) -> list[str]:
    """Return the UPIDs of the tasks of that type that the server has ever started."""
    return [upid for upid in world.cluster.tasks.all if f":{kind}:" in upid]


def fault(world: World, method: str, path: str, kind: Any, when: str = "before", nth: int = 1) -> None:
    world.cluster.add_fault(Fault(method=method, path=path, nth=nth, when=when, kind=kind))


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("reset", "before"),
        ("reset", "after"),
        ("silence", "before"),
        ("silence", "after"),
        ("truncate", "after"),
        (595, "before"),
        (596, "before"),
        (596, "after"),
        (599, "after"),
        ("lock_timeout", "before"),
        ("no_worker_upid", "before"),
        ("active_lock", "before"),
    ],
)
def test_a_guest_is_started_once(world: World, kind: Any, when: str) -> None:
    fault(world, "POST", STARTED, kind, when)
    result = world.run("proxmox_vm_power", START)
    assert not result["failed"], result["msg"]
    assert result["changed"] is True
    assert world.cluster.guests[101].running
    assert len(tasks(world, "qmstart")) == 1


@pytest.mark.parametrize(
    ("kind", "when"),
    [("reset", "before"), ("reset", "after"), ("silence", "after"), (596, "after"), ("active_lock", "before")],
)
def test_one_guest_is_cloned_although_nobody_said_its_vmid(world: World, kind: Any, when: str) -> None:
    fault(world, "POST", CLONED, kind, when)
    before = set(world.cluster.guests)
    result = world.run("proxmox_vm_clone", {"source": "9000", "name": "new", "full": True})
    assert not result["failed"], result["msg"]
    world.settle()
    (vmid,) = set(world.cluster.guests) - before
    assert result["guest"]["vmid"] == vmid
    assert result["guest"]["lock"] is None
    assert len(tasks(world, "qmclone")) == 1


@pytest.mark.parametrize(("kind", "when"), [("reset", "after"), (596, "after"), ("active_lock", "before")])
def test_a_configuration_is_written_once(world: World, kind: Any, when: str) -> None:
    fault(world, "POST", r"/nodes/pve1/qemu/101/config$", kind, when)
    result = world.run("proxmox_vm_config", {"vmid": 101, "cores": 4})
    assert not result["failed"], result["msg"]
    assert [call["summary"] for call in result["calls"]] == ["configure VM 101: cores"]
    assert len(tasks(world, "qmconfig")) == 1


@pytest.mark.parametrize("kind", ["reset", "truncate", 595, 596])
def test_a_read_is_repeated(world: World, kind: Any) -> None:
    fault(world, "GET", r"/nodes/pve1/qemu/101/status/current$", kind)
    assert not world.run("proxmox_vm_power", {"vmid": 101, "state": "stopped"})["failed"]


def test_a_storage_lock_that_a_clone_lost_is_waited_for(world: World) -> None:
    held = world.cluster.hold_storage_lock("local-lvm", "pve1", seconds=25.0)
    result = world.run("proxmox_vm_clone", {"source": "9000", "name": "new", "full": True})
    assert not result["failed"], result["msg"]
    assert held is not None
    assert len(result["tasks"]) == 1, "the tasks that failed are not those that did it"
    assert [guest.config["name"] for guest in world.cluster.guests.values()].count("new") == 1


def test_a_digest_that_no_longer_matches_is_read_again(world: World) -> None:
    client_config = world.cluster.guests[101].config
    log = world.cluster.log
    seen: list[str] = []

    class Interfering(type(log)):  # type: ignore[misc]
        """Somebody else writes between our read and our write, once."""

        def append(self, entry: Any) -> None:
            super().append(entry)
            if not seen and entry.path.endswith("/pending"):
                seen.append(entry.path)
                client_config["description"] = "written by somebody else"

    world.cluster.log = Interfering(log)
    result = world.run("proxmox_vm_config", {"vmid": 101, "cores": 4})
    assert seen
    assert not result["failed"], result["msg"]
    assert client_config["cores"] == "4"
    assert client_config["description"] == "written by somebody else"
    refused = [entry for entry in world.cluster.log.writes() if entry.status == 500]
    assert len(refused) == 1, "the first write carried the digest of what was read and was refused"


def test_a_task_that_nobody_may_ask_after_any_more_is_told(world: World) -> None:
    """The token is revoked while the guest starts."""
    world.cluster.add_fault(Fault(method="GET", path="/tasks/", kind="ticket_expired", times=1000))
    world.cluster.add_fault(Fault(method="GET", path="/status/current$", nth=2, kind="ticket_expired", times=1000))
    result = world.run("proxmox_vm_power", START)
    assert result["failed"]
    assert result["status"] == 401
    assert result["changed"] is True
    assert "Whether this was done is not known: start VM 101" in result["msg"]


def test_a_node_that_is_down_is_named(world: World) -> None:
    world.cluster.node_down("pve2")
    result = world.run("proxmox_vm_power", {"vmid": 102, "state": "started"})
    assert result["failed"]
    assert result["status"] == 595
    assert "/nodes/pve2/" in result["msg"]
    assert "node is down" in result["msg"]
    assert not world.cluster.log.writes()


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("proxmox_vm_clone", {"source": "9000", "name": "new"}),
        ("proxmox_vm_config", {"vmid": 101, "cores": 4}),
        ("proxmox_vm_power", START),
    ],
)
def test_a_cluster_without_quorum_is_said_to_have_none(world: World, module: str, options: dict[str, Any]) -> None:
    world.cluster.no_quorum(others_down=False)
    result = world.run(module, options)
    assert result["failed"]
    assert "quorum" in result["msg"]
    assert result["changed"] is False


@pytest.mark.parametrize("seconds", [32.0, 45.0, 70.0])
def test_a_restart_that_waits_in_the_queue_longer_than_the_proxy_is_done_once(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """The workers of the node are busy; what the proxy has given up after thirty seconds is done when they are free."""
    session = transport._session
    world = make_world(monkeypatch)
    cluster, before = world.cluster, world.cluster.guests[100].power
    workers = cluster.workers("pve1", "pvedaemon")

    def occupied() -> Any:
        with (yield from workers.acquire(math.inf)):
            yield Sleep(seconds)

    class Busy(ClusterAdapter):
        """All workers are taken just before the first write."""

        def send(self, request: Any, *rest: Any, **more: Any) -> Any:
            if request.method == "POST" and not cluster.log.writes() and not workers.held:
                for _worker in range(WORKERS):
                    cluster.scheduler.spawn(occupied())
            return super().send(request, *rest, **more)

    monkeypatch.setattr(transport, "_session", lambda _adapter: session(Busy(cluster)))
    result = world.run("proxmox_vm_power", {"vmid": 100, "state": "restarted"})
    assert not result["failed"], result["msg"]
    assert result["changed"] is True
    assert cluster.guests[100].power is not before
    assert len(tasks(world, "qmreboot")) == 1
