"""The configuration file of a site: written once, then the operator's."""

from __future__ import annotations

import json
import tomllib
from functools import partial

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import DEFAULT_CONFIG, MachinePaths, Site
from s3sync_agent.setup.host import Host
from s3sync_agent.setup.steps import Finding, must


def config_text(site: str, source: str, paths: MachinePaths) -> str:
    """The configuration that setup writes; JSON's strings are TOML's."""
    settings = {"site": site, "source": source}
    if paths.name:  # so that `--config` alone makes every command speak of this site
        settings |= {"state_dir": str(paths.state_dir), "run_dir": str(paths.run_dir)}
    return (
        "# Written by `s3sync-agent setup`, which never changes it again. Other settings: config.d/*.toml.\n"
    ) + "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items())


def written(paths: MachinePaths, site: Site | None, source: str, host: Host) -> Finding:
    """An existing file is kept, and what differs from the options is told."""
    existing = host.read(paths.config)
    if existing is None:
        if site is None:
            raise ConfigError(
                f"there is no {paths.config} yet", hint="name the site: --site s3://bucket/site"
            )
        text = config_text(site.url, source, paths)
        return Finding(f"write {paths.config} for {site.url}", partial(_write, paths, text))
    try:
        settings = tomllib.loads(existing.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{paths.config} cannot be read: {error}", hint="repair or remove it") from error
    asked = {"source": source} if site is None else {"site": site.url, "source": source}
    differs = [
        f"{name} is {json.dumps(settings.get(name), default=str)} there, not {json.dumps(value)}"
        for name, value in asked.items()
        if settings.get(name) != value
    ]
    return Finding("; ".join([f"{paths.config} is kept as it is", *differs]))


def _write(paths: MachinePaths, text: str, host: Host) -> None:
    host.write(paths.config, text.encode())
    host.run("systemctl", "try-restart", "--no-block", paths.service)  # a service that ran without any


def no_user_data(paths: MachinePaths, host: Host) -> Finding:
    """What the boot script wrote is nobody else's: it writes it anew whenever it runs."""
    if host.read(paths.user_data) is None:
        return Finding(f"{paths.user_data} is not there")
    return Finding(f"remove {paths.user_data}", lambda host: host.remove(paths.user_data))


def removed(paths: MachinePaths, host: Host) -> Finding:
    """Only what setup wrote and nobody changed is removed."""
    existing = host.read(paths.config)
    if existing is None:
        return Finding(f"{paths.config} is not there")
    try:
        settings = tomllib.loads(existing.decode())
        untouched = config_text(settings["site"], settings["source"], paths).encode() == existing
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError):
        untouched = False
    if untouched:
        return Finding(f"remove {paths.config}", partial(_remove, paths))
    return Finding(f"{paths.config} was changed by somebody and is kept")


def _remove(paths: MachinePaths, host: Host) -> None:
    host.remove(paths.config)
    folder = paths.config.parent
    folders = [paths.fragments, *dict.fromkeys((folder, DEFAULT_CONFIG.parent))]
    there = [str(each) for each in folders if host.directory(each) is not None]
    must(host, "rmdir", "--ignore-fail-on-non-empty", *there)
