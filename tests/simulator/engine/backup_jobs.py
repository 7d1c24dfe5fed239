# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedules of backups: the jobs are kept, nothing runs them.

Sources: pve-manager, PVE/API2/Backup.pm; pve-guest-common, PVE/VZDump/JobBase.pm (decode_value).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .backup import check_common, verify
from .http import bad_parameter, bad_parameters, die
from .propstring import parse_boolean, split_list

if TYPE_CHECKING:
    from .cluster import Call, Cluster

# What is an object when it is read (PVE/VZDump/Common.pm, PROPERTY_STRINGS).
_OBJECTS = {"fleecing": "enabled", "performance": "", "prune-backups": ""}
# Beside the options of vzdump; `enabled` and `schedule` can be set and not removed.
_DELETABLE = frozenset({"comment", "repeat-missed"})
_KEPT = frozenset({"id", "schedule", "enabled", "starttime", "dow", "delete", "type"})
_ALL_DAYS = "mon,tue,wed,thu,fri,sat,sun"


def _shown(jobid: str, job: dict[str, Any]) -> dict[str, Any]:
    """A job as it is read: numbers and booleans are texts of the file."""
    row: dict[str, Any] = {"id": jobid, "type": "vzdump"}
    for key, value in job.items():
        if key in _OBJECTS:
            pairs = [part.partition("=") for part in str(value).split(",")]
            row[key] = {(name if mark else _OBJECTS[key]): text if mark else name for name, mark, text in pairs}
        else:
            row[key] = list(value) if isinstance(value, list) else str(value)
    return row


def listing(call: Call) -> list[dict[str, Any]]:
    """GET /cluster/backup; when a job runs next is left out."""
    return [_shown(jobid, job) for jobid, job in call.cluster.backup_jobs.items()]


def get(call: Call) -> dict[str, Any]:
    """GET /cluster/backup/{id}."""
    jobid = str(call.params["id"])
    if jobid not in call.cluster.backup_jobs:
        raise bad_parameter(id=f"No such job '{jobid}'")
    return _shown(jobid, call.cluster.backup_jobs[jobid])


def _schedule(params: dict[str, Any], *, required: bool) -> None:
    """Turn the old way to say when into the new one (schedule_param_check)."""
    start, days = params.pop("starttime", None), params.pop("dow", None)
    if params.get("schedule") is not None:
        if start is not None:
            raise bad_parameters({"starttime": "'starttime' and 'schedule' cannot both be set"})
    elif start is not None:
        named = ",".join(split_list(str(days or "")))
        params["schedule"] = start if named in ("", _ALL_DAYS) else f"{named} {start}"
    elif required:
        raise bad_parameters({"schedule": "neither 'starttime' nor 'schedule' were set"})


def _check_pool(call: Call, params: dict[str, Any]) -> None:
    if params.get("pool"):
        call.cluster.access.check_pool_exists(params["pool"])
        call.check(f"/pool/{params['pool']}", "VM.Backup")


def _lock(cluster: Cluster, file: str) -> None:
    if not cluster.quorate:
        raise die(f"cfs-lock 'file-{file}' error: no quorum!")


def _text(value: Any) -> Any:
    return value if isinstance(value, list) else str(value)


def create(call: Call) -> None:
    """POST /cluster/backup."""
    params, cluster = dict(call.params), call.cluster
    check_common(call, params)
    if not call.root and not params.get("dumpdir"):
        call.check(f"/storage/{params.get('storage', 'local')}", "Datastore.Allocate")
    _check_pool(call, params)
    _schedule(params, required=True)
    params.setdefault("enabled", 1)
    jobid = str(params.pop("id", cluster.new_uuid()))
    _lock(cluster, "jobs_cfg")
    if jobid in cluster.backup_jobs:
        raise die(f"Job '{jobid}' already exists")
    verify(params, missing=True)
    cluster.backup_jobs[jobid] = {key: _text(value) for key, value in params.items()}


def update(call: Call) -> None:
    """PUT /cluster/backup/{id}."""
    params, cluster = dict(call.params), call.cluster
    jobid = str(params.pop("id"))
    delete = split_list(str(params.pop("delete", "")))
    check_common(call, params)
    check_common(call, dict.fromkeys(delete, 1), deleting=True)
    if not call.root and params.get("storage"):
        call.check(f"/storage/{params['storage']}", "Datastore.Allocate")
    elif not call.root and "storage" in delete:
        call.check("/storage/local", "Datastore.Allocate")
    _check_pool(call, params)
    _schedule(params, required=False)
    _lock(cluster, "vzdump_cron")
    if not params and not delete:
        raise die("no options specified")
    verify(params, missing=False)
    job = cluster.backup_jobs.get(jobid)
    if job is None:
        raise die("no such vzdump job")
    if not call.root:
        if job.get("dumpdir"):
            raise die("only root@pam may edit jobs with a 'dumpdir' option.")
        call.check(f"/storage/{job.get('storage', 'local')}", "Datastore.Allocate")
    known = set(cluster.schema.find("PUT", f"/cluster/backup/{jobid}")[0].parameters)  # type: ignore[index]
    for key in delete:
        if key not in known - _KEPT | _DELETABLE:
            raise bad_parameter(delete=f"unknown option '{key}'")
    changed = {key: value for key, value in job.items() if key not in delete}
    changed |= {key: _text(value) for key, value in params.items()}
    if "exclude" in changed and "pool" not in changed:
        changed["all"] = "1"
    if params.get("vmid") is not None:
        gone = ("all", "exclude", "pool")
    elif params.get("all"):
        gone = ("vmid", "pool", "")
    elif changed.get("pool"):
        gone = ("vmid", "all", "exclude")
    else:
        gone = ("", "", "")
    changed = {key: value for key, value in changed.items() if key not in gone}
    selected = {key: value for key, value in changed.items() if key != "all" or parse_boolean(str(value)) == "1"}
    verify(selected, missing=True)
    cluster.backup_jobs[jobid] = changed


def delete(call: Call) -> None:
    """DELETE /cluster/backup/{id}."""
    jobid = str(call.params["id"])
    _lock(call.cluster, "vzdump_cron")
    if jobid not in call.cluster.backup_jobs:
        raise bad_parameter(id=f"No such job '{jobid}'")
    del call.cluster.backup_jobs[jobid]


ROUTES = {
    ("GET", "/cluster/backup"): listing,
    ("POST", "/cluster/backup"): create,
    ("GET", "/cluster/backup/{id}"): get,
    ("PUT", "/cluster/backup/{id}"): update,
    ("DELETE", "/cluster/backup/{id}"): delete,
}
