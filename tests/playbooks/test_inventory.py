"""The inventory through the real ansible-inventory, and guests as hosts of a play."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Site


@pytest.fixture
def inventory(site: Site) -> Any:
    """Write an inventory file with these options and return its path."""

    def write(name: str = "test.proxmox.yml", **options: Any) -> Path:
        path = site.directory / name
        path.write_text(yaml.safe_dump({"plugin": "keel.proxmox.proxmox", **options}), encoding="utf-8")
        return path

    return write


def requests(site: Site) -> int:
    return len(site.cluster.log)


def test_list_is_one_request(site: Site, inventory: Any) -> None:
    before = requests(site)
    run = site.run(["ansible-inventory", "-i", str(inventory()), "--list"])
    assert run.code == 0, run.stderr
    assert requests(site) - before == 1
    listed = json.loads(run.stdout)
    variables = listed["_meta"]["hostvars"]["debian-13"]
    assert variables["proxmox_vmid"] == 9000
    assert variables["proxmox_template"] is True


def test_graph(site: Site, inventory: Any) -> None:
    run = site.run(["ansible-inventory", "-i", str(inventory()), "--graph"])
    assert run.code == 0, run.stderr
    assert "debian-13" in run.stdout


def test_cached_run_makes_no_request(site: Site, inventory: Any) -> None:
    path = str(
        inventory(
            cache=True, cache_plugin="jsonfile", cache_connection=str(site.directory / "cache"), cache_timeout=600
        )
    )
    first = site.run(["ansible-inventory", "-i", path, "--list"])
    before = requests(site)
    second = site.run(["ansible-inventory", "-i", path, "--list"])
    assert requests(site) == before
    assert json.loads(second.stdout) == json.loads(first.stdout)


def test_wrong_secret_is_one_clear_message(site: Site, inventory: Any) -> None:
    run = site.run(
        ["ansible-inventory", "-i", str(inventory()), "--list"],
        PROXMOX_TOKEN_SECRET="wrong",
        ANSIBLE_INVENTORY_UNPARSED_FAILED="1",
    )
    assert run.code != 0
    assert "401" in run.stderr
    assert "Traceback" not in run.stderr


def test_typo_in_an_option_is_told(site: Site, inventory: Any) -> None:
    run = site.run(
        ["ansible-inventory", "-i", str(inventory(filtres={})), "--list"], ANSIBLE_INVENTORY_UNPARSED_FAILED="1"
    )
    assert run.code != 0
    assert "filtres" in run.stderr
