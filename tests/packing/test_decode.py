"""Files of every kind: decoded to the right pixels, or refused with the right reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from diffcore_gpu.errors import PackError
from diffcore_gpu.packing.colour import ImageProblemError
from diffcore_gpu.packing.decode import Decoded, decode, pillow_ready, resize
from diffcore_gpu.packing.findings import Kind
from diffcore_gpu.packing.options import Fit

SIDE = 16


@pytest.fixture(autouse=True)
def _pillow() -> Iterator[None]:
    with pillow_ready():
        yield


@pytest.fixture
def rgb() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def look(path: Path, side: int = SIDE) -> Decoded:
    return decode(path, side, side, Fit.CROP)


def kinds(decoded: Decoded) -> set[Kind]:
    return {conversion.kind for conversion in decoded.conversions}


def problem(path: Path, side: int = SIDE) -> Kind:
    with pytest.raises(ImageProblemError) as caught:
        look(path, side)
    return caught.value.kind


def deep_png(values: npt.NDArray[np.uint16]) -> bytes:
    """A 16-bit RGB PNG, which Pillow reads but does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tif", "A.PNG", "png_inside.jpg"])
def test_lossless_rgb_comes_through_unchanged(tmp_path: Path, rgb: npt.NDArray[np.uint8], name: str) -> None:
    Image.fromarray(rgb).save(tmp_path / name, format="PNG" if name.endswith(".jpg") else None)
    decoded = look(tmp_path / name)
    assert np.array_equal(decoded.pixels, rgb.transpose(2, 0, 1))
    assert decoded.pixels.flags.c_contiguous
    assert (decoded.conversions, decoded.enlarged) == ((), False)


def test_grey(tmp_path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(rgb[..., 0]).save(tmp_path / "a.png")
    decoded = look(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, np.stack([rgb[..., 0]] * 3))
    assert kinds(decoded) == {Kind.GREY}


def test_bilevel(tmp_path: Path) -> None:
    Image.fromarray(np.eye(SIDE, dtype=bool)).save(tmp_path / "a.png")
    decoded = look(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels[0], np.eye(SIDE, dtype=np.uint8) * 255)
    assert kinds(decoded) == {Kind.GREY}


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 65535, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
    if name.endswith(".pgm"):
        (tmp_path / name).write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / name)
    decoded = look(tmp_path / name)
    assert np.array_equal(decoded.pixels[1], np.floor(values / 257 + 0.5).astype(np.uint8))
    assert kinds(decoded) == {Kind.SIXTEEN_BIT, Kind.GREY}


@pytest.mark.parametrize("name", ["a.png", "a.ppm"])
def test_16_bit_colour_is_scaled(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE, 3)).astype(np.uint16)
    ppm = b"P6 16 16 65535\n" + values.astype(">u2").tobytes()
    (tmp_path / name).write_bytes(deep_png(values) if name == "a.png" else ppm)
    decoded = look(tmp_path / name)
    assert np.abs(decoded.pixels.transpose(1, 2, 0) - values / 257).max() <= 1
    assert kinds(decoded) == {Kind.SIXTEEN_BIT}


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    decoded = look(tmp_path / "a.jpg")
    assert np.abs(decoded.pixels[:, 8, 8].astype(int) - (255, 0, 0)).max() <= 3
    assert kinds(decoded) == {Kind.CMYK}


def test_palette(tmp_path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    image = Image.fromarray(rgb).quantize(16)
    image.save(tmp_path / "a.png")
    decoded = look(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels.transpose(1, 2, 0), np.asarray(image.convert("RGB")))
    assert kinds(decoded) == {Kind.PALETTE}


@pytest.mark.parametrize("transparency", [0, bytes([0] + [255] * 15)])
def test_transparent_palette_entry_becomes_white(
    tmp_path: Path, rgb: npt.NDArray[np.uint8], transparency: int | bytes
) -> None:
    image = Image.fromarray(rgb).quantize(16)
    image.save(tmp_path / "a.png", transparency=transparency)
    decoded = look(tmp_path / "a.png")
    clear = np.asarray(image) == 0
    assert clear.any()
    assert (decoded.pixels[:, clear] == 255).all()
    assert np.array_equal(decoded.pixels[:, ~clear].T, np.asarray(image.convert("RGB"))[~clear])
    assert kinds(decoded) == {Kind.PALETTE, Kind.TRANSPARENCY}


def test_half_transparent_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (SIDE, SIDE), (200, 0, 100, 51)).save(tmp_path / "a.png")
    decoded = look(tmp_path / "a.png")
    expected = np.array([200, 0, 100]) * 0.2 + 255 * 0.8
    assert np.abs(decoded.pixels[:, 3, 3] - expected).max() <= 1
    assert kinds(decoded) == {Kind.TRANSPARENCY}


def test_opaque_alpha_changes_nothing(tmp_path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    image = Image.fromarray(rgb).convert("RGBA")
    image.save(tmp_path / "a.png")
    decoded = look(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, rgb.transpose(2, 0, 1))
    assert decoded.conversions == ()


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif"])
def test_first_frame_of_several(tmp_path: Path, name: str) -> None:
    red, blue = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    red.save(tmp_path / name, save_all=True, append_images=[blue])
    decoded = look(tmp_path / name)
    assert decoded.pixels[:, 5, 5].tolist() == [255, 0, 0]
    assert Kind.ANIMATED in kinds(decoded)


def test_orientation_is_named_and_not_applied(tmp_path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    decoded = look(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, rgb.transpose(2, 0, 1))
    assert kinds(decoded) == {Kind.ORIENTATION}


def test_enlarging_is_told(tmp_path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png")
    assert look(tmp_path / "a.png", 32).enlarged
    assert not look(tmp_path / "a.png", 8).enlarged


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 7)])
def test_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert problem(tmp_path / "a.png") is Kind.TOO_SMALL


