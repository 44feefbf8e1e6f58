"""Documents of anyone: read as Python's own parsers read them, or refused in one clause; never waited for."""

from __future__ import annotations

import json
import os
import socket
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcore_gpu import documents
from diffcore_gpu.documents import (
    MAX_DEPTH,
    MAX_DIGITS,
    inside,
    open_regular,
    parse_json,
    parse_toml,
    read_json,
    read_regular,
    read_toml,
    resolved,
    why,
)
from tests import fuzz

JSON = json.dumps({"a": 1, "b": [1, 2.5, {"c": 'x"]['}], "d": {"e": None, "f": True}}).encode()
TOML = b"""
a = 1
"b.c" = [1, 2.5, {c = 'x"]['}]  # [[[
d.e = '''
]]'''
[[f]]
g = 1979-05-27
[[f]]
h = \"\"\"}}\\\"\"\"\"\"\"
"""

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@given(values, st.booleans())
def test_json_is_read_as_python_reads_it(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text.encode()) == parse_json(text) == json.loads(text) == value


@given(st.binary() | st.text('[]{}",:\\ 10.e-ntrufals\n', max_size=60).map(str.encode))
def test_no_more_is_taken_than_python_takes(raw: bytes) -> None:
    try:
        found = parse_json(raw)
    except ValueError:
        return
    assert json.loads(raw.decode()) == found


@pytest.mark.parametrize(("kind", "sample"), [("json", JSON), ("toml", TOML)])
def test_what_both_take_is_the_same_and_nothing_else_is_raised(kind: fuzz.Kind, sample: bytes) -> None:
    ours, pythons = (parse_json, json.loads) if kind == "json" else (parse_toml, tomllib.loads)
    taken = 0
    for seed in range(3000):
        raw = fuzz.mutated(sample, seed, kind)
        try:
            found = ours(raw)
        except ValueError:
            continue
        taken += 1
        assert repr(found) == repr(pythons(raw.decode()))  # NaN too
    assert taken > 300


@given(st.dictionaries(st.text("ab.[\"'# \n", min_size=1), st.text("ab.[]{}\"'#=, \n") | st.integers(0, 9), max_size=4))
def test_toml_is_read_as_python_reads_it(table: dict[str, Any]) -> None:
    text = fuzz.to_toml(table) + "[t.'u.v']\nw = '[['  # ]\nx = {y = [[1.5]]}\n"
    assert parse_toml(text) == tomllib.loads(text)


def test_brackets_and_dots_in_texts_are_not_counted() -> None:
    many = "[{." * 1000
    assert parse_json(json.dumps({many: [many, '"' + many, "\\" + many]}))[many][0] == many
    text = f"a = '{many}'  # {many}\nb = '''\n{many}'''\n"
    text += f'c = """\n\\"{many}"""""\nd = "\\"{many}"\n\'{many}\' = 1\n'
    assert parse_toml(text) == tomllib.loads(text)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 10_000, 1_000_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("whole", [True, False])
def test_depth_is_bounded(depth: int, opening: str, whole: bool) -> None:
    text = opening * depth + ("1" + "]}"[opening != "["] * depth if whole else "")
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(text)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml("a = " + text.replace(":", "=").replace('"', ""))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 10_000, 200_000])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "a = {{ {} = 1 }}", "[a.b]\nc . {} = 1"])
def test_keys_of_many_parts_are_nested_too(depth: int, form: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml(form.format(" . ".join("a" * (depth + 1))))


def test_headers_keys_and_lists_add_up() -> None:
    half = ".".join("a" * (MAX_DEPTH // 2 - 2))
    assert parse_toml(f"[{half}]\n{half} = [[1]]")
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml(f"[{half}]\n{half} = [[[[[1]]]]]")


def test_what_is_just_deep_enough_is_read() -> None:
    assert json.dumps(parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)) == "[" * MAX_DEPTH + "]" * MAX_DEPTH


@pytest.mark.parametrize("text", ['"' + '\\"' * 500_000, '{"a":"' + '\\"[' * 500_000, "[" + "[],{}," * 200_000])
def test_a_text_without_an_end_is_looked_through_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|Illegal|Unclosed"):
        parse_json(text)
    with pytest.raises(ValueError, match=r"."):
        parse_toml("a = " + text)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("9" * 10_000, "a number has 10000 digits."),
        ("-" + "9" * 10_000, "a number has 10001 digits."),
        ("0." + "1" * 10_000, "a number has 10002 digits."),
        ("1e999999", "a number is too large."),
        ("-1e999999", "a number is too large."),
        ("NaN", "NaN is not JSON."),
        ("-Infinity", "-Infinity is not JSON."),
        ('{"a": 1, "b": 2, "a": 1}', "a key occurs twice."),
        (r'"\ud800"', "a text holds half a character (a lone surrogate)."),
        (r'{"\uDEAD": 1}', "a text holds half a character (a lone surrogate)."),
        (r'["\udc00\ud800"]', "a text holds half a character (a lone surrogate)."),
    ],
)
def test_what_is_not_json_everywhere_is_refused(text: str, clause: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_json(text)
    assert str(raised.value) == clause


def test_numbers_at_the_bounds() -> None:
    assert parse_json("9" * MAX_DIGITS) == int("9" * MAX_DIGITS)
    assert parse_json("[1e308, 1e-999999, -0.0]") == [1e308, 0.0, 0.0]
    assert parse_json("[NaN, Infinity]", constants=True)[1] == float("inf")
    assert parse_json(r'"\ud83d\ude00"') == "\U0001f600"
    assert parse_toml(f"a = {2**63 - 1}\nb = {-(2**63)}\nc = 1e999999")["c"] == float("inf")  # TOML has it


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        (f"a = {2**63}", "a whole number has more than 64 bits."),
        (f"a = [0x1{'0' * 10_000}]", "a whole number has more than 64 bits."),
        ("a = " + "9" * 10_000, "a number has too many digits."),
    ],
)
def test_whole_numbers_of_toml_have_64_bits(text: str, clause: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_toml(text)
    assert str(raised.value) == clause


@pytest.mark.parametrize("parse", [parse_json, parse_toml])
@pytest.mark.parametrize(
    ("raw", "clause"),
    [
        (b"\xef\xbb\xbf1", "begins with a byte order mark"),
        (b"\xff\xfe1\x00", "byte 0 is 0xff, which is not UTF-8"),
        (b'"\xed\xa0\x80"', "byte 1 is 0xed, which is not UTF-8"),
        (b'"\x00"', "."),
        (b"\x00", "."),
    ],
)
def test_bytes_that_are_no_text_are_refused(parse: Any, raw: bytes, clause: str) -> None:
    with pytest.raises(ValueError, match=clause):
        parse(raw)


def test_a_pipe_a_folder_a_socket_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/tty"), Path("/dev/null")):
        with pytest.raises((ValueError, OSError)) as raised:
            read_json(path)
        assert why(raised.value) in ("is not a file", "No such device or address")
    with pytest.raises(IsADirectoryError) as raised:
        read_json(tmp_path)
    assert why(raised.value) == "Is a directory"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="No such device"):
            read_json(tmp_path / "s")
    with pytest.raises(ValueError, match="null"):
        read_json(tmp_path / "a\x00b")
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "missing")


