"""What predict, classify and regress do with one request: decode, run, encode.

Bodies under `THREAD_BYTES` are decoded on the event loop: a hand-over to a thread would cost more than the work.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from functions.observing.metrics import Metrics
from functions.rest.api import Verb
from functions.rest.image_labels import encode_top, is_scores
from functions.rest.image_request import ImageLimits, is_images, read_image_call
from functions.rest.json_decode import decode_predict
from functions.rest.json_encode import encode_classifications, encode_predictions, encode_regressions
from functions.rest.json_examples import decode_examples
from functions.run_call import run_call
from functions.web.message import Request
from loader.dtypes import Array
from loader.inference import classify_call, predict_call, regress_call
from loader.servable import Servable
from loader.status import Code, ServingError

THREAD_BYTES = 256 << 10
"""A body of this size or more is decoded in a thread, so that probes and small requests are answered meanwhile."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RestVerbs:
    """The verbs of the REST API.

    Attributes:
        metrics: where runs and rows are counted.
        limits: what a request of pictures may hold.
    """

    metrics: Metrics
    limits: ImageLimits

    def by_name(self) -> Mapping[str, Verb]:
        """The verbs as the REST API takes them."""
        return {"predict": self.predict, "classify": self.classify, "regress": self.regress}

    async def predict(self, servable: Servable, request: Request, deadline: float) -> bytes:
        """`{"predictions": ...}` for rows, `{"outputs": ...}` for columns, labels for pictures."""
        if is_images(request):
            return await self._images(servable, request, deadline)
        decoded = await _decode(decode_predict, request.body, servable.model.signatures)
        call = predict_call(servable.model, decoded.signature_name, decoded.inputs, decoded.output_filter)
        outputs = (await run_call(servable, "predict", call, deadline, self.metrics)).outputs
        if _size(outputs.values()) < THREAD_BYTES:
            return encode_predictions(outputs, row=decoded.row)
        return await asyncio.to_thread(encode_predictions, outputs, row=decoded.row)

    async def classify(self, servable: Servable, request: Request, deadline: float) -> bytes:
        """`{"results": [[["label", score], ...], ...]}`."""
        decoded = await _decode(decode_examples, request.body)
        call = classify_call(servable.model, decoded.signature_name, decoded.examples)
        return encode_classifications(await run_call(servable, "classify", call, deadline, self.metrics))

    async def regress(self, servable: Servable, request: Request, deadline: float) -> bytes:
        """`{"results": [value, ...]}`."""
        decoded = await _decode(decode_examples, request.body)
        call = regress_call(servable.model, decoded.signature_name, decoded.examples)
        return encode_regressions(await run_call(servable, "regress", call, deadline, self.metrics))

    async def _images(self, servable: Servable, request: Request, deadline: float) -> bytes:
        pictures = await asyncio.to_thread(read_image_call, request, servable.model, self.limits)
        rules = pictures.sidecar.image
        call = predict_call(
            servable.model, pictures.signature_name, pictures.inputs, (rules.output,) if rules.output else ()
        )
        outputs = (await run_call(servable, "predict", call, deadline, self.metrics)).outputs
        scores = next(iter(outputs.values()))
        if len(outputs) == 1 and is_scores(scores, pictures.count):
            return encode_top(scores, pictures.sidecar.labels, pictures.top_k)
        if rules.output:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"sidecar image.output: {rules.output!r} has shape {list(scores.shape)}, wanted [pictures, classes]",
            )
        return encode_predictions(outputs, row=True)


async def _decode(decode: Callable[..., _T], body: bytes, *rest: object) -> _T:
    if len(body) < THREAD_BYTES:
        return decode(body, *rest)
    return await asyncio.to_thread(decode, body, *rest)


def _size(arrays: Iterable[Array]) -> int:
    return sum(array.nbytes for array in arrays)
