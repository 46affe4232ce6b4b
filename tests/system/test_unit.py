"""The shipped unit and nginx configuration on a real machine: starts, serves, survives, is confined."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.system.agent import AGENT, main_pid
from tests.system.machine import Machine
from tests.system.metadata import CREDENTIALS, Metadata
from tests.system.network import Hub
from tests.system.s3 import S3
from tests.system.sandbox import run_as
from tests.system.site import EXAMPLE, UNIT, Site
from tests.system.visitors import visiting

MOST_EXPOSED = 1.5
PAGES = ("/", "/about/", "/assets/app-59d1c78c.js")


@pytest.fixture
def serving(instance: Machine) -> Machine:
    """The instance, in good health: what one test did to it is no matter to the next."""
    instance.wait_until(lambda: instance.unit(AGENT, "ActiveState") == "active", "for the agent")
    instance.wait_until(lambda: instance.http("/healthz").status == 200, "for good health")
    return instance


# ------------------------------------------------------------------------- serving


def test_the_unit_runs_as_its_own_user_and_says_what_it_serves(serving: Machine) -> None:
    assert serving.unit(AGENT, "User") == "s3sync-agent"
    assert serving.run(f"ps -o user:20= -p {main_pid(serving)}").stdout.strip() == "s3sync-agent"
    status = serving.run(f"systemctl status {AGENT}").stdout
    assert re.search(r'Status: "serving v1-[0-9a-f]{12}', status), status


def test_nginx_serves_the_site_to_the_network(serving: Machine) -> None:
    home = serving.http("/")
    assert (home.status, home.body) == (200, (EXAMPLE / "index.html").read_bytes())
    assert serving.http("/healthz").body == b"ok\n"
    missing = serving.http("/nowhere")
    assert (missing.status, missing.body) == (404, (EXAMPLE / "404.html").read_bytes())
    assert serving.run("stat -c %U:%a /var/lib/s3sync-agent").stdout == "s3sync-agent:755\n"


def test_the_credentials_come_from_the_metadata_service_by_token(
    serving: Machine, metadata_service: Metadata
) -> None:
    asked = [each for each in metadata_service.asked if each.path.startswith(CREDENTIALS)]
    assert (serving.address, True, 200) in [(each.address, each.with_token, each.status) for each in asked]
    assert "AWS_ACCESS_KEY_ID" not in serving.run(f"cat /proc/{main_pid(serving)}/environ").stdout


def test_a_promotion_reaches_the_visitors(serving: Machine, site: Site, hub: Hub) -> None:
    with visiting(hub, serving.address, *PAGES) as visits:
        site.release({"news.html": "<h1>news</h1>"}, "v2")
        seconds = serving.wait_until(lambda: serving.http("/news.html").status == 200, "for the news")
    print(f"\npromotion to first answer: {seconds:.1f} s; {visits}")
    assert visits.total > 100
    assert visits.not_200 == {}


# ------------------------------------------------------------------------- surviving


def test_a_killed_agent_is_started_again_and_the_site_stays(serving: Machine, hub: Hub) -> None:
    killed = main_pid(serving)
    with visiting(hub, serving.address, *PAGES, "/healthz") as visits:
        serving.run(f"kill -KILL {killed}")
        seconds = serving.wait_until(
            lambda: main_pid(serving) not in (0, killed) and serving.unit(AGENT, "ActiveState") == "active",
            "for the agent to come back",
        )
    print(f"\nkilled and back after {seconds:.1f} s; {visits}")
    assert visits.total > 100
    assert visits.not_200 == {}


def test_a_stopped_agent_is_no_outage(serving: Machine, hub: Hub) -> None:
    with visiting(hub, serving.address, *PAGES, "/healthz") as visits:
        serving.run(f"systemctl stop {AGENT}")
        serving.run(f"systemctl start {AGENT}")
    print(f"\nstopped and started; {visits}")
    assert visits.not_200 == {}


def test_an_agent_that_hangs_is_killed_by_the_watchdog(serving: Machine) -> None:
    drop_in = f"/run/systemd/system/{AGENT}.service.d"
    serving.run(f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=3\\n' > {drop_in}/hasty.conf")
    serving.run(f"systemctl daemon-reload && systemctl restart {AGENT}")
    hung = main_pid(serving)
    serving.run(f"kill -STOP {hung}")
    seconds = serving.wait_until(lambda: main_pid(serving) not in (0, hung), "for the watchdog")
    print(f"\nhung and back after {seconds:.1f} s with WatchdogSec=3")
    assert "Watchdog timeout" in serving.journal(AGENT)
    assert serving.http("/").status == 200
    serving.run(f"rm -r {drop_in} && systemctl daemon-reload && systemctl restart {AGENT}")


def test_after_a_reboot_it_serves_at_once(serving: Machine) -> None:
    rebooted = serving.reboot()
    first = serving.wait_until(lambda: serving.http("/").status == 200, "for the page")
    healthy = serving.wait_until(lambda: serving.http("/healthz").status == 200, "for good health")
    print(f"\nreboot {rebooted:.2f} s, then first page {first:.2f} s, healthy {healthy:.2f} s later")


def test_after_a_power_cut_without_s3_it_serves_what_it_had(serving: Machine, s3_server: S3) -> None:
    with s3_server.away():
        serving.power_cut()
        serving.switch_on()
        first = serving.wait_until(lambda: serving.http("/").status == 200, "for the page", seconds=10)
        running = serving.wait_until(serving.is_running, "for the end of the boot")
        healthy = serving.wait_until(
            lambda: serving.http("/healthz").status == 200, "for good health", seconds=120
        )
        print(
            f"\nwithout S3: first page {first:.2f} s after power on, running {running:.1f} s later,"
            f" healthy {healthy:.1f} s after that"
        )


# ------------------------------------------------------------------------- confined


def test_the_exposure_is_small() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    print(f"\nexposure: {found[1]}")
    assert float(found[1]) <= MOST_EXPOSED


def test_the_unit_is_one_that_systemd_understands(serving: Machine) -> None:
    done = serving.run(f"systemd-analyze verify /etc/systemd/system/{AGENT}.service")
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        ("touch /etc/s3sync-agent/there", "Read-only file system"),
        ("touch /etc/there", "Read-only file system"),
        ("touch /opt/s3sync-agent/there", "Read-only file system"),
        ("touch /var/there", "Read-only file system"),
        ("touch /run/there", "Read-only file system"),
        ("touch /run/open-to-all/there", "Read-only file system"),
        ("cat /etc/shadow", "Permission denied"),
        ("ls /root", "Permission denied"),
        ("ls /home/somebody", "No such file|Permission denied"),
        ("mount -t tmpfs none /tmp", "permitted|permission denied|must be superuser"),
        ("chown root /var/lib/s3sync-agent/probe", "not permitted"),
        ("unshare --user true", "not permitted"),
        ("chmod u+s /var/lib/s3sync-agent/probe", "not permitted"),
        ("python3 -c 'import os; os.nice(-5)'", "not permitted"),
        ("python3 -c 'import socket; socket.socket(socket.AF_PACKET)'", "not supported"),
        ("python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'", "not permitted|Permission"),
        ("kill -0 1", "not permitted|No such process"),
    ],
)
def test_the_sandbox_refuses(serving: Machine, attempt: str, refusal: str) -> None:
    serving.run("mkdir -p /home/somebody && touch /home/somebody/secret")
    serving.run("mkdir -p -m 777 /run/open-to-all")
    probe = "touch /var/lib/s3sync-agent/probe && "
    done = run_as(UNIT, serving, probe + attempt)
    serving.run("rm -f /var/lib/s3sync-agent/probe")
    assert done.returncode != 0, f"it was allowed to: {done.stdout}"
    assert re.search(refusal, done.stderr), done.stderr


def test_the_sandbox_hides_other_people_s_processes_and_files(serving: Machine) -> None:
    assert run_as(UNIT, serving, "ls /proc").stdout.split().count("1") == 0
    serving.run("echo secret > /tmp/secret && chmod 644 /tmp/secret")
    assert run_as(UNIT, serving, "cat /tmp/secret").returncode != 0


def test_the_sandbox_lets_it_write_where_it_has_to(serving: Machine) -> None:
    done = run_as(UNIT, serving, "touch /var/lib/s3sync-agent/probe /run/s3sync-agent/probe /tmp/probe")
    assert done.returncode == 0, done.stderr
    serving.run("rm /var/lib/s3sync-agent/probe /run/s3sync-agent/probe")


HOOK = """#!/bin/bash
set -euo pipefail
test -f "$S3SYNC_TREE/index.html"
touch /tmp/room
exec 3<>/dev/tcp/127.0.0.1/80
if touch "$S3SYNC_TREE/mine" || touch /etc/there; then exit 1; fi
"""
ASK = """
from pathlib import Path
from s3sync_agent.hooks import Hooks, Subject

