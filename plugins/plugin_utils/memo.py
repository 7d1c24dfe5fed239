# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Expressions of an inventory, evaluated once for each distinct input where that cannot make a difference.

Evaluating an expression takes Ansible 0.2 to 0.3 ms, and thousands of guests differ in few of the values that expressions read. An
expression is kept only if all that it can depend on is known: the variables that it names, by value and type, and nothing else.
What is not on the lists below (calls, lookups, plugins of others, globals such as now) is evaluated each time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ansible.constants
import ansible.template
from ansible.errors import AnsibleError
from ansible.plugins.loader import filter_loader, test_loader
from ansible.utils.unsafe_proxy import AnsibleUnsafeText
from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.parser import Parser


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Filters and tests of Jinja and ansible-core whose result follows from their arguments.
FILTERS = _words(
    """abs b64decode b64encode basename batch bool capitalize center combine count d default dict2items dictsort difference dirname
    first flatten float from_json groupby hash human_readable human_to_bytes indent int intersect items2dict join last length list
    log lower mandatory map max md5 min pow product quote regex_escape regex_findall regex_replace regex_search reject rejectattr
    replace reverse root round select selectattr sha1 slice sort split splitext string sum symmetric_difference ternary title
    to_json to_nice_json to_uuid tojson trim truncate union unique upper urlencode urlsplit wordcount zip zip_longest"""
)
TESTS = _words(
    """all any boolean contains defined divisibleby eq equalto even false falsy float ge greaterthan gt in integer iterable le
    lessthan lower lt mapping match ne none number odd regex search sequence string subset superset true truthy undefined upper
    version version_compare"""
)
# Methods that leave the text, list or dictionary as it is.
METHODS = _words(
    """capitalize count endswith find get index isalnum isalpha isdigit islower isupper items join keys ljust lower lstrip
    partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip
    swapcase title upper values zfill"""
)
# Position of the argument that names another filter or test, and which of the two. The first of selectattr is an attribute.
_NAMING = {
    "map": (0, "filter"),
    "select": (0, "test"),
    "reject": (0, "test"),
    "selectattr": (1, "test"),
    "rejectattr": (1, "test"),
}
# Names that Ansible or Jinja may give a meaning of their own.
_RESERVED = _words("caller environment groups hostvars kwargs loop omit play_hosts self super varargs vars")
_NODES = frozenset(
    getattr(nodes, name)
    for name in _words(
        """Template Output TemplateData If Const Name List Tuple Dict Pair Keyword CondExpr Compare Operand And Or Not Neg Pos Add
        Sub Mul Div FloorDiv Mod Pow Concat Slice Getitem Getattr Filter Test Call"""
    )
)
_ATTRIBUTES = frozenset(name for kind in (str, int, float, list, dict) for name in dir(kind))
_LOADERS = {"filter": (filter_loader, FILTERS), "test": (test_loader, TESTS)}

# Before 2.19 a text is a template if it looks like one and is not marked; since then, if it is marked, and so of another type.
_MARKED_IF_TRUSTED = hasattr(ansible.template, "trust_as_template")
_ATOMS = frozenset({str, int, bool, type(None)}) | (
    frozenset() if _MARKED_IF_TRUSTED else frozenset({AnsibleUnsafeText})
)
_SCALARS = (str, int, float, type(None))
_ABSENT = object()

# After so many distinct inputs of an expression, keeping them must have paid.
ENOUGH = 256


class _Unfit(Exception):
    """A value that may mean more than its type and content."""


@dataclass
class _Kept:
    """What is kept of one expression. :param names: the variables that it reads, None where that is not all."""

    names: tuple[str, ...] | None
    results: dict[Any, tuple[Any, AnsibleError | None]] = field(default_factory=dict)
    hits: int = 0


