"""Pure parts of the modules that only look: capacity, what the cluster has in all, measurements."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils import capacity, cluster_info, metrics
from ansible_collections.keel.proxmox.plugins.module_utils.capacity import GIB, Size, Wanted, best, rooms
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused

from tests.simulator import Cluster, Request


def node(name: str, mem: float | None = 2, maxmem: int | None = 16, **more: Any) -> dict[str, Any]:
    sizes = {} if mem is None or maxmem is None else {"mem": int(mem * GIB), "maxmem": maxmem * GIB}
    return {"type": "node", "node": name, "status": "online", "maxcpu": 8, "cpu": 0.1, **sizes, **more}


def guest(vmid: int, where: str, memory: int, status: str = "running", **more: Any) -> dict[str, Any]:
    return {"type": "qemu", "vmid": vmid, "node": where, "status": status, "maxmem": memory * GIB, **more}


def storage(name: str, where: str, free: int, **more: Any) -> dict[str, Any]:
    row = {"type": "storage", "storage": name, "node": where, "status": "available", "content": "images,rootdir"}
    return {**row, "maxdisk": 100 * GIB, "disk": (100 - free) * GIB, **more}


def size(memory: int = 0, cores: int = 0, disk: int = 0, name: str | None = None, kind: str = "qemu") -> Size:
    return Size(memory * GIB, cores, disk * GIB, name, kind)


def order(rows: list[dict[str, Any]], want: Wanted, **more: Any) -> list[str]:
    return [room.node for room in rooms(rows, want, **more) if room.fits]


@pytest.mark.parametrize(
    ("rows", "wanted", "expected"),
    [
        ([node("a", 12), node("b", 2)], size(2), ["b", "a"]),
        ([node("a", 15), node("b", 2)], size(2), ["b"]),
        # What was promised counts, though it is not in use yet.
        ([node("a", 1), node("b", 4), guest(100, "a", 14)], size(2), ["b", "a"]),
        ([node("a", 1), node("b", 4), guest(100, "a", 15)], size(2), ["b"]),
        ([node("a", 1), guest(100, "a", 15, "stopped")], size(2), ["a"]),
        ([node("a", 1), guest(100, "a", 15, template=1)], size(2), ["a"]),
        ([node("a", 1), guest(100, "a", 15, "paused")], size(2), []),
        ([node("a", status="offline"), node("b", hastate="maintenance"), node("c", 10)], size(2), ["c"]),
        ([node("a"), node("b", maxcpu=4)], size(1, cores=6), ["a"]),
        ([node("a", None), node("b")], size(1), ["b"]),
        ([node("a", None), node("b")], size(0, cores=1), ["b", "a"]),
        ([node("a"), node("b"), storage("fast", "b", 50)], size(1, disk=20), ["b"]),
        ([node("a"), storage("fast", "a", 50), storage("slow", "a", 80)], size(1, disk=60, name="fast"), []),
        ([node("a"), storage("fast", "a", 50, content="iso")], size(1, disk=1), []),
        ([node("a"), storage("fast", "a", 50, status="unknown")], size(1, disk=1), []),
        ([node("a"), storage("fast", "a", 50, content="images")], size(1, disk=1, kind="lxc"), []),
        ([node("b"), node("a")], size(1), ["a", "b"]),
    ],
)
def test_who_has_room(rows: list[dict[str, Any]], wanted: Size, expected: list[str]) -> None:
    assert order(rows, Wanted(wanted)) == expected


def test_how_many_fit_and_where_the_disk_goes() -> None:
    rows = [node("a", 2), storage("fast", "a", 50), storage("slow", "a", 80)]
    (room,) = rooms(rows, Wanted(size(3, disk=10)))
    assert (room.count, room.storage, room.space) == (4, "slow", 80 * GIB)
    assert rooms(rows, Wanted(size(cores=1)))[0].count is None
    assert rooms(rows, Wanted(size(20)))[0].count == 0


def test_a_guest_does_not_stand_in_its_own_way() -> None:
    rows = [node("a", 1), guest(100, "a", 14)]
    assert order(rows, Wanted(size(14))) == []
    assert order(rows, Wanted(size(14)), moving=100) == ["a"]


def test_what_may_be_promised() -> None:
    rows = [node("a", 1), guest(100, "a", 14)]
    assert order(rows, Wanted(size(8), overcommit=1.5)) == ["a"]
    assert order(rows, Wanted(size(8), overcommit=1.0)) == []
    # What is in use is never free.
    assert order([node("a", 15)], Wanted(size(8), overcommit=9.0)) == []


def test_which_may_be_chosen() -> None:
    rows = [node("a"), node("b"), node("c")]
    assert order(rows, Wanted(size(1), nodes=frozenset({"b", "c"}), without=frozenset({"c"}))) == ["b"]
    with pytest.raises(Refused, match="There is no node 'd' in this cluster; its nodes are a, b, c"):
        rooms(rows, Wanted(size(1), without=frozenset({"d"})))


def test_no_room_tells_every_obstacle() -> None:
    rows = [node("a", 15), node("b", status="offline"), node("c", maxcpu=1)]
    with pytest.raises(Refused) as refused:
        best(rows, Wanted(size(4, cores=2)))
    message = refused.value.message
    for text in ("a: 1.0 GiB of 16.0 GiB of memory are free, 4.0 GiB are needed", "b: is down", "c: has 1 CPUs, 2 are"):
        assert text in message


@pytest.mark.parametrize(
    ("options", "told"),
    [({"memory": -1}, "memory=-1"), ({"disk": "much"}, "'much' is no size"), ({"overcommit": 0.0}, "overcommit")],
)
def test_options_that_make_no_sense(options: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        capacity.wanted({"overcommit": 1.0, "type": "qemu", **options})


def test_shared_storages_count_once() -> None:
    rows = [
        *(node("a"), node("b"), node("c", status="offline")),
        *(storage("nfs", "a", 90, shared=1), storage("nfs", "b", 90, shared=1)),
        *(storage("local", "a", 90), storage("local", "b", 90), storage("local", "c", 90, status="unknown")),
        *(guest(100, "a", 1), guest(101, "a", 1, "stopped"), guest(102, "a", 1, "stopped", template=1)),
    ]
    assert cluster_info.totals(rows) == {
        "guests": {"qemu": 3, "lxc": 0, "by_status": {"running": 1, "stopped": 1, "template": 1}},
        "cpus": 16,
        "memory": {"total": 32 * GIB, "used": 4 * GIB},
        "storage": {"total": 300 * GIB, "used": 30 * GIB},
    }


def observed(*points: dict[str, Any]) -> metrics.Observed:
    return metrics.Observed(None, points)


def want(*names: str) -> metrics.Wanted:
    return metrics.Wanted(None, "pve1", None, "hour", "AVERAGE", names)


def test_what_measurements_come_to() -> None:
    told = metrics.result(
        want(), observed({"time": 60}, {"time": 120, "cpu": 1.0}, {"time": 180, "cpu": 3.0, "mem": 5.0})
    )
    assert told["points"] == [{"time": 120, "cpu": 1.0}, {"time": 180, "cpu": 3.0, "mem": 5.0}]
    assert told["summary"] == {
        "cpu": {"count": 2, "min": 1.0, "max": 3.0, "mean": 2.0, "last": 3.0},
        "mem": {"count": 1, "min": 5.0, "max": 5.0, "mean": 5.0, "last": 5.0},
    }
    assert told["seconds"] == 60


def test_nothing_was_measured_yet() -> None:
    told = metrics.result(want("cpu"), observed({"time": 60}))
    assert (told["points"], told["seconds"], told["summary"]["cpu"]["mean"]) == ([], None, None)


def test_a_metric_that_is_none() -> None:
    with pytest.raises(Refused, match="'cpus' is not measured; there are cpu, mem"):
        metrics.result(want("cpus"), observed({"time": 60, "cpu": 1.0, "mem": 1.0}))


def test_the_simulated_past() -> None:
    """As PVE/RRD.pm tells it: a fixed number of points, times only where nothing is known, and a maximum above the mean."""
    cluster = Cluster()
    cluster.add_vm(100, "web", running=True)

    def points(path: str, query: str) -> list[dict[str, Any]]:
        answer = cluster.handle(Request("GET", f"/api2/json/nodes/{path}/rrddata?{query}", cluster.token_header(), b""))
        assert answer.status == 200, answer.reason
        return answer.json()["data"]

    hour = points("pve1/qemu/100", "timeframe=hour")
    assert len(hour) == 60
    assert {after["time"] - before["time"] for before, after in pairwise(hour)} == {60}
    assert hour == points("pve2/qemu/100", "timeframe=hour"), "every node tells of every guest"
    day = points("pve1", "timeframe=day")
    assert day[0].keys() == {"time"}, "the node was not up yet"
    assert {"cpu", "memused", "memtotal"} <= day[-1].keys()
    peaks = points("pve1/qemu/100", "timeframe=hour&cf=MAX")
    assert all(peak["cpu"] > mean["cpu"] for peak, mean in zip(peaks, hour, strict=True))
    assert {"total", "used"} <= points("pve1/storage/local", "timeframe=week")[-1].keys()