class Told:
    def event(self, name, **fields): print(name, fields)

live = Path("/var/lib/s3sync-agent/live").resolve()
hooks = Hooks(Path("/etc/s3sync-agent/hooks.d"), 30, "s3://site")
hooks.ask(Subject(live.name, "v1", live, "p"), Told(), lambda: None)
"""


def test_the_sandbox_lets_a_hook_of_roots_look_at_a_release_and_talk_and_nothing_more(
    serving: Machine,
) -> None:
    hook = "/etc/s3sync-agent/hooks.d/pre-activate/10-look"
    serving.write(hook, HOOK, mode=0o755)
    done = run_as(UNIT, serving, f"/opt/s3sync-agent/current/bin/python -c '{ASK}'")
    serving.run("rm -r /etc/s3sync-agent/hooks.d")
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["hook.done"]), done.stdout + done.stderr


def test_the_sandbox_ends_what_takes_too_much_memory(serving: Machine) -> None:
    limit = int(serving.unit(AGENT, "MemoryMax"))
    print(f"\nMemoryMax: {limit >> 20} MB")
    take = "python3 -c \"x = b'x' * {}; print('taken')\""
    modest = run_as(UNIT, serving, take.format(limit // 2))
    assert (modest.returncode, modest.stdout) == (0, "taken\n"), modest.stderr
    greedy = run_as(UNIT, serving, take.format(limit + (64 << 20)))
    assert greedy.returncode != 0
    assert "taken" not in greedy.stdout
