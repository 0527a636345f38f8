import pytest
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from functions.flags import UsageError
from functions.observing.trace_context import TraceParent, new_trace_id
from functions.tracing.trace_settings import Sampler, TraceSettings, trace_settings

SAMPLED, UNSAMPLED = TraceParent("1" * 32, "1" * 16, sampled=True), TraceParent("1" * 32, "1" * 16, sampled=False)


def test_without_variables_all_is_as_the_specification_has_it() -> None:
    assert trace_settings({}) == TraceSettings(Sampler(follows=True, share=1.0), 2048, 512, 5.0)
    assert trace_settings({"OTEL_TRACES_SAMPLER": " ", "OTEL_TRACES_EXPORTER": ""}) == TraceSettings()


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_two_variables_switch_traces_off(off: dict[str, str]) -> None:
    assert trace_settings(off) is None


@pytest.mark.parametrize(
    ("name", "argument", "of_nobody", "of_sampled", "of_unsampled"),
    [
        ("always_on", "", True, True, True),
        ("always_off", "", False, False, False),
        ("parentbased_always_on", "", True, True, False),
        ("parentbased_always_off", "", False, True, False),
        ("traceidratio", "0", False, False, False),
        ("parentbased_traceidratio", "0", False, True, False),
        ("PARENTBASED_TRACEIDRATIO", "1.0", True, True, False),
    ],
)
def test_samplers_decide_as_the_specification_says(
    name: str, argument: str, of_nobody: bool, of_sampled: bool, of_unsampled: bool
) -> None:
    settings = trace_settings({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert settings is not None
    sampler = settings.sampler
    found = [sampler.samples(parent, "f" * 32) for parent in (None, SAMPLED, UNSAMPLED)]
    assert found == [of_nobody, of_sampled, of_unsampled]


def test_a_share_is_that_of_the_sdk_so_that_all_services_keep_the_same_traces() -> None:
    theirs, ours = TraceIdRatioBased(0.3), Sampler(follows=False, share=0.3)
    for _ in range(500):
        trace = new_trace_id()
        decided = theirs.should_sample(None, int(trace, 16), "").decision.is_sampled()
        assert ours.samples(None, trace) == decided


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_TRACES_SAMPLER_ARG", "half"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9" * 99),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match="wanted"):
        trace_settings({"OTEL_TRACES_SAMPLER": "traceidratio", variable: value})
