"""Every annotation, label and variable name that manifests carry; no other module spells one.

Source: knative/serving pkg/apis/serving/register.go and pkg/apis/autoscaling/register.go, knative/networking
pkg/apis/networking/register.go (the `*.knative.dev` names); the `zeroserve.dev` names are ours.
"""

MIN_SCALE = "autoscaling.knative.dev/min-scale"
MAX_SCALE = "autoscaling.knative.dev/max-scale"
TARGET = "autoscaling.knative.dev/target"
"""Concurrent requests per pod that the autoscaler aims at."""

SCALE_DOWN_DELAY = "autoscaling.knative.dev/scale-down-delay"
PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
"""How long a revision may take to become ready, as whole seconds: `600s`."""

ROLLOUT_DURATION = "serving.knative.dev/rollout-duration"
VISIBILITY = "networking.knative.dev/visibility"
"""On the Service; `CLUSTER_LOCAL` keeps it from the outside."""

CLUSTER_LOCAL = "cluster-local"

SERVICE = "serving.knative.dev/service"
"""On a Revision and its pods: the Service they belong to."""

REVISION = "serving.knative.dev/revision"
"""On a pod: its Revision."""

MANAGED_BY = "app.kubernetes.io/managed-by"
"""On a Service; its value is `FIELD_MANAGER` where we made it."""

FIELD_MANAGER = "zeroserve"
"""Our name as the owner of fields in server-side apply."""

MODEL = "zeroserve.dev/model"
"""On a Service and a Revision: the name requests call the model by."""

URL = "zeroserve.dev/url"
"""On a Service and a Revision: the storage path of the model's versions."""

VERSION = "zeroserve.dev/version"
"""On a Revision: the one version it serves."""

FINGERPRINT = "zeroserve.dev/fingerprint"
"""On a Revision: what the bytes of its version were."""

SERVICE_LABEL = "zeroserve.dev/service"
"""On a ConfigMap: the service that it declares."""

TRAFFIC = "zeroserve.dev/traffic"
"""On a Service: the traffic that we wrote last. Where it differs from what is there, somebody else changed it."""

OWNER = "zeroserve.dev/traffic-owner"
"""On a Service: who set the traffic before we added tags to it and left the rest; not there where it is ours."""

PREVIOUS = "zeroserve.dev/previous"
"""On a Service: the revision that had all traffic before; `rollback` goes back to it."""

ROLLOUT = "zeroserve.dev/rollout"
"""On a Service: how far a rollout in steps has come, and why it ended (`knative.progression`)."""

GATES = "zeroserve.dev/gates"
"""On a Service: a digest of the gates that the newest version was judged by."""

HEALTH = "zeroserve.dev/health"
"""On a Service: what was counted of the rollout so far (`events.health_counts`)."""

LANDING = "zeroserve.dev/landing"
"""On a Service: what keeps a version in storage from being served; not there when nothing does. Before there is a
Service, on its ConfigMap."""

FIRST = "zeroserve.dev/first"
"""On a ConfigMap: version and fingerprint of the first revision, before there is a Service."""

CONTAINER_ENVIRONMENT_NAME = "SERVING_MODEL_NAME"
CONTAINER_ENVIRONMENT_URL = "SERVING_MODEL_BASE_PATH"
CONTAINER_ENVIRONMENT_VERSION = "SERVING_MODEL_VERSION"
CONTAINER_ENVIRONMENT_CACHE = "SERVING_CACHE_DIRECTORY"
CONTAINER_ENVIRONMENT_POLL = "SERVING_FILE_SYSTEM_POLL_WAIT_SECONDS"
CONTAINER_ENVIRONMENT_PEER_URL = "SERVING_PEER_URL"
CONTAINER_ENVIRONMENT_ROUTES = "SERVING_ROUTES_FILE"
CONTAINER_ENVIRONMENT_SIGNING_KEYS = "SERVING_MODEL_SIGNING_KEYS"
