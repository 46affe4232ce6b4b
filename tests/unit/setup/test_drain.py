from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

from s3sync_agent.setup.drain import shipped
from tests.unit.setup.conftest import MemoryHost, set_up

DROP_IN = Path("/etc/systemd/system/nginx.service.d/s3sync.conf")
DONE = ("done", "let nginx finish running requests before it stops")


def test_nginx_is_told_to_finish_before_it_stops_and_is_not_restarted_for_that(host: MemoryHost) -> None:
    assert DONE in set_up(host)
    assert host.files[DROP_IN] == shipped()
    assert DROP_IN.parent in host.directories
    assert "systemctl daemon-reload" in host.ran
    assert {command for command in host.ran if command.endswith(" nginx.service")} <= {
        "systemctl enable --now nginx.service",
        "systemctl try-reload-or-restart nginx.service",
    }


def test_the_drop_in_stops_gracefully_whatever_the_distributions_unit_says() -> None:
    parser = ConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string(shipped().decode())
    assert dict(parser["Service"]) == {
        "ExecStop": "",  # takes Debian's away
        "KillSignal": "SIGQUIT",
        "KillMode": "mixed",
        "TimeoutStopSec": "30",
    }


def test_an_older_drop_in_is_replaced(host: MemoryHost) -> None:
    set_up(host)
    host.files[DROP_IN] = b"[Service]\nTimeoutStopSec=1\n"
    assert DONE in set_up(host)
    assert host.files[DROP_IN] == shipped()


def test_a_drop_in_that_systemd_has_not_read_again_is_loaded(host: MemoryHost) -> None:
    set_up(host)
    host.stale = {"nginx.service"}
    host.ran = []
    assert DONE in set_up(host)
    assert host.ran == ["systemctl daemon-reload"]


def test_removing_leaves_what_others_put_beside_it(host: MemoryHost) -> None:
    theirs = DROP_IN.with_name("theirs.conf")
    host.files[theirs] = b"[Service]\n"
    set_up(host)
    host.ran = []
    set_up(host, remove=True)
    assert DROP_IN not in host.files
    assert theirs in host.files
    assert DROP_IN.parent in host.directories
    assert "systemctl daemon-reload" in host.ran
