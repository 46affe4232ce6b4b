"""Installs the agent from the bundle that this file starts: `python3.12 s3sync-agent-….pyz [--prefix DIR]`.

This is the `__main__.py` of a bundle. It runs on an instance before anything is there, so it imports
nothing but the standard library and `installer`, which lies beside it in the bundle, and it can be
read by Pythons that are too old for the rest: they are the ones it has to tell so.

    /opt/s3sync-agent/<version>-<digest>/    a virtual environment of its own for each bundle
    /opt/s3sync-agent/current                → the one in force, swapped by rename
    /opt/s3sync-agent/bin/<command>          → ../current/bin/<command>

A running agent is not disturbed: it goes on from its own directory until it is restarted.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

DEFAULT_PREFIX = "/opt/s3sync-agent"
DESCRIPTION = "bundle.json"  # also written last into a finished directory
COMMANDS = ("s3sync-agent", "s3sync")
_NAMED = re.compile(r"-([0-9a-f]{12})\.pyz\Z")
_HOME = re.compile(r".+-[0-9a-f]{12}\Z")


class Refused(Exception):
    """Why nothing was installed, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Install s3sync-agent beside the one that runs.")
    parser.add_argument("--prefix", type=Path, default=Path(DEFAULT_PREFIX), help="default: %(default)s")
    prefix = parser.parse_args(arguments).prefix.absolute()
    bundle = Path(__file__).resolve().parent
    os.umask(0o022)
    started = time.monotonic()
    try:
        home = install(bundle, prefix)
    except Refused as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"installed {home} in {time.monotonic() - started:.1f} s")
    return 0


def install(bundle: Path, prefix: Path) -> Path:
    """Make the bundle's version the current one below `prefix`; returns its directory.

    What was current before stays beside it, older ones go. A directory counts from the moment its
    description is written; one that an interrupted installation left behind is made anew.
    """
    digest = check_name(bundle)
    with zipfile.ZipFile(bundle) as content:
        description = json.loads(content.read(DESCRIPTION))
        check_machine(description, this_machine())
        home = prefix / f"{description['version']}-{digest}"
        prefix.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _alone(prefix):
            if not (home / DESCRIPTION).exists():
                if home.exists():
                    shutil.rmtree(home)
                _create_environment(home)
                _unpack(content, description["wheels"], home)
                _compile(home)
                os.sync()
                (home / DESCRIPTION).write_bytes(content.read(DESCRIPTION))
            _make_current(home, prefix)
    return home


# ------------------------------------------------------------------------------ checks


def check_name(bundle: Path) -> str:
    """The digest in the bundle's name, when that is its content's. Raises Refused."""
    named = _NAMED.search(bundle.name)
    if named is None:
        raise Refused(f"{bundle.name} has no digest in its name", "keep the name that s3sync bundle gave it")
    if hashlib.sha256(bundle.read_bytes()).hexdigest()[:12] != named[1]:
        raise Refused(f"{bundle.name} is not the file that its name says", "fetch it again")
    return named[1]


def this_machine() -> dict[str, str]:
    """What a bundle is particular about. `glibc` is empty where there is another C library."""
    try:
        library, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        library, version = "", ""
    return {
        "implementation": platform.python_implementation(),
        "python": "{}.{}".format(*sys.version_info),
        "arch": platform.machine(),
        "glibc": version if library == "glibc" else "",
    }


def check_machine(description: dict[str, str], machine: dict[str, str]) -> None:
    """Raises Refused when the bundle was made for another Python, processor or C library."""
    if (machine["implementation"], machine["python"]) != ("CPython", description["python"]):
        raise Refused(
            f"this bundle is for CPython {description['python']}, "
            f"this is {machine['implementation']} {machine['python']}",
            f"start it with python{description['python']}, "
            f"or make one with: s3sync bundle --python {machine['python']}",
        )
    if machine["arch"] != description["arch"]:
        raise Refused(
            f"this bundle is for {description['arch']}, this machine is {machine['arch']}",
            f"make one with: s3sync bundle --arch {machine['arch']}",
        )
    if _numbers(machine["glibc"]) < _numbers(description["glibc"]):
        raise Refused(
            f"this bundle needs glibc {description['glibc']} or newer, "
            f"this machine has {machine['glibc'] or 'another C library'}",
            "use a newer distribution: Amazon Linux 2023, Debian 12, Ubuntu 22.04",
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


# ----------------------------------------------------------------------- installation


@contextlib.contextmanager
def _alone(prefix: Path) -> Iterator[None]:
    with (prefix / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"another bundle is being installed in {prefix}", "wait until it is done") from None
        yield


class _Environment(venv.EnvBuilder):
    """A virtual environment without pip and without scripts for interactive shells."""

    def setup_scripts(self, context: SimpleNamespace) -> None:
        pass


def _create_environment(home: Path) -> None:
    _Environment(symlinks=True, with_pip=False).create(home)


def _unpack(content: zipfile.ZipFile, wheels: list[str], home: Path) -> None:
    """Install the wheels as distributions; `installer` checks each against its own record of hashes."""
    from installer import install as install_wheel  # noqa: PLC0415  # too new for Pythons to be told so
    from installer.destinations import SchemeDictionaryDestination  # noqa: PLC0415
    from installer.sources import WheelFile  # noqa: PLC0415

    paths = sysconfig.get_paths("venv", vars={"base": str(home), "platbase": str(home)})
    for name in wheels:
        with content.open(f"wheels/{name}") as stream, zipfile.ZipFile(stream) as opened:
            wheel = WheelFile(opened)
            destination = SchemeDictionaryDestination(
                {**paths, "headers": str(home / "include" / wheel.distribution)},
                interpreter=str(home / "bin" / "python"),
                script_kind="posix",
            )
            install_wheel(wheel, destination, {"INSTALLER": b"s3sync-bundle\n"})


def _compile(home: Path) -> None:
    """Byte code now: the agent's user may not write it later, and would compile at every start."""
    command = [str(home / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", str(home / "lib")]
    # A file that does not compile (somebody's template) is no reason to stop.
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # noqa: S603  # our own arguments


def _make_current(home: Path, prefix: Path) -> None:
    current = prefix / "current"
    former = current.readlink().name if current.is_symlink() else ""
    (prefix / "bin").mkdir(exist_ok=True)
    for command in COMMANDS:
        _point(prefix / "bin" / command, f"../current/bin/{command}")
    if former == home.name:
        return
    _point(current, home.name)
    for other in prefix.iterdir():
        if _HOME.match(other.name) and other.name not in {home.name, former} and not _runs(other):
            (other / DESCRIPTION).unlink(missing_ok=True)  # first: half a version must not count as one
            shutil.rmtree(other)


def _runs(home: Path) -> bool:
    """Whether some process was started from there: another site's agent, not restarted yet."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if command.read_bytes().startswith(f"{home}/".encode()):
                return True
    return False


def _point(link: Path, target: str) -> None:
    """A symbolic link that is there at every moment: made beside, renamed over."""
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.symlink_to(target)
    beside.replace(link)


if __name__ == "__main__":
    sys.exit(main())
