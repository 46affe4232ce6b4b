"""Hooks, with real scripts."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3sync_agent.errors import HookUnusable, HookVetoed
from s3sync_agent.hooks import LEFTOVERS, POST_ACTIVATE, PRE_ACTIVATE, Hooks, Subject
from tests.agents import Recorder

SITE = "s3://bucket/site"
ME = os.geteuid()
LONG = 30.0  # seconds that no test should ever have to wait


class Place:
    """A hooks folder that whoever runs the tests is trusted with, and a release that hooks are run for."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "hooks.d"
        self.subject = Subject("v1-0123456789ab", "v1", root / "tree", "promotion-1")
        self.subject.tree.mkdir()
        (self.subject.tree / "index.html").write_text("home")
        self.out = root / "out"
        self.out.mkdir()
        self.reporter = Recorder()
        self.beat: Callable[[], None] = lambda: None

    def hook(self, name: str, script: str, phase: str = PRE_ACTIVATE, mode: int = 0o755) -> Path:
        path = self.folder / phase / name
        for folder in (self.folder, path.parent):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)
        return path

    def after(self, name: str, script: str, mode: int = 0o755) -> Path:
        return self.hook(name, script, POST_ACTIVATE, mode)

    def hooks(self, timeout: float = LONG, trusted: frozenset[int] = frozenset({ME})) -> Hooks:
        return Hooks(self.folder, timeout, SITE, trusted)

    def ask(self, timeout: float = LONG) -> None:
        self.hooks(timeout).ask(self.subject, self.reporter, self.beat)

    def tell(self, timeout: float = LONG) -> None:
        self.hooks(timeout).tell(self.subject, self.reporter, self.beat)

    def said(self, name: str) -> str:
        return (self.out / name).read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def ends(pid: int) -> bool:
    """Whether a process that was killed ends, which takes the kernel a moment."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], LONG / 2)[0])
    finally:
        os.close(process)


# ------------------------------------------------------------------------- being asked


def test_without_a_folder_there_is_nothing_to_do(place: Place) -> None:
    place.ask()
    place.tell()
    place.folder.mkdir()
    place.ask()
    place.tell()
    assert place.reporter.names == []


def test_hooks_run_one_after_another_in_the_order_of_their_names(place: Place) -> None:
    for name in ("20-b", "100-c", "10-a", "Z"):
        place.hook(name, f"echo {name} >>{place.out}/order")
    place.ask()
    assert place.said("order").split() == ["10-a", "100-c", "20-b", "Z"]
    assert [event["hook"] for event in place.reporter.named("hook.done")] == [
        "pre-activate/10-a", "pre-activate/100-c", "pre-activate/20-b", "pre-activate/Z",
    ]  # fmt: skip


def test_a_hook_that_ends_with_another_code_says_no_and_no_other_is_asked(place: Place) -> None:
    place.hook("10-check", "echo looking; echo 'no robots.txt' >&2; exit 3")
    place.hook("20-never", f"touch {place.out}/asked")
    with pytest.raises(HookVetoed) as vetoed:
        place.ask()
    assert str(vetoed.value) == (
        "hook pre-activate/10-check said no to v1-0123456789ab: it ended with 3: no robots.txt"
    )
    assert vetoed.value.hint
    assert not vetoed.value.retryable
    assert place.reporter.events == [
        (
            "hook.vetoed",
            {
                "hook": "pre-activate/10-check",
                "release": "v1-0123456789ab",
                "message": "it ended with 3: no robots.txt",
                "output": "looking\\nno robots.txt\\n",
            },
        )
    ]
    assert not (place.out / "asked").exists()


def test_a_hook_knows_its_release_and_nothing_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("S3SYNC_STATE_DIR", "/elsewhere")
    place.hook("10-look", f"env >{place.out}/env; pwd >{place.out}/cwd")
    place.ask()
    given = dict(line.split("=", 1) for line in place.said("env").splitlines())
    for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
        given.pop(shells_own, None)
    assert given.pop("PATH").split(":")[-1] == "/bin"
    assert given == {
        "LANG": "C.UTF-8",
        "S3SYNC_HOOK": "pre-activate",
        "S3SYNC_SITE": SITE,
        "S3SYNC_RELEASE": "v1-0123456789ab",
        "S3SYNC_VERSION": "v1",
        "S3SYNC_TREE": str(place.subject.tree),
        "S3SYNC_PROMOTION_ID": "promotion-1",
    }
    assert place.said("cwd").strip() == str(place.subject.tree)


def test_a_hook_has_nothing_to_read(place: Place) -> None:
    place.hook("10-reads", f"cat >{place.out}/input")
    ours, theirs = os.pipe()
    os.write(theirs, b"what the agent was to read")
    before = os.dup(0)
    try:
        os.dup2(ours, 0)
        os.close(theirs)
        place.ask()
    finally:
        os.dup2(before, 0)
        for each in (ours, before):
            os.close(each)
    assert place.said("input") == ""


def test_a_hook_inherits_no_descriptor(place: Place) -> None:
    with (place.out / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        place.hook("10-look", f"ls -l /proc/self/fd >{place.out}/open")
        place.ask()
    assert str(place.out / "ours") not in place.said("open")


# ------------------------------------------------------------------------- its time


def test_a_hook_that_takes_too_long_says_no_and_nothing_of_it_is_left(place: Place) -> None:
    place.hook("10-slow", f"sleep 300 & echo $! >{place.out}/child; echo still looking; sleep 300")
    began = time.monotonic()
    with pytest.raises(HookVetoed, match=r"it was not done after 1 s: still looking"):
        place.ask(timeout=1)
    assert time.monotonic() - began < LONG / 2
    assert ends(int(place.said("child")))


def test_what_a_hook_leaves_running_is_neither_waited_for_nor_left(place: Place) -> None:
    place.hook("10-leaves", f"sleep 300 & echo $! >{place.out}/child")
    began = time.monotonic()
    place.ask()
    assert time.monotonic() - began < LONG / 2
    assert ends(int(place.said("child")))


class Stopped(Exception):
    pass


def test_an_agent_that_is_to_stop_is_not_held_up(place: Place) -> None:
    place.hook("10-slow", f"echo $$ >{place.out}/pid; sleep 300")

    def beat() -> None:
        if (place.out / "pid").exists() and place.said("pid"):
            raise Stopped

    place.beat = beat
    began = time.monotonic()
    with pytest.raises(Stopped):
        place.ask()
    assert time.monotonic() - began < LONG / 2
    assert ends(int(place.said("pid")))
    assert place.reporter.names == []


def test_a_hook_that_talks_without_end_is_heard_to_its_last_word(place: Place) -> None:
    place.hook("10-talks", "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo 'the last word'; exit 1")
    with pytest.raises(HookVetoed, match="the last word"):
        place.ask()
    (told,) = place.reporter.named("hook.vetoed")
    assert len(told["output"]) < 4200


def test_what_a_hook_prints_cannot_forge_a_line(place: Place) -> None:
    place.hook("10-forges", "printf 'all is \\033[2J\\377 well'; exit 1")
    with pytest.raises(HookVetoed) as vetoed:
        place.ask()
    assert str(vetoed.value).isprintable()


# --------------------------------------------------------------------- whose it may be


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_hook_that_others_can_write_is_not_run(place: Place, mode: int) -> None:
    place.hook("10-theirs", f"touch {place.out}/ran", mode=mode)
    with pytest.raises(HookUnusable, match=r"can be changed by others than root \(owner \d+, mode") as error:
        place.ask()
    assert "chown root" in error.value.hint
    assert not (place.out / "ran").exists()


@pytest.mark.parametrize("which", ["hooks.d", "hooks.d/pre-activate"])
def test_nor_is_one_in_a_folder_that_others_can_write(place: Place, which: str) -> None:
    place.hook("10-mine", f"touch {place.out}/ran")
    (place.folder.parent / which).chmod(0o775)
    with pytest.raises(HookUnusable, match=f"{which} can be changed by others"):
        place.ask()
    assert not (place.out / "ran").exists()


def test_nor_one_that_belongs_to_somebody_else(place: Place) -> None:
    place.hook("10-theirs", f"touch {place.out}/ran")
    nobody_of_ours = place.hooks(trusted=frozenset({ME + 1}))
    with pytest.raises(HookUnusable, match="can be changed by others than root"):
        nobody_of_ours.ask(place.subject, place.reporter, place.beat)
    assert not (place.out / "ran").exists()


def test_root_is_trusted_and_nobody_else_unless_it_is_said(tmp_path: Path) -> None:
    assert set(Hooks(tmp_path, 1, SITE).trusted) == {0}


def test_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    place.hook("10-check", "exit 0").with_name("20-link").symlink_to(script)
    with pytest.raises(HookUnusable, match="20-link is not a file"):
        place.ask()


def test_no_hook_is_run_while_another_cannot_be(place: Place) -> None:
    place.hook("10-good", f"touch {place.out}/ran")
    place.hook("20-bad", "exit 0", mode=0o644)
    with pytest.raises(HookUnusable, match="20-bad is not executable"):
        place.ask()
    assert not (place.out / "ran").exists()


# -------------------------------------------------------------------- could not be asked


def test_a_hook_without_an_interpreter_has_not_said_no(place: Place) -> None:
    path = place.hook("10-broken", "")
    path.write_text("#!/nowhere/at/all\n")
    with pytest.raises(HookUnusable, match="10-broken could not be started: No such file") as error:
        place.ask()
    assert error.value.retryable
    assert place.reporter.names == []


def test_a_hook_that_is_no_program_has_not_said_no(place: Place) -> None:
    place.hook("10-text", "").write_text("exit 1\n")
    with pytest.raises(HookUnusable, match="could not be started: Exec format error"):
        place.ask()


def test_a_hook_that_somebody_killed_has_not_said_no(place: Place) -> None:
    """The kernel, when memory runs out."""
    place.hook("10-killed", "kill -KILL $$")
    with pytest.raises(HookUnusable, match="was killed by SIGKILL"):
        place.ask()


def test_a_folder_that_is_none_is_not_an_empty_one(place: Place) -> None:
    place.folder.write_text("")
    with pytest.raises(HookUnusable, match="cannot be looked for"):
        place.ask()


@pytest.mark.skipif(ME == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(place: Place) -> None:
    place.hook("10-check", "exit 1").parent.chmod(0)
    try:
        with pytest.raises(HookUnusable, match="cannot be looked for"):
            place.ask()
    finally:
        (place.folder / PRE_ACTIVATE).chmod(0o755)


# ---------------------------------------------------------------------------- leftovers


@pytest.mark.parametrize(
    "name",
    [".hidden", ".10-check.swp", "10-check~", "#10-check#", "10-check.bak", "10-check.rpmsave",
     "10-check.dpkg-old", "10-check.disabled"],
)  # fmt: skip
def test_what_editors_and_package_managers_leave_is_no_hook(place: Place, name: str) -> None:
    place.hook(name, "exit 1", mode=0o777)
    place.ask()


@pytest.mark.parametrize("name", ["check", "10-check.sh", "10_check.v2", "a name with spaces", "größe"])
def test_everything_else_is_whatever_it_is_called(place: Place, name: str) -> None:
    place.hook(name, "exit 1")
    with pytest.raises(HookVetoed):
        place.ask()


def test_the_page_about_hooks_names_every_leftover() -> None:
    page = (Path(__file__).parents[2] / "docs/hooks.md").read_text()
    assert [pattern for pattern in LEFTOVERS if f"`{pattern}`" not in page] == []


# ------------------------------------------------------------------------- being told


def test_a_hook_that_fails_afterwards_is_reported_and_the_others_run(place: Place) -> None:
    place.after("10-fails", "echo 'the cache does not answer'; exit 7")
    place.after("20-unusable", "exit 0", mode=0o644)
    place.after("30-slow", "sleep 300")
    place.after("40-good", f"touch {place.out}/ran")
    place.tell(timeout=1)
    assert (place.out / "ran").exists()
    failed = place.reporter.named("hook.failed")
    assert [(event["hook"], event["error"]) for event in failed] == [
        ("post-activate/10-fails", "HookFailed"),
        ("post-activate/20-unusable", "HookUnusable"),
        ("post-activate/30-slow", "HookFailed"),
    ]
    assert failed[0]["message"] == ("hook post-activate/10-fails: it ended with 7: the cache does not answer")
    assert failed[0]["output"] == "the cache does not answer\\n"
    assert [event["hook"] for event in place.reporter.named("hook.done")] == ["post-activate/40-good"]


def test_a_folder_of_others_is_reported_and_nothing_raised(place: Place) -> None:
    place.after("10-mine", f"touch {place.out}/ran").parent.chmod(0o777)
    place.tell()
    assert [event["hook"] for event in place.reporter.named("hook.failed")] == ["post-activate"]
    assert not (place.out / "ran").exists()


def test_the_two_phases_are_two_folders(place: Place) -> None:
    place.hook("10-before", f"echo $S3SYNC_HOOK >>{place.out}/order")
    place.after("10-after", f"echo $S3SYNC_HOOK >>{place.out}/order")
    place.tell()
    place.ask()
    assert place.said("order").split() == ["post-activate", "pre-activate"]


def test_several_threads_run_hooks_at_once_without_mixing_them_up(place: Place) -> None:
    place.hook("10-check", 'test "$S3SYNC_PROMOTION_ID" = promotion-1')
    place.after("10-slow", "sleep 0.3; exit 1")
    after = threading.Thread(target=place.tell)
    after.start()
    place.ask()
    after.join(LONG)
    assert sorted(place.reporter.names) == ["hook.done", "hook.failed"]
