"""Backups, restores and backup jobs: what is decided, by tables; and the examples of their documentation, run."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.keel.proxmox.plugins.module_utils import backup, backup_jobs, restore
from ansible_collections.keel.proxmox.plugins.module_utils.backups import (
    Backup,
    listed,
    parse_volid,
    places,
    property_string,
    seconds,
)
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call

from tests import modules
from tests.promises.scenarios import VOLID, backed_up, container
from tests.promises.world import World, make_world
from tests.simulator import Cluster, Fault

from .fakes import FakeReader

WEB = Guest(100, "qemu", "pve1", "web", "running", "running")


def of(volid: str = VOLID, time: int = 1000, **more: Any) -> Backup:
    return Backup(volid, "local", "pve1", False, 100, "qemu", time, 5, "vma.zst", **more)


@pytest.mark.parametrize(
    ("text", "found"),
    [("90", 90), (90, 90), ("30m", 1800), ("24h", 86400), ("1d 12h", 129600), ("2w", 1209600), ("1h30m5s", 5405)],
)
def test_times(text: object, found: int) -> None:
    assert seconds("max_age", text) == found


@pytest.mark.parametrize("text", ["", "1y", "-5", "h", "5m3h", "1.5h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Refused, match="max_age"):
        seconds("max_age", text)


@pytest.mark.parametrize(
    ("text", "storage", "vmid", "kind"),
    [
        ("local:backup/vzdump-qemu-100-2026_11_20-16_01_18.vma.zst", "local", 100, "qemu"),
        ("nas:backup/vzdump-lxc-200-2026_11_20-16_01_18.tar", "nas", 200, "lxc"),
        ("pbs:backup/vm/100/2026-11-20T16:01:18Z", "pbs", 100, "qemu"),
        ("pbs:backup/ct/200/2026-11-20T16:01:18Z", "pbs", 200, "lxc"),
    ],
)
def test_names_of_backups(text: str, storage: str, vmid: int, kind: str) -> None:
    volid = parse_volid(text)
    assert (volid.storage, volid.vmid, volid.kind) == (storage, vmid, kind)


@pytest.mark.parametrize(
    "text", ["local:iso/a.iso", "local:backup/../x", "local:backup/vzdump-qemu-1-x.vma", "/a", "l:backup/vm/100/a?b"]
)
def test_what_is_no_backup(text: str) -> None:
    with pytest.raises(Refused, match="proxmox_backup_info"):
        parse_volid(text)


def test_property_strings() -> None:
    assert property_string("prune", "prune-backups", {"keep_last": 3, "keep-daily": "7"}) == "keep-daily=7,keep-last=3"
    assert property_string("fleecing", "fleecing", {"enabled": True, "storage": "fast"}) == "1,storage=fast"
    assert property_string("prune", "prune-backups", None) is None
    with pytest.raises(Refused, match="keep-last"):
        property_string("prune", "prune-backups", {"keep": 3})
    with pytest.raises(Refused, match="no number"):
        property_string("prune", "prune-backups", {"keep_last": "many"})


def rows(*nodes: str, down: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"type": "node", "node": node, "status": "offline" if node == down else "online"} for node in nodes
    ]
    for node in nodes:
        found += [
            {"type": "storage", "storage": "local", "node": node, "content": "iso,backup", "shared": 0},
            {
                "type": "storage",
                "storage": "nas",
                "node": node,
                "content": "backup",
                "shared": 1,
                "status": "available",
            },
            {"type": "storage", "storage": "fast", "node": node, "content": "images", "shared": 0},
        ]
    return found


def test_a_shared_storage_is_asked_once_and_others_on_every_node() -> None:
    found = [(place.storage, place.node, place.online) for place in places(rows("a", "b", down="a"))]
    assert found == [("local", "b", True), ("local", "a", False), ("nas", "b", True)]
    assert [place.node for place in places(rows("a", "b"), "local", "b")] == ["b"]


@pytest.mark.parametrize(
    ("storage", "node", "says"),
    [
        ("fast", None, "content"),
        ("none", None, "Datastore.Audit"),
        ("none", "b", "'none' on node b"),
        ("local", "c", "no node 'c'"),
    ],
)
def test_storages_without_backups(storage: str, node: str | None, says: str) -> None:
    with pytest.raises(Refused, match=says):
        places(rows("a", "b"), storage, node)


def test_what_a_backup_server_tells() -> None:
    row = {
        "volid": "pbs:backup/vm/100/2026-11-20T16:01:18Z",
        "vmid": 100,
        "ctime": 5,
        "size": "7",
        "format": "pbs-vm",
        "subtype": "qemu",
        "notes": "x",
        "protected": 1,
        "encrypted": "1",
        "verification": {"state": "ok", "upid": "UPID"},
    }
    reader = FakeReader({"/nodes/a/storage/pbs/content": [row]})
    place = places([{"type": "storage", "storage": "pbs", "node": "a", "content": "backup", "shared": 1}])[0]
    (found,) = listed(reader, place)
    assert found.shown(10) == {
        "volid": row["volid"],
        "storage": "pbs",
        "node": "a",
        "shared": True,
        "vmid": 100,
        "type": "qemu",
        "time": 5,
        "age": 5,
        "size": 7,
        "format": "pbs-vm",
        "notes": "x",
        "protected": True,
        "encrypted": True,
        "verification": "ok",
    }


# --- a backup now


def want_backup(**options: Any) -> backup.Wanted:
    return backup.wanted({"vmid": 100, "state": "present", "storage": "local", **options})


def decided(want: backup.Wanted, observed: backup.Observed, done: tuple[Call, ...] = ()) -> list[str]:
    return [call.summary for call in backup.decide(want, observed, done).calls]


MAKE = ["back up VM 100 to local"]


@pytest.mark.parametrize(
    ("options", "backups", "calls"),
    [
        ({}, [], MAKE),
        ({}, [of(time=999)], MAKE),
        ({"max_age": "1m"}, [of(time=940)], []),
        ({"max_age": "1m"}, [of(time=939)], MAKE),
        ({"notes": "up", "once": True}, [of(time=1, notes="up")], []),
        ({"notes": "up\nmore", "once": True}, [of(time=1, notes="up")], []),
        ({"notes": "up", "once": True}, [of(time=999, notes="other")], MAKE),
    ],
)
def test_which_backup_counts(options: dict[str, Any], backups: list[Backup], calls: list[str]) -> None:
    known = frozenset(one.volid for one in backups)
    observed = backup.Observed(WEB, tuple(backups), 1000, None, known)
    assert decided(want_backup(**options), observed) == calls


def test_one_that_appeared_after_it_was_asked_for_is_the_one() -> None:
    observed = backup.Observed(WEB, (of(),), 1000, None, frozenset(), asked=True)
    assert decided(want_backup(), observed) == []
    assert backup.result(want_backup(), observed)["backup"]["volid"] == VOLID  # type: ignore[index]


def test_one_that_appeared_while_others_were_waited_for_is_not() -> None:
    """A backup of somebody else that was under way at the first look is older than what is asked for."""
    want = want_backup()
    volumes: list[dict[str, Any]] = []
    tasks = [{"upid": "UPID:pve1:1"}]
    reader = FakeReader(
        {
            "/cluster/resources": [{"type": "qemu", "vmid": 100, "node": "pve1", "id": "qemu/100"}],
            "/nodes/pve1/qemu/100/status/current": {"status": "running", "name": "web"},
            "/nodes/pve1/tasks": lambda **query: list(tasks),
            "/nodes/pve1/storage/local/content": lambda **query: list(volumes),
        }
    )
    reader.server_time = 1000  # type: ignore[attr-defined]
    first = backup.observe(want, reader, None)
    assert "under way" in str(backup.decide(want, first, ()).waiting)
    tasks.clear()
    volumes.append({"volid": VOLID, "ctime": 900, "format": "vma.zst"})
    second = backup.observe(want, reader, first)
    assert decided(want, second) == MAKE
    volumes.append({"volid": f"{VOLID}2", "ctime": 1001, "format": "vma.zst"})
    assert decided(want, backup.observe(want, reader, second)) == []


def test_notes_are_escaped_for_the_server() -> None:
    parameters = want_backup(notes="a\\b\nc\n").parameters
    assert parameters is not None
    assert parameters["notes-template"] == "a\\\\b\\nc"
    with pytest.raises(Refused, match="too long"):
        want_backup(notes="x" * 1025)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"storage": None}, "storage"),
        ({"state": "absent"}, "volid"),
        ({"once": True}, "notes"),
        ({"once": True, "notes": "of {{guestname}}"}, "variables"),
        ({"volid": VOLID}, "storage: for a new backup"),
        ({"volid": VOLID, "storage": None, "once": True}, "once: for a new backup"),
        ({"volid": VOLID, "storage": None, "state": "absent", "protected": True}, "to stay"),
    ],
)
def test_backups_that_contradict_themselves(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        want_backup(**options)


def test_a_hibernated_guest_is_not_waited_for() -> None:
    guest = Guest(100, "qemu", "pve1", "web", "stopped", "stopped", lock="suspended")
    with pytest.raises(Refused, match="hibernated"):
        backup.decide(want_backup(), backup.Observed(guest), ())


# --- jobs

JOB = {
    "id": "nightly",
    "type": "vzdump",
    "schedule": "02:00",
    "enabled": "1",
    "all": "1",
    "exclude": "9001,9000",
    "storage": "local",
    "prune-backups": {"keep-daily": "7", "keep-weekly": "4"},
    "exclude-path": ["/b", "/a"],
    "fleecing": {"enabled": "1", "storage": "fast"},
}


def sent(options: Mapping[str, Any], **others: Mapping[str, Any] | None) -> dict[str, object] | None:
    """Return the parameters of the one call, None where there is none. :param others: another `job` than the usual, or None."""
    job = others.get("job", JOB)
    want = backup_jobs.wanted({"id": "nightly", "state": "present", **options})
    calls = backup_jobs.decide(want, backup_jobs.Observed(job), ()).calls
    return dict(calls[0].params) if calls else None


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ({}, None),
        ({"schedule": " 02:00 ", "enabled": True, "repeat_missed": False}, None),
        ({"exclude": [9000, 9001], "all": True}, None),
        ({"exclude_path": ["/a", "/b"]}, None),
        ({"prune": {"keep_daily": 7}}, None),
        ({"prune": {"keep_monthly": 0}}, None),
        ({"fleecing": {"storage": "fast"}}, None),
        ({"absent": ["comment", "mode"]}, None),
        # What is left open is decided by the node, so the schema's default is something else.
        ({"mode": "snapshot"}, {"mode": "snapshot"}),
        ({"prune": {"keep_last": 3}}, {"prune-backups": "keep-daily=7,keep-last=3,keep-weekly=4"}),
        ({"prune": {"keep_daily": 0}}, {"prune-backups": "keep-weekly=4"}),
        ({"prune": {"keep_all": True}}, {"prune-backups": "keep-all=1"}),
        ({"prune": {"keep_daily": 0, "keep-weekly": 0}}, {"delete": "prune-backups"}),
        ({"vmids": [101, 100]}, {"vmid": "100,101"}),
        ({"pool": "prod"}, {"pool": "prod"}),
        ({"absent": ["exclude", "storage"]}, {"delete": "exclude,storage"}),
        ({"exclude": []}, {"delete": "exclude"}),
        ({"protected": True}, {"protected": True, "storage": "local"}),
        ({"notes_template": "x", "storage": "nas"}, {"notes-template": "x", "storage": "nas"}),
        (
            {"enabled": False, "comment": "x", "absent": ["fleecing"]},
            {"enabled": False, "comment": "x", "delete": "fleecing"},
        ),
    ],
)
def test_what_is_sent_for_a_job(options: dict[str, Any], params: dict[str, object] | None) -> None:
    assert sent(options) == params


def test_a_new_job() -> None:
    options = {"schedule": "Sun 01:00", "vmids": [101], "enabled": True}
    assert sent(options, job=None) == {"id": "nightly", "schedule": "sun 01:00", "vmid": "101"}
    for missing in ("schedule", "vmids"):
        with pytest.raises(Refused, match=missing):
            sent({key: value for key, value in options.items() if key != missing}, job=None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"vmids": [1], "all": True}, "vmids and all"),
        ({"pool": "x", "exclude": [1]}, "exclude and pool"),
        ({"absent": ["schedule"]}, "not removed"),
        ({"absent": ["nonsense"]}, "nonsense"),
        ({"absent": ["mode"], "mode": "stop"}, "same time"),
        ({"prune": {"keep": 1}}, "keep-last"),
        ({"prune": {"keep_last": "x"}}, "no number"),
    ],
)
def test_jobs_that_contradict_themselves(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        sent(options)


def test_notes_of_a_job_need_a_storage() -> None:
    with pytest.raises(Refused, match="storage"):
        sent({"notes_template": "x"}, job={key: value for key, value in JOB.items() if key != "storage"})


# --- restores


def want_restore(**options: Any) -> restore.Wanted:
    return restore.wanted({"volid": VOLID, "vmid": 150, **options})


def seen(guest: Guest | None = None, **more: Any) -> restore.Observed:
    return restore.Observed(existing=guest, backup=of(), node="pve1", newid=150, **more)


STOPPED = Guest(150, "qemu", "pve1", "old", "stopped", "stopped")
RUNS = Guest(150, "qemu", "pve1", "old", "running", "running")
RESTORE = f"restore VM 150 from {VOLID}"


@pytest.mark.parametrize(
    ("options", "observed", "calls"),
    [
        ({}, seen(), [RESTORE]),
        ({}, seen(STOPPED), []),
        ({}, seen(STOPPED, empty=True), [RESTORE]),
        ({"force": True}, seen(STOPPED), [RESTORE]),
        ({"force": True, "stop": True}, seen(RUNS), ["stop VM 150", RESTORE]),
    ],
)
def test_what_a_restore_takes(options: dict[str, Any], observed: restore.Observed, calls: list[str]) -> None:
    plan = restore.decide(want_restore(**options), observed, ())
    assert [call.summary for call in plan.calls] == calls
    forced = [call.params.get("force") for call in plan.calls if call.task is not None and call.task[0] == "qmrestore"]
    assert forced == ([True] if observed.existing and calls else [None] if calls else [])


@pytest.mark.parametrize(
    ("options", "guest", "says"),
    [
        ({"force": True}, RUNS, "stop: true"),
        (
            {"force": True, "stop": True},
            Guest(150, "qemu", "pve1", "old", "running", ha_state="started"),
            "high availability",
        ),
        ({"force": True}, Guest(150, "lxc", "pve1", "old", "stopped"), "container"),
        ({"force": True, "node": "pve2"}, STOPPED, "move"),
        ({"name": "new"}, STOPPED, "taken"),
    ],
)
def test_what_is_not_restored_over(options: dict[str, Any], guest: Guest, says: str) -> None:
    with pytest.raises(Refused, match=says):
        restore.decide(want_restore(**options), seen(guest), ())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"vmid": None, "name": "x", "force": True}, "vmid"),
        ({"stop": True}, "force"),
        ({"source_storage": "x"}, "source_storage"),
        ({"vmid": 5}, "no VMID"),
    ],
)
def test_restores_that_contradict_themselves(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        want_restore(**options)


# --- on a cluster


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    def setup(cluster: Cluster) -> None:
        backed_up(cluster)
        container(cluster)

    return make_world(monkeypatch, setup)


def vzdumps(world: World) -> list[str]:
    return [upid for upid in world.cluster.tasks.all if ":vzdump:" in upid]


@pytest.mark.parametrize(
    ("kind", "when"),
    [("reset", "before"), ("reset", "after"), ("silence", "after"), (596, "after"), ("active_lock", "before")],
)
def test_a_lost_answer_makes_one_backup(world: World, kind: Any, when: str) -> None:
    world.cluster.add_fault(Fault(method="POST", path=r"/vzdump$", when=when, kind=kind))
    result = world.run("proxmox_backup", {"vmid": 100, "storage": "local"})
    assert not result["failed"], result["msg"]
    assert result["backup"]["vmid"] == 100
    assert len(vzdumps(world)) == 1


def test_a_guest_that_moved_is_followed(world: World) -> None:
    """The server answers OK on a node that the guest has left, and has done nothing."""
    cluster = world.cluster
    log = cluster.log

    class Moving(type(log)):  # type: ignore[misc]
        """Somebody moves the guest between our look and our request, once."""

        def append(self, entry: Any) -> None:
            super().append(entry)
            if entry.path.endswith("/storage/shared/content"):
                cluster.guests[102].node = "pve3"

    cluster.log = Moving(log)
    result = world.run("proxmox_backup", {"vmid": 102, "storage": "shared"})
    assert not result["failed"], result["msg"]
    assert [call["path"] for call in result["calls"]] == ["/nodes/pve3/vzdump"]
    assert len(vzdumps(world)) == 1


def test_the_cause_of_a_failed_backup_is_told(world: World) -> None:
    result = world.run("proxmox_backup", {"vmid": 101, "storage": "local", "remove": False, "prune": {"keep_last": 1}})
    assert result["failed"]
    assert "There is a max backup limit of 1" in result["msg"]
    assert any("ERROR: Backup of VM 101 failed" in line for line in result["log"])


def test_backups_wait_for_each_other(world: World) -> None:
    """Two on one node: the second has no lock on its guest while it waits for the first."""
    for vmid in (100, 101):
        result = world.run("proxmox_backup", {"vmid": vmid, "storage": "local", "wait": False})
        assert result["backup"] is None
    result = world.run("proxmox_backup", {"vmid": 101, "storage": "local", "max_age": 600})
    assert not result["failed"], result["msg"]
    assert result["changed"] is False
    assert result["backup"]["age"] < 600
    assert len(vzdumps(world)) == 2


def test_backups_on_a_node_that_is_down_are_told(world: World) -> None:
    world.cluster.node_down("pve2")
    world.settle()
    result = world.run("proxmox_backup_info", {"vmid": 101})
    assert [row["storage"] for row in result["backups"]] == ["local", "shared"]
    assert [(row["storage"], row["node"]) for row in result["unreachable"]] == [("local", "pve2")]
    result = world.run("proxmox_restore", {"latest": True, "source_vmid": 101, "vmid": 150})
    assert result["failed"]
    assert "pve2" in result["msg"]
    missing = VOLID.replace("101", "777")
    result = world.run("proxmox_backup", {"volid": missing, "state": "absent"})
    assert result["failed"], "it may be on the node that is down"
    assert "pve2" in result["msg"]


def schema(*paths: tuple[str, str]) -> set[str]:
    root = Cluster().schema
    found: set[str] = set()
    for method, path in paths:
        endpoint = root.find(method, path)
        assert endpoint is not None
        found |= set(endpoint[0].parameters)
    return found


def test_every_option_of_a_job_has_a_name() -> None:
    told = {parameter for parameter, _option in backup_jobs.OPTIONS.values()}
    # Those two are other words for the schedule.
    rest = {"id", "delete", "starttime", "dow"}
    assert told | rest == schema(("POST", "/cluster/backup"), ("PUT", "/cluster/backup/x"))
    arguments = importlib.import_module(f"{modules.PACKAGE}.proxmox_backup_job").ARGUMENTS
    assert backup_jobs.OPTIONS.keys() == arguments.keys() - {"id", "state", "absent", "wait", "timeout"}


EVERY: dict[str, Any] = {
    "all": True,
    "bwlimit": 1000,
    "comment": "x",
    "compress": "0",
    "enabled": False,
    "exclude": [101],
    "exclude_path": ["/b c", "/a;d"],
    "fleecing": {"enabled": True, "storage": "local-lvm"},
    "ionice": 8,
    "lockwait": 5,
    "mailnotification": "failure",
    "mailto": ["root", "a@example.com"],
    "mode": "suspend",
    "node": "pve2",
    "notes_template": "{{guestname}} \\n x",
    "notification_mode": "auto",
    "pbs_change_detection_mode": "metadata",
    "performance": {"max_workers": 4},
    "pigz": 1,
    "pool": "prod",
    "protected": True,
    "prune": {"keep_last": 1},
    "quiet": True,
    "remove": False,
    "repeat_missed": True,
    "schedule": "mon..fri 3:15",
    "stdexcludes": False,
    "stop": True,
    "stopwait": 1,
    "storage": "shared",
    "vmids": [100, 101],
    "zstd": 0,
}


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_option_of_a_job_is_set_kept_and_removed(world: World, name: str) -> None:
    base = {"id": "job", "schedule": "1:00", "vmids": [102], "storage": "local"}
    assert world.run("proxmox_backup_job", base)["changed"]
    before = dict(world.cluster.backup_jobs["job"])
    for changed in (True, False):
        result = world.run("proxmox_backup_job", {"id": "job", name: EVERY[name]})
        assert not result["failed"], result["msg"]
        assert result["changed"] is changed
    if name in ("schedule", "enabled", "vmids", "all", "exclude", "pool"):
        return
    for changed in (True, False):
        result = world.run("proxmox_backup_job", {"id": "job", "absent": [name]})
        assert not result["failed"], result["msg"]
        assert result["changed"] is changed
    parameter = backup_jobs.OPTIONS[name][0]
    after = world.cluster.backup_jobs["job"]
    assert {**before, parameter: None} == {**after, parameter: None}
    assert parameter not in after


def test_options_that_only_root_may_set_are_the_others() -> None:
    assert backup_jobs.OPTIONS.keys() - EVERY.keys() == {"script", "tmpdir", "dumpdir"}


def test_every_option_of_a_backup_is_one_of_the_server() -> None:
    server = schema(("POST", "/nodes/pve1/vzdump"))
    ours = {*backup._PARAMETERS.values(), *backup._STRINGS.values(), "notes-template", "mailto", "vmid"}
    assert ours <= server
    # The selection of many, what is for the command line, and what only root may do.
    left = {"all", "exclude", "pool", "node", "stdout", "stop", "quiet", "dumpdir", "tmpdir", "script", "job-id"}
    assert server - ours == left


MODULES = ("proxmox_backup", "proxmox_backup_info", "proxmox_backup_job", "proxmox_restore")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(world: World, name: str) -> None:
    """What `register` keeps is put in for its expression, as Ansible would."""
    world.cluster.guests[101].config["name"] = "web01"
    world.cluster.guests[100].config["name"] = "other"
    world.settle(20.0)
    kept: dict[str, dict[str, Any]] = {}
    for example in yaml.safe_load(importlib.import_module(f"{modules.PACKAGE}.{name}").EXAMPLES):
        ours = [key for key in example if key.startswith("keel.proxmox.")]
        if not ours:
            continue
        text = re.sub(
            r"\{\{ (\w+)\.(backup|backups\[0\])\.volid \}\}",
            lambda match: str(
                kept[match[1]]["backup"]["volid"] if match[2] == "backup" else kept[match[1]]["backups"][0]["volid"]
            ),
            json.dumps(example[ours[0]]),
        )
        result = world.run(ours[0].removeprefix("keel.proxmox."), json.loads(text))
        assert not result["failed"], (example["name"], result["msg"])
        if "register" in example:
            kept[example["register"]] = result


def test_documentation_is_where_it_is_looked_for() -> None:
    assert all((Path(modules.DIRECTORY) / f"{name}.py").is_file() for name in MODULES)
