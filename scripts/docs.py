"""Write the pages of docs/ that are tables of the code: configuration, events, metrics, states.

    .venv/bin/python scripts/docs.py

tests/unit/test_docs.py fails when a page is not what this would write.
"""

from __future__ import annotations

from pathlib import Path

from s3sync_agent.events import EVENTS
from s3sync_agent.fields import FIELDS, REQUIRED, Field
from s3sync_agent.machine import TRANSITIONS, State, Step
from s3sync_agent.metrics.table import METRICS, Metric

DOCS = Path(__file__).resolve().parent.parent / "docs"
_MADE = "<!-- Made by scripts/docs.py from {}; change it there. -->"

# ---------------------------------------------------------------------- configuration

_CONFIGURATION = """\
# Configuration of the agent

One agent serves one site. `site` is the only setting that has no default.

## Where settings come from

Later wins:

1. the defaults below
2. `/etc/s3sync-agent/config.toml`, or the file named by `--config`
3. `config.d/*.toml` beside that file, in the order of their names
4. the environment: `S3SYNC_` and the name in capitals, for example `S3SYNC_POLL_INTERVAL`

```toml
# /etc/s3sync-agent/config.toml
site = "s3://my-bucket/my-site"
source = "pointer"
poll_interval = 5
```

Files are TOML without sections. Credentials, region and endpoint are the AWS SDK's own business: an instance
role, `AWS_PROFILE`, `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL` and so on.

`s3sync-agent check-config` shows what is in force and which files were read. A setting that does not exist, a
value that means nothing, a file that cannot be read: all faults are reported together, each with its place,
and the agent does not start. A running agent reads its settings again on SIGHUP and when a file changes; with
faults in them it keeps the old ones and says so (`config.refused`).

## Settings

| setting | takes | default | |
|---|---|---|---|
"""


def configuration() -> str:
    rows = "".join(f"| `{f.name}` | {f.takes} | {_default(f)} | {f.doc} |\n" for f in FIELDS)
    return f"{_MADE.format('fields.FIELDS')}\n{_CONFIGURATION}{rows}"


def _default(field: Field) -> str:
    if field.default is REQUIRED:
        return "**required**"
    if field.default is None:
        return "see there"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple):
        return f"`{','.join(field.default)}`"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


# ----------------------------------------------------------------------------- events

_EVENTS = """\
# Events

What the agent writes to its log: one line for each change of state, none for an idle poll. Under systemd a
line is a JSON object; `event`, `level` and `timestamp` (UTC) are always there, and the fields below. On a
terminal it is text (`log_format`). Names and fields are stable: filter and alarm on them.

`error` is the type of an error, `message` what happened to what, `hint` what to do next. `release` is a
release's directory, `<version>-<12 digits of its manifest's SHA-256>`. Durations are seconds.

```
journalctl -u s3sync-agent -o cat | jq 'select(.event == "activate.done")'
```

| event | level | fields | |
|---|---|---|---|
"""


def events() -> str:
    rows = "".join(
        f"| `{item.name}` | {item.level} | {' '.join(f'`{name}`' for name in item.fields)} | {item.doc} |\n"
        for item in EVENTS
    )
    return f"{_MADE.format('events.EVENTS')}\n{_EVENTS}{rows}"


# ---------------------------------------------------------------------------- metrics

_METRICS = """\
# Metrics

The numbers of one instance. They are counted from the events the agent reports ([events](events.md)), so the
log, `s3sync-agent status --json` and these pages of numbers cannot disagree; only polls are counted apart,
because an idle one is no event. Counters begin at 0 with the agent. Nothing is exported unless it is set, and
what cannot be exported never keeps a site from being served: it is one event, `metrics.failed`, and one more
when it works again.

## Prometheus

Asked over HTTP, by a Prometheus (or an agent of one) on the same machine:

```toml
metrics_listen = "127.0.0.1:9151"
```

Only loopback addresses: who wants the numbers elsewhere puts something in front that knows who may ask. Any
path answers. A client has 5 s, eight are served at once, and when there are more, the one that has been there
longest is cut off.

Or through node_exporter, which reads files:

```toml
metrics_textfile = "/run/s3sync-agent/s3sync.prom"
```

The agent's unit may write nothing but `/run/s3sync-agent` and `/var/lib/s3sync-agent`, so node_exporter has
to look there: `--collector.textfile.directory=/run/s3sync-agent`. The flag takes one directory or a glob,
and since its pull request 3135 (2024) it can be given several times. Where an older node_exporter reads
another directory already, a link there does it (`ln -s /run/s3sync-agent/s3sync.prom .`): it asks for
nothing but a name that ends in `.prom`. The file is replaced at every change and every 15 s, everybody may
read it, and it is removed when the agent ends. `node_textfile_mtime_seconds` tells the age of one whose
agent was killed.

Every metric has the label `site`. Several sites on a machine need a `metrics_listen` with a port each, or a
file each; the labels keep them apart.

Rules to begin with:

```yaml
groups:
  - name: s3sync
    rules:
      - alert: SiteIsBehind            # something else is wanted than is served
        expr: s3sync_behind_seconds > 120
      - alert: SiteIsStale             # S3 does not answer; the site stays up
        expr: s3sync_stale == 1
        for: 5m
      - alert: InstancesDisagree       # some do not see the newest pointer
        expr: max by (site) (s3sync_sequence) != min by (site) (s3sync_sequence)
        for: 2m
      - alert: FilesDriftAndStayWrong
        expr: increase(s3sync_drift_failed_total[15m]) > 0
      - alert: AgentIsGone             # with node_exporter: absent(s3sync_info), or a file that got old
        expr: up{job="s3sync"} == 0 or time() - node_textfile_mtime_seconds{file=~".*s3sync.prom"} > 60
        for: 2m
```

## CloudWatch

```toml
cloudwatch_namespace = "s3sync"
```

One `PutMetricData` when the agent begins and every minute from then on, with one dimension, `Group`
(`cloudwatch_group`). No dimension names the instance, so what it costs does not grow with the fleet; the
statistics tell what matters of many:

| question | statistic |
|---|---|
| How far is the last one behind? | `Maximum` of `BehindSeconds` |
| Do all see the same pointer? | `Minimum` and `Maximum` of `Sequence` are equal |
| How many are alive? | `SampleCount` of `Alive` in 5 minutes, by 5; missing is breaching for its alarm |
| How many releases went live on how many? | `Sum` of `Activations` |

Counters are sent as what was added since the last success; when an answer is lost, that counts twice. How
long something took is sent when it has happened again. The role needs `cloudwatch:PutMetricData`, best with
the condition `cloudwatch:namespace`. What is relied on is listed in [AWS](aws.md).

## All of them

The kind is that of Prometheus.

| metric | kind | labels | CloudWatch | |
|---|---|---|---|---|
"""


