#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_backup_job
short_description: Schedule backups of guests of Proxmox VE
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Makes, changes and removes the backup jobs of the cluster (Datacenter, Backup).
  - An option that is left out stays as it is; O(absent) removes options. Wanted and present values are compared by meaning.
  - What a job leaves open is decided by C(/etc/vzdump.conf) of the node that runs it, and without that by the server's defaults.
notes:
  - Needs C(Sys.Audit) and, to change something, C(Sys.Modify) on C(/), and C(Datastore.Allocate) on C(/storage/STORAGE) of the job,
    which is V(local) for a job without one. A job for a pool also needs C(VM.Backup) on C(/pool/POOL).
  - The deprecated C(starttime) and C(dow) of the server are the same as O(schedule), which the server makes of them.
options:
  id:
    description: Name of the job.
    type: str
    required: true
  state:
    description:
      - V(present) makes the job where it is not there, and changes it where it is not as asked for.
      - V(absent) removes the job. Backups stay.
    type: str
    default: present
    choices: [present, absent]
  absent:
    description:
      - Options of the job to remove, by the names that they have here, except O(schedule) and O(enabled).
    type: list
    elements: str
  schedule:
    description:
      - When the job runs, as a calendar event like V(02:00), V(mon..fri 22:30) or V(sun 01:00). Needed to make a job.
      - Left out, it stays as it is.
    type: str
  enabled:
    description:
      - Whether the schedule holds. A job that is made is enabled unless this is V(false).
      - Left out, it stays as it is.
    type: bool
  vmids:
    description:
      - VMIDs of the guests to back up. Takes the place of O(all), O(exclude) and O(pool) of the job.
      - Left out, it stays as it is; a new job needs one of O(vmids), O(all), O(exclude) and O(pool).
    type: list
    elements: int
  all:
    description:
      - Whether all guests are backed up, those of all nodes unless O(node) is set. Takes the place of O(vmids) and O(pool) of the
        job.
      - Left out, it stays as it is; a new job needs one of O(vmids), O(all), O(exclude) and O(pool).
    type: bool
  exclude:
    description:
      - VMIDs of guests that are left out; all others are backed up. Takes the place of O(vmids) and O(pool) of the job.
      - Left out, it stays as it is; a new job needs one of O(vmids), O(all), O(exclude) and O(pool).
    type: list
    elements: int
  pool:
    description:
      - Pool whose guests are backed up. Takes the place of O(vmids), O(all) and O(exclude) of the job. Needs C(VM.Backup) on
        C(/pool/POOL).
      - Left out, it stays as it is; a new job needs one of O(vmids), O(all), O(exclude) and O(pool).
    type: str
  node:
    description:
      - Only the guests on this node are backed up.
      - Left out, it stays as it is, and a new job has none.
    type: str
  storage:
    description:
      - Storage for the backups. A job without one uses V(local).
      - Left out, it stays as it is, and a new job has none.
    type: str
  mode:
    description:
      - How a running guest is backed up. With V(snapshot) it goes on running, with V(suspend) it is paused for a while, with
        V(stop) it is shut down and started again.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(snapshot) unless it says otherwise.
    type: str
    choices: ["snapshot", "suspend", "stop"]
  compress:
    description:
      - How archives are packed; V("0") not at all. V("1") is an old name of V(lzo).
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V("0") unless it says otherwise.
    type: str
    choices: ["0", "1", "gzip", "lzo", "zstd"]
  zstd:
    description:
      - Threads of V(zstd); V(0) takes half of the cores.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(1) unless it says otherwise.
    type: int
  pigz:
    description:
      - With V(gzip), V(1) packs with half of the cores and more with that many threads; V(0) packs with one.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(0) unless it says otherwise.
    type: int
  comment:
    description:
      - Description of the job.
      - Left out, it stays as it is, and a new job has none.
    type: str
  notes_template:
    description:
      - Notes of each backup, on one line, with C(\n) for line feeds. The server replaces V({{guestname}}), V({{node}}), V({{vmid}})
        and V({{cluster}}). Needs a storage.
      - Left out, it stays as it is, and a new job has none.
    type: str
  protected:
    description:
      - Whether backups are protected from removal. Needs a storage.
      - Left out, it stays as it is; a new job's are not.
    type: bool
  prune:
    description:
      - V(keep_last), V(keep_hourly), V(keep_daily), V(keep_weekly), V(keep_monthly) and V(keep_yearly), each with a number, or
        V(keep_all). What of the older backups is kept. Keys that are not named stay; V(0) removes one. V(keep_all) takes the place
        of all others and the other way round.
      - Left out, it stays as it is; for a new job the settings of the storage hold, and without any all are kept.
    type: dict
  remove:
    description:
      - Whether older backups that O(prune) or the settings of the storage do not keep are removed.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(true) unless it says otherwise.
    type: bool
  repeat_missed:
    description:
      - Whether a run that was missed, because the node was down, is made up for.
      - Left out, it stays as it is; a new job does not make up for it.
    type: bool
  notification_mode:
    description:
      - Whether the server's notification system tells of it, or mail to O(mailto); V(auto) sends mail where O(mailto) is set.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(auto) unless it says otherwise.
    type: str
    choices: ["auto", "legacy-sendmail", "notification-system"]
  mailto:
    description:
      - Addresses or users that get mail.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides.
    type: list
    elements: str
  mailnotification:
    description:
      - When mail is sent.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(always) unless it says otherwise.
    type: str
    choices: ["always", "failure"]
  fleecing:
    description:
      - V(enabled) and V(storage); blocks that a VM overwrites meanwhile are kept there. Needs C(Datastore.AllocateSpace) on that
        storage.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, off unless it says otherwise.
    type: dict
  performance:
    description:
      - V(max_workers) for VMs, and V(pbs_entries_max) for containers on a Proxmox Backup Server.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides.
    type: dict
  bwlimit:
    description:
      - Bandwidth limit in KiB/s; V(0) is none.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, none unless it says otherwise.
    type: int
  ionice:
    description:
      - Priority of the reading, from V(0) to V(7), or V(8) for idle times only.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(7) unless it says otherwise.
    type: int
  stdexcludes:
    description:
      - Whether temporary files in containers are left out.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(true) unless it says otherwise.
    type: bool
  exclude_path:
    description:
      - Paths in containers that are left out, as shell patterns.
      - Left out, it stays as it is; a new job has only those that C(/etc/vzdump.conf) of the node names.
    type: list
    elements: str
  stopwait:
    description:
      - Minutes that a guest gets to shut down with O(mode=stop).
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(10) unless it says otherwise.
    type: int
  lockwait:
    description:
      - Minutes to wait for other backups on the node.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides, V(180) unless it says otherwise.
    type: int
  pbs_change_detection_mode:
    description:
      - How a Proxmox Backup Server finds what has changed in a container.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides.
    type: str
    choices: ["legacy", "data", "metadata"]
  quiet:
    description:
      - Whether the job logs nothing.
      - Left out, it stays as it is; a new job logs.
    type: bool
  stop:
    description:
      - Whether the job stops backups that run on the node instead.
      - Left out, it stays as it is; a new job does not.
    type: bool
  script:
    description:
      - Hook script on the nodes. Only root@pam with a password may set it.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides.
    type: str
  tmpdir:
    description:
      - Directory for temporary files on the nodes. Only root@pam with a password may set it.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides.
    type: str
  dumpdir:
    description:
      - Directory for the backups on the nodes, instead of O(storage). Only root@pam with a password may set it.
      - Left out, it stays as it is; for a new job C(/etc/vzdump.conf) of the node decides.
    type: str
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_backup
"""

EXAMPLES = r"""
- name: All guests but two, every night
  keel.proxmox.proxmox_backup_job:
    id: nightly
    schedule: "02:00"
    all: true
    exclude: [9000, 9001]
    storage: local
    mode: snapshot
    compress: zstd
    prune:
      keep_daily: 7
      keep_weekly: 4

