# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules run inside Ansible's worker process: no interpreter to start, nothing to unpack, connections kept for a loop.

What a module is, is in its own file; here is what Ansible does around it, a second time: options read and checked, results
masked. Beside that a worker knows the inventory, and can show what a long task is doing. Whatever a worker cannot do as the
ordinary module would do it is left to the ordinary module.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.errors import UnsupportedError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ..module_utils.argspec import GUEST
from ..module_utils.module import REQUESTS_HERE, Kept, execute, prepare, secrets_of, specification
from ..module_utils.progress import told
from ..module_utils.redact import printable

VARIABLE = "keel_proxmox_in_worker"
ENVIRONMENT = "KEEL_PROXMOX_IN_WORKER"
PROGRESS_VARIABLE = "keel_proxmox_progress"
PROGRESS_ENVIRONMENT = "KEEL_PROXMOX_PROGRESS"

# Asked before the workers are forked, for they have no terminal any more (since ansible-core 2.19).
_HAS_TERMINAL = sys.stderr is not None and sys.stderr.isatty()

_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")

# The strategy imports action plugins before it forks the workers, so this is paid once a playbook.
prepare()

# A worker is one process that runs one play's task, with all items of its loop.
_KEPT: dict[int, Kept] = {}


class InWorker(ActionBase):
    """The base of the action plugins; each names its module."""

    MODULE: ClassVar[ModuleType]

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module here or hand over; both give the same result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if not self._is_for_this_process(variables):
            wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
            result.update(self._execute_module(task_vars=task_vars, wrap_async=wrap_async))
            return result
        self._display.vvv(f"{self._task.action} runs in the worker")
        tell = self._teller(variables)
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        with _surroundings(environment, self._loader.get_basedir()):
            found = run_here(
                self.MODULE,
                self._task.action,
                self._task.args,
                check_mode=self._task.check_mode,
                inventory=variables,
                tell=tell,
            )
        if not _shows_invocation(variables):
            del found["invocation"]
        result.update(found)
        return result

    def _is_for_this_process(self, variables: Mapping[str, Any]) -> bool:
        """Return whether the ordinary module would be run on this machine, by this user, while the task waits for it."""
        return (
            REQUESTS_HERE
            and self._connection.transport == "local"
            and not self._task.async_val
            and self._is_same_user()
            # On macOS a forked process that asks the system for its proxies is killed.
            and self._is_wanted(variables, VARIABLE, ENVIRONMENT, sys.platform != "darwin")
        )

    def _is_same_user(self) -> bool:
        if self._connection.become is None:
            return True
        try:
            here = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a container whose user has no name
            return False
        return bool(self.get_become_option("become_user") == here)

    def _is_wanted(self, variables: Mapping[str, Any], variable: str, environment: str, default: bool) -> bool:
        """Return what the variable says, or else the environment."""
        said = self._templar.template(variables.get(variable))
        if said is None:
            said = os.environ.get(environment, default)
        try:
            return bool(boolean(said))
        except TypeError as error:
            raise AnsibleActionFail(f"{variable} or {environment} is not a boolean: {error}") from error

    def _teller(self, variables: Mapping[str, Any]) -> Callable[[str], None] | None:
        """Return what shows a line to people, None where they are not to see any."""
        if self._task.no_log or not self._is_wanted(variables, PROGRESS_VARIABLE, PROGRESS_ENVIRONMENT, _HAS_TERMINAL):
            return None
        host = printable(str(variables.get("inventory_hostname", "localhost")))

        def tell(line: str) -> None:
            # Standard output belongs to the callback. Display hands this to the process that has the terminal.
            self._display.display(f"[{host}] {line}", color=C.COLOR_VERBOSE, stderr=True, screen_only=True)

        return tell


def _shows_invocation(variables: Mapping[str, Any]) -> bool:
    """Return whether results hold the options; up to ansible-core 2.20 they always do."""
    if not hasattr(C, "INJECT_INVOCATION"):
        return True
    return bool(C.config.get_config_value("INJECT_INVOCATION", variables=variables))


