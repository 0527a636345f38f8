"""Targets: what requests carry. JSON, the Open Inference Protocol, tensors, forms, pictures, CloudEvents."""

import asyncio
import functools
import gzip
import io
import json
from typing import Any
from unittest import mock

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

import loader.protos as _protos

assert _protos
from tensorflow.core.framework.tensor_pb2 import TensorProto  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from functions.cloud_event import CloudEvents, EventRules  # noqa: E402
from functions.oip import contents as oip_contents  # noqa: E402
from functions.oip.calls import Inference  # noqa: E402
from functions.oip.grpc_service import decode_inputs  # noqa: E402
from functions.oip.json_body import decode_infer, encode_infer  # noqa: E402
from functions.proto import open_inference_pb2 as oip  # noqa: E402
from functions.rest import json_decode  # noqa: E402
from functions.rest.image import read_images  # noqa: E402
from functions.rest.image_request import ImageLimits, read_image_call  # noqa: E402
from functions.rest.json_base64 import decode_base64  # noqa: E402
from functions.rest.json_examples import decode_examples  # noqa: E402
from functions.rest.json_text import parse_json, show  # noqa: E402
from functions.rest.multipart import read_parts  # noqa: E402
from functions.sidecar import ImageRules  # noqa: E402
from functions.web.inflate import inflate  # noqa: E402
from functions.web.message import Request, Response  # noqa: E402
from loader import dtypes  # noqa: E402
from loader.packed import decode_varints, encode_varints  # noqa: E402
from loader.saved_model import read_signatures  # noqa: E402
from loader.signature import TensorSpec  # noqa: E402
from loader.status import ServingError  # noqa: E402
from loader.tensor_proto import from_array, to_array  # noqa: E402
from loader.wire import WireError  # noqa: E402
from tests.functions.served import GOLDEN_MODELS  # noqa: E402
from tests.fuzz.target import DefectError, Target  # noqa: E402

GOLDEN = GOLDEN_MODELS.parent


@functools.cache
def recorded(*endings: str) -> list[bytes]:
    """Bodies of the recorded REST requests whose path ends like that."""
    found = [
        each["request"]["body"].encode("utf-8", "surrogateescape")
        for each in json.loads((GOLDEN / "rest.json").read_text())
        if each["request"]["path"].endswith(endings) and each["request"]["body"]
    ]
    return sorted({body for body in found if len(body) < 8192}, key=len)


@functools.cache
def recorded_predictions() -> list[Any]:
    """The recorded gRPC PredictRequests."""
    return [
        text_format.Parse(each["request_text"], predict_pb2.PredictRequest())
        for each in json.loads((GOLDEN / "grpc.json").read_text())
        if each["method"] == "Predict" and each["request_text"]
    ]


@functools.cache
def signatures() -> Any:
    """The recorded model's, over every dtype."""
    return read_signatures(GOLDEN_MODELS / "golden" / "1")


def same(one: Any, other: Any) -> bool:
    """Whether two predict bodies mean the same."""
    return (one.signature_name, one.row, sorted(one.inputs)) == (
        other.signature_name,
        other.row,
        sorted(other.inputs),
    ) and all(
        value.dtype == other.inputs[alias].dtype
        and value.shape == other.inputs[alias].shape
        and value.tobytes() == other.inputs[alias].tobytes()
        if value.dtype.kind != "O"
        else value.tolist() == other.inputs[alias].tolist()
        for alias, value in one.inputs.items()
    )


def predict_json(data: bytes) -> None:
    """Both ways of reading must agree, in what they give and in what they refuse."""
    fast: Any = None
    refused: ServingError | None = None
    try:
        fast = json_decode.decode_predict(data, signatures())
    except ServingError as error:
        refused = error
    with mock.patch.object(json_decode, "read_numbers", return_value=None):
        try:
            exact = json_decode.decode_predict(data, signatures())
        except ServingError as error:
            if refused is None or (refused.code, refused.message) != (error.code, error.message):
                raise DefectError(f"the fast way gives {fast}, the exact one refuses: {error}") from error
            return
    if fast is None or not same(fast, exact):
        raise DefectError(f"the fast way gives {fast or refused}, the exact one {exact}")


def shown_json(data: bytes) -> None:
    text = show(parse_json(data))
    if len(text) > 16 << 10:
        raise DefectError(f"an error would show {len(text)} characters")


def infer_json(data: bytes) -> None:
    """The first two bytes are the length of the JSON; 0 stands for no header."""
    size, body = int.from_bytes(data[:2], "big"), data[2:]
    request = decode_infer(body, b"%d" % size if size else None)
    encode_infer(Inference("m", "1", tuple(request.inputs.items())), request)


