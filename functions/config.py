"""Settings: the one place that reads the command line and the environment.

Every setting is a flag of `zeroserve serve`, named as in TensorFlow Serving's `tensorflow_model_server` where that has
one, and an environment variable `SERVING_<FLAG>`. Also read, as TensorFlow Serving's image and Knative set them:
`MODEL_NAME`, `MODEL_BASE_PATH` and `PORT`. The command line wins over `SERVING_*`, which wins over these three.

Source: tensorflow_serving/model_servers/main.cc (names, defaults), tools/docker/Dockerfile (`MODEL_NAME`,
`MODEL_BASE_PATH`), Knative's runtime contract (`PORT`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from functions.flags import UsageError, flag, flags_of, from_arguments, from_environment

MODEL = "Models"
VERSIONS = "Versions and loading"
STORAGE = "Storage"
LISTEN = "Ports and requests"
BATCHING = "Batching"
RUNTIME = "TensorFlow"
EVENTS = "Events and images"
REVISIONS = "Versions as revisions of a cluster"
WATCH = "Monitoring"
TAP = "Recording, prediction log, feedback"
OTHER = "Accepted for compatibility"

MIN_SECRET = 16
"""Characters of a shared secret; a shorter one can be guessed."""

_NO_TFLITE = "a version that holds model.tflite is run by LiteRT, with one interpreter for each CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one server, checked. The text beside each is what the help and docs/settings.md show."""

    model_name: str = flag("default", MODEL, "Name of the one model; ignored with --model_config_file.", stock=True)
    model_base_path: str = flag(
        "",
        MODEL,
        "Folder or URL with the numbered versions of the one model: /models/m, s3://bucket/m, gs://, abfs://, hdfs://, "
        "https://.",
        stock=True,
    )
    model_version: int = flag(
        0,
        MODEL,
        "The one version of --model_base_path to serve; 0 means the highest. A revision on a cluster serves one.",
        minimum=0,
    )
    model_config_file: str = flag(
        "", MODEL, "File or URL with a ModelServerConfig in protobuf text format: many models.", stock=True
    )
    model_config_file_poll_wait_seconds: int = flag(
        0, MODEL, "Seconds between two readings of --model_config_file; 0 reads it once.", stock=True, minimum=0
    )

    file_system_poll_wait_seconds: int = flag(
        1,
        VERSIONS,
        "Seconds between two looks at the storage for new versions; 0: until all was found; a negative number: never.",
        stock=True,
    )
    allow_version_labels_for_unavailable_models: bool = flag(
        False, VERSIONS, "Lets a new label name a version that is not available yet.", stock=True
    )
    servable_versions_always_present: bool = flag(
        False,
        VERSIONS,
        "Keeps the versions of a model whose base path holds none any more; otherwise they are unloaded.",
    )
    transition: str = flag(
        "availability",
        VERSIONS,
        "What matters more while versions change. availability loads the new version before the old one goes: both are "
        "in memory for a while, no request fails. resource unloads the old one first: requests in between are "
        "answered 404.",
        choices=("availability", "resource"),
    )
    ready_despite_failed_models: bool = flag(
        False,
        VERSIONS,
        "Lets /readyz answer 200 although a version that was wanted at the start failed to load (END), as long as "
        "another model is there; otherwise such a server takes no traffic.",
    )
    max_num_load_retries: int = flag(5, VERSIONS, "How often a failed load is tried again.", stock=True, minimum=0)
    load_retry_interval_micros: int = flag(
        60_000_000, VERSIONS, "Microseconds between two tries of a load.", stock=True, minimum=0
    )
    num_load_threads: int = flag(0, VERSIONS, "Threads that load versions; 0 lets the server choose.", stock=True)
    num_unload_threads: int = flag(0, VERSIONS, "Threads that unload versions; 0 lets the server choose.", stock=True)
    model_signing_keys: str = flag(
        "",
        VERSIONS,
        "Public keys (P-256, P-384, P-521; PEM, or a file of it): only versions are loaded whose model.sig, as "
        "`model_signing sign key` writes it, one of them made, and only if every file is what was signed.",
    )
    enable_model_warmup: bool = flag(
        True,
        VERSIONS,
        "Replays assets.extra/tf_serving_warmup_requests before a version becomes available.",
        stock=True,
    )
    num_request_iterations_for_warmup: int = flag(
        0, VERSIONS, "How often each warm-up record is replayed; 0 means once.", stock=True, minimum=0
    )

    storage_driver: str = flag(
        "auto",
        STORAGE,
        "Client that reads s3, gs and abfs: auto takes obstore where it understands the credentials in the "
        "environment, and fsspec's driver where it does not.",
        choices=("auto", "obstore", "fsspec"),
    )
    cache_directory: str = flag(
        "",
        STORAGE,
        "Folder that keeps what was read from remote storage; empty means zeroserve-cache in the folder for temporary "
        "files.",
    )
    cache_max_bytes: int = flag(0, STORAGE, "Bytes that the cache may hold; 0 means no limit.", minimum=0)

    host: str = flag("0.0.0.0", LISTEN, "Address to listen on.")  # noqa: S104  # a container is reached from outside
    port: int = flag(8500, LISTEN, "Port of gRPC and, other than in the stock server, of REST too.", stock=True)
    rest_api_port: int = flag(0, LISTEN, "One more port for the same; 0 means none.", stock=True, minimum=0)
    grpc_socket_path: str = flag("", LISTEN, "UNIX socket that answers too.", stock=True)
    port_file: str = flag(
        "",
        LISTEN,
        "File that the port is written to once the server listens; with it, --port=0 takes any free port.",
    )
    rest_api_timeout_in_ms: int = flag(
        30_000,
        LISTEN,
        "Milliseconds that a REST request may take; X-Request-Timeout-Ms of a request may shorten it.",
        stock=True,
        minimum=1,
    )
    rest_api_enable_cors_support: bool = flag(
        False, LISTEN, "Sends CORS headers, so that pages of other origins may call.", stock=True
    )
    max_request_bytes: int = flag(
        256 << 20, LISTEN, "Bytes that the body of one request may have; more is answered 413.", minimum=1
    )
    max_inflated_bytes: int = flag(
        100_000_000, LISTEN, "Bytes that a gzip body may inflate to; more is answered 413.", minimum=1
    )
    max_pending_request_bytes: int = flag(
        1 << 30,
        LISTEN,
        "Bytes that the bodies of all requests in flight may hold together, those aside that come in one piece; a "
        "request that would hold more is answered 503, unless it is the only one.",
        minimum=1,
    )
    workers: int = flag(
        1,
        LISTEN,
        "Processes that answer on the same ports, each with its own copy of the models; for CPUs only: with a GPU one "
        "process serves. More than one pays where requests are small and CPUs are left over.",
        minimum=1,
    )
    drain_timeout_seconds: float = flag(
        30.0,
        LISTEN,
        "Seconds that requests in flight get to finish after SIGTERM.",
        minimum=0,
    )
    drain_delay_seconds: float = flag(
        1.0,
        LISTEN,
        "Seconds of these in which connections and requests are still taken, for clients and proxies that have not "
        "heard of the end yet; /readyz answers 503 meanwhile. SIGINT skips them.",
        minimum=0,
    )
    rest_api_num_threads: int = flag(
        0, LISTEN, "Threads that run the model for REST and gRPC; 0 lets the server choose.", stock=True, minimum=0
    )
    grpc_max_threads: int = flag(
        0, LISTEN, "gRPC threads.", stock=True, ignored="gRPC is answered by the same event loop as REST"
    )
    grpc_channel_arguments: str = flag(
        "",
        LISTEN,
        "gRPC channel arguments, name=value,name=value: grpc.max_receive_message_length and "
        "grpc.max_send_message_length are the bytes of one message (-1: 2 GiB); others change nothing.",
        stock=True,
    )
    ssl_config_file: str = flag(
        "",
        LISTEN,
        "File with an SSLConfig in protobuf text format (PEM contents): TLS for all ports, mTLS with client_verify.",
        stock=True,
    )
    enable_grpc_healthcheck_service: bool = flag(
        False, LISTEN, "grpc.health.v1.Health.", stock=True, ignored="the service is always there"
    )
    enable_serialization_as_tensor_content: bool = flag(
        False, LISTEN, "Encodes gRPC outputs as tensor_content instead of typed fields.", stock=True
    )
    enable_signature_method_name_check: bool = flag(
        False,
        LISTEN,
        "Demands the right method_name of a signature: Classify and Regress take their own only, Predict one of the "
        "three. Signatures that TensorFlow 2 writes all say predict.",
        stock=True,
    )

    enable_batching: bool = flag(False, BATCHING, "Joins requests that arrive together into one run.", stock=True)
    batching_parameters_file: str = flag(
        "", BATCHING, "File with BatchingParameters in protobuf text format.", stock=True
    )
    enable_per_model_batching_parameters: bool = flag(
        False, BATCHING, "Reads batching_params.pbtxt of each version instead.", stock=True
    )
    max_batch_size: int = flag(0, BATCHING, "Rows of one batch at the most; 0: the file's, or 1000.", minimum=0)
    batch_timeout_micros: int = flag(
        -1,
        BATCHING,
        "Longest wait for company, in microseconds, where waiting is measured to pay; -1: the file's, or 0.",
        minimum=-1,
    )
    max_enqueued_batches: int = flag(
        0, BATCHING, "Full batches that may wait for one version; 0: the file's, or 10.", minimum=0
    )
    num_batch_threads: int = flag(
        0, BATCHING, "Batches that run at the same time; 0: the file's, or one for each CPU.", minimum=0
    )
    thread_pool_name: str = flag("", BATCHING, "Name of those threads in metrics; empty: the file's, or batch_threads.")
    allowed_batch_sizes: str = flag(
        "", BATCHING, "Sizes that batches are padded to, ascending, separated by commas; empty: the file's, or any."
    )
    pad_variable_length_inputs: bool = flag(
        False, BATCHING, "Lets requests of one batch differ in dimensions after the first."
    )
    enable_large_batch_splitting: bool = flag(
        False, BATCHING, "Splits a request that is larger than --max_execution_batch_size over several batches."
    )
    max_execution_batch_size: int = flag(
        0, BATCHING, "Rows of one run when splitting; 0: the file's, or --max_batch_size.", minimum=0
    )
    low_priority_max_batch_size: int = flag(
        0,
        BATCHING,
        "Rows of one batch of requests that say x-request-priority: low; 0: the file's, or no difference between "
        "requests.",
        minimum=0,
    )
    low_priority_batch_timeout_micros: int = flag(
        -1, BATCHING, "How long those wait for company of their kind; -1: the file's, or 0.", minimum=-1
    )
    low_priority_max_enqueued_batches: int = flag(
        0, BATCHING, "Full batches of those that may wait; 0: the file's, or --max_enqueued_batches.", minimum=0
    )
    low_priority_allowed_batch_sizes: str = flag(
        "", BATCHING, "Sizes that batches of those alone are padded to; empty: the file's, or any."
    )
    mixed_priority_policy: str = flag(
        "",
        BATCHING,
        "Which of those join a batch of other requests; empty: the file's, or "
        "low_priority_padding_with_max_batch_size (as many as there is room for).",
    )
    batch_padding_policy: str = flag(
        "",
        BATCHING,
        "Between two allowed sizes: PAD_UP, BATCH_DOWN (start with fewer rows) or MINIMIZE_TPU_COST_PER_REQUEST (what "
        "costs less per row); empty: the file's, or PAD_UP.",
    )

    saved_model_tags: str = flag("serve", RUNTIME, "Tags of the meta graph to load, separated by commas.", stock=True)
    tensorflow_session_parallelism: int = flag(
        0,
        RUNTIME,
        "Threads of the session, both kinds; 0 means one for each CPU of the worker's share.",
        stock=True,
        minimum=0,
    )
    tensorflow_intra_op_parallelism: int = flag(
        0,
        RUNTIME,
        "Threads inside one operation; 0 means one for each CPU of the worker's share.",
        stock=True,
        minimum=0,
    )
    tensorflow_inter_op_parallelism: int = flag(
        0,
        RUNTIME,
        "Threads for operations side by side; 0 means one for each CPU of the worker's share.",
        stock=True,
        minimum=0,
    )
    tensorflow_session_config_file: str = flag(
        "", RUNTIME, "File with a ConfigProto in protobuf text format for every session.", stock=True
    )
    per_process_gpu_memory_fraction: float = flag(
        0.0, RUNTIME, "Share of a GPU's memory, 0 to 1; 0 lets TensorFlow choose.", stock=True, minimum=0
    )
    custom_op_libraries: str = flag(
        "", RUNTIME, "Shared libraries with custom operations to load first, separated by commas."
    )

    watch: bool = flag(
        False,
        EVENTS,
        "Looks at the storage at once when something lands there: inotify tells of local base paths, POST /events of "
        "all others. The poll goes on. For zeroserve serve.",
    )
    watch_secret_file: str = flag(
        "",
        EVENTS,
        "File with the secrets, one on each line, of which a POST to /events must carry one in Authorization; empty "
        "closes /events.",
    )
    reload_sink: str = flag(
        "",
        EVENTS,
        "Address that HandleReloadConfigRequest is sent on to, as the event com.zeroserve.model.config.v1, instead of "
        "loading: the deploy function's Broker. For pods, which serve one revision.",
    )
    cloud_event_reply_type: str = flag(
        "dev.zeroserve.prediction.v1",
        EVENTS,
        "Type of the CloudEvent that answers a CloudEvent; empty answers 204 and no event.",
    )
    cloud_event_source: str = flag(
        "", EVENTS, "Source of that CloudEvent; empty means the path of the model, /v1/models/<name>."
    )
    cloud_event_reference_prefixes: str = flag(
        "",
        EVENTS,
        'Storage URLs, separated by commas, that a CloudEvent\'s {"uri": ...} may point into; empty allows none.',
    )
    max_reference_bytes: int = flag(
        100_000_000, EVENTS, "Bytes that an object which an event points to may have.", minimum=1
    )
    max_image_pixels: int = flag(
        50_000_000, EVENTS, "Pixels that one image may have when it is decoded; more is answered 400.", minimum=1
    )
    max_images: int = flag(256, EVENTS, "Images that one request may have.", minimum=1)

    peer_url: str = flag(
        "",
        REVISIONS,
        "Where the revision of another version or label of --model_name answers, with a literal {tag} in the host: "
        "http://{tag}-m.default.svc.cluster.local. Requests that name one are forwarded there; empty forwards none. "
        "Needs --model_version.",
    )
    peer_gateway: str = flag(
        "",
        REVISIONS,
        "host:port of a proxy that every peer is reached through, told by the Host header; empty asks DNS for each.",
    )
    routes_file: str = flag(
        "",
        REVISIONS,
        "File with the labels, the arms and their user key, and the shadow, as JSON; read again when it changes. "
        "Needs --peer_url.",
    )

    monitoring_config_file: str = flag(
        "",
        WATCH,
        "File with a MonitoringConfig in protobuf text format; without one, metrics are on at "
        "/monitoring/prometheus/metrics.",
        stock=True,
    )
    log_level: str = flag(
        "info", WATCH, "Least severe message that is logged.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = flag(
        "text",
        WATCH,
        "How lines are logged: text, or json with one object on each line, which carries the ids of its request.",
        choices=("text", "json"),
    )
    request_log: str = flag(
        "off",
        WATCH,
        "Which requests get a line of their own in the log: none, those that fail, or all; probes and metrics never.",
        choices=("off", "errors", "all"),
    )
    request_log_share: float = flag(
        1.0, WATCH, "Share of the good requests that --request_log=all logs, 0 to 1; failures are always.", minimum=0
    )
    traces: bool = flag(
        False,
        WATCH,
        "Sends OpenTelemetry traces to the collector of OTEL_EXPORTER_OTLP_ENDPOINT, over OTLP/HTTP; the other OTEL_* "
        "variables hold too. Needs the extra otel.",
    )

    record_to: str = flag(
        "",
        TAP,
        "Folder or URL that sampled requests are written to with their answers, below <model>/<version>/, as files of "
        "the stock warm-up format: for zeroserve record --from, and for the replay gate. They hold what callers sent.",
    )
    record_share: float = flag(0.01, TAP, "Share of the answered requests that --record_to keeps, 0 to 1.", minimum=0)
    record_limit: int = flag(
        1000, TAP, "Records of one model that a process writes; the same request twice is one.", minimum=1
    )
    record_seconds: float = flag(
        60.0, TAP, "Seconds until what was recorded is written; the rest is written when the process ends.", minimum=0.1
    )
    prediction_log_sink: str = flag(
        "",
        TAP,
        "http(s) address that answered requests (--prediction_log_share) and outcomes (--feedback) are sent to, as "
        "CloudEvents; empty takes K_SINK, which a SinkBinding sets.",
    )
    prediction_log_share: float = flag(
        0.0, TAP, "Share of the answered requests that are sent, 0 to 1; 0 sends none.", minimum=0
    )
    prediction_log_format: str = flag(
        "json",
        TAP,
        "What such an event holds: JSON, or a PredictionLog as the stock server's request logging makes it.",
        choices=("json", "prediction_log"),
    )
    prediction_log_redact: str = flag(
        "",
        TAP,
        "Inputs, outputs and features of examples, separated by commas, of which only dtype and shape are sent; * is "
        "all. --record_to keeps them.",
    )
    prediction_log_max_value_bytes: int = flag(
        64 << 10, TAP, "Bytes of one input or output that are sent; of a larger one only dtype and shape.", minimum=0
    )
    feedback: bool = flag(
        False,
        TAP,
        "Gives answers an x-feedback-id, and takes outcomes at POST /v1/feedback: counted by version, and sent to "
        "--prediction_log_sink.",
    )
    feedback_secret: str = flag(
        "",
        TAP,
        "Signs those ids, so that nobody makes them up; several, separated by commas: the first signs, all are taken. "
        "Of 16 characters or more; meant for the environment, from a secret.",
    )
    feedback_max_age_seconds: int = flag(
        604_800, TAP, "Seconds from an answer within which its outcome is taken.", minimum=1
    )

    enable_profiler: bool = flag(
        True, WATCH, "gRPC profiler.", stock=True, ignored="TensorFlow's profiler needs its Python"
    )

    flush_filesystem_caches: bool = flag(
        True, OTHER, "Flushes caches after a load.", stock=True, ignored="models are read through a cache of its own"
    )
    remove_unused_fields_from_bundle_metagraph: bool = flag(
        True, OTHER, "Frees parts of the meta graph.", stock=True, ignored="only the signatures are kept"
    )
    skip_initialize_tpu: bool = flag(False, OTHER, "TPU start.", stock=True, ignored="the wheel has no TPU support")
    num_tflite_pools: int = flag(0, OTHER, "TensorFlow Lite pools.", stock=True, ignored=_NO_TFLITE)
    num_tflite_interpreters_per_pool: int = flag(
        1, OTHER, "TensorFlow Lite interpreters.", stock=True, ignored=_NO_TFLITE
    )
    prefer_tflite_model: bool = flag(False, OTHER, "TensorFlow Lite.", stock=True, unsupported=_NO_TFLITE)
    use_alts_credentials: bool = flag(
        False, OTHER, "ALTS for gRPC.", stock=True, unsupported="ALTS works inside Google only; use --ssl_config_file"
    )
    platform_config_file: str = flag(
        "", OTHER, "PlatformConfigMap.", stock=True, unsupported="the only platform is tensorflow; use the other flags"
    )
    thread_pool_factory_config_file: str = flag(
        "", OTHER, "ThreadPoolFactoryConfig.", stock=True, unsupported="use --tensorflow_inter_op_parallelism"
    )
    xla_cpu_compilation_enabled: bool = flag(
        False, OTHER, "XLA on CPU.", stock=True, unsupported="set it in --tensorflow_session_config_file"
    )
    xla_gpu_compilation_enabled: bool = flag(
        False, OTHER, "XLA on GPU.", stock=True, unsupported="set it in --tensorflow_session_config_file"
    )
    mixed_precision: str = flag(
        "", OTHER, "Mixed precision.", stock=True, unsupported="set it in --tensorflow_session_config_file"
    )

    def __post_init__(self) -> None:
        """Refuses what does not go together, with the stock server's words where it has some."""
        if self.port < 0 or self.port > 65_535 or self.rest_api_port > 65_535:
            raise UsageError(f"--port={self.port}, --rest_api_port={self.rest_api_port}: wanted 0 to 65535")
        if self.port == 0 and not (self.rest_api_port or self.grpc_socket_path or self.port_file):
            raise UsageError(
                "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
                " (--port=0 takes any free port when --port_file says where to write it)"
            )
        if self.port and self.port == self.rest_api_port:
            raise UsageError(f"--port and --rest_api_port are both {self.port}: one port already answers REST and gRPC")
        if self.model_version and self.model_config_file:
            raise UsageError("--model_version and --model_config_file: a config file has policies; give one of the two")
        if self.peer_url and not self.model_version:
            raise UsageError("--peer_url without --model_version: what forwards serves one version itself; say which")
        if (self.routes_file or self.peer_gateway) and not self.peer_url:
            raise UsageError("--routes_file and --peer_gateway need --peer_url: it says where other versions answer")
        if self.watch_secret_file and not self.watch:
            raise UsageError("--watch_secret_file is for --watch: set both, or neither")
        if self.batching_parameters_file and not self.enable_batching:
            raise UsageError(
                "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
            )
        if self.tensorflow_session_parallelism and (
            self.tensorflow_intra_op_parallelism or self.tensorflow_inter_op_parallelism
        ):
            raise UsageError(
                "Either configure server_options.tensorflow_session_parallelism or (server_options."
                "tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) separately. "
                "You cannot configure all."
            )
        if self.per_process_gpu_memory_fraction > 1:
            raise UsageError(
                f"--per_process_gpu_memory_fraction: found {self.per_process_gpu_memory_fraction}, wanted 0 to 1"
            )
        _check_tap(self)
        if not self.saved_model_tags:
            raise UsageError("--saved_model_tags: found nothing, wanted tags separated by commas, such as serve")

    @property
    def feedback_secrets(self) -> tuple[str, ...]:
        """Those of `feedback_secret`; empty for none."""
        return tuple(self.feedback_secret.split(",")) if self.feedback_secret else ()

    @property
    def demo(self) -> bool:
        """Nothing says what to serve: `zeroserve serve` then serves the bundled model."""
        return not (self.model_base_path or self.model_config_file) and self.model_name == FLAGS["model_name"].default

    def require_models(self) -> None:
        """Refuses settings that name no model, in the stock server's words."""
        if not self.model_base_path and not self.model_config_file:
            raise UsageError("Both server_options.model_base_path and server_options.model_config_file are empty!")


