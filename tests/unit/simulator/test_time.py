"""Processes, locks and events on virtual time."""

from __future__ import annotations

import pytest

from tests.simulator.engine.clock import Clock, Lock, Scheduler, Sleep, Steps
from tests.simulator.engine.http import ApiError


@pytest.fixture(name="scheduler")
def _scheduler() -> Scheduler:
    return Scheduler(Clock(0.0))


def holder(scheduler: Scheduler, lock: Lock, seen: list[str], name: str, seconds: float, **how: object) -> Steps[None]:
    with (yield from lock.acquire(10.0, **how)):  # type: ignore[arg-type]
        seen.append(f"{name} {scheduler.now:.0f}")
        yield Sleep(seconds)


def test_events_happen_in_the_order_of_their_times(scheduler: Scheduler) -> None:
    seen: list[float] = []
    scheduler.at(3.0, lambda: seen.append(scheduler.now))
    scheduler.at(1.0, lambda: scheduler.after(1.0, lambda: seen.append(scheduler.now)))
    scheduler.clock.advance(10.0)
    assert seen == [2.0, 3.0]
    assert scheduler.now == 10.0


def test_a_lock_goes_to_the_first_who_waits(scheduler: Scheduler) -> None:
    lock, seen = Lock(scheduler, "no"), list[str]()
    for name in "abc":
        scheduler.spawn(holder(scheduler, lock, seen, name, 2.0))
    scheduler.clock.advance(10.0)
    assert seen == ["a 0", "b 2", "c 4"]
    assert not lock.held


def test_shared_holders_do_not_wait_for_each_other_but_for_an_exclusive_one(scheduler: Scheduler) -> None:
    lock, seen = Lock(scheduler, "no"), list[str]()
    for name, shared in (("a", True), ("b", True), ("c", False), ("d", True)):
        scheduler.spawn(holder(scheduler, lock, seen, name, 2.0, shared=shared))
    scheduler.clock.advance(10.0)
    assert seen == ["a 0", "b 0", "c 2", "d 4"]


def test_who_waits_too_long_gets_the_lock_s_text(scheduler: Scheduler) -> None:
    lock, seen = Lock(scheduler, "can't lock"), list[str]()
    scheduler.spawn(holder(scheduler, lock, seen, "a", 20.0))
    waiting = scheduler.spawn(holder(scheduler, lock, seen, "b", 1.0))
    scheduler.clock.advance(9.9)
    assert not waiting.done
    scheduler.clock.advance(0.2)
    assert isinstance(waiting.error, ApiError)
    assert waiting.error.text == "can't lock"
    scheduler.clock.advance(20.0)
    assert seen == ["a 0"]


def test_an_interrupted_process_gives_back_what_it_held(scheduler: Scheduler) -> None:
    lock, seen = Lock(scheduler, "no"), list[str]()
    first = scheduler.spawn(holder(scheduler, lock, seen, "a", 100.0))
    scheduler.spawn(holder(scheduler, lock, seen, "b", 1.0))
    scheduler.clock.advance(5.0)
    first.interrupt()
    scheduler.clock.advance(1.0)
    assert seen == ["a 0", "b 5"]


def test_the_log_tells_of_waiting(scheduler: Scheduler) -> None:
    lock, lines = Lock(scheduler, "no"), list[str]()
    scheduler.spawn(holder(scheduler, lock, [], "a", 2.0, log=lines.append))
    assert lines == []
    scheduler.spawn(holder(scheduler, lock, [], "b", 2.0, log=lines.append))
    assert lines == ["trying to acquire lock..."]
    scheduler.clock.advance(3.0)
    assert lines == ["trying to acquire lock...", " OK"]
