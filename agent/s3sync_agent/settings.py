"""Settings: fragments → merged → one frozen object. All faults are reported together.

Later wins: defaults, the configuration file, `config.d/*.toml` beside it in name order, then
`S3SYNC_<NAME>` of the environment. Which there are is in `fields`.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from s3sync_agent import layout, values
from s3sync_agent.errors import ConfigError
from s3sync_agent.fields import FIELDS, REQUIRED

SourceKind = Literal["auto", "pointer", "plain"]
DriftMode = Literal["heal", "report", "off"]
LogFormat = Literal["auto", "json", "console"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the agent can be told. Durations are seconds."""

    site: layout.Site
    source: SourceKind
    state_dir: Path
    run_dir: Path
    identity: str
    poll_interval: float
    plain_interval: float
    plain_settle: float
    keep_releases: int
    asset_retention: float
    drift: DriftMode
    scrub_interval: float
    probe_url: str | None
    probe_host: str | None
    probe_paths: tuple[str, ...]
    hooks_dir: Path
    hook_timeout: float
    canary: bool
    heartbeat_interval: float
    log_format: LogFormat
    metrics_textfile: Path | None
    metrics_listen: values.Address | None
    cloudwatch_namespace: str | None
    cloudwatch_group: str

    @property
    def state(self) -> layout.StatePaths:
        return layout.StatePaths(self.state_dir)

    @property
    def run(self) -> layout.RunPaths:
        return layout.RunPaths(self.run_dir)


_FAULTY = object()
_BY_NAME = {item.name: item for item in FIELDS}
# Read by the S3 library or by tests, not settings of ours.
_NOT_SETTINGS = {"S3SYNC_FAILPOINT", "S3SYNC_CONFIG"}


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it. `place` names the file or variable."""

    place: str
    key: str
    value: object


# A secret that was given under a wrong name must not reach a log.
_SECRET = re.compile("key|secret|token|passw|credential", re.IGNORECASE)


@dataclass(slots=True)
class Faults:
    """Faults found so far; each is one line: place, key, value, reason, what to do."""

    lines: list[str] = field(default_factory=list)

    def add(self, place: str, key: str, value: object, reason: str) -> None:
        shown = "(not shown)" if _SECRET.search(key) else layout.escape(repr(value))[:80]
        self.lines.append(f"{place}: {layout.escape(key)} = {shown}: {reason}")

    def report(self) -> None:
        """Raises ConfigError when there are any."""
        if self.lines:
            raise ConfigError(
                "the configuration has faults:\n  " + "\n  ".join(self.lines),
                hint="docs/configuration.md lists every setting; "
                "`s3sync-agent check-config` shows what is in force",
            )


def load(
    *, config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read, merge and check. `config` None: the default file, if there is one.

    Raises ConfigError that lists every fault.
    """
    faults = Faults()
    given = _from_files(config, faults)
    given += _from_environment(environ, faults)
    given += [Given("argument", key, value) for key, value in (overrides or {}).items()]
    merged = _merge(given, faults)
    faults.report()
    return _settle_defaults(merged, config or layout.DEFAULT_CONFIG)


def check(given: Iterable[Given]) -> None:
    """Raises ConfigError that lists all that an agent would not take."""
    faults = Faults()
    for item in given:
        _parse(item, faults)
    faults.report()


def config_files(config: Path | None) -> list[Path]:
    """The files that are read, in order; those that exist.

    Also what cannot be looked at: reading it then says why, instead of going on without it.
    """
    main = config or layout.DEFAULT_CONFIG
    folder = main.parent / layout.FRAGMENTS
    try:
        fragments = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except (FileNotFoundError, NotADirectoryError):
        fragments = []
    except OSError:
        fragments = [folder]
    return [path for path in (main, *fragments) if _may_exist(path)]


def _may_exist(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _from_files(config: Path | None, faults: Faults) -> list[Given]:
    if config is not None and not _may_exist(config):
        faults.add(str(config), "--config", str(config), "no such file; create it or leave --config out")
    given: list[Given] = []
    for path in config_files(config):
        try:
            document = tomllib.loads(path.read_bytes().decode())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            faults.add(str(path), "(file)", path.name, f"cannot be read: {error}")
            continue
        given += [Given(str(path), key, value) for key, value in document.items()]
    return given


def _from_environment(environ: Mapping[str, str], faults: Faults) -> list[Given]:
    given = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith("S3SYNC_") or variable in _NOT_SETTINGS:
            continue
        name = variable.removeprefix("S3SYNC_").lower()
        if name in _BY_NAME:
            given.append(Given(variable, name, value))
        else:
            faults.add("environment", variable, value, f"no such setting{_closest(name)}")
    return given


def _parse(item: Given, faults: Faults) -> object:
    """The value that the code works with, or _FAULTY."""
    known = _BY_NAME.get(item.key)
    if known is None:
        faults.add(item.place, item.key, item.value, f"no such setting{_closest(item.key)}")
        return _FAULTY
    try:
        return known.parse(item.value)
    except ValueError as error:
        faults.add(item.place, item.key, item.value, f"{error}; takes {known.takes}")
        return _FAULTY


def _merge(given: list[Given], faults: Faults) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for item in given:
        value = _parse(item, faults)
        if value is not _FAULTY:
            merged[item.key] = value
        elif item.key in _BY_NAME:
            merged.setdefault(item.key, _BY_NAME[item.key].default)
    for known in FIELDS:
        if known.default is REQUIRED and known.name not in merged:
            faults.add("nowhere", known.name, None, f"must be set; takes {known.takes}")
        merged.setdefault(known.name, known.default)
    return merged


def _settle_defaults(merged: dict[str, Any], config: Path) -> Settings:
    """Fill in the defaults that depend on other settings, on the configuration's place or on the host."""
    state_dir: Path = merged["state_dir"]
    if merged["run_dir"] is None:
        default = state_dir == layout.DEFAULT_STATE_DIR
        merged["run_dir"] = layout.DEFAULT_RUN_DIR if default else state_dir / "run"
    if merged["hooks_dir"] is None:
        merged["hooks_dir"] = config.absolute().parent / layout.HOOKS
    if merged["identity"] is None:
        merged["identity"] = socket.gethostname() or "localhost"
    if merged["cloudwatch_group"] is None:
        site = merged["site"].url.removeprefix("s3://")
        merged["cloudwatch_group"] = site.encode("ascii", "backslashreplace").decode()[: values.LONGEST_GROUP]
    return Settings(**merged)


def _closest(name: str) -> str:
    import difflib  # noqa: PLC0415 - only on the way to an error

    matches = difflib.get_close_matches(name, _BY_NAME, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
