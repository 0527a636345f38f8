"""Pictures become tensors."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from functions.rest.image import Plan, plan, read_images
from functions.sidecar import ImageRules
from loader import dtypes
from loader.signature import TensorSpec
from loader.status import Code, ServingError

LIMIT = 1_000_000


def spec(*shape: int, dtype: dtypes.DType = dtypes.FLOAT) -> TensorSpec:
    return TensorSpec("x", "x:0", dtype.number, shape)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def colours() -> np.ndarray:
    return np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10


@pytest.mark.parametrize(
    ("shape", "rules", "wanted"),
    [
        ((-1, 224, 224, 3), ImageRules(), Plan(224, 224, "RGB", "NHWC")),
        ((-1, 3, 224, 224), ImageRules(), Plan(224, 224, "RGB", "NCHW")),
        ((-1, 28, 28, 1), ImageRules(), Plan(28, 28, "L", "NHWC")),
        ((-1, 28, 28), ImageRules(), Plan(28, 28, "L", "NHW")),
        ((-1, 784), ImageRules(), Plan(28, 28, "L", "N*")),
        ((-1, 12), ImageRules(width=2, height=2), Plan(2, 2, "RGB", "N*")),
        ((-1, -1, -1, 3), ImageRules(width=5, height=4), Plan(4, 5, "RGB", "NHWC")),
        ((-1, -1, -1, 4), ImageRules(), Plan(0, 0, "RGBA", "NHWC")),
        ((-1, 2, 2, 3), ImageRules(channels="BGR"), Plan(2, 2, "BGR", "NHWC")),
    ],
)
def test_the_signatures_shape_says_how_pictures_fill_it(
    shape: tuple[int, ...], rules: ImageRules, wanted: Plan
) -> None:
    assert plan(spec(*shape), rules) == wanted


def test_an_input_of_unknown_rank_takes_pictures_with_the_channels_last() -> None:
    assert plan(TensorSpec("x", "x:0", 1, None), ImageRules(width=2, height=1)) == Plan(1, 2, "RGB", "NHWC")


@pytest.mark.parametrize("shape", [(), (-1,), (-1, 10), (-1, 2, 2, 7), (-1, 2, 2, 3, 3)])
def test_an_input_that_pictures_do_not_fit_is_refused_with_the_remedy(shape: tuple[int, ...]) -> None:
    with pytest.raises(ServingError, match=r"zeroserve\.json") as caught:
        plan(spec(*shape), ImageRules())
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_a_lossless_picture_of_the_right_size_keeps_its_pixels(colours: np.ndarray) -> None:
    array = read_images([encode(colours)] * 2, spec(-1, 2, 3, 3), ImageRules(), LIMIT)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.stack([colours] * 2))


def test_pixels_are_scaled_shifted_and_normalised_by_channel(colours: np.ndarray) -> None:
    rules = ImageRules(scale=0.5, offset=1, mean=(1, 2, 3), std=(2, 2, 4))
    array = read_images([encode(colours)], spec(-1, 2, 3, 3), rules, LIMIT)
    np.testing.assert_allclose(array[0], (colours * 0.5 + 1 - [1, 2, 3]) / [2, 2, 4], rtol=1e-6)


def test_channels_may_be_reversed_and_come_first(colours: np.ndarray) -> None:
    array = read_images([encode(colours)], spec(-1, 3, 2, 3), ImageRules(channels="BGR", layout="NCHW"), LIMIT)
    np.testing.assert_array_equal(array[0], colours[:, :, ::-1].transpose(2, 0, 1))


def test_an_integer_input_gets_rounded_pixels_within_its_range() -> None:
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    array = read_images([encode(grey)], spec(-1, 4, dtype=dtypes.UINT8), ImageRules(scale=1.5), LIMIT)
    assert array.tolist() == [[0, 150, 255, 255]]


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_picture_of_another_size_is_resized(resize: str) -> None:
    wide = np.full((10, 40, 3), 255, np.uint8)
    array = read_images([encode(wide, "JPEG")], spec(-1, 8, 8, 3), ImageRules(resize=resize), LIMIT)
    assert array.shape == (1, 8, 8, 3)
    assert (array[0, 0, 0, 0] < 10) == (resize == "pad")


def test_a_picture_is_turned_upright_first() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned = encode(np.zeros((2, 3, 3), np.uint8), "JPEG", exif=exif)
    assert read_images([turned], spec(-1, -1, -1, 3), ImageRules(), LIMIT).shape == (1, 3, 2, 3)


def test_a_string_input_gets_the_files_as_they_are() -> None:
    array = read_images([b"a", b"b"], spec(-1, dtype=dtypes.STRING), ImageRules(), LIMIT)
    assert array.tolist() == [b"a", b"b"]


def test_a_scalar_string_input_takes_one_file_only() -> None:
    assert read_images([b"a"], spec(dtype=dtypes.STRING), ImageRules(), LIMIT).item() == b"a"
    with pytest.raises(ServingError, match="takes one picture"):
        read_images([b"a", b"b"], spec(dtype=dtypes.STRING), ImageRules(), LIMIT)


def test_pictures_of_different_sizes_do_not_fit_an_open_size(colours: np.ndarray) -> None:
    with pytest.raises(ServingError, match="different sizes"):
        read_images([encode(colours), encode(colours[:1])], spec(-1, -1, -1, 3), ImageRules(), LIMIT)


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0"])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(ServingError, match="picture 0 is not a picture") as caught:
        read_images([content], spec(-1, 2, 2, 3), ImageRules(), LIMIT)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_picture_that_is_cut_off_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    with pytest.raises(ServingError, match="picture 0 cannot be decoded"):
        read_images([encode(noise)[:-200]], spec(-1, 2, 2, 3), ImageRules(), LIMIT)


def _png_header(width: int, height: int) -> bytes:
    """A picture that claims a size and has almost no bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(2000, 2000), (65_000, 65_000)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(ServingError, match="picture 0 "):
        read_images([_png_header(*size)], spec(-1, 2, 2, 3), ImageRules(), LIMIT)


def test_pictures_that_keep_their_size_share_one_limit(colours: np.ndarray) -> None:
    with pytest.raises(ServingError, match="picture 1 has 3x2 pixels, 4 are allowed"):
        read_images([encode(colours)] * 2, spec(-1, -1, -1, 3), ImageRules(), 10)
