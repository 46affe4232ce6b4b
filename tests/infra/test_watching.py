"""Alarms and dashboard: about metrics that exist, heard by somebody, and right when nothing is heard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s3sync_agent.metrics.table import METRICS
from tests.infra.given import EVERYTHING, bundle
from tests.infra.parts import boot_script
from tests.infra.template import Resource, Stack, Template

AGENTS = "s3sync-agent/site"
BALANCER = "AWS/ApplicationELB"
SENT = {metric.cloudwatch: metric for metric in METRICS if metric.cloudwatch}

# Alarm: its metric, what of it counts, and what silence means.
ALARMS = {
    "BalancerErrors": (BALANCER, "HTTPCode_ELB_5XX_Count", "Sum", "notBreaching"),
    "InstanceErrors": (BALANCER, "HTTPCode_Target_5XX_Count", "Sum", "notBreaching"),
    "UnhealthyInstances": (BALANCER, "UnHealthyHostCount", "Maximum", "notBreaching"),
    "RejectedConnections": (BALANCER, "RejectedConnectionCount", "Sum", "notBreaching"),
    "AgentsSilent": (AGENTS, "Alive", "SampleCount", "breaching"),
    "SiteBehind": (AGENTS, "BehindSeconds", "Maximum", "notBreaching"),
    "SiteStale": (AGENTS, "Stale", "Maximum", "notBreaching"),
    "StagingFails": (AGENTS, "StageFailures", "Sum", "notBreaching"),
    "ActivationFails": (AGENTS, "ActivationFailures", "Sum", "notBreaching"),
    "DriftStays": (AGENTS, "DriftFailed", "Sum", "notBreaching"),
}


def alarms(stack: Stack, namespace: str = "") -> dict[str, Resource]:
    return {
        name: alarm
        for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items()
        if namespace in alarm.properties["Namespace"]
    }


def dimensions(alarm: Resource) -> dict[str, str]:
    return {one["Name"]: one["Value"] for one in alarm.properties["Dimensions"]}


def plotted(stack: Stack) -> list[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of every metric on the dashboard, its abbreviations spelled out."""
    found = []
    for widget in json.loads(stack.resources["Dashboard"].properties["DashboardBody"])["widgets"]:
        before: list[str] = []
        for line in widget["properties"]["metrics"]:
            words = [word for word in line if isinstance(word, str)]
            if words[0] == "...":
                words = [*before[: len(before) - len(words) + 1], *words[1:]]
            words = [before[i] if word == "." else word for i, word in enumerate(words)]
            before = words
            found.append((words[0], words[1], dict(zip(words[2::2], words[3::2], strict=True))))
    return found


def test_the_alarms_are_these(template: Template) -> None:
    found = {
        name: tuple(
            alarm.properties[key] for key in ("Namespace", "MetricName", "Statistic", "TreatMissingData")
        )
        for name, alarm in alarms(template.stack(**EVERYTHING)).items()
    }
    assert found == ALARMS


def test_they_go_off_at_this_value_after_so_many_seconds(template: Template) -> None:
    keys = ("Threshold", "Period", "EvaluationPeriods")
    found = {
        name: tuple(int(alarm.properties[key]) for key in keys)
        for name, alarm in alarms(template.stack(**EVERYTHING, MinInstances="2")).items()
    }
    assert found == {
        "BalancerErrors": (10, 60, 3),
        "InstanceErrors": (10, 60, 3),
        "UnhealthyInstances": (1, 60, 10),
        "RejectedConnections": (1, 60, 3),
        "AgentsSilent": (2, 60, 5),
        "SiteBehind": (300, 60, 3),
        "SiteStale": (1, 60, 5),
        "StagingFails": (1, 300, 1),
        "ActivationFails": (1, 300, 1),
        "DriftStays": (1, 300, 1),
    }


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_heard_when_it_begins_and_when_it_ends(template: Template, name: str) -> None:
    stack = template.stack(**EVERYTHING)
    alarm = stack.resources[name].properties
    assert alarm["AlarmActions"] == alarm["OKActions"] == [stack.ref("AlarmTopic")]
    assert alarm.get("ActionsEnabled", True) is True
    assert alarm["AlarmDescription"].endswith(".")


