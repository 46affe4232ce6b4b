"""How exposed the services are, by systemd's own measure: 0 is nothing, 10 is everything."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from s3sync_agent.layout import MachinePaths
from s3sync_agent.setup.steps import shipped_unit

MOST_EXPOSED = 1.5


@pytest.mark.parametrize("paths", [MachinePaths(), MachinePaths("blog-2")], ids=["one site", "several"])
def test_a_service_is_exposed_as_little_as_can_be(tmp_path: Path, paths: MachinePaths) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd on this machine")
    unit = tmp_path / paths.service
    unit.write_bytes(shipped_unit(paths.unit.name))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    verdict = re.search(r"Overall exposure level for (\S+): ([0-9.]+)", done.stdout)
    assert verdict, done.stdout + done.stderr
    assert verdict[1] == paths.service
    assert float(verdict[2]) <= MOST_EXPOSED, done.stdout
