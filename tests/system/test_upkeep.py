"""What happens to an instance in its life: upgrades, restarts, a full disk, meddling, removal."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from threading import Event

import pytest

from s3sync_agent.layout import MachinePaths
from tests.nginx_process import Answer
from tests.servers import REGION
from tests.system import s3
from tests.system.agent import AGENT, COMMAND, STATE, events, status
from tests.system.conftest import NEWER
from tests.system.fleet import Fleet
from tests.system.machine import BOOT_SCRIPT, Machine
from tests.system.network import HUB_ADDRESS, Hub
from tests.system.sandbox import run_as
from tests.system.site import COMMAND_SECONDS, EXAMPLE, TEMPLATE, Site
from tests.system.visitors import visiting

FLEET_NOT_TAKEN = 6  # the exit code
LARGE = "0123456789abcdef" * (1 << 19)  # 8 MiB: more than sockets hold
PAGES = ("/", "/about/", "/assets/app-59d1c78c.js", "/healthz")


@pytest.fixture
def serving(instance: Machine) -> Machine:
    instance.wait_until(lambda: instance.unit(AGENT, "ActiveState") == "active", "for the agent")
    instance.wait_until(lambda: instance.http("/healthz").status == 200, "for good health")
    return instance


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
    serving: Machine, site: Site, hub: Hub, newer: Path
) -> None:
    before = status(serving)
    (serving.root / "root" / newer.name).write_bytes(newer.read_bytes())
    with visiting(hub, serving.address, *PAGES) as visits:
        serving.run(f"python3 /root/{newer.name} && {COMMAND} setup")
        seconds = serving.wait_until(lambda: status(serving)["version"] == NEWER, "for the newer agent")
        site.release({"upgraded.html": "<h1>by the newer one</h1>"}, "v2")
        serving.wait_until(lambda: serving.http("/upgraded.html").status == 200, "for the next release")
    print(f"\nupgraded {seconds:.1f} s after setup; {visits}")
    assert visits.total > 100
    assert visits.not_200 == {}
    assert before["version"] != NEWER
    assert status(serving)["pid"] != before["pid"]


def test_the_version_before_is_one_step_away(serving: Machine, bundle: Path, hub: Hub) -> None:
    (serving.root / "root" / bundle.name).write_bytes(bundle.read_bytes())
    with visiting(hub, serving.address, *PAGES) as visits:
        serving.run(f"python3 /root/{bundle.name} && {COMMAND} setup")
        serving.wait_until(lambda: status(serving)["version"] != NEWER, "for the former agent")
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


def test_stopping_nginx_finishes_what_it_has_begun(serving: Machine, site: Site, hub: Hub) -> None:
    before = serving.unit("nginx", "MainPID")
    assert serving.unit("nginx", "ExecStop") == ""
    assert [serving.unit("nginx", name) for name in ("KillMode", "TimeoutStopUSec")] == ["mixed", "30s"]
    assert serving.unit("nginx", "MainPID") == before
    site.release({"large.bin": LARGE}, "v-large")
    serving.wait_until(lambda: serving.http("/large.bin", method="HEAD").status == 200, "for the download")
    begun = Event()
    download = hub.submit(_slow_download, serving.address, "/large.bin", begun)
    assert begun.wait(10)
    started = time.monotonic()
    serving.run("systemctl stop nginx")
    seconds = time.monotonic() - started
    with pytest.raises(OSError, match="refused"):
        serving.http("/")
    assert download.result(timeout=30) == len(LARGE)
    assert serving.unit("nginx", "Result") == "success"
    print(f"\nnginx stopped in {seconds:.1f} s, after the last byte of a slow download")
    serving.run("systemctl start nginx")


def _slow_download(address: str, path: str, begun: Event) -> int:
    """A visitor who reads a little at a time, for more than the 5 s that distributions allow; the bytes
    that came."""
    with socket.create_connection((address, 80), timeout=30) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = connection.makefile("rb")
        while answer.readline() != b"\r\n":
            pass
        count, until = 0, time.monotonic() + 7
        while chunk := answer.read(64 << 10):
            count += len(chunk)
            begun.set()
            if time.monotonic() < until:
                time.sleep(0.1)  # slow on purpose
        return count


def test_a_visitor_is_who_the_balancer_says_and_not_who_he_says(serving: Machine) -> None:
    """The hub is a private address, as a balancer is."""
    serving.http("/", headers={"X-Forwarded-For": "6.6.6.6, 203.0.113.7"})
    visit = json.loads(serving.run("tail -n 1 /var/log/nginx/access.log").stdout)
    assert (visit["client"], visit["balancer"]) == ("203.0.113.7", HUB_ADDRESS)
    assert visit["release"].startswith("v")


def test_an_nginx_that_was_killed_is_not_the_end(serving: Machine) -> None:
    serving.run("systemctl kill --signal=KILL nginx; systemctl start nginx")
    serving.wait_until(lambda: serving.http("/healthz").status == 200, "for nginx")


# -------------------------------------------------------------------------------- metrics


def test_metrics_say_what_status_says(serving: Machine) -> None:
    """Inside the sandbox of the unit, with node_exporter's file where the agent may write."""
    settings = 'metrics_listen = "127.0.0.1:9180"\nmetrics_textfile = "/run/s3sync-agent/s3sync.prom"\n'
    serving.write("/etc/s3sync-agent/config.d/metrics.toml", settings)
    ask = "curl --silent --fail --max-time 5 http://127.0.0.1:9180/metrics"
    serving.wait_until(lambda: serving.run(ask, check=False).returncode == 0, "for metrics")
    scraped, told = serving.run(ask).stdout, status(serving)
    assert f'serving="{told["serving"]}"' in scraped
    about = f'{{site="{told["site"]}"}}'
    assert f"s3sync_activations_total{about} {float(told['counts']['activations'])}" in scraped
    assert f"s3sync_behind_seconds{about} 0.0" in scraped
    assert f"s3sync_healthy{about} 1.0" in scraped
    file = "/run/s3sync-agent/s3sync.prom"
    serving.wait_until(lambda: serving.run(f"test -s {file}", check=False).returncode == 0, "for the file")
    assert serving.run(f"stat -c %a:%U {file}").stdout == "644:s3sync-agent\n"
    serving.run("rm /etc/s3sync-agent/config.d/metrics.toml")
    serving.wait_until(lambda: serving.run(ask, check=False).returncode != 0, "for their end")


