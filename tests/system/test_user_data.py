"""From a launched machine to its first visitor, by user data alone; and what happens when that fails."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import pytest

from bench.content import write_site
from tests.servers import Credentials
from tests.system import rootfs, s3
from tests.system.fleet import Fleet
from tests.system.machine import BOOT_SCRIPT, Machine
from tests.system.site import EXAMPLE, Site

OUTPUT = "/var/log/cloud-init-output.log"
# What a load balancer's controller would be told.
REPORTED = "/root/reported"
REPORT = f'echo "$S3SYNC_RESULT: $S3SYNC_REASON" >>{REPORTED}'
BEGAN = "/root/began"
PAGE = (EXAMPLE / "index.html").read_bytes()


def timed(user_data: str) -> str:
    """The same script, which writes down when it began."""
    return user_data.replace("\nset -euo pipefail\n", f"\nset -euo pipefail\ndate +%s.%N >{BEGAN}\n", 1)


def reported(machine: Machine) -> str:
    """What was reported at the end of the user data; waits for it."""
    path = machine.root / REPORTED.lstrip("/")
    machine.wait_until(
        lambda: path.exists() and path.read_text().endswith("\n"), "for the report", seconds=60
    )
    return path.read_text().splitlines()[-1]


def first_200(machine: Machine, page: bytes) -> float:
    """Seconds from the beginning of the user data to the first 200 of /healthz; then the page is there."""
    machine.wait_until(lambda: machine.http("/healthz").status == 200, "for /healthz", seconds=120)
    at = time.time()
    home = machine.http("/")
    assert (home.status, home.body) == (200, page)
    return at - float((machine.root / BEGAN.lstrip("/")).read_text())


# ----------------------------------------------------------------------------------- launch


@pytest.fixture(scope="module")
def launched(fleet: Fleet, site: Site, bundle: Path) -> Machine:
    machine = fleet.launch(user_data=timed(site.user_data(bundle, on_end=REPORT)))
    print(f"\nuser data to the first 200, example site: {first_200(machine, PAGE):.2f} s")
    machine.wait_until(machine.is_running, "until it was running", seconds=60)
    return machine


def test_a_launched_machine_serves_and_reports_success(launched: Machine, site: Site) -> None:
    assert re.fullmatch(rf"success: serving {re.escape(site.url)} after \d+ s", reported(launched))
    assert launched.run("cloud-init status").stdout.strip() == "status: done"
    log = launched.run(f"cat {OUTPUT}").stdout
    steps = re.findall(r"Z s3sync: (?!success)(.*)", log)
    assert steps == [
        "install nginx and python3.11",
        "keep visitors out until there is a release",
        "fetch the bundle",
        "install the bundle",
        "serve the first release",
    ]
    assert "Authorization" not in log


def test_the_agent_is_a_proper_distribution_beside_its_locked_dependencies(launched: Machine) -> None:
    listed = launched.run(
        "/opt/s3sync-agent/current/bin/python -c 'import importlib.metadata as m;"
        ' print(sorted(d.metadata["Name"] for d in m.distributions()))\''
    ).stdout
    assert "'s3sync-agent'" in listed
    assert "'botocore'" in listed


def test_the_same_script_again_finds_nothing_to_do_and_disturbs_nobody(launched: Machine) -> None:
    pids = "systemctl show --value --property=MainPID s3sync-agent nginx"
    before = launched.run(pids).stdout
    again = launched.run(f"bash {BOOT_SCRIPT}").stdout
    assert "nothing to do" in again
    assert reported(launched).startswith("success: ")
    assert launched.run(pids).stdout == before


def test_a_machine_that_loses_power_in_its_boot_script_goes_on_at_the_next_boot(
    fleet: Fleet, site: Site, bundle: Path
) -> None:
    machine = fleet.launch(user_data=site.user_data(bundle, on_end=REPORT))
    installing = machine.root / "opt/s3sync-agent"
    machine.wait_until(lambda: any(installing.glob("*/bin/python")), "for the installation to begin")
    machine.power_cut()
    assert not (machine.root / REPORTED.lstrip("/")).exists()
    machine.switch_on()
    assert reported(machine).startswith("success: ")
    assert machine.http("/").body == PAGE
    assert not list((machine.root / "var/lib/cloud/scripts/per-boot").iterdir())


def test_a_machine_without_nginx_installs_it(fleet: Fleet, site: Site, bundle: Path) -> None:
    machine = fleet.launch(user_data=timed(site.user_data(bundle, on_end=REPORT)), on=False)
    rootfs.remove_packages(machine.root, "nginx-light", "nginx", "nginx-common", "libnginx-mod-http-echo")
    assert not (machine.root / "usr/sbin/nginx").exists()
    machine.switch_on()
    print(f"\nuser data to the first 200, nginx to be installed: {first_200(machine, PAGE):.2f} s")
    assert reported(machine).startswith("success: ")


def test_ten_thousand_files_take_as_long_as_they_take(
    fleet: Fleet, site: Site, bundle: Path, tmp_path: Path
) -> None:
    large = Site(f"{site.url}-large", tmp_path, site.hub)
    folder = tmp_path / "ten-thousand"
    size = write_site(folder, 10_000)
    large.s3sync("publish", str(folder), "--version", "v1", "--no-files")
    large.promote("v1")
    machine = fleet.launch(user_data=timed(large.user_data(bundle)))
    seconds = first_200(machine, (folder / "index.html").read_bytes())
    print(f"\nuser data to the first 200, 10,000 files of {size / 1e6:.0f} MB: {seconds:.2f} s")
    count = machine.run("find /var/lib/s3sync-agent/live/ -type f | wc -l").stdout.strip()
    assert count == "10000"


# ---------------------------------------------------------------------------------- failure


def failing(machine: Machine, reason: str) -> None:
    """It has said why, shows nothing, and would get no visitor."""
    told = reported(machine)
    assert re.fullmatch(rf"failure: {reason}", told), told
    # Once nginx, which was told to read its configuration again, has done so.
    machine.wait_until(lambda: machine.http("/healthz").status == 503, "for bad health")
    for path in ("/healthz", "/", "/index.html"):
        assert machine.http(path).status == 503, path
    machine.wait_until(
        lambda: "running" not in machine.run("cloud-init status", check=False).stdout, "for the end"
    )
    assert machine.run("cloud-init status", check=False).stdout.strip() == "status: error"
    print(f"\n{told}")


def test_a_bundle_that_is_not_the_one_that_was_pinned_is_not_run(
    fleet: Fleet, site: Site, bundle: Path, tmp_path: Path
) -> None:
    other = Site(f"{site.url}-exchanged", tmp_path, site.hub)
    script = other.user_data(bundle, on_end=REPORT)
    key = f"{other.url.removeprefix(f's3://{s3.BUCKET}/')}/agent/{bundle.name}"
    site.hub.call(s3.put, key, b"import os; os.system('touch /root/owned')")
    machine = fleet.launch(user_data=script)
    failing(
        machine, r"failed to fetch the bundle \(exit 1\): the bundle in S3 is not the one that was pinned"
    )
    assert not (machine.root / "root/owned").exists()


def test_a_broken_bundle_fails_loudly(fleet: Fleet, site: Site, bundle: Path, tmp_path: Path) -> None:
    broken = bundle.read_bytes()[: 1 << 20]
    digest = hashlib.sha256(broken).hexdigest()[:12]
    path = tmp_path / re.sub(r"[0-9a-f]{12}\.pyz$", f"{digest}.pyz", bundle.name)
    path.write_bytes(broken)
    machine = fleet.launch(user_data=site.user_data(path, on_end=REPORT))
    failing(machine, r"failed to install the bundle \(exit 1\): .+")
    assert not (machine.root / "opt/s3sync-agent/current").exists()


def test_an_instance_that_may_read_nothing_says_so(fleet: Fleet, site: Site, bundle: Path) -> None:
    machine = fleet.launch(
        user_data=site.user_data(bundle, on_end=REPORT), role=Credentials("AKNOBODY", "SKNOBODY")
    )
    failing(machine, r"failed to fetch the bundle \(exit 1\): .*HTTP Error 403: Forbidden \(\w+\)")


def test_an_instance_that_may_read_the_bundle_alone_says_what_it_may_not(
    fleet: Fleet, site: Site, bundle: Path
) -> None:
    machine = fleet.launch(user_data=site.user_data(bundle, on_end=REPORT, wait=3), role=s3.ONLY_BUNDLES)
    failing(
        machine,
        r"failed to serve the first release \(exit 2\): /healthz: HTTP Error 503: .*; "
        r"the agent: get s3://\S+/current/\.s3sync/pointer\.json: .*",
    )
    assert "StoreDenied" in machine.run("s3sync-agent status --json", check=False).stdout


def test_a_machine_that_failed_goes_on_when_the_cause_is_gone(
    fleet: Fleet, site: Site, bundle: Path, tmp_path: Path
) -> None:
    late = Site(f"{site.url}-late", tmp_path, site.hub)
    machine = fleet.launch(user_data=late.user_data(bundle, on_end=REPORT, wait=5))
    failing(machine, r"failed to serve the first release .*there is no pointer at .*")
    late.publish(EXAMPLE, "v1")
    late.promote("v1")
    seconds = machine.wait_until(lambda: machine.http("/healthz").status == 200, "for /healthz")
    print(f"first promotion to good health: {seconds:.1f} s")
    assert machine.http("/").body == PAGE
    machine.run(f"bash {BOOT_SCRIPT}")
    assert reported(machine).startswith("success: ")
