"""Fleets as a whole: on virtual time, where one fails or a node is down, and with threads over HTTPS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.client import connect
from ansible_collections.keel.proxmox.plugins.module_utils.errors import ProxmoxError, TimedOut
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call

from tests import modules
from tests.simulator import Cluster, Fault, RealClock, Server, serve

from .scenarios import without_snapshots
from .world import World, make_world

POWER = "proxmox_vm_power"
ALL_BY_TURNS = {"names": ["*"], "parallel": 1}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def entry(result: dict[str, Any], vmid: int) -> dict[str, Any]:
    (found,) = [one for one in result["results"] if one["guest"]["vmid"] == vmid]
    return found


def test_one_that_fails_leaves_the_others_done(world: World) -> None:
    world.cluster.guests[101].config["net0"] = "virtio=BC:24:11:00:00:09,bridge=vmbr77"
    result = world.run(POWER, {**ALL_BY_TURNS, "state": "started"})
    assert result["failed"]
    assert result["msg"].startswith("1 of 3 guests failed. VM 101 (db): The server's task qmstart 101 failed")
    assert "vmbr77" in result["msg"]
    assert result["changed"] is True
    assert [one["guest"]["vmid"] for one in result["results"]] == [100, 101, 102]
    assert [one["failed"] for one in result["results"]] == [False, True, False]
    assert entry(result, 101)["upid"] == result["upid"]
    assert world.cluster.guests[102].running


def test_a_guest_that_is_gone_meanwhile_fails_alone(world: World) -> None:
    """The cluster's list named it a moment ago."""

    class Vanishing(type(world.cluster.log)):  # type: ignore[misc]
        def append(self, log_entry: Any) -> None:
            super().append(log_entry)
            if log_entry.path.endswith("/cluster/resources"):
                world.cluster.guests.pop(101, None)

    world.cluster.log = Vanishing(world.cluster.log)
    result = world.run(POWER, {**ALL_BY_TURNS, "state": "started"})
    assert result["failed"]
    assert "There is no guest with VMID 101" in entry(result, 101)["msg"]
    assert entry(result, 101)["guest"]["name"] == "db"
    assert world.cluster.guests[102].running


def test_a_guest_that_has_moved_meanwhile_is_found(world: World) -> None:
    class Moving(type(world.cluster.log)):  # type: ignore[misc]
        def append(self, log_entry: Any) -> None:
            super().append(log_entry)
            if log_entry.path.endswith("/cluster/resources"):
                world.cluster.guests[102].node = "pve3"

    world.cluster.log = Moving(world.cluster.log)
    result = world.run(POWER, {"vmids": [102], "state": "started", "parallel": 1})
    assert not result["failed"], result["msg"]
    assert entry(result, 102)["guest"]["node"] == "pve3"


def test_a_guest_that_was_renamed_a_moment_ago_is_left_alone(world: World) -> None:
    world.cluster.guests[101].config["name"] = "customer"
    result = world.run(POWER, {"names": ["db*", "moved"], "allow_none": True, "state": "started", "parallel": 1})
    assert result["failed"]
    assert "VM 101 is called 'customer' by now, which is not among names db*, moved" in result["msg"]
    assert not world.cluster.guests[101].running
    assert world.cluster.guests[102].running


def test_a_node_that_is_down_is_given_up_once(world: World) -> None:
    for vmid in range(110, 120):
        world.cluster.add_vm(vmid, f"far{vmid}", node="pve2", disk="shared:1")
    world.settle()
    world.cluster.node_down("pve2")
    world.cluster.log.clear()
    result = world.run(POWER, {**ALL_BY_TURNS, "state": "started"})
    assert result["msg"].startswith("11 of 13 guests failed.")
    assert "Node pve2 cannot be reached, as was seen with VM 102 (moved)" in entry(result, 119)["msg"]
    assert entry(result, 119)["status"] == 595
    assert world.cluster.guests[101].running
    asked = {item.path for item in world.cluster.log if "/nodes/pve2/" in item.path}
    assert asked == {"/nodes/pve2/qemu/102/status/current"}


def hang(world: World, node: str, times: int = 10000) -> None:
    """Let a node take connections and answer nothing, so that whoever forwards to it gives up after half a minute."""
    world.cluster.add_fault(Fault(path=rf"^/nodes/{node}/", kind=596, times=times))
    world.cluster.log.clear()


def questions(world: World, node: str) -> int:
    return len([item for item in world.cluster.log if f"/nodes/{node}/" in item.path])


