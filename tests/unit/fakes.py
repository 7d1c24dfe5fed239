"""Small stand-ins for unit tables: a reader that answers from a table, and a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError


class FakeReader:
    """Answers GET from a table of paths; a value may be an error to raise or a function of the query."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def get(self, path: str, /, **query: object) -> Any:
        self.asked.append(path)
        answer = self.answers.get(path, absent(path))
        if isinstance(answer, Callable):
            answer = answer(**query)
        if isinstance(answer, Exception):
            raise answer
        return answer


def absent(path: str) -> ProxmoxError:
    return ProxmoxError(f"Configuration file for '{path}' does not exist", effect=Effect.ABSENT, status=500)


class FakeClock:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.time += seconds
