"""`s3sync demo --check`: the whole way, unattended, with the commands that people use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import click

from s3sync_agent.demo import screen
from s3sync_agent.demo.processes import tail, until
from s3sync_agent.demo.servers import Nginx
from s3sync_agent.demo.tools import Tools, nginx_version
from s3sync_agent.demo.world import LIVE_SECONDS, SITE, Instance, World, copy_example, instance, world
from s3sync_agent.errors import DemoFailed
from s3sync_agent.layout import INDEX, Site
from s3sync_agent.release import digest

PLAIN = Site(SITE.bucket, "plain")
_HEALTHY_SECONDS = 10.0


def check(tools: Tools) -> None:
    """Print each step with its time. Raises DemoFailed at the first that fails."""
    tour = _Tour()
    with ExitStack() as stack:
        with tour.step(f"an S3 server: {tools.s3_kind}"):
            here = stack.enter_context(world(tools))
        with tour.step(f"nginx {nginx_version(tools.nginx)} and the agent"):
            web = stack.enter_context(instance(here, SITE))
        tour.logs.append(web.process.log)
        site = copy_example(here.folder)
        _releases(tour, here, web, site)
        with tour.step("a second instance, for a plain site"):
            other = stack.enter_context(instance(here, PLAIN))
        tour.logs.append(other.process.log)
        _plain_site(tour, here, other, site)
        _questions(tour, here, web)
    tour.done()


class _Tour:
    """Steps one after another, each on its line."""

    def __init__(self) -> None:
        self.logs: list[Path] = []
        self._began = time.monotonic()
        self._steps = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        click.echo(f"  {name:<66}", nl=False)
        began = time.monotonic()
        try:
            yield
        except DemoFailed as error:
            click.secho("   failed", fg="red", bold=True)
            tails = "".join(tail(log) for log in self.logs if str(log) not in str(error))
            raise DemoFailed(f"{name}: {error}{tails}", hint=error.hint) from error
        except BaseException:
            click.echo()
            raise
        self._steps += 1
        click.echo(click.style(f"{time.monotonic() - began:7.2f} s", dim=True))

    def done(self) -> None:
        seconds = time.monotonic() - self._began
        screen.say(click.style(f"  all {self._steps} steps good in {seconds:.1f} s", fg="green", bold=True))


def _releases(tour: _Tour, here: World, web: Instance, site: Path) -> None:
    """Publish, promote, change, promote, roll back."""
    with tour.step("s3sync publish: the example site"):
        first = _s3sync(here, "publish", str(site))
    with tour.step("s3sync promote: the instance serves it"):
        _s3sync(here, "promote", first)
        web.wait_for(first)
    former = _files(site)
    with tour.step(f"GET all {len(former)} files: the bytes of the folder"):
        _expect_site(web.nginx, former)
    with tour.step("GET /healthz: 200"):
        until(lambda: web.nginx.get("/healthz")[0] == 200, what="/healthz says 200", within=_HEALTHY_SECONDS)

    old_style, new_style = _change(site)
    with tour.step("s3sync publish: a page and its style sheet changed"):
        second = _s3sync(here, "publish", str(site), "--version", "second")
    with tour.step("s3sync promote: the instance serves it"):
        _s3sync(here, "promote", second)
        web.wait_for(second)
    with tour.step("GET all files: the new bytes"):
        _expect_site(web.nginx, _files(site))
    with tour.step("GET the style sheets of both releases"):
        _expect(web.nginx, old_style, former[old_style])
        _expect(web.nginx, new_style, (site / new_style).read_bytes())

    with tour.step("s3sync rollback: the instance serves the former release"):
        _s3sync(here, "rollback")
        web.wait_for(first)
    with tour.step("GET all files: the former bytes"):
        _expect_site(web.nginx, former)


def _plain_site(tour: _Tour, here: World, web: Instance, site: Path) -> None:
    """What a pipeline does that knows nothing of this project."""
    release = f"{PLAIN.url}/releases/{time.strftime('%Y%m%d%H%M%S', time.gmtime())}/"
    for target in (release, f"{PLAIN.url}/current/"):
        with tour.step(f"aws s3 cp --recursive: to {target}"):
            _run(
                here,
                PLAIN,
                here.tools.aws,
                "s3",
                "cp",
                "--recursive",
                "--only-show-errors",
                str(site),
                target,
            )
    with tour.step("the second instance serves it"):
        needed = (web.process, web.nginx.process)
        until(web.serving, what="the plain site goes live", within=LIVE_SECONDS, depends_on=needed)
    with tour.step("GET all files: the bytes of the folder"):
        _expect_site(web.nginx, _files(site))


def _questions(tour: _Tour, here: World, web: Instance) -> None:
    with tour.step("s3sync-agent verify: every byte as published"):
        _run(here, SITE, here.tools.agent, "verify")
    with tour.step("s3sync-agent status: serving what is wanted"):
        told = _run(here, SITE, here.tools.agent, "status")
        if web.serving() not in told:
            raise DemoFailed(f"it does not name {web.serving()}:\n{told}")


# -------------------------------------------------------------------------- commands


def _s3sync(here: World, *arguments: str) -> str:
    """What the command prints."""
    return _run(here, SITE, here.tools.s3sync, *arguments).strip()


def _run(here: World, site: Site, program: str, *arguments: str) -> str:
    ran = here.run(site, program, *arguments)
    if ran.code != 0:
        told = "".join(f"\n{line}" for line in ran.stderr.splitlines())
        raise DemoFailed(f"{Path(program).name} ended with {ran.code}{told}")
    return ran.stdout


# ----------------------------------------------------------------------------- files


def _files(site: Path) -> dict[str, bytes]:
    """Relative path → content."""
    found = (path for path in sorted(site.rglob("*")) if path.is_file())
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in found}


def _change(site: Path) -> tuple[str, str]:
    """Another style sheet, with another name as bundlers do it, and pages that name it; old and new name."""
    old = next(site.glob("assets/style-*.css"))
    style = old.read_bytes() + b"\nh1 { letter-spacing: -0.01em }\n"
    new = old.with_name(f"style-{digest(style)[:8]}.css")
    old.unlink()
    new.write_bytes(style)
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(
            text.replace(old.name, new.name).replace("Release one", "Release two"), encoding="utf-8"
        )
    return old.relative_to(site).as_posix(), new.relative_to(site).as_posix()


def _expect_site(nginx: Nginx, files: dict[str, bytes]) -> None:
    _expect(nginx, "", files[INDEX])
    for path, content in files.items():
        _expect(nginx, path, content)


def _expect(nginx: Nginx, path: str, content: bytes) -> None:
    status, body = nginx.get("/" + quote(path))
    if status != 200:
        raise DemoFailed(f"/{path} answers {status}")
    if body != content:
        raise DemoFailed(f"/{path} answers {len(body)} bytes that are not the {len(content)} of the folder")
