"""What every part of the demo shares: one temporary folder, one S3 server, one environment."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import FrameType

import click

from s3sync_agent import layout, report
from s3sync_agent.demo.processes import OnLine, Process, leashed, running, until
from s3sync_agent.demo.servers import BUCKET, HOST, S3, Nginx, nginx_serving, s3_server
from s3sync_agent.demo.tools import Tools
from s3sync_agent.errors import ConfigError, DemoFailed
from s3sync_agent.layout import Site

SITE = Site(BUCKET, "site")
START_SECONDS = 30.0
COMMAND_SECONDS = 600.0  # for the largest folder somebody may give; the example takes half a second
LIVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class World:
    folder: Path
    tools: Tools
    s3: S3

    def run(self, site: Site, program: str, *arguments: str) -> Ran:
        """Run a command to its end, as a user of `site` would."""
        environment = {
            **_environment(self.folder),
            **_aws(self.s3.endpoint),
            **_settings(self.folder, site),
        }
        try:
            done = subprocess.run(  # noqa: S603 - the demo's own words, no shell
                leashed([program, *arguments]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                env=environment,
                timeout=COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(
                f"{Path(program).name} {arguments[0]} took more than {error.timeout:.0f} s"
            ) from error
        return Ran(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """A web instance: the agent and its nginx."""

    site: Site
    process: Process
    nginx: Nginx
    run: layout.RunPaths

    def serving(self) -> str:
        """The version that is live, or ""; what the agent's status says."""
        status = report.read_status(self.run)
        return status.serving.rpartition("-")[0] if status else ""

    def wait_for(self, version: str, *, within: float = LIVE_SECONDS) -> None:
        """Until `version` is live. Raises DemoFailed."""
        until(
            lambda: self.serving() == version,
            what=f"{version} goes live",
            within=within,
            depends_on=[self.process, self.nginx.process],
        )


@contextmanager
def world(tools: Tools) -> Iterator[World]:
    """A temporary folder and an S3 server with an empty bucket."""
    with _temporary_folder() as folder:
        data = folder / "s3"
        data.mkdir()
        with s3_server(tools, data, _environment(folder)) as s3:
            yield World(folder, tools, s3)


@contextmanager
def instance(
    of: World, site: Site, *, port: int | None = None, on_line: OnLine | None = None
) -> Iterator[Instance]:
    """nginx and the agent for `site`, both started. `on_line` hears the agent's log."""
    home = _home(of.folder, site)
    (home / "nginx").mkdir(parents=True)
    state, run = layout.StatePaths(home / "state"), layout.RunPaths(home / "run")
    environment = {
        **_environment(of.folder),
        **_aws(of.s3.endpoint),
        **_settings(of.folder, site),
        "S3SYNC_POLL_INTERVAL": "1",
        "S3SYNC_PLAIN_INTERVAL": "1",
        "S3SYNC_PLAIN_SETTLE": "1",
        "S3SYNC_LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",  # events are shown as they happen
    }
    with (
        nginx_serving(of.tools, home / "nginx", environment, state=state, run=run, port=port) as nginx,
        running(
            "the agent",
            [of.tools.agent, "run"],
            log=home / "agent.log",
            environment={**environment, "S3SYNC_PROBE_URL": nginx.url},
            on_line=on_line,
        ) as process,
    ):
        until(run.status.exists, what="the agent polls", within=START_SECONDS, depends_on=[process])
        yield Instance(site, process, nginx, run)


def copy_example(folder: Path) -> Path:
    """A copy of the example site that anybody may write to."""
    place = folder / "my-site"
    with resources.as_file(resources.files("s3sync_agent") / "data" / "example_site") as example:
        shutil.copytree(example, place, copy_function=shutil.copyfile)
    return place


def write_env_file(of: World, site: Site) -> Path:
    """A file for `. FILE` in a shell, after which `s3sync` and `s3sync-agent` work on the demo's site."""
    names = {**_aws(of.s3.endpoint), **_settings(of.folder, site)}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in names.items()]
    lines.append(f"export PATH={shlex.quote(str(Path(of.tools.s3sync).parent))}:$PATH")
    path = of.folder / "env"
    path.write_text("unset AWS_PROFILE AWS_SESSION_TOKEN\n" + "".join(f"{line}\n" for line in lines))
    return path


# ---------------------------------------------------------------------- environment


def _environment(folder: Path) -> dict[str, str]:
    """The user's own without any setting of AWS or of ours; temporary files go where all is removed.

    An S3 server gets no more: seaweedfs would take AWS's credentials for those it has to ask for.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3SYNC_"))}
    return {**kept, "TMPDIR": str(folder), "NO_PROXY": HOST, "no_proxy": HOST}


def _aws(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _home(folder: Path, site: Site) -> Path:
    """Where the instance of `site` has its files."""
    return folder / f"instance-{site.prefix}"


def _settings(folder: Path, site: Site) -> Mapping[str, str]:
    home = _home(folder, site)
    return {
        "S3SYNC_SITE": site.url,
        "S3SYNC_STATE_DIR": str(home / "state"),
        "S3SYNC_RUN_DIR": str(home / "run"),
    }


# ---------------------------------------------------------------- the end of it all


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP all end the block by KeyboardInterrupt, once.

    Whatever is sent while everything is being stopped changes nothing any more.
    """
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Removed at the end, or kept and named when something went wrong in it."""
    folder = Path(tempfile.mkdtemp(prefix="s3sync-demo-")).resolve()
    try:
        yield folder
    except (KeyboardInterrupt, BrokenPipeError, ConfigError):  # as asked; there is nothing to look at
        _remove(folder)
        raise
    except BaseException:
        click.echo(f"everything is kept in {layout.escape(str(folder))}", err=True)
        raise
    _remove(folder)


def _remove(folder: Path) -> None:
    """Releases are read-only; the folders among them must not be to be emptied."""
    for directory, _, _ in os.walk(folder):
        Path(directory).chmod(stat.S_IRWXU)
    shutil.rmtree(folder)
