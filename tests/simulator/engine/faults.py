# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: what goes wrong with the nth request that matches, before or after its effect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# A number is a status of a proxy (595 before, 596 after or before the effect) or 401. Texts:
#   reset, silence, truncate  what happens to the connection
#   lock_timeout              500 after ten seconds, as when another holds the guest's lock
#   no_worker_upid            the task was not started
#   active_lock               the task was started, but its UPID is lost
#   node_gone                 the node that the request goes to loses power
#   ticket_expired            401, as for a ticket too old
#   refused                   nothing listens on the port
#   html                      200 with the page of some proxy instead of the API's answer
#   broken                    500 with a text that nobody has seen before
#   no_quorum                 the cluster loses quorum for twenty seconds
# and what becomes of the task that the request starts:
#   task_lock                 it waits ten seconds for a lock and fails
#   task_warning              it does its work and warns
#   task_killed               it is killed in its work and cleans up nothing
#   task_unexpected           it is killed when its work is done
FaultKind = Literal[
    "reset",
    "silence",
    "truncate",
    "lock_timeout",
    "no_worker_upid",
    "active_lock",
    "node_gone",
    "ticket_expired",
    "refused",
    "html",
    "broken",
    "no_quorum",
    "task_lock",
    "task_warning",
    "task_killed",
    "task_unexpected",
]
# Those that strike where a task is started.
AT_FORK = frozenset({"no_worker_upid", "active_lock", "task_lock", "task_warning", "task_killed", "task_unexpected"})


@dataclass
class Fault:
    """One rule. It strikes `times` times, beginning with the `nth` request that matches."""

    method: str = ".*"
    path: str = ".*"  # a regular expression, searched in the decoded path below /api2/json
    nth: int = 1
    when: Literal["before", "after"] = "before"
    kind: FaultKind | int = "reset"
    times: int = 1
    seen: int = 0

    def strikes(self, method: str, path: str) -> bool:
        """Whether it strikes this request; counts it when it matches."""
        if not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times