def test_small_images_fit_a_store_of_their_size(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert look(tmp_path / "a.png", 4).pixels.shape == (3, 4, 4)


@pytest.mark.parametrize("side", [9_500, 20_000])
def test_decompression_bomb(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    assert problem(tmp_path / "a.png") is Kind.TOO_LARGE


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
def test_truncated(tmp_path: Path, rgb: npt.NDArray[np.uint8], name: str) -> None:
    path = tmp_path / name
    Image.fromarray(rgb).resize((64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    assert problem(path) is Kind.TRUNCATED


def text(path: Path) -> None:
    path.write_text("no image at all")


def flipped(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\nshowpage\n")


def floating(path: Path) -> None:
    Image.fromarray(np.ones((SIDE, SIDE), np.float32)).save(path, format="TIFF")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.touch, Kind.EMPTY_FILE),
        (text, Kind.BROKEN),
        (flipped, Kind.BROKEN),
        (postscript, Kind.BROKEN),
        (floating, Kind.UNSUPPORTED),
        (folder, Kind.NOT_AN_IMAGE),
        (lambda path: path.symlink_to("nowhere"), Kind.UNREADABLE),
    ],
)
def test_unusable(tmp_path: Path, make: Callable[[Path], None], kind: Kind) -> None:
    make(tmp_path / "a.png")
    assert problem(tmp_path / "a.png") is kind


def test_a_failing_disk_is_not_a_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "a.png")

    def fail(*args: object, **options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(PackError, match=r"a\.png cannot be read: Input/output error"):
        look(tmp_path / "a.png")


def test_every_single_damage_is_survived(tmp_path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Whatever byte is damaged, the file is decoded or refused; nothing else is raised."""
    random = np.random.default_rng(1)
    decoded = refused = 0
    for name in ("a.png", "a.jpg", "a.gif", "a.tif", "a.webp", "a.bmp"):
        path = tmp_path / name
        Image.fromarray(rgb).save(path)
        whole = path.read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for position in random.integers(0, len(data), 3):
                data[position] = random.integers(256)
            path.write_bytes(data[: random.integers(1, len(data) + 1)])
            try:
                decoded += look(path).pixels.shape == (3, SIDE, SIDE)
            except ImageProblemError as error:
                refused += isinstance(error.kind, Kind)
    assert decoded + refused == 360
    assert min(decoded, refused) > 0


def photo(width: int, height: int) -> Image.Image:
    """Smooth shapes and noise, as in a photo."""
    random = np.random.default_rng(width * 10_000 + height)
    y, x = np.mgrid[0:height, 0:width]
    shapes = 127 + 90 * np.sin(x / 17)[..., None] * np.cos(y[..., None] / np.array([11, 19, 29]))
    noise = random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(shapes + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("source", [(300, 200), (200, 300), (201, 333), (64, 64), (20, 31), (500, 65)])
@pytest.mark.parametrize("side", [64, 65])
def test_crop_is_resize_and_center_crop(source: tuple[int, int], side: int) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2", exc_type=ImportError)
    image = photo(*source)
    result = np.asarray(resize(image, side, side, Fit.CROP)).astype(int)
    expected = v2.CenterCrop(side)(v2.Resize(side, interpolation=v2.InterpolationMode.BICUBIC)(image))
    # One unit: Pillow's box is a float32, so a coefficient may round the other way.
    assert np.abs(result - np.asarray(expected).astype(int)).max() <= 1
    assert result.shape == (side, side, 3)


@pytest.mark.parametrize("fit", list(Fit))
def test_close_to_the_antialiased_tensor_path(fit: Fit) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2", exc_type=ImportError)
    image = photo(301, 200)
    size = [48, 48] if fit is Fit.STRETCH else 48
    tensor = v2.functional.pil_to_tensor(image)
    expected = v2.CenterCrop(48)(v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)(tensor))
    result = np.asarray(resize(image, 48, 48, fit)).transpose(2, 0, 1).astype(int)
    assert np.abs(result - expected.numpy().astype(int)).max() <= 2


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (7, 90)])
def test_crop_keeps_the_middle_and_the_aspect_ratio(size: tuple[int, int]) -> None:
    image = Image.new("RGB", (200, 200), (0, 0, 0))
    image.paste((255, 255, 255), (90, 90, 110, 110))
    height, width = size
    lit = np.asarray(resize(image, height, width, Fit.CROP))[..., 0] > 127
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    scale = max(size) / 200
    assert lit.shape == size
    assert abs(rows.mean() - (height - 1) / 2) <= 0.5
    assert abs(columns.mean() - (width - 1) / 2) <= 0.5
    assert abs(len(rows) - min(20 * scale, height)) <= 1
    assert abs(len(columns) - min(20 * scale, width)) <= 1


def test_an_extreme_strip_is_not_blown_up() -> None:
    strip = Image.new("RGB", (8, 60_000), (10, 20, 30))
    result = resize(strip, 256, 256, Fit.CROP)
    assert result.size == (256, 256)
    assert result.getextrema() == ((10, 10), (20, 20), (30, 30))


def test_right_size_is_left_alone() -> None:
    image = photo(32, 16)
    assert resize(image, 16, 32, Fit.CROP) is image
