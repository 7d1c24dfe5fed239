# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time: a clock that tests can replace, and how long to pause between looks."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Protocol


class Clock(Protocol):
    """Seconds that only go forward, and sleep."""

    def now(self) -> float:
        """Return seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""


class MonotonicClock:
    """The machine's own clock, untouched by changes of the time of day."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def pauses(first: float, longest: float, factor: float = 2.0) -> Iterator[float]:
    """Yield pauses in seconds, each longer than the one before up to the longest, with jitter of a fifth, without end.

    The jitter keeps runs apart that were refused by the same lock at the same moment.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.8, 1.2)
        pause = min(pause * factor, longest)


# Past a minute half a second more is nothing, and what takes that long takes long for many at once.
_LATER_SHARE = 1 / 120
_LONGEST_SECONDS = 2.0


def pause_after(waited: float, usual: float) -> float:
    """Return how many seconds to pause before the next look at something that was waited for as long as that.

    :param usual: the pause of the first minutes.
    """
    return max(usual, min(waited * _LATER_SHARE, _LONGEST_SECONDS))