class MemoTemplar:
    """A templar that remembers; whatever is not told here is the real one's.

    It takes the place of the templar of Ansible's own Constructable, which therefore does everything else as always.
    """

    def __init__(self, templar: Any) -> None:
        self._templar = templar
        self._variables: Any = templar.available_variables
        self._kept: dict[Any, _Kept] = {}
        self._global: dict[str, bool] = {}
        # Scalars that were handed out, by identity. Since Ansible 2.19 they are marked with the place of their expression.
        self._made: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        self._templar.available_variables = self._variables
        return getattr(self._templar, name)

    @property
    def available_variables(self) -> Any:
        """The variables that expressions see."""
        return self._variables

    @available_variables.setter
    def available_variables(self, variables: Any) -> None:
        self._variables = variables

    def evaluate_expression(self, expression: Any, **options: Any) -> Any:
        """Return what the templar's method returns (ansible-core 2.19 and newer)."""
        return self._once("evaluate_expression", expression, options)

    def evaluate_conditional(self, conditional: Any) -> Any:
        """Return what the templar's method returns (ansible-core 2.19 and newer)."""
        return self._once("evaluate_conditional", conditional, {})

    def template(self, variable: Any, **options: Any) -> Any:
        """Return what the templar's method returns."""
        return None if variable is None else self._once("template", variable, options)

    def _once(self, method: str, text: Any, options: Mapping[str, Any]) -> Any:
        variables = self._variables
        fit = isinstance(text, str) and variables.__class__ is dict and options.keys() <= {"disable_lookups"}
        if fit and _MARKED_IF_TRUSTED:
            fit = ansible.template.is_trusted_as_template(text)
        if not fit:
            return self._plainly(method, text, options)
        of = (method, type(text), text, *options.values())
        kept = self._kept.get(of)
        if kept is None:
            kept = self._kept[of] = _Kept(self._reads(method, text))
        if kept.names is None:
            return self._plainly(method, text, options)
        try:
            key = tuple([self._key(variables.get(name, _ABSENT)) for name in kept.names])
        except _Unfit:
            return self._plainly(method, text, options)
        known = kept.results.get(key)
        if known is None:
            return self._first(kept, key, method, text, options)
        kept.hits += 1
        result, error = known
        if error is not None:
            raise error.with_traceback(None)
        return result if isinstance(result, _SCALARS) else copy.deepcopy(result)

    def _first(self, kept: _Kept, key: Any, method: str, text: str, options: Mapping[str, Any]) -> Any:
        """Evaluate, and keep what came of it."""
        if len(kept.results) >= ENOUGH and kept.hits < len(kept.results):
            kept.names, kept.results = None, {}
            return self._plainly(method, text, options)
        try:
            result = self._plainly(method, text, options)
        except AnsibleError as error:
            kept.results[key] = (None, error)
            raise
        if isinstance(result, _SCALARS):
            kept.results[key] = (result, None)
            if _MARKED_IF_TRUSTED and not ansible.template.is_trusted_as_template(result):
                self._made[id(result)] = result
        elif _is_data(result):
            kept.results[key] = (copy.deepcopy(result), None)
        else:
            kept.names, kept.results = None, {}
        return result

    def _key(self, value: Any) -> Any:
        """Return the value as a key that no other value has; raises _Unfit for what may be a template or have a behaviour."""
        kind = type(value)
        if kind in _ATOMS:
            if not _MARKED_IF_TRUSTED and kind is str and "{" in value:
                raise _Unfit
            return kind, value
        if kind is float and not math.isnan(value):
            # Zero has two signs.
            return kind, repr(value)
        if kind is list:
            return kind, tuple([self._key(item) for item in value])
        if kind is dict:
            return kind, tuple([(self._key(name), self._key(item)) for name, item in value.items()])
        if value is _ABSENT:
            return value
        if self._made.get(id(value), _ABSENT) is value:
            return _ABSENT, id(value)
        raise _Unfit

    def _plainly(self, method: str, text: Any, options: Mapping[str, Any]) -> Any:
        self._templar.available_variables = self._variables
        return getattr(self._templar, method)(text, **options)

    def _reads(self, method: str, text: str) -> tuple[str, ...] | None:
        """Return the names of all that the result depends on, None where they are not all."""
        if getattr(ansible.constants, "DEFAULT_JINJA2_EXTENSIONS", None) or text.startswith("#jinja2:"):
            return None
        try:
            names = variables_of(_parsed(text, as_template=method == "template"))
        except (TemplateSyntaxError, RecursionError):
            return None
        if names is None or any(self._means_something_else(name) for name in names):
            return None
        return tuple(sorted(names))

    def _means_something_else(self, name: str) -> bool:
        """Tell whether the name is more than a variable: something answers to it when there are no variables."""
        if name not in self._global:
            self._templar.available_variables = {}
            if _MARKED_IF_TRUSTED:
                text = ansible.template.trust_as_template(f"{name} is defined")
                self._global[name] = bool(self._templar.evaluate_conditional(text))
            else:
                self._global[name] = str(self._templar.template(f"{{{{ {name} is defined }}}}")) != "False"
        return self._global[name]


