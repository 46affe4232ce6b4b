from __future__ import annotations

import contextlib
import dataclasses
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3sync_agent.errors import ConfigError
from s3sync_agent.fields import FIELDS, REQUIRED, Field
from s3sync_agent.settings import load
from s3sync_agent.values import host, local_url, url_paths

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["s3://bucket/site", "auto", "plain", "heal", "/srv/site", "1.5", "5", "nan", "inf"]),
)
given_values = st.dictionaries(st.sampled_from([field.name for field in FIELDS]), values)


def is_good(name: str, value: object) -> bool:
    field = next(field for field in FIELDS if field.name == name)
    try:
        field.parse(value)
    except ValueError:
        return False
    return True


@given(overrides=given_values)
def test_anything_is_a_setting_or_a_fault_and_every_fault_is_named(overrides: dict[str, object]) -> None:
    overrides = {"site": "s3://bucket"} | overrides
    faulty = {name for name, value in overrides.items() if not is_good(name, value)}
    try:
        found = load(config=None, environ={}, overrides=overrides)
    except ConfigError as error:
        lines = str(error).splitlines()[1:]
        assert {line.split(": ")[1].split(" = ")[0] for line in lines} == faulty
        assert all(line.isprintable() for line in lines)
    else:
        assert not faulty
        assert all(getattr(found, name) is not REQUIRED for name in found.__slots__)


@given(name=st.sampled_from([field.name for field in FIELDS]), value=st.text(max_size=20))
def test_the_environment_and_a_file_mean_the_same(name: str, value: str) -> None:
    def outcome(environ: Mapping[str, str], overrides: Mapping[str, object]) -> object:
        try:
            return dataclasses.asdict(load(config=None, environ=environ, overrides=overrides))
        except ConfigError as error:
            return str(error).partition(f"{name} = ")[2]

    base = {} if name == "site" else {"site": "s3://bucket"}
    assert outcome({f"S3SYNC_{name.upper()}": value}, base) == outcome({}, base | {name: value})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=60))
def test_any_file_is_read_or_refused_by_name(tmp_path: Path, raw: bytes) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(raw)
    try:
        tomllib.loads(raw.decode())
    except ValueError:
        with pytest.raises(ConfigError, match=re.escape(str(config))):
            load(config=config, environ={"S3SYNC_SITE": "s3://bucket"})
    else:
        with contextlib.suppress(ConfigError):
            load(config=config, environ={"S3SYNC_SITE": "s3://bucket"})


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_default_is_a_value_the_setting_takes(field: Field) -> None:
    if field.default is not REQUIRED and field.default is not None:
        default = field.default
        text = ",".join(default) if isinstance(default, tuple) else str(default)
        assert field.parse(text) == default


loopback = st.one_of(
    st.integers(1, 254).map(lambda last: f"127.0.0.{last}"), st.just("[::1]"), st.just("[0:0:0:0:0:0:0:1]")
)


@given(address=loopback, port=st.integers(1, 65535), slash=st.sampled_from(["", "/"]))
def test_every_address_of_this_machine_can_be_probed(address: str, port: int, slash: str) -> None:
    url = local_url(f"http://{address}:{port}{slash}")
    parts = urlsplit(url)
    assert (ip_address(parts.hostname or ""), parts.port) == (ip_address(address.strip("[]")), port)
    assert local_url(url) == url


anywhere = st.builds(
    lambda address, port, rest: f"{address}:{port}{rest}",
    st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda found: f"[{found}]"), loopback),
    st.integers(-1, 70000),
    st.sampled_from(["", "/", "/x", "?x", "#x", "@127.0.0.1:80"]),
)


@given(text=st.one_of(st.text(max_size=30), anywhere).map(lambda rest: f"http://{rest}"))
def test_whatever_is_taken_as_a_probes_url_is_this_machine(text: str) -> None:
    try:
        url = local_url(text)
    except ValueError:
        return
    parts = urlsplit(url)
    assert ip_address(parts.hostname or "").is_loopback
    assert 1 <= (parts.port or 0) <= 65535
    assert (parts.path, parts.query, parts.fragment, parts.username) == ("", "", "", None)


@given(text=st.text(max_size=300))
def test_whatever_is_taken_as_a_host_stays_in_its_header(text: str) -> None:
    try:
        taken = host(text)
    except ValueError:
        return
    assert taken.isascii()
    assert taken.isprintable()
    assert " " not in taken


paths = st.lists(
    st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20).map("/".__add__), min_size=1
)


@given(given=paths.filter(lambda found: len(found) <= 10))
def test_paths_survive_being_written_as_a_list_and_without_commas_as_a_text(given: list[str]) -> None:
    assert url_paths(given) == tuple(given)
    if not any("," in path for path in given):
        assert url_paths(",".join(given)) == tuple(given)


a_path = st.one_of(st.text(max_size=9).map("/".__add__), st.text(max_size=9), st.integers())


@given(value=st.one_of(values, st.lists(a_path, max_size=12)))
def test_whatever_is_taken_as_paths_can_be_asked_for(value: object) -> None:
    try:
        taken = url_paths(value)
    except ValueError:
        return
    assert 1 <= len(taken) <= 10
    assert all(path.startswith("/") and path.isprintable() for path in taken)
