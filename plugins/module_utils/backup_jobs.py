# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup jobs: a schedule by this id is as wanted, or is gone.

What a job leaves open is decided by /etc/vzdump.conf of the node that runs it (PVE/VZDump.pm, new), so an option that is not set
is not the same as one set to the schema's default, but for those that this file cannot hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .backups import FORMS, keyed
from .errors import Refused
from .options import Change, Option, Scalar, is_empty, settle, shown
from .plan import Call, Feature, Plan, Reader

_FLAG = Scalar("boolean")
_COUNT = Scalar("integer")
_WORD = Scalar("text")

# Module option -> parameter of the server and what it holds.
OPTIONS: Mapping[str, tuple[str, Option]] = {
    "all": ("all", Scalar("boolean", False)),
    "bwlimit": ("bwlimit", _COUNT),
    "comment": ("comment", _WORD),
    "compress": ("compress", _WORD),
    "dumpdir": ("dumpdir", _WORD),
    "enabled": ("enabled", Scalar("boolean", True)),
    "exclude": ("exclude", Scalar("vmids", ())),
    "exclude_path": ("exclude-path", Scalar("paths", ())),
    "fleecing": ("fleecing", FORMS["fleecing"][0]),
    "ionice": ("ionice", _COUNT),
    "lockwait": ("lockwait", _COUNT),
    "mailnotification": ("mailnotification", _WORD),
    "mailto": ("mailto", Scalar("set", ())),
    "mode": ("mode", _WORD),
    "node": ("node", _WORD),
    "notes_template": ("notes-template", _WORD),
    "notification_mode": ("notification-mode", _WORD),
    "pbs_change_detection_mode": ("pbs-change-detection-mode", _WORD),
    "performance": ("performance", FORMS["performance"][0]),
    "pigz": ("pigz", _COUNT),
    "pool": ("pool", _WORD),
    "protected": ("protected", _FLAG),
    "prune": ("prune-backups", FORMS["prune-backups"][0]),
    "quiet": ("quiet", Scalar("boolean", False)),
    "remove": ("remove", _FLAG),
    "repeat_missed": ("repeat-missed", Scalar("boolean", False)),
    "schedule": ("schedule", Scalar("schedule")),
    "script": ("script", _WORD),
    "stdexcludes": ("stdexcludes", _FLAG),
    "stop": ("stop", Scalar("boolean", False)),
    "stopwait": ("stopwait", _COUNT),
    "storage": ("storage", _WORD),
    "tmpdir": ("tmpdir", _WORD),
    "vmids": ("vmid", Scalar("vmids", ())),
    "zstd": ("zstd", _COUNT),
}

# What a job is about, and what goes when another is chosen (PVE/API2/Backup.pm, update_job).
_REPLACES: Mapping[str, tuple[str, ...]] = {
    "vmids": ("all", "exclude", "pool"),
    "all": ("vmids", "pool"),
    "exclude": ("vmids", "pool"),
    "pool": ("vmids", "all", "exclude"),
}
_SELECTIONS = ("vmids", "all", "exclude", "pool")

# What the server removes no more than it would do without an id.
_STAYS = frozenset({"enabled", "schedule"})

# Options that the server takes only together with a storage.
_NEED_STORAGE = ("notes_template", "protected")


