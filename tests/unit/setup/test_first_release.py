"""Waiting until a machine is of use."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import msgspec
import pytest

from s3sync_agent.errors import SetupFailed
from s3sync_agent.report import Status
from s3sync_agent.setup import first_release
from s3sync_agent.setup.first_release import ask_nginx, await_first_release
from tests.agents import FakeClock
from tests.statuses import STATUS

SITE = STATUS.site
NOT_YET = "HTTP Error 503: Service Temporarily Unavailable"


def awaited(clock: FakeClock, *, answers: list[str], status: Status | None = STATUS) -> float:
    """Wait with these answers to the health check, the last one again and again; the seconds that took."""
    rest = iter(answers)
    last = answers[-1]
    healthy: Callable[[], str] = lambda: next(rest, last)  # noqa: E731 - the loop's view of nginx
    started = clock.monotonic()
    await_first_release(SITE, 60, healthy=healthy, status=lambda: status, clock=clock)
    return clock.monotonic() - started


def test_it_returns_as_soon_as_nginx_says_that_the_site_is_served() -> None:
    assert awaited(FakeClock(), answers=[""]) == 0
    assert awaited(FakeClock(), answers=[NOT_YET] * 30 + [""]) == pytest.approx(3.0)


def test_after_its_time_it_says_what_nginx_and_the_agent_say() -> None:
    clock = FakeClock()
    started = clock.monotonic()
    behind = msgspec.structs.replace(STATUS, because="there is no pointer yet")
    with pytest.raises(SetupFailed, match=r"/healthz: HTTP Error 503.*; the agent: there is no pointer yet$"):
        awaited(clock, answers=[NOT_YET], status=behind)
    assert clock.monotonic() - started == pytest.approx(60.0, abs=0.2)


def test_an_agent_that_has_said_nothing_is_no_success_even_when_nginx_is_healthy() -> None:
    with pytest.raises(SetupFailed, match="/healthz: 200; the agent: it has said nothing yet"):
        awaited(FakeClock(), answers=[""], status=None)


def test_a_machine_of_another_site_is_told_apart_at_once() -> None:
    clock = FakeClock()
    other = msgspec.structs.replace(STATUS, site="s3://other")
    with pytest.raises(SetupFailed, match="the agent serves s3://other, as /etc/s3sync-agent says"):
        awaited(clock, answers=[""], status=other)
    assert not clock.sleeps


def test_nginx_is_asked_for_the_site_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if (self.path, self.headers["Host"]) == ("/healthz", "blog.test") else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        monkeypatch.setattr(first_release, "HEALTH", f"http://127.0.0.1:{server.server_port}/healthz")
        assert ask_nginx("blog.test") == ""
        assert "503" in ask_nginx()
        server.shutdown()
        thread.join(timeout=5)
    assert "refused" in ask_nginx()
