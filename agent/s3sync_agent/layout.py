"""Where everything is: S3 keys, local paths, and which file names are immutable.

This is the only module that spells a key or a path of the contract, so pipeline,
infrastructure and agent cannot disagree. Pure.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3sync_agent.errors import ConfigError, UnsafePath

RESERVED = ".s3sync"
INDEX = "index.html"

VERSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}\Z")
_BUCKET_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")

MAX_SEGMENT_BYTES = 255  # NAME_MAX on ext4 and xfs
MAX_PATH_BYTES = 800  # S3 allows 1,024 bytes a key; the rest is prefix, `releases/` and version
MAX_DEPTH = 64

DEFAULT_STATE_DIR = Path("/var/lib/s3sync-agent")
DEFAULT_RUN_DIR = Path("/run/s3sync-agent")
DEFAULT_CONFIG = Path("/etc/s3sync-agent/config.toml")
FRAGMENTS = "config.d"  # beside the configuration file: what adds to it
HOOKS = "hooks.d"  # there too: what is run before and after a release goes live


# ---------------------------------------------------------------------------- S3 keys


@dataclass(frozen=True, slots=True)
class Site:
    """One `s3://bucket[/prefix]`. `prefix` has no leading or trailing slash."""

    bucket: str
    prefix: str = ""

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, relative: str) -> str:
        return f"{self.prefix}/{relative}" if self.prefix else relative

    @property
    def pointer(self) -> str:
        return self.key(f"current/{RESERVED}/pointer.json")

    @property
    def complete_marker(self) -> str:
        """Plain pipelines may write this last, to say that `current/` is whole."""
        return self.key(f"current/{RESERVED}/complete")

    @property
    def current(self) -> str:
        return self.key("current/")

    @property
    def releases(self) -> str:
        return self.key("releases/")

    def release(self, version: str) -> str:
        return self.key(f"releases/{version}/")

    def manifest(self, version: str) -> str:
        return f"{self.release(version)}{RESERVED}/manifest.json"

    def pack(self, version: str, sha256: str) -> str:
        return f"{self.release(version)}{RESERVED}/{sha256}.pack"

    @property
    def fleet(self) -> str:
        return self.key("fleet/")

    def bundle(self, filename: str) -> str:
        return self.key(f"agent/{filename}")

    def heartbeat(self, identity: str) -> str:
        return f"{self.fleet}{identity}.json"


_FOLDERS = {"current", "releases", "fleet"}


def parse_site(url: str) -> Site:
    """`s3://bucket[/prefix]` → Site. Raises ConfigError."""
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if scheme != "s3" or not _BUCKET_PATTERN.match(bucket):
        raise ConfigError(
            f"site {escape(url)!r} is not s3://bucket[/prefix]",
            hint="for example: --site s3://my-bucket/my-site",
        )
    if prefix.rpartition("/")[2] in _FOLDERS:  # promoting to the site around it would wipe this one
        raise ConfigError(
            f"site {escape(url)!r} ends in a folder of a site",
            hint=f"name the site itself: s3://{escape(bucket)}/{escape(prefix.rpartition('/')[0])}",
        )
    if prefix:
        try:
            check_path(prefix, reserved_ok=False)
        except UnsafePath as error:
            raise ConfigError(f"site {escape(url)!r}: {error}") from error
    return Site(bucket, prefix)


def is_reserved(relative: str) -> bool:
    """True for paths below `.s3sync/`, which belong to this project in every tree."""
    return relative == RESERVED or relative.startswith(RESERVED + "/")


# ------------------------------------------------------------------------------ names


def check_version(version: str) -> str:
    """Return `version` when it may name a release; raises UnsafePath."""
    if not VERSION_PATTERN.match(version):
        raise UnsafePath(
            f"version {escape(version)!r} is not [A-Za-z0-9][A-Za-z0-9._-]{{0,127}}",
            hint="use letters, digits, dot, underscore and hyphen; start with a letter or digit",
        )
    return version


def check_path(path: str, *, reserved_ok: bool = False) -> str:
    """Return `path` when it may be written below a release directory; raises UnsafePath.

    A path is relative, uses `/`, has no empty, `.` or `..` segment, no backslash, no control
    character, encodes to UTF-8, and fits the limits above. Anything else could escape the
    tree, collide with our own files, or not exist on some file system.
    """
    reason = _path_fault(path, reserved_ok=reserved_ok)
    if reason:
        shown = escape(path if len(path) <= 120 else path[:117] + "...")
        raise UnsafePath(f"unsafe path {shown!r}: {reason}")
    return path


_PLAIN_PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,98}/){0,7}[A-Za-z0-9_-][A-Za-z0-9._-]{0,98}\Z")


def _path_fault(path: str, *, reserved_ok: bool) -> str:
    if _PLAIN_PATH.match(path):  # nearly every path; the checks below cost ten times as much
        return ""
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if "\\" in path:
        return "it holds a backslash"
    if any(unicodedata.category(char) == "Cc" for char in path):
        return "it holds a control character"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if len(encoded) > MAX_PATH_BYTES:
        return f"it is {len(encoded)} bytes long, the limit is {MAX_PATH_BYTES}"
    segments = path.split("/")
    if len(segments) > MAX_DEPTH:
        return f"it is {len(segments)} levels deep, the limit is {MAX_DEPTH}"
    for segment in segments:
        if segment in ("", ".", ".."):
            return f"it has the segment {segment!r}"
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            return f"a name in it is longer than {MAX_SEGMENT_BYTES} bytes"
    if not reserved_ok and is_reserved(path):
        return f"{RESERVED}/ is reserved"
    return ""


def check_tree(paths: Iterable[str]) -> None:
    """Raise UnsafePath unless the paths can exist together: no duplicate, no file that is
    also a directory. Each path must have passed `check_path`."""
    files: set[str] = set()
    directories: set[str] = set()
    for path in paths:
        if path in files:
            raise UnsafePath(f"path {escape(path)!r} occurs twice")
        files.add(path)
        directories.update(parents(path))
    both = files & directories
    if both:
        raise UnsafePath(f"{escape(min(both))!r} is both a file and a directory")


def parents(path: str) -> list[str]:
    """`a/b/c` → [`a`, `a/b`]."""
    found = []
    cut = path.find("/")
    while cut != -1:
        found.append(path[:cut])
        cut = path.find("/", cut + 1)
    return found


def escape(text: str) -> str:
    """`text` with everything that could move a cursor or forge a log line made visible."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "replace").decode() for char in text
    )


