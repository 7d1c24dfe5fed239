"""The server's English: each phrase against what a real node said, and nothing recorded that is judged wrongly."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect
from ansible_collections.keel.proxmox.plugins.module_utils.phrases import (
    HINTS,
    PHRASES,
    agent_is_silent,
    effect_of,
    effect_of_answer,
    hint_for,
)

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"


def recorded() -> dict[str, tuple[int, str]]:
    """Return status and text of every recorded failure, of requests and of tasks."""
    found = {}
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            exchange = json.loads(line)
            answer = exchange["response"]
            body = answer.get("json") or {}
            name = f"{path.stem}/{exchange['name']}"
            if answer["status"] >= 400:
                errors = "; ".join(f"{key}: {text}" for key, text in (body.get("errors") or {}).items())
                found[name] = (answer["status"], f"{body.get('message') or answer['reason']} {errors}")
            elif exchange["name"].endswith("task-status") and body["data"].get("exitstatus", "OK") != "OK":
                found[name] = (200, body["data"]["exitstatus"])
    return found


RECORDED = recorded()

# Every recorded failure that is not permanent.
PASSING = {
    "single-node/044-node-unknown": Effect.ABSENT,
    "single-node/045-node-unknown-post": Effect.ABSENT,
    "single-node/079-config-nonexistent": Effect.ABSENT,
    "single-node/080-status-nonexistent": Effect.ABSENT,
    "single-node/082-delete-nonexistent": Effect.ABSENT,
    "single-node/212-snap-nonexistent-vm": Effect.ABSENT,
    "single-node/256-clone-unknown-source": Effect.ABSENT,
    "single-node/289-clone-aborted-vm": Effect.ABSENT,
    "single-node/389-delete-again": Effect.ABSENT,
    "cluster/004-wrong-node-config": Effect.ABSENT,
    "cluster/005-wrong-node-status": Effect.ABSENT,
    "cluster/012-wrong-node-put": Effect.ABSENT,
    "cluster/013-wrong-node-delete": Effect.ABSENT,
    "cluster/017-wrong-node-clone": Effect.ABSENT,
    "cluster/027-migrate-nonexistent": Effect.ABSENT,
    "cluster/032-after-migrate-old-node": Effect.ABSENT,
    "cluster/053-during-migrate-stop.task-status": Effect.ABSENT,
    "cluster/081-ha-config-right-after-migrate": Effect.ABSENT,
    "single-node/032-nextid-taken": Effect.STALE,
    "single-node/056-create-existing-vmid": Effect.STALE,
    "single-node/094-reboot-stopped": Effect.STALE,
    "single-node/098-agent-ping-stopped": Effect.STALE,
    "single-node/141-config-put-digest-mismatch": Effect.STALE,
    "single-node/360-migrate-self": Effect.STALE,
    "single-node/529-restore-over-existing-noforce": Effect.STALE,
    "single-node/558-pool-add-again": Effect.STALE,
    "cluster/016-wrong-node-create-existing": Effect.STALE,
    "cluster/023-migrate-self": Effect.STALE,
    "cluster/040-migrate-running-no-online": Effect.STALE,
    "single-node/226-locked-config-put": Effect.CONTENDED,
    "single-node/229-locked-start.task-status": Effect.CONTENDED,
    "single-node/232-locked-snapshot.task-status": Effect.CONTENDED,
    "single-node/235-locked-delete.task-status": Effect.CONTENDED,
    "single-node/237-locked-clone": Effect.CONTENDED,
    "single-node/242-filelock-timeout-config-put": Effect.CONTENDED,
    "single-node/244-filelock-timeout-start.task-status": Effect.CONTENDED,
    "single-node/318-hibernated-put": Effect.CONTENDED,
    "single-node/516-during-backup-put": Effect.CONTENDED,
    "single-node/519-during-backup-snapshot.task-status": Effect.CONTENDED,
    "cluster/050-during-migrate-put": Effect.CONTENDED,
    "cluster/090-nodedown-proxy": Effect.NOT_EXECUTED,
    "cluster/091-nodedown-proxy-post": Effect.NOT_EXECUTED,
    "cluster/093-nodedown-proxy-15s": Effect.NOT_EXECUTED,
    "cluster/201-unreach-get-immediately": Effect.NOT_EXECUTED,
    "cluster/203-unreach-get-10s": Effect.NOT_EXECUTED,
    "cluster/205-unreach-post": Effect.NOT_EXECUTED,
}

# Phrases that no recording has, in the words of the server's sources.
FROM_SOURCES = {
    "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout": Effect.AMBIGUOUS,  # PVE/RESTEnvironment.pm
    "unexpected status": Effect.AMBIGUOUS,  # PVE/Tools.pm, upid_read_status
    "got no worker upid - start worker failed": Effect.NOT_EXECUTED,  # PVE/RESTEnvironment.pm
    "detected modified configuration - file changed by other user? Try again.": Effect.STALE,  # PVE/Tools.pm
    "unable to create VM 101: config file already exists": Effect.STALE,  # PVE/API2/Qemu.pm
    "clone failed: close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/101.conf' failed: File exists": Effect.STALE,
    "VM 101 already running": Effect.STALE,  # PVE/QemuServer.pm, vm_start
    "CT 101 is not running": Effect.STALE,
    "update pools failed: VM 100 is not a pool member": Effect.STALE,  # PVE/API2/Pool.pm
    "snapshot name 'a' already used": Effect.STALE,  # PVE/AbstractConfig.pm
    "Job 'nightly' already exists": Effect.STALE,  # PVE/API2/Backup.pm
    "no such vzdump job": Effect.STALE,  # PVE/API2/Backup.pm
    "Parameter verification failed. id: No such job 'nightly'": Effect.STALE,  # PVE/API2/Backup.pm
    "you can't convert a template to a template": Effect.STALE,  # PVE/API2/Qemu.pm and PVE/API2/LXC.pm, template
    "disk is already at specified size": Effect.STALE,  # PVE/API2/LXC.pm, resize_vm
    "can't migrate running container without --online or --restart": Effect.STALE,  # PVE/API2/LXC.pm
    "Failed to obtain guest migration lock - replication running?": Effect.CONTENDED,  # PVE/API2/Qemu.pm, delsnapshot
    "clone failed: cfs-lock 'storage-nfs' error: got lock request timeout": Effect.CONTENDED,  # PVE/Cluster.pm
    "clone failed: 'storage-nfs'-locked command timed out - aborting": Effect.CONTENDED,  # PVE/Cluster.pm
    "VM 100 qga command 'guest-exec' failed - got timeout": Effect.AMBIGUOUS,  # PVE/QMPClient.pm, cmd
    "QEMU guest agent is not running": Effect.STALE,  # PVE/QemuServer/Agent.pm, assert_agent_available
    "CT is locked (snapshot)": Effect.CONTENDED,  # PVE/AbstractConfig.pm, check_lock
}


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_failure(name: str) -> None:
    status, text = RECORDED[name]
    assert effect_of_answer(status, text) is PASSING.get(name, Effect.PERMANENT), text


@pytest.mark.parametrize("text", FROM_SOURCES)
def test_words_of_the_sources(text: str) -> None:
    assert effect_of(text) is FROM_SOURCES[text]


def test_every_phrase_has_an_example() -> None:
    texts = [text for _status, text in RECORDED.values()] + list(FROM_SOURCES)
    for index, (pattern, _effect) in enumerate(PHRASES):
        alone = [text for text in texts if first_match(text) == index]
        assert alone, f"nothing the server says is judged by {pattern!r}"


def first_match(text: str) -> int | None:
    return next((index for index, (pattern, _effect) in enumerate(PHRASES) if re.search(pattern, text)), None)


def test_recorded_failures_that_a_person_can_mend_have_a_hint() -> None:
    for name in (
        "cluster/099-noquorum-put",
        "cluster/100-noquorum-create",
        "single-node/036-storage-get-unknown",
        "single-node/044-node-unknown",
        "single-node/064-start-bad-bridge.task-status",
        "single-node/240-locked-start-skiplock-token",
    ):
        assert hint_for(RECORDED[name][1]), name
    # In the words of the source, PVE/API2/Qemu.pm, move_disk.
    assert "keep_source" in (hint_for("you can't move a disk with snapshots and delete the source") or "")
    assert all(hint.endswith((".", ").")) for _pattern, hint in HINTS)


@pytest.mark.parametrize(
    ("text", "silent"),
    [
        ("QEMU guest agent is not running", True),
        ("No QEMU guest agent configured", True),
        ("VM 100 is not running", True),
        ("VM 100 qga command 'guest-network-get-interfaces' failed - got timeout", True),
        (
            "VM 100 qga command 'guest-network-get-interfaces' failed - unable to connect to VM 100 qga socket - timeout",
            True,
        ),
        ("Permission check failed (/vms/100, VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted)", False),
    ],
)
def test_an_agent_that_may_answer_later(text: str, silent: bool) -> None:
    assert agent_is_silent(text) is silent
