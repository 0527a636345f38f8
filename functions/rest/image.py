"""Pictures become a tensor: decoded, turned upright, resized to the signature's shape, scaled as the sidecar says."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from functions.sidecar import ImageRules
from loader import dtypes
from loader.dtypes import Array
from loader.signature import TensorSpec
from loader.status import Code, ServingError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is decoded. Formats that start other programs (EPS) or fetch files are left out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The form of one picture in the input.

    Attributes:
        height: rows; 0 means the picture's own.
        width: columns; 0 means the picture's own.
        channels: order of the colours: `RGB`, `BGR`, `RGBA` or `L`.
        layout: `NHWC`, `NCHW`, `NHW` (grey without a channel axis) or `N*` (all in one axis).
    """

    height: int
    width: int
    channels: str
    layout: str


def plan(spec: TensorSpec, rules: ImageRules) -> Plan:
    """How pictures fill the input `spec`.

    Raises:
        ServingError: FAILED_PRECONDITION when its shape is none that pictures fit, and what the sidecar should say.
    """
    shape = spec.shape
    rank = 4 if shape is None else len(shape)
    sizes = (-1,) * 4 if shape is None else shape
    layout, depth, height, width = rules.layout or "NHWC", -1, -1, -1
    if rank == 4:
        if not rules.layout and sizes[3] not in {1, 3, 4} and sizes[1] in {1, 3, 4}:
            layout = "NCHW"
        depth, height, width = (sizes[3], sizes[1], sizes[2]) if layout == "NHWC" else (sizes[1], sizes[2], sizes[3])
    elif rank == 3:
        layout, depth, height, width = "NHW", 1, sizes[1], sizes[2]
    elif rank == 2:
        layout = "N*"
        height, width = rules.height, rules.width
        if not (height and width):
            height = width = math.isqrt(max(sizes[1], 0))
            depth = 1
        elif sizes[1] > 0:
            depth = sizes[1] // (height * width)
    channels = rules.channels or {1: "L", 4: "RGBA"}.get(depth, "RGB")
    height = height if height > 0 else rules.height
    width = width if width > 0 else rules.width
    fits = rank in {2, 3, 4} and depth in {-1, len(channels)}
    if layout == "N*":
        fits = fits and height * width > 0 and sizes[1] in {-1, height * width * len(channels)}
    if not fits:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"input {spec.alias!r} has shape {'unknown' if shape is None else list(sizes)}, which pictures do not fit: "
            "wanted [batch, height, width, channels], or assets.extra/zeroserve.json with image.width, image.height,"
            " image.channels and image.layout",
        )
    return Plan(height, width, channels, layout)


def read_images(pictures: Sequence[bytes], spec: TensorSpec, rules: ImageRules, max_pixels: int) -> Array:
    """The tensor of `pictures` (encoded files): `spec.dtype[len(pictures), ...]` in the layout of the signature.

    A string input gets the files as they are, `string[len(pictures)]`. Takes milliseconds: call it in a thread.

    Raises:
        ServingError: INVALID_ARGUMENT for a file that is no picture, is cut off or has more than `max_pixels` pixels;
            FAILED_PRECONDITION when the signature takes no pictures.
    """
    if spec.dtype == dtypes.STRING.number:
        files = np.empty(len(pictures), dtype=object)
        files[:] = list(pictures)
        if spec.shape == ():
            if len(pictures) != 1:
                raise ServingError(
                    Code.INVALID_ARGUMENT, f"input {spec.alias!r} takes one picture: found {len(pictures)}"
                )
            return files.reshape(())
        return files
    how = plan(spec, rules)
    target = dtypes.of_number(spec.dtype).numpy
    left = max_pixels
    arrays = []
    for number, content in enumerate(pictures):
        # Pictures that keep their own size stay in memory together, so together they must fit the limit.
        pixels = _decode(content, number, how, rules, left)
        if not (how.height and how.width):
            left -= pixels.shape[0] * pixels.shape[1]
        arrays.append(_scale(pixels, rules, target))
    if len({one.shape for one in arrays}) > 1:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"the pictures have different sizes and input {spec.alias!r} leaves the size open: send one size, or set "
            "image.width and image.height in assets.extra/zeroserve.json",
        )
    return _lay_out(np.stack(arrays), how.layout)


def _decode(content: bytes, number: int, how: Plan, rules: ImageRules, max_pixels: int) -> NDArray[np.uint8]:
    """`uint8[height, width, channels]`."""
    from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415  most models see no pictures

    try:
        # Pillow knows the size from the header; nothing is decoded before it was looked at.
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > max_pixels:
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"picture {number} has {opened.width}x{opened.height} pixels, {max_pixels} are allowed "
                    "(--max_image_pixels)",
                )
            upright = ImageOps.exif_transpose(opened)
            mode = "RGB" if how.channels == "BGR" else how.channels
            picture = upright.convert(mode)
    except UnidentifiedImageError:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"picture {number} is not a picture: wanted one of {', '.join(FORMATS)}"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"picture {number} cannot be decoded: {error}") from None
    pixels = np.asarray(_resize(picture, how, rules), np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    return pixels[:, :, ::-1] if how.channels == "BGR" else pixels


def _resize(picture: "Image", how: Plan, rules: ImageRules) -> "Image":
    from PIL import Image, ImageOps  # noqa: PLC0415

    size = (how.width or picture.width, how.height or picture.height)
    if size == picture.size:
        return picture
    resampling = Image.Resampling[rules.filter.upper()]
    if rules.resize == "crop":
        return ImageOps.fit(picture, size, resampling)
    if rules.resize == "pad":
        return ImageOps.pad(picture, size, resampling)
    return picture.resize(size, resampling)


def _scale(pixels: NDArray[np.uint8], rules: ImageRules, target: "np.dtype[np.generic]") -> Array:
    if rules.scale == 1 and not rules.offset and not rules.mean and not rules.std:
        return pixels.astype(target)
    channels = pixels.shape[2]
    for name, numbers in (("mean", rules.mean), ("std", rules.std)):
        if len(numbers) not in {0, 1, channels}:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"sidecar image.{name} has {len(numbers)} numbers, wanted 1 or {channels}, one for each channel",
            )
    scaled: NDArray[np.float32] = pixels.astype(np.float32) * np.float32(rules.scale) + np.float32(rules.offset)
    if rules.mean:
        scaled -= np.array(rules.mean, np.float32)
    if rules.std:
        scaled /= np.array(rules.std, np.float32)
    if target.kind in "iu":
        limits = np.iinfo(target.name)
        scaled = np.clip(np.rint(scaled), limits.min, limits.max)
    return scaled.astype(target)


def _lay_out(batch: Array, layout: str) -> Array:
    if layout == "NCHW":
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    if layout == "NHW":
        return batch[:, :, :, 0]
    if layout == "N*":
        return batch.reshape(len(batch), -1)
    return batch
