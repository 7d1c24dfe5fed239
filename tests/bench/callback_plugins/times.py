# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes when each play's task began and ended, and what came of it, to the file that TIMES_FILE names, one JSON object a line."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: times
type: notification
short_description: Times of a play's tasks as JSON lines
description: Writes when each play's task began and ended to the file that TIMES_FILE names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._began: dict[str, float] = {}

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._began[f"{host.get_name()} {task._uuid}"] = time.time()

    def _write(self, outcome: str, result: Any) -> None:
        now = time.time()
        task = getattr(result, "task", None) or result._task
        host = (getattr(result, "host", None) or result._host).get_name()
        found = getattr(result, "result", None) or result._result
        items = found.get("results", [])
        line = {
            "outcome": outcome,
            "task": task.get_name(),
            "began": self._began.get(f"{host} {task._uuid}", now),
            "ended": now,
            "changed": sum(bool(item.get("changed")) for item in items) if items else int(bool(found.get("changed"))),
            "message": str(found.get("msg", ""))[:500],
        }
        with open(os.environ["TIMES_FILE"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write("failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write("unreachable", result)
