"""The template, read once, and emulators of AWS: one of each for a whole session (and xdist worker)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra import emulators
from tests.infra.emulators import Aws
from tests.infra.given import IMAGE_PARAMETER
from tests.infra.template import Template

TEMPLATE = Path(__file__).resolve().parents[2] / "infra" / "cloudformation.yaml"


@pytest.fixture(scope="session")
def path() -> Path:
    return TEMPLATE


@pytest.fixture(scope="session")
def template(path: Path) -> Template:
    return Template.read(path)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with emulators.ministack(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture
def aws(ministack: Aws) -> Aws:
    """An account with nothing in it but an image for arm64, which ministack lacks."""
    emulators.reset(ministack)
    ministack.client("ssm").put_parameter(Name=IMAGE_PARAMETER, Type="String", Value="ami-0123456789abcdef0")
    return ministack


@pytest.fixture(scope="session")
def moto() -> Iterator[Aws]:
    with emulators.moto() as running:
        yield running
