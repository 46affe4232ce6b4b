"""The demo to play with: every saved change of a folder is published, promoted and live."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from s3sync_agent import __version__
from s3sync_agent.demo import screen
from s3sync_agent.demo.folder import FolderWatch
from s3sync_agent.demo.releasing import Releases
from s3sync_agent.demo.servers import require_free
from s3sync_agent.demo.tools import Tools, nginx_version
from s3sync_agent.demo.world import SITE, Instance, World, copy_example, instance, world, write_env_file
from s3sync_agent.errors import DemoFailed
from s3sync_agent.layout import INDEX


def play(tools: Tools, directory: Path | None, port: int | None) -> None:
    """Run until KeyboardInterrupt. `directory` is the site to watch, which is never written to; None: a copy
    of the example. Raises DemoFailed when a server ends, ConfigError when `port` is taken."""
    if port is not None:
        require_free(port)
    screen.say("\nFrom a folder through S3 to nginx, all on this machine.\n")
    with world(tools) as here:
        folder = directory.resolve() if directory else copy_example(here.folder)
        screen.fact("S3", tools.s3_kind, here.s3.endpoint)
        screen.fact("nginx", nginx_version(tools.nginx), tools.nginx)
        screen.fact("agent", __version__, "asks S3 every second")
        screen.say()
        releases, watch = Releases(here, folder), FolderWatch(folder, screen.warn)
        began = time.monotonic()
        version = releases.release(live="")
        with closing(watch), instance(here, SITE, port=port, on_line=screen.heard) as web:
            if version:
                _show_live(here, web, version, began, "the start")
            _explain(here, web, folder)
            try:
                while True:
                    saved_at, what = watch.next_change(lambda: _require_servers(here, web))
                    screen.happened("saved", what)
                    version = releases.release(live=web.serving())
                    if version:
                        _show_live(here, web, version, saved_at, "the save")
                    screen.say()
            except KeyboardInterrupt:
                screen.say()  # the terminal has just shown ^C
                raise


def _explain(here: World, web: Instance, folder: Path) -> None:
    screen.say()
    screen.fact("open", web.nginx.url)
    page = folder / INDEX
    screen.fact("edit", str(page if page.exists() else folder), "and save")
    screen.fact("try", f". {write_env_file(here, SITE)}", "in another shell, then")
    screen.fact("", "s3sync rollback", "or history, releases, diff; s3sync-agent status")
    screen.fact("end", "Ctrl-C")
    screen.say()


def _show_live(here: World, web: Instance, version: str, began: float, since: str) -> None:
    """Wait until `version` is live, and say how long it took."""
    try:
        web.wait_for(version)
    except DemoFailed as error:
        _require_servers(here, web)
        screen.happened("late", str(error), colour="yellow")
    else:
        seconds = time.monotonic() - began
        screen.happened("live", f"{web.nginx.url}, {seconds:.1f} s after {since}", colour="green")


def _require_servers(here: World, web: Instance) -> None:
    for process in (here.s3.process, web.nginx.process, web.process):
        process.require()
