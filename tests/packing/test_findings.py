"""The journal says after a restart what it said before."""

from __future__ import annotations

import json

import pytest

from diffcore_gpu.packing.findings import Effect, Finding, Journal, Kind


def test_survives_json_and_stays_small() -> None:
    journal = Journal()
    for position in range(1000):
        if position == 500:
            journal.note(Effect.SKIPPED, Kind.BROKEN, "bad")
            journal.digests.append(-5)
        else:
            journal.note(Effect.CONVERTED, Kind.GREY, "copied")
        if position in (0, 999):
            journal.note(Effect.CONVERTED, Kind.ANIMATED, "")
        journal.done += 1
    journal.enlarged = 7
    text = json.dumps(journal.encode())
    assert len(text) < 300
    again = Journal.decode(json.loads(text))
    assert (again.done, again.enlarged, again.skipped()) == (1000, 7, {500})
    assert (again.digests, again.gapless) == ([-5], True)
    names = [f"{position}.png" for position in range(1000)]
    findings = again.findings(names)
    assert findings == journal.findings(names)
    assert len(findings) == 1002
    assert findings[:2] == [
        Finding(Effect.CONVERTED, Kind.GREY, "0.png", "copied"),
        Finding(Effect.CONVERTED, Kind.ANIMATED, "0.png"),
    ]
    assert Finding(Effect.SKIPPED, Kind.BROKEN, "500.png", "bad") in findings


@pytest.mark.parametrize("value", [{}, {"done": 1, "enlarged": 0, "runs": [["what", "grey", "", []]]}])
def test_refuses_something_else(value: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Journal.decode(value)