def _parsed(text: str, *, as_template: bool) -> nodes.Node:
    """Return the syntax tree; raises TemplateSyntaxError for what is not one expression or template."""
    environment = Environment()
    if as_template:
        return environment.parse(text)
    parser = Parser(environment, text, state="variable")
    expression = parser.parse_expression()
    if not parser.stream.eos:
        raise TemplateSyntaxError("more than an expression", parser.stream.current.lineno)
    return expression


def variables_of(tree: nodes.Node) -> frozenset[str] | None:
    """Return the names of the variables that the tree reads, None where its result may depend on anything else."""
    every = list(_all(tree))
    if not all(_is_pure(node) for node in every):
        return None
    # A method's name is only safe where it is called; the call has been looked at.
    called = {id(node.node) for node in every if isinstance(node, nodes.Call)}
    for node in every:
        if isinstance(node, nodes.Getattr) and id(node) not in called and not _is_item(node.attr):
            return None
    names = frozenset(node.name for node in every if isinstance(node, nodes.Name))
    return None if names & _RESERVED else names


def _all(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _all(child)


def _is_pure(node: nodes.Node) -> bool:
    if type(node) not in _NODES:
        return False
    if isinstance(node, nodes.Name):
        return node.ctx == "load"
    if isinstance(node, nodes.Const):
        # Ansible evaluates templates in constants, too.
        return not isinstance(node.value, str) or not any(mark in node.value for mark in ("{{", "{%", "{#"))
    if isinstance(node, nodes.Getitem):
        return not isinstance(node.arg, nodes.Const) or not isinstance(node.arg.value, str) or _is_item(node.arg.value)
    if isinstance(node, (nodes.Call, nodes.Filter, nodes.Test)) and (node.dyn_args or node.dyn_kwargs):
        return False
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) and node.node.attr in METHODS
    if isinstance(node, nodes.Filter):
        return node.node is not None and _is_ours("filter", node.name) and _names_pure_ones(node)
    return not isinstance(node, nodes.Test) or _is_ours("test", node.name)


def _is_item(name: str) -> bool:
    return name not in _ATTRIBUTES and not name.startswith("_")


def _names_pure_ones(node: nodes.Filter) -> bool:
    """Tell whether a filter that applies another one names one that is known to be pure, too."""
    place, kind = _NAMING.get(_short(node.name), (0, ""))
    if not kind or len(node.args) <= place:
        return True
    inner = node.args[place]
    return isinstance(inner, nodes.Const) and _short(inner.value) not in _NAMING and _is_ours(kind, inner.value)


def _short(name: object) -> str:
    return str(name).removeprefix("ansible.builtin.")


def _is_ours(kind: str, name: object) -> bool:
    """Tell whether the filter or test is a known one of Jinja or ansible-core, and nobody's own of the same name."""
    loader, known = _LOADERS[kind]
    short = _short(name)
    if short not in known:
        return False
    try:
        plugin = loader.get(name)
    except (AnsibleError, KeyError):
        return False
    return plugin is None or plugin.ansible_name == f"ansible.builtin.{short}"


def _is_data(value: Any) -> bool:
    """Tell whether a result can be copied and is then the same: lists, dictionaries and scalars, however marked."""
    if isinstance(value, dict):
        return all(isinstance(name, _SCALARS) and _is_data(item) for name, item in value.items())
    return all(map(_is_data, value)) if isinstance(value, list) else isinstance(value, _SCALARS)
