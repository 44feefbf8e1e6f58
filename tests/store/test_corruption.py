"""A damaged store gives one sentence that names the file and the cause, never wrong data and never another error."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
from pathlib import Path

import pytest
import torch

from diffcore_gpu.errors import StoreError
from diffcore_gpu.store import CounterpartStore
from diffcore_gpu.store.manifest import content_checksum
from tests.store import work

SHARD = "counterparts-00001-of-00005.safetensors"


@pytest.fixture(scope="module")
def sound():
    return Path(__file__).parent / "version1"


@pytest.fixture
def path(tmp_path, sound):
    return shutil.copytree(sound, tmp_path / "s")


def check(path):
    store = CounterpartStore.open(path)
    store.verify()
    return store


def assert_refused(path, cause):
    """What matches `cause` is said where the store is opened."""
    with pytest.raises(StoreError, match=cause):
        CounterpartStore.open(path)


def edit_manifest(path, change, *, seal=True):
    """Change store.json; sealed, its own checksum fits again, so that only the other checks can object."""
    content = json.loads((path / "store.json").read_text())
    change(content)
    if seal:
        content["checksum"] = content_checksum(content)
    (path / "store.json").write_text(json.dumps(content))


def reseal(path, name):
    """Make store.json agree with a changed file's size and checksum."""
    raw = (path / name).read_bytes()

    def change(content):
        for file in (*content["shards"], content["pairs"]):
            if file["name"] == name:
                file.update(bytes=len(raw), checksum=hashlib.sha256(raw).hexdigest())

    edit_manifest(path, change)


def edit_header(path, name, change):
    """Change a file's safetensors header, and make everything else agree with it."""
    raw = (path / name).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    (path / name).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    reseal(path, name)


def test_the_sound_store_is_sound(path):
    check(path)
    edit_manifest(path, lambda content: None)
    edit_header(path, SHARD, lambda header: None)  # another header of the same meaning, and unaligned data
    assert check(path).images([7]).flatten().tolist() == work.image(7).flatten().tolist()


@pytest.mark.parametrize("name", [SHARD, "pairs.safetensors"])
class TestFiles:
    def test_missing(self, path, name):
        (path / name).unlink()
        assert_refused(path, f"{name}: missing")

    @pytest.mark.parametrize("keep", [0, 5, 100, 4200])
    def test_truncated(self, path, name, keep):
        os.truncate(path / name, keep)
        assert_refused(path, rf"{name}: has {keep} bytes where store\.json calls for")

    @pytest.mark.parametrize("keep", [0, 5, 100, 4200])
    def test_truncated_and_entered_so(self, path, name, keep):
        os.truncate(path / name, keep)
        reseal(path, name)
        assert_refused(path, f"{name}: ")

    def test_flipped(self, path, name):
        raw = bytearray((path / name).read_bytes())
        raw[4100] ^= 16
        (path / name).write_bytes(raw)
        with pytest.raises(StoreError, match=f"{name}: damaged: its SHA-256 is"):
            check(path)

    def test_is_a_folder(self, path, name):
        (path / name).unlink()
        (path / name).mkdir()
        assert_refused(path, f"{name}: is not a file")

    def test_is_a_pipe(self, path, name):
        (path / name).unlink()
        os.mkfifo(path / name)
        assert_refused(path, f"{name}: is not a file")

    def test_is_a_link_out_of_the_store(self, path, name):
        (path / name).rename(path.parent / "elsewhere")
        (path / name).symlink_to("../elsewhere")
        assert_refused(path, f"{name}: is a link to a file outside")

    def test_is_a_link_to_itself(self, path, name):
        (path / name).unlink()
        (path / name).symlink_to(name)
        assert_refused(path, f"{name}: cannot be read")

    @pytest.mark.parametrize("length", [0, 1, 1 << 20, (1 << 63) + 5, (1 << 64) - 1])
    def test_header_length(self, path, name, length):
        raw = (path / name).read_bytes()
        (path / name).write_bytes(struct.pack("<Q", length) + raw[8:])
        reseal(path, name)
        assert_refused(path, f"{name}: damaged")

    @pytest.mark.parametrize(
        "text", [b"\xff\xfe", b"[]", b"7", b'{"a": NaN', b"[" * 3000, b'{"label": 1}', b"1" * 4000]
    )
    def test_header_text(self, path, name, text):
        raw = (path / name).read_bytes()
        (path / name).write_bytes(raw[:8] + text.ljust(4088) + raw[4096:])
        reseal(path, name)
        assert_refused(path, f"{name}: damaged")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("data_offsets", [8, 48]),
            ("data_offsets", [-8, 0]),
            ("data_offsets", [0, 1 << 70]),
            ("data_offsets", [0]),
            ("data_offsets", [0.0, 40.0]),
            ("data_offsets", [True, 40]),
            ("shape", [1 << 62, 4]),
            ("shape", [-5]),
            ("shape", [7]),
            ("shape", "5"),
            ("shape", []),
            ("dtype", "F16"),
            ("dtype", 7),
            ("dtype", "F8_E4M3"),
            ("more", 1),
        ],
    )
    def test_header_entries(self, path, name, field, value):
        edit_header(path, name, lambda header: header["label"].update({field: value}))
        assert_refused(path, f"{name}: .*'label'")


