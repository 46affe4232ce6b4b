"""Parameters that tests give: bundles that nobody built, an image that ministack knows by another name."""

from __future__ import annotations

from hashlib import sha256

# AWS's own parameter for it is not in ministack, and nobody may write one there.
IMAGE_PARAMETER = "/images/arm64"
IMAGE = {"ImageIdArm64": IMAGE_PARAMETER}

OIDC_PROVIDER = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"

# A network that was there before the stack.
GIVEN_NETWORK = {
    "VpcId": "vpc-1",
    "PublicSubnetIds": "subnet-1,subnet-2",
    "PrivateSubnetIds": "subnet-3,subnet-4",
}


def bundle(content: str, architecture: str = "aarch64") -> dict[str, str]:
    """The parameters for a bundle, a file of this content."""
    digest = sha256(content.encode()).hexdigest()
    return {
        "AgentBundle": f"s3sync-agent-0.1.0-cp312-{architecture}-{digest[:12]}.pyz",
        "AgentBundleSha256": digest,
    }


# Everything that can be switched on at once.
EVERYTHING = {
    **bundle("a"),
    "AlarmEmail": "operators@example.com",
    "AllowPruning": "yes",
    "DomainName": "www.example.com",
    "Egress": "endpoints",
    "GitHubRepository": "owner/name",
    "HostedZoneId": "Z0EXAMPLE",
    "KmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/9f8e7d6c",
    "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary",
    "ScaleAtCpuPercent": "50",
    "SessionManager": "yes",
    "WebAclArn": "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/site/1",
}