@dataclass(frozen=True)
class Wanted:
    """:param values: module option -> what a person wants, only those that are named. :param absent: options to remove."""

    jobid: str
    state: str
    values: Mapping[str, Any]
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Observed:
    """:param job: as the server tells of it, None where there is none."""

    job: Mapping[str, Any] | None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for; Refused for selections that exclude each other."""
    values = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    absent = set(options.get("absent") or ())
    for name in sorted(absent - OPTIONS.keys()):
        raise Refused(f"absent names '{name}', which is no option of a backup job.")
    for name in [name for name in values if is_empty(values[name])]:
        del values[name]
        absent.add(name)
    both = sorted(absent & values.keys())
    if both:
        raise Refused(f"{', '.join(both)}: wanted and in absent at the same time.")
    stays = sorted(absent & _STAYS)
    if stays:
        raise Refused(f"{', '.join(stays)} of a backup job can be changed and not removed.")
    chosen = [name for name in _SELECTIONS if name in values and values[name] is not False]
    clash = next((other for name in chosen for other in _REPLACES[name] if other in chosen), None)
    if clash is not None:
        raise Refused(
            f"{' and '.join(chosen)} exclude each other: a job is about vmids, or about all guests (all, with or without "
            "exclude), or about a pool."
        )
    for name, (parameter, _option) in OPTIONS.items():
        if parameter in FORMS and name in values:
            values[name] = keyed(name, parameter, values[name])
    if "prune" in values:
        # To keep none of a kind is not to name it.
        values["prune"] = {key: "" if str(count) in ("0", "False") else count for key, count in values["prune"].items()}
    return Wanted(options["id"], options["state"], values, frozenset(absent))


def observe(want: Wanted, reader: Reader, _previous: Observed | None) -> Observed:
    """Return the job, in one request."""
    jobs = reader.get("/cluster/backup")
    return Observed(next((job for job in jobs if job["id"] == want.jobid), None))


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the one call that makes, changes or removes the job."""
    job = observed.job
    path = f"/cluster/backup/{quote(want.jobid, safe=':')}"
    if want.state == "absent":
        before = {"job": None if job is None else _shown(job)}
        calls = () if job is None else (Call("DELETE", path, {}, f"remove the backup job {want.jobid}"),)
        return Plan(before, {"job": None}, calls)
    changes = _changes(want, job or {})
    # Named although it does not change: whether the job is there at all is in the diff then.
    named = {"id": want.jobid}
    before = {"job": None if job is None else named | {name: change.before for name, change in changes.items()}}
    after = {"job": named | {name: change.after for name, change in changes.items()}}
    params = {OPTIONS[name][0]: change.value for name, change in changes.items() if change.value is not None}
    leaves = want.absent | want.values.keys()
    removed = sorted(OPTIONS[name][0] for name, change in changes.items() if change.removes and name in leaves)
    if job is not None and not params and not removed:
        return Plan(after, after)
    _check_storage(want, job, params)
    if job is None:
        _check_new(want)
        return Plan(
            before, after, (Call("POST", "/cluster/backup", {"id": want.jobid, **params}, _summary(want, params)),)
        )
    if removed:
        params["delete"] = ",".join(removed)
    return Plan(before, after, (Call("PUT", path, params, f"change the backup job {want.jobid}: {_told(changes)}"),))


def _summary(want: Wanted, params: Mapping[str, object]) -> str:
    return f"make the backup job {want.jobid} for {params['schedule']}"


def _told(changes: Mapping[str, Change]) -> str:
    return ", ".join(sorted(name for name, change in changes.items() if change.changes))


def _changes(want: Wanted, job: Mapping[str, Any]) -> dict[str, Change]:
    """Return what becomes of each option that is named, and of those that go because another selection is named."""
    changes: dict[str, Change] = {}
    for name, value in want.values.items():
        parameter, option = OPTIONS[name]
        try:
            changes[name] = settle(option, parameter, job.get(parameter), value)
        except ValueError as error:
            raise Refused(f"{name}: {error}.") from error
    gone = set(want.absent)
    for name in _SELECTIONS:
        if name in changes and changes[name].changes and want.values[name] is not False:
            gone.update(other for other in _REPLACES[name] if OPTIONS[other][0] in job and other not in want.values)
            if name == "exclude" and "all" not in changes:
                changes["all"] = Change(shown(OPTIONS["all"][1], job.get("all")), True)
    for name in sorted(gone):
        parameter, option = OPTIONS[name]
        present = job.get(parameter)
        changes[name] = Change(shown(option, present), shown(option, None), removes=present is not None)
    if changes.keys() & set(_SELECTIONS):
        # Told whole, for the one takes the place of the other.
        for name in _SELECTIONS:
            parameter, option = OPTIONS[name]
            same = shown(option, job.get(parameter))
            changes.setdefault(name, Change(same, same))
    return dict(sorted(changes.items()))


def _check_storage(want: Wanted, job: Mapping[str, Any] | None, params: dict[str, Any]) -> None:
    """Name the storage beside options that the server takes only with it."""
    needing = [name for name in _NEED_STORAGE if OPTIONS[name][0] in params]
    if not needing or "storage" in params:
        return
    storage = want.values.get("storage") or (job or {}).get("storage")
    if storage is None:
        raise Refused(f"{' and '.join(needing)} can be set for backups on a storage only; name it in storage.")
    params["storage"] = storage


def _check_new(want: Wanted) -> None:
    missing = [] if "schedule" in want.values else ["schedule"]
    if not any(name in want.values and want.values[name] is not False for name in _SELECTIONS):
        missing.append("vmids, all, exclude or pool")
    if missing:
        raise Refused(
            f"There is no backup job '{want.jobid}' yet, and to make it {' and '.join(missing)} must be named."
        )


def _shown(job: Mapping[str, Any]) -> dict[str, object]:
    """Return a job as results show it: every option, null or its default where it is not set."""
    told = {name: shown(option, job.get(parameter)) for name, (parameter, option) in OPTIONS.items()}
    return {"id": job["id"], **dict(sorted(told.items()))}


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the job as observed."""
    return {"job": None if observed.job is None else _shown(observed.job)}


FEATURE = Feature(wanted, observe, decide, result)
