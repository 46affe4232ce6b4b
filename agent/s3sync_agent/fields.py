"""Every setting: how it is read, what it is without, and what it is for.

The only list of them. docs/configuration.md is made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s3sync_agent import layout, values


@dataclass(frozen=True, slots=True)
class Field:
    """One setting: how to read it, what it is without, and its line in the documentation.

    `parse` receives a string or a TOML value and raises ValueError with a reason.
    """

    name: str
    parse: Callable[[object], object]
    default: object
    takes: str
    doc: str


REQUIRED = object()

FIELDS: tuple[Field, ...] = (
    Field("site", values.site, REQUIRED, "s3://bucket[/prefix]", "The site this agent serves."),
    Field(
        "source",
        values.one_of("auto", "pointer", "plain"),
        "auto",
        "auto, pointer or plain",
        "Follow the pointer only, the bare files in `current/` only, or the pointer as soon as there is "
        "one. Once a pointer was accepted, `auto` never goes back to bare files.",
    ),
    Field(
        "state_dir",
        values.path,
        layout.DEFAULT_STATE_DIR,
        "path",
        "Releases, links and state. One file system, readable by nginx, written by the agent alone.",
    ),
    Field(
        "run_dir",
        values.path,
        None,
        "path",
        "Where `status.json` and `healthy` are. Default: `/run/s3sync-agent`, or `run` in the state "
        "directory when that is not the default one.",
    ),
    Field(
        "identity",
        values.identity,
        None,
        "text",
        "What this instance is called in the fleet and in a rollout; no two may have the same. On EC2 "
        "`<role id>:<instance id>`, for its role may write no other heartbeat: user data sees to that. "
        "Default: the host name.",
    ),
    Field(
        "poll_interval",
        values.seconds(0.2, 3600),
        5.0,
        "seconds",
        "How often the pointer is asked for; ± 10 % so that a fleet does not ask in step.",
    ),
    Field(
        "plain_interval",
        values.seconds(0.2, 3600),
        15.0,
        "seconds",
        "How often `current/` is listed in plain mode; a listing costs twelve times a GET.",
    ),
    Field(
        "plain_settle",
        values.seconds(0, 3600),
        10.0,
        "seconds",
        "How long `current/` has to be unchanged before plain mode takes it.",
    ),
    Field(
        "keep_releases",
        values.count(1, 100),
        3,
        "1 to 100",
        "Releases kept on disk. What is live, previous or named by the pointer is never pruned.",
    ),
    Field(
        "asset_retention",
        values.seconds(0, 31 * 86400),
        86400.0,
        "seconds",
        "How long the immutable files of a pruned release can still be fetched, at least; those of the "
        "newest `keep_releases` always can.",
    ),
    Field(
        "drift",
        values.one_of("heal", "report", "off"),
        "heal",
        "heal, report or off",
        "What to do when a served file is not what its manifest says.",
    ),
    Field(
        "scrub_interval",
        values.seconds(60, 31 * 86400),
        86400.0,
        "seconds",
        "How often everything that is served is hashed again.",
    ),
    Field(
        "probe_url",
        values.local_url,
        None,
        "http://address:port",
        "The nginx of this machine, at a loopback address, which is asked whether what is live works. A "
        "release that it answers wrongly about, and did not before the swap, is taken back. Default: nobody "
        "is asked; `setup` writes the port that it gives nginx.",
    ),
    Field(
        "probe_host",
        values.host,
        None,
        "host name",
        "The name that visitors use, for an nginx with several sites. Default: the address in `probe_url`.",
    ),
    Field(
        "probe_paths",
        values.url_paths,
        ("/",),
        "paths",
        "What is asked for; 200 is right, and nothing else. At most 10, and 0.8 s for all together. A list, "
        "or a text with commas.",
    ),
    Field(
        "hooks_dir",
        values.path,
        None,
        "path",
        "Where [hooks](hooks.md) are. Default: `hooks.d` beside the configuration file.",
    ),
    Field(
        "hook_timeout",
        values.seconds(1, 600),
        60.0,
        "seconds",
        "How long one hook may take; then it is killed.",
    ),
    Field(
        "canary",
        values.yes_or_no,
        False,
        "true or false",
        "Take part in every rollout, whatever its percentage.",
    ),
    Field(
        "heartbeat_interval",
        values.seconds_or_off(1, 3600),
        60.0,
        "seconds",
        "How often the [heartbeat](contract.md#heartbeat) is written when nothing changes; after three times "
        "as long an instance counts as silent. 0: never, and not after changes either; then no promotion "
        "waits for this instance.",
    ),
    Field(
        "log_format",
        values.one_of("auto", "json", "console"),
        "auto",
        "auto, json or console",
        "JSON lines or text for people; `auto` is text on a terminal and JSON elsewhere.",
    ),
    Field(
        "metrics_textfile",
        values.textfile,
        None,
        "path",
        "Write [metrics](metrics.md) to this file for node_exporter, `/run/s3sync-agent/s3sync.prom` for "
        "example. Default: none are written.",
    ),
    Field(
        "metrics_listen",
        values.loopback,
        None,
        "address:port",
        "Answer Prometheus there, `127.0.0.1:9151` for example. Loopback addresses only. Default: nobody "
        "listens.",
    ),
    Field(
        "cloudwatch_namespace",
        values.namespace,
        None,
        "text",
        "Send metrics to CloudWatch under this namespace, once a minute. Default, and when empty: none are "
        "sent.",
    ),
    Field(
        "cloudwatch_group",
        values.group,
        None,
        "text",
        "The dimension `Group` there, the same on all instances that are watched as one. Default: the site "
        "without `s3://`.",
    ),
)