def test_tensors_that_overlap(path):
    def change(header):
        header["seed"]["data_offsets"] = header["label"]["data_offsets"]

    edit_header(path, SHARD, change)
    assert_refused(path, f"{SHARD}: damaged: the bytes of tensor .* overlap or leave a gap")


def test_tensors_of_other_shape_dtype_or_name(path, sound):
    def reshape(header):
        header["images"]["shape"] = [5, 3, 6, 4]

    def retype(header):
        header["seed"]["dtype"], header["seed"]["shape"] = "I32", [10]

    def rename(header):
        return {("class" if name == "label" else name): entry for name, entry in header.items()}

    for change, cause in ((reshape, "'images' is U8"), (retype, "'seed' is I32"), (rename, "holds the tensors")):
        shutil.copy(sound / SHARD, path / SHARD)
        edit_header(path, SHARD, change)
        assert_refused(path, f"{SHARD}: .*{cause}")


def test_shards_exchanged(path):
    other = "counterparts-00002-of-00005.safetensors"
    (path / SHARD).rename(path / "x")
    (path / other).rename(path / SHARD)
    (path / "x").rename(path / other)
    with pytest.raises(StoreError, match=f"{SHARD}: damaged"):
        check(path)


# What store.json says


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b"[1, 2]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b"{}", "lacks the key 'format'"),
        (b'{"a": 1, "a": 1}', "a key occurs twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"format": "other"}', "is not the store.json of a counterpart store"),
    ],
)
def test_store_json_of_another_kind(path, text, cause):
    (path / "store.json").write_bytes(text)
    assert_refused(path, rf"store\.json: .*{cause}")


