"""Real machines for tests, on one machine, as root. `make test-system` runs them.

Everything the harness makes has a name that begins with `s3sync-`, lies in `WORK` or in the control
groups of `cgroups`; one test run at a time, and each removes what an earlier one left behind.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system import bundles, cgroups, metadata, network, rootfs, s3
from tests.system.balancer import balancing
from tests.system.fleet import Fleet
from tests.system.group import Group
from tests.system.machine import Machine, forget_propagation
from tests.system.network import Hub
from tests.system.shop import Shop
from tests.system.site import EXAMPLE, Site

WORK = Path("/var/tmp/s3sync-system")
LOCK = Path("/run/s3sync-system.lock")
TOOLS = ("debootstrap", "haproxy", "ip", "nsenter", "systemd-nspawn", "tar", "zstd")
# What promotions are waited for in tests.
OFTEN = {"/etc/s3sync-agent/config.d/often.toml": "poll_interval = 1\n"}
HEARTBEAT_INTERVAL = 5
# Of the instances of a fleet: what a visitor loads is probed.
SETTINGS = {
    "/etc/s3sync-agent/config.d/often.toml": f"""\
poll_interval = 0.2
heartbeat_interval = {HEARTBEAT_INTERVAL}
probe_paths = ["/", "/about/"]
"""
}
NEWER = "9.9.9"
ROLE_ID = "AROAEXAMPLEEXAMPLEXXX"
# The first run makes a Debian.
TIMEOUT_SECONDS = rootfs.BUILD_SECONDS * 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A directory for the whole run, on a machine that holds nothing of an earlier one."""
    if os.geteuid():
        pytest.skip("needs root: it makes namespaces, control groups and mounts")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}; `make test-system` installs what it needs")
    with _alone():
        sweep()
        WORK.mkdir()
        try:
            yield WORK
        finally:
            sweep()


@contextmanager
def _alone() -> Iterator[None]:
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.exit("another run of the system tests is under way on this machine", returncode=1)
        yield


def sweep() -> None:
    """Remove what a test run that died has left: processes, mounts, namespaces, files."""
    cgroups.sweep()
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounted):
        if Path(mount).is_relative_to(WORK):
            subprocess.run(["umount", mount], check=True, timeout=30)
    network.sweep()
    s3.sweep()
    for left in Path("/run/systemd/nspawn/propagate").glob(f"{network.PREFIX}*"):
        forget_propagation(left.name)
    if WORK.exists():
        shutil.rmtree(WORK)


@pytest.fixture(scope="session")
def base(work: Path) -> Path:
    return rootfs.unpack_base(work)


@pytest.fixture(scope="session")
def hub(work: Path) -> Iterator[Hub]:
    with network.hub() as found:
        yield found


@pytest.fixture(scope="session")
def s3_server(hub: Hub, work: Path) -> Iterator[s3.S3]:
    with s3.serving(hub, work / "s3") as server:
        yield server


@pytest.fixture(scope="session")
def metadata_service(hub: Hub) -> Iterator[metadata.Metadata]:
    with metadata.serving(hub, s3.INSTANCE) as service:
        yield service


@pytest.fixture(scope="session")
def bundle(work: Path) -> Path:
    return bundles.make(work / "bundle")


@pytest.fixture(scope="session")
def newer(work: Path) -> Path:
    """The same agent under a newer version."""
    return bundles.make(work / "newer", version=NEWER)


@pytest.fixture(scope="module")
def fleet(base: Path, work: Path, hub: Hub, metadata_service: metadata.Metadata) -> Iterator[Fleet]:
    """`fleet.boot(user_data=…)` is a new machine; all are gone at the end of the module."""
    fleet = Fleet(base, work, hub, metadata_service)
    with fleet.resources:
        yield fleet


@pytest.fixture(scope="module")
def site(
    hub: Hub, s3_server: s3.S3, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Site:
    """The example site, published and promoted as `v1`."""
    name = request.module.__name__.rpartition(".")[2].replace("_", "-")
    site = Site(f"s3://{s3.BUCKET}/{name}", tmp_path_factory.mktemp("site"), hub)
    shutil.copytree(EXAMPLE, site.folder, dirs_exist_ok=True)
    site.publish(site.folder, "v1")
    site.promote("v1")
    return site


@pytest.fixture(scope="module")
def instance(fleet: Fleet, bundle: Path, site: Site) -> Machine:
    """A machine that serves `site`, by nothing but its user data."""
    return fleet.boot(user_data=site.user_data(bundle), files=OFTEN)


@pytest.fixture(scope="session")
def shop(
    base: Path,
    work: Path,
    hub: Hub,
    s3_server: s3.S3,
    metadata_service: metadata.Metadata,
    bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """A site in its release `v1`, served by three instances behind a balancer. Tests find as many as those
    before have left, all of them serving what is active."""
    fleet = Fleet(base, work, hub, metadata_service)
    with fleet.resources, balancing(hub, work / "balancer") as balancer:
        folder = tmp_path_factory.mktemp("releases")
        site = Site(f"s3://{s3.BUCKET}/shop", folder, hub)
        user_data = site.user_data(bundle, role_id=ROLE_ID)
        group = Group(fleet, balancer, user_data, ROLE_ID, SETTINGS)
        shop = Shop(site, folder, group)
        shop.publish("v1")
        shop.promote("v1")
        group.scale_out(3)
        print(f"\nthree instances in service after {group.await_healthy():.1f} s")
        yield shop
