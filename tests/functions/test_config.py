"""Settings from the command line and the environment."""

import pytest

from functions.config import FLAGS, Settings, load_settings
from functions.flags import UsageError

STOCK_DEFAULTS = {
    "port": 8500,
    "grpc_socket_path": "",
    "rest_api_port": 0,
    "rest_api_timeout_in_ms": 30000,
    "rest_api_enable_cors_support": False,
    "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False,
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False,
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": 0,
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60000000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True,
    "tensorflow_session_parallelism": 0,
    "tensorflow_session_config_file": "",
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": False,
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": 0,
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": True,
    "prefer_tflite_model": False,
    "num_tflite_interpreters_per_pool": 1,
    "enable_signature_method_name_check": False,
    "xla_cpu_compilation_enabled": False,
    "xla_gpu_compilation_enabled": False,
    "enable_profiler": True,
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": False,
    "enable_grpc_healthcheck_service": False,
    "enable_serialization_as_tensor_content": False,
}
SIZED_BY_THE_MACHINE = {"rest_api_num_threads", "grpc_max_threads", "num_tflite_pools"}


@pytest.mark.parametrize(("name", "default"), STOCK_DEFAULTS.items())
def test_a_flag_of_the_stock_server_has_its_name_and_default(name: str, default: object) -> None:
    assert FLAGS[name].stock
    assert FLAGS[name].default == default


def test_only_flags_of_the_stock_server_are_marked_so() -> None:
    assert {name for name, one in FLAGS.items() if one.stock} == STOCK_DEFAULTS.keys() | SIZED_BY_THE_MACHINE


@pytest.mark.parametrize("arguments", [["--model_name=m"], ["--model_name", "m"], ["--model-name=m"]])
def test_a_flag_is_given_with_an_equals_sign_a_space_or_dashes(arguments: list[str]) -> None:
    assert load_settings(arguments, {}).model_name == "m"


def test_a_boolean_flag_alone_means_true() -> None:
    assert load_settings(["--rest_api_enable_cors_support", "--port=1"], {}).rest_api_enable_cors_support


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_a_boolean_takes_the_words_of_the_stock_server(text: str, value: bool) -> None:
    assert load_settings([f"--enable_model_warmup={text}"], {}).enable_model_warmup is value


def test_every_flag_has_an_environment_twin() -> None:
    environment = {one.environment: str(one.default) for one in FLAGS.values()}
    environment |= {"SERVING_MODEL_BASE_PATH": "/m"}  # an empty one is refused
    assert load_settings([], environment) == Settings(model_base_path="/m")


def test_the_command_line_wins_over_the_environment() -> None:
    assert load_settings(["--port=1"], {"SERVING_PORT": "2", "PORT": "3"}).port == 1
    assert load_settings([], {"SERVING_PORT": "2", "PORT": "3"}).port == 2
    assert load_settings([], {"PORT": "3"}).port == 3


def test_model_name_and_model_base_path_mean_what_they_mean_to_the_stock_image() -> None:
    both = load_settings([], {"MODEL_NAME": "m", "MODEL_BASE_PATH": "s3://bucket/models/"})
    assert (both.model_name, both.model_base_path) == ("m", "s3://bucket/models/m")
    name = load_settings([], {"MODEL_NAME": "m"})
    assert (name.model_name, name.model_base_path) == ("m", "/models/m")
    base = load_settings([], {"MODEL_BASE_PATH": "/x"})
    assert (base.model_name, base.model_base_path) == ("model", "/x/model")


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (["--model_nam=x"], {}, "unknown flag --model_nam; the nearest known one is --model_name"),
        (["--zzz"], {}, "unknown flag --zzz; `zeroserve serve --help` lists all"),
        (["x"], {}, "unexpected argument 'x': every setting is a flag, --name=value"),
        (["--port=a"], {}, "--port: found 'a', wanted a whole number"),
        (["--port"], {}, "--port: the value is missing, wanted --port=VALUE"),
        (["--enable_batching=maybe"], {}, "--enable_batching: found 'maybe', wanted true or false"),
        (["--max_num_load_retries=-1"], {}, "--max_num_load_retries: found -1, wanted 0 or more"),
        (["--log_level=loud"], {}, "--log_level: found 'loud', wanted one of debug, info, warning, error"),
        (["--port=99999"], {}, "--port=99999, --rest_api_port=0: wanted 0 to 65535"),
        (
            ["--prefer_tflite_model"],
            {},
            "--prefer_tflite_model: not supported: a version that holds model.tflite is run by LiteRT",
        ),
        ([], {"SERVING_PROT": "1"}, "unknown environment variable SERVING_PROT; the nearest known one is SERVING_PORT"),
        ([], {"SERVING_port": "1"}, "unknown environment variable SERVING_port"),
        ([], {"SERVING_PORT": "x"}, "SERVING_PORT: found 'x', wanted a whole number"),
        ([], {"PORT": "x"}, "PORT: found 'x', wanted a whole number"),
        (["--port=0"], {}, "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."),
        (
            ["--model_base_path="],
            {},
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
        ),
        ([], {"SERVING_MODEL_CONFIG_FILE": ""}, "Both server_options.model_base_path and"),
        (["--port=1", "--rest_api_port=1"], {}, "--port and --rest_api_port are both 1"),
        (["--saved_model_tags="], {}, "--saved_model_tags: found nothing"),
        (
            ["--batching_parameters_file=f"],
            {},
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true.",
        ),
        (
            ["--tensorflow_session_parallelism=1", "--tensorflow_intra_op_parallelism=1"],
            {},
            "Either configure server_options.tensorflow_session_parallelism or",
        ),
    ],
)
def test_what_makes_no_sense_ends_the_start_with_one_line(
    arguments: list[str], environment: dict[str, str], line: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(arguments, environment)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_variables_that_kubernetes_makes_for_a_service_called_serving_are_not_settings() -> None:
    links = {
        "SERVING_MODELS_SERVICE_HOST": "10.0.0.1",
        "SERVING_MODELS_SERVICE_PORT": "80",
        "SERVING_MODELS_SERVICE_PORT_HTTP": "80",
        "SERVING_MODELS_PORT": "tcp://10.0.0.1:80",
        "SERVING_MODELS_PORT_80_TCP": "tcp://10.0.0.1:80",
        "SERVING_MODELS_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings([], links) == Settings()


def test_settings_without_a_model_are_refused_in_the_stock_servers_words() -> None:
    with pytest.raises(
        UsageError, match=r"^Both server_options[.]model_base_path and server_options[.]model_config_file are empty!"
    ):
        load_settings([], {}).require_models()