def _check_tap(settings: Settings) -> None:
    """Refuses shares that are none, and a sink that nothing goes to."""
    for name in ("request_log_share", "record_share", "prediction_log_share"):
        share = getattr(settings, name)
        if not share <= 1:
            raise UsageError(f"--{name}: found {share:g}, wanted 0 to 1")
    sink = settings.prediction_log_sink
    if sink and not sink.startswith(("http://", "https://")):
        raise UsageError(f"--prediction_log_sink: found {sink!r}, wanted an http(s) address")
    if sink and not (settings.prediction_log_share or settings.feedback):
        raise UsageError("--prediction_log_sink: nothing goes there; --prediction_log_share=0.01 sends 1 % of them")
    if any(len(secret) < MIN_SECRET for secret in settings.feedback_secrets):
        raise UsageError(f"--feedback_secret: found a secret of less than {MIN_SECRET} characters")


FLAGS = flags_of(Settings)


def load_settings(arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from command line `arguments` (without the program's name) and `environment` (the process's own).

    Raises:
        UsageError: an unknown flag or `SERVING_*` variable, a bad value, or values that do not go together.
    """
    environment = os.environ if environment is None else environment
    values = _image_environment(environment)
    values |= from_environment(FLAGS, environment)
    values |= from_arguments(FLAGS, arguments)
    settings = Settings(**values)
    if settings.demo and values.keys() & {"model_base_path", "model_config_file"}:
        # A variable that should have held the path and was empty: no reason to serve the demo in its place.
        settings.require_models()
    return settings


def cluster_environment() -> dict[str, str]:
    """What says where the cluster is: `KUBECONFIG`, and what Kubernetes tells a pod."""
    names = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def own_service() -> str:
    """The Knative Service that this process is a pod of; empty for none."""
    return os.environ.get("K_SERVICE", "")


def telemetry_environment() -> dict[str, str]:
    """OpenTelemetry's own variables, `OTEL_*`."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


def own_revision() -> str:
    """The Knative Revision that this process is a pod of; empty for none."""
    return os.environ.get("K_REVISION", "")


def deployer_environment() -> dict[str, str]:
    """What the deploy function's settings are read from: `SERVING_*` and `PORT`."""
    return {name: value for name, value in os.environ.items() if name == "PORT" or name.startswith("SERVING_")}


def sink_environment() -> dict[str, str]:
    """What Knative tells an event source: where events go, what they carry, whom to trust there."""
    names = ("K_SINK", "K_CE_OVERRIDES", "K_CA_CERTS")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _image_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What TensorFlow Serving's image (`MODEL_NAME`, `MODEL_BASE_PATH`) and Knative (`PORT`) set.

    `MODEL_BASE_PATH` is the parent folder of the model, as in that image: the model is `MODEL_BASE_PATH/MODEL_NAME`.
    """
    values: dict[str, Any] = {}
    name, base = environment.get("MODEL_NAME", ""), environment.get("MODEL_BASE_PATH", "")
    if name or base:
        values["model_name"] = name or "model"
        values["model_base_path"] = f"{(base or '/models').rstrip('/')}/{values['model_name']}"
    if environment.get("PORT"):
        values["port"] = FLAGS["port"].parse(environment["PORT"], "PORT")
    return values
