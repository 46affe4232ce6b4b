"""A large site: what it costs in requests and memory does not grow with the number of its files."""

from __future__ import annotations

import base64
import random
import re
import subprocess
import time
from pathlib import Path

import pytest

from s3sync_agent.layout import parse_site
from s3sync_agent.plan import PART_SIZE
from s3sync_agent.release import parse_manifest
from tests.agent_process import COMMANDS, minimal
from tests.counting import counted
from tests.integration.conftest import LiveSite
from tests.integration.sites import asking, new_site, promote_here, publish_here, run_once
from tests.servers import S3Server

FILES = 10_000
CHANGED = 100
MEMORY_LIMIT = 150 * 1024  # KiB; four parts of 8 MiB in flight, beside 58 MB for the SDK


def write_files(site: LiveSite, numbers: range, seed: int) -> None:
    """Pages of about 1.5 KB that do not compress well, a hundred to a folder."""
    chance = random.Random(seed)
    site.write({"index.html": f"<h1>{seed}</h1>"})
    for number in numbers:
        page = site.folder / f"{number // 100:03}" / f"{number:05}.html"
        page.parent.mkdir(exist_ok=True)
        page.write_bytes(b"<p>" + base64.b64encode(chance.randbytes(1100)))


def run_once_and_watch(site: LiveSite) -> tuple[float, int]:
    """`run --once`; how long it took in seconds, and the most memory it had, in KiB."""
    started = time.monotonic()
    peak = 0
    with subprocess.Popen(
        [str(COMMANDS / "s3sync-agent"), "run", "--once"],
        env=minimal(site.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.005)
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
    return time.monotonic() - started, peak


def pack_size(site: LiveSite, server: S3Server, version: str) -> int:
    where = parse_site(site.url)
    answer = server.admin.get_object(Bucket=where.bucket, Key=where.manifest(version))
    pack = parse_manifest(answer["Body"].read()).pack
    assert pack is not None
    return pack.size


@pytest.mark.timeout(120)
def test_ten_thousand_files_cost_a_handful_of_requests(seaweedfs: S3Server, tmp_path: Path) -> None:
    site = new_site(seaweedfs, tmp_path)
    write_files(site, range(FILES - 1), seed=1)
    publish_here(site, "v1")
    promote_here(site, "v1")
    parts = -(-pack_size(site, seaweedfs, "v1") // PART_SIZE)
    with counted(seaweedfs.endpoint) as counter:
        instance = asking(site, counter.endpoint)
        seconds, memory = run_once_and_watch(instance)
        show("cold", FILES, len(counter.asked), seconds, memory)
        assert parts > 1
        assert len(counter.asked) == 2 + parts
        assert memory < MEMORY_LIMIT
        assert_served(site)

        write_files(site, range(0, FILES, FILES // (CHANGED - 1))[: CHANGED - 1], seed=2)
        publish_here(site, "v2")
        promote_here(site, "v2")
        counter.forget()
        seconds, memory = run_once_and_watch(instance)
        show("update", CHANGED, len(counter.asked), seconds, memory)
        assert len(counter.asked) <= 4
        assert memory < MEMORY_LIMIT
        assert_served(site)

        counter.forget()
        assert run_once(instance).returncode == 0
        assert len(counter.asked) == 1


def show(what: str, files: int, requests: int, seconds: float, memory: int) -> None:
    print(f"\n{what}: {files:,} files, {requests} requests, {seconds:.1f} s, {memory / 1024:.0f} MiB")


def assert_served(site: LiveSite) -> None:
    subprocess.run(["diff", "-r", "-q", site.folder, site.state / "live/"], check=True)
