"""The metrics in the words of Prometheus, through its own library. Each says which site it is about.

A registry of our own: the library's default one adds figures of Python that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from s3sync_agent.metrics.table import METRICS, Read


def registry(read: Read) -> CollectorRegistry:
    """Asks `read` for the status whenever it is asked itself."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_StatusCollector(read))
    return made


class _StatusCollector(Collector):
    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        status = self._read()
        for metric in METRICS:
            # The library adds the ending of a counter to its family's name itself.
            family = Metric(metric.name.removesuffix("_total"), metric.doc, metric.kind)
            for labels, value in metric.samples(status):
                family.add_sample(metric.name, {"site": status.site, **labels}, value)
            yield family
