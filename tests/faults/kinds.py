"""What can go wrong with a request, and what a run owes its user when it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

When = Literal["before", "after"]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    :param name: as the tables show it. :param fault: for the simulator; None for what is done to the run itself.
    :param tasks: it strikes requests that start a task only. :param writes: it strikes writing requests only.
    :param survived: the run that meets it succeeds nevertheless. :param password: the run logs in by password.
    :param wrecks: the server's own work is cut off, so that a person may have to clear up, as the message says.
    :param power: guests lose their power.
    """

    name: str
    fault: Any = None
    when: When = "before"
    tasks: bool = False
    writes: bool = False
    survived: bool = False
    password: bool = False
    wrecks: bool = False
    power: bool = False

    @property
    def kills_task(self) -> bool:
        return self.fault in ("task_killed", "task_unexpected")

    def __str__(self) -> str:
        return self.name


KILLED_BEFORE = Kind("play killed before the request")
KILLED_AFTER = Kind("play killed after the request", when="after")
WARNING = Kind("task ends with WARNINGS", "task_warning", tasks=True, survived=True)
BROKEN = Kind("500 with an unknown text", "broken", writes=True)
TOKEN_REFUSED = Kind("401, API token refused", "ticket_expired")

KINDS = (
    Kind("connection refused", "refused", survived=True),
    Kind("reset before the request is read", "reset", survived=True),
    Kind("reset after the effect", "reset", "after", survived=True),
    Kind("silence, nothing done", "silence", survived=True),
    Kind("silence after the effect", "silence", "after", survived=True),
    Kind("body cut off", "truncate", "after", survived=True),
    Kind("page of a proxy, nothing done", "html", survived=True),
    Kind("page of a proxy after the effect", "html", "after", survived=True),
    Kind("502 of a proxy, nothing done", 502, survived=True),
    Kind("504 of a proxy after the effect", 504, "after", survived=True),
    TOKEN_REFUSED,
    Kind("401, ticket expired", "ticket_expired", survived=True, password=True),
    Kind("595, nothing done", 595, survived=True),
    Kind("596, nothing done", 596, survived=True),
    Kind("596 after the effect", 596, "after", survived=True),
    Kind("599 after the effect", 599, "after", survived=True),
    Kind("500 lock timeout", "lock_timeout", writes=True, survived=True),
    BROKEN,
    Kind("500 got no worker upid", "no_worker_upid", tasks=True, survived=True),
    Kind("500 .active.lock, task runs", "active_lock", tasks=True, survived=True),
    Kind("task fails with a lock error", "task_lock", tasks=True, survived=True),
    WARNING,
    Kind("task killed in its work", "task_killed", tasks=True, wrecks=True),
    Kind("task killed when done", "task_unexpected", tasks=True, survived=True),
    Kind("node loses power before", "node_gone", wrecks=True, power=True),
    Kind("node loses power after", "node_gone", "after", wrecks=True, power=True),
    Kind("no quorum for 20 s", "no_quorum", wrecks=True),
    KILLED_BEFORE,
    KILLED_AFTER,
)