def metrics() -> str:
    return f"{_MADE.format('metrics.table.METRICS')}\n{_METRICS}{''.join(map(_metric, METRICS))}"


def _metric(metric: Metric) -> str:
    labels = " ".join(f"`{label}`" for label in metric.labels)
    sent = f"`{metric.cloudwatch}`" if metric.cloudwatch else ""
    return f"| `{metric.name}` | {metric.kind} | {labels} | {sent} | {metric.doc} |\n"


# ----------------------------------------------------------------------------- states

_STATES = {
    State.WAITING: "There is nothing to serve yet.",
    State.STEADY: "What is live is what should be.",
    State.STAGING: "A release is being brought onto the disk; the one before is served.",
    State.STAGED: "A release is on the disk, verified, its hooks asked, and waits for its instant.",
    State.ACTIVATING: "The link is swapped, and the probe has not answered yet.",
    State.FALLBACK: "This instance denies the active promotion and serves the release before.",
    State.HELD: "`current/` is not something to take; what is live stays.",
}
_STEPS = {
    Step.STAGE: "a download begins",
    Step.STAGED: "what is prepared, or due at an instant, is on the disk and ready",
    Step.ACTIVATE: "the link is about to be swapped",
    Step.SERVE: "what is live is what should be, and the probe found it good",
    Step.WAIT: "there is nothing to serve yet",
    Step.HOLD: "`current/` is not something to take",
    Step.FALL_BACK: "the probe failed, or a hook said no; again as long as that promotion is active",
}

_INTRO = """\
# States

What an agent is doing, in the words of `s3sync-agent status`, the log and the fleet. Whether S3 answers is
another question: the flag `stale` is raised when it has not for a while, whatever the state.

A tick may begin work and ends in steady, staged, waiting, held or fallback, whatever the tick before ended
in, but for what cannot follow: only who has served something can fall back, and who waits for an instant
follows a pointer, which holds no `current/`. A tick that fails makes no step: the state stays what it was
when it failed. So most steps are possible everywhere, and are drawn once:

"""


def states() -> str:
    rows = list(TRANSITIONS.values())
    shared = {step: state for step, state in rows[0].items() if all(row.get(step) is state for row in rows)}
    drawing = [
        "```mermaid",
        "stateDiagram-v2",
        "    direction LR",
        '    state "any state" as any',
        f"    [*] --> {State.WAITING.value}",
        *(f"    any --> {state.value}: {step.value}" for step, state in shared.items()),
        *(
            f"    {state.value} --> {after.value}: {step.value}"
            for state, row in TRANSITIONS.items()
            for step, after in row.items()
            if step not in shared
        ),
        "```",
    ]
    state_rows = [f"| {state.value} | {_STATES[state]} |" for state in State]
    step_rows = [f"| {step.value} | {_STEPS[step]} | {_from(step, shared)} | {_to(step)} |" for step in Step]
    return "\n".join(
        [
            _MADE.format("machine.TRANSITIONS"),
            _INTRO + "\n".join(drawing),
            "",
            "| state | |",
            "|---|---|",
            *state_rows,
            "",
            "| step | when | from | to |",
            "|---|---|---|---|",
            *step_rows,
            "",
        ]
    )


def _from(step: Step, shared: dict[Step, State]) -> str:
    if step in shared:
        return "any"
    return ", ".join(state.value for state, row in TRANSITIONS.items() if step in row)


def _to(step: Step) -> str:
    return ", ".join(sorted({row[step].value for row in TRANSITIONS.values() if step in row}))


PAGES = {
    "configuration.md": configuration,
    "events.md": events,
    "metrics.md": metrics,
    "states.md": states,
}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
