# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual time: clocks, events, processes that sleep, and locks that they wait for.

A process is a generator that yields what it waits for (`Sleep`, or a lock by `yield from lock.acquire(...)`) and is driven by
the scheduler. Requests and tasks are both processes, so a request can wait ten seconds for a lock while tasks go on.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .http import ApiError

T = TypeVar("T")
START = 1_795_190_000.0  # when virtual time begins, in seconds since the epoch


class Clock:
    """A clock that stands until it is advanced. The cluster that it is given to does what is due meanwhile."""

    def __init__(self, start: float = START) -> None:
        self._now = start
        self._scheduler: Scheduler | None = None

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; everything that falls due happens in its order."""
        if self._scheduler is None:
            self._now += seconds
            return
        with self._scheduler.lock:
            self._now += seconds
            self._scheduler.catch_up()

    def attach(self, scheduler: Scheduler) -> None:
        """Called by the cluster."""
        self._scheduler = scheduler


class RealClock(Clock):
    """A clock that runs `speed` times as fast as the wall's, and can be advanced besides."""

    def __init__(self, start: float | None = None, speed: float = 1.0) -> None:
        super().__init__(time.time() if start is None else start)
        self.speed = speed
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now + (time.monotonic() - self._began) * self.speed


@dataclass(order=True)
class Event:
    """Something that happens at a time."""

    when: float
    order: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Sleep:
    """What a process yields to let virtual seconds pass."""

    seconds: float


@dataclass
class _LockWait:
    lock: Lock
    shared: bool
    timeout: float


Wait = Any  # Sleep or _LockWait
Steps = Generator[Wait, Any, T]


class Interrupted(Exception):
    """The process was told to end (TERM)."""