# -------------------------------------------------------------------------- immutable

_CODE = {"js", "mjs", "css", "map", "wasm", "woff", "woff2"}
_NEVER = {"html", "htm", "xhtml", "txt", "xml", "pdf", ""}
_BUILD_DIRECTORIES = {"assets", "static", "_astro", "_nuxt", "_next", "_app", "build", "dist"}
# Next and SvelteKit put nothing else there, also under names that look like nothing.
_IMMUTABLE_DIRECTORIES = ("_next/static/", "_app/immutable/")
_HEX = re.compile(r"(?:\A|[.\-_~])([0-9a-f]{8,64})(?=[.\-_~]|\Z)")
_BUNDLER = re.compile(r"[.\-]([A-Za-z0-9_-]{8})\Z")
# Base32, beside the page itself: esbuild and Angular write `main-5KX3QJ2M.js` to the top.
_ESBUILD = re.compile(r"-(?=[A-Z]*[2-7])(?=[2-7]*[A-Z])[A-Z2-7]{8}\Z")
_COPIES = (".gz", ".br", ".zst")
_DATE = re.compile(r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


def original_of(path: str) -> str | None:
    """The file that `path` is a compressed copy of by its name: `app.js.gz` → `app.js`. None for others."""
    if not path.endswith(_COPIES):
        return None
    original = path.rpartition(".")[0]
    return original if original.rpartition("/")[2] else None


def is_immutable(path: str, *, extra: Sequence[str] = (), never: Sequence[str] = ()) -> bool:
    """Whether the name says that it changes with the bytes.

    Recognised without configuration: a hexadecimal token of 8–64 digits delimited by `.`,
    `-`, `_` or `~` (webpack, Rails, Hugo, Next), and in the directories bundlers write, an
    eight-character token before the extension (Vite, esbuild, Rollup), and all below the two
    directories that are for nothing else (Next, SvelteKit). Pages are never immutable. `extra` and
    `never` are globs over the whole path; `never` wins. A compressed copy is what its original is.
    """
    original = original_of(path) or path
    for globs, verdict in ((never, False), (extra, True)):
        if any(fnmatch.fnmatchcase(name, glob) for glob in globs for name in {path, original}):
            return verdict
    path = original
    directory, _, name = path.rpartition("/")
    stem, _, suffix = name.rpartition(".")
    suffix = suffix.lower() if stem else ""
    if suffix in _NEVER:
        return False
    if any(f"/{known}" in f"/{path}" for known in _IMMUTABLE_DIRECTORIES):
        return True
    if any(_is_hash(token, suffix) for token in _HEX.findall(stem)):
        return True
    if suffix in _CODE and _ESBUILD.search(stem):
        return True
    if _BUILD_DIRECTORIES.isdisjoint(directory.split("/")):
        return False
    token = _BUNDLER.search(stem.removesuffix(".min"))
    return token is not None and _looks_random(token[1])


def _is_hash(token: str, suffix: str) -> bool:
    if token.isdigit():  # 2 % of real hashes; everywhere else a date or a number
        return suffix in _CODE and not _DATE.fullmatch(token)
    return any(char.isdigit() for char in token)


def _looks_random(token: str) -> bool:
    """A digit beside letters, or capitals inside: `BqD3kx9a`, `5KX3QJ2M`, `DkWqPzHa`.

    With `-` or `_` in it only with a capital inside: `D_x-3kQ9`, but not the end of `hero-image-2x`.
    """
    if token.isdigit():
        return not _DATE.fullmatch(token)
    if ("-" in token or "_" in token) and token[1:] == token[1:].lower():
        return False
    return any(c.isdigit() for c in token) or sum(c.isupper() for c in token[1:]) >= 2


# -------------------------------------------------------------------------- on disk

MTIME_BASE = 1_000_000_000
MTIME_SPAN = 600_000_000


def mtime_for(sha256: str) -> int:
    """Seconds since the epoch that a file with this content carries, on every instance.

    nginx makes its ETag of mtime and size; with an mtime that is a function of the content the
    ETag validates content and is the same behind every balancer.
    """
    return MTIME_BASE + int(sha256[:8], 16) % MTIME_SPAN


def release_id(version: str, manifest_sha256: str) -> str:
    """The name of a release's directory on an instance."""
    return f"{version}-{manifest_sha256[:12]}"


def version_of(release: str) -> str:
    """The version of a release by its id."""
    return release.rpartition("-")[0]


RELEASE_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}-[0-9a-f]{12}\Z")


