"""Several plays at once on one cluster, in virtual time: who goes next is drawn from a seed, so every race can be run again."""

from __future__ import annotations

import contextvars
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import requests
from ansible_collections.keel.proxmox.plugins.module_utils import transport

from tests import modules
from tests.simulator import Cluster
from tests.simulator.adapter import ClusterAdapter

from .world import _session, _tls_context, credentials

Play = tuple[str, dict[str, Any]]


class Conductor:
    """Lets one of several threads run at a time; at each request and each pause it draws who is next."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self._random = random.Random(seed)
        self._turn = threading.Condition()
        self._waking: dict[int, float] = {}  # player -> when it wants to go on
        self._current: int | None = None
        self._expected = 0

    def run(self, plays: Sequence[Play]) -> list[dict[str, Any]]:
        """Return the result of each play."""
        random.seed(0)
        self._expected = len(plays)
        results: list[dict[str, Any]] = [{} for _play in plays]

        def player(number: int, module: str, options: dict[str, Any]) -> None:
            clock = _PlayersClock(self, number)
            _players.set(_PlayersWire(self, number))
            self.pause(number, 0.0)
            try:
                results[number] = modules.run(module, credentials(self.cluster, password=False) | options, clock=clock)
            finally:
                self._leave(number)

        threads = [
            threading.Thread(target=player, args=(number, *play), daemon=True) for number, play in enumerate(plays)
        ]
        with _wired():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
        assert not any(thread.is_alive() for thread in threads), "a play does not end"
        return results

    def pause(self, number: int, seconds: float) -> None:
        """Let others go first; return when it is this player's turn and its time has come."""
        with self._turn:
            self._waking[number] = self.cluster.now + seconds
            if self._current in (None, number):
                self._current = None
                self._draw()
            self._turn.wait_for(lambda: self._current == number)
            del self._waking[number]

    def _leave(self, number: int) -> None:
        with self._turn:
            self._expected -= 1
            self._current = None
            self._draw()

    def _draw(self) -> None:
        """Choose who is next, once everybody who takes part waits; where all sleep, time goes on."""
        if len(self._waking) < self._expected or not self._waking:
            return
        ready = sorted(number for number, when in self._waking.items() if when <= self.cluster.now)
        if not ready:
            first = min(self._waking.values())
            self.cluster.clock.advance(first - self.cluster.now)
            ready = sorted(number for number, when in self._waking.items() if when <= self.cluster.now)
        self._current = self._random.choice(ready)
        self._turn.notify_all()


class _PlayersClock:
    def __init__(self, conductor: Conductor, number: int) -> None:
        self._conductor, self._number = conductor, number

    def now(self) -> float:
        return self._conductor.cluster.now

    def sleep(self, seconds: float) -> None:
        self._conductor.pause(self._number, seconds)


class _PlayersWire(ClusterAdapter):
    def __init__(self, conductor: Conductor, number: int) -> None:
        super().__init__(conductor.cluster)
        self._conductor, self._number = conductor, number

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self._conductor.pause(self._number, 0.0)
        return super().send(request, *args, **kwargs)


_players: contextvars.ContextVar[_PlayersWire] = contextvars.ContextVar("players")


@contextmanager
def _wired() -> Iterator[None]:
    with (
        patch.object(transport, "_session", lambda adapter: _session(_players.get())),
        patch.object(transport, "tls_context", _tls_context),
    ):
        yield
