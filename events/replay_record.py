"""One recorded request: a PredictionLog of the stock warm-up format as the REST request it stands for. Pure.

Golden requests are kept in that format because it is the one that exists: the same file warms a version up on this
server and on TensorFlow Serving, `zeroserve record` writes it, and it carries answers too. Replaying over REST lets a
process without TensorFlow ask any server that has it.

Source: tensorflow_serving/apis/{prediction_log,predict,classification,regression,input,model}.proto,
tensorflow/core/example/{example,feature}.proto (field numbers).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from events.replay_tensor import FLOATS, INTEGERS, NotJsonError, b64, numbers, tensor_json
from loader.wire import WireError, fields, messages, text

_CLASSIFY, _REGRESS, _PREDICT = 2, 3, 6
_METHODS = {_CLASSIFY: "classify", _REGRESS: "regress", _PREDICT: "predict"}


@dataclass(frozen=True, slots=True)
class Record:
    """One request.

    Attributes:
        method: `predict`, `classify` or `regress`.
        body: of the REST request.
        answer: the REST answer that was recorded with it; None where none was.
    """

    method: str
    body: dict[str, Any]
    answer: Any = None


def read_record(log: bytes) -> Record:
    """The request of a serialised PredictionLog.

    Raises:
        WireError: it is none.
        NotJsonError: it cannot be asked over REST.
    """
    for number, value in fields(memoryview(log)):
        if number not in _METHODS or not isinstance(value, memoryview):
            continue
        request = next(messages(value, 1), memoryview(b""))
        answer = next(messages(value, 2), None)
        match number:
            case 6:
                return Record("predict", _predict(request), None if answer is None else _predicted(answer))
            case 2:
                return Record("classify", _examples(request), None if answer is None else _classified(answer))
            case _:
                return Record("regress", _examples(request), None if answer is None else _regressed(answer))
    raise NotJsonError("a log that is neither of predict, classify nor regress")


def _predict(request: memoryview) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    wanted: list[str] = []
    for number, value in fields(request):
        if number == 2 and isinstance(value, memoryview):
            alias, tensor = _entry(value)
            inputs[alias] = tensor_json(tensor)
        elif number == 3:
            wanted.append(text(value))
    body = _signature(request) | {"inputs": inputs}
    return body | ({"output_filter": wanted} if wanted else {})


def _predicted(answer: memoryview) -> dict[str, Any]:
    outputs = dict(_entry(entry) for entry in messages(answer, 1))
    values = {alias: tensor_json(tensor) for alias, tensor in outputs.items()}
    # The only output is answered without its name.
    return {"outputs": next(iter(values.values())) if len(values) == 1 else values}


def _signature(request: memoryview) -> dict[str, str]:
    spec = next(messages(request, 1), memoryview(b""))
    name = next((text(value) for number, value in fields(spec) if number == 3), "")
    return {"signature_name": name} if name else {}


def _entry(entry: memoryview) -> tuple[str, memoryview]:
    key, content = "", memoryview(b"")
    for number, value in fields(entry):
        if number == 1:
            key = text(value)
        elif number == 2 and isinstance(value, memoryview):
            content = value
    return key, content


def _examples(request: memoryview) -> dict[str, Any]:
    body: dict[str, Any] = _signature(request)
    given = next(messages(request, 2), memoryview(b""))
    for number, value in fields(given):
        if not isinstance(value, memoryview):
            continue
        body["examples"] = [_example(one) for one in messages(value, 1)]
        if number == 2:
            for context in messages(value, 2):
                body["context"] = _example(context)
    if "examples" not in body:
        raise WireError("a request without examples")
    return body


def _example(content: memoryview) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for features in messages(content, 1):
        for entry in messages(features, 1):
            name, feature = _entry(entry)
            found[name] = list(_feature(feature))
    return found


def _feature(content: memoryview) -> Iterator[Any]:
    for number, value in fields(content):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            yield from (b64(bytes(one)) for one in messages(value, 1))
            continue
        for inner, listed in fields(value):
            if inner == 1:
                yield from numbers(listed, FLOATS if number == 2 else INTEGERS)


def _classified(answer: memoryview) -> dict[str, Any]:
    rows = [row for result in messages(answer, 1) for row in messages(result, 1)]
    return {"results": [[list(_class(one)) for one in messages(row, 1)] for row in rows]}


def _class(content: memoryview) -> tuple[str, float]:
    label, score = "", 0.0
    for number, value in fields(content):
        if number == 1:
            label = text(value)
        elif number == 2:
            score = next(numbers(value, FLOATS))
    return label, score


def _regressed(answer: memoryview) -> dict[str, Any]:
    rows = [row for result in messages(answer, 1) for row in messages(result, 1)]
    return {"results": [_value(row) for row in rows]}


def _value(content: memoryview) -> float:
    return next((next(numbers(value, FLOATS)) for number, value in fields(content) if number == 1), 0.0)
