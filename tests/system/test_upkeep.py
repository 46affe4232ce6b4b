"""What happens to an instance in its life: upgrades, restarts, a full disk, meddling, removal."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.system import bundles
from tests.system.fleet import Fleet
from tests.system.machine import Machine
from tests.system.network import Hub
from tests.system.site import EXAMPLE, Site
from tests.system.visitors import visiting

AGENT = "s3sync-agent"
COMMAND = "/opt/s3sync-agent/bin/s3sync-agent"
STATE = "/var/lib/s3sync-agent"
PAGES = ("/", "/about/", "/assets/app-59d1c78c.js", "/healthz")


@pytest.fixture
def serving(instance: Machine) -> Machine:
    instance.wait_until(lambda: instance.unit(AGENT, "ActiveState") == "active", "for the agent")
    instance.wait_until(lambda: instance.http("/healthz").status == 200, "for good health")
    return instance


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run(f"{COMMAND} status --json").stdout)
    return found


def events(machine: Machine, name: str) -> list[dict[str, Any]]:
    lines = machine.journal(AGENT).splitlines()
    reported = [json.loads(line) for line in lines if line.startswith("{")]
    return [event for event in reported if event["event"] == name]


# -------------------------------------------------------------------------- what one sees


def test_systemctl_status_and_the_status_command_say_the_same(serving: Machine) -> None:
    live = status(serving)["serving"]
    assert live.startswith("v1-")
    assert f'Status: "serving {live} since ' in serving.run(f"systemctl status {AGENT}").stdout
    assert f" serving  {live} since " in serving.run(f"{COMMAND} status").stdout
    assert f'"release":"{live}"' in _last_visit(serving, "/")
    assert live in serving.run("cat /run/s3sync-agent/healthy").stdout


def _last_visit(machine: Machine, path: str) -> str:
    machine.http(path)
    return machine.run("tail -n 1 /var/log/nginx/access.log").stdout


# ------------------------------------------------------------------------------- upgrades


def test_an_upgrade_under_load_is_seen_by_no_visitor(
    serving: Machine, site: Site, hub: Hub, tmp_path: Path
) -> None:
    newer = bundles.make(tmp_path / "newer", version="0.1.1")
    before = status(serving)
    (serving.root / "root" / newer.name).write_bytes(newer.read_bytes())
    with visiting(hub, serving.address, *PAGES) as visits:
        serving.run(f"python3 /root/{newer.name} && {COMMAND} setup")
        seconds = serving.wait_until(lambda: status(serving)["version"] == "0.1.1", "for the newer agent")
        site.release({"upgraded.html": "<h1>by the newer one</h1>"}, "v2")
        serving.wait_until(lambda: serving.http("/upgraded.html").status == 200, "for the next release")
    print(f"\nupgraded {seconds:.1f} s after setup; {visits}")
    assert visits.total > 100
    assert visits.not_200 == {}
    assert before["version"] != "0.1.1"
    assert status(serving)["pid"] != before["pid"]


def test_the_version_before_is_one_step_away(serving: Machine, bundle: Path, hub: Hub) -> None:
    (serving.root / "root" / bundle.name).write_bytes(bundle.read_bytes())
    with visiting(hub, serving.address, *PAGES) as visits:
        serving.run(f"python3 /root/{bundle.name} && {COMMAND} setup")
        serving.wait_until(lambda: status(serving)["version"] != "0.1.1", "for the former agent")
    assert visits.not_200 == {}


# ---------------------------------------------------------------------------------- nginx


def test_nginx_can_be_reloaded_under_load(serving: Machine, hub: Hub) -> None:
    with visiting(hub, serving.address, *PAGES) as visits:
        serving.run("systemctl reload nginx && systemctl reload nginx")
    print(f"\nnginx reloaded twice; {visits}")
    assert visits.not_200 == {}


def test_a_restarted_nginx_serves_the_same(serving: Machine, hub: Hub) -> None:
    with visiting(hub, serving.address, *PAGES) as visits:
        serving.run("systemctl restart nginx")
        serving.wait_until(lambda: serving.http("/healthz").status == 200, "for nginx")
    print(f"\nnginx restarted; {visits}")
    assert not {answer for answer in visits.not_200 if answer.isdigit()}, "refused, never wrong"
    assert serving.http("/").body == (EXAMPLE / "index.html").read_bytes()


def test_an_nginx_that_was_killed_is_not_the_end(serving: Machine) -> None:
    serving.run("systemctl kill --signal=KILL nginx; systemctl start nginx")
    serving.wait_until(lambda: serving.http("/healthz").status == 200, "for nginx")


# ------------------------------------------------------------------------ drift, full disk


def test_a_page_that_somebody_changed_is_healed(serving: Machine) -> None:
    before = serving.http("/").body
    serving.run(f"echo defaced >{STATE}/live/index.html && rm {STATE}/live/about/index.html")
    seconds = serving.wait_until(
        lambda: serving.http("/").body == before and serving.http("/about/").status == 200, "for healing"
    )
    print(f"\nhealed after {seconds:.1f} s")
    healed = {event["path"] for event in events(serving, "drift.healed")}
    assert {"index.html", "about/index.html"} <= healed
    assert serving.run(f"{COMMAND} verify").stdout.rstrip().endswith("all as published")


def test_a_full_disk_stops_the_next_release_and_nothing_else(serving: Machine, site: Site, hub: Hub) -> None:
    live = status(serving)["serving"]
    serving.run("dd if=/dev/zero of=/var/filler bs=1M 2>/dev/null", check=False)
    try:
        with visiting(hub, serving.address, *PAGES) as visits:
            site.release({"big.bin": "0123456789" * 800_000}, "v3")
            serving.wait_until(lambda: _problem(serving) == "DiskFull", "for a full disk to be told")
            full = status(serving)
            serving.run(
                "truncate --size=-4M /var/filler"
            )  # enough to remember what is wanted, not to have it
            serving.wait_until(lambda: bool(events(serving, "stage.failed")), "for the refusal")
            tight = status(serving)
        print(f"\nfull: {full['because']}\ntight: {tight['because']}\n{visits}")
        assert full["serving"] == tight["serving"] == live
        assert tight["wanted"].startswith("v3-")
        assert events(serving, "stage.failed")[0]["error"] == "DiskFull"
        assert visits.not_200 == {}
        assert f"serving {live}" in serving.run(f"systemctl status {AGENT}").stdout
    finally:
        serving.run("rm -f /var/filler")
    serving.wait_until(lambda: status(serving)["serving"].startswith("v3-"), "for room", seconds=90)


def _problem(machine: Machine) -> str:
    problem = status(machine)["problem"]
    return problem["error"] if problem else ""


# -------------------------------------------------------------------------------- removal


def test_removing_gives_the_machine_back_and_setting_up_again_works(
    fleet: Fleet, site: Site, bundle: Path
) -> None:
    machine = fleet.boot(user_data=site.user_data(bundle))
    machine.run(f"{COMMAND} setup --remove")
    assert machine.run(f"systemctl is-active {AGENT}", check=False).stdout.strip() == "inactive"
    left = machine.run(
        "ls -d /var/lib/s3sync-agent /run/s3sync-agent /etc/s3sync-agent /etc/nginx/conf.d/s3sync.conf"
        " /etc/systemd/system/s3sync-agent.service; getent passwd s3sync-agent",
        check=False,
    )
    assert left.stdout == ""
    assert machine.http("/healthz").status == 404
    assert b"nginx" in machine.http("/").body
    assert machine.run("systemctl is-system-running", check=False).stdout.strip() == "running"
    assert machine.run(f"{COMMAND} setup --remove").stdout.splitlines()[-1] == "nothing to do"
    machine.run(f"bash {shlex.quote('/var/lib/cloud/instance/scripts/part-001')}")
    assert machine.http("/").body == (EXAMPLE / "index.html").read_bytes()
