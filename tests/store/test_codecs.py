"""Codecs: what comes back, that it is the same everywhere, and what damaged bytes lead to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import multiprocessing
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store.codecs import CODECS, DecodeError, codec_named, decode_many, encode_many
from tests.programs import run_python

RECORDED = json.loads(Path(__file__).with_name("encoded_images.json").read_text())
SETTINGS = ["raw", "jpeg", "jpeg:90", "webp"]


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(channels=3, height=20, width=28):
    down, across = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(across / (3 + channel) + down / 5) for channel in range(channels)]
    return np.stack(waves).astype(np.uint8)


def decoded(codec, data, shape):
    out = np.empty(shape, np.uint8)
    codec.decode(data, out)
    return out


images = st.builds(
    noise, st.tuples(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)), st.integers(0, 2**32)
)


@given(images)
@settings(max_examples=50)
def test_lossless_codecs_give_back_every_pixel(image):
    for name in ("raw", "webp"):
        codec = codec_named(name)
        assert codec.lossless
        assert np.array_equal(decoded(codec, codec.encode(image), image.shape), image)


@given(images, st.integers(1, 100))
@settings(max_examples=50)
def test_jpeg_gives_the_pixels_that_pillow_gives(image, quality):
    codec = codec_named(f"jpeg:{quality}")
    data = codec.encode(image)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.atleast_3d(np.asarray(opened)).transpose(2, 0, 1)
    assert np.array_equal(decoded(codec, data, image.shape), expected)


def test_jpeg_keeps_every_sample_of_colour():
    data = codec_named("jpeg").encode(smooth())
    with Image.open(io.BytesIO(data)) as image:
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3
        assert not image.info.get("progressive")


def test_jpeg_is_near():
    image = smooth()
    coarse, fine = (codec_named(name) for name in ("jpeg:50", "jpeg"))
    assert not fine.lossless
    error = [np.abs(decoded(c, c.encode(image), image.shape).astype(int) - image).mean() for c in (coarse, fine)]
    assert error[1] < error[0]
    assert error[1] < 2
    assert len(coarse.encode(image)) < len(fine.encode(image))


@pytest.mark.parametrize("name", RECORDED)
def test_the_same_bytes_give_the_same_pixels_everywhere(name):
    recorded = RECORDED[name]
    pixels = decoded(codec_named(recorded["codec"]), base64.b64decode(recorded["bytes"]), recorded["shape"])
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == recorded["pixels_sha256"]


def test_without_vector_instructions_the_pixels_are_the_same():
    code = """
import base64, hashlib, json, sys
import numpy as np
from diffcore_gpu.store.codecs import codec_named
for recorded in json.load(open(sys.argv[1])).values():
    out = np.empty(recorded["shape"], np.uint8)
    codec_named(recorded["codec"]).decode(base64.b64decode(recorded["bytes"]), out)
    print(hashlib.sha256(out.tobytes()).hexdigest())
"""
    printed = run_python("-c", code, Path(__file__).with_name("encoded_images.json"), JSIMD_FORCENONE="1")
    assert printed.split() == [recorded["pixels_sha256"] for recorded in RECORDED.values()]


@pytest.mark.parametrize("setting", SETTINGS)
def test_images_of_any_strides(setting):
    codec = codec_named(setting)
    image = noise((20, 3, 30)).transpose(1, 2, 0)[:, ::2, ::-1]
    assert codec.encode(image) == codec.encode(np.ascontiguousarray(image))
    base = np.zeros((3, 40, 40), np.uint8)
    codec.decode(codec.encode(image), base[:, ::2, ::2][:, :15, :20])
    assert np.array_equal(base[:, :30:2, ::2], decoded(codec, codec.encode(image), image.shape))


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_codec_says_what_it_is_made_from(setting):
    codec = codec_named(setting)
    assert codec.setting == setting
    assert codec.name == setting.split(":")[0]
    assert CODECS[codec.name] is type(codec)


def test_the_default_quality_has_no_name_of_its_own():
    assert codec_named("jpeg:95").setting == "jpeg"


@pytest.mark.parametrize(
    "setting", ["", "png", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:-5", "jpeg:9.5", "jpeg:٣", "webp:90", "raw:", None, 3]
)
def test_unknown_codecs(setting):
    with pytest.raises(StoreError, match=r"^codec must be raw, jpeg, jpeg:QUALITY .* or webp, not .*\.$"):
        codec_named(setting)


def test_shapes():
    codec_named("raw").check_shape((7, 1, 100000))
    for name in ("jpeg", "webp"):
        codec = codec_named(name)
        for channels in (1, 3):
            codec.check_shape((channels, 1, codec.max_side))
        with pytest.raises(StoreError, match=r"^codec \w+ holds images of 1 or 3 channels, not of 4; use codec raw\.$"):
            codec.check_shape((4, 8, 8))
        with pytest.raises(StoreError, match=rf"^codec {name} holds images of up to .* pixels a side, not of 3×\d+; "):
            codec.check_shape((1, 3, codec.max_side + 1))


@pytest.mark.parametrize("setting", SETTINGS)
def test_another_size_than_the_store_has(setting):
    codec = codec_named(setting)
    data = codec.encode(smooth())
    for shape in ((3, 21, 28), (3, 20, 29), (3, 1, 1)):
        with pytest.raises(DecodeError, match=r"^it (is 20×28, where the store has|has 1680 bytes, not)"):
            decoded(codec, data, shape)


def test_another_number_of_channels():
    codec = codec_named("jpeg")
    with pytest.raises(DecodeError, match="it is Gray, where the store has 3 channels"):
        decoded(codec, codec.encode(smooth(1)), (3, 20, 28))
    with pytest.raises(DecodeError, match="it is YCbCr, where the store has 1 channels"):
        decoded(codec, codec.encode(smooth(3)), (1, 20, 28))


def claim_size(name, data, side):
    """The same file with another height and width in its header."""
    changed = bytearray(data)
    if name == "jpeg":
        start = data.index(b"\xff\xc0\x00\x11\x08")
        changed[start + 5 : start + 9] = side.to_bytes(2, "big") * 2
    else:
        changed[21:25] = ((side - 1) | (side - 1) << 14).to_bytes(4, "little")
    return bytes(changed)


@pytest.mark.parametrize(("name", "side"), [("jpeg", 65535), ("jpeg", 65500), ("webp", 16384)])
def test_a_bomb_takes_no_memory(name, side):
    codec = codec_named(name)
    data = claim_size(name, codec.encode(smooth()), side)
    peak = resident_peak()
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decoded(codec, data, (3, 20, 28))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert resident_peak() - peak < 64 << 20


def resident_peak():
    """Bytes of memory that this process has held at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("name", ["jpeg", "webp"])
