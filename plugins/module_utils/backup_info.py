# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backups there are, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .backups import Backup, places, seconds, survey
from .plan import Feature, Reader


@dataclass(frozen=True)
class Wanted:
    """:param newer_than: seconds; only backups that are at most as old. :param older_than: only those that are at least as old."""

    vmid: int | None = None
    kind: str | None = None
    storage: str | None = None
    node: str | None = None
    newer_than: int | None = None
    older_than: int | None = None
    protected: bool | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Observed:
    """:param now: the server's clock. :param unreachable: storages that could not be asked, and why."""

    backups: tuple[Backup, ...]
    now: int | None
    unreachable: tuple[Mapping[str, str], ...]


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    ages = {
        name: seconds(name, options[name]) if options.get(name) is not None else None
        for name in ("newer_than", "older_than")
    }
    return Wanted(
        options.get("vmid"),
        options.get("type"),
        options.get("storage"),
        options.get("node"),
        ages["newer_than"],
        ages["older_than"],
        options.get("protected"),
        options.get("limit"),
    )


def observe(want: Wanted, reader: Reader, _previous: Observed | None) -> Observed:
    """Return the backups: one request, and one more for each storage (each node of it where it is not shared)."""
    where = places(reader.get("/cluster/resources"), want.storage, want.node)
    backups, unreachable = survey(reader, where, want.vmid)
    return Observed(tuple(backups), reader.server_time, tuple(unreachable))


def matches(want: Wanted, backup: Backup, now: int | None) -> bool:
    """Tell whether the backup is asked for."""
    age = now - backup.time if now is not None else 0
    return (
        want.kind in (None, backup.kind)
        and want.protected in (None, backup.protected)
        and (want.newer_than is None or age <= want.newer_than)
        and (want.older_than is None or age >= want.older_than)
    )


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the backups that are asked for, newest first."""
    found = [backup.shown(observed.now) for backup in observed.backups if matches(want, backup, observed.now)]
    return {"backups": found[: want.limit], "unreachable": [dict(entry) for entry in observed.unreachable]}


FEATURE = Feature(wanted, observe, None, result)
