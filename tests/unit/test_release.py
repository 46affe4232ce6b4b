from __future__ import annotations

from typing import Any

import msgspec
import pytest

from s3sync_agent.errors import DigestMismatch, ManifestInvalid, ReleaseError, UnsafePath
from s3sync_agent.release import digest, encode_manifest, parse_manifest
from tests.property.strategies import release_of

FILES = {"a.css": b"a" * 100, "b.css": b"b" * 100, "index.html": b"<h1>"}


def document() -> Any:  # noqa: ANN401 - a JSON document, to be spoiled
    return msgspec.to_builtins(release_of(FILES)[0])


def refused(spoiled: object, kind: type[ReleaseError]) -> str:
    with pytest.raises(kind) as error:
        parse_manifest(msgspec.json.encode(spoiled))
    return str(error.value)


def test_unknown_fields_are_for_later_versions_and_ignored() -> None:
    later = document() | {"colour": "blue"}
    later["files"][0]["colour"] = "red"
    assert parse_manifest(msgspec.json.encode(later)) == release_of(FILES)[0]


def test_an_unknown_schema_is_refused_with_the_way_out() -> None:
    with pytest.raises(ManifestInvalid, match="schema 2") as error:
        parse_manifest(msgspec.json.encode(document() | {"schema": 2}))
    assert "upgrade" in error.value.hint


def test_another_document_is_refused() -> None:
    assert "type" in refused(document() | {"type": "s3sync-pointer"}, ManifestInvalid)


def test_other_bytes_than_the_pointer_names_are_refused() -> None:
    raw = encode_manifest(release_of(FILES)[0])
    with pytest.raises(DigestMismatch, match="the pointer says"):
        parse_manifest(raw + b" ", sha256=digest(raw))


def test_a_manifest_of_another_version_is_refused() -> None:
    raw = encode_manifest(release_of(FILES)[0])
    with pytest.raises(ManifestInvalid, match="not v2"):
        parse_manifest(raw, version="v2")


def test_a_version_that_is_no_directory_name_is_refused() -> None:
    refused(document() | {"version": "../v1"}, UnsafePath)


def test_an_empty_release_is_refused() -> None:
    assert "no files" in refused(document() | {"files": []}, ManifestInvalid)


@pytest.mark.parametrize("path", ["../../etc/x", "/etc/x", ".s3sync/x", "a\\b", "n" * 300])
def test_a_hostile_path_is_refused_and_named(path: str) -> None:
    spoiled = document()
    spoiled["files"][0]["path"] = path
    assert "v1" in refused(spoiled, UnsafePath)


def test_a_file_that_is_also_a_directory_is_refused() -> None:
    spoiled = document()
    spoiled["files"][1]["path"] = "a.css/b"
    assert "both a file and a directory" in refused(spoiled, UnsafePath)


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 0, 1]])
def test_files_are_sorted_and_none_is_doubled(order: list[int]) -> None:
    spoiled = document()
    spoiled["files"] = [spoiled["files"][number] for number in order]
    assert "sorted" in refused(spoiled, ManifestInvalid)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sha256", "A" * 64, "hexadecimal"),
        ("sha256", "0" * 63, "hexadecimal"),
        ("size", -1, "negative"),
        ("offset", -1, "negative"),
        ("length", 10**9, "outside the pack"),
        ("offset", 2**70, "outside the pack"),
        ("encoding", "gzip", "gzip"),
        ("size", "100", "int"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused(field: str, value: object, reason: str) -> None:
    spoiled = document()
    spoiled["files"][0][field] = value
    raw = msgspec.json.encode(spoiled) if value != 2**70 else _with_a_huge_offset(spoiled)
    with pytest.raises(ManifestInvalid, match=reason):
        parse_manifest(raw)


def _with_a_huge_offset(spoiled: Any) -> bytes:  # noqa: ANN401 - as above
    spoiled["files"][0]["offset"] = 123456789
    return msgspec.json.encode(spoiled).replace(b"123456789", str(2**70).encode())


def test_an_identity_frame_is_as_long_as_its_file() -> None:
    spoiled = document()
    spoiled["files"][2]["size"] = 3
    assert "identity" in refused(spoiled, ManifestInvalid)


def test_equal_files_share_a_frame_and_different_files_must_not() -> None:
    shared = msgspec.to_builtins(release_of(FILES | {"copy.css": FILES["a.css"]})[0])
    by_path = {entry["path"]: entry for entry in shared["files"]}
    assert by_path["copy.css"]["offset"] == by_path["a.css"]["offset"]
    parse_manifest(msgspec.json.encode(shared))
    by_path["copy.css"]["sha256"] = "0" * 64
    assert "overlaps" in refused(shared, ManifestInvalid)


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'"\xff"', b"[" * 100_000, b'{"type":' * 10_000])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(raw)
