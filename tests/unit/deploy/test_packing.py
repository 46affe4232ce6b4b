from __future__ import annotations

import errno
import hashlib
import io
import random
import tracemalloc
from pathlib import Path

import pytest

from s3sync_agent.deploy.local import LocalFile, chunks, hash_files
from s3sync_agent.deploy.packing import AHEAD, build_pack
from s3sync_agent.deploy.progress import Stage, silent
from s3sync_agent.errors import DiskFull, ReleaseRefused
from s3sync_agent.pack import CHUNK, FrameReader
from s3sync_agent.release import FileEntry, Pack


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def hashed(root: Path, *paths: str) -> list[LocalFile]:
    return hash_files(root, paths, workers=2, progress=silent)


def build(
    root: Path, files: list[LocalFile], out: io.BytesIO, former: tuple[FileEntry, ...] = ()
) -> tuple[Pack, dict[str, FileEntry]]:
    pack, entries = build_pack(
        root,
        files,
        out,
        former=former,
        is_immutable=lambda path: path.startswith("assets/"),
        workers=2,
        progress=silent,
    )
    return pack, {entry.path: entry for entry in entries}


def unpack(out: io.BytesIO, entry: FileEntry) -> bytes:
    plain = io.BytesIO()
    reader = FrameReader(entry, plain.write)
    reader.feed(out.getvalue()[entry.offset : entry.offset + entry.length])
    reader.finish()
    return plain.getvalue()


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_every_file_comes_back_out_of_the_pack(tmp_path: Path) -> None:
    contents = {
        "empty": b"",
        "small.txt": b"x",
        "page.html": b"<p>text</p>" * 500,
        "noise.bin": noise(5000),
        "large.html": b"<p>text</p>" * 100_000,
        "large-noise.bin": noise(CHUNK + 1),
        "photo.jpg": b"\0" * 5000,
    }
    write(tmp_path, contents)
    out = io.BytesIO()
    pack, entries = build(tmp_path, hashed(tmp_path, *contents), out)
    assert {path: unpack(out, entry) for path, entry in entries.items()} == contents
    assert pack == Pack(len(out.getvalue()), hashlib.sha256(out.getvalue()).hexdigest())
    assert {path: entry.encoding for path, entry in entries.items()} == {
        "empty": "identity",
        "small.txt": "identity",
        "page.html": "zstd",
        "noise.bin": "identity",
        "large.html": "zstd",
        "large-noise.bin": "identity",
        "photo.jpg": "identity",
    }


def test_a_large_file_that_does_not_shrink_leaves_nothing_of_the_attempt(tmp_path: Path) -> None:
    write(tmp_path, {"page.html": noise(3 * CHUNK)})
    out = io.BytesIO()
    pack, _ = build(tmp_path, hashed(tmp_path, "page.html"), out)
    assert out.getvalue() == noise(3 * CHUNK)
    assert pack.size == 3 * CHUNK


