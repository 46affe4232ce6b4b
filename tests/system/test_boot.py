"""What the harness promises: real machines, a real cloud-init, a metadata service like EC2's."""

from __future__ import annotations

import pytest

from tests.system.fleet import Fleet
from tests.system.machine import Machine
from tests.system.metadata import Metadata, instance_id

USER_DATA = """\
#!/bin/bash
echo "user data ran on $(cat /sys/class/net/eth0/operstate) eth0 as $(whoami)" > /root/marker
"""


@pytest.fixture(scope="module")
def machine(fleet: Fleet) -> Machine:
    return fleet.boot(user_data=USER_DATA)


def test_a_machine_boots_to_running_under_a_real_systemd(machine: Machine) -> None:
    assert machine.run("cat /proc/1/comm").stdout == "systemd\n"
    assert machine.run("systemctl is-system-running").stdout == "running\n"
    assert machine.run("hostname").stdout.strip()


def test_cloud_init_runs_the_user_data_it_gets_from_the_metadata_service(
    machine: Machine, metadata_service: Metadata
) -> None:
    status = machine.run("cloud-init status --wait --long").stdout
    assert "status: done" in status
    assert machine.run("cat /root/marker").stdout == "user data ran on up eth0 as root\n"
    assert "DataSourceEc2" in status
    assert machine.run("cloud-init query instance_id").stdout.strip() == instance_id(machine.address)
    assert any("user-data" in asked.path for asked in metadata_service.asked)


def test_the_metadata_service_answers_the_latest_version_only_with_a_token(machine: Machine) -> None:
    get = "curl --silent --show-error --max-time 5"
    document = "http://169.254.169.254/latest/dynamic/instance-identity/document"
    refused = machine.run(f"{get} --output /dev/null --write-out '%{{http_code}}' {document}")
    assert refused.stdout == "401"
    token = "$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)"
    answer = machine.run(f'{get} --fail -H "X-aws-ec2-metadata-token: {token}" {document}')
    assert instance_id(machine.address) in answer.stdout


def test_a_machine_keeps_its_disk_over_a_reboot_and_a_power_cut(machine: Machine) -> None:
    first = machine.run("cat /proc/sys/kernel/random/boot_id /etc/machine-id").stdout
    machine.run("echo kept > /root/kept")
    print(f"\nreboot: {machine.reboot():.2f} s")
    assert machine.run("cat /root/kept").stdout == "kept\n"
    machine.power_cut()
    with pytest.raises(OSError, match=r"No route to host|timed out|refused"):
        machine.http("/")
    print(f"boot after a power cut: {machine.start():.2f} s")
    assert machine.run("cat /root/kept").stdout == "kept\n"
    assert machine.run("cat /etc/machine-id").stdout in first


def test_two_machines_are_two(fleet: Fleet, machine: Machine) -> None:
    other = fleet.boot()
    assert other.address != machine.address
    assert other.run("test -e /root/marker", check=False).returncode == 1
    assert other.run(f"curl -s -o /dev/null --max-time 5 http://{machine.address}/").returncode == 0
