#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_backup
short_description: Back up guests of Proxmox VE now, and look after a backup
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Makes a backup of a VM or a container on a storage, now, wherever the guest is, and waits until it is there.
  - A backup is a deed, so every run makes one, unless O(max_age) or O(once) says which backup that is there is as good as a new
    one.
  - With O(volid), sets the notes and the protection of a backup that is there, or removes it.
  - Never makes two backups in one run. When the answer to the request is lost, the backup that was begun is found and waited for.
  - A node works on one backup at a time. One that must wait for others, or for the guest's lock, is waited for as long as
    O(timeout) allows.
notes:
  - For a new backup, needs C(VM.Audit) and C(VM.Backup) on C(/vms/VMID), and C(Datastore.AllocateSpace) on C(/storage/STORAGE).
  - O(prune) also needs C(Datastore.Allocate) on C(/storage/STORAGE); O(bwlimit), O(ionice) and O(performance) need C(Sys.Modify) on
    C(/).
  - With O(volid), needs C(Datastore.AllocateSpace) on C(/storage/STORAGE) and C(VM.Backup) on C(/vms/VMID), and without O(node)
    also C(Datastore.Audit) on C(/storage/STORAGE).
  - A backup that was begun before by somebody else and still runs is waited for. It counts for O(max_age) when it is done.
  - What O(notes), O(protected), O(prune) and the other options say is for a new backup; one that counts already is left as it is.
options:
  vmid:
    description: VMID of the guest. One of O(vmid), O(name) and O(volid) is needed.
    type: int
  name:
    description:
      - Name of the guest. If several guests have it, nothing is done and the task fails.
      - Given with O(vmid), the guest must have this name, or nothing is done and the task fails.
    type: str
  volid:
    description:
      - A backup that is there, by its name. Then only O(state), O(notes), O(protected) and O(node) go with it.
    type: str
  node:
    description:
      - Node on which the guest probably is. With O(vmid), it saves the search in the cluster, one request.
      - With O(volid), the node that sees the backup, which saves the search in the cluster.
      - Left out, or when the guest is on another node by now, it is searched.
    type: str
  type:
    description:
      - Kind of the guest, a VM (V(qemu)) or a container (V(lxc)). With O(vmid) and O(node), it saves containers the search.
      - Left out, the kind is found out.
    type: str
    choices: [qemu, lxc]
  state:
    description:
      - V(present) makes a backup of the guest, or sees that O(volid) is as asked for.
      - V(absent) removes O(volid).
    type: str
    default: present
    choices: [present, absent]
  storage:
    description: Storage for a new backup; needed for one.
    type: str
  max_age:
    description:
      - A backup of this guest on O(storage) that was begun no longer ago than this is as good as a new one, and none is made.
      - Seconds, or a time like V(30m), V(24h), V(7d) or V(1d12h).
      - Left out, no backup is as good as a new one.
    type: str
  once:
    description:
      - Whether a backup of this guest on O(storage) with the same O(notes), however old, is as good as a new one. Of notes with
        several lines the first counts.
    type: bool
    default: false
  notes:
    description:
      - Notes of the backup. In those of a new one the server replaces V({{guestname}}), V({{node}}), V({{vmid}}) and
        V({{cluster}}).
      - Left out, a new backup has none, and those of O(volid) stay. An empty text removes those of O(volid).
    type: str
  protected:
    description:
      - Whether the backup is protected from removal, by hand and by pruning.
      - Left out, a new backup is not, and O(volid) stays as it is.
      - With O(state=absent), V(false) removes a protected backup too.
    type: bool
  prune:
    description:
      - V(keep_last), V(keep_hourly), V(keep_daily), V(keep_weekly), V(keep_monthly) and V(keep_yearly), each with a number, or
        V(keep_all). What of the guest's older backups is kept on O(storage).
      - Left out, the storage's own settings hold, and without any, all are kept.
    type: dict
  remove:
    description:
      - Whether older backups that O(prune) or the storage's settings do not keep are removed.
      - With V(false), a new backup fails when there are as many as may be.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(true) unless it says otherwise.
    type: bool
  mode:
    description:
      - How a running guest is backed up. With V(snapshot) it goes on running, with V(suspend) it is paused for a while, with
        V(stop) it is shut down and started again, which is the most consistent.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(snapshot) unless it says otherwise.
    type: str
    choices: [snapshot, suspend, stop]
  compress:
    description:
      - How the archive is packed; V("0") not at all. A Proxmox Backup Server packs by itself.
      - Left out, C(/etc/vzdump.conf) of the node decides, not at all unless it says otherwise.
    type: str
    choices: ["0", gzip, lzo, zstd]
  zstd:
    description:
      - Threads of V(zstd); V(0) takes half of the cores.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(1) unless it says otherwise.
    type: int
  pigz:
    description:
      - With V(gzip), V(1) packs with half of the cores and more with that many threads; V(0) packs with one.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(0) unless it says otherwise.
    type: int
  bwlimit:
    description:
      - Bandwidth limit in KiB/s; V(0) is none. Needs C(Sys.Modify) on C(/).
      - Left out, C(/etc/vzdump.conf) of the node decides, none unless it says otherwise.
    type: int
  ionice:
    description:
      - Priority of the reading, from V(0) to V(7), or V(8) for idle times only. Needs C(Sys.Modify) on C(/).
      - Left out, C(/etc/vzdump.conf) of the node decides, V(7) unless it says otherwise.
    type: int
  performance:
    description:
      - V(max_workers) for VMs, and V(pbs_entries_max) for containers on a Proxmox Backup Server. Needs C(Sys.Modify) on C(/).
      - Left out, C(/etc/vzdump.conf) of the node decides.
    type: dict
  fleecing:
    description:
      - V(enabled) and V(storage); blocks that a VM overwrites meanwhile are kept there, so that a slow storage for backups does not
        slow it down. Needs C(Datastore.AllocateSpace) on that storage.
      - Left out, C(/etc/vzdump.conf) of the node decides, off unless it says otherwise.
    type: dict
  exclude_path:
    description:
      - Paths in a container that are left out, as shell patterns.
      - Left out, only those that C(/etc/vzdump.conf) of the node names.
    type: list
    elements: str
  stdexcludes:
    description:
      - Whether temporary files in a container are left out.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(true) unless it says otherwise.
    type: bool
  stopwait:
    description:
      - Minutes that a guest gets to shut down with O(mode=stop).
      - Left out, C(/etc/vzdump.conf) of the node decides, V(10) unless it says otherwise.
    type: int
  lockwait:
    description:
      - Minutes that the server waits for other backups on the node, of which one runs at a time.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(180) unless it says otherwise.
    type: int
  notification_mode:
    description:
      - Whether the server's notification system tells of it, or mail to O(mailto); V(auto) sends mail where O(mailto) is set.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(auto) unless it says otherwise.
    type: str
    choices: [auto, legacy-sendmail, notification-system]
  mailto:
    description:
      - Addresses or users that get mail.
      - Left out, C(/etc/vzdump.conf) of the node decides.
    type: list
    elements: str
  mailnotification:
    description:
      - When mail is sent.
      - Left out, C(/etc/vzdump.conf) of the node decides, V(always) unless it says otherwise.
    type: str
    choices: [always, failure]
  pbs_change_detection_mode:
    description:
      - How a Proxmox Backup Server finds what has changed in a container.
      - Left out, C(/etc/vzdump.conf) of the node decides.
    type: str
    choices: [legacy, data, metadata]
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_backup_info
  - module: keel.proxmox.proxmox_backup_job
  - module: keel.proxmox.proxmox_restore
