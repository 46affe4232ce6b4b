"""`s3sync check`: whether a folder can be published as a release, and what is odd about it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from s3sync_agent import layout
from s3sync_agent.deploy.copies import check_copies
from s3sync_agent.deploy.findings import Finding, Report, in_order
from s3sync_agent.deploy.links import check_links, folded
from s3sync_agent.deploy.walk import walk


def check_site(root: Path) -> Report:
    """Check the folder `root`. A folder with an error must not be published; a warning is for the
    author to judge. Raises ConfigError when `root` is no readable folder."""
    files, findings = walk(root)
    files.sort()
    findings.extend(_no_page(files))
    findings.extend(_collisions(files))
    findings.extend(check_links(root, files))
    findings.extend(check_copies(root, files))
    return Report(in_order(findings), tuple(files))


def _no_page(files: Sequence[str]) -> Iterator[Finding]:
    if not files:
        yield Finding("error", ".", None, "empty", "there is no file to publish")
    elif layout.INDEX not in files:
        yield Finding("error", layout.INDEX, None, "no-index", "there is no such file at the top")


def _collisions(files: Sequence[str]) -> Iterator[Finding]:
    """Names that cannot be told apart on a Mac or on Windows, where the site may be built next."""
    alike: defaultdict[str, set[str]] = defaultdict(set)
    folders = {folder for path in files for folder in layout.parents(path)}
    for path in (*files, *folders):
        alike[folded(path)].add(path)
    for group in alike.values():
        if len(group) > 1 and not group <= folders:  # folders alone merge and lose nothing
            yield _collision(sorted(group))


def _collision(group: Sequence[str]) -> Finding:
    others = ", ".join(repr(layout.escape(path)) for path in group[1:])
    if len({unicodedata.normalize("NFC", path) for path in group}) == 1:
        code, how = "unicode-collision", "Unicode normal form"
    else:
        code, how = "case-collision", "case"
    return Finding("warning", layout.escape(group[0]), None, code, f"differs only by {how} from {others}")
