"""The loop's decisions, one at a time; that it runs as a process is tests/integration/test_daemon.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3sync_agent.daemon import READY_WITHIN, Daemon, Message, Wake
from s3sync_agent.errors import ConfigError, StoreUnavailable
from s3sync_agent.notify import Notifier
from s3sync_agent.pointer import parse_time
from s3sync_agent.settings import Settings, load
from tests.agents import Elsewhere, FakeClock, Recorder
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import SITE

Start = Callable[..., Daemon]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def s3(clock: FakeClock) -> MemoryBucket:
    return MemoryBucket(clock=clock.now)


@pytest.fixture
def reporter() -> Recorder:
    return Recorder()


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, str]:
    """The settings that a reload will find."""
    return {"site": SITE.url, "state_dir": str(tmp_path / "state"), "identity": "i-1"}


class Heard(Notifier):
    """What systemd was told."""

    def __init__(self) -> None:
        super().__init__({})
        self.lines: list[str] = []

    def send(self, *lines: str) -> None:
        self.lines += lines


@pytest.fixture
def notifier() -> Heard:
    return Heard()


@pytest.fixture
def daemon(
    tmp_path: Path,
    clock: FakeClock,
    s3: MemoryBucket,
    reporter: Recorder,
    overrides: dict[str, str],
    notifier: Heard,
) -> Iterator[Daemon]:
    """Started, with a worker that has not begun: a test does the jobs itself."""

    def settings() -> Settings:
        return load(config=None, environ={}, overrides=overrides)

    daemon = Daemon(
        settings=settings(),
        load_settings=settings,
        config_files=lambda: [tmp_path / "agent.conf"],
        open_bucket=lambda _settings: s3,
        make_reporter=lambda _settings: reporter,
        clock=clock,
        notifier=notifier,
        metadata=Elsewhere(),
    )
    daemon._start()
    yield daemon
    daemon._instance.webroot.close()


def waiting(daemon: Daemon) -> list[Wake]:
    found = []
    while not daemon._queue.empty():
        found.append(daemon._queue.get().wake)
    return found


@pytest.mark.parametrize(
    ("path", "reloads"),
    [
        ("agent.conf", True),
        ("agent.toml", True),
        ("config.d/10-site.toml", True),
        ("agent.log", False),
        ("state/status.json", False),
        ("state/releases/v1/netlify.toml", False),
    ],
)
def test_only_configuration_is_reloaded(daemon: Daemon, tmp_path: Path, path: str, reloads: bool) -> None:
    daemon._config_touched(tmp_path, path)
    assert bool(waiting(daemon)) == reloads


def test_settings_that_cannot_be_started_with_leave_the_old_ones_in_force(
    daemon: Daemon, tmp_path: Path, s3: MemoryBucket, reporter: Recorder, overrides: dict[str, str]
) -> None:
    (tmp_path / "file").touch()
    overrides["run_dir"] = str(tmp_path / "file" / "run")
    daemon._read_settings()
    assert "run directory" in reporter.named("config.refused")[0]["message"]
    publisher = Publisher(s3)
    release = publisher.publish("v1")
    publisher.promote("v1")
    daemon._ticker.attempt()
    assert daemon._instance.webroot.live() == release


def test_an_instant_is_known_while_the_tick_that_brought_it_goes_on(
    daemon: Daemon, clock: FakeClock, s3: MemoryBucket
) -> None:
    publisher = Publisher(s3, now=clock.now())
    publisher.publish("v1")
    publisher.promote("v1")
    daemon._ticker.attempt()
    due = publisher.publish("v2", {"index.html": b"2"})
    publisher.publish("v3", {"index.html": b"3"})
    publisher.promote("v2", activate_in=30)
    publisher.prepare("v3")

    def slow(_operation: str, key: str) -> None:
        if key == SITE.manifest("v3"):
            daemon._worker.busy = True
            daemon._look_ahead()
            clock.advance(40)
            assert daemon._countdown.act()
            assert daemon._instance.webroot.live() == due

    s3.before = slow
    assert daemon._ticker.attempt().error is None


def test_an_instant_that_comes_between_the_end_of_a_tick_and_its_note_is_kept(
    daemon: Daemon, clock: FakeClock, s3: MemoryBucket
) -> None:
    publisher = Publisher(s3, now=clock.now())
    publisher.publish("v1")
    publisher.promote("v1")
    daemon._ticker.attempt()
    due = publisher.publish("v2", {"index.html": b"2"})
    instant = publisher.promote("v2", activate_in=30).active.activate_at
    assert instant is not None
    daemon._handle(Message(Wake.JOB_DONE, daemon._ticker.attempt()))
    clock.advance(parse_time(instant) - 0.1 - clock.now())
    ended = daemon._ticker.attempt()
    clock.advance(0.2)
    daemon._handle(Message(Wake.JOB_DONE, ended))
    assert daemon._countdown.act()
    assert daemon._instance.webroot.live() == due


def test_who_asks_during_a_long_job_is_told_once_a_second_whatever_comes_meanwhile(
    daemon: Daemon, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    monkeypatch.setattr(daemon._ticker, "look", lambda: looked.append(clock.monotonic()))
    daemon._give_work()
    began = clock.monotonic()
    for _ in range(40):
        daemon._look_ahead()
        clock.advance(0.125)
    assert [moment - began for moment in looked] == [1, 2, 3, 4]


def is_busy(daemon: Daemon) -> bool:
    return daemon._worker.busy


def test_sync_now_is_not_forgotten_when_a_tick_is_running(daemon: Daemon, clock: FakeClock) -> None:
    daemon._give_work()
    assert is_busy(daemon)
    daemon._handle(Message(Wake.SYNC_NOW))
    clock.advance(1)
    daemon._handle(Message(Wake.JOB_DONE, daemon._ticker.attempt()))
    assert not is_busy(daemon)
    daemon._give_work()
    assert is_busy(daemon)


def test_ready_is_not_waited_for_longer_than_a_boot_can_wait(
    daemon: Daemon, clock: FakeClock, notifier: Heard
) -> None:
    daemon._worker.busy = True  # with a request that S3 does not answer
    clock.advance(READY_WITHIN - 0.1)
    daemon._be_ready_in_time()
    assert "READY=1" not in notifier.lines
    clock.advance(0.1)
    daemon._be_ready_in_time()
    assert notifier.lines == ["READY=1", "STATUS=serving nothing yet: the first poll has not ended"]


def test_ready_is_said_once_and_as_soon_as_the_first_tick_has_ended(
    daemon: Daemon, clock: FakeClock, notifier: Heard
) -> None:
    for _ in range(2):
        daemon._handle(Message(Wake.JOB_DONE, daemon._ticker.attempt()))
        clock.advance(READY_WITHIN)
        daemon._be_ready_in_time()
    assert notifier.lines.count("READY=1") == 1


def test_other_settings_for_the_same_site_do_not_make_an_old_failure_new(
    daemon: Daemon, s3: MemoryBucket, clock: FakeClock, overrides: dict[str, str]
) -> None:
    s3.outage = StoreUnavailable("no network", hint="wait")
    for _ in range(4):
        daemon._handle(Message(Wake.JOB_DONE, daemon._ticker.attempt()))
    overrides["keep_releases"] = "5"
    daemon._read_settings()
    assert daemon._settings.keep_releases == 5
    assert daemon._status().stale
    assert daemon._status().because == "no network"
    overrides["site"] = "s3://another/site"
    daemon._read_settings()
    assert not daemon._status().stale


def test_a_change_of_the_status_is_told_to_the_fleet_and_an_idle_poll_is_not(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(daemon._heartbeats, "told", lambda: told.append("told"))
    daemon._ticker.attempt()
    assert told == ["told"]
    daemon._ticker.attempt()
    assert told == ["told"]


def test_other_settings_are_told_to_the_fleet_also_those_that_could_not_be_taken(
    daemon: Daemon, tmp_path: Path, overrides: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[Settings] = []
    monkeypatch.setattr(
        daemon._heartbeats, "apply", lambda settings, _bucket, _read: applied.append(settings)
    )
    overrides["identity"] = "i-2"
    daemon._read_settings()
    (tmp_path / "file").touch()
    overrides["run_dir"] = str(tmp_path / "file" / "run")
    overrides["identity"] = "i-3"
    daemon._read_settings()
    assert [settings.identity for settings in applied] == ["i-2", "i-2"]


def test_other_settings_wait_for_the_proof_of_what_has_just_gone_live(
    daemon: Daemon, clock: FakeClock, s3: MemoryBucket, reporter: Recorder, overrides: dict[str, str]
) -> None:
    publisher = Publisher(s3, now=clock.now())
    publisher.publish("v1")
    publisher.promote("v1", activate_in=30)
    daemon._ticker.attempt()
    daemon._countdown.look(forget=True)
    clock.advance(40)
    daemon._countdown.act()  # whose proof is a job for the prober, which has not begun
    overrides["poll_interval"] = "7"
    daemon._reload = True
    daemon._give_work()
    assert not reporter.named("config.loaded")
    daemon._sync.prove_due()
    daemon._handle(Message(Wake.PROVED))
    daemon._worker.busy = False
    daemon._give_work()
    assert reporter.named("config.loaded")


def test_a_state_directory_that_cannot_be_read_does_not_end_the_loop(daemon: Daemon) -> None:
    releases = daemon._settings.state.releases
    releases.rmdir()
    releases.write_text("what is this?")
    assert daemon._status_line() == "STATUS=the state directory cannot be read: Not a directory"
    daemon._countdown.look(forget=True)
    assert daemon._countdown.wakes_in() is None


def test_a_run_directory_that_cannot_be_made_again_ends_the_service_for_systemd_to_make_it(
    daemon: Daemon,
) -> None:
    run_dir = daemon._settings.run_dir
    run_dir.rmdir()
    daemon._need_run_dir()
    assert run_dir.is_dir()
    run_dir.rmdir()
    run_dir.write_text("in its place")
    with pytest.raises(ConfigError, match="is gone and cannot be made"):
        daemon._need_run_dir()


def test_a_signal_that_comes_before_the_loop_is_kept_for_it(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)}

    def start() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        raise ConfigError("enough")

    monkeypatch.setattr(daemon, "_start", start)
    try:
        with pytest.raises(ConfigError, match="enough"):
            daemon.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert waiting(daemon) == [Wake.SYNC_NOW]