@pytest.mark.parametrize("name", [name for name, alarm in ALARMS.items() if alarm[0] == AGENTS])
def test_an_alarm_on_agents_asks_for_what_they_send_by_the_name_they_send_it(
    template: Template, name: str
) -> None:
    stack = template.stack(**EVERYTHING)
    alarm = stack.resources[name]
    metric = SENT[alarm.properties["MetricName"]]
    assert dimensions(alarm) == {"Group": stack.ref("SiteBucket")}, (
        "an agent's group is its site, without s3://"
    )
    if alarm.properties["Statistic"] == "Sum":
        assert metric.kind == "counter", "the sum of a gauge says nothing"


@pytest.mark.parametrize("name", [name for name, alarm in ALARMS.items() if alarm[0] == BALANCER])
def test_an_alarm_on_the_balancer_is_about_this_one(template: Template, name: str) -> None:
    stack = template.stack(**EVERYTHING)
    found = dimensions(stack.resources[name])
    assert found["LoadBalancer"] == stack.attribute("LoadBalancer", "LoadBalancerFullName")
    of_targets = {"TargetGroup": stack.attribute("TargetGroup", "TargetGroupFullName")}
    assert found.items() >= (of_targets if name == "UnhealthyInstances" else {}).items()


def test_agents_are_missed_when_fewer_report_than_serve(template: Template) -> None:
    alarm = template.stack(Egress="nat", MinInstances="3", **bundle("a")).resources["AgentsSilent"].properties
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", "3")
    assert alarm["Period"] == 60, "every agent sends once a minute"


def test_agents_send_where_alarms_and_dashboard_look(template: Template) -> None:
    stack = template.stack(**bundle("a"))
    assert f'cloudwatch_namespace = "{AGENTS}"' in boot_script(stack)
    assert {alarm.properties["Namespace"] for alarm in alarms(stack, "s3sync").values()} == {AGENTS}
    assert {namespace for namespace, _, _ in plotted(stack)} == {AGENTS, BALANCER}


@pytest.mark.parametrize("parameters", [{"Egress": "none", **bundle("a")}, {}])
def test_nothing_is_asked_of_agents_that_cannot_be_heard(
    template: Template, parameters: dict[str, str]
) -> None:
    stack = template.stack(**parameters)
    assert not alarms(stack, "s3sync")
    assert alarms(stack).keys() == {name for name, alarm in ALARMS.items() if alarm[0] == BALANCER}


def test_an_agent_that_cannot_be_heard_does_not_try(template: Template) -> None:
    assert 'cloudwatch_namespace = ""' in boot_script(template.stack(Egress="none", **bundle("a")))


def test_the_dashboard_shows_what_there_is(template: Template) -> None:
    stack = template.stack(**bundle("a"))
    for namespace, name, found in plotted(stack):
        if namespace == AGENTS:
            assert name in SENT
            assert found == {"Group": stack.ref("SiteBucket")}
        else:
            assert found["LoadBalancer"] == stack.attribute("LoadBalancer", "LoadBalancerFullName")
    assert {name for _, name, _ in plotted(stack)} >= {
        "RequestCount",
        "TargetResponseTime",
        "HTTPCode_ELB_5XX_Count",
        "HTTPCode_Target_5XX_Count",
        "HealthyHostCount",
        "Activations",
        "BehindSeconds",
    }


def test_the_dashboard_s_widgets_do_not_cover_each_other(template: Template) -> None:
    widgets = json.loads(template.stack().resources["Dashboard"].properties["DashboardBody"])["widgets"]
    covered: list[tuple[int, int]] = []
    for widget in widgets:
        assert widget["x"] + widget["width"] <= 24
        covered += [
            (widget["x"] + x, widget["y"] + y)
            for x in range(widget["width"])
            for y in range(widget["height"])
        ]
    assert len(covered) == len(set(covered))


def test_cloudwatch_can_write_to_the_topic(template: Template) -> None:
    """Under the key that AWS manages, no alarm would ever arrive."""
    properties: dict[str, Any] = template.stack().resources["AlarmTopic"].properties
    assert properties.get("KmsMasterKeyId") != "alias/aws/sns"
    assert "KmsMasterKeyId" not in properties


def test_alarms_are_mailed_to_whom_was_said(template: Template) -> None:
    stack = template.stack(AlarmEmail="operators@example.com")
    assert stack.resources["AlarmMail"].properties == {
        "TopicArn": stack.ref("AlarmTopic"),
        "Protocol": "email",
        "Endpoint": "operators@example.com",
    }
    assert "AlarmMail" not in template.stack().resources


def test_there_is_no_log_group_that_nobody_writes_to(template: Template) -> None:
    assert not template.stack(**EVERYTHING).of_type("AWS::Logs::LogGroup")