def _set(*keys, to):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (_set("version", to=3), "has format version 3.*upgrade"),
        (_set("version", to=10**400), "version"),
        (_set("version", to="1"), "something other than a number"),
        (_set("version", to=True), "something other than a number"),
        (_set("image", "shape", to=[3, 4]), "impossible image shape"),
        (_set("image", "shape", to=[3, -4, 6]), "impossible image shape"),
        (_set("image", "shape", to=[3, 4.0, 6]), "wrong type"),
        (_set("image", "dtype", to="float32"), "dtype"),
        (_set("num_samples", to=-1), "impossible number -1"),
        (_set("num_samples", to=13), "label"),
        (_set("num_samples", to=1 << 60), "impossible number"),
        (_set("num_rows", to=24), "disagrees with itself"),
        (_set("num_rows", to=22), "disagrees with itself"),
        (_set("num_rows", to=0), "disagrees with itself"),
        (_set("num_rows", to=28), "disagrees with itself"),
        (_set("num_rows", to=2.0), "something other than a number"),
        (_set("num_pairs", to=3), "pair_row"),
        (_set("rows_per_shard", to=4), "disagrees with itself"),
        (_set("rows_per_shard", to=0), "impossible number 0"),
        (_set("shards", 1, "rows", to=4), "disagrees with itself"),
        (_set("shards", 1, "bytes", to=4), "has .* bytes where"),
        (_set("shards", 1, "bytes", to=-4), "impossible number -4"),
        (_set("shards", 1, "checksum", to="0" * 64), "damaged: its SHA-256"),
        (_set("shards", 1, "checksum", to="x"), "no SHA-256"),
        (_set("shards", 1, "name", to="/etc/passwd"), "not a plain name"),
        (_set("shards", 1, "name", to="../s/" + SHARD), "not a plain name"),
        (_set("shards", 1, "name", to=".."), "not a plain name"),
        (_set("shards", 1, "name", to=""), "not a plain name"),
        (_set("shards", 1, "name", to="a\0b"), "not a plain name"),
        (_set("shards", 1, "name", to="other.safetensors"), "names shard 1"),
        (_set("shards", 1, to=7), "wrong type"),
        (_set("shards", to={}), "something other than a list"),
        (_set("shards", to=[]), "disagrees with itself"),
        (_set("pairs", "name", to="../pairs.safetensors"), "not a plain name"),
        (_set("pairs", "name", to="store.json"), "names the file of pairs"),
        (_set("pairs", to=None), "something other than an object"),
        (_set("class_names", to=[]), "no class names"),
        (_set("class_names", to=["red"]), "outside"),
        (_set("class_names", 1, to=7), "wrong type"),
        (_set("prompts", to=[]), "prompt"),
        (_set("fingerprint", "labels", to="0" * 64), "fingerprint"),
        (_set("fingerprint", "file_names", to=None), "holds the tensors"),
        (_set("fingerprint", "file_names", to="0" * 64), "fingerprint"),
        (_set("metadata", to=[]), "something other than an object"),
        (_set("checksum_algorithm", to="md5"), "checksum other than sha256"),
        (_set("format", to="other"), "is not the store.json"),
    ],
)
def test_store_json_that_is_wrong(path, change, cause):
    edit_manifest(path, change)
    with pytest.raises(StoreError, match=cause) as caught:
        check(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "key", ["image", "shards", "pairs", "prompts", "num_rows", "checksum", "metadata", "fingerprint"]
)
def test_store_json_that_lacks_a_key(path, key):
    edit_manifest(path, lambda content: content.pop(key), seal=key != "checksum")
    assert_refused(path, rf"store\.json: lacks the key '{key}'")


def test_store_json_edited_by_hand(path):
    edit_manifest(path, _set("metadata", "model", to="better"), seal=False)
    assert_refused(path, r"store\.json: damaged or edited")


def test_no_store(tmp_path):
    assert_refused(tmp_path / "none", "there is no such folder")
    assert_refused(tmp_path, r"store\.json: missing")
    (tmp_path / "file").write_text("x")
    assert_refused(tmp_path / "file", "is a file; a store is a folder")
    (tmp_path / "store.json").mkdir()
    assert_refused(tmp_path, r"store\.json: cannot be read: Is a directory")


# Numbers that are wrong though every checksum fits


def write_numbers(path, name, tensor, values):
    """Overwrite the first values of a tensor in a file."""
    raw = bytearray((path / name).read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    entry = json.loads(raw[8 : 8 + length])[tensor]
    dtype = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "F32": torch.float32}[entry["dtype"]]
    data = torch.tensor(values, dtype=dtype).numpy().tobytes()
    begin = 8 + length + entry["data_offsets"][0]
    raw[begin : begin + len(data)] = data
    (path / name).write_bytes(raw)
    reseal(path, name)


