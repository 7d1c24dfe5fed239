# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's English, matched in this one place.

Every status above 400 of Proxmox VE means many things, so the text decides. Each phrase is a regular expression that is
searched in the reason, the message or a task's exit status; the first that matches wins.
"""

from __future__ import annotations

import re

from .errors import Effect

PHRASES: tuple[tuple[str, Effect], ...] = (
    # The worker is forked before the list of active tasks is locked, so the task runs (PVE/RESTEnvironment.pm, fork_worker).
    (r"can't lock file '/var/log/pve/tasks/\.active\.lock'", Effect.AMBIGUOUS),
    (r"^unexpected status$", Effect.AMBIGUOUS),
    (r"got no worker upid", Effect.NOT_EXECUTED),
    # The agent may still do it (PVE/QMPClient.pm, cmd).
    (r"qga command '[^']*' failed - got timeout", Effect.AMBIGUOUS),
    # Nothing was passed on to it (PVE/QemuServer/Agent.pm, assert_agent_available).
    (r"QEMU guest agent is not running", Effect.STALE),
    (r"checksum mismatch \(file change by other user\?\)", Effect.STALE),
    (r"detected modified configuration", Effect.STALE),
    # Somebody else took the VMID (PVE/AbstractConfig.pm, create_and_lock_config; PVE/Tools.pm, file_set_contents).
    (r"(VM|CT) \d+ already exists", Effect.STALE),
    (r"unable to create (VM|CT) \d+: config file already exists", Effect.STALE),
    (r"close \(rename\) atomic file '[^']*' failed: File exists", Effect.STALE),
    (r"(VM|CT) \d+ (is )?already running", Effect.STALE),
    (r"(VM|CT) \d+ (is )?not running", Effect.STALE),
    (r"(VM|CT) \d+ is already a pool member", Effect.STALE),
    (r"(VM|CT) \d+ is not a pool member", Effect.STALE),
    (r"target is local node", Effect.STALE),
    # Somebody else made or removed the job meanwhile (PVE/API2/Backup.pm).
    (r"Job '[^']*' already exists", Effect.STALE),
    (r"no such vzdump job|No such job '", Effect.STALE),
    (r"you can't convert a template to a template", Effect.STALE),
    # It was started after it was looked at (PVE/API2/Qemu.pm and PVE/API2/LXC.pm, migrate_vm).
    (r"can't migrate running (VM|container) without", Effect.STALE),
    (r"snapshot name '[^']*' already used", Effect.STALE),
    (r"disk is already at specified size", Effect.STALE),
    (r"Configuration file '[^']*' does not exist", Effect.ABSENT),
    (r"unable to find configuration file for (VM|CT) \d+", Effect.ABSENT),
    (r"hostname lookup '[^']*' failed", Effect.ABSENT),
    (r"can't lock file '[^']*' - got timeout", Effect.CONTENDED),
    (r"cfs-lock '[^']*' error: got lock request timeout", Effect.CONTENDED),
    (r"'[^']*'-locked command timed out", Effect.CONTENDED),
    # Deleting a snapshot waits ten seconds for a replication or migration (PVE/API2/Qemu.pm, delsnapshot).
    (r"Failed to obtain guest migration lock", Effect.CONTENDED),
    (r"(VM|CT) is locked \(", Effect.CONTENDED),
)

# 595: the proxy could not connect to the node; 596 to 599: connected, then no whole answer (PVE/APIServer/AnyEvent.pm).
STATUSES = {
    595: Effect.NOT_EXECUTED,
    596: Effect.AMBIGUOUS,
    597: Effect.AMBIGUOUS,
    598: Effect.AMBIGUOUS,
    599: Effect.AMBIGUOUS,
}

# A proxy in front of the cluster lost its backend: nobody knows how far the request came.
GATEWAY_STATUSES = frozenset({502, 503, 504})

HINTS: tuple[tuple[str, str], ...] = (
    (
        r"the agent is in frozen state",
        "The file systems of the guest are frozen; thaw them first, with action=thaw of proxmox_agent.",
    ),
    (
        r"Command guest-\S+ has been disabled",
        "The configuration of the agent inside the guest forbids this (qemu-ga --dump-conf tells which commands are blocked).",
    ),
    (r"no quorum|cluster not ready", "The cluster has no quorum; bring back the missing nodes (pvecm status)."),
    (
        r"unable to open file '/etc/pve/[^']*' - Permission denied",
        "The cluster file system is read-only, most often because the cluster has no quorum (pvecm status).",
    ),
    (r"hostname lookup '[^']*' failed", "There is no node of that name in this cluster."),
    (
        r"storage '[^']*' does not exist",
        "There is no storage of that name; proxmox_node_info lists those of each node.",
    ),
    (
        r"bridge '[^']*' does not exist",
        "The node that the guest is on has no bridge of that name; its Network page and 'ip link' list those that it has.",
    ),
    (
        r"can't move a disk with snapshots and delete the source",
        "Set keep_source: true, or remove the snapshots that hold the disk.",
    ),
    (
        r"Only root may use this option|only root can set",
        "Only root@pam with a password may do this, no API token may.",
    ),
    (r"need proper ticket", "This needs a user with a password; API tokens may not use it."),
    (r"no such token|invalid token value", "The API token is unknown or its secret is wrong."),
    (
        r"is not most recent snapshot",
        "On this storage the server rolls back to the newest snapshot only; remove the newer ones first.",
    ),
    (r"^migration aborted$", "The guest is where it was; the log of the task tells why."),
    (
        r"^migration problems$",
        "The guest may be on the other node nevertheless; the log of the task tells what failed.",
    ),
    (
        # PVE/Storage/LVMPlugin.pm, LvmThinPlugin.pm and Plugin.pm, rename_volume and activate_volume.
        r"no such volume|Failed to find logical volume|lvrename '[^']*' .*error|rename '[^']*' to '[^']*' failed - No such file",
        "The configuration names a volume that the storage has not. One that was being handed over when the cluster lost its "
        "quorum has the name of its new owner already: look for it with 'pvesm list STORAGE', and rename it back on the storage.",
    ),
    (r"out of space|No space left on device|insufficient free space", "The storage is full."),
)

# An agent that may answer later: the guest still starts, or is gone by now (PVE/QemuServer/Agent.pm, assert_agent_available).
_SILENT = (
    r"QEMU guest agent is not running|No QEMU guest agent configured|(VM|CT) \d+ is not running|"
    r"qga command '[^']*' failed - (got timeout|unable to connect)"
)


def agent_is_silent(text: str) -> bool:
    """Tell whether a question was refused because no agent answers at the moment."""
    return re.search(_SILENT, text) is not None


def effect_of(text: str) -> Effect:
    """Return what a failure with this text left behind; what no phrase describes is permanent."""
    return next((effect for pattern, effect in PHRASES if re.search(pattern, text)), Effect.PERMANENT)


def effect_of_answer(status: int, text: str) -> Effect:
    """Return what an HTTP answer of an unsuccessful request left behind."""
    if status in STATUSES:
        return STATUSES[status]
    if status in GATEWAY_STATUSES:
        return Effect.AMBIGUOUS
    return effect_of(text)


# What a request needs of which the server does not tell what was missing, for one of several would do (the schema's "or").
DENIALS: tuple[tuple[str, str], ...] = (
    (
        r"POST /nodes/[^/]+/(qemu|lxc)/\d+/clone",
        "Cloning needs VM.Allocate on /vms/VMID of the new guest, or on /pool/POOL where it is put into a pool.",
    ),
    (
        r"POST /nodes/[^/]+/(qemu|lxc)",
        "Making a guest needs VM.Allocate on /vms/VMID of the new guest, or on /pool/POOL where it is put into a pool; "
        "restoring over one that exists needs VM.Backup on /vms/VMID.",
    ),
    (
        r"POST /nodes/[^/]+/storage/[^/]+/download-url",
        "Fetching from a web server needs Sys.AccessNetwork on /nodes/NODE, or Sys.Audit and Sys.Modify on /.",
    ),
)


# What is said of an object that does not exist, by one endpoint or another (all with a status of 400 or 500).
_ABSENCE = (
    r"does not exist|[Nn]o such|not found|[Uu]nknown (?:interface|rule)|not HA managed|no (?:rule|snapshot|group)\b"
)


def tells_absence(text: str) -> bool:
    """Tell whether an error says that the object that was asked for does not exist."""
    return re.search(_ABSENCE, text) is not None


def hint_for(text: str) -> str | None:
    """Return what a person can do about a failure with this text, where that is known."""
    return next((hint for pattern, hint in HINTS if re.search(pattern, text)), None)


def hint_for_denial(request: str, text: str) -> str | None:
    """Return which privileges a request needs that was refused without a word about which was missing."""
    if not re.fullmatch(r"Permission check failed\.?", text):
        return None
    return next((hint for pattern, hint in DENIALS if re.fullmatch(pattern, request)), None)