class Scheduler:
    """Events in the order of their times. `lock` guards everything that belongs to the cluster."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.now = clock.now()
        self.lock = threading.RLock()
        self._events: list[Event] = []
        self._order = itertools.count()
        clock.attach(self)

    def at(self, when: float, action: Callable[[], None]) -> Event:
        """Let something happen at a time."""
        event = Event(max(when, self.now), next(self._order), action)
        heapq.heappush(self._events, event)
        return event

    def after(self, seconds: float, action: Callable[[], None]) -> Event:
        """Let something happen after some seconds."""
        return self.at(self.now + seconds, action)

    def every(self, seconds: float, action: Callable[[], None], first: float | None = None) -> None:
        """Let something happen again and again."""

        def tick() -> None:
            action()
            self.after(seconds, tick)

        self.after(seconds if first is None else first, tick)

    def catch_up(self) -> None:
        """Do all that is due by the clock."""
        with self.lock:
            until = self.clock.now()
            while self._events and self._events[0].when <= until:
                event = heapq.heappop(self._events)
                if not event.cancelled:
                    self.now = max(self.now, event.when)
                    event.action()
            self.now = max(self.now, until)

    def until_next(self) -> float | None:
        """Seconds of virtual time to the next event; None when there is none."""
        while self._events and self._events[0].cancelled:
            heapq.heappop(self._events)
        return max(0.0, self._events[0].when - self.clock.now()) if self._events else None

    def spawn(self, steps: Steps[T], done: Callable[[Process[T]], None] | None = None) -> Process[T]:
        """Start a process; its first step runs at once."""
        process: Process[T] = Process(self, steps, done)
        process.resume()
        return process


class Process(Generic[T]):
    """A generator under way. `done` says whether it has ended, `result` or `error` how."""

    def __init__(self, scheduler: Scheduler, steps: Steps[T], done: Callable[[Process[T]], None] | None) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self._on_done = done
        self._event: Event | None = None
        self._waiting: _LockWait | None = None
        self._held: Held | None = None  # given but not yet taken note of
        self._over: Held | None = None  # released at the end
        self.done = False
        self.result: T | None = None
        self.error: ApiError | Interrupted | None = None

    def resume(self, value: Any = None, error: BaseException | None = None) -> None:
        """Run to the next wait."""
        self._event = None
        self._waiting = None
        self._held = None
        try:
            wait = self._steps.throw(error) if error is not None else self._steps.send(value)
        except StopIteration as stop:
            self.result = stop.value
            self._finish()
        except (ApiError, Interrupted) as failure:
            self.error = failure
            self._finish()
        except BaseException:
            # A bug of the simulator: whoever waits for this process shall not wait for ever.
            self.done = True
            raise
        else:
            self._arm(wait)

    def interrupt(self) -> None:
        """End it where it waits."""
        if self.done:
            return
        self._disarm()
        self.resume(error=Interrupted())

    def kill(self) -> None:
        """End it without any of its own clean-up code getting a say (the node lost power)."""
        if not self.done:
            self._disarm()
            self.done = True
            # The kernel frees what it had locked.
            self._steps.close()

    def _disarm(self) -> None:
        if self._event is not None:
            self._event.cancelled = True
        if self._waiting is not None:
            self._waiting.lock.forget(self)
        if self._held is not None:
            self._held.release()

    def wait(self, seconds: float) -> Steps[bool]:
        """Wait for its end. Returns whether it came in time; the process goes on in any case."""
        if self.done:
            return True
        over = Lock(self._scheduler, "")
        self._over = over.take()
        return isinstance((yield _LockWait(over, False, seconds)), Held)

    def _arm(self, wait: Wait) -> None:
        if isinstance(wait, Sleep):
            self._event = self._scheduler.after(wait.seconds, self.resume)
            return
        self._waiting = wait
        lock = wait.lock

        def expired() -> None:
            lock.forget(self)
            self.resume(False)

        if wait.timeout < math.inf:
            self._event = self._scheduler.after(wait.timeout, expired)
        lock.waiters.append((self, wait.shared))

    def granted(self, held: Held) -> None:
        """Called by the lock that it waits for."""
        if self._event is not None:
            self._event.cancelled = True
        self._event = self._scheduler.after(0.0, lambda: self.resume(held))
        self._waiting = None
        self._held = held

    def _finish(self) -> None:
        self.done = True
        if self._over is not None:
            self._over.release()
        if self._on_done is not None:
            self._on_done(self)


class Held:
    """A lock held; a context manager that gives it back."""

    def __init__(self, lock: Lock, shared: bool) -> None:
        self._lock = lock
        self.shared = shared
        self._given_back = False

    def release(self) -> None:
        """Give it back, once."""
        if not self._given_back:
            self._given_back = True
            self._lock.released(self)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Lock:
    """A file lock (flock) or cluster lock: held by one exclusively or by several as shared; first come, first served.

    With more `places` than one it is what so many can hold at once, such as the workers of a daemon.
    """

    def __init__(self, scheduler: Scheduler, failure: str, places: int = 1) -> None:
        self._scheduler = scheduler
        self._failure = failure
        self._places = places
        self.holders: list[Held] = []
        self.waiters: list[tuple[Process[Any], bool]] = []

    @property
    def held(self) -> bool:
        """Whether anybody holds it."""
        return bool(self.holders)

    def take(self, shared: bool = False) -> Held:
        """Take it now; the caller knows that it is free."""
        held = Held(self, shared)
        self.holders.append(held)
        return held

    def acquire(
        self,
        timeout: float,
        *,
        shared: bool = False,
        log: Callable[[str], None] | None = None,
        failure: str | None = None,
    ) -> Steps[Held]:
        """Wait for it up to `timeout` virtual seconds, with the server's lines in a task's log while waiting.

        Raises:
            ApiError: it was not to be had in time.
        """
        if self._free(shared) and not self.waiters:
            return self.take(shared)
        if log is not None:
            log("trying to acquire lock...")
        held: Held | bool = yield _LockWait(self, shared, timeout)
        if not isinstance(held, Held):
            raise ApiError(500, failure or self._failure)
        if log is not None:
            log(" OK")
        return held

    def forget(self, process: Process[Any]) -> None:
        """A waiter gives up."""
        self.waiters = [(waiter, shared) for waiter, shared in self.waiters if waiter is not process]
        self._wake()

    def released(self, held: Held) -> None:
        """A holder gave it back."""
        self.holders = [holder for holder in self.holders if holder is not held]
        self._wake()

    def _free(self, shared: bool) -> bool:
        return len(self.holders) < self._places or (shared and all(holder.shared for holder in self.holders))

    def _wake(self) -> None:
        while self.waiters and self._free(self.waiters[0][1]):
            process, shared = self.waiters.pop(0)
            process.granted(self.take(shared))