# -------------------------------------------------------------------------- several sites


def test_a_second_site_on_the_same_machine(serving: Machine, site: Site, tmp_path: Path) -> None:
    blog = Site(f"{site.url}-blog", tmp_path, site.hub)
    there = MachinePaths("blog-2")
    options = f"--site {blog.url} --name blog-2 --host blog.test --endpoint-url {s3.ENDPOINT}"
    serving.write("/etc/s3sync-agent/blog-2/config.d/often.toml", "poll_interval = 1\n")
    serving.run(f"{COMMAND} setup {options} --region {REGION}")

    def visit(path: str) -> Answer:
        return serving.http(path, headers={"Host": "blog.test"})

    assert (visit("/healthz").status, visit("/").status) == (503, 503)
    assert serving.http("/healthz").status == 200
    blog.release({"index.html": "<h1>blog</h1>"}, "v1")
    serving.wait_until(lambda: visit("/healthz").status == 200, "for the blog")
    assert visit("/").body == b"<h1>blog</h1>"
    assert b"blog</h1>" not in serving.http("/").body
    told = serving.run(f"s3sync-agent --config {there.config} status").stdout
    assert f"site  {blog.url}\n" in told
    for forbidden in (STATE, "/run/s3sync-agent"):
        refused = run_as(TEMPLATE, serving, f"touch {forbidden}/x", instance="blog-2")
        assert "Read-only file system" in refused.stderr, forbidden
    allowed = f"touch {there.state_dir}/x {there.run_dir}/x && rm {there.state_dir}/x {there.run_dir}/x"
    assert run_as(TEMPLATE, serving, allowed, instance="blog-2").returncode == 0
    serving.run(f"{COMMAND} setup --remove --name blog-2")
    assert visit("/").body == serving.http("/").body, "nobody's host is answered by the site without a name"
    assert serving.run("systemctl is-active s3sync-agent@blog-2", check=False).stdout == "inactive\n"
    assert serving.unit(AGENT, "ActiveState") == "active"


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


def test_a_run_directory_that_somebody_removed_comes_back(serving: Machine) -> None:
    serving.run("rm -r /run/s3sync-agent")
    assert serving.http("/healthz").status == 503
    seconds = serving.wait_until(lambda: serving.http("/healthz").status == 200, "for good health")
    print(f"\nrun directory removed: in service again after {seconds:.1f} s")


def test_a_full_disk_stops_the_next_release_and_nothing_else(serving: Machine, site: Site, hub: Hub) -> None:
    live = status(serving)["serving"]
    serving.run("dd if=/dev/zero of=/var/filler bs=1M 2>/dev/null", check=False)
    try:
        with visiting(hub, serving.address, *PAGES) as visits:
            (site.folder / "big.bin").write_text("0123456789" * 800_000)
            site.publish(site.folder, "v3")
            promotion = site.beginning("promote", "v3", "--now", "--no-mirror", "--on-failure", "hold")
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
        _, said = promotion.communicate(timeout=COMMAND_SECONDS)
        assert promotion.returncode == FLEET_NOT_TAKEN, said
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
        " /etc/systemd/system/s3sync-agent.service /etc/systemd/system/nginx.service.d/s3sync.conf"
        " /usr/local/bin/s3sync-agent; getent passwd s3sync-agent",
        check=False,
    )
    assert left.stdout == ""
    assert machine.http("/healthz").status == 404
    assert b"nginx" in machine.http("/").body
    assert machine.run("systemctl is-system-running", check=False).stdout.strip() == "running"
    assert machine.run(f"{COMMAND} setup --remove").stdout.splitlines()[-1] == "nothing to do"
    machine.run(f"bash {BOOT_SCRIPT}")
    assert machine.http("/").body == (EXAMPLE / "index.html").read_bytes()
