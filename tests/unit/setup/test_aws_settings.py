from __future__ import annotations

from pathlib import Path

import pytest

from s3sync_agent.errors import ConfigError
from s3sync_agent.setup.aws_settings import AwsSettings
from s3sync_agent.setup.steps import shipped_unit
from tests.unit.setup.conftest import SERVICE, MemoryHost, set_up

PATH = Path("/etc/s3sync-agent/environment")

ELSEWHERE = AwsSettings(region="us-east-1", endpoint_url="http://10.77.0.1:8633")


def values(host: MemoryHost) -> list[str]:
    return [line for line in host.files[PATH].decode().splitlines() if not line.startswith("#")]


def test_region_and_endpoint_are_written_where_the_unit_reads_them(host: MemoryHost) -> None:
    set_up(host, aws=ELSEWHERE)
    assert values(host) == ["AWS_DEFAULT_REGION=us-east-1", "AWS_ENDPOINT_URL=http://10.77.0.1:8633"]
    assert f"\nEnvironmentFile=-{PATH}\n".encode() in shipped_unit(SERVICE)


def test_without_any_nothing_is_written(host: MemoryHost) -> None:
    assert ("ok", "the AWS settings are the SDK's own") in set_up(host, aws=AwsSettings())
    assert PATH not in host.files


def test_a_service_that_ran_without_them_starts_again(host: MemoryHost) -> None:
    set_up(host, aws=AwsSettings())
    host.ran = []
    assert ("done", f"write {PATH}") in set_up(host, aws=ELSEWHERE)
    assert host.ran == [f"systemctl try-restart --no-block {SERVICE}"]


@pytest.mark.parametrize("theirs", ["AWS_PROFILE=web\n", "\xff=\n", "AWS_DEFAULT_REGION=$(reboot)\n", ""])
def test_somebodys_own_settings_are_kept_and_a_difference_is_told(host: MemoryHost, theirs: str) -> None:
    host.files[PATH] = theirs.encode("latin-1")
    assert ("ok", f"{PATH} is kept as it is; it says something else than the options") in set_up(host)
    assert ("ok", f"{PATH} is kept as it is") in set_up(host, aws=AwsSettings())
    set_up(host, remove=True)
    assert host.files[PATH] == theirs.encode("latin-1"), "what an operator wrote is not setup's to remove"


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "eu central"},
        {"region": "eu\nX=1"},
        {"endpoint_url": "10.0.0.1:80"},
        {"endpoint_url": "http://a b"},
        {"endpoint_url": "https://x\nLD_PRELOAD=/tmp/x"},
        {"endpoint_url": 'https://x"'},
    ],
)
def test_what_would_not_be_read_as_it_was_meant_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        AwsSettings(**wrong)
    assert refused.value.hint