def test_a_node_that_hangs_costs_a_fleet_by_status_half_a_minute(world: World) -> None:
    hang(world, "pve2")
    began = world.cluster.now
    result = world.run(POWER, {**ALL_BY_TURNS, "status": ["stopped"], "state": "started"})
    assert not result["failed"], result["msg"]
    assert world.cluster.guests[101].running
    assert [one["guest"]["vmid"] for one in result["results"]] == [101]
    assert "Node pve2 cannot be asked for the states of its guests" in result["warnings"][0]
    assert "VM 102 (moved)" in result["warnings"][0]
    assert world.cluster.now - began < 40


def test_a_node_that_hangs_is_given_up_once(world: World) -> None:
    for vmid in range(110, 120):
        world.cluster.add_vm(vmid, f"far{vmid}", node="pve2", disk="shared:1")
    world.settle()
    hang(world, "pve2")
    began = world.cluster.now
    result = world.run(POWER, {**ALL_BY_TURNS, "state": "started"})
    assert result["msg"].startswith("11 of 13 guests failed.")
    assert "Node pve2 cannot be reached, as was seen with VM 102 (moved)" in entry(result, 119)["msg"]
    assert entry(result, 119)["status"] == 596
    assert world.cluster.guests[101].running
    assert questions(world, "pve2") == 4
    assert world.cluster.now - began < 130


def test_a_node_that_is_only_busy_is_not_given_up(world: World) -> None:
    for options in ({"vmid": 102}, {"vmids": [102], "parallel": 1}, {"vmid": 102, "node": "pve2"}):
        hang(world, "pve2", times=3)
        result = world.run(POWER, {**options, "state": "started"})
        assert not result["failed"], result["msg"]
        assert world.cluster.guests[102].running
        world.cluster.guests[102].power = None


def test_an_answer_about_one_guest_that_takes_long_is_no_node_that_hangs(world: World) -> None:
    world.cluster.add_vm(110, "far", node="pve2", disk="shared:1")
    world.settle()
    world.cluster.add_fault(Fault(method="GET", path=r"/qemu/102/snapshot$", kind=596, times=1000))
    result = world.run("proxmox_snapshot", {"vmids": [102, 110], "snapname": "now", "parallel": 1})
    assert [one["failed"] for one in result["results"]] == [True, False]


def test_an_old_hint_to_a_node_that_hangs_costs_half_a_minute(world: World) -> None:
    hang(world, "pve2")
    began = world.cluster.now
    result = world.run(POWER, {"vmid": 101, "node": "pve2", "type": "qemu", "state": "started"})
    assert not result["failed"], result["msg"]
    assert result["guest"]["node"] == "pve1"
    assert world.cluster.now - began < 40


def meddle(world: World, after: str, deed: Callable[[], None]) -> None:
    """Do something right after a request to this path was answered."""

    class Meddling(type(world.cluster.log)):  # type: ignore[misc]
        def append(self, log_entry: Any) -> None:
            super().append(log_entry)
            if log_entry.path.endswith(after):
                deed()

    world.cluster.log = Meddling(world.cluster.log)


def test_what_somebody_stops_before_its_turn_is_not_started_by_a_restart(world: World) -> None:
    world.cluster.start_now(102)
    world.settle()
    meddle(world, "/qemu/100/status/reboot", lambda: setattr(world.cluster.guests[102], "power", None))
    result = world.run(POWER, {**ALL_BY_TURNS, "status": ["running"], "state": "restarted"})
    assert not result["failed"], result["msg"]
    assert [one["changed"] for one in result["results"]] == [True, False]
    assert [call["summary"] for call in result["calls"]] == ["reboot VM 100"]
    assert entry(result, 102)["guest"]["status"] == "stopped"
    assert result["warnings"] == [
        "VM 102 (moved): Nothing was done to it, for it does not match status running (now: stopped)."
    ]
    assert not world.cluster.guests[102].running


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_a_fleet_changes_itself_does_not_stop_it_half_way(world: World, check_mode: bool) -> None:
    """A guest that was stopped to be started again, moved, tagged otherwise: it does not match any more, by our own doing."""
    running = {"vmids": [100], "status": ["running"], "parallel": 1}
    restart = world.run(POWER, {**running, "state": "restarted", "force": "now"}, check_mode=check_mode)
    away = {"vmids": [102], "nodes": ["pve2"], "status": ["stopped"], "parallel": 1, "target_node": "pve3"}
    move = world.run("proxmox_migrate", away, check_mode=check_mode)
    tagged = {"with_tags": ["prod"], "parallel": 1, "tags": ["test"], "pool": "test"}
    tag = world.run("proxmox_vm_config", tagged, check_mode=check_mode)
    for result in (restart, move, tag):
        assert not result["failed"], result["msg"]
        assert result["changed"]
        assert not result["warnings"]
    assert [call["summary"] for call in restart["calls"]] == ["stop VM 100", "start VM 100"]


