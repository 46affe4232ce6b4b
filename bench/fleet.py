#!/usr/bin/env -S .venv/bin/python
"""A fleet on one machine: how far apart instances swap, and what a promotion asks of S3.

    bench/fleet.py --agents 20

Agents run as they are, several to a process (bench/fleet_host.py), against one S3 server on loopback.
Releases are promoted in two phases by the code of `s3sync promote`. When an instance swapped is taken right
after the rename in its own process. All share one clock, the cores and one disk: the clock hides what chrony
leaves between machines, everything else makes it worse than on machines of their own.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":  # called by its path: Python looks for modules beside it
    sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402 - see above, as for the rest

from bench import machine  # noqa: E402
from bench.fleet_host import Plan, Report, counting_requests  # noqa: E402
from s3sync_agent.bucket.s3 import S3Bucket  # noqa: E402
from s3sync_agent.clock import SystemClock  # noqa: E402
from s3sync_agent.deploy.promoter import Promoter  # noqa: E402
from s3sync_agent.deploy.publish import publish  # noqa: E402
from s3sync_agent.deploy.source import find_source  # noqa: E402
from s3sync_agent.deploy.two_phase import promote  # noqa: E402
from s3sync_agent.gate import Verdict  # noqa: E402
from s3sync_agent.layout import Site, parse_site  # noqa: E402
from s3sync_agent.pointer import format_time, parse_time  # noqa: E402
from s3sync_agent.webroot.staging import remove_tree  # noqa: E402
from tests.servers import S3Server, seaweedfs  # noqa: E402

BUDGET_MS = 25.0  # p99 of the skew, for 20 agents
BUDGET_AGENTS = 20
PAGES = 10
READY_SECONDS = 120.0
ANSWER_SECONDS = 30.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Round:
    """One promotion. `swaps` are seconds after its instant, one for each instance; requests are by kind,
    `asked` of all agents together and `operator` of the command, which took `seconds`. `told` is the skew it
    reported itself."""

    swaps: tuple[float, ...]
    asked: dict[str, int]
    operator: dict[str, int]
    seconds: float
    told: float

    @property
    def skew(self) -> list[float]:
        """Seconds after the first to swap, of each instance."""
        first = min(self.swaps)
        return [swap - first for swap in self.swaps]


@dataclass(frozen=True, slots=True)
class Measured:
    """`idle` are the requests of all agents by kind in `idle_seconds` in which nobody promoted."""

    agents: int
    processes: int
    rounds: tuple[Round, ...]
    idle: dict[str, int]
    idle_seconds: float
    idle_cpu: float


# ---------------------------------------------------------------------------------- measuring


def measure(
    site: Site,
    folder: Path,
    *,
    agents: int,
    processes: int,
    rounds: int,
    poll_interval: float,
    idle_seconds: float,
) -> Measured:
    """Promote `rounds` releases. `site` is empty, in the S3 that the environment names."""
    bucket = S3Bucket(site.bucket)
    versions = [f"v{number}" for number in range(rounds + 1)]
    for version in versions:
        _publish(bucket, site, folder / "site", version)
    promote(_promoter(bucket, site), versions[0], new_id=_new_id)
    with _hosts(site, folder, agents, processes, poll_interval) as hosts:
        _await_fleet(_promoter(bucket, site), agents)
        before, cpu = _asked(hosts)
        time.sleep(idle_seconds)
        after, cpu_after = _asked(hosts)
        found = []
        for version in versions[1:]:
            found.append(_round(bucket, site, hosts, version, agents))
            _tell(f"{version}: {max(found[-1].skew) * 1000:.2f} ms between the first and the last")
    return Measured(agents, processes, tuple(found), dict(after - before), idle_seconds, cpu_after - cpu)


def _publish(bucket: S3Bucket, site: Site, folder: Path, version: str) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(PAGES):
        name = "index.html" if number == 0 else f"page-{number}.html"
        (folder / name).write_text(f"<h1>{version}</h1>\n")
    publish(
        bucket,
        site,
        folder,
        version=version,
        source=find_source(folder, {}),
        created_at=format_time(time.time()),
        with_files=False,
    )


def _round(bucket: S3Bucket, site: Site, hosts: Sequence[Host], version: str, agents: int) -> Round:
    before, _ = _asked(hosts)
    began = time.monotonic()
    with counting_requests() as operator:
        promotion = promote(_promoter(bucket, site), version, new_id=_new_id)
    seconds = time.monotonic() - began
    after, _ = _asked(hosts)
    active, figures = promotion.pointer.active, promotion.figures
    instant = parse_time(active.activate_at or "")
    swaps = {
        swap.identity: swap.at / 1e9 - instant
        for host in hosts
        for swap in host.report().swaps
        if swap.release == active.id
    }
    if len(swaps) != agents or figures is None or figures.skew is None:
        raise RuntimeError(f"{version} was promoted and {len(swaps)} of {agents} swapped")
    return Round(tuple(swaps.values()), dict(after - before), dict(operator), seconds, figures.skew)


def _await_fleet(promoter: Promoter, agents: int) -> None:
    """Until every instance serves the first release and says so."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        ready = sum(sighting.beat.good for sighting in promoter.look().fresh())
        if ready == agents:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{ready} of {agents} agents are ready after {READY_SECONDS:.0f} s")
        time.sleep(0.5)


