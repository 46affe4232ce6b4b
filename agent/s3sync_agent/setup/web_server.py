"""nginx: our configuration in, the distribution's default server out.

All of it or, when nginx objects, nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from s3sync_agent import nginx
from s3sync_agent.errors import ConfigError, SetupFailed
from s3sync_agent.layout import MachinePaths, sites_here
from s3sync_agent.setup.distributions import Distribution
from s3sync_agent.setup.host import Host
from s3sync_agent.setup.steps import Finding, must

SITE_CONF = MachinePaths().nginx
MAIN_CONF = Path("/etc/nginx/nginx.conf")
DEFAULT_SITE = Path("/etc/nginx/sites-enabled/default")
DEFAULT_SITE_TARGET = "/etc/nginx/sites-available/default"
UNFINISHED = Path("/run/s3sync-setup.unfinished")  # gone after a reboot, when nginx has read everything anew
PORT = 80
_MARK = "#s3sync# "
_SERVER = re.compile(r"^[ \t]*server\s*\{", re.MULTILINE)
_LISTENS_ON_80 = re.compile(r"^\s*listen\s+(?:\S+:)?80\b", re.MULTILINE)


def without_default_server(text: str) -> str:
    """nginx.conf with every server on port 80 commented out, in a way that can be undone."""
    for start in reversed([match.start() for match in _SERVER.finditer(text)]):
        end = _end_of_block(text, start)
        block = text[start:end]
        if _LISTENS_ON_80.search(block):
            marked = "\n".join(_MARK + line for line in block.split("\n"))
            text = text[:start] + marked + text[end:]
    return text


def with_default_server(text: str) -> str:
    """The undoing of `without_default_server`."""
    return re.sub(rf"^{re.escape(_MARK)}", "", text, flags=re.MULTILINE)


def _end_of_block(text: str, start: int) -> int:
    """Behind the line that closes the block which opens at `start`; comments do not count."""
    depth = 0
    position = start
    for line in text[start:].split("\n"):
        code = line.split("#", 1)[0]
        depth += code.count("{") - code.count("}")
        position += len(line) + 1
        if depth <= 0 and "}" in code:
            break
    return position - 1


# ------------------------------------------------------------------------------- the steps


def installed(distribution: Distribution, host: Host) -> Finding:
    if not host.ask("nginx", "-v").ok:
        raise SetupFailed("nginx is not installed", hint=distribution.install_nginx)
    return Finding("nginx is installed")


def site_conf(paths: MachinePaths, hosts: Sequence[str]) -> str:
    """The whole of nginx's part in one site; its hosts are those of a site with a name."""
    if not paths.name:
        return nginx.shipped()
    return nginx.render(
        state_dir=paths.state_dir,
        run_dir=paths.run_dir,
        listen=str(PORT),
        access_log=paths.access_log,
        name=paths.name,
        hosts=hosts,
    )


def hosts_here(paths: MachinePaths, hosts: Sequence[str], host: Host) -> Sequence[str]:
    """What the site answers to: as asked for, or as before. One without a name answers all.

    Raises ConfigError when nobody has said it.
    """
    if not paths.name or hosts:
        return hosts
    before = nginx.hosts_of((host.read(paths.nginx) or b"").decode(errors="replace"))
    if not before:
        raise ConfigError(
            f"there is no {paths.nginx} yet", hint="name what it answers: --host blog.example.com"
        )
    return before


def configured(distribution: Distribution, paths: MachinePaths, hosts: Sequence[str], host: Host) -> Finding:
    hosts = hosts_here(paths, hosts, host)
    wanted = {paths.nginx: site_conf(paths, hosts).encode()}
    main = _main(host)
    if distribution.default_server == "in nginx.conf":
        wanted[MAIN_CONF] = without_default_server(main).encode(errors="surrogateescape")
    changes = {path: content for path, content in wanted.items() if host.read(path) != content}
    default_site = host.link(DEFAULT_SITE)
    unfinished = host.read(UNFINISHED) is not None
    if not changes and default_site is None and not unfinished:
        return Finding(f"{paths.nginx} is up to date")
    parts = [f"write {paths.nginx}"] if paths.nginx in changes else []
    if unfinished:
        parts.append("let nginx take what an interrupted setup has written")
    if MAIN_CONF in changes or default_site is not None:
        parts.append(f"switch {distribution.name}'s default server off")
    # A file there, instead of the link, is somebody's own; when it contradicts, nginx says so.
    gone = DEFAULT_SITE if default_site is not None else None
    return Finding(" and ".join(parts), partial(_change, changes, remove=gone, hosts=hosts))


