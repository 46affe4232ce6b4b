from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from s3sync_agent.deploy import walk
from s3sync_agent.deploy.check import check_site
from s3sync_agent.deploy.findings import Finding, Report
from s3sync_agent.errors import ConfigError


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    write(root, "index.html")
    return root


def write(root: Path, path: str, text: str = "x") -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def codes(report: Report) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.file, finding.code) for finding in report.findings]


def test_a_sound_site_has_no_findings_and_its_files_are_sorted(site: Path) -> None:
    for path in ("b/z.txt", "b.txt", "a/deep/er.txt", ".well-known/security.txt", ".hidden"):
        write(site, path)
    report = check_site(site)
    assert report.findings == ()
    assert report.files == (
        ".hidden", ".well-known/security.txt", "a/deep/er.txt", "b.txt", "b/z.txt", "index.html",
    )  # fmt: skip


def test_a_folder_without_a_page_at_the_top_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "about/index.html")
    assert codes(check_site(tmp_path)) == [("error", "index.html", "no-index")]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "folders").mkdir(parents=True)
    assert codes(check_site(tmp_path)) == [("error", ".", "empty")]


@pytest.mark.parametrize("wrong", ["missing", "site/index.html"])
def test_what_is_no_folder_is_a_wrong_argument(site: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        check_site(site.parent / wrong)


def test_the_reserved_name_is_refused_at_the_top_alone(site: Path) -> None:
    write(site, ".s3sync/manifest.json")
    write(site, "docs/.s3sync/example.json")
    report = check_site(site)
    assert codes(report) == [("error", ".s3sync", "reserved")]
    assert report.files == ("docs/.s3sync/example.json", "index.html")


@pytest.mark.parametrize("name", [b"back\\slash", b"new\nline", b"latin-\xe9", b"\xff\xfe", b"esc\x1b[2J"])
def test_an_unsafe_name_is_refused_and_shown_harmlessly(site: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(site) + b"/" + name)).write_text("x")
    report = check_site(site)
    assert [finding.code for finding in report.findings] == ["unsafe-name"]
    assert str(report.findings[0]).isprintable()
    assert str(report.findings[0]).encode()
    assert report.files == ("index.html",)


def test_a_tree_deeper_than_a_release_may_be_is_refused_without_walking_it(site: Path) -> None:
    site.joinpath(*["d"] * 400).mkdir(parents=True)
    report = check_site(site)
    assert [finding.code for finding in report.findings] == ["unsafe-name"]
    assert "levels deep" in report.findings[0].message


def test_a_link_inside_the_folder_is_published_as_a_copy_and_said_so(site: Path) -> None:
    write(site, "v2/index.html")
    (site / "latest").symlink_to("v2")
    (site / "home.html").symlink_to(site / "index.html")
    report = check_site(site)
    assert codes(report) == [
        ("warning", "home.html", "link-followed"),
        ("warning", "latest", "link-followed"),
    ]
    assert "copy of the folder 'v2'" in report.findings[1].message
    assert report.files == ("home.html", "index.html", "latest/index.html", "v2/index.html")


@pytest.mark.parametrize("target", ["../secret.txt", "/etc/passwd", "..", "sub/../../secret.txt"])
def test_a_link_that_leaves_the_folder_is_refused(site: Path, target: str) -> None:
    write(site.parent, "secret.txt")
    (site / "sub").mkdir()
    (site / "way-out").symlink_to(target)
    report = check_site(site)
    assert codes(report) == [("error", "way-out", "link-outside")]
    assert report.files == ("index.html",)


def test_a_link_to_a_neighbour_whose_name_begins_alike_leaves_the_folder(site: Path) -> None:
    write(site.parent, "site-secrets/key.txt")
    (site / "key.txt").symlink_to("../site-secrets/key.txt")
    assert codes(check_site(site)) == [("error", "key.txt", "link-outside")]


def test_dangling_links_and_loops_are_refused(site: Path) -> None:
    (site / "nowhere").symlink_to("missing")
    (site / "through-a-file").symlink_to("index.html/x")
    (site / "ring").symlink_to("ring")
    write(site, "a/b/page.html")
    (site / "a/b/up").symlink_to("..")
    (site / "top").symlink_to(".")
    report = check_site(site)
    assert codes(report) == [
        ("error", "a/b/up", "link-loop"),
        ("error", "nowhere", "dangling-link"),
        ("error", "ring", "link-loop"),
        ("error", "through-a-file", "dangling-link"),
        ("error", "top", "link-loop"),
    ]
    assert report.files == ("a/b/page.html", "index.html")