class _Quiet:
    def say(self, text: str) -> None:
        """Nobody reads along."""

    def look(self, doing: str, verdict: Verdict) -> None:
        """As above."""


def _promoter(bucket: S3Bucket, site: Site) -> Promoter:
    return Promoter(bucket, site, by="bench", clock=SystemClock(), show=_Quiet())


def _new_id() -> str:
    return secrets.token_urlsafe(9)


# -------------------------------------------------------------------------------------- hosts


class Host:
    """A process with agents in it."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.fleet_host"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(msgspec.json.encode(plan).decode())

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def report(self) -> Report:
        assert self._process.stdout is not None
        self._ask("report")
        return msgspec.json.decode(self._process.stdout.readline(), type=Report)

    def begin_to_stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def stop(self) -> None:
        assert self._process.stdout is not None
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def _hosts(
    site: Site, folder: Path, agents: int, processes: int, poll_interval: float
) -> Iterator[list[Host]]:
    names = [f"i-{number:03}" for number in range(agents)]
    hosts: list[Host] = []
    try:
        for number in range(processes):
            plan = Plan(
                site=site.url,
                identities=tuple(names[number::processes]),
                folder=str(folder),
                log=str(folder / f"host-{number}.log"),
                poll_interval=poll_interval,
            )
            hosts.append(Host(plan))
        yield hosts
    finally:
        for host in hosts:
            host.begin_to_stop()
        for host in hosts:
            host.stop()


def _asked(hosts: Sequence[Host]) -> tuple[Counter[str], float]:
    """Requests by kind and CPU seconds, of all so far."""
    reports = [host.report() for host in hosts]
    asked: Counter[str] = Counter()
    for report in reports:
        asked.update(report.requests)
    return asked, sum(report.cpu for report in reports)


# ------------------------------------------------------------------------------------ telling


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that so many in a hundred do not exceed."""
    return sorted(samples)[max(0, math.ceil(share / 100 * len(samples)) - 1)]


def describe(measured: Measured) -> str:
    rounds, agents = measured.rounds, measured.agents
    skew = [each * 1000 for one in rounds for each in one.skew]
    late = [each * 1000 for one in rounds for each in one.swaps]
    widest = [max(one.skew) * 1000 for one in rounds]
    lines = [
        f"{agents} agents in {measured.processes} processes, {len(rounds)} promotions",
        f"skew, each swap after the first of its promotion: {_spread(skew)}{_verdict(skew, agents)}",
        f"skew, the last swap of a promotion: {_spread(widest)}",
        f"the same as `s3sync promote` tells it: {_spread([one.told * 1000 for one in rounds])}",
        f"late, after the instant: {_spread(late)}",
        f"command: {_spread([one.seconds for one in rounds], 's')}",
    ]
    if measured.idle_seconds:
        per_second = {
            kind: count / agents / measured.idle_seconds for kind, count in sorted(measured.idle.items())
        }
        share = measured.idle_cpu / measured.idle_seconds / agents * 100
        told = ", ".join(f"{kind} {count:.3f}" for kind, count in per_second.items())
        lines.append(f"idle, requests per agent and second: {told}; {share:.2f} % of a core per agent")
    lines += [
        f"requests per agent and promotion: {_kinds([one.asked for one in rounds], agents)}",
        f"requests of the command: {_kinds([one.operator for one in rounds], 1)}",
        "All share one clock, the cores and one disk.",
    ]
    return "\n".join(lines)


def _spread(samples: Sequence[float], unit: str = "ms") -> str:
    p50, p99, most = percentile(samples, 50), percentile(samples, 99), max(samples)
    return f"p50 {p50:.2f} {unit}, p99 {p99:.2f} {unit}, max {most:.2f} {unit} of {len(samples)}"


def _verdict(skew: Sequence[float], agents: int) -> str:
    if agents > BUDGET_AGENTS:
        return ""
    met = percentile(skew, 99) <= BUDGET_MS
    return f"; budget p99 ≤ {BUDGET_MS:.0f} ms {'met' if met else 'missed'}"


def _kinds(rounds: Sequence[dict[str, int]], shared_by: int) -> str:
    """The mean of several rounds."""
    total: Counter[str] = Counter()
    for each in rounds:
        total.update(each)
    return ", ".join(f"{kind} {total[kind] / len(rounds) / shared_by:.2f}" for kind in sorted(total))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/fleet.py", description=__doc__)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that share the agents")
    parser.add_argument("--rounds", type=int, default=10, help="promotions")
    parser.add_argument("--poll-interval", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--idle", type=float, default=10.0, metavar="SECONDS", help="watch before")
    parser.add_argument("--folder", type=Path, help="where the instances are (default: a temporary folder)")
    asked = parser.parse_args()
    os.chdir(ROOT)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="s3sync-fleet-", dir=asked.folder))
        stack.callback(remove_tree, folder)
        data = folder / "s3"
        data.mkdir()
        server: S3Server = stack.enter_context(seaweedfs(data))
        os.environ.update(server.environment())
        for name, fact in machine.describe(folder, "seaweedfs").items():
            print(f"{name}: {fact}")
        measured = measure(
            parse_site(f"s3://{server.new_bucket()}/site"),
            folder,
            agents=asked.agents,
            processes=min(asked.processes, asked.agents),
            rounds=asked.rounds,
            poll_interval=asked.poll_interval,
            idle_seconds=asked.idle,
        )
        print(describe(measured))


if __name__ == "__main__":
    main()