@pytest.mark.parametrize(
    ("name", "tensor", "values", "cause"),
    [
        (SHARD, "label", [3], r"row 5 has the label 3, outside \[0, 2\]"),
        (SHARD, "label", [1], "which has another label"),
        (SHARD, "prompt", [4], "row 5 has the prompt 4"),
        (SHARD, "prompt", [-2], "row 5 has the prompt -2"),
        (SHARD, "attempt", [-1], "row 5 has the attempt -1"),
        ("pairs.safetensors", "label", [5], "sample 0 has label 5"),
        ("pairs.safetensors", "label", [1], "fingerprint"),
        ("pairs.safetensors", "file_name", [1], "fingerprint"),
        ("pairs.safetensors", "pair_ptr", [1], "pair_ptr does not rise"),
        ("pairs.safetensors", "pair_ptr", [0, 50, 3], "pair_ptr does not rise"),
        ("pairs.safetensors", "pair_row", [23], "names row 23"),
        ("pairs.safetensors", "pair_row", [-1], "names row -1"),
        ("pairs.safetensors", "pair_row", [1], "another label"),
        ("pairs.safetensors", "pair_similarity", [float("nan")], "not sorted"),
        ("pairs.safetensors", "pair_similarity", [float("-inf")], "infinite"),
        ("pairs.safetensors", "pair_similarity", [0.0], "not sorted"),
    ],
)
def test_wrong_numbers(path, name, tensor, values, cause):
    write_numbers(path, name, tensor, values)
    store = CounterpartStore.open(path)
    with pytest.raises(StoreError, match=cause):
        store.verify()


def test_a_pair_that_occurs_twice(path):
    store = CounterpartStore.open(path)
    rows = store.rows(0).tolist()
    write_numbers(path, "pairs.safetensors", "pair_row", [rows[0], rows[1], rows[0]])
    with pytest.raises(StoreError, match=r"occurs twice|not sorted"):
        check(path)


def test_misplaced_pairs_are_not_handed_out(path):
    write_numbers(path, "pairs.safetensors", "pair_ptr", [0, 1 << 40, 3])
    with pytest.raises(StoreError, match=r"pairs\.safetensors: damaged: the pairs of sample 0"):
        CounterpartStore.open(path).rows(0)


def test_a_shard_cut_short_after_opening(path):
    store = CounterpartStore.open(path)
    os.truncate(path / SHARD, 5000 - 4500)
    assert store.images([0]).shape == (1, *work.SHAPE)
    for read in (store.images, store.row_seed):
        with pytest.raises(StoreError, match=f"{SHARD}: has "):
            read([0, 6])
    (path / SHARD).unlink()
    with pytest.raises(StoreError, match=f"{SHARD}: cannot be read"):
        store.images([6])


# Any damage at all


def everything(store):
    """All that a reader can learn from a store, in a form that compares by value."""
    return (
        store.manifest.content(),
        *(getattr(store, f"row_{name}")().tolist() for name in ("label", "seed", "prompt", "attempt")),
        store.images(range(store.num_rows)).numpy().tobytes(),
        *(tensor.numpy().tobytes() for tensor in (store.labels, store.pair_ptr, store.pair_row, store.pair_similarity)),
    )


def damaged(draw, raw):
    """The bytes with one random damage: a bit, a byte, a run of bytes, a cut, an insertion, a removal."""
    at = draw.randrange(len(raw))
    end = min(len(raw), at + draw.choice([1, 2, 8, 100]))
    match draw.randrange(6):
        case 0:
            return raw[:at] + bytes([raw[at] ^ (1 << draw.randrange(8))]) + raw[at + 1 :]
        case 1:
            return raw[:at] + bytes([draw.choice(b'0123456789-.,:"[]{} \n\0\xff')]) + raw[at + 1 :]
        case 2:
            return raw[:at] + draw.randbytes(end - at) + raw[end:]
        case 3:
            return raw[:at]
        case 4:
            return raw[:at] + draw.randbytes(end - at) + raw[at:]
        case _:
            return raw[:at] + raw[end:]


@pytest.mark.parametrize("seed", range(8))
def test_any_damage_is_found(path, seed):
    """Damage anywhere in any file is a StoreError, or changed nothing that can be read (white space in JSON, say)."""
    draw = random.Random(seed)
    expected = everything(CounterpartStore.open(path))
    files = sorted(path.iterdir())
    found = 0
    for _ in range(150):
        file = draw.choice([*files, path / "store.json"])
        raw = file.read_bytes()
        # half of the damage to the start of the file, where the header is
        new = damaged(draw, raw) if draw.random() < 0.5 else damaged(draw, raw[:400]) + raw[400:]
        file.write_bytes(new)
        try:
            content = everything(check(path))
        except StoreError as error:
            assert "\n" not in str(error)  # noqa: PT017  both outcomes are right
            found += 1
        else:
            assert content == expected
        file.write_bytes(raw)
    assert found > 100
