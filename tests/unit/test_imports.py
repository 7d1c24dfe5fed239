"""The law of imports: what each file of the collection may know of the others and of the world outside."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"

# module_utils file -> layer. A new file must be named here: its layer is a decision.
LAYERS = {
    **dict.fromkeys(("endpoints", "errors", "hosts", "phrases", "plan", "progress", "redact", "shapes", "wire"), 0),
    **dict.fromkeys(
        (
            "agent",
            "agent_actions",
            "api",
            "backup",
            "backup_info",
            "backup_jobs",
            "backups",
            "capacity",
            "clone",
            "cluster_info",
            "config",
            "content",
            "disks",
            "drives",
            "facts",
            "guests",
            "hotplug",
            "locks",
            "metrics",
            "migration",
            "newcomers",
            "node_info",
            "options",
            "power",
            "restore",
            "selection",
            "snapshots",
            "task_info",
            "task_list",
            "task_state",
            "template_info",
            "unlock",
            "vm",
            "vm_info",
        ),
        1,
    ),
    **dict.fromkeys(("auth", "client", "clock", "tasks", "transport"), 2),
    **dict.fromkeys(("argspec", "fleet", "module"), 3),
}
# What features may build on beside each other; `options`, `drives` and `hotplug` are tables and pure functions, `facts` asks many
# guests side by side, `selection` chooses them.
SHARED_FEATURES = {
    "agent",
    "backups",
    "capacity",
    "drives",
    "facts",
    "guests",
    "hotplug",
    "locks",
    "newcomers",
    "options",
    "selection",
    "task_list",
}
# Features that are made of others: a guest as one declaration is found, cloned, configured and started as its parts do it.
COMPOSITES = {"vm": {"clone", "config", "power"}}
FEATURES = {name for name, layer in LAYERS.items() if layer == 1} - SHARED_FEATURES


def imports(path: Path) -> set[str]:
    """The modules that a file imports, also inside functions; those of the collection as `.module_utils.X`."""
    found: set[str] = set()
    package = ["", *path.relative_to(PLUGINS).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            inside = module in {"", ".module_utils", ".action", ".modules"}
            found.update(f"{module}.{alias.name}" for alias in node.names) if inside else found.add(module)
    return found


def utils(names: set[str]) -> set[str]:
    """The module_utils files among the imported modules."""
    prefix = ".module_utils."
    return {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}


def allowed(name: str) -> set[str]:
    """The module_utils files that a module_utils file may import."""
    layer = LAYERS[name]
    below = {other for other, its_layer in LAYERS.items() if its_layer == 0}
    if layer == 0:
        return below
    if layer == 1:
        return below | SHARED_FEATURES | COMPOSITES.get(name, set())
    if layer == 2:
        return below | {other for other, its_layer in LAYERS.items() if its_layer == 2}
    return set(LAYERS) - FEATURES


def foreign(names: set[str]) -> set[str]:
    """The top-level packages among the imported modules that are neither ours nor the standard library's."""
    return {name.split(".")[0] for name in names if not name.startswith(".")} - set(sys.stdlib_module_names)


def files(kind: str) -> list[Path]:
    return sorted(path for path in (PLUGINS / kind).glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", files("module_utils"), ids=lambda path: path.stem)
def test_module_utils(path: Path) -> None:
    assert path.stem in LAYERS, f"{path.name} has no layer yet: name it in LAYERS"
    layer, found = LAYERS[path.stem], imports(path)
    assert utils(found) <= allowed(path.stem)
    world = {0: set(), 1: set(), 2: {"requests", "urllib3"}, 3: {"ansible", "requests"}}[layer]
    assert foreign(found) <= world
    assert not {name for name in found if name.startswith((".modules", ".action", ".inventory"))}


@pytest.mark.parametrize("path", files("modules"), ids=lambda path: path.stem)
def test_modules(path: Path) -> None:
    found = imports(path)
    used = utils(found)
    assert used <= {"argspec", "module"} | FEATURES | SHARED_FEATURES
    assert len(used & FEATURES) <= 1, "a module is one feature"
    assert not foreign(found), "a module imports nothing but the collection"


@pytest.mark.parametrize("path", files("action"), ids=lambda path: path.stem)
def test_action(path: Path) -> None:
    assert imports(path) - {"__future__"} == {f".modules.{path.stem}", ".plugin_utils.in_worker"}


@pytest.mark.parametrize("path", files("plugin_utils"), ids=lambda path: path.stem)
def test_plugin_utils(path: Path) -> None:
    found = imports(path)
    assert utils(found) <= {name for name, layer in LAYERS.items() if layer in (0, 3)}
    # Jinja comes with ansible-core, on the controller, where these run.
    assert foreign(found) <= {"ansible", "jinja2"}
    assert not {name for name in found if name.startswith((".modules", ".action", ".inventory"))}


@pytest.mark.parametrize("path", files("inventory"), ids=lambda path: path.stem)
def test_inventory(path: Path) -> None:
    below = {name for name, layer in LAYERS.items() if layer in (0, 2)}
    assert utils(imports(path)) <= below | {"argspec", "facts", "guests"}


def test_ansible_module_has_one_home() -> None:
    knowing = [path.name for path in sorted(PLUGINS.rglob("*.py")) if "AnsibleModule" in names_used(path)]
    assert knowing in ([], ["module.py"])


def names_used(path: Path) -> set[str]:
    """Every name and imported name in a file; strings and comments do not count."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name)
    return found
