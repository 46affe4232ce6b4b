"""A machine in memory: files, links, directories, users, services, and an nginx that checks a little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from s3sync_agent.errors import SetupFailed
from s3sync_agent.layout import MachinePaths, Site
from s3sync_agent.setup.aws_settings import AwsSettings
from s3sync_agent.setup.distributions import detect
from s3sync_agent.setup.host import Directory, Ran
from s3sync_agent.setup.plan import Outcome, go_through, to_remove, to_set_up
from s3sync_agent.setup.steps import COMMAND
from tests.releases import SITE

SERVICE = "s3sync-agent.service"
AMAZON_NGINX = """\
user nginx;
http {
    include /etc/nginx/conf.d/*.conf;

    server {
        listen       80;
        listen       [::]:80;
        server_name  _;
        # Load configuration files for the default server block. }
        include /etc/nginx/default.d/*.conf;
        error_page 404 /404.html;
        location = /404.html {
        }
    }

# Settings for a TLS enabled server.
#
#    server {
#        listen       443 ssl;
#    }
}
"""
DEBIAN_NGINX = "http {\n    include /etc/nginx/conf.d/*.conf;\n    include /etc/nginx/sites-enabled/*;\n}\n"


class MemoryHost:
    """`ran` is what was done, in order; `asked` what was only asked."""

    def __init__(self, release: str, files: dict[str, str]) -> None:
        self.files = {Path(path): text.encode() for path, text in files.items()}
        self.files[Path("/etc/os-release")] = release.encode()
        self.files[COMMAND] = b"#!/bin/python"
        self.links: dict[Path, str] = {}
        self.directories: dict[Path, Directory] = {}
        self.users: set[str] = set()
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.rules: list[str] = []
        self.selinux = ""
        self.semanage = True
        self.nginx_says = ""
        self.nginx_dies: BaseException | None = None
        self.nginx = True
        self.stale: set[str] = set()
        self.main_pid = "0"
        self.ran: list[str] = []
        self.writes = 0

    # ---- commands

    def ask(self, *command: str) -> Ran:
        match command:
            case ("getent", "passwd", name):
                return Ran(0 if name in self.users else 2, "")
            case ("systemctl", "is-enabled", name):
                return Ran(0 if name in self.enabled else 1, "")
            case ("systemctl", "is-active", name):
                return Ran(0, "active") if name in self.active else Ran(3, "inactive")
            case ("systemctl", "show", "--property=NeedDaemonReload", "--value", name):
                return Ran(0, "yes" if name in self.stale else "no")
            case ("systemctl", "show", "--property=MainPID", *_):
                return Ran(0, self.main_pid)
            case ("getenforce",):
                return Ran(0, self.selinux) if self.selinux else Ran(127, "getenforce is not installed")
            case ("semanage", "fcontext", "--list", *_):
                return Ran(0, "\n".join(self.rules)) if self.semanage else Ran(127, "not installed")
            case ("nginx", "-t") if self.nginx_dies:
                raise self.nginx_dies
            case ("nginx", *_) if not self.nginx:
                return Ran(127, "nginx is not installed")
            case ("nginx", "-t"):
                return Ran(1, self.nginx_says) if self.nginx_says else self._check_nginx()
            case ("systemctl", "--version") | ("nginx", "-v"):
                return Ran(0, "")
        raise AssertionError(f"nobody taught this host {command}")

    def _check_nginx(self) -> Ran:
        servers = [text for path, text in self.files.items() if path.is_relative_to("/etc/nginx/conf.d")]
        servers += [self.files[Path(target)] for target in self.links.values() if Path(target) in self.files]
        defaults = sum(b"listen 80 default_server;" in text for text in servers)
        return Ran(1, "[emerg] a duplicate default server") if defaults > 1 else Ran(0, "test is successful")

    def run(self, *command: str) -> Ran:
        self.ran.append(" ".join(command))
        match command:
            case ("useradd", *_, name):
                self.users.add(name)
            case ("userdel", name):
                self.users.discard(name)
            case ("systemctl", "enable", "--now", name):
                self.enabled.add(name)
                self.active.add(name)
            case ("systemctl", "disable", "--now", name):
                self.enabled.discard(name)
                self.active.discard(name)
            case ("systemctl", "enable", name):
                self.enabled.add(name)
            case ("systemctl", "start", "--no-block", name):
                self.active.add(name)
            case ("rmdir", "--ignore-fail-on-non-empty", *paths):
                for path in paths:
                    if not any(file.is_relative_to(path) for file in self.files):
                        self.directories.pop(Path(path), None)
            case ("systemctl", "daemon-reload"):
                self.stale = set()
            case ("semanage", "fcontext", "--add", "--type", kind, path):
                self.rules.append(f"{path}      all files      system_u:object_r:{kind}:s0")
            case ("semanage", "fcontext", "--delete", path):
                self.rules = [rule for rule in self.rules if not rule.startswith(f"{path} ")]
        return Ran(0, "")

    # ---- files

    def read(self, path: Path) -> bytes | None:
        return self.files.get(Path(self.links.get(path, str(path))))

    def write(self, path: Path, content: bytes) -> None:
        self.writes += 1
        self.files[Path(self.links.get(path, str(path)))] = content

    def remove(self, path: Path) -> None:
        self.files.pop(path, None)
        self.links.pop(path, None)
        self.directories.pop(path, None)

    def entries(self, path: Path) -> list[str]:
        there = (*self.files, *self.links, *self.directories)
        return sorted({one.relative_to(path).parts[0] for one in there if path in one.parents})

    def link(self, path: Path) -> str | None:
        return self.links.get(path)

    def make_link(self, path: Path, target: str) -> None:
        assert path not in self.links
        self.links[path] = target

    def directory(self, path: Path) -> Directory | None:
        if path in self.links:
            raise SetupFailed(f"{path} is there and is no directory")
        return self.directories.get(path)

    def make_directory(self, path: Path, wanted: Directory) -> None:
        assert wanted.owner in self.users | {"root"}, "the owner has to exist before"
        self.directories[path] = wanted

    # ---- for tests

    def state(self) -> object:
        """All that setup could have changed."""
        return (
            dict(self.files), dict(self.links), dict(self.directories),
            set(self.users), set(self.enabled), set(self.active), list(self.rules),
        )  # fmt: skip


SetUp = Callable[..., list[tuple[Outcome, str]]]


@pytest.fixture
def amazon() -> MemoryHost:
    return MemoryHost(
        'NAME="Amazon Linux"\nID="amzn"\nID_LIKE="fedora"\n', {"/etc/nginx/nginx.conf": AMAZON_NGINX}
    )


@pytest.fixture
def debian() -> MemoryHost:
    host = MemoryHost(
        "ID=debian\n",
        {
            "/etc/nginx/nginx.conf": DEBIAN_NGINX,
            "/etc/nginx/sites-available/default": "server { listen 80 default_server; }",
        },
    )
    host.links[Path("/etc/nginx/sites-enabled/default")] = "/etc/nginx/sites-available/default"
    host.enabled.add("nginx.service")
    host.active.add("nginx.service")
    return host


@pytest.fixture(params=["amazon", "debian"])
def host(request: pytest.FixtureRequest) -> MemoryHost:
    found: MemoryHost = request.getfixturevalue(request.param)
    return found


REGION = AwsSettings(region="eu-central-1")


ONLY_SITE = MachinePaths()


def set_up(
    host: MemoryHost,
    *,
    dry_run: bool = False,
    remove: bool = False,
    aws: AwsSettings = REGION,
    site: Site | None = SITE,
    paths: MachinePaths = ONLY_SITE,
    hosts: Sequence[str] = (),
) -> list[tuple[Outcome, str]]:
    """What was told, step by step."""
    told: list[tuple[Outcome, str]] = []
    distribution = detect(host)
    if remove:
        plan = to_remove(distribution, paths=paths)
    else:
        plan = to_set_up(distribution, site, "pointer", aws, paths=paths, hosts=hosts)
    count = go_through(plan, host, lambda outcome, text: told.append((outcome, text)), dry_run=dry_run)
    assert count == sum(outcome != "ok" for outcome, _ in told)
    return told
