"""What linters object to and we keep, with the reason. Nothing else is accepted, nothing here is unused."""

from __future__ import annotations

Reviewed = dict[tuple[str, str], str]

_NO_CERTIFICATE = (
    "Only without a certificate. The defaults have to work for somebody who has no domain; with one, this "
    "listener redirects."
)
_LOGS_OF_LOGS = "It is the log bucket; its own log would be another one, for ever."
_OBJECT_LOGS = "Who wrote what is in CloudTrail where an account wants it; releases are checked by digest."
_NOTIFICATIONS = "Nobody listens: agents poll, and that is the contract."
_OBJECT_LOCK = (
    "Old releases are pruned and the pointer is one object that changes. Versioning keeps what was."
)

CFN_LINT: Reviewed = {
    ("W1033", "LoadBalancer"): (
        "It splits the default of PublicSubnetIds, on a branch that is taken only with a given VPC; "
        "the rule GivenVpcNeedsSubnets wants subnets then."
    ),
}

CHECKOV: Reviewed = {
    ("CKV_AWS_2", "HttpListener"): _NO_CERTIFICATE,
    ("CKV_AWS_103", "HttpListener"): _NO_CERTIFICATE,
    ("CKV_AWS_18", "SiteBucket"): _OBJECT_LOGS,
    ("CKV_AWS_18", "LogBucket"): _LOGS_OF_LOGS,
    ("CKV_AWS_21", "LogBucket"): "Logs are written once and expire; a version of one would be the same.",
    ("CKV_AWS_26", "AlarmTopic"): (
        "CloudWatch cannot publish under the key that AWS manages, and what an alarm says is no secret."
    ),
    ("CKV_AWS_260", "LoadBalancerSecurityGroup"): "It is a public web site.",
}

CFN_GUARD: Reviewed = {
    ("CT.AUTOSCALING.PR.1", "AutoScalingGroup"): (
        "It looks for AvailabilityZones, which a group with subnets does not have; they are in two zones."
    ),
    ("CT.AUTOSCALING.PR.1", "QuietAutoScalingGroup"): "As for AutoScalingGroup.",
    ("CT.AUTOSCALING.PR.6", "AutoScalingGroup"): (
        "One type makes every instance the same to the balancer; who wants more capacity pools asks for them."
    ),
    ("CT.AUTOSCALING.PR.6", "QuietAutoScalingGroup"): "As for AutoScalingGroup.",
    ("CT.EC2.PR.10", "LaunchTemplate"): (
        "Detailed monitoring is paid for by instance, and no alarm here looks at an instance by the minute."
    ),
    ("CT.ELASTICLOADBALANCING.PR.1", "HttpListener"): _NO_CERTIFICATE,
    ("CT.ELASTICLOADBALANCING.PR.5", "LoadBalancer"): (
        "With it, a first deployment that fails could not be rolled back, nor the stack deleted."
    ),
    ("CT.S3.PR.10", "LogBucket"): "The balancer can write with no other key than S3's own.",
    (
        "CT.S3.PR.10",
        "SiteBucket",
    ): "KmsKeyArn is for who wants a key; without it S3's own encrypts for nothing.",
    ("CT.S3.PR.11", "LogBucket"): "Logs are written once and expire; a version of one would be the same.",
    ("CT.S3.PR.2", "LogBucket"): _LOGS_OF_LOGS,
    ("CT.S3.PR.2", "SiteBucket"): _OBJECT_LOGS,
    ("CT.S3.PR.4", "LogBucket"): _NOTIFICATIONS,
    ("CT.S3.PR.4", "SiteBucket"): _NOTIFICATIONS,
    ("CT.S3.PR.9", "LogBucket"): _OBJECT_LOCK,
    ("CT.S3.PR.9", "SiteBucket"): _OBJECT_LOCK,
}
