"""The agent dies by SIGKILL beside every durable step: what is served stays whole, and the next run goes on.

Every place is died at in every kind of work that comes by it. A place that is not reached fails its test,
because then nothing dies.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from s3sync_agent import failpoints
from s3sync_agent.cli import agent
from s3sync_agent.deploy.rollback import rollback
from s3sync_agent.layout import parse_site
from tests.instances import promoter
from tests.integration.conftest import LiveSite
from tests.integration.sites import bucket_of, new_site, promote_here, publish_here, run_once, serve_here
from tests.servers import S3Server

RELEASES = {
    version: {
        "index.html": f"<h1>{version}</h1>",
        "same.html": "<h1>the same in every release</h1>",
        f"only/in/{version}.html": version,
        f"assets/app-{digit}a2b3c4d.js": f"app({digit})",
    }
    for digit, version in ((1, "v1"), (2, "v2"), (3, "v3"))
}

_STAGING = (
    "stage.begin",
    "stage.linked",
    "stage.fetched",
    "stage.assets",
    "stage.synced",
    "stage.manifest",
    "stage.renamed",
)
_ACTIVATING = (
    "state.before",
    "state.after",
    "activate.previous",
    "activate.before",
    "activate.after",
    "healthy.before",
)
PLACES = {
    "first": ("assets.linked", *_STAGING, *_ACTIVATING),
    "update": ("assets.linked", *_STAGING, *_ACTIVATING),
    "rollback": _ACTIVATING,
    "prune": ("prune.retained", "prune.moved", "prune.deleted"),
    "heal": ("repair.before", "repair.after"),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """`site` as S3 and the instance's disk are before the work; `wanted` is the version it ends with, `kept`
    the versions that are on the disk then."""

    site: LiveSite
    wanted: str
    kept: frozenset[str]


@pytest.fixture(scope="module")
def scene_of(moto_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scene]:
    """Each scene is set once; the agents that die in it work on copies of its disk."""
    scenes: dict[str, Scene] = {}

    def scene(work: str) -> Scene:
        if work not in scenes:
            scenes[work] = _set(work, new_site(moto_server, tmp_path_factory.mktemp(work)))
        return scenes[work]

    return scene


def _set(work: str, site: LiveSite) -> Scene:
    site = replace(site, environ=site.environ | {"S3SYNC_KEEP_RELEASES": "1"})
    if work == "first":
        _release(site, "v1")
        return Scene(site, "v1", frozenset({"v1"}))
    _serve(site, "v1")
    if work == "heal":
        page = site.state / "live" / "index.html"
        page.chmod(0o644)
        page.write_text("defaced")
        return Scene(site, "v1", frozenset({"v1"}))
    if work == "update":
        _release(site, "v2")
        return Scene(site, "v2", frozenset({"v1", "v2"}))
    _serve(site, "v2")
    if work == "rollback":
        rollback(promoter(bucket_of(site), site=parse_site(site.url)), promotion_id="back-to-1")
        return Scene(site, "v1", frozenset({"v1", "v2"}))
    assert work == "prune"
    _release(site, "v3")
    return Scene(site, "v3", frozenset({"v2", "v3"}))


def _release(site: LiveSite, version: str) -> None:
    folder = replace(site, folder=site.folder / version)
    folder.write(RELEASES[version])
    publish_here(folder, version)
    promote_here(site, version)


def _serve(site: LiveSite, version: str) -> None:
    _release(site, version)
    serve_here(site, keep_releases=1)


@pytest.mark.parametrize(
    ("work", "place"), [(work, place) for work, places in PLACES.items() for place in places]
)
def test_what_is_served_survives_a_crash_and_the_next_run_goes_on(
    scene_of: Callable[[str], Scene], tmp_path: Path, work: str, place: str
) -> None:
    scene = scene_of(work)
    site = _with_a_disk_of_its_own(scene.site, tmp_path / "state")
    before = _live_version(site)

    died = run_once(site, S3SYNC_FAILPOINT=place)

    assert died.returncode == -signal.SIGKILL, f"{place} was not reached: {died.stdout}{died.stderr}"
    now = _live_version(site)
    assert now in {before, scene.wanted}
    if now is None:
        assert _verify(site) == (4, "leads to no release")
    elif place == "repair.before":
        assert _verify(site) == (4, "1 of 4 files are not what the manifest says")
    else:
        assert _verify(site) == (0, "")
        assert site.live() == RELEASES[now]
    assert not (site.state / "run" / "healthy").exists() or now is not None

    done = run_once(site)

    assert done.returncode == 0, done.stderr
    assert _verify(site) == (0, "")
    assert site.live() == RELEASES[scene.wanted]
    assert _versions(site) == scene.kept
    assert list((site.state / "staging").iterdir()) == []
    assert (site.state / "run" / "healthy").read_text().strip() == (site.state / "live").resolve().name
    assert _assets(site) >= {path for path in RELEASES[scene.wanted] if path.startswith("assets/")}


def test_every_place_is_died_at() -> None:
    assert {place for places in PLACES.values() for place in places} == set(failpoints.NAMES)


def _with_a_disk_of_its_own(site: LiveSite, state: Path) -> LiveSite:
    if site.state.exists():
        subprocess.run(["cp", "-a", site.state, state], check=True)
    return replace(site, state=state, environ=site.environ | {"S3SYNC_STATE_DIR": str(state)})


def _live_version(site: LiveSite) -> str | None:
    """The version that `live` leads to; a link that leads nowhere is an error."""
    link = site.state / "live"
    return link.resolve(strict=True).name.rpartition("-")[0] if link.is_symlink() else None


def _versions(site: LiveSite) -> frozenset[str]:
    return frozenset(tree.name.rpartition("-")[0] for tree in (site.state / "releases").iterdir())


def _assets(site: LiveSite) -> set[str]:
    root = site.state / "assets"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _verify(site: LiveSite) -> tuple[int, str]:
    """The exit code of `s3sync-agent verify`, and the end of what it complains about."""
    done = CliRunner().invoke(agent.main, ["verify"], env=dict(site.environ))
    complaint = done.stderr.splitlines()[0] if done.stderr else ""
    for known in ("leads to no release", "1 of 4 files are not what the manifest says"):
        if complaint.endswith(known):
            return done.exit_code, known
    return done.exit_code, complaint
