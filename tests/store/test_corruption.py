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
from diffcore_gpu.store.format import pairs_name, rows_name, shard_name
from diffcore_gpu.store.manifest import content_checksum
from tests.store import work

FILES = ["shard", "pairs", "rows"]
"""By what they are, since the names of files follow from their content: the second shard, and the tables."""


@pytest.fixture(scope="module", params=[1, 2], ids="version {}".format)
def sound(request, tmp_path_factory):
    """The same small store in each version of the format."""
    if request.param == 1:
        return Path(__file__).parent / "version1"
    return work.build(tmp_path_factory.mktemp("sound") / "s").path


@pytest.fixture
def path(tmp_path, sound):
    return shutil.copytree(sound, tmp_path / "s")


@pytest.fixture(params=FILES)
def file(request, path):
    if request.param == "rows" and version_of(path) == 1:
        pytest.skip("the columns of the rows are in the shards")
    return request.param


def content_of(path):
    return json.loads((path / "store.json").read_text())


def version_of(path):
    return content_of(path)["version"]


def name_of(path, file):
    content = content_of(path)
    return (content["shards"][1] if file == "shard" else content[file])["name"]


def place_of(path, row):
    """The file that holds the columns of the rows, and the place of a row of the second shard in it."""
    return ("shard", row - 5) if version_of(path) == 1 else ("rows", row)


def check(path):
    store = CounterpartStore.open(path)
    store.verify()
    return store


def assert_refused(path, cause, file=None):
    """What matches `cause` is said where the store is opened or, of the table of rows, where it is first asked for."""
    read = (lambda path: CounterpartStore.open(path).row_label()) if file == "rows" else CounterpartStore.open
    with pytest.raises(StoreError, match=cause):
        read(path)


def edit_manifest(path, change, *, seal=True):
    """Change store.json; sealed, its own checksum fits again, so that only the other checks can object."""
    content = json.loads((path / "store.json").read_text())
    change(content)
    if seal:
        content["checksum"] = content_checksum(content)
    (path / "store.json").write_text(json.dumps(content))


def reseal(path, file):
    """Make store.json agree with a changed file's size, checksum and the name that follows from it; that name."""
    name = name_of(path, file)
    raw = (path / name).read_bytes()
    checksum = hashlib.sha256(raw).hexdigest()
    if version_of(path) > 1:
        new = {"shard": shard_name(1, checksum), "pairs": pairs_name(checksum), "rows": rows_name(checksum)}[file]
        (path / name).rename(path / new)
    else:
        new = name

    def change(content):
        entry = content["shards"][1] if file == "shard" else content[file]
        entry.update(name=new, bytes=len(raw), checksum=checksum)

    edit_manifest(path, change)
    return new


def edit_header(path, file, change):
    """Change a file's safetensors header, and make everything else agree with it; its name then."""
    name = name_of(path, file)
    raw = (path / name).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    (path / name).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    return reseal(path, file)


def test_the_sound_store_is_sound(path):
    check(path)
    edit_manifest(path, lambda content: None)
    edit_header(path, "shard", lambda header: None)  # another header of the same meaning, and unaligned data
    assert check(path).images([7]).flatten().tolist() == work.image(7).flatten().tolist()


