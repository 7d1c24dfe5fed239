"""Constructed variables and groups with the memo are those that plain Constructable gives, on whatever ansible-core runs this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.template
import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.plugins.loader import init_plugin_loader
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.keel.proxmox.plugins.plugin_utils import memo
from ansible_collections.keel.proxmox.plugins.plugin_utils.memo import MemoTemplar
from hypothesis import given, settings
from hypothesis import strategies as st

MARKED = hasattr(ansible.template, "trust_as_template")
METHODS = ("evaluate_expression", "evaluate_conditional", "template")

# Values that compare equal and are not the same, and others that an expression may stumble over.
VALUES = [
    *(1, True, 1.0, "1", "True", 0, False, 0.0, -0.0, "0", "", None, float("nan")),
    *([], [1], [True], ["1"], ["a", "b"], ["b", "a"], {}, {"a": 1}, {"a": True}, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    *("a-b", "A-B", "{{ other }}", "{% raw %}", "é", "10.0.0.1/24", {"keys": 1, "upper": "x"}, [["a"], {"k": [1]}]),
]
ABSENT = object()

SAFE = (
    *("v", "w", "[v, w]", "{'k': v}", "v == 1", "v is defined", "v is none", "not v", "v or w", "v and w", "(v, w)"),
    *(
        "v | default('none')",
        "v | default('none', true)",
        "v ~ '-' ~ w",
        "v if w else 'no'",
        "v | string",
        "v | int",
        "v | bool",
    ),
    *(
        "v | length",
        "v | list",
        "v.a",
        "v['a']",
        "v[0]",
        "v.a.b | default('deep')",
        "v.split('-')",
        "v.upper()",
        "v.keys() | list",
    ),
    *(
        "v | upper",
        "v | replace('a', 'b')",
        "v | regex_replace('^(.)', 'x\\1')",
        "v | regex_search('a')",
        "v is match('a')",
    ),
    *(
        "v | map('upper') | list",
        "v | select('defined') | list",
        "v | dict2items",
        "v | to_json",
        "v | hash('sha1')",
        "v + 1",
    ),
    *(
        "v is string",
        "v is number",
        "v is mapping",
        "v is sameas true",
        "'a' in v",
        "v | sort | join(',')",
        "v | first",
        "v | max",
    ),
    *(
        "v | ternary('x', w)",
        "v == w",
        "v is version('1.0', '>=')",
        "missing",
        "missing | default(v)",
        "missing.deep | default(v)",
    ),
    *(
        "1",
        "'text'",
        "none",
        "true",
        "[]",
        "{}",
        "v | combine({'z': 1})",
        "v | mandatory",
        "inventory_hostname",
        "group_names",
    ),
)
ODD = (
    *(
        "",
        " ",
        "v |",
        "v }} {{ w",
        "{{ v }}",
        "v | nosuchfilter",
        "v is nosuchtest",
        "v # comment",
        "'{{ w }}'",
        "'{{ w }}' ~ v",
    ),
    *("v.upper", "v.__class__", "v['upper']", "v | map('nosuch') | list", "undef()", "omit"),
    *(
        "lookup('ansible.builtin.vars', 'w', default='d')",
        "query('ansible.builtin.items', v)",
        "vars['v']",
        "hostvars['h0'].v",
    ),
    *(
        "range(3) | list",
        "dict(a=v)",
        "namespace(a=1)",
        "v | extract({'a': 1})",
        "lookup('ansible.builtin.env', 'HOME')",
        "self",
    ),
    *(
        "v | from_json",
        "v | b64encode",
        "(v | string).format(w)",
        "v.items() | list",
        "v.pop(0)",
        "v | type_debug",
        "v | items",
    ),
)


def trusted(texts: Any, directory: Path) -> Any:
    """The options as an inventory file gives them to a plugin."""
    path = directory / "options.yml"
    path.write_text(yaml.safe_dump({"options": texts}), encoding="utf-8")
    keywords = {"trusted_as_template": True} if MARKED else {}
    return DataLoader().load_from_file(str(path), cache="none", **keywords)["options"]


class Counting:
    """A templar, and how often it was asked, not counting what asks for the meaning of a name."""

    def __init__(self, templar: Any) -> None:
        self.__dict__.update(real=templar, asked=0)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if name not in METHODS:
            return found

        def ask(text: Any, **options: Any) -> Any:
            self.__dict__["asked"] += not str(text).endswith((" is defined", " is defined }}"))
            return found(text, **options)

        return ask

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


class Plugin(BaseInventoryPlugin, Constructable):
    """Constructable, and nothing else."""

    NAME = "plain"

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.given = options

    def get_option(self, option: str, hostvars: Any = None) -> Any:
        defaults = {"strict": False, "use_extra_vars": False, "leading_separator": True}
        return self.given.get(option, defaults.get(option))


def construct(
    options: Mapping[str, Any],
    hosts: Sequence[Mapping[str, Any]],
    *,
    remember: bool,
    extra: Mapping[str, Any] | None = None,
) -> tuple[Any, int]:
    """Apply the options to hosts as the inventory plugin does: all that came of it, and how often an expression was evaluated."""
    inventory, loader = InventoryData(), DataLoader()
    plugin = Plugin(options)
    BaseInventoryPlugin.parse(plugin, inventory, loader, "nowhere")
    plugin._vars = dict(extra or {})
    counting = Counting(plugin.templar)
    plugin.templar = MemoTemplar(counting) if remember else counting
    strict = plugin.get_option("strict")
    try:
        for number, variables in enumerate(hosts):
            name = f"h{number}"
            inventory.add_host(name)
            host = inventory.get_host(name)
            for key, value in variables.items():
                host.set_variable(key, value)
            plugin._set_composite_vars(options.get("compose"), host.get_vars(), name, strict=strict)
            after = host.get_vars()
            plugin._add_host_to_composed_groups(options.get("groups"), after, name, strict, fetch_hostvars=False)
            plugin._add_host_to_keyed_groups(options.get("keyed_groups"), after, name, strict, fetch_hostvars=False)
    except AnsibleError as error:
        failed = f"{type(error).__name__}: {error}"
    else:
        failed = ""
    groups = {
        name: ([host.name for host in group.hosts], sorted(child.name for child in group.child_groups))
        for name, group in inventory.groups.items()
    }
    hostvars = {name: exactly(host.vars) for name, host in inventory.hosts.items()}
    return (failed, groups, hostvars), counting.asked


def exactly(value: Any) -> Any:
    """The value with its type, which tells marked texts from others, and the sign of zeros."""
    if isinstance(value, Mapping):
        return type(value), [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, list):
        return type(value), [exactly(item) for item in value]
    return type(value), repr(value)


def host(v: Any, w: Any = "w") -> dict[str, Any]:
    variables = {name: value for name, value in (("v", v), ("w", w)) if value is not ABSENT}
    return variables if MARKED else wrap_var(variables)


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> Iterator[None]:
    init_plugin_loader()
    yield
    # Ansible's own way to import collections would stay for the tests that follow.
    _AnsibleCollectionFinder._remove()


HOSTS = [*(host(v) for v in [*VALUES, ABSENT]), *(host(v, 1) for v in VALUES[:6])] * 2


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("expression", [*SAFE, *ODD])
def test_same_as_constructable(expression: str, strict: bool, tmp_path: Path) -> None:
    every = {
        "compose": {"composed": expression},
        "groups": {"chosen": expression, "later": "composed is defined and composed == 1"},
        "keyed_groups": [{"key": expression, "prefix": "p"}, {"key": "composed | default('unset', true)"}],
    }
    if expression == "self":
        # Its text has an address in it.
        del every["compose"], every["keyed_groups"]
    options = trusted({**every, "strict": strict}, tmp_path)
    # The first error ends a strict one, so each value is tried by itself.
    for hosts in [[one, one] for one in HOSTS[::9]] if strict else [HOSTS]:
        for kind in list(every) if strict else [""]:
            only = {name: value for name, value in options.items() if kind in ("", name) or name == "strict"}
            assert construct(only, hosts, remember=True)[0] == construct(only, hosts, remember=False)[0]


@pytest.mark.parametrize(
    "keyed",
    [
        {"key": "v", "prefix": "p", "separator": ""},
        {"key": "v", "prefix": "p", "default_value": "nothing"},
        {"key": "v", "prefix": "p", "trailing_separator": False},
        {"key": "v", "parent_group": "all_of_them"},
        {"key": "v", "parent_group": "{{ w }}"},
        {"key": "v", "parent_group": "of_{{ w }}_{{ v }}"},
        {"key": "v", "parent_group": "{{ missing }}"},
        {"key": "v", "parent_group": "{{ lookup('ansible.builtin.env', 'HOME') }}"},
        {"key": "v", "default_value": "nothing", "trailing_separator": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("leading", [False, True])
def test_settings_of_keyed_groups(keyed: dict[str, Any], leading: bool, tmp_path: Path) -> None:
    options = trusted({"keyed_groups": [keyed], "leading_separator": leading}, tmp_path)
    hosts = [host(v) for v in ("a", "", None, ["a", "", "b"], {"k": "a", "e": ""}, [], {}, "a", ["a", "", "b"])]
    plain, _asked = construct(options, hosts, remember=False)
    assert construct(options, hosts, remember=True)[0] == plain


def test_extra_variables_go_before(tmp_path: Path) -> None:
    options = trusted({"compose": {"x": "v ~ e"}, "keyed_groups": [{"key": "v"}], "use_extra_vars": True}, tmp_path)
    hosts = [host("a"), host("b"), host("a")]
    seen = []
    for extra in ({"e": "1"}, {"e": "2", "v": "z"}, trusted({"e": "{{ w }}"}, tmp_path)):
        plain, _asked = construct(options, hosts, remember=False, extra=extra)
        assert construct(options, hosts, remember=True, extra=extra)[0] == plain
        seen.append(plain[2])
    assert seen[0] != seen[1] != seen[2]


def test_a_variable_that_is_a_template_is_none_of_ours(tmp_path: Path) -> None:
    template = trusted("{{ w }}", tmp_path)
    hosts = [{"v": template, "w": number} for number in range(4)]
    options = trusted({"groups": {f"is_{number}": f"v | int == {number}" for number in range(4)}}, tmp_path)
    (failed, groups, _hostvars), asked = construct(options, hosts, remember=True)
    assert (failed, asked) == ("", 16)
    assert [groups[f"is_{number}"][0] for number in range(4)] == [["h0"], ["h1"], ["h2"], ["h3"]]


@pytest.mark.parametrize(
    "expression",
    [
        *(
            "now()",
            "now().year",
            "v ~ now()",
            "[1, 2] | random",
            "v | map('random') | list",
            "lookup('ansible.builtin.env', v)",
        ),
        *(
            "q('ansible.builtin.items', v)",
            "range(3) | list",
            "lipsum()",
            "cycler('a').next()",
            "vars['v']",
            "hostvars[v]",
        ),
        *("v | password_hash", "v | shuffle", "v.append(1)", "v.__class__", "v.upper", "v is exists", "v is sameas w"),
        *(
            "'{{ w }}'",
            "v | expandvars",
            "v | strftime",
            "v | ansible.legacy.nosuch",
            "v(w)",
            "v | select('exists') | list",
        ),
        *("v | map(w) | list", "v | default(*w)", "joiner()", "undef()", "[[v]] | map('map', 'random') | list"),
        *("[[v]] | map('ansible.builtin.map', 'random') | list", "[v] | ansible.builtin.map('random') | list"),
    ],
)
def test_evaluated_each_time(expression: str, tmp_path: Path) -> None:
    hosts = [host("a")] * 5
    options = trusted({"compose": {"x": expression}}, tmp_path)
    assert evaluations(options, hosts) == 5


@pytest.mark.parametrize(
    "expression", ["v", "v ~ w", "'web' in v", "v | default('x') | upper", "missing", "v.split('-')", "[v, w]"]
)
def test_evaluated_once_for_each_input(expression: str, tmp_path: Path) -> None:
    hosts = [host(v) for v in ("a", "b", "a", "a", "b")] * 4
    options = trusted({"compose": {"x": expression}}, tmp_path)
    assert evaluations(options, hosts) == (1 if expression == "missing" else 2)


def test_what_was_composed_is_known_again(tmp_path: Path) -> None:
    hosts = [host(v) for v in ("a", "b")] * 10
    options = trusted({"compose": {"x": "v ~ '-x'"}, "keyed_groups": [{"key": "x"}]}, tmp_path)
    assert evaluations(options, hosts) == 4


def evaluations(options: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]) -> int:
    """How often an expression was evaluated."""
    return construct(options, hosts, remember=True)[1]


def test_inputs_that_do_not_repeat_are_not_kept(tmp_path: Path) -> None:
    hosts = [host(f"v{number}") for number in range(memo.ENOUGH + 100)]
    options = trusted({"compose": {"x": "v"}}, tmp_path)
    kept, asked = construct(options, hosts, remember=True)
    assert kept == construct(options, hosts, remember=False)[0]
    assert asked == len(hosts)


def test_results_are_not_shared(tmp_path: Path) -> None:
    inventory = InventoryData()
    plugin = Plugin({})
    BaseInventoryPlugin.parse(plugin, inventory, DataLoader(), "nowhere")
    plugin.templar = MemoTemplar(plugin.templar)
    expression = trusted("[v, [v]]", tmp_path)
    results = [plugin._compose(expression, host("a")) for _time in range(3)]
    results[0][1].append("changed")
    results[1].append("changed")
    assert results[2] == ["a", ["a"]]


def test_a_filter_of_ones_own_is_not_taken_for_ansibles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        ansible_name = "upper"

    monkeypatch.setitem(
        memo._LOADERS, "filter", (type("Loader", (), {"get": lambda _self, _name: Own})(), memo.FILTERS)
    )
    options = trusted({"compose": {"x": "v | upper"}}, tmp_path)
    assert evaluations(options, [host("a")] * 5) == 5


ATOM = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0, "", "1", "a", "True", "{{ w }}"])
)
VALUE = st.recursive(
    ATOM, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
)
TERM = st.sampled_from(["v", "w", "1", "'a'", "[]", "missing", "v.a", "w[0]", "now().year"])
EXPRESSION = st.recursive(
    TERM,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "~", "==", "and", "or", "in", "<"]), inner)
        .map(" ".join)
        .map("({})".format),
        st.tuples(inner, st.sampled_from(["default('d')", "string", "int", "list", "upper", "to_json", "length"]))
        .map(" | ".join)
        .map("({})".format),
        st.tuples(inner, st.sampled_from(["defined", "none", "string", "number", "mapping"]))
        .map(" is ".join)
        .map("({})".format),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(expression=EXPRESSION, hosts=st.lists(st.tuples(VALUE, VALUE), min_size=2, max_size=6))
def test_any_expression(
    tmp_path_factory: pytest.TempPathFactory, expression: str, hosts: list[tuple[Any, Any]]
) -> None:
    options = trusted(
        {
            "compose": {"x": expression},
            "groups": {"g": expression},
            "keyed_groups": [{"key": expression}, {"key": "x | default('-')"}],
        },
        tmp_path_factory.mktemp("any"),
    )
    every = [host(v, w) for v, w in hosts] * 2
    assert construct(options, every, remember=True)[0] == construct(options, every, remember=False)[0]
