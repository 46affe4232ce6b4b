"""A fleet behind a balancer that moves as one, while an audience checks every answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import s3
from tests.system.audience import watching
from tests.system.balancer import Balancer, balancing
from tests.system.content import content
from tests.system.fleet import Fleet
from tests.system.group import Group
from tests.system.network import Hub
from tests.system.site import Site

ROLE_ID = "AROAEXAMPLEEXAMPLEXXX"
OFTEN = {"/etc/s3sync-agent/config.d/often.toml": "poll_interval = 0.2\n"}
V1, V2 = content("v1"), content("v2")


@pytest.fixture(scope="module")
def balancer(hub: Hub, work: Path) -> Iterator[Balancer]:
    with balancing(hub, work / "balancer") as found:
        yield found


@pytest.fixture(scope="module")
def shop(hub: Hub, s3_server: s3.S3, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(f"s3://{s3.BUCKET}/shop", tmp_path_factory.mktemp("site"), hub)
    for each in (V1, V2):
        site.publish(each.write(tmp_path_factory.mktemp(each.version)), each.version)
    return site


@pytest.fixture(scope="module")
def group(fleet: Fleet, balancer: Balancer, shop: Site, bundle: Path) -> Group:
    shop.promote("v1")
    group = Group(fleet, balancer, shop.user_data(bundle, role_id=ROLE_ID), ROLE_ID, OFTEN)
    group.scale_out(3)
    print(f"\nthree instances healthy after {group.await_healthy():.1f} s")
    return group


def test_all_serve(group: Group, shop: Site, hub: Hub) -> None:
    import time
    with watching(hub, group.balancer.address, (V1, V2), "smoke") as seen:
        t=time.monotonic()
        time.sleep(2)
        shop.promote("v2")
        try:
            group.machines[0].wait_until(lambda: len(seen.first_seen("v2")) == 3, "for v2", seconds=8)
        except AssertionError:
            print(seen.first_seen("v2"), seen.last_seen("v1"), group.balancer._targets())
            for m in group.machines: print(m.journal("s3sync-agent")[-1500:])
            raise
        print(group.balancer.unhealthy(), seen.first_seen("v2"), seen.last_seen("v1"))
        new = group.scale_out(1)
        print(group.balancer.healthy(), group.balancer.unhealthy())
        print(f"{group.await_healthy():.1f}")
        time.sleep(1)
        group.terminate(group.machines[0])
        time.sleep(1)
        print(group.balancer.unhealthy())
        group.lose(group.machines[0])
        time.sleep(3)
        print(group.balancer.unhealthy(), group.balancer.healthy())
        print(seen.served_by(new[0].address), seen.total/(time.monotonic()-t), time.process_time())
    assert seen.not_200 == []
    assert seen.mixtures == []
