from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import Site
from s3sync_agent.settings import Settings, config_files, load

hides_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('site = "s3://bucket/site"\n')
    (tmp_path / "config.d").mkdir()
    return path


def fragment(config: Path, name: str, text: str) -> Path:
    path = config.parent / "config.d" / name
    path.write_text(text)
    return path


def loaded(config: Path, environ: Mapping[str, str] | None = None) -> Settings:
    return load(config=config, environ=environ or {})


def faults(config: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as error:
        loaded(config, environ)
    return str(error.value).split("\n  ")[1:]


# ------------------------------------------------------------------------- precedence


def test_the_site_is_all_that_must_be_said(config: Path) -> None:
    found = loaded(config)
    assert found.site == Site("bucket", "site")
    assert (found.source, found.poll_interval, found.keep_releases) == ("auto", 5.0, 3)


def test_fragments_come_after_the_file_in_the_order_of_their_names(config: Path) -> None:
    config.write_text('site = "s3://bucket"\npoll_interval = 1\nkeep_releases = 9')
    fragment(config, "20-later.toml", "poll_interval = 3")
    fragment(config, "10-first.toml", "poll_interval = 2\nplain_settle = 7")
    found = loaded(config)
    assert (found.poll_interval, found.keep_releases, found.plain_settle) == (3, 9, 7)


def test_the_environment_comes_last(config: Path) -> None:
    fragment(config, "10.toml", "poll_interval = 2")
    assert loaded(config, {"S3SYNC_POLL_INTERVAL": "4.5"}).poll_interval == 4.5


def test_an_argument_comes_after_everything(config: Path) -> None:
    found = load(config=config, environ={"S3SYNC_DRIFT": "off"}, overrides={"drift": "report"})
    assert found.drift == "report"


def test_only_toml_files_are_fragments(config: Path) -> None:
    fragment(config, "notes.txt", "not = toml = at all")
    fragment(config, "10.toml~", "an editor's leftover")
    used = fragment(config, "10.toml", "poll_interval = 2")
    assert config_files(config) == [config, used]


def test_variables_of_others_are_none_of_ours(config: Path) -> None:
    environ = {"AWS_REGION": "eu-central-1", "HOME": "/", "S3SYNC_FAILPOINT": "stage.begin"}
    assert loaded(config, environ) == loaded(config)


# ----------------------------------------------------------------------------- faults


def test_all_faults_are_reported_together_with_place_key_value_and_reason(config: Path) -> None:
    config.write_text('site = "http://bucket"\npoll_interval = "often"\nkeep_releases = 0')
    extra = fragment(config, "10.toml", 'colour = "blue"\ndrift = "ignore"')
    broken = fragment(config, "20.toml", "= nothing")
    found = faults(config, {"S3SYNC_SOURCE": "both", "S3SYNC_POLL_INTERVALL": "5"})
    beginnings = [
        f"{broken}: (file) = '20.toml': cannot be read: ",
        "environment: S3SYNC_POLL_INTERVALL = '5': no such setting; did you mean poll_interval?",
        f"{config}: site = 'http://bucket': site 'http://bucket' is not s3://bucket[/prefix]; takes ",
        f"{config}: poll_interval = 'often': expected a number; takes seconds",
        f"{config}: keep_releases = 0: expected a whole number, 1 to 100; takes 1 to 100",
        f"{extra}: colour = 'blue': no such setting",
        f"{extra}: drift = 'ignore': expected heal or report or off; takes heal, report or off",
        "S3SYNC_SOURCE: source = 'both': expected auto or pointer or plain; takes auto, pointer or plain",
    ]
    assert len(found) == len(beginnings)
    for line, beginning in zip(found, beginnings, strict=True):
        assert line.startswith(beginning)


def test_the_hint_says_where_the_settings_are_listed(config: Path) -> None:
    config.write_text("")
    with pytest.raises(ConfigError) as error:
        loaded(config)
    assert "site" in str(error.value)
    assert "check-config" in error.value.hint


@pytest.mark.parametrize(
    "line",
    [
        "keep_releases = 2.9",
        "keep_releases = true",
        "keep_releases = nan",
        "keep_releases = inf",
        "poll_interval = nan",
        "poll_interval = 0",
        "poll_interval = [5]",
        'poll_interval = ""',
        "plain_settle = -1",
        'identity = "a/b"',
        'identity = "a\\u001b[2J"',
        'identity = " "',
        "state_dir = 5",
        "drift = ['heal']",
        "log_format = { kind = 'json' }",
    ],
)
def test_a_value_that_means_nothing_is_a_fault(config: Path, line: str) -> None:
    fragment(config, "10.toml", line)
    assert len(faults(config)) == 1


def test_a_later_good_value_does_not_hide_a_faulty_file(config: Path) -> None:
    fragment(config, "10.toml", 'poll_interval = "often"')
    assert len(faults(config, {"S3SYNC_POLL_INTERVAL": "5"})) == 1


def test_a_long_or_hostile_value_is_shown_short_and_on_one_line(config: Path) -> None:
    fragment(config, "10.toml", f'drift = "{"x" * 5000}\\u001b[2J"\n"k\\ney" = 1')
    assert all(line.isprintable() and len(line) < 300 for line in faults(config))


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    assert any("no such file" in line for line in faults(tmp_path / "missing.toml"))


def test_a_dangling_fragment_is_a_fault_and_not_passed_over(config: Path) -> None:
    (config.parent / "config.d" / "10.toml").symlink_to("nowhere")
    assert "cannot be read" in faults(config)[0]


@hides_permissions
def test_a_file_that_may_not_be_read_is_a_fault(config: Path) -> None:
    fragment(config, "10.toml", "poll_interval = 2").chmod(0)
    assert "Permission denied" in faults(config)[0]


@hides_permissions
@pytest.mark.parametrize("asked_for", [True, False])
def test_a_folder_that_may_not_be_entered_is_a_fault(
    config: Path, asked_for: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3sync_agent.layout.DEFAULT_CONFIG", config)
    config.parent.chmod(0)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            load(config=config if asked_for else None, environ={"S3SYNC_SITE": "s3://bucket"})
    finally:
        config.parent.chmod(0o755)


@hides_permissions
def test_a_folder_of_fragments_that_may_not_be_read_is_a_fault(config: Path) -> None:
    folder = config.parent / "config.d"
    folder.chmod(0)
    try:
        assert "Permission denied" in faults(config)[0]
    finally:
        folder.chmod(0o755)


# ----------------------------------------------------------- defaults that depend


def test_the_run_directory_of_the_default_state_directory_is_systemds(config: Path) -> None:
    assert loaded(config).run_dir == Path("/run/s3sync-agent")


def test_with_another_state_directory_it_is_inside(config: Path) -> None:
    assert loaded(config, {"S3SYNC_STATE_DIR": "/srv/site"}).run_dir == Path("/srv/site/run")


def test_it_can_be_said(config: Path) -> None:
    found = loaded(config, {"S3SYNC_STATE_DIR": "/srv/site", "S3SYNC_RUN_DIR": "/srv/run"})
    assert found.run_dir == Path("/srv/run")


def test_a_relative_path_is_taken_from_here(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(config.parent)
    assert loaded(config, {"S3SYNC_STATE_DIR": "state"}).state_dir == config.parent / "state"


def test_an_instance_is_called_by_its_host_name_unless_it_is_told_its_own(config: Path) -> None:
    assert loaded(config).identity == socket.gethostname()
    assert loaded(config, {"S3SYNC_IDENTITY": "i-0123"}).identity == "i-0123"


# ---------------------------------------------------------------------------- metrics


def test_nobody_gets_metrics_by_default_and_the_group_is_the_site(config: Path) -> None:
    found = loaded(config)
    assert (found.metrics_textfile, found.metrics_listen, found.cloudwatch_namespace) == (None, None, None)
    assert found.cloudwatch_group == "bucket/site"
    assert loaded(config, {"S3SYNC_CLOUDWATCH_NAMESPACE": ""}).cloudwatch_namespace is None


@pytest.mark.parametrize("text", ["127.0.0.1:9151", "127.8.9.10:1", "[::1]:65535"])
def test_a_loopback_address_can_be_listened_on(config: Path, text: str) -> None:
    assert str(loaded(config, {"S3SYNC_METRICS_LISTEN": text}).metrics_listen) == text


@pytest.mark.parametrize("text", ["0.0.0.0:9151", "[::]:9151", "10.0.0.1:9151", "[2001:db8::1]:9151"])
def test_no_other_address_can(config: Path, text: str) -> None:
    (fault,) = faults(config, {"S3SYNC_METRICS_LISTEN": text})
    assert "loopback" in fault


@pytest.mark.parametrize(
    "text", ["9151", ":9151", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "localhost:9151"]
)
def test_half_an_address_is_a_fault(config: Path, text: str) -> None:
    (fault,) = faults(config, {"S3SYNC_METRICS_LISTEN": text})
    assert "takes address:port" in fault


def test_a_file_that_node_exporter_would_not_read_is_a_fault(config: Path) -> None:
    (fault,) = faults(config, {"S3SYNC_METRICS_TEXTFILE": "/run/s3sync-agent/metrics.txt"})
    assert ".prom" in fault


@pytest.mark.parametrize("text", ["AWS/S3", ":x", "a b", "x" * 256, "é"])
def test_a_namespace_that_cloudwatch_refuses_is_a_fault(config: Path, text: str) -> None:
    (fault,) = faults(config, {"S3SYNC_CLOUDWATCH_NAMESPACE": text})
    assert "namespace" in fault


def test_a_group_is_what_cloudwatch_takes_as_a_dimension(config: Path) -> None:
    assert loaded(config, {"S3SYNC_CLOUDWATCH_GROUP": "web in Frankfurt"}).cloudwatch_group
    for text in ("é", "x" * 1025, "a\tb"):
        assert len(faults(config, {"S3SYNC_CLOUDWATCH_GROUP": text})) == 1


def test_a_site_that_is_no_ascii_still_gives_a_group(config: Path) -> None:
    group = loaded(config, {"S3SYNC_SITE": "s3://bucket/größe"}).cloudwatch_group
    assert group.isascii()
    assert group.startswith("bucket/gr")


# ---------------------------------------------------------------- probe, hooks, fleet


def test_without_being_told_nobody_is_probed_and_the_heart_beats_every_minute(config: Path) -> None:
    found = loaded(config)
    assert (found.probe_url, found.probe_host, found.probe_paths) == (None, None, ("/",))
    assert (found.canary, found.heartbeat_interval, found.hook_timeout) == (False, 60.0, 60.0)


def test_hooks_are_beside_the_configuration_unless_they_are_elsewhere(config: Path) -> None:
    assert loaded(config).hooks_dir == config.parent / "hooks.d"
    assert load(config=None, environ={"S3SYNC_SITE": "s3://b12"}).hooks_dir == Path(
        "/etc/s3sync-agent/hooks.d"
    )
    assert loaded(config, {"S3SYNC_HOOKS_DIR": "/srv/hooks"}).hooks_dir == Path("/srv/hooks")


def test_the_hooks_of_a_relative_configuration_are_found_from_anywhere(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert load(config=Path("config.toml"), environ={}).hooks_dir == config.parent / "hooks.d"


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[::1]", "http://[::1]:80"),
    ],
)
def test_the_probe_asks_this_machine(config: Path, text: str, means: str) -> None:
    assert loaded(config, {"S3SYNC_PROBE_URL": text}).probe_url == means


@pytest.mark.parametrize(
    "text",
    [
        "https://127.0.0.1",
        "127.0.0.1:80",
        "http://",
        "http://localhost",
        "http://example.com:80",
        "http://10.0.0.1:80",
        "http://169.254.169.254",
        "http://127.0.0.1:80/health",
        "http://127.0.0.1:80?x",
        "http://me@127.0.0.1:80",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "HTTP://127.0.0.1",
    ],
)
def test_and_nobody_else(config: Path, text: str) -> None:
    (fault,) = faults(config, {"S3SYNC_PROBE_URL": text})
    assert "takes http://address:port" in fault


@pytest.mark.parametrize(
    "text", ["a b", "a\r\nX: y", "größe.example", "*.example.com", "http://a", "-a", "a/b"]
)
def test_a_host_that_could_not_be_asked_for_is_a_fault(config: Path, text: str) -> None:
    (fault,) = faults(config, {"S3SYNC_PROBE_HOST": text})
    assert "expected a host name" in fault


def test_paths_are_a_list_or_a_text_with_commas(config: Path) -> None:
    fragment(config, "10.toml", 'probe_paths = ["/", "/a,b"]')
    assert loaded(config).probe_paths == ("/", "/a,b")
    assert loaded(config, {"S3SYNC_PROBE_PATHS": "/, /about/"}).probe_paths == ("/", "/about/")


@pytest.mark.parametrize(
    "value",
    [
        "[]",
        '""',
        '"about"',
        '["/", 5]',
        '["/", ""]',
        "5",
        '"/a\\nb"',
        '"/,"',
        str([f"/{n}" for n in range(11)]),
    ],
)
def test_paths_that_could_not_be_asked_for_are_a_fault(config: Path, value: str) -> None:
    fragment(config, "10.toml", f"probe_paths = {value}")
    (fault,) = faults(config)
    assert "probe_paths" in fault


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_yes_is_true(config: Path, text: str) -> None:
    assert loaded(config, {"S3SYNC_CANARY": text}).canary is True
    assert loaded(config, {"S3SYNC_CANARY": "false"}).canary is False


@pytest.mark.parametrize("value", ["1", "0", '"yes"', '"1"', '""', "[]"])
def test_nothing_else_is(config: Path, value: str) -> None:
    fragment(config, "10.toml", f"canary = {value}")
    assert "expected true or false" in faults(config)[0]


def test_the_heart_beats_every_few_seconds_or_hours_or_not_at_all(config: Path) -> None:
    for value, means in (("0", 0.0), ("1", 1.0), ("3600", 3600.0)):
        assert loaded(config, {"S3SYNC_HEARTBEAT_INTERVAL": value}).heartbeat_interval == means
    for value in ("0.9", "3601", "-1", "nan", "often"):
        assert len(faults(config, {"S3SYNC_HEARTBEAT_INTERVAL": value})) == 1