def test_equal_content_is_packed_once(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": noise(900), "b.txt": noise(900), "c.txt": b"", "d.txt": b""})
    out = io.BytesIO()
    pack, entries = build(tmp_path, hashed(tmp_path, "a.txt", "b.txt", "c.txt", "d.txt"), out)
    assert pack.size == 900
    assert entries["a.txt"].offset == entries["b.txt"].offset


def test_what_is_new_comes_first_and_what_was_there_keeps_its_order(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}.txt": noise(100, ord(name)) for name in "abcdef"})
    old = io.BytesIO()
    _, first = build(tmp_path, hashed(tmp_path, "b.txt", "d.txt", "f.txt"), old)
    write(tmp_path, {"b.txt": noise(100, 99)})
    out = io.BytesIO()
    files = hashed(tmp_path, *(f"{name}.txt" for name in "abcdef"))
    _, entries = build(tmp_path, files, out, tuple(first.values()))
    assert sorted(entries, key=lambda path: entries[path].offset) == [
        "a.txt", "b.txt", "c.txt", "e.txt", "d.txt", "f.txt",
    ]  # fmt: skip


def test_the_same_files_make_the_same_pack(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}.html": b"<p>%d</p>" % number * 100 for number in range(3 * AHEAD)})
    files = hashed(tmp_path, *(f"{number}.html" for number in range(3 * AHEAD)))
    one, two = io.BytesIO(), io.BytesIO()
    assert build(tmp_path, files, one) == build(tmp_path, list(reversed(files)), two)
    assert one.getvalue() == two.getvalue()


def test_the_entries_say_which_files_are_immutable(tmp_path: Path) -> None:
    write(tmp_path, {"assets/a.js": b"1", "index.html": b"2"})
    _, entries = build(tmp_path, hashed(tmp_path, "assets/a.js", "index.html"), io.BytesIO())
    assert [entry.immutable for entry in entries.values()] == [True, False]


@pytest.mark.parametrize("size", [10, 5000, CHUNK * 3], ids=["tiny", "small", "large"])
@pytest.mark.parametrize("kind", ["other bytes", "longer", "shorter", "gone"])
@pytest.mark.parametrize("suffix", ["html", "png"])
def test_a_file_that_changes_after_it_was_hashed_is_refused(
    tmp_path: Path, size: int, kind: str, suffix: str
) -> None:
    path = f"page.{suffix}"
    write(tmp_path, {path: b"a" * size})
    files = hashed(tmp_path, path)
    after = {"other bytes": b"b" * size, "longer": b"a" * (size + 1), "shorter": b"a" * (size - 1)}
    if kind == "gone":
        (tmp_path / path).unlink()
    else:
        write(tmp_path, {path: after[kind]})
    with pytest.raises(ReleaseRefused, match=rf"page\.{suffix}.*(changed while|cannot be read)"):
        build(tmp_path, files, io.BytesIO())


def test_a_file_that_is_gone_before_it_is_hashed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match=r"gone\.html.*cannot be read: No such file"):
        hashed(tmp_path, "gone.html")


def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"page.html": b"half"})

    def the_build_goes_on(*_: object) -> None:
        write(tmp_path, {"page.html": b"half and the rest"})

    with pytest.raises(ReleaseRefused, match=r"page\.html.*changed while"):
        hash_files(tmp_path, ["page.html"], workers=1, progress=the_build_goes_on)


def test_a_file_that_grows_is_not_read_further_than_it_was_hashed(tmp_path: Path) -> None:
    write(tmp_path, {"log.txt": b"a" * CHUNK})
    (file,) = hashed(tmp_path, "log.txt")
    write(tmp_path, {"log.txt": b"a" * CHUNK * 10})
    read: list[bytes] = []
    with pytest.raises(ReleaseRefused, match="changed while"):
        read.extend(chunks(tmp_path, file))
    assert sum(map(len, read)) <= CHUNK


class FullDisk(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_temporary_folder_is_named_as_such(tmp_path: Path) -> None:
    write(tmp_path, {"index.html": b"x" * 100})
    with pytest.raises(DiskFull) as caught:
        build(tmp_path, hashed(tmp_path, "index.html"), FullDisk())
    assert "TMPDIR" in caught.value.hint


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    with (tmp_path / "video.html").open("wb") as file:
        for _ in range(64):
            file.write(b"x" * 1024 * 1024)
    with (tmp_path / "pack").open("wb") as out:
        tracemalloc.start()
        try:
            build_pack(
                tmp_path,
                hashed(tmp_path, "video.html"),
                out,
                former=(),
                is_immutable=lambda _: False,
                workers=2,
                progress=silent,
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


def test_progress_counts_bytes_up_to_all_of_them(tmp_path: Path) -> None:
    write(tmp_path, {"a.html": b"x" * 1000, "b.html": b"y" * (CHUNK + 1)})
    seen: list[tuple[Stage, int, int]] = []
    files = hash_files(tmp_path, ["a.html", "b.html"], workers=2, progress=lambda *step: seen.append(step))
    build_pack(
        tmp_path,
        files,
        io.BytesIO(),
        former=(),
        is_immutable=lambda _: False,
        workers=2,
        progress=lambda *step: seen.append(step),
    )
    total = 1000 + CHUNK + 1
    for stage in ("hash", "pack"):
        done = [step[1] for step in seen if step[0] == stage]
        assert done[0] == 0
        assert done == sorted(done)
        assert done[-1] == total
    assert {step[2] for step in seen} == {total}