"""

EXAMPLES = r"""
- name: Back up a guest, unless that was done in the last day
  keel.proxmox.proxmox_backup:
    name: web01
    storage: local
    compress: zstd
    max_age: 24h

- name: Exactly one backup before an upgrade, kept until somebody unprotects it
  keel.proxmox.proxmox_backup:
    name: web01
    storage: local
    notes: before the upgrade to 2.0
    once: true
    protected: true
  register: before

- name: It need not be kept any more
  keel.proxmox.proxmox_backup:
    volid: "{{ before.backup.volid }}"
    protected: false

- name: It is not needed any more
  keel.proxmox.proxmox_backup:
    volid: "{{ before.backup.volid }}"
    state: absent
"""

RETURN = r"""
guest:
  description: The guest as observed afterwards, in check mode as it is now.
  returned: always for a guest, unless it was not found
  type: dict
  contains:
    vmid:
      description: VMID.
      type: int
    name:
      description: Name.
      type: str
    node:
      description: Node on which it is.
      type: str
    type:
      description: V(qemu) or V(lxc).
      type: str
    status:
      description: V(running) or V(stopped). A paused guest is running, a hibernated one stopped.
      type: str
    qmpstatus:
      description: State by QEMU's own account, for example V(running), V(paused) or V(prelaunch).
      type: str
    lock:
      description: Lock, V(null) where there is none.
      type: str
    template:
      description: Whether it is a template.
      type: bool
    tags:
      description: Tags.
      type: list
      elements: str
    pool:
      description: Pool, where the guest had to be searched in the cluster; otherwise V(null).
      type: str
    ha_state:
      description: State in high availability, V(null) where that does not manage the guest.
      type: str
    uptime:
      description: Seconds since it was started.
      type: int
  sample: {vmid: 101, name: web01, node: pve1, type: qemu, status: running, qmpstatus: running, lock: null, template: false,
    tags: [prod], pool: null, ha_state: null, uptime: 3600}