def test_a_deed_whose_answer_was_lost_is_a_deed(world: World) -> None:
    world.cluster.add_fault(Fault(method="POST", path=r"/qemu/100/status/stop$", kind="reset", when="after"))
    running = {"vmids": [100], "status": ["running"], "parallel": 1}
    result = world.run(POWER, {**running, "state": "restarted", "force": "now"})
    assert not result["failed"], result["msg"]
    assert not result["warnings"]
    assert world.cluster.guests[100].running


def test_credentials_that_are_refused_are_not_tried_for_each(world: World) -> None:
    """The token is revoked when the guests have been chosen."""
    world.cluster.add_fault(Fault(path=r"/status/current$", kind="ticket_expired", times=1000))
    result = world.run(POWER, {**ALL_BY_TURNS, "state": "started"})
    assert result["msg"].startswith("3 of 3 guests failed.")
    assert [one["status"] for one in result["results"]] == [401, 401, 401]
    assert len([item for item in world.cluster.log if item.status == 401]) == 1


def test_none_and_too_many_write_nothing(world: World) -> None:
    for options, text in (
        ({"names": ["~nobody"]}, "No guest is meant, of 5"),
        ({"vmids": [100, 101], "max": 1}, "2 guests are meant, more than max_guests (1)"),
        ({"vmids": [100], "parallel": 0}, "parallel is 0; it can be 1 to 64"),
        ({"vmids": [100], "parallel_per_node": 65}, "parallel_per_node is 65"),
        ({"vmids": [100], "vmid": 101}, "mutually exclusive: vmid|vmids"),
        ({"nodes": ["pve1"], "node": "pve1"}, "mutually exclusive: node|nodes"),
    ):
        result = world.run(POWER, {**options, "state": "stopped"})
        assert result["failed"]
        assert text in result["msg"]
        assert result.get("results", []) == []
    assert not world.cluster.log.writes()


def test_options_that_contradict_each_other_are_told_once(world: World) -> None:
    result = world.run("proxmox_snapshot", {**ALL_BY_TURNS, "snapname": "x"})
    assert result["msg"].count("cannot be the name of a snapshot") == 1
    assert not world.cluster.log


