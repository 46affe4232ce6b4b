"""S3 servers for every test that wants one: one of each kind for a whole session (and xdist worker).

A test makes itself a bucket of its own with `server.new_bucket()` and points AWS's settings at the
server with `server.environment()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import botocore.loaders
import pytest

from tests import servers


@pytest.fixture(autouse=True)
def _nobody_s_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test ever sees the credentials, profiles or endpoints of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in servers.NO_SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def _service_models_are_read_once() -> Iterator[None]:
    """Most of the time a new client takes (0.1 s) goes into reading the same JSON files again."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("botocore.session.create_loader", lambda *_: loader)
        yield


@pytest.fixture(scope="session")
def moto_server() -> Iterator[servers.S3Server]:
    with servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3Server]:
    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server
