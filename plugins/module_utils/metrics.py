# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured of a guest, a node or a storage, from the last hour to the last year."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ProxmoxError, Refused
from .guests import Guest, GuestRef, check_node, reference
from .guests import observe as observe_guest
from .plan import Feature, Reader
from .wire import measurement

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """:param guest: None for a node or for a storage of it. :param metrics: names, empty for all.

    :param consolidation: AVERAGE or MAX: what a point tells of its time.
    """

    guest: GuestRef | None
    node: str | None
    storage: str | None
    timeframe: str
    consolidation: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Observed:
    """:param guest: None for a node or storage. :param points: times in seconds since the epoch, and what was measured then."""

    guest: Guest | None
    points: Sequence[Point]


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    guest = options.get("vmid") is not None or options.get("name") is not None
    if guest and options.get("storage") is not None:
        raise Refused("storage is asked for together with a guest; name one of them.")
    if not guest and options.get("node") is None:
        raise Refused("Name a guest by vmid or name, or a node, or a node and a storage.")
    return Wanted(
        reference(options) if guest else None,
        options.get("node"),
        options.get("storage"),
        options["timeframe"],
        options["consolidation"].upper(),
        tuple(options.get("metrics") or ()),
    )


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the measurements: one request where it is known where to ask."""
    guest = None
    if want.guest is not None:
        guest = observe_guest(reader, want.guest)
        path = guest.path
    elif want.storage is not None:
        path = f"/nodes/{want.node}/storage/{want.storage}"
    else:
        path = f"/nodes/{want.node}"
    try:
        points = reader.get(f"{path}/rrddata", timeframe=want.timeframe, cf=want.consolidation)
    except ProxmoxError as error:
        if guest is None and want.node is not None and error.status == 500:
            check_node(reader, want.node)
        raise
    return Observed(guest, [_numbers(point) for point in points])


def _numbers(point: Point) -> dict[str, float | int]:
    """Return what is a number; what was not measured is left out by the server."""
    return {key: found for key, value in point.items() if (found := _number(key, value)) is not None}


def _number(key: str, value: object) -> float | int | None:
    found = measurement(value)
    return int(found) if found is not None and key == "time" else found


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the points and what they come to; Refused where a metric was asked for that was not measured."""
    points = [point for point in observed.points if len(point) > 1 and "time" in point]
    there = sorted({key for point in points for key in point} - {"time"})
    unknown = sorted(set(want.metrics) - set(there))
    if unknown and points:
        raise Refused(f"'{unknown[0]}' is not measured; there are {', '.join(there)}.")
    kept = want.metrics or there
    times = sorted(point["time"] for point in points)
    return {
        "guest": observed.guest.shown() if observed.guest is not None else None,
        "points": [{"time": point["time"], **{key: point[key] for key in kept if key in point}} for point in points],
        "summary": {key: summary([point[key] for point in points if key in point]) for key in kept},
        "seconds": min((after - before for before, after in itertools.pairwise(times)), default=None),
    }


def summary(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return the least, the greatest, the mean and the last of values in the order of their times."""
    if not values:
        return {"count": 0, "min": None, "max": None, "mean": None, "last": None}
    mean = math.fsum(values) / len(values)
    return {"count": len(values), "min": min(values), "max": max(values), "mean": mean, "last": values[-1]}


FEATURE = Feature(wanted, observe, None, result)
