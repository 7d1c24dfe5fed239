"""Several plays want the same at the same moment, and others act between our look and our write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.promises.scenarios import nothing
from tests.simulator import Cluster, Fault, Request

from .cases import SETTLE, strays
from .races import Conductor, Play
from .world import Wire, make_cluster, play

SEEDS = range(12)


@pytest.fixture
def cluster() -> Cluster:
    return make_cluster(nothing)


def race(cluster: Cluster, seed: int, plays: list[Play]) -> list[dict[str, Any]]:
    """Return the results; nothing that the simulator does not model may be asked, and no volume may be left over."""
    results = Conductor(cluster, seed).run(plays)
    assert not cluster.unmodelled
    cluster.clock.advance(SETTLE)
    assert list(strays(cluster)) == []
    return results


def names(cluster: Cluster) -> Counter[str]:
    return Counter(str(guest.config.get("name", guest.config.get("hostname"))) for guest in cluster.guests.values())


def succeed(results: list[dict[str, Any]]) -> None:
    assert [result["msg"] for result in results if result["failed"]] == []


def clone(**options: Any) -> Play:
    return "proxmox_vm_clone", {"source": "9000", "timeout": 3600, **options}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("players", [2, 8])
def test_the_next_free_vmid_is_given_once(cluster: Cluster, seed: int, players: int) -> None:
    before = set(cluster.guests)
    results = race(cluster, seed, [clone(name=f"new{number}") for number in range(players)])
    succeed(results)
    made = {result["guest"]["vmid"] for result in results}
    assert len(made) == players
    assert set(cluster.guests) - before == made
    assert all(names(cluster)[f"new{number}"] == 1 for number in range(players))
    for number, result in enumerate(results):
        assert cluster.guests[result["guest"]["vmid"]].config["name"] == f"new{number}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("players", [2, 8])
def test_the_same_clone_asked_for_by_vmid_is_made_once(cluster: Cluster, seed: int, players: int) -> None:
    results = race(cluster, seed, [clone(name="new", vmid=150)] * players)
    succeed(results)
    assert names(cluster)["new"] == 1
    assert {result["guest"]["vmid"] for result in results} == {150}
    assert sum(result["changed"] for result in results) == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("players", [2, 8])
def test_the_same_clone_asked_for_by_name_is_made_once(cluster: Cluster, seed: int, players: int) -> None:
    results = race(cluster, seed, [clone(name="new")] * players)
    succeed(results)
    assert names(cluster)["new"] == 1
    assert sum(result["changed"] for result in results) == 1


def whole(**options: Any) -> Play:
    disk = {"scsi0": {"storage": "local-lvm", "size": 1}}
    return "proxmox_vm", {"node": "pve1", "disks": disk, "power": "started", "timeout": 3600, **options}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("players", [2, 5])
def test_a_guest_from_nothing_asked_for_by_name_is_made_once(cluster: Cluster, seed: int, players: int) -> None:
    results = race(cluster, seed, [whole(name="new")] * players)
    succeed(results)
    assert names(cluster)["new"] == 1
    assert len({result["guest"]["vmid"] for result in results}) == 1
    assert sum(len(result["calls"]) for result in results) >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_guests_from_nothing_get_a_vmid_each(cluster: Cluster, seed: int) -> None:
    plays = [
        whole(name="one"),
        whole(name="two", node="pve2"),
        clone(name="three"),
        whole(name="four", power="stopped"),
    ]
    results = race(cluster, seed, plays)
    succeed(results)
    assert len({result["guest"]["vmid"] for result in results}) == 4
    assert [names(cluster)[name] for name in ("one", "two", "three", "four")] == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_guest_deleted_by_several_is_gone(cluster: Cluster, seed: int) -> None:
    gone = {"vmid": 100, "name": "web", "state": "absent", "force": True, "timeout": 3600}
    results = race(cluster, seed, [("proxmox_vm", gone)] * 3)
    succeed(results)
    assert 100 not in cluster.guests
    assert (
        len([upid for upid in cluster.tasks.all if ":qmdestroy:" in upid and cluster.tasks.all[upid].status == "OK"])
        == 1
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_one_vmid_for_two_names_is_one_guest_and_the_other_is_told(cluster: Cluster, seed: int) -> None:
    results = race(cluster, seed, [clone(name="one", vmid=150), clone(name="two", vmid=150)])
    assert sorted(result["failed"] for result in results) == [False, True]
    (told,) = (result["msg"] for result in results if result["failed"])
    assert "150" in told
    winner = next(result for result in results if not result["failed"])
    assert cluster.guests[150].config["name"] == winner["guest"]["name"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("players", [2, 8])
def test_options_of_one_guest_set_at_once_are_all_there(cluster: Cluster, seed: int, players: int) -> None:
    plays: list[Play] = [
        ("proxmox_vm_config", {"vmid": 101, "net": {f"net{number}": {"bridge": "vmbr0"}}})
        for number in range(1, players)
    ]
    succeed(race(cluster, seed, [*plays, ("proxmox_vm_config", {"vmid": 101, "cores": 4})]))
    config = cluster.guests[101].config
    assert config["cores"] == "4"
    assert all(f"net{number}" in config for number in range(1, players))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disk_grows_once(cluster: Cluster, seed: int) -> None:
    grow: Play = ("proxmox_vm_config", {"vmid": 101, "disks": {"scsi0": {"size": "12G"}}})
    succeed(race(cluster, seed, [grow] * 4))
    assert "size=12G" in cluster.guests[101].config["scsi0"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_new_disk_is_allocated_once(cluster: Cluster, seed: int) -> None:
    new: Play = ("proxmox_vm_config", {"vmid": 101, "disks": {"scsi1": {"storage": "local-lvm", "size": 4}}})
    succeed(race(cluster, seed, [new] * 4))
    assert not [key for key in cluster.guests[101].config if key.startswith("unused")]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("players", [2, 8])
def test_a_guest_started_by_several_is_started_once(cluster: Cluster, seed: int, players: int) -> None:
    succeed(race(cluster, seed, [("proxmox_vm_power", {"vmid": 101, "state": "started"})] * players))
    assert cluster.guests[101].running


@pytest.mark.parametrize("seed", SEEDS)
def test_a_guest_moved_by_several_arrives(cluster: Cluster, seed: int) -> None:
    succeed(race(cluster, seed, [("proxmox_migrate", {"vmid": 102, "target_node": "pve3"})] * 4))
    assert cluster.guests[102].node == "pve3"


@pytest.mark.parametrize("seed", SEEDS)
def test_snapshots_taken_at_once_are_all_there(cluster: Cluster, seed: int) -> None:
    plays: list[Play] = [("proxmox_snapshot", {"vmid": 100, "snapname": f"now{number}"}) for number in (1, 1, 2, 3)]
    succeed(race(cluster, seed, plays))
    assert set(cluster.guests[100].snapshots) == {"now1", "now2", "now3"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_snapshot_and_a_rollback_at_once_leave_both(cluster: Cluster, seed: int) -> None:
    plays: list[Play] = [
        ("proxmox_snapshot", {"vmid": 101, "snapname": "third"}),
        ("proxmox_snapshot", {"vmid": 101, "snapname": "after", "state": "rollback"}),
    ]
    succeed(race(cluster, seed, plays))
    guest = cluster.guests[101]
    assert set(guest.snapshots) == {"before", "after", "third"}
    assert "lock" not in guest.config


@pytest.mark.parametrize("seed", SEEDS)
def test_a_guest_that_is_moved_is_configured_where_it_is(cluster: Cluster, seed: int) -> None:
    plays: list[Play] = [
        ("proxmox_migrate", {"vmid": 102, "target_node": "pve3"}),
        ("proxmox_vm_config", {"vmid": 102, "cores": 4}),
        ("proxmox_vm_power", {"name": "moved", "state": "stopped"}),
    ]
    succeed(race(cluster, seed, plays))
    guest = cluster.guests[102]
    assert (guest.node, guest.config["cores"]) == ("pve3", "4")


def interrupted(cluster: Cluster, at: int, act: Callable[[], object], task: Play) -> tuple[dict[str, Any], int]:
    """Run a play that somebody gets ahead of, just before its nth request; return its result and how many it made."""
    wire = Wire(cluster, before=lambda number: act() if number == at else None)
    return play(cluster, *task, wire), len(wire.sent)


def at_every_request(act: Callable[[Cluster], object], task: Play) -> list[tuple[Cluster, dict[str, Any]]]:
    """Return cluster and result for each request that somebody can get ahead of."""
    _result, requests = interrupted(make_cluster(nothing), 0, lambda: None, task)
    found = []
    for at in range(1, requests + 1):
        cluster = make_cluster(nothing)
        result, _requests = interrupted(cluster, at, lambda cluster=cluster: act(cluster), task)
        cluster.clock.advance(SETTLE)
        found.append((cluster, result))
    assert len(found) >= 3
    return found


def test_what_others_write_meanwhile_stays() -> None:
    def write(cluster: Cluster) -> None:
        config = cluster.guests[101].config
        config["net0"] += ",tag=30"

    for cluster, result in at_every_request(
        write, ("proxmox_vm_config", {"vmid": 101, "net": {"net0": {"firewall": False}}})
    ):
        assert not result["failed"], result["msg"]
        net0 = cluster.guests[101].config["net0"]
        assert "tag=30" in net0
        assert "firewall=1" not in net0


def test_a_guest_that_moves_between_look_and_write_is_found_again() -> None:
    def move(cluster: Cluster) -> None:
        cluster.guests[102].node = "pve3"

    for cluster, result in at_every_request(move, ("proxmox_vm_config", {"vmid": 102, "cores": 4})):
        assert not result["failed"], result["msg"]
        assert cluster.guests[102].config["cores"] == "4"
        assert result["guest"]["node"] in ("pve2", "pve3")
    for _cluster, result in at_every_request(move, ("proxmox_vm_power", {"vmid": 102, "state": "started"})):
        assert not result["failed"], result["msg"]
    for cluster, result in at_every_request(move, ("proxmox_snapshot", {"vmid": 102, "snapname": "now"})):
        assert not result["failed"], result["msg"]
        assert set(cluster.guests[102].snapshots) == {"now"}


def test_somebody_elses_task_is_not_taken_for_the_own_one_that_never_began(cluster: Cluster) -> None:
    headers = {**cluster.token_header(), "Content-Type": "application/x-www-form-urlencoded"}
    theirs = Request("POST", "/api2/json/nodes/pve1/qemu/101/config", headers, b"memory=2048")
    # Ours is the second: it is cut off before it has any effect, while the task of theirs has just been started.
    cluster.add_fault(Fault("POST", "/config$", nth=2, kind="reset"))
    task: Play = ("proxmox_vm_config", {"vmid": 101, "cores": 4})
    result, requests = interrupted(cluster, 4, lambda: cluster.handle(theirs), task)
    assert not result["failed"], result["msg"]
    assert requests > 6
    assert (cluster.guests[101].config["cores"], cluster.guests[101].config["memory"]) == ("4", "2048")
    assert [call["summary"] for call in result["calls"]] == ["configure VM 101: cores"]


def test_of_two_guests_of_one_name_none_is_touched(cluster: Cluster) -> None:
    cluster.add_vm(120, "web")
    before = cluster.state()
    for module, options in [
        ("proxmox_vm_config", {"name": "web", "cores": 8}),
        ("proxmox_vm_power", {"name": "web", "state": "stopped"}),
        ("proxmox_snapshot", {"name": "web", "snapname": "now"}),
        ("proxmox_migrate", {"name": "web", "target_node": "pve2"}),
        ("proxmox_vm_clone", {"source": "web", "name": "new"}),
    ]:
        result = play(cluster, module, options, Wire(cluster))
        assert result["failed"]
        assert "100 on pve1" in result["msg"]
        assert "120 on pve1" in result["msg"]
    assert cluster.state() == before


def test_every_race_can_be_run_again() -> None:
    plays = [clone(name=f"new{number}") for number in range(4)]
    logs = []
    for _run in range(2):
        one = make_cluster(nothing)
        Conductor(one, 5).run(plays)
        logs.append([(entry.method, entry.path) for entry in one.log if entry.method != "GET"])
    assert json.dumps(logs[0]) == json.dumps(logs[1])