def run_here(
    module: ModuleType,
    name: str,
    arguments: Mapping[str, Any],
    *,
    check_mode: bool,
    inventory: Mapping[str, Any] = MappingProxyType({}),
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Return what the module would return with these arguments, in this environment and working directory.

    :param module: one of plugins/modules, imported.
    :param name: what the play's task calls it.
    :param inventory: the variables of the play's host.
    :param tell: shows a line about what takes long.
    """
    spec = specification(module.ARGUMENTS)
    checked = ArgumentSpecValidator(spec, **module.CONSTRAINTS).validate(_plain(arguments))
    options = checked.validated_parameters
    # Like two more below this has no public name, and is what AnsibleModule takes (ansible-core 2.18 to 2.21).
    hidden: set[str] = set(checked._no_log_values)
    if checked.error_messages:
        # As AnsibleModule says it, which tells one of the reasons apart.
        unsupported = isinstance(checked.errors[0], UnsupportedError)
        prefix = f"Unsupported parameters for ({name}) module: " if unsupported else ""
        result: dict[str, Any] = {"failed": True, "msg": f"{prefix}{checked.errors.msg}", "warnings": []}
    else:
        secrets = secrets_of(options, spec)
        hidden.update(secrets)
        report = execute(
            module.FEATURE,
            {**options, **whereabouts(module, options, inventory)},
            check_mode=check_mode,
            open_client=_client,
            watch=None if tell is None else lambda progress: tell(told(progress, hidden)),
        )
        result = report.presented(secrets)
        if report.error is not None:
            result["failed"] = True
    both = [f"Both option {one['option']} and its alias {one['alias']} are set." for one in checked._warnings]
    notes = {"warnings": [*both, *result.pop("warnings")], "deprecations": checked._deprecations}
    result.update({key: texts for key, texts in notes.items() if texts})
    result["invocation"] = {"module_args": options}
    # Words for yes, no and nothing are no secrets at the top of a result.
    untouched = {key: value for key, value in result.items() if value is None or isinstance(value, bool)}
    masked: dict[str, Any] = _plain({**remove_values(result, hidden), **untouched})
    return masked


def whereabouts(module: ModuleType, options: Mapping[str, Any], inventory: Mapping[str, Any]) -> dict[str, str]:
    """Return the options `node` and `type` that the inventory knows for the very guest that the task names.

    They save the list of all guests. They are hints that prove nothing, so an old inventory costs one request more and no harm.
    """
    node, kind = inventory.get("proxmox_node"), inventory.get("proxmox_type")
    if (
        module.ARGUMENTS.get("node") is not GUEST["node"]
        or options["vmid"] is None
        or str(inventory.get("proxmox_vmid")) != str(options["vmid"])
        or options["node"] is not None
        or options["type"] not in (None, kind)
        or kind not in GUEST["type"]["choices"]
        or not isinstance(node, str)
        or not _NODE_NAME.fullmatch(node)
    ):
        return {}
    return {"node": str(node), "type": str(kind)}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value as a module gets and gives it: as JSON, without what Ansible attaches to texts."""
    plain: dict[str, Any] = json.loads(json.dumps(value, default=_as_json))
    return plain


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, tuple)):
        return list(value)
    # Dates of YAML, and vaulted texts of ansible-core 2.18.
    return value.isoformat() if isinstance(value, date) else str(value)


def _client(options: Mapping[str, Any], clock: Any) -> Any:
    """Lend the client of this process; proxies and authorities may come from the environment."""
    kept = _KEPT.setdefault(os.getpid(), Kept())
    return kept.opened(options, clock, surroundings=(dict(os.environ), os.getcwd()))


@contextmanager
def _surroundings(environment: Mapping[str, Any], directory: str) -> Iterator[None]:
    """Give this process the task's environment, and the working directory that a local module starts in, for a while."""
    before, there = dict(os.environ), os.getcwd()
    os.environ.update({str(name): str(value) for name, value in environment.items()})
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(there)
        os.environ.clear()
        os.environ.update(before)
