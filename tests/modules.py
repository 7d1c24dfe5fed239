"""Run a module of the collection inside the test's process, as Ansible would: its own options, checked by its own rules."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keel.proxmox.plugins.module_utils.clock import Clock
from ansible_collections.keel.proxmox.plugins.module_utils.module import execute, secrets_of, specification

DIRECTORY = Path(__file__).resolve().parent.parent / "plugins" / "modules"
PACKAGE = "ansible_collections.keel.proxmox.plugins.modules"


def names() -> list[str]:
    """Return the name of every module of the collection."""
    return sorted(path.stem for path in DIRECTORY.glob("proxmox_*.py"))


def waits(name: str) -> bool:
    """Tell whether the module brings something about, so that it has the options about waiting."""
    return "wait" in importlib.import_module(f"{PACKAGE}.{name}").ARGUMENTS


def takes_fleets(name: str) -> bool:
    """Tell whether the module brings many guests about at once."""
    return importlib.import_module(f"{PACKAGE}.{name}").FEATURE.pace is not None


def returns(name: str, key: str) -> bool:
    """Tell whether the module's documentation has a return value of this name."""
    return key in yaml.safe_load(importlib.import_module(f"{PACKAGE}.{name}").RETURN)


def run(name: str, options: dict[str, Any], *, check_mode: bool = False, clock: Clock | None = None) -> dict[str, Any]:
    """Return the result of the module with these options, connection options included, with `failed` where it failed."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    spec = specification(module.ARGUMENTS)
    checked = ArgumentSpecValidator(spec, **module.CONSTRAINTS).validate(options)
    if checked.error_messages:
        return {"failed": True, "changed": False, "msg": "; ".join(checked.error_messages)}
    report = execute(module.FEATURE, checked.validated_parameters, check_mode=check_mode, clock=clock)
    secrets = secrets_of(checked.validated_parameters, spec)
    return {**report.presented(secrets), "failed": report.error is not None}
