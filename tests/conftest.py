"""What every test shares: the collection importable under its own name, and none of the user's own settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
COLLECTIONS = CACHE / "collections"


def _link_collection() -> None:
    """Make the checkout reachable as ansible_collections/keel/proxmox, as the Makefile does."""
    link = COLLECTIONS / "ansible_collections" / "keel" / "proxmox"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(Path("../../../.."), target_is_directory=True)
    if str(COLLECTIONS) not in sys.path:
        sys.path.insert(0, str(COLLECTIONS))


def _forget_user_settings() -> None:
    """Ansible reads neither the user's configuration nor writes to the user's home; set before anything imports it."""
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        del os.environ[name]
    os.environ["ANSIBLE_HOME"] = str(CACHE / "ansible")
    settings = CACHE / "ansible.cfg"  # empty: all defaults
    settings.touch()
    os.environ["ANSIBLE_CONFIG"] = str(settings)
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)
    os.environ["ANSIBLE_NOCOWS"] = "1"
    os.environ["ANSIBLE_NOCOLOR"] = "1"


_link_collection()
_forget_user_settings()


@pytest.fixture(autouse=True)
def _no_cluster_from_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the contract suite may see a cluster named in the environment."""
    if ROOT / "tests" / "contract" in request.path.parents:
        return
    for name in [name for name in os.environ if name.startswith(("PROXMOX_", "PVE_CONTRACT_"))]:
        monkeypatch.delenv(name)
