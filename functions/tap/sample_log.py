"""A sample as the stock server's PredictionLog: its own kind of log for each API. Pure.

An array that is omitted has its dtype and shape there, and no content; `omitted` names such.

Source: tensorflow_serving/apis/prediction_log.proto, logging.proto, input.proto, inference.proto;
core/request_logger.cc (metadata).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

import loader.protos as _protos  # before the messages: see there
from functions.rpc.results import write_classifications, write_regressions
from functions.tap.sample import CLASSIFY, EXAMPLES, MULTI, PREDICT, Answered, Omitted, Sample, Value
from loader.signature import CLASSIFY_METHOD, REGRESS_METHOD
from loader.tensor_proto import write

assert _protos  # noqa: S101
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog  # noqa: E402

_SECOND = 1_000_000_000


def prediction_log(sample: Sample) -> PredictionLog:
    """The log."""
    log = PredictionLog()
    metadata = log.log_metadata
    _spec(metadata.model_spec, sample, sample.answers[0].signature)
    metadata.sampling_config.sampling_rate = sample.share
    metadata.timestamp_secs = sample.unix_ns // _SECOND
    if sample.kind == PREDICT:
        _predict(log.predict_log, sample)
    elif sample.kind == MULTI:
        _multi(log.multi_inference_log, sample)
    else:
        entry = log.classify_log if sample.kind == CLASSIFY else log.regress_log
        _spec(entry.request.model_spec, sample, sample.answers[0].signature)
        _examples(entry.request.input, sample.inputs[EXAMPLES])
        _spec(entry.response.model_spec, sample, sample.answers[0].signature)
        _result(entry.response.result, sample.answers[0])
    return log


def omitted(sample: Sample) -> list[str]:
    """The names of what is omitted, inputs first."""
    values = [*sample.inputs.items(), *(pair for one in sample.answers for pair in one.outputs.items())]
    return [name for name, value in values if isinstance(value, Omitted)]


def request_digest(log: PredictionLog) -> bytes:
    """What tells the request of a log from another: 16 bytes, of all but the model and version that answered it."""
    kind = log.WhichOneof("log_type")
    request = type(getattr(log, kind).request)()
    request.CopyFrom(getattr(log, kind).request)
    for spec in [task.model_spec for task in request.tasks] if kind == "multi_inference_log" else [request.model_spec]:
        spec.ClearField("name")
        spec.ClearField("version_choice")
    content = request.SerializeToString(deterministic=True)
    return hashlib.blake2b(content, digest_size=16, person=kind.encode()[:16]).digest()


def _predict(log: Any, sample: Sample) -> None:
    answer = sample.answers[0]
    _spec(log.request.model_spec, sample, answer.signature)
    _tensors(sample.inputs, log.request.inputs)
    if answer.filtered:
        log.request.output_filter.extend(answer.outputs)
    _spec(log.response.model_spec, sample, answer.signature)
    _tensors(answer.outputs, log.response.outputs)


def _multi(log: Any, sample: Sample) -> None:
    _examples(log.request.input, sample.inputs[EXAMPLES])
    for answer in sample.answers:
        task, result = log.request.tasks.add(), log.response.results.add()
        _spec(task.model_spec, sample, answer.signature)
        _spec(result.model_spec, sample, answer.signature)
        if answer.kind == CLASSIFY:
            task.method_name = CLASSIFY_METHOD
            _result(result.classification_result, answer)
        else:
            task.method_name = REGRESS_METHOD
            _result(result.regression_result, answer)


def _spec(spec: Any, sample: Sample, signature: str) -> None:
    spec.name = sample.model
    spec.version.value = sample.version
    spec.signature_name = signature


def _tensors(values: Mapping[str, Value], tensors: Any) -> None:
    for alias, value in values.items():
        tensor = tensors[alias]
        if isinstance(value, Omitted):
            tensor.dtype = value.dtype
            for size in value.shape:
                tensor.tensor_shape.dim.add().size = size
        else:
            write(value, tensor, content=True)


def _examples(message: Any, value: Value) -> None:
    if isinstance(value, Omitted):
        return
    for text in value.ravel().tolist():
        message.example_list.examples.add().MergeFromString(bytes(text))


def _result(result: Any, answer: Answered) -> None:
    arrays = {name: value for name, value in answer.outputs.items() if isinstance(value, np.ndarray)}
    if answer.kind == CLASSIFY:
        write_classifications(arrays.get("classes"), arrays.get("scores"), result)
    elif "outputs" in arrays:
        write_regressions(arrays["outputs"], result)
