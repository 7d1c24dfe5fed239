"""A fresh cluster for each test."""

from __future__ import annotations

import os

import pytest

from tests.simulator import Cluster, schema

from .api import Api


@pytest.fixture(name="cluster")
def _cluster() -> Cluster:
    try:
        return Cluster()
    except schema.SchemaMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture(name="api")
def _api(cluster: Cluster) -> Api:
    return Api(cluster)