def infer_json_corpus() -> list[bytes]:
    text = {
        "id": "7",
        "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, 4]]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        "parameters": {"signature_name": "serving_default", "timeout": 1000},
    }
    strings = {"inputs": [{"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "\u00fc"]}]}
    encoded = {
        "inputs": [
            {
                "name": "s",
                "shape": [1],
                "datatype": "BYTES",
                "data": ["YWJj"],
                "parameters": {"content_type": "base64"},
            }
        ]
    }
    others = [
        {"inputs": [{"name": "x", "shape": [3], "datatype": kind, "data": [0, 1, 1]}]}
        for kind in ("BOOL", "INT8", "UINT64", "FP16", "FP64", "BF16")
    ]
    raw = {
        "inputs": [
            {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            {"name": "s", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
        ],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(raw).encode()
    tail = np.float32([1, 2]).tobytes() + b"\3\0\0\0abc\0\0\0\0"
    return [b"\0\0" + json.dumps(each).encode() for each in (text, strings, encoded, *others)] + [
        len(head).to_bytes(2, "big") + head + tail
    ]


def tensor_proto(data: bytes) -> None:
    array = to_array(TensorProto.FromString(data))
    again = to_array(from_array(array))
    if array.shape != again.shape or array.dtype != again.dtype:
        raise DefectError(f"{array.dtype}{array.shape} comes back as {again.dtype}{again.shape}")


def tensor_proto_corpus() -> list[bytes]:
    found = [tensor.SerializeToString() for request in recorded_predictions() for tensor in request.inputs.values()]
    for number in (*range(1, 11), 14, 17, 18, 19, 22, 23, 24, 25, 29, 30, 31, 32):
        kind = dtypes.of_number(number)
        value = np.array([b"a", b""], object) if kind is dtypes.STRING else np.ones((2, 50), kind.numpy)
        found += [from_array(value).SerializeToString(), from_array(value, content=True).SerializeToString()]
    for sizes in ((0, 1 << 31, 1 << 31, 1 << 31), (1 << 20, 1 << 20), (1 << 62, 4), (-1, 2), (0,) * 70, (1 << 24,)):
        claim = TensorProto(dtype=1, float_val=[1.0])
        for size in sizes:
            claim.tensor_shape.dim.add(size=size)
        found.append(claim.SerializeToString())
    return found


def infer_tensors(data: bytes) -> None:
    for array in decode_inputs(oip.ModelInferRequest.FromString(data)).values():
        if array.dtype.name not in ("float16", "bfloat16"):
            oip_contents.to_contents(array, oip.InferTensorContents())


def infer_tensors_corpus() -> list[bytes]:
    found = []
    for datatype, field, values in (
        ("FP32", "fp32_contents", [1.0, 2.0]),
        ("FP64", "fp64_contents", [1.0]),
        ("INT8", "int_contents", [-1, 127]),
        ("UINT16", "uint_contents", [1, 65535]),
        ("INT64", "int64_contents", [-1] * 70),
        ("UINT64", "uint64_contents", [2**64 - 1]),
        ("BOOL", "bool_contents", [True, False]),
        ("BYTES", "bytes_contents", [b"a", b""]),
    ):
        request = oip.ModelInferRequest(model_name="m", model_version="1", id="7")
        tensor = request.inputs.add(name="x", datatype=datatype, shape=[len(values)])
        getattr(tensor.contents, field).extend(values)
        found.append(request.SerializeToString())
    raw = oip.ModelInferRequest(model_name="m", raw_input_contents=[np.float32([1, 2]).tobytes(), b"\1\0\0\0a"])
    raw.inputs.add(name="x", datatype="FP32", shape=[2])
    raw.inputs.add(name="s", datatype="BYTES", shape=[1])
    raw.inputs[0].parameters["p"].int64_param = 1
    return [*found, raw.SerializeToString()]


def varints(data: bytes) -> None:
    numbers = decode_varints(memoryview(data))
    if not np.array_equal(decode_varints(memoryview(encode_varints(numbers))), numbers):
        raise DefectError("varints change")


def form(data: bytes) -> None:
    """The first line is the content type."""
    kind, _, body = data.partition(b"\n")
    for part in read_parts(body, kind, 20):
        if len(part.content) > len(body):
            raise DefectError("a part is longer than the body")


def form_corpus() -> list[bytes]:
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        b'\x89PNG\r\n--b\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n--b--\r\n'
    )
    return [b"multipart/form-data; boundary=b\n" + parts, b'multipart/form-data; boundary="b"\n' + parts]


_SPECS = (
    TensorSpec("x", "x:0", dtypes.FLOAT.number, (-1, 8, 8, 3)),
    TensorSpec("x", "x:0", dtypes.UINT8.number, (-1, -1, -1, 1)),
    TensorSpec("x", "x:0", dtypes.FLOAT.number, (-1, 64)),
)


def picture(data: bytes) -> None:
    for spec in _SPECS:
        read_images([data], spec, ImageRules(), 1 << 22)


def picture_corpus() -> list[bytes]:
    from PIL import Image  # noqa: PLC0415  only this target needs it

    found = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("RGB", "L", "1", "P", "RGBA", "I;16", "CMYK", "F"):
        made = Image.new("RGB", (9, 7), (200, 10, 30)).convert("L" if mode == "I;16" else mode)
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
            out = io.BytesIO()
            try:
                made.save(out, kind, **({"exif": exif} if kind in ("JPEG", "TIFF", "WEBP", "PNG") else {}))
            except (OSError, ValueError, KeyError):
                continue  # not every format has every mode
            found.append(out.getvalue())
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg"):
            out = io.BytesIO()
            try:
                made.save(out, "TIFF", compression=compression)
            except (OSError, ValueError, KeyError):
                continue
            found.append(out.getvalue())
    return found


def image_form(data: bytes) -> None:
    """A form of pictures for a model, with its query; the first two lines are query and content type."""
    query, _, rest = data.partition(b"\n")
    kind, _, body = rest.partition(b"\n")
    request = Request("POST", "/v1/models/m:predict", query, {b"content-type": kind}, body)
    model = mock.Mock(path=str(GOLDEN_MODELS / "golden" / "1"), signatures=signatures())
    read_image_call(request, model, ImageLimits(1 << 20, 8))


def image_form_corpus() -> list[bytes]:
    return [b"top_k=3&signature_name=strs\n" + each for each in form_corpus()] + [
        b"signature_name=bytes_in\nimage/png\n" + picture_corpus()[0]
    ]


async def _predictions(request: Request) -> Response:
    return Response(200, ((b"content-type", b"application/json"),), b'{"predictions": [1.0]}')


def cloud_event(data: bytes) -> None:
    """Headers line by line, an empty line, the data."""
    head, _, body = data.partition(b"\n\n")
    headers = {
        name.lower().strip(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\n"))
    }
    rules = EventRules("reply", "", ("memory://in",), 1000)
    events = CloudEvents(rules, _predictions, lambda: ["m"], lambda url, size: b'{"instances": [1.0]}')
    asyncio.run(events.handle(Request("POST", "/", b"", headers, body)))


def cloud_event_corpus() -> list[bytes]:
    binary = (
        b"ce-specversion: 1.0\nce-type: t\nce-source: /s\nce-id: 1\nce-subject: x\ncontent-type: application/json\n\n"
    )
    event = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1", "time": "2026-01-01T00:00:00Z"}
    structured = b"content-type: application/cloudevents+json\n\n"
    return [
        binary + b'{"instances": [1.0, 2.0]}',
        binary + b'{"uri": "memory://in/a.json"}',
        structured + json.dumps(event | {"data": {"instances": [1.0]}, "model": "m"}).encode(),
        structured + json.dumps(event | {"data_base64": "e30=", "datacontenttype": "text/plain"}).encode(),
    ]


def base64_text(data: bytes) -> None:
    decode_base64(data.decode("latin-1"))
    decode_base64(data.decode("utf-8", "replace"))


_JSON_WORDS = (
    *b"[ { ] } , : null NaN -Infinity \xff \xef\xbb\xbf // \0".split(b" "),
    *b'" "instances" "inputs" "signature_name" "b64" "x" "\\ud800" "\\udc00" "uri" "data" "data_base64"'.split(b" "),
    *b'"datatype" "shape" "BYTES" "parameters" "content_type":"base64" "binary_data_size"'.split(b" "),
    b"[" * 600,
    b'{"a":' * 600,
)
_BROKEN = (ServingError, DecodeError)

TARGETS = (
    Target("json_predict", predict_json, lambda: recorded(":predict"), words=_JSON_WORDS),
    Target("json_shown", shown_json, lambda: recorded(":predict", ":classify"), words=_JSON_WORDS),
    Target(
        "json_examples", lambda data: void(decode_examples(data)), lambda: recorded(":classify", ":regress"),
        words=_JSON_WORDS,
    ),
    Target("oip_json", infer_json, infer_json_corpus, words=_JSON_WORDS),
    # protobuf's own refusal of what is no message comes before any code of ours
    Target("tensor_proto", tensor_proto, tensor_proto_corpus, errors=_BROKEN),
    Target("oip_tensors", infer_tensors, infer_tensors_corpus, errors=_BROKEN),
    Target("varints", varints, lambda: [b"\1\2\3", b"\x80\1" * 40, b"\xff" * 9 + b"\1"], errors=(WireError,)),
    Target("multipart", form, form_corpus, words=(b"--b", b"\r\n", b"--b--\r\n", b"--", b"\r\n--b\r\n", b"boundary=")),
    Target("picture", picture, picture_corpus),
    Target("image_form", image_form, image_form_corpus, words=(b"--b", b"\r\n", b"%ff", b"top_k=", b"image/")),
    Target("cloud_event", cloud_event, cloud_event_corpus, words=(*_JSON_WORDS, b"ce-", b"\n", b"\xc3")),
    Target("base64", base64_text, lambda: [b"YWJj", b"YQ==", b"YWI=", b" Y Q = = "], words=(b"=", b".", b" ", b"-_")),
    Target(
        "gzip", lambda data: void(inflate(data, 1 << 20)),
        lambda: [gzip.compress(b"a" * size, mtime=0) for size in (0, 9, 100_000)],
    ),
)  # fmt: skip


def void(_: object) -> None:
    """For targets whose result does not matter."""
