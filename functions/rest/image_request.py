"""A POST of pictures: which ones, for which input, and how the answer looks."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from functions.rest.image import read_images
from functions.rest.multipart import read_parts
from functions.sidecar import Sidecar, read_sidecar
from functions.web.message import Request
from loader.dtypes import Array
from loader.saved_model import SavedModel
from loader.signature import DEFAULT_SIGNATURE, Signature
from loader.status import Code, ServingError

FORM = b"multipart/form-data"
PICTURE = b"image/"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one request may hold.

    Attributes:
        pixels: of one picture.
        pictures: in one request.
    """

    pixels: int
    pictures: int


@dataclass(frozen=True, slots=True)
class ImageCall:
    """Pictures, ready to run.

    Attributes:
        signature_name: the signature to call.
        inputs: by alias.
        count: how many pictures.
        sidecar: how to answer.
        top_k: how many classes each picture's answer has; 0 means all.
    """

    signature_name: str
    inputs: dict[str, Array]
    count: int
    sidecar: Sidecar
    top_k: int


def is_images(request: Request) -> bool:
    """Whether the request's content type says pictures: `image/*` or a form."""
    content_type = request.headers.get(b"content-type")
    return content_type is not None and content_type[:19].lower().startswith((PICTURE, FORM))


def read_image_call(request: Request, model: SavedModel, limits: ImageLimits) -> ImageCall:
    """The pictures of `request` as the input of a signature of `model`. Takes milliseconds: call it in a thread.

    The query, or the fields of a form, may name `signature_name` and `top_k`.

    Raises:
        ServingError: INVALID_ARGUMENT for what the client sent, FAILED_PRECONDITION where model or sidecar do not fit.
    """
    pictures, fields = _pictures(request, limits)
    sidecar = read_sidecar(Path(model.path))
    rules = sidecar.image
    name = fields.get("signature_name") or rules.signature or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise ServingError(Code.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def')
    alias = rules.input or _only_input(signature)
    spec = signature.inputs.get(alias)
    if spec is None:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"sidecar image.input: found {alias!r}, wanted one of {', '.join(sorted(signature.inputs))}",
        )
    inputs = {alias: read_images(pictures, spec, rules, limits.pixels)}
    return ImageCall(name, inputs, len(pictures), sidecar, _top_k(fields, rules.top_k))


def _only_input(signature: Signature) -> str:
    wanted = [alias for alias in signature.inputs if alias not in signature.defaults]
    if len(wanted) != 1:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"signature {signature.name!r} has the inputs {', '.join(sorted(signature.inputs)) or 'none'}: which one"
            " takes pictures? Say it in assets.extra/zeroserve.json: image.input",
        )
    return wanted[0]


def _pictures(request: Request, limits: ImageLimits) -> tuple[list[bytes], dict[str, str]]:
    fields = {key: values[-1] for key, values in parse_qs(request.query.decode("latin-1")).items()}
    content_type = request.headers[b"content-type"]
    if content_type[: len(PICTURE)].lower() == PICTURE:
        return [request.body], fields
    pictures = []
    # a few more parts than pictures: the fields beside them
    for part in read_parts(request.body, content_type, limits.pictures + 16):
        if part.is_file or part.content_type.startswith("image/"):
            pictures.append(part.content)
        else:
            fields[part.name] = part.content.decode("utf-8", "replace")
    if not 0 < len(pictures) <= limits.pictures:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"the form has {len(pictures)} pictures, wanted 1 to {limits.pictures} (--max_images)",
        )
    return pictures, fields


def _top_k(fields: dict[str, str], default: int) -> int:
    text = fields.get("top_k", "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ServingError(Code.INVALID_ARGUMENT, f"top_k: found {text!r}, wanted a whole number")
    return int(text)
