"""Who runs, who is restarted, and what is said when somebody fails: with exporters that do as told."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3sync_agent.errors import MetricsNotTaken
from s3sync_agent.metrics import exporters as module
from s3sync_agent.metrics.exporters import Exporters, receivers
from s3sync_agent.metrics.repeater import Repeater, until_next
from s3sync_agent.report import checked
from s3sync_agent.settings import Settings, load
from tests.releases import SITE
from tests.statuses import STATUS

WAIT = 10.0


class News:
    """What has happened in other threads; `until` waits for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.exports = 0
        self.closed = 0
        self._changed = threading.Condition()

    def event(self, name: str, **fields: object) -> None:
        with self._changed:
            self.events.append((name, checked(name, fields)))
            self._changed.notify_all()

    def note(self, what: str) -> None:
        with self._changed:
            setattr(self, what, getattr(self, what) + 1)
            self._changed.notify_all()

    def until(self, reached: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(reached, timeout=WAIT), (self.events, self.exports, self.closed)


class FakeExporter:
    """Fails with `error` while there is one; hangs while `hang` is not set."""

    def __init__(self, news: News) -> None:
        self.news = news
        self.error: Exception | None = None
        self.hang = threading.Event()
        self.hang.set()

    def export(self) -> None:
        self.news.note("exports")
        assert self.hang.wait(WAIT)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.news.note("closed")


@pytest.fixture
def news() -> News:
    return News()


@pytest.fixture
def exporter(news: News) -> FakeExporter:
    return FakeExporter(news)


@pytest.fixture
def repeater(news: News, exporter: FakeExporter) -> Iterator[Repeater]:
    repeater = Repeater("textfile", lambda: exporter, 0.01, news.event)
    yield repeater
    exporter.hang.set()
    repeater.end()
    repeater.join(WAIT)


def test_it_exports_at_once_and_again(news: News, repeater: Repeater) -> None:
    repeater.start()
    news.until(lambda: news.exports >= 3)
    assert news.events == []


def test_failing_is_said_once_and_its_end_once(
    news: News, exporter: FakeExporter, repeater: Repeater
) -> None:
    exporter.error = MetricsNotTaken("no room", hint="make some")
    repeater.start()
    news.until(lambda: news.exports >= 5)
    exporter.error = None
    news.until(lambda: len(news.events) >= 2)
    exports = news.exports
    news.until(lambda: news.exports >= exports + 3)
    (failed, why), (recovered, when) = news.events
    assert (failed, recovered) == ("metrics.failed", "metrics.recovered")
    assert why == {"to": "textfile", "error": "MetricsNotTaken", "message": "no room", "hint": "make some"}
    assert (when["to"], when["seconds"] >= 0) == ("textfile", True)


def test_a_defect_of_an_exporter_ends_nothing(news: News, exporter: FakeExporter, repeater: Repeater) -> None:
    exporter.error = ZeroDivisionError("oops")
    repeater.start()
    news.until(lambda: news.exports >= 3)
    assert [fields["error"] for _, fields in news.events] == ["ZeroDivisionError"]


def test_who_cannot_be_made_is_made_later(news: News, exporter: FakeExporter) -> None:
    made = iter([ImportError("not installed"), None])

    def make() -> FakeExporter:
        error = next(made)
        if error is not None:
            raise error
        return exporter

    repeater = Repeater("cloudwatch", make, 0.01, news.event)
    repeater.start()
    news.until(lambda: news.exports >= 1 and len(news.events) == 2)
    repeater.end()
    repeater.join(WAIT)


def test_what_fails_after_its_end_is_not_told(news: News, exporter: FakeExporter, repeater: Repeater) -> None:
    exporter.hang.clear()
    repeater.start()
    news.until(lambda: news.exports == 1)
    exporter.error = MetricsNotTaken("too late")
    repeater.end()
    exporter.hang.set()
    news.until(lambda: news.closed == 1)
    assert news.events == []


def test_the_next_one_begins_when_the_one_before_has_given_back_what_it_held(
    news: News, exporter: FakeExporter, repeater: Repeater
) -> None:
    exporter.hang.clear()
    repeater.start()
    news.until(lambda: news.exports == 1)
    closed_before = []

    def make() -> FakeExporter:
        closed_before.append(news.closed)
        return exporter

    following = Repeater("textfile", make, 60, news.event, after=repeater)
    repeater.end()
    following.start()
    exporter.hang.set()
    news.until(lambda: news.exports == 2)
    assert closed_before == [1]
    following.end()
    following.join(WAIT)


def test_rounds_do_not_slip_by_what_one_takes() -> None:
    assert until_next(0.0, 60.0) == 60.0
    assert until_next(8.0, 60.0) == 52.0
    assert until_next(600.5, 60.0) == 59.5


def test_hurrying_makes_it_export_now(news: News, exporter: FakeExporter) -> None:
    repeater = Repeater("textfile", lambda: exporter, 3600, news.event)
    repeater.start()
    news.until(lambda: news.exports == 1)
    repeater.hurry()
    news.until(lambda: news.exports == 2)
    repeater.end()
    repeater.join(WAIT)


# ------------------------------------------------------------------------------ who runs


def settings(**overrides: str) -> Settings:
    return load(config=None, environ={}, overrides={"site": SITE.url} | overrides)


def test_nobody_gets_metrics_unless_it_is_set() -> None:
    assert receivers(settings()) == {}


def test_each_setting_names_one() -> None:
    everything = settings(
        metrics_textfile="/run/s3sync-agent/s3sync.prom",
        metrics_listen="127.0.0.1:9151",
        cloudwatch_namespace="s3sync",
    )
    found = receivers(everything)
    assert list(found) == ["textfile", "listen", "cloudwatch"]
    assert found["cloudwatch"].arguments == ("s3sync", SITE.url.removeprefix("s3://"))
    assert [receiver.every for receiver in found.values()] == [15, 15, 60]


@pytest.fixture
def made(news: News, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What exporters were made with; they are fakes."""
    made: list[tuple[Any, ...]] = []

    def make(*arguments: Any) -> FakeExporter:
        made.append(arguments[:-1])
        return FakeExporter(news)

    for name in ("_text_file", "_listener", "_cloudwatch"):
        monkeypatch.setattr(module, name, make)
    return made


@pytest.fixture
def running(news: News) -> Iterator[Exporters]:
    exporters = Exporters(lambda: STATUS, news.event)
    yield exporters
    exporters.stop(WAIT)


def test_who_is_set_as_before_goes_on_and_who_is_not_starts_anew(
    news: News, made: list[tuple[Any, ...]], running: Exporters
) -> None:
    running.apply(settings(metrics_textfile="/a.prom", cloudwatch_namespace="one"))
    news.until(lambda: news.exports == 2)
    running.apply(settings(metrics_textfile="/a.prom", cloudwatch_namespace="two"))
    news.until(lambda: news.exports == 3)
    assert set(made) == {(Path("/a.prom"),), ("one", "bucket/site"), ("two", "bucket/site")}
    assert (len(made), news.closed) == (3, 1)


def test_who_is_set_no_more_ends(news: News, made: list[tuple[Any, ...]], running: Exporters) -> None:
    running.apply(settings(metrics_textfile="/a.prom"))
    news.until(lambda: news.exports == 1)
    running.apply(settings())
    news.until(lambda: news.closed == 1)
    assert len(made) == 1


def test_who_is_set_again_waits_for_who_was_ended_before(
    news: News, exporter: FakeExporter, running: Exporters, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_before = []

    def make(*_: Any) -> FakeExporter:
        closed_before.append(news.closed)
        return exporter

    monkeypatch.setattr(module, "_listener", make)
    exporter.hang.clear()
    running.apply(settings(metrics_listen="127.0.0.1:9151"))
    news.until(lambda: news.exports == 1)
    running.apply(settings())
    running.apply(settings(metrics_listen="127.0.0.1:9151"))
    exporter.hang.set()
    news.until(lambda: news.exports == 2)
    assert closed_before == [0, 1]


def test_a_new_status_reaches_the_file_at_once_and_cloudwatch_in_its_minute(
    news: News, running: Exporters, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudwatch = News()
    monkeypatch.setattr(module, "_text_file", lambda *_: FakeExporter(news))
    monkeypatch.setattr(module, "_cloudwatch", lambda *_: FakeExporter(cloudwatch))
    running.apply(settings(metrics_textfile="/a.prom", cloudwatch_namespace="one"))
    cloudwatch.until(lambda: cloudwatch.exports == 1)
    for exports in range(2, 10):
        news.until(lambda exports=exports: news.exports == exports - 1)  # type: ignore[misc]
        running.told()
    news.until(lambda: news.exports == 9)
    assert cloudwatch.exports == 1


def test_an_exporter_that_hangs_holds_nobody_up(
    news: News, exporter: FakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_cloudwatch", lambda *_: exporter)
    exporter.hang.clear()
    running = Exporters(lambda: STATUS, news.event)
    running.apply(settings(cloudwatch_namespace="one"))
    news.until(lambda: news.exports == 1)
    running.stop(0.05)
    assert news.closed == 0
    exporter.hang.set()
    news.until(lambda: news.closed == 1)


def test_the_libraries_are_imported_for_who_is_set_and_for_nobody_else() -> None:
    probe = "import sys, s3sync_agent.daemon; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=20, check=True
    )
    assert {"prometheus_client", "botocore"} & set(done.stdout.split()) == set()