- name: Keep the last three too, and no comment any more
  keel.proxmox.proxmox_backup_job:
    id: nightly
    prune:
      keep_last: 3
    absent: [comment]

- name: Not while the storage is being replaced
  keel.proxmox.proxmox_backup_job:
    id: nightly
    enabled: false

- name: No such job
  keel.proxmox.proxmox_backup_job:
    id: nightly
    state: absent
"""

RETURN = r"""
job:
  description:
    - The job as observed afterwards, in check mode as it is now; V(null) where there is none. It holds all options above.
    - Keys of RV(ignore:job.prune), RV(ignore:job.performance) and so on are the server's, with hyphens.
  returned: always, unless the task failed early
  type: dict
  contains:
    id:
      description: Name of the job.
      type: str
    schedule:
      description: When it runs.
      type: str
    enabled:
      description: Whether the schedule holds.
      type: bool
    storage:
      description: Storage for the backups, V(null) where none is set.
      type: str
  sample: {id: nightly, schedule: "02:00", enabled: true, all: true, exclude: [9000, 9001], storage: local, mode: snapshot,
    compress: zstd, prune: {keep-daily: 7, keep-weekly: 4}, comment: null}
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
  sample: [{method: PUT, path: /cluster/backup/nightly, params: {enabled: false},
    summary: "change the backup job nightly: enabled"}]
tasks:
  description: UPIDs of the tasks that the server ran for it.
  returned: always
  type: list
  elements: str
  sample: []
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /cluster/backup
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

from ..module_utils.argspec import WAIT
from ..module_utils.backup_jobs import FEATURE
from ..module_utils.module import run

ARGUMENTS = {
    **WAIT,
    "id": {"type": "str", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "absent": {"type": "list", "elements": "str"},
    "schedule": {"type": "str"},
    "enabled": {"type": "bool"},
    "vmids": {"type": "list", "elements": "int"},
    "all": {"type": "bool"},
    "exclude": {"type": "list", "elements": "int"},
    "pool": {"type": "str"},
    "node": {"type": "str"},
    "storage": {"type": "str"},
    "mode": {"type": "str", "choices": ["snapshot", "suspend", "stop"]},
    "compress": {"type": "str", "choices": ["0", "1", "gzip", "lzo", "zstd"]},
    "zstd": {"type": "int"},
    "pigz": {"type": "int"},
    "comment": {"type": "str"},
    "notes_template": {"type": "str"},
    "protected": {"type": "bool"},
    "prune": {"type": "dict"},
    "remove": {"type": "bool"},
    "repeat_missed": {"type": "bool"},
    "notification_mode": {"type": "str", "choices": ["auto", "legacy-sendmail", "notification-system"]},
    "mailto": {"type": "list", "elements": "str"},
    "mailnotification": {"type": "str", "choices": ["always", "failure"]},
    "fleecing": {"type": "dict"},
    "performance": {"type": "dict"},
    "bwlimit": {"type": "int"},
    "ionice": {"type": "int"},
    "stdexcludes": {"type": "bool"},
    "exclude_path": {"type": "list", "elements": "str"},
    "stopwait": {"type": "int"},
    "lockwait": {"type": "int"},
    "pbs_change_detection_mode": {"type": "str", "choices": ["legacy", "data", "metadata"]},
    "quiet": {"type": "bool"},
    "stop": {"type": "bool"},
    "script": {"type": "str"},
    "tmpdir": {"type": "str"},
    "dumpdir": {"type": "str"},
}

CONSTRAINTS: dict[str, list[tuple[str, ...]]] = {}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
