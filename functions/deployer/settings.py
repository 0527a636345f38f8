"""Settings of the deploy function: flags of `zeroserve deployer`, each with its environment twin `SERVING_<FLAG>`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from functions.flags import UsageError, flag, flags_of, from_arguments, from_environment
from loader.storage import DRIVERS

LISTEN = "Port"
CLUSTER = "Cluster"
SENDERS = "Who may send events"
ROLLOUTS = "Rollouts"
WORK = "Work"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployerSettings:
    """All settings of one deploy function, checked."""

    host: str = flag("0.0.0.0", LISTEN, "Address to listen on.")  # noqa: S104  a container is reached from outside
    port: int = flag(8080, LISTEN, "Port; Knative says it in PORT.", minimum=0)
    port_file: str = flag(
        "",
        LISTEN,
        "File that the port is written to once the server listens; with it, --port=0 takes any free port.",
    )
    drain_timeout_seconds: float = flag(
        30.0, LISTEN, "Seconds that requests in flight get to finish after SIGTERM.", minimum=0
    )

    kubeconfig: str = flag(
        "", CLUSTER, "File that says where the cluster is; empty means KUBECONFIG, or the pod's own."
    )
    namespace: str = flag("", CLUSTER, "Namespace of the services; empty means the pod's, or the context's.")

    event_secret_file: str = flag(
        "",
        SENDERS,
        "File with the shared secrets, one on each line, any of which a sender may show in Authorization: as Bearer, "
        "as the password of Basic, or alone. Read again for each event.",
    )
    event_audience: str = flag(
        "", SENDERS, "What OIDC tokens must be meant for; empty takes no tokens. A Trigger's audience, for instance."
    )
    event_issuers: str = flag(
        "",
        SENDERS,
        "Issuers of such tokens beside the cluster's own, as https URLs separated by commas: "
        "https://accounts.google.com signs those of Pub/Sub.",
    )
    event_subjects: str = flag(
        "",
        SENDERS,
        "Subjects that such tokens may have, separated by commas, * for anything; empty means the service accounts of "
        "this namespace.",
    )
    anonymous_events: bool = flag(
        False, SENDERS, "Takes events from everybody who reaches the port. For a port that only the cluster reaches."
    )
    sns_topics: str = flag(
        "", SENDERS, "ARNs, separated by commas, of the Amazon SNS topics whose subscriptions are confirmed."
    )

    peer_url: str = flag(
        "http://{tag}-{service}.{namespace}.svc.cluster.local",
        ROLLOUTS,
        "Where gates reach a revision, by its tag: {tag}, {service} and {namespace} are filled in.",
    )
    peer_gateway: str = flag(
        "",
        ROLLOUTS,
        "host:port of a proxy that every revision is reached through, told by the Host header; empty asks DNS.",
    )
    rollout_sink: str = flag(
        "", ROLLOUTS, "URL that events about rollouts go to; empty means K_SINK, and without that nowhere."
    )

    storage_driver: str = flag(
        "auto", WORK, "Client that reads s3, gs and abfs; see the flag of zeroserve serve.", choices=DRIVERS
    )
    look_threads: int = flag(8, WORK, "Models that are looked at at the same time.", minimum=1)
    log_level: str = flag(
        "info", WORK, "Least severe message that is logged.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = flag(
        "text", WORK, "How lines are logged: see the flag of zeroserve serve.", choices=("text", "json")
    )

    def __post_init__(self) -> None:
        """Refuses a door that nobody could pass, and one whose openness contradicts itself."""
        guarded = self.event_secret_file or self.event_audience
        if self.anonymous_events and guarded:
            raise UsageError("--anonymous_events goes with neither --event_secret_file nor --event_audience")
        if not self.anonymous_events and not guarded:
            raise UsageError(
                "nobody may send events: wanted --event_secret_file, --event_audience, or --anonymous_events where "
                "only the cluster reaches the port"
            )
        if any(not issuer.startswith("https://") for issuer in words(self.event_issuers)):
            raise UsageError(f"--event_issuers={self.event_issuers}: wanted https URLs separated by commas")
        try:
            self.peer_url.format(tag="v1", service="m", namespace="n")
        except (KeyError, IndexError, ValueError):
            raise UsageError(
                f"--peer_url={self.peer_url}: wanted a URL with {{tag}}, {{service}} and {{namespace}} in it"
            ) from None
        if self.port > 65_535 or (self.port == 0 and not self.port_file):
            raise UsageError(f"--port={self.port}: wanted 1 to 65535, or 0 with --port_file")


FLAGS = flags_of(DeployerSettings)


def load_deployer_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> DeployerSettings:
    """Settings from the command line (without the program's name) and the environment, where `PORT` counts too.

    Raises:
        UsageError: an unknown flag or `SERVING_*` variable, a bad value, or values that do not go together.
    """
    values = {"port": FLAGS["port"].parse(environment["PORT"], "PORT")} if environment.get("PORT") else {}
    values |= from_environment(FLAGS, environment)
    values |= from_arguments(FLAGS, arguments)
    return DeployerSettings(**values)


def words(text: str) -> tuple[str, ...]:
    """The words between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