def started(host: Host) -> Finding:
    enabled = host.ask("systemctl", "is-enabled", "nginx.service").ok
    active = host.ask("systemctl", "is-active", "nginx.service").ok
    if enabled and active:
        return Finding("nginx is enabled and started")
    return Finding(
        "enable and start nginx", lambda host: must(host, "systemctl", "enable", "--now", "nginx.service")
    )


def removed(distribution: Distribution, paths: MachinePaths, host: Host) -> Finding:
    """Ours out; with the last of ours the distribution's default server comes back."""
    if host.read(paths.nginx) is None:
        return Finding(f"{paths.nginx} is not there")
    if not host.ask("nginx", "-v").ok:  # uninstalled: there is nobody to ask
        return Finding(f"remove {paths.nginx}", lambda host: host.remove(paths.nginx))
    if sites_here(host.entries(paths.nginx.parent)) - {paths.name}:
        return Finding(f"remove {paths.nginx}", partial(_change, {}, remove=paths.nginx))
    changes = {}
    if distribution.default_server == "in nginx.conf" and _MARK in (main := _main(host)):
        changes[MAIN_CONF] = with_default_server(main).encode(errors="surrogateescape")
    back = (
        distribution.default_server == "in sites-enabled" and host.read(Path(DEFAULT_SITE_TARGET)) is not None
    )
    return Finding(
        f"remove {paths.nginx} and switch {distribution.name}'s default server on",
        partial(_change, changes, remove=paths.nginx, link_back=back),
    )


def _main(host: Host) -> str:
    """nginx.conf byte for byte, whatever its encoding."""
    return (host.read(MAIN_CONF) or b"").decode(errors="surrogateescape")


def _change(
    changes: dict[Path, bytes],
    host: Host,
    *,
    remove: Path | None,
    link_back: bool = False,
    hosts: Sequence[str] = (),
) -> None:
    """Change files, let nginx check them, then let the running nginx take them. Raises SetupFailed.

    `hosts` must not be another server's already.
    """
    touched = [*changes, *([remove] if remove else []), *([DEFAULT_SITE] if link_back else [])]
    before = {path: (host.link(path), host.read(path)) for path in touched}

    def put_back() -> None:
        for path, (link, was) in before.items():
            _put_back(host, path, link, was)

    # Until nginx has taken it: whoever is killed in between has changed files, which the next call finds as
    # they should be.
    host.write(UNFINISHED, b"")
    try:
        for path, content in changes.items():
            host.write(path, content)
        if remove is not None:
            host.remove(remove)
        if link_back and host.link(DEFAULT_SITE) is None:
            host.make_link(DEFAULT_SITE, DEFAULT_SITE_TARGET)
        checked = host.ask("nginx", "-t")
        # Of two servers with one name nginx takes the first, and only warns.
        taken = any(f'conflicting server name "{name}"' in checked.output for name in hosts)
        refused = taken or not checked.ok
        fault = (checked.output or "nginx -t gave no message") if refused else ""
    except OSError as error:
        fault = str(error)
    except BaseException:  # Ctrl-C
        put_back()
        raise
    if fault:
        put_back()
        host.remove(UNFINISHED)
        raise SetupFailed(
            f"nginx cannot take the configuration, everything was put back:\n{fault}",
            hint="another file below /etc/nginx may contradict; see its message",
        )
    must(host, "systemctl", "try-reload-or-restart", "nginx.service")
    host.remove(UNFINISHED)


def _put_back(host: Host, path: Path, link: str | None, content: bytes | None) -> None:
    if link is not None:
        if host.link(path) is None:
            host.make_link(path, link)
    elif content is None:
        host.remove(path)
    elif host.read(path) != content:
        host.write(path, content)
