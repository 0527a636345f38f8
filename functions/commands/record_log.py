"""One prediction as a PredictionLog: the record of the stock warm-up file. Pure.

Source: tensorflow_serving/apis/prediction_log.proto. Warm-up runs its request, the replay gate compares its response.
"""

from collections.abc import Mapping, Sequence

import loader.protos as _protos  # before the messages: see there
from loader.dtypes import Array
from loader.tensor_proto import write
from loader.tfrecord import encode

assert _protos  # noqa: S101
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog  # noqa: E402


def predict_record(
    model: str,
    signature: str,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    *,
    output_filter: Sequence[str] = (),
) -> bytes:
    """One TFRecord: a prediction that was asked, and its answer.

    Args:
        model: its name.
        signature: its name; empty for the default one.
        inputs: by alias.
        outputs: by alias; empty for a request without its answer.
        output_filter: the outputs that were asked for; empty for all.
    """
    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for alias, array in inputs.items():
        write(array, request.inputs[alias], content=True)
    request.output_filter.extend(output_filter)
    if outputs:
        response = log.predict_log.response
        response.model_spec.name = model
        response.model_spec.signature_name = signature
        for alias, array in outputs.items():
            write(array, response.outputs[alias], content=True)
    return encode(log.SerializeToString())
