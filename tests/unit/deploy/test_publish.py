from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3sync_agent.deploy.progress import Stage
from s3sync_agent.deploy.publish import Published, publish
from s3sync_agent.deploy.releases import load_manifest
from s3sync_agent.deploy.verify import verify_release
from s3sync_agent.errors import (
    ConfigError,
    ObjectMissing,
    PreconditionFailed,
    ReleaseRefused,
    S3SyncError,
    StoreDenied,
    StoreUnavailable,
    UnsafePath,
)
from s3sync_agent.layout import Site
from s3sync_agent.pointer import ReleaseRef, encode_pointer, promoted
from s3sync_agent.release import Source
from tests.fakes import MemoryBucket

SITE = Site("bucket", "prefix")
PAGES = {
    "index.html": "<p>home</p>" * 20,
    "about/index.html": "<p>about</p>" * 20,
    "assets/app-4f9a1c3e.js": "app()",
    "logo.svg": "<svg/>",
    "empty.txt": "",
}


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket(clock=lambda: 1_800_000_000.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder(tmp_path / "site", PAGES)


def folder(root: Path, pages: dict[str, str]) -> Path:
    for path, text in pages.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def run(bucket: MemoryBucket, root: Path, version: str = "v1", **options: object) -> Published:
    arguments: dict[str, object] = {
        "version": version,
        "source": Source(commit="1a2b3c4"),
        "created_at": "2026-11-22T18:15:00.000Z",
        "workers": 1,
        **options,
    }
    return publish(bucket, SITE, root, **arguments)  # type: ignore[arg-type]  # keyword options of the test


def make_live(bucket: MemoryBucket, *published: Published) -> None:
    """Promote the releases one after another."""
    pointer = None
    for release in published:
        ref = ReleaseRef(
            version=release.version,
            manifest_sha256=release.manifest_sha256,
            manifest_size=release.manifest_size,
            promotion_id=f"promotion-{release.version}",
        )
        pointer = promoted(pointer, site=SITE.url, ref=ref, by="", reason="", now=1_800_000_000)
    assert pointer is not None
    bucket.place(SITE.pointer, encode_pointer(pointer))


def keys(bucket: MemoryBucket) -> set[str]:
    return {key.removeprefix("prefix/") for key in bucket.objects}


def puts(bucket: MemoryBucket) -> list[str]:
    return [key.removeprefix(SITE.release("v1")) for operation, key in bucket.requests if operation == "put"]


def exists(bucket: MemoryBucket, version: str = "v1") -> bool:
    return SITE.manifest(version) in bucket.objects


# ------------------------------------------------------------------- what a release is


def test_a_folder_becomes_a_whole_release_whose_manifest_goes_up_last(
    bucket: MemoryBucket, root: Path
) -> None:
    done = run(bucket, root)
    stored = load_manifest(bucket, SITE, "v1")
    assert stored.manifest.pack is not None
    assert keys(bucket) == {
        *(f"releases/v1/{path}" for path in PAGES),
        f"releases/v1/.s3sync/{stored.manifest.pack.sha256}.pack",
        "releases/v1/.s3sync/manifest.json",
    }
    assert puts(bucket)[-1] == ".s3sync/manifest.json"
    assert done == Published(
        version="v1",
        manifest_sha256=stored.sha256,
        manifest_size=stored.size,
        files=5,
        bytes_uploaded=sum(map(len, PAGES.values())) + stored.manifest.pack.size + stored.size,
        already_there=False,
    )
    assert stored.manifest.source == Source(commit="1a2b3c4")
    assert stored.manifest.created_at == "2026-11-22T18:15:00.000Z"
    assert [entry.path for entry in stored.manifest.files if entry.immutable] == ["assets/app-4f9a1c3e.js"]
    assert verify_release(bucket, SITE, "v1").faults == ()


def test_publishing_changes_nothing_outside_its_own_folder(bucket: MemoryBucket, root: Path) -> None:
    make_live(bucket, run(bucket, root))
    bucket.place("prefix/current/index.html", b"live")
    before = dict(bucket.objects)
    run(bucket, root, "v2")
    assert {key: bucket.objects[key] for key in before} == before
    assert all(key.startswith("prefix/releases/v2/") for key in bucket.objects.keys() - before.keys())


def test_with_no_files_the_pack_alone_goes_up(bucket: MemoryBucket, root: Path) -> None:
    run(bucket, root, with_files=False)
    assert [path.rpartition(".")[2] for path in puts(bucket)] == ["pack", "json"]
    assert verify_release(bucket, SITE, "v1").faults == ()


def test_objects_have_the_type_a_browser_expects(bucket: MemoryBucket, root: Path) -> None:
    run(bucket, root)
    assert {
        path: bucket.objects[SITE.release("v1") + path].content_type for path in ("index.html", "logo.svg")
    } == {"index.html": "text/html; charset=utf-8", "logo.svg": "image/svg+xml"}
    assert bucket.objects[SITE.manifest("v1")].content_type == "application/json"


def test_warnings_of_the_check_are_handed_on_and_errors_refuse_with_all_of_them(
    bucket: MemoryBucket, root: Path
) -> None:
    folder(root, {"index.html": "<a href=gone>"})
    assert [finding.code for finding in run(bucket, root).findings] == ["broken-link"]
    (root / "dangling").symlink_to("nowhere")
    folder(root, {".s3sync/x": ""})
    requests = len(bucket.requests)
    with pytest.raises(ReleaseRefused) as caught:
        run(bucket, root, "v2")
    assert "dangling: error:" in str(caught.value)
    assert ".s3sync: error:" in str(caught.value)
    assert len(bucket.requests) == requests


def test_wrong_arguments_are_refused_before_anything_is_asked(bucket: MemoryBucket, root: Path) -> None:
    with pytest.raises(UnsafePath):
        run(bucket, root, "../v1")
    with pytest.raises(ConfigError):
        run(bucket, root / "missing")
    assert bucket.requests == []


def test_progress_reaches_the_end_of_every_stage(bucket: MemoryBucket, root: Path) -> None:
    seen: dict[Stage, tuple[int, int]] = {}

    def progress(stage: Stage, done: int, total: int) -> None:
        seen[stage] = (done, total)

    run(bucket, root, progress=progress, workers=4)
    assert list(seen) == ["hash", "pack", "upload"]
    assert all(done == total > 0 for done, total in seen.values())


# ------------------------------------------------------------------ the same version


def test_the_same_content_again_is_a_success_that_says_so(bucket: MemoryBucket, root: Path) -> None:
    first = run(bucket, root)
    sent = bucket.count("put")
    again = run(bucket, root, source=Source(commit="other"), created_at="2027-01-01T00:00:00.000Z")
    assert again.already_there
    assert (again.manifest_sha256, again.manifest_size) == (first.manifest_sha256, first.manifest_size)
    assert again.bytes_uploaded == 0
    assert bucket.count("put") == sent


def test_other_content_under_the_same_version_is_refused_and_changes_nothing(
    bucket: MemoryBucket, root: Path
) -> None:
    run(bucket, root)
    before = dict(bucket.objects)
    folder(root, {"index.html": "<p>other</p>"})
    with pytest.raises(ReleaseRefused, match=r"v1 exists with other content.*'index\.html'") as caught:
        run(bucket, root)
    assert "new version" in caught.value.hint
    assert bucket.objects == before


def test_a_version_whose_manifest_is_garbage_is_refused(bucket: MemoryBucket, root: Path) -> None:
    bucket.place(SITE.manifest("v1"), b"garbage")
    with pytest.raises(ReleaseRefused, match="v1 exists, and its manifest cannot be read"):
        run(bucket, root)
    assert bucket.count("put") == 0


def test_a_version_that_a_plain_pipeline_wrote_becomes_a_release_if_it_has_the_same_bytes(
    bucket: MemoryBucket, root: Path
) -> None:
    for path, text in PAGES.items():
        bucket.place(SITE.release("v1") + path, text.encode())
    run(bucket, root)
    assert [path.rpartition(".")[2] for path in puts(bucket)] == ["pack", "json"]


# ------------------------------------------------------------------ crash and resume

OBJECTS = len(PAGES) + 2  # with pack and manifest


@pytest.mark.parametrize("survived", range(OBJECTS))
def test_an_interrupted_publish_is_no_release_and_goes_on_where_it_was(
    bucket: MemoryBucket, root: Path, survived: int
) -> None:
    crash(bucket, survived)
    with pytest.raises(StoreUnavailable):
        run(bucket, root)
    assert not exists(bucket)
    assert len(bucket.objects) == survived

    bucket.before = None
    bucket.requests.clear()
    done = run(bucket, root)
    assert not done.already_there
    assert bucket.count("put") == OBJECTS - survived
    assert bucket.count("list") == 2
    assert bucket.count("head") == 0
    assert verify_release(bucket, SITE, "v1").faults == ()


def crash(bucket: MemoryBucket, survived: int) -> None:
    """Let `survived` objects through, then fail."""

    def before(operation: str, key: str) -> None:
        if operation == "put" and len(bucket.objects) >= survived:
            raise StoreUnavailable("the runner was killed")

    bucket.before = before


@pytest.mark.parametrize("lost", range(OBJECTS))
@pytest.mark.parametrize(
    "error", [PreconditionFailed("412"), StoreUnavailable("time-out")], ids=["412", "lost"]
)
def test_our_own_success_whose_answer_was_lost_is_a_success(
    bucket: MemoryBucket, root: Path, lost: int, error: S3SyncError
) -> None:
    def before(operation: str, key: str) -> None:
        if operation == "put" and len(bucket.objects) == lost:
            bucket.lose_answer("put", error)
            bucket.before = None

    bucket.before = before
    if isinstance(error, StoreUnavailable) and lost < OBJECTS - 1:
        with pytest.raises(StoreUnavailable):  # the next run finds the object there
            run(bucket, root)
    done = run(bucket, root)
    assert not done.already_there
    assert bucket.count("put") == OBJECTS
    assert verify_release(bucket, SITE, "v1").faults == ()


@pytest.mark.parametrize("path", ["index.html", ".pack"])
@pytest.mark.parametrize("damage", ["other bytes", "cut off"])
def test_a_damaged_object_of_an_interrupted_publish_is_found(
    bucket: MemoryBucket, root: Path, path: str, damage: str
) -> None:
    crash(bucket, OBJECTS - 1)
    with pytest.raises(StoreUnavailable):
        run(bucket, root)
    bucket.before = None
    key = next(key for key in bucket.objects if key.endswith(path) and "about" not in key)
    body = bucket.objects[key].body
    bucket.place(key, body[:-1] if damage == "cut off" else bytes(byte ^ 1 for byte in body))
    with pytest.raises(ReleaseRefused, match="exists with other content"):
        run(bucket, root)
    assert not exists(bucket)


@pytest.mark.parametrize("checksum_stored", [True, False])
@pytest.mark.parametrize("damaged", [True, False])
def test_an_etag_that_is_no_md5_is_not_taken_for_a_difference(
    bucket: MemoryBucket, root: Path, *, checksum_stored: bool, damaged: bool
) -> None:
    body = PAGES["index.html"].encode()
    stored = bucket.place(SITE.release("v1") + "index.html", body[::-1] if damaged else body, etag="kms-1")
    if checksum_stored:
        sha256 = hashlib.sha256(stored.body).hexdigest()
        bucket.objects[SITE.release("v1") + "index.html"] = replace(stored, sha256=sha256)
    if damaged:
        with pytest.raises(ReleaseRefused, match=r"index\.html.*other content"):
            run(bucket, root)
    else:
        run(bucket, root)
        assert exists(bucket)
    assert bucket.count("open") == (0 if checksum_stored else 1)


def test_an_object_that_changes_while_the_others_go_up_is_found(bucket: MemoryBucket, root: Path) -> None:
    def before(operation: str, key: str) -> None:
        if operation == "put" and key.endswith(".pack"):
            bucket.place(SITE.release("v1") + "index.html", b"<p>" + b"x" * 217)

    bucket.before = before
    with pytest.raises(ReleaseRefused, match=r"index\.html.*other content"):
        run(bucket, root)
    assert not exists(bucket)


def test_an_object_that_is_deleted_while_the_others_go_up_is_found(bucket: MemoryBucket, root: Path) -> None:
    def before(operation: str, key: str) -> None:
        if operation == "put" and key.endswith(".pack"):
            bucket.objects.pop(SITE.release("v1") + "index.html")

    bucket.before = before
    with pytest.raises(ObjectMissing, match=r"index\.html.*deleted while"):
        run(bucket, root)
    assert not exists(bucket)


@pytest.mark.parametrize("at", ["put", "list"])
def test_a_file_that_changes_while_it_goes_up_is_refused(bucket: MemoryBucket, root: Path, at: str) -> None:
    if at == "list":  # it is there already, as it will be after the change
        bucket.place(SITE.release("v1") + "logo.svg", b"<SVG/>")

    def before(operation: str, key: str) -> None:
        if operation == "list":
            folder(root, {"logo.svg": "<SVG/>"})

    bucket.before = before
    with pytest.raises(ReleaseRefused, match=r"logo\.svg.*changed while it was being published"):
        run(bucket, root)
    assert not exists(bucket)


# ----------------------------------------------------------------------------- racing


def variants() -> Iterator[tuple[str, dict[str, str]]]:
    yield "changed", {**PAGES, "index.html": "<p>other</p>"}
    yield "changed last", {**PAGES, "logo.svg": "<svg>2</svg>"}
    yield "added", {**PAGES, "new.html": "new"}
    yield "removed", {path: text for path, text in PAGES.items() if path != "logo.svg"}
    yield "all other", {path: text + "2" for path, text in PAGES.items()}


@pytest.mark.parametrize("with_files", [True, False])
@pytest.mark.parametrize(("name", "pages"), list(variants()), ids=[name for name, _ in variants()])
@pytest.mark.parametrize("after", range(OBJECTS))
def test_two_builds_racing_for_one_version_never_mix(
    bucket: MemoryBucket,
    root: Path,
    tmp_path: Path,
    *,
    after: int,
    name: str,
    pages: dict[str, str],
    with_files: bool,
) -> None:
    other = folder(tmp_path / "other", pages)
    outcomes: dict[str, Published | ReleaseRefused] = {}

    def attempt(who: str, root: Path) -> None:
        try:
            outcomes[who] = run(bucket, root, with_files=with_files)
        except ReleaseRefused as error:
            outcomes[who] = error

    def before(operation: str, key: str) -> None:
        if operation == "put" and len(bucket.objects) >= min(after, 1 if not with_files else OBJECTS):
            bucket.before = None
            attempt("second", other)

    bucket.before = before
    attempt("first", root)
    assert set(outcomes) == {"first", "second"}
    winners = [who for who, outcome in outcomes.items() if isinstance(outcome, Published)]
    assert len(winners) <= 1
    assert exists(bucket) == bool(winners)
    if winners:
        wanted = PAGES if winners == ["first"] else pages
        manifest = load_manifest(bucket, SITE, "v1").manifest
        assert {entry.path for entry in manifest.files} == set(wanted)
        assert verify_release(bucket, SITE, "v1").faults == ()
        # What the loser still puts down after the winner's last look is in no manifest.
        missing = {SITE.release("v1") + path for path in wanted} - bucket.objects.keys()
        assert len(missing) == (0 if with_files else len(wanted))


@pytest.mark.parametrize("after", range(OBJECTS))
def test_two_runs_of_the_same_build_both_succeed(bucket: MemoryBucket, root: Path, after: int) -> None:
    outcomes: list[Published] = []

    def before(operation: str, key: str) -> None:
        if operation == "put" and len(bucket.objects) >= after:
            bucket.before = None
            outcomes.append(run(bucket, root, created_at="2026-11-22T18:15:07.000Z"))

    bucket.before = before
    outcomes.append(run(bucket, root))
    assert sorted(outcome.already_there for outcome in outcomes) == [False, True]
    assert len({outcome.manifest_sha256 for outcome in outcomes}) == 1
    assert verify_release(bucket, SITE, "v1").faults == ()


def test_files_of_another_build_beside_ours_are_refused(bucket: MemoryBucket, root: Path) -> None:
    bucket.place(SITE.release("v1") + "stranger.html", b"x")
    bucket.place(SITE.release("v1") + "folder/", b"")
    with pytest.raises(ReleaseRefused, match=r"1 objects .*not of this build: 'stranger\.html'"):
        run(bucket, root)
    assert bucket.count("put") == 0


def test_files_of_another_build_that_arrive_while_ours_go_up_are_refused(
    bucket: MemoryBucket, root: Path
) -> None:
    def before(operation: str, key: str) -> None:
        if operation == "put" and key.endswith(".pack"):
            bucket.place(SITE.release("v1") + "stranger.html", b"x")

    bucket.before = before
    with pytest.raises(ReleaseRefused, match=r"not of this build: 'stranger\.html'"):
        run(bucket, root)
    assert not exists(bucket)


def test_a_writer_that_holds_the_key_without_showing_it_is_somebody_else(
    bucket: MemoryBucket, root: Path
) -> None:
    bucket.fail_next("put", PreconditionFailed("409"))
    with pytest.raises(StoreUnavailable, match="being written by somebody else"):
        run(bucket, root)


# ------------------------------------------------------------------- what is live now


def test_an_immutable_file_whose_bytes_changed_is_refused_with_the_way_out(
    bucket: MemoryBucket, root: Path
) -> None:
    make_live(bucket, run(bucket, root))
    folder(root, {"assets/app-4f9a1c3e.js": "other()"})
    with pytest.raises(ReleaseRefused, match=r"assets/app-4f9a1c3e\.js") as caught:
        run(bucket, root, "v2")
    assert "--mutable 'assets/app-4f9a1c3e.js'" in caught.value.hint
    assert not exists(bucket, "v2")
    run(bucket, root, "v2", mutable=["assets/app-*.js"])
    assert exists(bucket, "v2")


def test_a_copy_that_was_compressed_anew_may_differ_from_what_is_live(
    bucket: MemoryBucket, root: Path
) -> None:
    copy = root / "assets/app-4f9a1c3e.js.gz"
    content = (root / "assets/app-4f9a1c3e.js").read_bytes()
    copy.write_bytes(gzip.compress(content, mtime=1))
    make_live(bucket, run(bucket, root))
    copy.write_bytes(gzip.compress(content, mtime=2))
    run(bucket, root, "v2")
    entries = load_manifest(bucket, SITE, "v2").manifest.files
    assert {entry.path for entry in entries if entry.immutable} == {
        "assets/app-4f9a1c3e.js", "assets/app-4f9a1c3e.js.gz",
    }  # fmt: skip


def test_a_compressed_file_without_its_original_is_refused_like_any_other(
    bucket: MemoryBucket, root: Path
) -> None:
    copy = root / "assets/data-4f9a1c3e.csv.gz"
    copy.write_bytes(gzip.compress(b"1", mtime=1))
    make_live(bucket, run(bucket, root))
    copy.write_bytes(gzip.compress(b"1", mtime=2))
    with pytest.raises(ReleaseRefused, match=r"data-4f9a1c3e\.csv\.gz"):
        run(bucket, root, "v2")


def test_the_baseline_counts_like_what_is_live(bucket: MemoryBucket, root: Path) -> None:
    first = run(bucket, root)
    (root / "assets/app-4f9a1c3e.js").unlink()
    make_live(bucket, first, run(bucket, root, "v2"))
    folder(root, {"assets/app-4f9a1c3e.js": "other()"})
    with pytest.raises(ReleaseRefused, match=r"assets/app-4f9a1c3e\.js"):
        run(bucket, root, "v3")


def test_a_glob_makes_files_immutable(bucket: MemoryBucket, root: Path) -> None:
    make_live(bucket, run(bucket, root))
    folder(root, {"logo.svg": "<svg>2</svg>"})
    with pytest.raises(ReleaseRefused, match=r"logo\.svg"):
        run(bucket, root, "v2", immutable=["*.svg"])
    run(bucket, root, "v2")


def test_the_pack_begins_with_what_the_live_release_does_not_hold(bucket: MemoryBucket, root: Path) -> None:
    make_live(bucket, run(bucket, root))
    folder(root, {"index.html": "<p>second</p>" * 20, "zebra.html": "<p>new</p>" * 20})
    run(bucket, root, "v2")
    files = load_manifest(bucket, SITE, "v2").manifest.files
    by_offset = sorted((entry for entry in files if entry.length), key=lambda entry: entry.offset)
    assert [entry.path for entry in by_offset] == [
        "index.html", "zebra.html", "about/index.html", "assets/app-4f9a1c3e.js", "logo.svg",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["pointer", "manifest", "missing"])
def test_what_is_live_being_damaged_is_a_warning_and_does_not_stop_a_good_release(
    bucket: MemoryBucket, root: Path, fault: str
) -> None:
    make_live(bucket, run(bucket, root))
    if fault == "pointer":
        bucket.place(SITE.pointer, b"garbage" * 20_000)
    elif fault == "manifest":
        bucket.corrupt(SITE.manifest("v1"))
    else:
        bucket.delete([SITE.manifest("v1")])
    done = run(bucket, root, "v2")
    assert len(done.warnings) == 1
    assert "was not compared" in done.warnings[0]
    assert verify_release(bucket, SITE, "v2").faults == ()


@pytest.mark.parametrize("operation", ["get", "list", "put"])
@pytest.mark.parametrize("error", [StoreDenied("no"), StoreUnavailable("down")], ids=["denied", "down"])
def test_a_store_that_does_not_answer_is_never_taken_for_an_empty_one(
    bucket: MemoryBucket, root: Path, operation: str, error: S3SyncError
) -> None:
    make_live(bucket, run(bucket, root))
    expected = {"get": 3, "list": 2, "put": OBJECTS}[operation]  # manifest of v2, pointer, manifest of v1; …
    for number in range(expected):
        left = iter(range(number))

        def before(made: str, key: str, left: Iterator[int] = left) -> None:
            if made == operation and next(left, None) is None:
                raise error

        bucket.before = before
        with pytest.raises(type(error)):
            run(bucket, root, f"{operation}{number}")
        assert not exists(bucket, f"{operation}{number}")
