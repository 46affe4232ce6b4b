"""Parameters that tests give: bundles that nobody built, an image that ministack knows by another name."""

from __future__ import annotations

# AWS's own parameter for it is not in ministack, and nobody may write one there.
IMAGE_PARAMETER = "/images/arm64"
IMAGE = {"ImageIdArm64": IMAGE_PARAMETER}

OIDC_PROVIDER = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"


def bundle(letter: str, architecture: str = "aarch64") -> dict[str, str]:
    """A bundle's name and digest, as parameters; another letter is another bundle."""
    return {
        "AgentBundle": f"s3sync-agent-0.1.0-cp312-{architecture}-{letter * 12}.pyz",
        "AgentBundleSha256": letter * 64,
    }
