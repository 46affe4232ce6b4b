"""The load balancer: health by the agent's own page, HTTPS where there is a certificate."""

from __future__ import annotations

import re
from typing import Any

import pytest

from s3sync_agent import nginx
from tests.infra.given import bundle
from tests.infra.parts import attributes, boot_script
from tests.infra.template import Stack, Template
from tests.infra.workflows import ROOT

CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
GIVEN_CERTIFICATE = {"DomainName": "www.example.com", "CertificateArn": CERTIFICATE}
GIVEN_ZONE = {"DomainName": "www.example.com", "HostedZoneId": "Z0EXAMPLE"}


def action(stack: Stack, listener: str) -> dict[str, Any]:
    (only,) = stack.resources[listener].properties["DefaultActions"]
    return dict(only)


def test_the_balancer_is_there_when_it_can_log_and_be_reached(template: Template) -> None:
    assert {"LogBucketPolicy", "GatewayAttachment"} <= template.stack().before("LoadBalancer")


def test_the_balancer_faces_the_internet_logs_and_passes_no_odd_headers_on(template: Template) -> None:
    properties = template.stack().resources["LoadBalancer"].properties
    assert (properties["Type"], properties["Scheme"]) == ("application", "internet-facing")
    found = attributes(properties["LoadBalancerAttributes"])
    assert found["access_logs.s3.enabled"] == "true"
    assert found["routing.http.drop_invalid_header_fields.enabled"] == "true"


def test_the_balancer_asks_the_page_that_nginx_has_for_it_at_the_port_where_nginx_listens(
    template: Template,
) -> None:
    conf = nginx.shipped()
    port = re.search(r"^ *listen (\d+) default_server;", conf, re.MULTILINE)
    page = re.search(r"^ *location = (/healthz) \{", conf, re.MULTILINE)
    assert port is not None
    assert page is not None
    target = template.stack().resources["TargetGroup"].properties
    assert (target["Protocol"], target["Port"]) == ("HTTP", int(port[1]))
    assert target["HealthCheckPath"] == page[1]
    assert target["Matcher"] == {"HttpCode": "200"}
    assert target["TargetType"] == "instance"
    assert target.get("HealthCheckPort", "traffic-port") == "traffic-port"


def test_an_instance_gets_visitors_soon_and_is_left_alone_soon(template: Template) -> None:
    """Nothing has to warm up, and a request that is running has as long as nginx gives it when it stops."""
    target = template.stack().resources["TargetGroup"].properties
    found = attributes(target["TargetGroupAttributes"])
    drain = (ROOT / "systemd/nginx-drain.conf").read_text()
    assert f"TimeoutStopSec={found['deregistration_delay.timeout_seconds']}\n" in drain
    assert found.get("slow_start.duration_seconds", "0") == "0"
    interval = target["HealthCheckIntervalSeconds"]
    assert f"sleep {(target['HealthyThresholdCount'] + 1) * interval};" in boot_script(
        template.stack(**bundle("a"))
    )
    assert target["UnhealthyThresholdCount"] * interval <= 15
    assert target["HealthCheckTimeoutSeconds"] < target["HealthCheckIntervalSeconds"]


def test_without_a_certificate_http_leads_to_the_instances(template: Template) -> None:
    stack = template.stack()
    listener = stack.resources["HttpListener"].properties
    assert (listener["Protocol"], listener["Port"]) == ("HTTP", 80)
    assert action(stack, "HttpListener")["Type"] == "forward"
    assert "HttpsListener" not in stack.resources


@pytest.mark.parametrize("parameters", [GIVEN_CERTIFICATE, GIVEN_ZONE])
def test_with_a_certificate_http_leads_to_https(template: Template, parameters: dict[str, str]) -> None:
    stack = template.stack(**parameters)
    assert action(stack, "HttpListener") == {
        "Type": "redirect",
        "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"},
    }
    listener = stack.resources["HttpsListener"].properties
    assert (listener["Protocol"], listener["Port"]) == ("HTTPS", 443)
    assert listener["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    assert action(stack, "HttpsListener")["Type"] == "forward"


def test_visitors_are_redirected_to_https_when_somebody_answers_there(template: Template) -> None:
    """A certificate is validated for minutes; redirected before, everybody would be turned away so long."""
    stack = template.stack(DomainName="www.example.com", HostedZoneId="Z1")
    assert "HttpsListener" in stack.resources["HttpListener"].needs
    assert "HttpsListener" not in template.stack().resources["HttpListener"].needs


@pytest.mark.parametrize("listener", ["HttpListener", "HttpsListener"])
def test_a_second_target_group_would_only_need_a_weight(template: Template, listener: str) -> None:
    stack = template.stack(**(GIVEN_CERTIFICATE if listener == "HttpsListener" else {}))
    assert action(stack, listener)["ForwardConfig"] == {
        "TargetGroups": [{"TargetGroupArn": stack.ref("TargetGroup"), "Weight": 100}]
    }


def test_a_given_certificate_is_used(template: Template) -> None:
    stack = template.stack(**GIVEN_CERTIFICATE)
    assert stack.resources["HttpsListener"].properties["Certificates"] == [{"CertificateArn": CERTIFICATE}]
    assert not stack.of_type("AWS::CertificateManager::Certificate")
    assert not stack.of_type("AWS::Route53::RecordSet"), "the name is looked after elsewhere"


def test_a_given_zone_gets_certificate_and_name(template: Template) -> None:
    stack = template.stack(**GIVEN_ZONE)
    assert stack.resources["Certificate"].properties == {
        "DomainName": "www.example.com",
        "ValidationMethod": "DNS",
        "DomainValidationOptions": [{"DomainName": "www.example.com", "HostedZoneId": "Z0EXAMPLE"}],
    }
    assert stack.resources["HttpsListener"].properties["Certificates"] == [
        {"CertificateArn": stack.ref("Certificate")}
    ]
    assert stack.resources["DomainRecord"].properties == {
        "HostedZoneId": "Z0EXAMPLE",
        "Name": "www.example.com",
        "Type": "A",
        "AliasTarget": {
            "DNSName": stack.attribute("LoadBalancer", "DNSName"),
            "HostedZoneId": stack.attribute("LoadBalancer", "CanonicalHostedZoneID"),
        },
    }


def test_a_given_zone_with_a_given_certificate_gets_the_name_alone(template: Template) -> None:
    stack = template.stack(**GIVEN_ZONE, CertificateArn=CERTIFICATE)
    assert stack.resources["HttpsListener"].properties["Certificates"] == [{"CertificateArn": CERTIFICATE}]
    assert not stack.of_type("AWS::CertificateManager::Certificate")
    assert "DomainRecord" in stack.resources


def test_a_web_acl_stands_before_the_balancer_where_one_was_given(template: Template) -> None:
    acl = "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/site/1"
    stack = template.stack(WebAclArn=acl)
    assert stack.resources["WebAclAssociation"].properties == {
        "ResourceArn": stack.ref("LoadBalancer"),
        "WebACLArn": acl,
    }
    assert not template.stack().of_type("AWS::WAFv2::WebACLAssociation")


def test_every_instance_serves_every_name(template: Template) -> None:
    """Health checks name an address as host, so nothing may depend on it."""
    assert not template.stack(**GIVEN_ZONE, **bundle("a")).of_type(
        "AWS::ElasticLoadBalancingV2::ListenerRule"
    )
