"""The measuring code that the benchmarks share."""

import json
from pathlib import Path

import measure
import pytest
import torch

CPU = torch.device("cpu")


def test_actions_take_turns_after_a_preparation_each() -> None:
    calls: list[str] = []
    seconds = measure.interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        device=CPU,
        repeats=3,
        warmup=2,
        prepare=lambda: calls.append("-"),
    )
    assert "".join(calls) == "-a-b" * 5
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for values in seconds.values() for value in values)


def test_summary_of_known_samples() -> None:
    result = measure.summary([i / 1000 for i in range(11)])
    assert result["median_ms"] == pytest.approx(5)
    assert result["p10_ms"] == pytest.approx(1)
    assert result["p90_ms"] == pytest.approx(9)
    assert result["samples_ms"] == list(range(11))


@pytest.mark.parametrize(("other", "noise"), [((5.5, 4.5, 9), True), ((20, 19, 21), False), ((8, 7.9, 8.1), False)])
def test_noise_is_a_difference_within_both_spreads(other: tuple[float, float, float], noise: bool) -> None:
    one = {"median_ms": 5, "p10_ms": 4, "p90_ms": 9}
    two = dict(zip(("median_ms", "p10_ms", "p90_ms"), other, strict=True))
    assert measure.within_noise(one, two) is measure.within_noise(two, one) is noise


def test_table_lines_up() -> None:
    assert measure.table(("name", "ms"), [("a", "1.0"), ("longer", "10.0")]).split("\n") == [
        "name      ms",
        "a        1.0",
        "longer  10.0",
    ]


def test_json_reads_back_and_keeps_samples_on_one_line(tmp_path: Path) -> None:
    result = {"environment": {"gpu": None}, "batches": [{"samples_ms": [1.5, 2.0], "name": "λ"}], "none": {}, "no": []}
    path = tmp_path / "new" / "result.json"
    measure.write_json(path, result)
    text = path.read_text()
    assert json.loads(text) == result
    assert "[1.5, 2.0]" in text


def test_environment_names_the_machine_but_no_path_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/secret/benchmarks/peers.py", "--threads", "2"])
    found = measure.environment(CPU, ["no-such-package"])
    assert found["command"] == "python benchmarks/peers.py --threads 2"
    assert found["versions"]["torch"] == measure.version_of("torch")
    assert found["versions"]["no-such-package"] is None
    assert found["cpu"]
    assert found["threads"] == torch.get_num_threads()
    assert "secret" not in json.dumps(found)


@pytest.mark.parametrize("program", ["bandwidth", "host_overhead"])
def test_without_a_gpu_one_plain_sentence(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = __import__(program)
    monkeypatch.setattr("sys.argv", [f"{program}.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=rf"^{program}\.py .*measures a GPU, and torch finds none here\.$"):
        module.main()
