"""The root file systems of machines: one Debian, made once and cached, below an overlay for each.

The cache is `$SYSTEM_TESTS_CACHE`, or `~/.cache/s3sync-agent`. What is in it is named by what it was
made from, so a stale one is never used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "nginx-light",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
)
# The certificates that a machine trusts.
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
# Kept in the image, as a repository for machines that come without them.
REPOSITORY = "/usr/local/share/packages"
IN_REPOSITORY = ("libnginx-mod-*", "nginx*")
# Installed by apt: debootstrap does not get their dependencies into the right order. `aws` is in the image of
# Amazon Linux, too.
AFTERWARDS = ("awscli", "cloud-init")
# Help texts, a quarter of all files.
NOT_NEEDED = ("usr/lib/python3/dist-packages/awscli/examples",)
BUILD_SECONDS = 600
OVERLAY_SIZE = "2g"

# As on an instance, except that one metadata service is enough to be sure it is EC2, and that the
# harness has already set up the network.
_CLOUD_INIT = """\
datasource_list: [ Ec2 ]
datasource:
  Ec2: { strict_id: false, metadata_urls: ["http://169.254.169.254"], max_wait: 10, timeout: 2 }
network: { config: disabled }
locale: false
"""


def cache_dir() -> Path:
    given = os.environ.get("SYSTEM_TESTS_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "s3sync-agent"


def unpack_base(directory: Path) -> Path:
    """A Debian with `PACKAGES`, in `directory`; nobody may change it once it is mounted."""
    base = directory / "base"
    base.mkdir()
    _run("tar", "--extract", "--zstd", "--file", str(_archive(cache_dir())), "--directory", str(base))
    return base


def _archive(cache: Path) -> Path:
    recipe = "\n".join((SUITE, *PACKAGES, *AFTERWARDS, *NOT_NEEDED, *IN_REPOSITORY, _CLOUD_INIT))
    name = f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar.zst"
    archive = cache / name
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _build(archive)
    return archive


def _build(archive: Path) -> None:
    building = archive.parent / "building"
    shutil.rmtree(building, ignore_errors=True)
    faster = ["eatmydata"] if shutil.which("eatmydata") else []
    included = f"--include={','.join(PACKAGES)}"
    _run(*faster, "debootstrap", "--variant=minbase", included, SUITE, str(building))
    shutil.copy("/etc/resolv.conf", building / "etc/resolv.conf")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends"]
    _run("chroot", str(building), *apt, *AFTERWARDS)
    _prepare(building)
    unfinished = archive.with_name("unfinished.tar.zst")
    _run("tar", "--create", "--zstd", "--file", str(unfinished), "--directory", str(building), ".")
    unfinished.rename(archive)
    shutil.rmtree(building)


def _prepare(root: Path) -> None:
    """What an image has that a bare installation has not."""
    (root / "etc/cloud/cloud.cfg.d/99-ec2.cfg").write_text(_CLOUD_INIT)
    (root / "etc/cloud/ds-identify.cfg").write_text("policy: enabled\n")
    # Nobody answers there, at once: without it, looking up a name costs half a minute.
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    archives = root / "var/cache/apt/archives"
    _make_repository(
        root / REPOSITORY.lstrip("/"), [p for name in IN_REPOSITORY for p in archives.glob(name)]
    )
    for package in archives.glob("*.deb"):
        package.unlink()
    for folder in NOT_NEEDED:
        shutil.rmtree(root / folder)
    # The first boot makes its own.
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)


def _make_repository(directory: Path, packages: list[Path]) -> None:
    """The packages with the index that apt needs of them."""
    directory.mkdir()
    entries = []
    for package in packages:
        name = package.name.replace("%3a", ":")
        shutil.copy(package, directory / name)
        fields = _run("dpkg-deb", "--field", str(package)).strip()
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        entries.append(f"{fields}\nFilename: ./{name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n")
    (directory / "Packages").write_text("\n".join(entries))


def remove_packages(root: Path, *packages: str) -> None:
    """Before the machine is switched on; apt finds the repository of the image from then on."""
    _run("chroot", str(root), "dpkg", "--purge", *packages)
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{REPOSITORY} ./\n")


@contextmanager
def overlay(base: Path, directory: Path) -> Iterator[Path]:
    """A root file system of its own: `base` with whatever is written in memory above it."""
    directory.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={OVERLAY_SIZE},mode=755", "tmpfs", str(directory))
    try:
        upper, work, root = directory / "upper", directory / "work", directory / "root"
        for each in (upper, work, root):
            each.mkdir()
        layers = f"lowerdir={base},upperdir={upper},workdir={work}"
        _run("mount", "-t", "overlay", "-o", layers, "overlay", str(root))
        try:
            yield root
        finally:
            _run("umount", str(root))
    finally:
        _run("umount", str(directory))
        directory.rmdir()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout
