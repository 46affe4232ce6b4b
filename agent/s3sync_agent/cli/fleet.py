"""`s3sync fleet`: every instance, as its heartbeat says and as S3 saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from s3sync_agent import clock
from s3sync_agent.bucket import Bucket
from s3sync_agent.cli import render
from s3sync_agent.cli.console import show_warning
from s3sync_agent.cli.fleet_options import Percent
from s3sync_agent.cli.site import as_json, on_site
from s3sync_agent.errors import ReleaseRefused, StoreUnavailable
from s3sync_agent.layout import Site

if TYPE_CHECKING:  # commands import what they do when they do it: --help answers at once
    from s3sync_agent.pointer import Pointer
    from s3sync_agent.sightings import Fleet

WATCH_EVERY = 1.0  # seconds


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again until Ctrl-C.")
@click.option(
    "--would",
    "percent",
    type=Percent(),
    metavar="PERCENT",
    help="Which instances would take the prepared, or else the active, promotion at that share.",
)
@as_json
@on_site
def fleet(bucket: Bucket, site: Site, *, watch: bool, percent: int | None, as_json: bool) -> None:
    """Every instance: what it serves, what it should, why they differ, and when it was heard of last.

    `silent` has missed three heartbeats: nobody knows how it is. `stale` says that it cannot reach S3.
    """
    from s3sync_agent.deploy.fleet import FleetReader  # noqa: PLC0415

    reader = FleetReader(bucket, site)
    time = clock.SystemClock()
    while True:
        try:
            found = reader.look()
            pointer = _pointer(bucket, site) if percent is not None else None
        except StoreUnavailable as error:  # what is on the screen stays, and says how old it is
            if not watch:
                raise
            show_warning(f"{error}; trying again")
        else:
            if watch and not as_json:
                click.clear()
            _show(found, pointer, percent, as_json=as_json)
        if not watch:
            return
        time.sleep(WATCH_EVERY)


def _show(fleet: Fleet, pointer: Pointer | None, percent: int | None, *, as_json: bool) -> None:
    if as_json:
        render.print_json(_documents(fleet, pointer, percent))
        return
    _print(fleet)
    if pointer is not None and percent is not None:
        click.echo(_would(fleet, pointer, percent))


def _print(fleet: Fleet) -> None:
    from s3sync_agent.cli import fleet_table  # noqa: PLC0415

    if fleet:
        columns, rows = fleet_table.table(fleet)
        render.print_table(columns, rows, right=fleet_table.RIGHT)
    click.echo(fleet_table.summary(fleet))


def _pointer(bucket: Bucket, site: Site) -> Pointer:
    from s3sync_agent.deploy.releases import read_pointer  # noqa: PLC0415

    found = read_pointer(bucket, site)
    if found is None:
        raise ReleaseRefused(f"there is no pointer in {site.url}: nothing was promoted yet")
    return found[0].pointer


def _would(fleet: Fleet, pointer: Pointer, percent: int) -> str:
    from s3sync_agent import gate  # noqa: PLC0415
    from s3sync_agent.sightings import named  # noqa: PLC0415

    ref = pointer.prepare or pointer.active
    takes = gate.takers(fleet, pointer, percent, ref.promotion_id)
    return f"at {percent} % these take {ref.version}: {', '.join(named(takes)) or 'nobody'}"


def _documents(fleet: Fleet, pointer: Pointer | None, percent: int | None) -> list[dict[str, object]]:
    import msgspec  # noqa: PLC0415

    from s3sync_agent import gate  # noqa: PLC0415
    from s3sync_agent.pointer import format_time  # noqa: PLC0415

    def seen(written_at: float) -> dict[str, object]:
        return {"seen_at": format_time(written_at), "seen_seconds_ago": round(fleet.now - written_at, 1)}

    documents: list[dict[str, object]] = []
    for sighting in fleet.sightings:
        silent = fleet.silent(sighting)
        document: dict[str, object] = msgspec.to_builtins(sighting.beat)
        # Nobody knows whether a silent one is up to date: that is what `stale` means to whoever asks.
        document |= seen(sighting.written_at) | {"silent": silent, "stale": sighting.beat.stale or silent}
        documents.append(document)
    documents += [
        {"identity": item.identity, "state": "unreadable", "because": item.fault}
        | seen(item.written_at)
        | {"silent": fleet.silent(item), "stale": True}
        for item in fleet.unreadable
    ]
    if pointer is not None and percent is not None:
        promotion_id = (pointer.prepare or pointer.active).promotion_id
        takes = {beat.identity for beat in gate.takers(fleet, pointer, percent, promotion_id)}
        for document in documents:
            document["takes"] = document["identity"] in takes
    return documents
