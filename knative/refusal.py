"""What to do about a cluster's refusals: a remedy behind the API server's own words. Pure.

Source: knative/serving pkg/apis/config/features.go and pkg/apis/serving/fieldmask.go.
"""

import re

_FEATURES = {
    "hostPath": "kubernetes.podspec-volumes-hostpath",
    "persistentVolumeClaim": "kubernetes.podspec-persistent-volume-claim",
    "securityContext": "kubernetes.podspec-securitycontext",
}
_NAMESPACE = re.compile(r'namespaces "([^"]+)" not found')
_TIMEOUT = re.compile(r"expected 0 <= \d+ <= (\d+): spec.*timeoutSeconds")


def remedy(message: str) -> str:
    """What helps, to be put behind the message; empty where nothing is known."""
    if found := _NAMESPACE.search(message):
        return f"kubectl create namespace {found[1]}, or --namespace"
    if found := _TIMEOUT.search(message):
        return (
            f"--timeout={found[1]}, or raise max-revision-timeout-seconds in ConfigMap knative-serving/config-defaults"
        )
    if "HTTPRoute" in message and "Too many" in message:
        return "this ingress has no room for so many tags: fewer versions and labels, or no tag-header-based-routing"
    refused = "must not set the field" in message or "not declared in schema" in message
    for field, feature in _FEATURES.items() if refused else ():
        if field in message:
            other = "; --cache=pvc:CLAIM with a local volume does the same" if field == "hostPath" else ""
            return f"set {feature}: enabled in ConfigMap knative-serving/config-features, if this Knative has it{other}"
    if "is forbidden" in message:
        return "kubectl auth can-i tells what this user may"
    return ""
