"""The text that Prometheus and node_exporter read, read back by the library's own parsers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample

from s3sync_agent.errors import MetricsNotTaken
from s3sync_agent.metrics import textfile
from s3sync_agent.metrics.prometheus import registry
from s3sync_agent.metrics.table import METRICS
from s3sync_agent.metrics.textfile import TextFile
from tests.statuses import STATUS


def samples(text: str) -> list[Sample]:
    return [sample for family in parse(text) for sample in family.samples]


def test_every_metric_stands_there_with_its_kind_its_meaning_and_its_values() -> None:
    text = generate_latest(registry(lambda: STATUS)).decode()
    families = {family.name: family for family in parse(text)}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.doc)
        found = [(sample.name, sample.labels, sample.value) for sample in family.samples]
        expected = metric.samples(STATUS)
        assert found == [(metric.name, {"site": STATUS.site} | labels, number) for labels, number in expected]
    assert len(families) == len(METRICS)


def test_it_is_good_openmetrics_too() -> None:
    # That part of the library has no types.
    text = generate_openmetrics(registry(lambda: STATUS)).decode()  # type: ignore[no-untyped-call]
    assert len(list(parse_openmetrics(text))) == len(METRICS)  # type: ignore[no-untyped-call]


def test_the_status_is_asked_for_when_somebody_asks() -> None:
    now = [STATUS]
    made = registry(lambda: now[0])
    now[0] = msgspec.structs.replace(STATUS, behind_seconds=42.0)
    text = generate_latest(made).decode()
    assert [s.value for s in samples(text) if s.name == "s3sync_behind_seconds"] == [42.0]


def test_a_name_with_odd_characters_forges_no_line() -> None:
    odd = msgspec.structs.replace(STATUS, identity='a"b\\c\nd 1\n')
    text = generate_latest(registry(lambda: odd)).decode()
    info = next(s for s in samples(text) if s.name == "s3sync_info")
    assert info.labels["identity"] == odd.identity
    assert len(samples(text)) == len(samples(generate_latest(registry(lambda: STATUS)).decode()))


def test_nothing_of_an_error_is_told_because_it_may_quote_anything() -> None:
    text = generate_latest(registry(lambda: STATUS)).decode()
    assert STATUS.problem is not None
    assert STATUS.problem.error not in text


# ------------------------------------------------------------------------------- the file


def test_the_file_is_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s3sync.prom"
    TextFile(path, lambda: STATUS).export()
    assert path.read_bytes() == generate_latest(registry(lambda: STATUS))
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_gone_with_the_agent(tmp_path: Path) -> None:
    exporter = TextFile(tmp_path / "s3sync.prom", lambda: STATUS)
    exporter.export()
    exporter.close()
    assert list(tmp_path.iterdir()) == []
    exporter.close()


def test_a_file_that_cannot_be_written_says_which_and_why(tmp_path: Path) -> None:
    path = tmp_path / "s3sync.prom"
    path.mkdir()
    with pytest.raises(MetricsNotTaken, match=r"s3sync\.prom: Is a directory"):
        TextFile(path, lambda: STATUS).export()


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s3sync.prom"
    exporter = TextFile(path, lambda: STATUS)
    exporter.export()
    before = path.read_bytes()
    replaced = []

    def replace(target: Path, data: bytes) -> None:
        replaced.append((target.read_bytes(), data))

    monkeypatch.setattr(textfile, "replace", replace)
    exporter.export()
    assert replaced == [(before, before)]
