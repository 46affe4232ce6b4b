from __future__ import annotations

import time
from pathlib import Path

import pytest

from s3sync_agent.deploy import links
from s3sync_agent.deploy.links import check_links, resolve
from s3sync_agent.deploy.references import in_css, in_html, in_srcset

SITE = (
    "404.html",
    "a b.png",
    "about/index.html",
    "assets/app.css",
    "assets/img/Logo.png",
    "blog/2026/post.html",
    "caf\u00e9.html",
    "empty/data.json",
    "index.html",
)


def faults(root: Path, page: str, text: str) -> list[tuple[int | None, str]]:
    """(line, message) of everything found in `page` of a site that has the files of SITE."""
    (root / page).parent.mkdir(parents=True, exist_ok=True)
    (root / page).write_text(text)
    for path in SITE:
        if path != page and path.endswith((".html", ".css")):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("")
    return [
        (finding.line, finding.message)
        for finding in check_links(root, sorted({*SITE, page}))
        if finding.file == page
    ]


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/about/",
        "/about",
        "about",
        "./about/index.html",
        "/about/?q=1#top",
        "index.html#part",
        "assets/../index.html",
        "../../index.html",
        "a%20b.png",
        "a b.png",
        " about/ ",
        "caf%C3%A9.html",
        "caf\u00e9.html",
        "%61bout/",
        "#top",
        "?page=2",
        "",
        "https://example.org/x",
        "HTTP://example.org/x",
        "//example.org/x",
        "mailto:a@example.org",
        "tel:+49",
        "javascript:void(0)",
        "data:text/html,x",
        "blob:x",
    ],
)
def test_a_link_that_nginx_answers_or_that_leads_elsewhere_is_fine(tmp_path: Path, url: str) -> None:
    assert faults(tmp_path, "index.html", f'<a href="{url}">x</a>') == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("gone.html", "there is no such file"),
        ("/about/gone", "there is no such file"),
        ("index.html/", "there is no such file"),
        ("/index.html/more", "there is no such file"),
        ("empty/", "the folder has no index.html"),
        ("empty", "the folder has no index.html"),
        ("assets/img/logo.png", "'assets/img/Logo.png' is spelt differently"),
        ("cafe\u0301.html", "'caf\u00e9.html' is spelt differently"),
        ("a+b.png", "there is no such file"),
        ("a%2520b.png", "there is no such file"),
        ("gone.html?x#y", "there is no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_found_with_the_reason(tmp_path: Path, url: str, why: str) -> None:
    assert faults(tmp_path, "index.html", f'\n\n<a\n href="{url}">x</a>') == [
        (3, f"link to {url!r} leads nowhere: {why}")
    ]


@pytest.mark.parametrize(
    "markup",
    [
        '<a href="gone">',
        '<link rel=stylesheet href="gone">',
        '<img src="gone">',
        "<script src='gone'></script>",
        "<IMG SRC=gone>",
        '<video poster="gone"></video>',
        '<source srcset="gone 2x">',
        '<img srcset="/about/ 1x, gone 2x">',
        '<link rel=preload imagesrcset="gone 2x">',
        '<object data="gone"></object>',
        '<svg><use xlink:href="gone#icon"/></svg>',
        '<meta http-equiv="Refresh" content="0; url=gone">',
        "<meta http-equiv=refresh content=\"0;URL='gone'\">",
        "<p style=\"background: url('gone')\">",
        "<style>p { background: url(gone) }</style>",
        "<style>@import 'gone';</style>",
    ],
)
def test_every_way_a_page_refers_to_a_file_is_read(tmp_path: Path, markup: str) -> None:
    assert [line for line, _ in faults(tmp_path, "index.html", f"<p>\n{markup}\n")] == [2]


@pytest.mark.parametrize(
    "markup",
    [
        "<!-- <a href=gone> -->",
        "<script>x = '<a href=gone>'</script>",
        "<p data=gone href>text url(gone)",
        "<meta name=description content='url=gone'>",
        '<a href="gone',
        "<style>/* url(gone) */ p::after { content: 'url(gone)' }</style>",
    ],
)
def test_what_only_looks_like_a_link_is_none(tmp_path: Path, markup: str) -> None:
    assert faults(tmp_path, "index.html", markup) == []


def test_links_are_relative_to_the_page_or_sheet_they_are_in(tmp_path: Path) -> None:
    assert faults(tmp_path, "blog/2026/post.html", "<a href=post.html><a href=../../about/>") == []
    assert len(faults(tmp_path, "blog/2026/post.html", "<a href=about/>")) == 1
    assert faults(tmp_path, "assets/app.css", "p { background: url(img/Logo.png) }") == []
    assert len(faults(tmp_path, "assets/app.css", "p { background: url(assets/img/Logo.png) }")) == 1


def test_a_base_changes_where_relative_links_lead_even_those_before_it(tmp_path: Path) -> None:
    page = '<a href="post.html"><base href="/blog/2026/x"><base href="/"><a href="index.html">'
    assert [message for _, message in faults(tmp_path, "index.html", page)] == [
        "link to 'index.html' leads nowhere: there is no such file"
    ]


def test_with_a_base_elsewhere_no_link_is_ours(tmp_path: Path) -> None:
    page = '<base href="https://example.org/"><a href="gone"><a href="/gone">'
    assert faults(tmp_path, "index.html", page) == []


def test_a_link_that_a_page_repeats_is_reported_once(tmp_path: Path) -> None:
    assert faults(tmp_path, "index.html", "<a href=gone>\n<a href=gone>\n<a href=lost>") == [
        (1, "link to 'gone' leads nowhere: there is no such file"),
        (3, "link to 'lost' leads nowhere: there is no such file"),
    ]


def test_lines_are_right_in_style_sheets_and_in_styles_of_pages() -> None:
    sheet = (
        '@import "a.css";\n/*\nurl(no) */ p { background:\nurl("b.png"), url( c.png ) }\n@import url(d.css);'
    )
    assert [(ref.url, ref.line) for ref in in_css(sheet)] == [
        ("a.css", 1), ("b.png", 4), ("c.png", 4), ("d.css", 5),
    ]  # fmt: skip
    page = in_html(f"<p>\n<style>\n{sheet}</style><a href=x>")
    assert [(ref.url, ref.line) for ref in page.found] == [
        ("a.css", 3), ("b.png", 6), ("c.png", 6), ("d.css", 7), ("x", 7),
    ]  # fmt: skip


def test_srcset_is_read_by_the_standard() -> None:
    assert list(in_srcset("a.png, b,c.png 2x,d.png 3x , data:image/png;base64,AA== 4x")) == [
        "a.png", "b,c.png", "d.png", "data:image/png;base64,AA==",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/../../x", "x"),
        ("..", "blog/"),
        (".", "blog/2026/"),
        ("//x", None),
        ("%2e%2e/x", "blog/x"),
        ("/", ""),
    ],
)
def test_dots_are_resolved_as_browsers_do(url: str, path: str | None) -> None:
    assert resolve("blog/2026/post.html", url) == path


