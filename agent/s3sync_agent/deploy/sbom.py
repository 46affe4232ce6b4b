"""What a bundle is made of, as CycloneDX 1.6. The same wheels give the same bytes."""

from __future__ import annotations

import email.parser
import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Sequence
from email.message import Message
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from s3sync_agent.deploy.wheels import Target, Wheel


def sbom(agent: Wheel, beside: Sequence[Wheel], target: Target) -> bytes:
    """The document: the agent as its subject, what lies beside it as components, who needs whom.

    It bears no time, and its serial number follows from the digests: equal bundles have equal SBOMs.
    """
    everything = [agent, *beside]
    here = {wheel.name: _reference(wheel) for wheel in everything}
    digests = "\n".join(sorted(wheel.sha256 for wheel in everything))
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(hashlib.sha256(digests.encode()).hexdigest()[:32], version=4)}",
        "version": 1,
        "metadata": {
            "component": _component(agent, "application"),
            "properties": [
                {"name": "s3sync:python", "value": target.python},
                {"name": "s3sync:arch", "value": target.arch},
            ],
        },
        "components": [_component(wheel, "library") for wheel in beside],
        "dependencies": [
            {
                "ref": here[wheel.name],
                "dependsOn": [here[name] for name in _needs(wheel, target) if name in here],
            }
            for wheel in everything
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=True).encode() + b"\n"


def _reference(wheel: Wheel) -> str:
    return f"pkg:pypi/{wheel.name}@{wheel.version}"


def _component(wheel: Wheel, kind: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": kind,
        "bom-ref": _reference(wheel),
        "name": wheel.name,
        "version": wheel.version,
        "purl": _reference(wheel),
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
    }
    about = _metadata(wheel)
    expression, name = about["License-Expression"], about["License"]
    if expression:
        component["licenses"] = [{"expression": expression}]
    elif name and "\n" not in name:  # some write the whole text there
        component["licenses"] = [{"license": {"name": name}}]
    return component


def _metadata(wheel: Wheel) -> Message:
    """The wheel's METADATA, as headers."""
    with zipfile.ZipFile(io.BytesIO(wheel.content)) as archive:
        name = next(
            name
            for name in archive.namelist()
            if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
        )
        return email.parser.Parser().parsestr(archive.read(name).decode(), headersonly=True)


def _needs(wheel: Wheel, target: Target) -> list[str]:
    """Names of what the wheel itself asks for on `target`, without its extras."""
    wanted = [Requirement(line) for line in _metadata(wheel).get_all("Requires-Dist", [])]
    environment = {**target.markers, "extra": ""}
    return sorted(
        {
            str(canonicalize_name(one.name))
            for one in wanted
            if one.marker is None or one.marker.evaluate(environment)
        }
    )
