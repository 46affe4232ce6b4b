"""Create a virtual environment that holds exactly what a lock names.

    python3 scripts/bootstrap.py .venv                           requirements.lock, and this package
    .venv/bin/python scripts/bootstrap.py .venv/tools/X X.lock   a tool whose needs contradict ours

Runs with nothing but Python's standard library. uv installs five times as fast as pip and comes
out of the same lock, by way of pip. It does not read pip's configuration, so what pip was told
about indexes is passed on; where uv cannot install with that (proxies that want a password, odd
certificates), pip does it. Hashes are checked on both ways.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"

# pip's option → uv's variable, and what stands between several values there.
_INDEXES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036  # this file is what tells an older Python so
        return _fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}", "make PYTHON=…")
    home = Path(sys.argv[1]).absolute()
    tool_lock = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    try:
        if not _is_usable(home):
            venv.create(home, with_pip=tool_lock is None, clear=True, symlinks=True)
    except (ImportError, subprocess.CalledProcessError):
        return _fail("this Python cannot create virtual environments", "Debian: apt-get install python3-venv")
    python = str(home / "bin" / "python")
    pip = ["-m", "pip", "--disable-pip-version-check"]
    try:
        if tool_lock is not None:  # by pip and uv of the environment that runs this
            _install_locked([sys.executable, *pip, "--python", python], Path(sys.prefix), home, tool_lock)
        else:
            pip = [python, *pip]
            _install_uv(pip, home)
            _install_locked(pip, home, home, LOCK)
            _install_this(pip)
    except subprocess.CalledProcessError as error:
        return _fail(f"{' '.join(error.cmd[:4])} … ended with {error.returncode}", "its own message is above")
    return 0


def _fail(what: str, hint: str) -> int:
    print(f"bootstrap: {what}\n  hint: {hint}", file=sys.stderr)
    return 1


def _is_usable(home: Path) -> bool:
    """An environment of the same Python is brought up to date, any other is made anew."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (home / "lib" / f"python{version}").is_dir() and (home / "bin" / "python").exists()


def _install_uv(pip: list[str], home: Path) -> None:
    """Only uv, by the lines the lock has for it."""
    locked = re.search(r"^uv==.*?(?=^\S|\Z)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    if locked is None:
        raise SystemExit(f"bootstrap: {LOCK.name} names no uv; run `make lock`")
    only_uv = home / "uv.lock.txt"
    only_uv.write_text(locked[0])
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--require-hashes", "-r", only_uv], check=True)


def _install_locked(pip: list[str], with_uv: Path, home: Path, lock: Path) -> None:
    uv = [str(with_uv / "bin" / "uv"), "pip"]
    env = {**uv_environment(_pip_options(pip)), **os.environ, "VIRTUAL_ENV": str(home)}
    try:
        # All hashes are in the lock: any index may hold the file, none may change it.
        best = ["--index-strategy", "unsafe-best-match"]
        subprocess.run([*uv, "sync", "--quiet", "--require-hashes", *best, lock], env=env, check=True)
    except subprocess.CalledProcessError:
        print("bootstrap: uv could not install the lock; trying pip", file=sys.stderr)
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--require-hashes", "-r", lock], check=True)


def _install_this(pip: list[str]) -> None:
    # hatchling is in the lock, so nothing has to be fetched to build the package.
    this = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)]
    subprocess.run([*pip, "install", "--quiet", *this], check=True)


def _pip_options(pip: list[str]) -> dict[str, str]:
    """What pip was told by its files and, stronger, by its environment variables."""
    listed = subprocess.run([*pip, "config", "list"], check=True, capture_output=True, text=True).stdout
    from_files = re.findall(r"^(?:global|install)\.([a-z-]+)='(.+)'$", listed, re.MULTILINE)
    from_environment = re.findall(r"^:env:\.([a-z-]+)='(.+)'$", listed, re.MULTILINE)
    return {**dict(from_files), **dict(from_environment)}


def uv_environment(options: Mapping[str, str]) -> dict[str, str]:
    """Options of pip in the words of uv; whatever uv does not know is left out."""
    return {
        variable: separator.join(options[name].replace("\\n", " ").split())
        for name, (variable, separator) in _INDEXES.items()
        if name in options
    }


if __name__ == "__main__":
    sys.exit(main())