class StatePaths:
    """The state directory: one file system, served by nginx, written by the agent alone.

    `retained` lists the immutable files of releases whose trees are gone, and until when they stay.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live = root / "live"
        self.previous = root / "previous"
        self.releases = root / "releases"
        self.assets = root / "assets"
        self.manifests = root / "manifests"
        self.staging = root / "staging"
        self.state = root / "state.json"
        self.retained = root / "retained.json"

    def release(self, release: str) -> Path:
        return self.releases / release

    def manifest(self, release: str) -> Path:
        return self.manifests / f"{release}.json"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The run-time directory: what others read to know how the agent is."""

    root: Path

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def healthy(self) -> Path:
        return self.root / "healthy"


_AGENT = "s3sync-agent"
_NAME = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
_SITE_NAME = re.compile(rf"{_NAME}\Z")
_STATE_DIR_NAME = re.compile(rf"{_AGENT}(?:-({_NAME}))?\Z")
_NGINX_NAME = re.compile(rf"s3sync(?:-({_NAME}))?\.conf\Z")
_TAKEN = {"environment"}  # a file beside the folders of named sites; no other name there is without a dot
_SYSTEM_UNITS = Path("/etc/systemd/system")


class MachinePaths:
    """Where one site is on a machine, and what its service is called.

    A machine's first or only site has no name. Others have one, and nothing in common with it but the user
    and the program. Raises ConfigError for a name that could not be all of these paths.
    """

    def __init__(self, name: str = "") -> None:
        if name and (not _SITE_NAME.match(name) or name in _TAKEN):
            raise ConfigError(
                f"{escape(name)!r} cannot be the name of a site here",
                hint="at most 32 lower-case letters, digits and hyphens, for example: --name blog",
            )
        suffix = f"-{name}" if name else ""
        folder = DEFAULT_CONFIG.parent / name
        self.name = name
        self.config = folder / DEFAULT_CONFIG.name
        self.fragments = folder / FRAGMENTS
        self.by_setup = self.fragments / "00-setup.toml"  # so that any other file there wins
        self.user_data = self.fragments / "50-user-data.toml"  # settings that the boot script was told
        self.environment = folder / "environment"
        self.state_dir = Path(f"{DEFAULT_STATE_DIR}{suffix}")
        self.run_dir = Path(f"{DEFAULT_RUN_DIR}{suffix}")
        self.service = f"{_AGENT}@{name}.service" if name else f"{_AGENT}.service"
        self.unit = _SYSTEM_UNITS / (f"{_AGENT}@.service" if name else self.service)
        self.services = self.unit.name.replace("@", "@*")  # all that run from this unit
        self.nginx = Path(f"/etc/nginx/conf.d/s3sync{suffix}.conf")
        self.access_log = Path(f"/var/log/nginx/s3sync{suffix}.log" if name else "/var/log/nginx/access.log")


def sites_here(names: Iterable[str]) -> set[str]:
    """The sites whose state directories or nginx files are called so; "" is the one without a name."""
    found = [_STATE_DIR_NAME.match(name) or _NGINX_NAME.match(name) for name in names]
    return {match[1] or "" for match in found if match}