def test_what_grows_or_says_that_it_is_empty_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100)
    assert read_regular(path, 100) == b"x" * 100
    with pytest.raises(ValueError, match="is too large: 100 bytes, where 99 are the most"):
        read_regular(path, 99)
    assert read_regular(Path("/proc/self/stat")).count(b" ") > 40  # of 0 bytes, by its own account
    with pytest.raises(ValueError, match="is too large: 11 bytes, where 10"):
        read_regular(Path("/proc/self/stat"), 10)
    read = os.read

    def growing(fd: int, count: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"y" * 1000)
        return read(fd, count)

    monkeypatch.setattr(documents.os, "read", growing)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="is too large: 5001 bytes, where 5000"):
        read_regular(path, 5000)


def test_links_are_followed_within_a_folder_alone(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    for made in (folder / "sub", outside):
        made.mkdir(parents=True)
        (made / "a.json").write_text("1")
    (folder / "a.json").symlink_to("sub/a.json")
    assert read_json(folder / "a.json", root=folder) == 1
    (folder / "out.json").symlink_to(outside / "a.json")
    (folder / "out").symlink_to(outside)
    for path in (folder / "out.json", folder / "out" / "a.json"):
        assert read_json(path) == 1
        with pytest.raises(ValueError, match="is a link to a file outside its folder"):
            read_json(path, root=folder)
    (tmp_path / "named").symlink_to(folder)
    assert read_json(tmp_path / "named" / "a.json", root=tmp_path / "named") == 1
    (folder / "round.json").symlink_to("round.json")
    for root in (folder, None):
        with pytest.raises(OSError) as raised:
            read_json(folder / "round.json", root=root)
        assert why(raised.value) == "Too many levels of symbolic links"
    assert resolved(folder / "round.json") == resolved(folder) / "round.json"


def test_the_hubs_snapshots_lead_into_their_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    for folder in (snapshot / "sub", blobs, tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "blob").write_text("1")
    (snapshot / "sub" / "a").symlink_to(blobs / "blob")
    (snapshot / "sub" / "b").symlink_to(tmp_path / "other" / "blob")
    assert inside(snapshot / "sub" / "a", snapshot)
    assert inside(snapshot / "sub" / "a", snapshot / "sub")
    assert not inside(snapshot / "sub" / "b", snapshot)


def test_the_descriptor_is_not_inherited_and_is_closed_on_refusal(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    fd = open_regular(tmp_path / "a")
    assert not os.get_inheritable(fd)
    os.close(fd)
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises((ValueError, OSError)):
            open_regular(path)
    following = os.open(tmp_path / "a", os.O_RDONLY)
    os.close(following)
    assert following == fd


def test_a_thread_of_little_stack_can_read(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("a = " + "[" * MAX_DEPTH + "]" * MAX_DEPTH)
    found: list[Any] = []
    threading.stack_size(1 << 18)
    try:
        thread = threading.Thread(target=lambda: found.append(read_toml(tmp_path / "deep.toml")))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)
    assert len(found) == 1