class TestFiles:
    def test_missing(self, path, file):
        name = name_of(path, file)
        (path / name).unlink()
        assert_refused(path, f"{name}: missing", file)

    @pytest.mark.parametrize("keep", [0, 5, 100, 4200])
    def test_truncated(self, path, file, keep):
        name = name_of(path, file)
        os.truncate(path / name, keep)
        assert_refused(path, rf"{name}: has {keep} bytes where store\.json calls for", file)

    @pytest.mark.parametrize("keep", [0, 5, 100, 4200])
    def test_truncated_and_entered_so(self, path, file, keep):
        os.truncate(path / name_of(path, file), keep)
        assert_refused(path, f"{reseal(path, file)}: ", file)

    def test_flipped(self, path, file):
        name = name_of(path, file)
        raw = bytearray((path / name).read_bytes())
        raw[4100] ^= 16
        (path / name).write_bytes(raw)
        with pytest.raises(StoreError, match=f"{name}: damaged: its SHA-256 is"):
            check(path)

    def test_is_a_folder(self, path, file):
        name = name_of(path, file)
        (path / name).unlink()
        (path / name).mkdir()
        assert_refused(path, f"{name}: is not a file", file)

    def test_is_a_pipe(self, path, file):
        name = name_of(path, file)
        (path / name).unlink()
        os.mkfifo(path / name)
        assert_refused(path, f"{name}: is not a file", file)

    def test_is_a_link_out_of_the_store(self, path, file):
        name = name_of(path, file)
        (path / name).rename(path.parent / "elsewhere")
        (path / name).symlink_to("../elsewhere")
        assert_refused(path, f"{name}: is a link to a file outside", file)

    def test_is_a_link_to_itself(self, path, file):
        name = name_of(path, file)
        (path / name).unlink()
        (path / name).symlink_to(name)
        assert_refused(path, f"{name}: cannot be read", file)

    @pytest.mark.parametrize("length", [0, 1, 1 << 20, (1 << 63) + 5, (1 << 64) - 1])
    def test_header_length(self, path, file, length):
        name = name_of(path, file)
        raw = (path / name).read_bytes()
        (path / name).write_bytes(struct.pack("<Q", length) + raw[8:])
        assert_refused(path, f"{reseal(path, file)}: damaged", file)

    @pytest.mark.parametrize(
        "text", [b"\xff\xfe", b"[]", b"7", b'{"a": NaN', b"[" * 3000, b'{"label": 1}', b"1" * 4000]
    )
    def test_header_text(self, path, file, text):
        name = name_of(path, file)
        raw = (path / name).read_bytes()
        (path / name).write_bytes(raw[:8] + text.ljust(4088) + raw[4096:])
        assert_refused(path, f"{reseal(path, file)}: damaged", file)

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
    def test_header_entries(self, path, file, field, value):
        tensor = "images" if file == "shard" and version_of(path) > 1 else "label"
        name = edit_header(path, file, lambda header: header[tensor].update({field: value}))
        assert_refused(path, f"{name}: .*'{tensor}'", file)


def test_tensors_that_overlap(path):
    def change(header):
        header["seed"]["data_offsets"] = header["label"]["data_offsets"]

    file, _ = place_of(path, 5)
    name = edit_header(path, file, change)
    assert_refused(path, f"{name}: damaged: the bytes of tensor .* overlap or leave a gap", file)


def test_tensors_of_other_shape_dtype_or_name(tmp_path, sound):
    def reshape(header):
        header["images"]["shape"] = [5, 3, 6, 4]

    def retype(header):
        rows = header["seed"]["shape"][0]
        header["seed"]["dtype"], header["seed"]["shape"] = "I32", [2 * rows]

    def rename(header):
        return {("class" if name == "label" else name): entry for name, entry in header.items()}

    for number, (change, cause) in enumerate(
        ((reshape, "'images' is U8"), (retype, "'seed' is I32"), (rename, "holds the tensors"))
    ):
        path = shutil.copytree(sound, tmp_path / str(number))
        file = "shard" if change is reshape else place_of(path, 5)[0]
        name = edit_header(path, file, change)
        assert_refused(path, f"{name}: .*{cause}", file)


def test_shards_exchanged(path):
    name, other = (content_of(path)["shards"][number]["name"] for number in (1, 2))
    (path / name).rename(path / "x")
    (path / other).rename(path / name)
    (path / "x").rename(path / other)
    with pytest.raises(StoreError, match=f"{name}: damaged"):
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
        (_set("shards", 1, "checksum", to="0" * 64), "damaged: its SHA-256|names shard 1 '"),
        (_set("shards", 1, "checksum", to="x"), "no SHA-256"),
        (_set("shards", 1, "name", to="/etc/passwd"), "not a plain name"),
        (_set("shards", 1, "name", to="../s/shard"), "not a plain name"),
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


@pytest.mark.parametrize("file", FILES)
def test_another_file_of_the_right_name_and_size(path, file):
    if version_of(path) == 1:
        pytest.skip("its files are not named by their content")
    name = name_of(path, file)
    new = {"shard": shard_name(1, "0" * 64), "pairs": pairs_name("0" * 64), "rows": rows_name("0" * 64)}[file]
    (path / name).rename(path / new)

    def change(content):
        (content["shards"][1] if file == "shard" else content[file]).update(name=new, checksum="0" * 64)

    edit_manifest(path, change)
    with pytest.raises(StoreError, match=f"{new}: damaged: its SHA-256 is"):
        check(path)


@pytest.mark.parametrize("key", ["rows", "history", "superseded"])
def test_store_json_of_version_2_that_lacks_a_key(path, key):
    if version_of(path) == 1:
        pytest.skip("it has no such key")
    edit_manifest(path, lambda content: content.pop(key))
    assert_refused(path, rf"store\.json: lacks the key '{key}'")


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