def test_a_fleet_that_goes_anywhere_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sees where the last went, although several at a time are allowed."""

    def crowded(cluster: Cluster) -> None:
        without_snapshots(cluster)
        for vmid in range(110, 116):
            cluster.add_vm(vmid, f"big{vmid}", disk="shared:1", config={"memory": 8192}, running=True)
        cluster.clock.advance(60.0)

    world = make_world(monkeypatch, crowded)
    options = {"names": ["big*"], "target_node": "auto", "exclude_nodes": ["pve1"], "parallel": 8}
    result = world.run("proxmox_migrate", options)
    assert not result["failed"], result["msg"]
    places = [one["guest"]["node"] for one in result["results"]]
    assert {places.count(node) for node in ("pve2", "pve3")} == {3}


# Threads, over HTTPS


MANY = 40


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    cluster = Cluster(clock=RealClock(time.time(), speed=5.0))
    for number in range(MANY):
        node = f"pve{number % 3 + 1}"
        cluster.add_vm(100 + number, f"many{number:02}", node=node, disk="shared:1", config={"tags": "many"})
    cluster.clock.advance(0)
    server = serve(cluster)
    try:
        yield server
    finally:
        server.stop()
    assert not cluster.unmodelled


def options_of(server: Server) -> dict[str, Any]:
    settings = server.environment()
    return {
        "api_host": [settings["PROXMOX_HOST"]],
        "api_port": int(settings["PROXMOX_PORT"]),
        "api_user": settings["PROXMOX_USER"],
        "api_token_id": settings["PROXMOX_TOKEN_ID"],
        "api_token_secret": settings["PROXMOX_TOKEN_SECRET"],
        "ca_path": settings["PROXMOX_CA_PATH"],
    }


def overlapping(server: Server, kind: str, node: str | None = None) -> int:
    """Return how many tasks of that type ran at the same time at most, on that node or anywhere."""
    tasks = [task for task in server.cluster.tasks.all.values() if task.type == kind and node in (None, task.node)]
    return max((sum(one.start <= task.start < (one.end or task.start) for one in tasks) for task in tasks), default=0)


def run(server: Server, module: str, options: dict[str, Any], **more: Any) -> dict[str, Any]:
    return modules.run(module, {**options_of(server), **options}, **more)


def test_all_are_started_side_by_side_and_once(server: Server) -> None:
    foretold = run(server, POWER, {"tags": ["many"], "state": "started", "parallel": 16}, check_mode=True)
    assert not server.cluster.log.writes()
    done = run(server, POWER, {"tags": ["many"], "state": "started", "parallel": 16})
    assert not done["failed"], done["msg"]
    assert [one["guest"]["vmid"] for one in done["results"]] == list(range(100, 100 + MANY))
    assert [call["summary"] for call in done["calls"]] == [call["summary"] for call in foretold["calls"]]
    assert done["diff"] == foretold["diff"]
    assert all(guest.running for guest in server.cluster.guests.values())
    assert len([upid for upid in server.cluster.tasks.all if ":qmstart:" in upid]) == MANY
    assert 2 < overlapping(server, "qmstart") <= 16
    server.cluster.log.clear()
    again = run(server, POWER, {"tags": ["many"], "state": "started", "parallel": 16})
    assert again["changed"] is False
    assert len(list(server.cluster.log)) == 1 + MANY


def test_a_password_is_sent_once(server: Server) -> None:
    root = {"api_token_id": None, "api_token_secret": None, "api_user": "root@pam", "api_password": "labpass"}
    server.cluster.log.clear()
    result = run(server, POWER, {**root, "tags": ["many"], "state": "started", "parallel": 16})
    assert not result["failed"], result["msg"]
    assert len([item for item in server.cluster.log if item.path.endswith("/access/ticket")]) == 1


def test_a_node_bears_only_so_many_snapshots(server: Server) -> None:
    options = {"names": ["many*"], "nodes": ["pve1", "pve2"], "parallel": 16}
    result = run(server, "proxmox_snapshot", {**options, "snapname": "now"})
    assert not result["failed"], result["msg"]
    for node in ("pve1", "pve2"):
        assert 1 < overlapping(server, "qmsnapshot", node) <= 4
    gone = run(server, "proxmox_snapshot", {**options, "snapname": "now", "state": "absent", "parallel_per_node": 1})
    assert not gone["failed"], gone["msg"]
    assert overlapping(server, "qmdelsnapshot", "pve1") == 1


def test_two_are_moved_at_a_time(server: Server) -> None:
    result = run(server, "proxmox_migrate", {"names": ["many0*"], "target_node": "pve3", "parallel": 8})
    assert not result["failed"], result["msg"]
    assert overlapping(server, "qmigrate") == 2
    assert {server.cluster.guests[vmid].node for vmid in range(100, 110)} == {"pve3"}


def test_faults_strike_one_and_no_other(server: Server) -> None:
    """A refusal, and an answer that is lost in the midst of the others' requests."""
    server.cluster.add_fault(Fault(method="POST", path=r"/qemu/105/status/shutdown$", kind="broken"))
    server.cluster.add_fault(Fault(method="POST", path=r"/qemu/106/status/shutdown$", when="after", kind="reset"))
    try:
        result = run(server, POWER, {"tags": ["many"], "state": "stopped", "parallel": 16})
    finally:
        server.cluster.faults.clear()
    assert [one["guest"]["vmid"] for one in result["results"] if one["failed"]] == [105]
    assert result["msg"].startswith(f"1 of {MANY} guests failed. VM 105 (many05): POST ")
    assert [vmid for vmid, guest in server.cluster.guests.items() if guest.running] == [105]
    assert len([upid for upid in server.cluster.tasks.all if ":qmshutdown:106:" in upid]) == 1


def test_a_client_that_is_halted_asks_and_sends_nothing_more(server: Server) -> None:
    cluster = server.cluster
    guest = cluster.guests[120]
    cluster.start_now(120)
    guest.behaviour.acpi = guest.behaviour.agent = False
    client = connect({**options_of(server), "validate_certs": True, "api_timeout": 35.0})
    raised: list[ProxmoxError] = []

    def stop() -> None:
        call = Call("POST", f"/nodes/{guest.node}/qemu/120/status/shutdown", {"timeout": 600})
        try:
            client.send(call, deadline=time.monotonic() + 120)
        except ProxmoxError as error:
            raised.append(error)

    cluster.log.clear()
    waiting = threading.Thread(target=stop)
    waiting.start()
    while waiting.is_alive() and not any("/tasks/" in item.path for item in list(cluster.log)):
        time.sleep(0.01)
    client.halt()
    waiting.join(30)
    assert not waiting.is_alive()
    assert isinstance(raised[0], TimedOut)
    assert "was interrupted" in raised[0].message
    assert raised[0].upid is not None
    asked = len(list(cluster.log))
    with pytest.raises(TimedOut):
        client.get("/version")
    assert len(list(cluster.log)) == asked
    client.close()