def test_a_page_in_another_encoding_or_with_a_byte_order_mark_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b"\xef\xbb\xbf<a href=gone>\xe9\xff")
    assert len(list(check_links(tmp_path, ["index.html"]))) == 1


def test_a_page_that_is_too_large_is_said_not_to_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "MAX_PAGE_BYTES", 10)
    (tmp_path / "index.html").write_text("<a href=gone>")
    assert [finding.code for finding in check_links(tmp_path, ["index.html"])] == ["not-checked"]


def test_what_is_opened_and_never_closed_hides_the_rest_as_in_browsers() -> None:
    for opening in ("<!--", "<script>", "<style>", "<title>", '<p title="', "<p "):
        assert [ref.url for ref in in_html(f"<a href=x>{opening} <a href=y").found] == ["x"]


def test_odd_markup_is_read_as_browsers_read_it() -> None:
    page = """<a title="a > b" href=it's.html><a href = "one" href="two"><a href=x?a=1&amp;b=2>
    <a/href='three'/>
    <A HREF="a&#32;b"><a data-href=no><title><a href=no></title><br/><a href=four/>"""
    assert [ref.url for ref in in_html(page).found] == [
        "it's.html",
        "one",
        "x?a=1&b=2",
        "three",
        "a b",
        "four/",
    ]


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!",
        "<!-",
        "<!--",
        "<?",
        "</",
        "<a ",
        "<a href=",
        '<a b="',
        "<div>",
        "&",
        "&#",
        "<![",
        "<style>",
        "<a/",
        "=",
        "<a ='",
        "<title>",
        "<a b ",
    ],
)
def test_hostile_pages_take_time_in_proportion_to_their_size(piece: str) -> None:
    text = piece * (600_000 // len(piece))
    began = time.process_time()
    in_html(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "piece", ["url(", "/*", '"', '"\\', "url('", "@import ", "url( ", "\\", "*/", 'url("']
)
def test_hostile_style_sheets_take_time_in_proportion_to_their_size(piece: str) -> None:
    text = piece * (600_000 // len(piece))
    began = time.process_time()
    list(in_css(text))
    list(in_css(text + ")"))
    assert time.process_time() - began < 5
