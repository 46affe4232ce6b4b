"""The status of an agent that serves what it should."""

from __future__ import annotations

from s3sync_agent.counts import Counts
from s3sync_agent.report import Problem, Status

STATUS = Status(
    version="1.0",
    pid=7,
    site="s3://bucket/site",
    identity="i-1",
    source="pointer",
    state="steady",
    stale=False,
    serving="v1-1a2b3c4d5e6f",
    serving_since="2026-11-22T18:15:07.000Z",
    wanted="v1-1a2b3c4d5e6f",
    behind_seconds=0.0,
    because="",
    sequence=7,
    staged=("v1-1a2b3c4d5e6f",),
    polled_at="2026-11-22T18:15:07.000Z",
    activate_at="",
    clock_offset=0.0,
    problem=Problem("StoreDenied", "no", "ask"),
    healthy=True,
    counts=Counts(polls=3, stages=1, staged_bytes=4096, last_stage_seconds=1.5, activations=1),
)
