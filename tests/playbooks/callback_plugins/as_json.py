# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A callback whose standard output is one JSON document, as those for machines are."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: as_json
type: stdout
short_description: A play as JSON
description: Prints the outcomes of a play as one JSON document.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "as_json"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.changed: list[bool] = []

    def v2_runner_on_ok(self, result: Any) -> None:
        self.changed.append(bool(result._result.get("changed")))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._display.display(json.dumps({"changed": self.changed}))