def write_numbers(path, file, tensor, values, first=0):
    """Overwrite some values of a tensor in a file, from `first` on; the name of the file then."""
    name = name_of(path, file)
    raw = bytearray((path / name).read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    entry = json.loads(raw[8 : 8 + length])[tensor]
    dtype = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "F32": torch.float32}[entry["dtype"]]
    data = torch.tensor(values, dtype=dtype).numpy().tobytes()
    begin = 8 + length + entry["data_offsets"][0] + first * dtype.itemsize
    raw[begin : begin + len(data)] = data
    (path / name).write_bytes(raw)
    return reseal(path, file)


@pytest.mark.parametrize(
    ("file", "tensor", "values", "cause"),
    [
        ("row 5", "label", [3], r"row 5 has the label 3, outside \[0, 2\]"),
        ("row 5", "label", [1], "which has another label"),
        ("row 5", "prompt", [4], "row 5 has the prompt 4"),
        ("row 5", "prompt", [-2], "row 5 has the prompt -2"),
        ("row 5", "attempt", [-1], "row 5 has the attempt -1"),
        ("pairs", "label", [5], "sample 0 has label 5"),
        ("pairs", "label", [1], "fingerprint"),
        ("pairs", "file_name", [1], "fingerprint"),
        ("pairs", "pair_ptr", [1], "pair_ptr does not rise"),
        ("pairs", "pair_ptr", [0, 50, 3], "pair_ptr does not rise"),
        ("pairs", "pair_row", [23], "names row 23"),
        ("pairs", "pair_row", [-1], "names row -1"),
        ("pairs", "pair_row", [1], "another label"),
        ("pairs", "pair_similarity", [float("nan")], "not sorted"),
        ("pairs", "pair_similarity", [float("-inf")], "infinite"),
        ("pairs", "pair_similarity", [0.0], "not sorted"),
    ],
)
def test_wrong_numbers(path, file, tensor, values, cause):
    file, first = place_of(path, 5) if file == "row 5" else (file, 0)
    write_numbers(path, file, tensor, values, first)
    store = CounterpartStore.open(path)
    with pytest.raises(StoreError, match=cause):
        store.verify()


@pytest.mark.parametrize("row", [0, 7, 22])
def test_a_digest_that_is_not_that_of_its_row(path, row):
    if version_of(path) == 1:
        pytest.skip("its rows have no digests")
    shard = content_of(path)["shards"][row // 5]["name"]
    write_numbers(path, "rows", "digest", [12345], row)
    with pytest.raises(StoreError, match=rf"{shard}: damaged: row {row} of .* is not the image that was written"):
        check(path)
    store = CounterpartStore.open(path, verify="lazy")
    with pytest.raises(StoreError, match=rf"{shard}: damaged: row {row} of"):
        store.images(row)


def test_pixels_that_are_not_those_of_their_digest(path):
    """Every checksum fits, and only the digest of the row does not."""
    if version_of(path) == 1:
        pytest.skip("its rows have no digests")
    name = name_of(path, "shard")
    raw = bytearray((path / name).read_bytes())
    raw[-1] ^= 1
    (path / name).write_bytes(raw)
    name = reseal(path, "shard")
    with pytest.raises(StoreError, match=rf"{name}: damaged: row 9 of .* is not the image that was written"):
        check(path)


def test_a_pair_that_occurs_twice(path):
    store = CounterpartStore.open(path)
    rows = store.rows(0).tolist()
    write_numbers(path, "pairs", "pair_row", [rows[0], rows[1], rows[0]])
    with pytest.raises(StoreError, match=r"occurs twice|not sorted"):
        check(path)


def test_misplaced_pairs_are_not_handed_out(path):
    name = write_numbers(path, "pairs", "pair_ptr", [0, 1 << 40, 3])
    with pytest.raises(StoreError, match=f"{name}: damaged: the pairs of sample 0"):
        CounterpartStore.open(path).rows(0)


def test_a_shard_cut_short_after_opening(path):
    store, name = CounterpartStore.open(path), name_of(path, "shard")
    os.truncate(path / name, 5000 - 4500)
    assert store.images([0]).shape == (1, *work.SHAPE)
    for read in (store.images, store.row_seed) if version_of(path) == 1 else (store.images,):
        with pytest.raises(StoreError, match=f"{name}: has "):
            read([0, 6])
    (path / name).unlink()
    with pytest.raises(StoreError, match=f"{name}: cannot be read"):
        store.images([6])


def test_a_table_of_rows_cut_short_after_opening(path):
    if version_of(path) == 1:
        pytest.skip("it has no such table")
    store, name = CounterpartStore.open(path), name_of(path, "rows")
    os.truncate(path / name, 4500)
    with pytest.raises(StoreError, match=f"{name}: has 4500 bytes where"):
        store.row_seed([0, 6])
    assert store.images([6]).shape == (1, *work.SHAPE)


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