@given(st.data())
@settings(max_examples=200)
def test_damaged_bytes_are_an_error_or_an_image(name, data):
    codec = codec_named(name)
    changed = bytearray(codec.encode(smooth()))
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=8)):
        changed[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(changed))))
    with contextlib.suppress(DecodeError):
        decoded(codec, bytes(changed[:cut]), (3, 20, 28))


@pytest.mark.parametrize("name", ["raw", "jpeg", "webp"])
def test_a_cut_file_is_an_error(name):
    codec = codec_named(name)
    whole = codec.encode(noise((3, 20, 28)))
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 3):
        with pytest.raises(DecodeError):
            decoded(codec, whole[:length], (3, 20, 28))


def test_other_kinds_of_files_are_refused():
    picture = Image.fromarray(smooth().transpose(1, 2, 0))
    for name, options in (("PNG", {}), ("WEBP", {}), ("GIF", {})):
        file = io.BytesIO()
        picture.save(file, name, **options)
        for codec in (codec_named("jpeg"), codec_named("webp")):
            with pytest.raises(DecodeError):
                decoded(codec, file.getvalue(), (3, 20, 28))
    file = io.BytesIO()
    picture.putalpha(100)
    picture.save(file, "WEBP", lossless=True)
    with pytest.raises(DecodeError):
        decoded(codec_named("webp"), file.getvalue(), (3, 20, 28))


# Many at once


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


@pytest.mark.parametrize("setting", SETTINGS)
def test_many_are_decoded_as_one_by_one(setting, threads):
    codec = codec_named(setting)
    originals = [noise((3, 20, 28), seed) for seed in range(37)]
    blobs = [codec.encode(image) for image in originals]
    assert [image.data for image in encode_many(codec, np.stack(originals))] == blobs
    out = np.empty((37, 3, 20, 28), np.uint8)
    decode_many(codec, [memoryview(blob) for blob in blobs], out)
    assert np.array_equal(out, [decoded(codec, blob, (3, 20, 28)) for blob in blobs])


def test_none_at_all(threads):
    decode_many(codec_named("jpeg"), [], np.empty((0, 3, 4, 4), np.uint8))
    assert encode_many(codec_named("jpeg"), np.empty((0, 3, 4, 4), np.uint8)) == []


def test_as_many_places_as_images():
    with pytest.raises(ValueError, match=r"^1 images do not fill 2 places\.$"):
        decode_many(codec_named("raw"), [b"x"], np.empty((2, 1, 1, 1), np.uint8))


def test_the_damaged_one_is_named(threads):
    codec = codec_named("jpeg")
    blobs = [codec.encode(smooth())] * 50
    blobs[31] = blobs[31][:-40]
    for _ in range(5):
        with pytest.raises(DecodeError) as caught:
            decode_many(codec, blobs, np.empty((50, 3, 20, 28), np.uint8))
        assert caught.value.position == 31


def _decode_in_child(blobs, queue):
    torch.set_num_threads(4)
    out = np.empty((len(blobs), 3, 20, 28), np.uint8)
    decode_many(codec_named("jpeg"), blobs, out)
    queue.put(hashlib.sha256(out.tobytes()).hexdigest())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_other_processes(threads, method):
    codec = codec_named("jpeg")
    blobs = [codec.encode(noise((3, 20, 28), seed)) for seed in range(20)]
    out = np.empty((20, 3, 20, 28), np.uint8)
    decode_many(codec, blobs, out)  # the threads of this process are at work before the fork
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_decode_in_child, args=(blobs, queue))
    child.start()
    assert queue.get(timeout=120) == hashlib.sha256(out.tobytes()).hexdigest()
    child.join(30)
    assert child.exitcode == 0