backup:
  description:
    - The backup that was made, that counts, or that O(volid) names.
    - V(null) where none is there, as in check mode, after a removal, and with O(wait=false).
  returned: always, unless the task failed early
  type: dict
  contains:
    volid:
      description: Its name, as O(ignore:volid) takes it.
      type: str
    storage:
      description: Storage.
      type: str
    node:
      description: Node from which it was seen.
      type: str
    shared:
      description: Whether other nodes see it too, V(null) where nobody asked.
      type: bool
    vmid:
      description: VMID of the guest that was backed up, V(null) where its name does not tell.
      type: int
    type:
      description: V(qemu) or V(lxc), V(null) where its name does not tell.
      type: str
    time:
      description: When it was begun, in seconds since the epoch.
      type: int
    age:
      description: Seconds since then, by the server's clock.
      type: int
    size:
      description: Size in bytes.
      type: int
    format:
      description: Format, for example V(vma.zst), V(tar.zst), V(pbs-vm) or V(pbs-ct).
      type: str
    notes:
      description: Notes; of storages that are no Proxmox Backup Server the first line.
      type: str
    protected:
      description: Whether it is protected from removal.
      type: bool
    encrypted:
      description: Whether it is encrypted, which only a Proxmox Backup Server tells.
      type: bool
    verification:
      description: What a Proxmox Backup Server last found, V(ok) or V(failed); V(null) where it has not verified it.
      type: str
  sample: {volid: "local:backup/vzdump-qemu-101-2026_11_20-16_01_18.vma.zst", storage: local, node: pve1, shared: false,
    vmid: 101, type: qemu, time: 1795190478, age: 4, size: 16776989, format: vma.zst, notes: before the upgrade, protected: false,
    encrypted: false, verification: null}
calls:
  description: The writing requests that were made, in check mode those that would be made.
  returned: always
  type: list
  elements: dict
  contains:
    method:
      description: HTTP method.
      type: str
    path:
      description: Path below C(/api2/json).
      type: str
    params:
      description: Parameters, secrets masked.
      type: dict
    summary:
      description: What the call does.
      type: str
  sample: [{method: POST, path: /nodes/pve1/vzdump, params: {vmid: 101, storage: local, compress: zstd},
    summary: back up VM 101 to local}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: ["UPID:pve1:000000B2:0006D980:6B006ECE:vzdump:101:ansible@pve!ci:"]
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/vzdump
upid:
  description: UPID of the task of the server that failed or that still runs.
  returned: when such a task is the reason of the failure
  type: str
log:
  description: Last lines of the log of that task.
  returned: when such a task is the reason of the failure
  type: list
  elements: str
"""

from ..module_utils.argspec import GUEST, WAIT
from ..module_utils.backup import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **GUEST,
    **WAIT,
    "volid": {"type": "str"},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "storage": {"type": "str"},
    "max_age": {"type": "str"},
    "once": {"type": "bool", "default": False},
    "notes": {"type": "str"},
    "protected": {"type": "bool"},
    "prune": {"type": "dict"},
    "remove": {"type": "bool"},
    "mode": {"type": "str", "choices": ["snapshot", "suspend", "stop"]},
    "compress": {"type": "str", "choices": ["0", "gzip", "lzo", "zstd"]},
    "zstd": {"type": "int"},
    "pigz": {"type": "int"},
    "bwlimit": {"type": "int"},
    "ionice": {"type": "int"},
    "performance": {"type": "dict"},
    "fleecing": {"type": "dict"},
    "exclude_path": {"type": "list", "elements": "str"},
    "stdexcludes": {"type": "bool"},
    "stopwait": {"type": "int"},
    "lockwait": {"type": "int"},
    "notification_mode": {"type": "str", "choices": ["auto", "legacy-sendmail", "notification-system"]},
    "mailto": {"type": "list", "elements": "str"},
    "mailnotification": {"type": "str", "choices": ["always", "failure"]},
    "pbs_change_detection_mode": {"type": "str", "choices": ["legacy", "data", "metadata"]},
}

CONSTRAINTS = {
    "required_one_of": [("vmid", "name", "volid")],
    "mutually_exclusive": [("vmid", "volid"), ("name", "volid"), ("type", "volid")],
}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