def test_links_that_multiply_a_small_folder_are_stopped(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level in range(30):  # 2^30 ways to the end
        (site / f"l{level}").mkdir()
        (site / f"l{level}" / "a").symlink_to(f"../l{level + 1}")
        (site / f"l{level}" / "b").symlink_to(f"../l{level + 1}")
    (site / "l30").mkdir()
    monkeypatch.setattr(walk, "MAX_ENTRIES", 2000)
    report = check_site(site)
    assert [finding.code for finding in report.errors] == ["too-many"]


def test_a_folder_reached_through_a_link_of_the_site_itself_is_inside(site: Path) -> None:
    alias = site.parent / "alias"
    alias.symlink_to(site)
    (site / "home.html").symlink_to(site / "index.html")
    assert check_site(alias) == check_site(site)
    assert check_site(alias).errors == ()


def test_special_files_are_refused_without_opening_them(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(site / "pipe")
    monkeypatch.chdir(site)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        report = check_site(site)
    assert codes(report) == [("error", "pipe", "special-file"), ("error", "socket", "special-file")]


def test_a_link_to_a_device_leaves_the_folder(site: Path) -> None:
    (site / "zero").symlink_to("/dev/zero")
    assert codes(check_site(site)) == [("error", "zero", "link-outside")]


def test_what_cannot_be_read_is_refused(site: Path) -> None:
    private = write(site, "private.txt")
    private.chmod(0)
    if os.access(private, os.R_OK):
        pytest.skip("this user may read everything")
    write(site, "closed/page.html")
    write(site, "listed/page.html")
    (site / "closed").chmod(0)
    (site / "listed").chmod(0o400)
    try:
        report = check_site(site)
    finally:
        (site / "closed").chmod(0o700)
        (site / "listed").chmod(0o700)
    assert codes(report) == [
        ("error", "closed", "unreadable"),
        ("error", "listed/page.html", "unreadable"),
        ("error", "private.txt", "unreadable"),
    ]


def test_a_git_work_tree_is_the_wrong_folder(site: Path) -> None:
    write(site, ".git/config")
    write(site, "theme/.git", "gitdir: elsewhere")
    report = check_site(site)
    assert codes(report) == [("error", ".git", "git-folder"), ("error", "theme/.git", "git-folder")]
    assert report.files == ("index.html",)


def test_what_a_desktop_leaves_behind_is_left_out(site: Path) -> None:
    write(site, ".DS_Store")
    write(site, "img/Thumbs.db")
    report = check_site(site)
    assert codes(report) == [("warning", ".DS_Store", "left-out"), ("warning", "img/Thumbs.db", "left-out")]
    assert report.files == ("index.html",)


def test_names_that_differ_by_case_or_unicode_form_are_pointed_out(site: Path) -> None:
    for path in ("Logo.png", "logo.png", "caf\u00e9.html", "cafe\u0301.html", "Docs", "docs/index.html"):
        write(site, path)
    report = check_site(site)
    if len(report.files) != 7:
        pytest.skip("this file system folds names")
    assert codes(report) == [
        ("warning", "Docs", "case-collision"),
        ("warning", "Logo.png", "case-collision"),
        ("warning", "cafe\u0301.html", "unicode-collision"),
    ]
    assert "'logo.png'" in report.findings[1].message


def test_folders_that_differ_by_case_merge_without_loss(site: Path) -> None:
    write(site, "Img/a.png")
    write(site, "img/b.png")
    assert check_site(site).findings == ()


def test_findings_are_in_the_same_order_every_time(site: Path) -> None:
    for number in range(20):
        (site / f"link{number}").symlink_to("missing")
    write(site, "a.html", "<a href=gone>\n<a href=lost>")
    found = check_site(site).findings
    assert [finding.file for finding in found] == sorted(finding.file for finding in found)
    assert [finding.line for finding in found[:2]] == [1, 2]


def test_a_finding_reads_like_a_compiler_message() -> None:
    finding = Finding("warning", "a/page.html", 7, "broken-link", "link to 'x' leads nowhere")
    assert str(finding) == "a/page.html:7: warning: link to 'x' leads nowhere [broken-link]"
