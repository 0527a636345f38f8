"""What the commands about a cluster print: a service, its versions, and what to try next. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from knative.observation import ServiceStatus

Reasons = Mapping[str, Sequence[str]]
"""Revision -> what its pods say."""


def status_json(status: ServiceStatus, reasons: Reasons) -> dict[str, Any]:
    """The status as JSON, with the pods' reasons beside the revisions' own."""
    content = asdict(status)
    for row in content["revisions"]:
        row["reasons"] = [*row["reasons"], *reasons.get(row["name"], ())]
    return content


def status_text(status: ServiceStatus, reasons: Reasons) -> str:
    """The status for people."""
    lines = [f"{status.name}  {'ready' if status.ready else 'not ready'}  {status.url}".rstrip()]
    if status.model:
        lines.append(f"  model {status.model} from {status.source}")
    if status.declared:
        lines.append(f"  declared: {status.declared}")
    if status.changed_by_others:
        who = f"{status.traffic_owner} set" if status.traffic_owner else "somebody else set"
        lines.append(f"  {who} the traffic; it stays until zeroserve deploy --adopt, promote, split or rollback")
    if status.rollout:
        lines.append(f"  rollout: {status.rollout}")
    if status.landing:
        lines.append(f"  landing: {status.landing}")
    for row in status.revisions:
        tags = " ".join(f"#{tag}" for tag in sorted(row.tags))
        lines.append(f"  {row.percent:3}%  {row.name}  {'ready' if row.ready else 'not ready'}  {tags}".rstrip())
        lines += [f"        {reason}" for reason in (*row.reasons, *reasons.get(row.name, ()))]
    return "\n".join(lines)


def list_text(statuses: Sequence[ServiceStatus], undeployed: Sequence[str]) -> str:
    """One line for each service, and for each declaration without one."""
    lines = []
    for status in statuses:
        serving = ", ".join(f"{row.version or row.name}: {row.percent}%" for row in status.revisions if row.percent)
        lines.append(f"{status.name}  {'ready' if status.ready else 'not ready'}  {status.url}  {serving}".rstrip())
    lines += [f"{name}  declared, no version has landed yet" for name in undeployed]
    return "\n".join(lines)


def next_commands(status: ServiceStatus) -> str:
    """What can be done with a service that is ready."""
    url, model = status.url, status.model or status.name
    parts = urlsplit(url)
    authority = parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    plain = "" if parts.scheme == "https" else "-plaintext "
    request = f'{{"model_spec": {{"name": "{model}"}}, "metadata_field": ["signature_def"]}}'
    versions = sorted(row.version for row in status.revisions if row.version is not None and row.tags)
    lines = [
        f"  curl {url}/v1/models/{model}/metadata",
        f"  grpcurl {plain}-d '{request}' {authority} tensorflow.serving.PredictionService/GetModelMetadata",
    ]
    if len(versions) > 1:
        lines.append(f"  zeroserve split {status.name} {versions[-2]}=90 {versions[-1]}=10")
        lines.append(f"  zeroserve promote {status.name} {versions[-1]}")
    lines.append(f"  zeroserve status {status.name}")
    return "next:\n" + "\n".join(lines)
