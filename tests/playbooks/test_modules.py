"""Each module through the real ansible-playbook: foretold, done, repeated; and bad input, one clear message each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests import modules

from .conftest import ENDED, ROOT, Run, Site

# In this order, each on what those before it have left: the life of a VM and of a container.
LIFE: list[tuple[str, str, dict[str, Any]]] = [
    ("clone", "proxmox_vm_clone", {"source": "debian-13", "name": "web01", "vmid": 101}),
    (
        "configure",
        "proxmox_vm_config",
        {
            "name": "web01",
            "cores": 2,
            "memory": 2048,
            "tags": ["web", "prod"],
            "net": {"net0": {"tag": 20}},
            "disks": {"scsi0": {"size": "12G"}},
        },
    ),
    ("start", "proxmox_vm_power", {"name": "web01", "state": "started"}),
    (
        "write inside",
        "proxmox_agent",
        {"name": "web01", "action": "write", "path": "/srv/grüße", "content": "Grüße\n"},
    ),
    (
        "run inside",
        "proxmox_agent",
        {"name": "web01", "action": "exec", "cmd": "touch /srv/ready", "creates": "/srv/ready"},
    ),
    ("snapshot", "proxmox_snapshot", {"name": "web01", "snapname": "before", "description": "before the change"}),
    ("migrate", "proxmox_migrate", {"name": "web01", "target_node": "pve2"}),
    ("snapshot-absent", "proxmox_snapshot", {"name": "web01", "snapname": "before", "state": "absent"}),
    ("stop", "proxmox_vm_power", {"name": "web01", "state": "stopped", "force": "now"}),
    (
        "upload",
        "proxmox_storage_content",
        {"storage": "shared", "src": str(ROOT / "LICENSE"), "filename": "x.iso"},
    ),
    ("remove-file", "proxmox_storage_content", {"storage": "shared", "filename": "x.iso", "state": "absent"}),
    (
        "pool",
        "proxmox_api",
        {"method": "post", "path": "/pools", "params": {"poolid": "tools"}, "creates": "/pools/tools"},
    ),
    (
        "pool-comment",
        "proxmox_api",
        {"method": "put", "path": "/pools/tools", "params": {"comment": "Tools"}, "compare": True},
    ),
    ("ct-clone", "proxmox_vm_clone", {"source": "alpine", "vmid": 201, "name": "cache01", "full": True}),
    (
        "ct-configure",
        "proxmox_vm_config",
        {
            "vmid": 201,
            "cores": 1,
            "memory": 256,
            "swap": 0,
            "tags": ["cache"],
            "net": {"net0": {"tag": 30}},
            "disks": {"rootfs": {"size": "2G"}},
        },
    ),
    ("ct-start", "proxmox_vm_power", {"vmid": 201, "state": "started"}),
    ("ct-migrate", "proxmox_migrate", {"vmid": 201, "target_node": "pve3"}),
    ("ct-stop", "proxmox_vm_power", {"vmid": 201, "state": "stopped"}),
    ("fleet-configure", "proxmox_vm_config", {"vmids": [101, 201], "description": "one of two", "onboot": True}),
    ("fleet-start", "proxmox_vm_power", {"names": ["web*", "cache01"], "state": "started", "parallel": 16}),
    ("fleet-snapshot", "proxmox_snapshot", {"tags": ["PROD"], "snapname": "all", "description": "of all"}),
    ("fleet-snapshot-absent", "proxmox_snapshot", {"with_tags": "prod,web", "snapname": "all", "state": "absent"}),
    ("fleet-migrate", "proxmox_migrate", {"names": ["web01", "cache01"], "target_node": "pve1"}),
    ("fleet-stop", "proxmox_vm_power", {"nodes": ["pve*"], "max": 2, "state": "stopped", "force": "now"}),
    ("disk-move", "proxmox_disk", {"name": "web01", "disk": "scsi0", "storage": "local"}),
    ("ct-disk-move", "proxmox_disk", {"vmid": 201, "disk": "rootfs", "storage": "local-lvm", "keep_source": True}),
    (
        "backup",
        "proxmox_backup",
        {"name": "web01", "storage": "shared", "compress": "zstd", "notes": "of {{ 1 + 1 }}", "max_age": "1h"},
    ),
    (
        "restore",
        "proxmox_restore",
        {"latest": True, "source_vmid": 101, "vmid": 301, "name": "web02", "storage": "shared", "unique": True},
    ),
    ("ct-backup", "proxmox_backup", {"vmid": 201, "storage": "shared", "max_age": 3600}),
    (
        "ct-restore",
        "proxmox_restore",
        {"latest": True, "source_vmid": 201, "name": "cache02", "storage": "shared", "unique": True, "start": True},
    ),
    (
        "backup-job",
        "proxmox_backup_job",
        {
            "id": "nightly",
            "schedule": "mon..fri 22:30",
            "vmids": [101, 201],
            "storage": "shared",
            "prune": {"keep_last": 3, "keep-weekly": 4},
            "notes_template": "{{ '{{guestname}}' }}",
        },
    ),
    ("backup-job-change", "proxmox_backup_job", {"id": "nightly", "all": True, "exclude": [9000], "enabled": False}),
    ("backup-job-absent", "proxmox_backup_job", {"id": "nightly", "state": "absent"}),
    (
        "make",
        "proxmox_vm",
        {
            "name": "db01",
            "node": "pve2",
            "memory": 1024,
            "tags": ["db"],
            "pool": "lab",
            "net": {"net0": {"bridge": "vmbr0"}},
            "disks": {"scsi0": {"storage": "shared", "size": 2}},
            "power": "started",
        },
    ),
    ("change", "proxmox_vm", {"name": "db01", "cores": 2, "tags": ["db", "prod"], "power": "stopped", "force": True}),
    ("make-template", "proxmox_vm", {"name": "db01", "state": "template"}),
    ("hang-on", "proxmox_vm", {"vmid": 110, "name": "db02", "clone": "db01", "cores": 1}),
    ("unmake", "proxmox_vm", {"vmid": 110, "name": "db02", "state": "absent"}),
    ("unmake-template", "proxmox_vm", {"name": "db01", "state": "absent", "allow_template": True}),
]


# What only looks, at what the life above has left.
LOOKS: list[tuple[str, str, dict[str, Any]]] = [
    ("look at a guest", "proxmox_vm_info", {"name": "web01", "facts": ["status", "config", "snapshots", "agent"]}),
    ("look at all guests", "proxmox_vm_info", {}),
    ("look at files", "proxmox_storage_content", {"storage": "shared", "content": "vztmpl"}),
    ("look for templates", "proxmox_template_info", {"available": True}),
    ("read an endpoint", "proxmox_api", {"path": "/cluster/options"}),
    ("look at nodes", "proxmox_node_info", {}),
    ("look at the cluster", "proxmox_cluster_info", {}),
    ("look at measurements", "proxmox_metrics_info", {"vmid": 101, "metrics": ["mem"], "timeframe": "day"}),
    ("look at backups", "proxmox_backup_info", {"storage": "shared", "newer_than": "1d"}),
    ("look at tasks", "proxmox_task_info", {"task_type": "vzdump", "user": "backup@pve"}),
    ("look at one task and locks", "proxmox_task_info", {"upid": ENDED, "locks": True}),
    ("wait for a task", "proxmox_task", {"upid": ENDED, "state": "finished"}),
    ("stop a task", "proxmox_task", {"upid": ENDED, "state": "stopped"}),
    ("look at a lock", "proxmox_lock", {"vmid": 101}),
    ("look for room", "proxmox_capacity_info", {"memory": 2048, "cores": 2, "disk": "10G"}),
]


def task(name: str, module: str, options: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    return {"name": name, f"keel.proxmox.{module}": options, **keywords}


def summaries(run: Run, name: str) -> list[str]:
    return [call["summary"] for call in run.one(name).result["calls"]]


def test_every_module_has_a_life() -> None:
    assert {module for _name, module, _options in [*LIFE, *LOOKS]} == set(modules.names())


@pytest.mark.parametrize(("name", "module", "options"), LIFE, ids=[step[0] for step in LIFE])
def test_foretold_done_repeated(site: Site, name: str, module: str, options: dict[str, Any]) -> None:
    tasks = [task(name, module, options)]
    before = site.writes()

    foretold = site.play(tasks, "--check", "--diff")
    assert foretold.code == 0, foretold.stdout + foretold.stderr
    assert site.writes() == before, "check mode has written"
    assert foretold.one(name).changed
    assert "changed=1" in foretold.stdout
    assert {line[:1] for line in foretold.stdout.splitlines()} >= {"-", "+"}, "the diff is shown"

    done = site.play(tasks)
    assert done.code == 0, done.stdout + done.stderr
    assert done.one(name).changed
    assert summaries(done, name) == summaries(foretold, name)
    after = site.writes()
    assert after > before

    again = site.play([*tasks, task("dry", module, options, check_mode=True)])
    assert again.code == 0, again.stdout + again.stderr
    assert not again.one(name).changed
    assert not again.one("dry").changed
    assert "changed=0" in again.stdout
    assert site.writes() == after


def test_looking(site: Site) -> None:
    """It changes nothing, in check mode neither, and sees the same both times."""
    before = site.writes()
    plain, check = (site.play([task(*look) for look in LOOKS], *arguments) for arguments in ((), ("--check",)))
    assert (plain.code, check.code) == (0, 0), plain.stdout + plain.stderr
    assert site.writes() == before
    for name, _module, _options in LOOKS:
        assert not plain.one(name).changed
        assert plain.one(name).result.keys() == check.one(name).result.keys()


@dataclass(frozen=True)
class Bad:
    """Options that cannot work, and what the one message must say."""

    name: str
    module: str
    options: dict[str, Any]
    says: tuple[str, ...]


BAD = [
    Bad(
        "typo in an option",
        "proxmox_vm_power",
        {"vmid": 9000, "state": "stopped", "nod": "pve1"},
        ("nod", "Supported parameters"),
    ),
    Bad("no guest named", "proxmox_vm_power", {"state": "started"}, ("vmid", "name", "with_tags")),
    Bad("one and several", "proxmox_vm_power", {"vmid": 9000, "names": ["x"], "state": "started"}, ("vmid|names",)),
    Bad("no guest has the tag", "proxmox_vm_power", {"tags": ["no-such"], "state": "stopped"}, ("with_tags no-such",)),
    Bad(
        "more than allowed",
        "proxmox_vm_power",
        {"vmids": [9000, 9001], "max": 1, "state": "stopped"},
        ("max_guests (1)",),
    ),
    Bad("one of a fleet", "proxmox_vm_power", {"vmids": [9000, 9001], "state": "started"}, ("2 of 2", "is a template")),
    Bad("wrong type", "proxmox_vm_power", {"vmid": "one", "state": "started"}, ("vmid", "int")),
    Bad("state unknown", "proxmox_vm_power", {"vmid": 9000, "state": "on"}, ("state", "started")),
    Bad("guest unknown by name", "proxmox_vm_power", {"name": "nobody", "state": "started"}, ("nobody",)),
    Bad("guest unknown by VMID", "proxmox_vm_power", {"vmid": 4711, "state": "started"}, ("4711",)),
    Bad("template started", "proxmox_vm_power", {"vmid": 9000, "state": "started"}, ("template",)),
    Bad("source unknown", "proxmox_vm_clone", {"source": "debain-13", "name": "x1"}, ("debain-13",)),
    Bad(
        "name refused",
        "proxmox_vm_clone",
        {"source": "debian-13", "name": "web_01"},
        ("web_01", "name of a guest", "letters, digits and hyphens"),
    ),
    Bad(
        "storage unknown on clone",
        "proxmox_vm_clone",
        {"source": "debian-13", "name": "x2", "full": True, "storage": "nowhere"},
        ("nowhere",),
    ),
    Bad("pool unknown", "proxmox_vm_clone", {"source": "debian-13", "name": "x3", "pool": "nopool"}, ("nopool",)),
    Bad(
        "node unknown on clone",
        "proxmox_vm_clone",
        {"source": "debian-13", "name": "x4", "target_node": "pve9"},
        ("pve9",),
    ),
    Bad(
        "snapshot of source unknown",
        "proxmox_vm_clone",
        {"source": "debian-13", "name": "x5", "snapname": "no"},
        ("no",),
    ),
    Bad("unknown key", "proxmox_vm_config", {"vmid": 9000, "options": {"nonsense": "1"}}, ("nonsense",)),
    Bad("disk shrunk", "proxmox_vm_config", {"vmid": 9000, "disks": {"scsi0": {"size": "1G"}}}, ("scsi0", "shr")),
    Bad(
        "storage unknown",
        "proxmox_vm_config",
        {"vmid": 9000, "disks": {"scsi5": {"storage": "nowhere", "size": "1G"}}},
        ("nowhere",),
    ),
    Bad(
        "file to upload missing",
        "proxmox_storage_content",
        {"storage": "shared", "src": "/nowhere.iso"},
        ("/nowhere.iso", "No such file"),
    ),
    Bad("storage of files unknown", "proxmox_storage_content", {"storage": "nowhere"}, ("nowhere", "Datastore.Audit")),
    Bad("which node", "proxmox_storage_content", {"storage": "local"}, ("pve1, pve2, pve3", "say in node")),
    Bad(
        "extension unknown",
        "proxmox_storage_content",
        {"storage": "shared", "url": "https://example.com/image.bin"},
        ("image.bin", "content"),
    ),
    Bad(
        "checksum of no kind",
        "proxmox_storage_content",
        {"storage": "shared", "url": "https://example.com/a.iso", "checksum": "sha256:zz"},
        ("sha256:zz", "sha256:DIGITS"),
    ),
    Bad(
        "file is nowhere",
        "proxmox_storage_content",
        {"storage": "shared", "filename": "a.iso"},
        ("shared:iso/a.iso is not there", "src, url or template"),
    ),
    Bad(
        "program and arguments twice",
        "proxmox_agent",
        {"vmid": 9000, "action": "exec", "cmd": "a", "argv": ["a"]},
        ("argv",),
    ),
    Bad("option of another action", "proxmox_agent", {"vmid": 9000, "action": "ping", "path": "/x"}, ("path", "read")),
    Bad("agent of a stopped VM", "proxmox_agent", {"vmid": 9000, "action": "ping"}, ("VM 9000", "stopped")),
    Bad("agent of a container", "proxmox_agent", {"vmid": 9001, "action": "ping"}, ("CT 9001", "container")),
    Bad("no UPID", "proxmox_task", {"upid": "UPID:x", "state": "stopped"}, ("UPID:x",)),
    Bad(
        "task unknown",
        "proxmox_task",
        {"upid": ENDED.replace("vzdump", "other"), "state": "stopped"},
        ("knows no task",),
    ),
    Bad("no moment", "proxmox_task_info", {"since": "yesterday"}, ("since", "yesterday")),
    Bad("lock of nobody", "proxmox_lock", {"vmid": 4711}, ("4711",)),
    Bad(
        "waiting for what is stopped",
        "proxmox_vm_power",
        {"vmid": 9000, "state": "stopped", "wait_for": "ip"},
        ("wait_for",),
    ),
    Bad("endpoint unknown", "proxmox_api", {"path": "/cluster/nothing"}, ("501", "/cluster/nothing")),
    Bad("path with parameters", "proxmox_api", {"path": "/cluster/resources?type=vm"}, ("parameters go into params",)),
    Bad(
        "a list to compare with",
        "proxmox_api",
        {"method": "put", "path": "/pools", "params": {"poolid": "a"}, "compare": True},
        ("/pools", "read_path"),
    ),
    Bad(
        "nothing to compare with",
        "proxmox_api",
        {"method": "put", "path": "/pools/none", "params": {"comment": "x"}, "compare": True},
        ("/pools/none", "does not exist", "creates"),
    ),
    Bad(
        "a disk that would be allocated again",
        "proxmox_api",
        {
            "method": "put",
            "path": "/nodes/pve1/qemu/9000/config",
            "params": {"scsi0": "shared:4"},
            "compare": True,
        },
        ("scsi0", "allocate another disk"),
    ),
    Bad("node unknown", "proxmox_migrate", {"vmid": 9000, "target_node": "pve9"}, ("pve9",)),
    Bad("nothing asked of a disk", "proxmox_disk", {"vmid": 9000, "disk": "scsi0"}, ("scsi0", "storage", "state")),
    Bad("no slot for disks", "proxmox_disk", {"vmid": 9000, "disk": "net0", "state": "absent"}, ("net0", "no slot")),
    Bad("disk moved nowhere", "proxmox_disk", {"vmid": 9000, "disk": "scsi0", "storage": "nowhere"}, ("nowhere",)),
    Bad("snapshot unknown", "proxmox_snapshot", {"vmid": 9000, "snapname": "never", "state": "rollback"}, ("never",)),
    Bad("no backup named", "proxmox_backup", {"vmid": 9000, "state": "absent"}, ("volid",)),
    Bad("no storage for a backup", "proxmox_backup", {"vmid": 9000}, ("storage",)),
    Bad(
        "age without a unit that is known",
        "proxmox_backup",
        {"vmid": 9000, "storage": "x", "max_age": "1y"},
        ("1y", "24h"),
    ),
    Bad(
        "retention unknown",
        "proxmox_backup",
        {"vmid": 9000, "storage": "x", "prune": {"keep": 1}},
        ("keep", "keep-last"),
    ),
    Bad(
        "backup unknown",
        "proxmox_restore",
        {"volid": "shared:backup/vzdump-qemu-777-2026_01_01-00_00_00.vma", "vmid": 777},
        ("no backup", "777", "Datastore.AllocateSpace"),
    ),
    Bad(
        "no backup's name",
        "proxmox_restore",
        {"volid": "shared:iso/a.iso", "vmid": 777},
        ("shared:iso/a.iso", "no backup"),
    ),
    Bad("newest of nobody", "proxmox_restore", {"latest": True, "vmid": 777}, ("source_vmid",)),
    Bad("job without a schedule", "proxmox_backup_job", {"id": "new", "all": True}, ("new", "schedule")),
    Bad(
        "job about two things",
        "proxmox_backup_job",
        {"id": "new", "schedule": "1:00", "pool": "web", "vmids": [9000]},
        ("vmids and pool",),
    ),
    Bad("option of a job unknown", "proxmox_backup_job", {"id": "new", "absent": ["nonsense"]}, ("nonsense",)),
    Bad(
        "two origins",
        "proxmox_vm",
        {"name": "x6", "clone": "debian-13", "archive": "local:backup/x"},
        ("clone and archive", "two ways"),
    ),
    Bad("nowhere to make it", "proxmox_vm", {"name": "x7", "cores": 1}, ("x7", "node", "clone")),
    Bad("node unknown on making", "proxmox_vm", {"name": "x8", "node": "pve9"}, ("pve9", "pve1, pve2, pve3")),
    Bad("made of no system", "proxmox_vm", {"name": "x9", "node": "pve1", "type": "lxc"}, ("ostemplate",)),
    Bad("agent never asked", "proxmox_vm", {"vmid": 101, "wait_for": "ip", "agent": False}, ("agent", "not enabled")),
    Bad("kind of another", "proxmox_vm", {"vmid": 102, "type": "lxc"}, ("VM 102", "CT is wanted")),
    Bad(
        "name of another",
        "proxmox_vm",
        {"vmid": 102, "name": "x10", "state": "absent"},
        ("'busy'", "x10", "not deleted"),
    ),
    Bad("running, deleted", "proxmox_vm", {"vmid": 102, "state": "absent"}, ("running", "force: true")),
    Bad(
        "template deleted", "proxmox_vm", {"name": "debian-13", "state": "absent"}, ("template", "allow_template: true")
    ),
    Bad(
        "template with linked clones deleted",
        "proxmox_vm",
        {"vmid": 9000, "state": "absent", "allow_template": True},
        ("linked clone", "base-9000-disk-0"),
    ),
    Bad(
        "protected, deleted", "proxmox_vm", {"vmid": 104, "state": "absent", "force": True}, ("protected", "protection")
    ),
    Bad("running, template", "proxmox_vm", {"vmid": 102, "state": "template"}, ("runs", "power=stopped")),
    Bad(
        "running, template and started",
        "proxmox_vm",
        {"vmid": 102, "state": "template", "power": "started"},
        ("exclude",),
    ),
    Bad("privileged now", "proxmox_vm", {"vmid": 9001, "unprivileged": False}, ("unprivileged", "cannot change")),
    Bad(
        "wrong secret",
        "proxmox_vm_power",
        {"vmid": 9000, "state": "stopped", "api_token_secret": "0" * 8},
        ("401", "token"),
    ),
    Bad(
        "certificate of another authority",
        "proxmox_vm_power",
        {"vmid": 9000, "state": "stopped", "ca_path": "other-ca.pem"},
        ("certificate",),
    ),
    Bad(
        "CA file missing",
        "proxmox_vm_power",
        {"vmid": 9000, "state": "stopped", "ca_path": "/nowhere.pem"},
        ("/nowhere.pem",),
    ),
    Bad(
        "fingerprint of another",
        "proxmox_vm_power",
        {"vmid": 9000, "state": "stopped", "api_fingerprint": "00:" * 31 + "00"},
        ("fingerprint",),
    ),
    Bad("nobody listens", "proxmox_vm_power", {"vmid": 9000, "state": "stopped", "api_port": 1}, ("connect",)),
    Bad(
        "host unknown",
        "proxmox_vm_power",
        {"vmid": 9000, "state": "stopped", "api_host": ["pve.invalid"]},
        ("pve.invalid",),
    ),
]


def inhabited(site: Site) -> None:
    """Have a guest that runs, a linked clone and a protected one, if they are not there."""
    cluster = site.cluster
    if 102 in cluster.guests:
        return
    with cluster.scheduler.lock:
        cluster.add_vm(102, "busy", disk="shared:1", running=True)
        cluster.add_vm(104, "precious", disk="shared:1", config={"protection": 1})
    clone = {"vmid": 103, "clone": "debian-13"}
    run = site.play([task("a linked clone", "proxmox_vm", clone)])
    assert run.code == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def refused(site: Site) -> Run:
    """All bad tasks in one run of ansible-playbook."""
    inhabited(site)
    before, seen = site.cluster.snapshot(), site.writes()
    site.directory.joinpath("other-ca.pem").write_text(OTHER_CA, encoding="ascii")
    run = site.play([task(bad.name, bad.module, bad.options, ignore_errors=True) for bad in BAD])
    assert run.code == 0, run.stdout + run.stderr
    accepted = [entry for entry in site.cluster.log.writes()[seen:] if entry.status < 400]
    assert not accepted, "the server has done something for bad input"
    assert site.cluster.snapshot() == before
    return run


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_bad_input(refused: Run, bad: Bad) -> None:
    result = refused.one(bad.name)
    assert result.outcome == "failed", result.result
    assert not result.changed
    for text in bad.says:
        assert text.lower() in result.message.lower()
    assert "Traceback" not in result.message
    assert len(result.message) < 600, "one clear message"
    assert "0" * 8 not in result.message or bad.name != "wrong secret"


# Of an authority that has signed nothing here; valid for a hundred years.
OTHER_CA = """\
-----BEGIN CERTIFICATE-----
MIIBkDCCATWgAwIBAgIUR7gga9uyO+aDC6fA1ThtrMVddaQwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRYW5vdGhlciBhdXRob3JpdHkwIBcNMjYxMTIxMDMzMDIxWhgP
MjEyNjEwMjgwMzMwMjFaMBwxGjAYBgNVBAMMEWFub3RoZXIgYXV0aG9yaXR5MFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBD1QzaTH0U7MMohnhOTEyYl7nmyNDRRB
FnzSFXSoabcSdAAEcDU0b2GtSrJomxXuEYvXaRP+LaqOqed06xgvE6NTMFEwHQYD
VR0OBBYEFFLJXyVqeQocYkRO3e181AodZBuOMB8GA1UdIwQYMBaAFFLJXyVqeQoc
YkRO3e181AodZBuOMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIh
ALEOb5jqq3n/fLXOKlbOdy3XBtdh5X+uNPucVHPSXLw4AiEAwpukHw30WTlPtR95
AWFqO52nZg9PSxcEir3Zxq+bPW8=
-----END CERTIFICATE-----
"""
