"""What the daemon costs while nothing changes: memory, CPU, requests, bytes written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from botocore.exceptions import ClientError

from bench.figures import Figure, figure
from bench.world import Instance, World, timed
from s3sync_agent.layout import parse_site
from tests.agent_process import AgentProcess, running
from tests.counting import counted

RSS_BUDGET = 70.0
IDLE_BUDGET = 0.1
POLL_BUDGET = 2.0
_READY_SECONDS = 120.0
_SETTLE_SECONDS = 3.0  # after the first tick: watches are placed, memory is given back
_BARE = 20  # requests
_FAST = "0.2"  # the shortest interval there is, for many polls in little time
_WATCHDOG = {"WATCHDOG_USEC": "120000000"}  # as in the shipped unit


def measure(world: World) -> Iterator[Figure]:
    site = world.new_site()
    operator = world.environ(site)
    timed("s3sync", "publish", str(world.site), "--version", "v0", "--no-files", environ=operator)
    timed("s3sync", "promote", "v0", "--now", "--no-mirror", environ=operator)
    instance = world.new_instance(site)
    yield from _after_a_cold_start(world, instance)
    yield from _polls(world, instance)
    yield figure("a bare botocore 304, as often", "ms", [_bare_304(world, site) for _ in range(world.runs)])


def _after_a_cold_start(world: World, instance: Instance) -> Iterator[Figure]:
    environ = instance.environ | _WATCHDOG
    with running(environ, folder=instance.root) as agent:
        _await_ready(agent)
        pid = agent.process.pid
        idle, peak = memory(pid)
        before = cpu_seconds(pid)
        time.sleep(world.idle_seconds)
        used = (cpu_seconds(pid) - before) / world.idle_seconds
        yield figure("memory idle, after a cold start", "MB", [idle], RSS_BUDGET)
        yield figure("memory at most, in a cold start", "MB", [peak])
        yield figure("idle, one poll every 5 s", "% of a core", [used * 100], IDLE_BUDGET)


def _polls(world: World, instance: Instance) -> Iterator[Figure]:
    """Several windows of many polls each."""
    with counted(world.server.endpoint) as counter:
        environ = instance.environ | _WATCHDOG
        environ |= {"AWS_ENDPOINT_URL": counter.endpoint, "S3SYNC_POLL_INTERVAL": _FAST}
        with running(environ, folder=instance.root) as agent:
            _await_ready(agent)
            pid = agent.process.pid
            tree = _state_of(instance.state)
            milliseconds, written = [], []
            for _ in range(world.runs):
                counter.forget()
                cpu, io = cpu_seconds(pid), bytes_written(pid)
                time.sleep(world.idle_seconds / world.runs)
                milliseconds.append((cpu_seconds(pid) - cpu) * 1000 / len(counter.asked))
                written.append(bytes_written(pid) - io)
            changed = len(tree ^ _state_of(instance.state))
    yield figure("no-op poll", "ms", milliseconds, POLL_BUDGET)
    yield figure("no-op polls, written to the disk", "bytes", written, budget=0)
    yield figure("no-op polls, touched in the state directory", "files", [changed], budget=0)


def _bare_304(world: World, url: str) -> float:
    """The limit below the agent: milliseconds of CPU for the same question, after the same pause."""
    site = parse_site(url)
    etag = world.server.admin.head_object(Bucket=site.bucket, Key=site.pointer)["ETag"]
    used = 0.0
    for _ in range(_BARE):
        time.sleep(float(_FAST))
        before = time.thread_time()
        with suppress(ClientError):  # 304 is one
            world.server.admin.get_object(Bucket=site.bucket, Key=site.pointer, IfNoneMatch=etag)
        used += time.thread_time() - before
    return used * 1000 / _BARE


def _await_ready(agent: AgentProcess) -> None:
    """Until the first tick has ended, and a little longer. Raises RuntimeError when the agent has ended."""
    deadline = time.monotonic() + _READY_SECONDS
    while not any(line == "READY=1" for line in agent.notified):
        if agent.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the agent is not ready: {agent.events}")
        time.sleep(0.05)
    time.sleep(_SETTLE_SECONDS)


def _state_of(root: Path) -> set[tuple[str, int, int]]:
    """Every path with what changes when it is written."""
    found = ((path, path.lstat()) for path in [root, *root.rglob("*")])
    return {(str(path), stat.st_ino, stat.st_ctime_ns) for path, stat in found}


# ------------------------------------------------------------------- asking the kernel


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used so far, exactly: /proc counts in steps of 10 ms."""
    clock = ~pid << 3 | 2  # what clock_getcpuclockid(3) gives
    return time.clock_gettime(clock)


def memory(pid: int) -> tuple[float, float]:
    """Resident now and at most so far, in MB of 10^6 bytes."""
    status = _proc(pid, "status")
    return _kibibytes(status["VmRSS"]), _kibibytes(status["VmHWM"])


def bytes_written(pid: int) -> int:
    """What a process has let the kernel write to a disk."""
    return int(_proc(pid, "io")["write_bytes"])


def _kibibytes(text: str) -> float:
    return int(text.removesuffix(" kB")) * 1024 / 1e6


def _proc(pid: int, name: str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
