"""What a result was measured on and how, in words: device, clocks at start and end, versions, setting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diffcore_gpu.benchmarks.reporting.tables import MISSING

_GPU_NAMES = {
    "clocks.sm": "GPU cores",
    "clocks.max.sm": "GPU cores at most",
    "clocks.mem": "GPU memory",
    "clocks.max.mem": "GPU memory at most",
    "power.limit": "power limit",
    "temperature.gpu": "GPU temperature in °C",
}


def device(environment: Mapping[str, Any]) -> str:
    """The GPU, or the processor and the threads that were used."""
    return str(environment.get("gpu") or f"{environment['cpu']}, {_threads(environment)}")


def _threads(environment: Mapping[str, Any]) -> str:
    count = environment["threads"]
    return f"{count} thread{'' if count == 1 else 's'}"


def versions(environment: Mapping[str, Any]) -> str:
    """Python, and the packages that were there."""
    packages = (f"{name} {version}" for name, version in environment["versions"].items() if version)
    return ", ".join([f"Python {environment['python']}", *packages])


def where(environment: Mapping[str, Any]) -> str:
    """One sentence on what a result was measured with."""
    return f"{device(environment)}; {versions(environment)}."


def clocks(found: Sequence[Mapping[str, Any] | None]) -> str:
    """Clocks in words; of several, from the lowest to the highest.

    Args:
        found: of `diffcore_gpu.benchmarks.harness.environment.clocks`.
    """
    told = [one for one in found if one]
    cpu = [mhz for one in told for mhz in one.get("cpu_mhz") or ()]
    parts = [f"CPU {_range(cpu, 'MHz')}"] if cpu else []
    names: dict[str, None] = {}
    for one in told:
        names.update(dict.fromkeys(one.get("gpu") or ()))
    for name in names:
        values = [str(one["gpu"][name]) for one in told if name in (one.get("gpu") or ())]
        parts.append(f"{_GPU_NAMES.get(name, name)} {_texts(values)}")
    return ", ".join(parts) or "not told"


def _range(values: Sequence[float], unit: str) -> str:
    low, high = round(min(values)), round(max(values))
    return f"{low} {unit}".rstrip() if low == high else f"{low}–{high} {unit}".rstrip()


def _texts(values: Sequence[str]) -> str:
    """Such texts as "1980 MHz": lowest to highest where all are numbers of one unit, otherwise each that occurs."""
    matches = [re.fullmatch(r"(-?[\d.]+) ?(\S*)", value) for value in values]
    units = {match[2] for match in matches if match}
    if all(matches) and len(units) == 1:
        return _range([float(match[1]) for match in matches if match], units.pop())
    return ", ".join(dict.fromkeys(values))


def facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and texts of everything that is told about how a result came about, except its file."""
    environment = result["environment"]
    ends = [part["clocks_at_end"] for part in result["results"] if "clocks_at_end" in part]
    processor = f"{environment['cpu']}, {environment.get('cpus') or MISSING} CPUs, {_threads(environment)}"
    found = [("command", str(environment["command"]))]
    if environment.get("gpu"):
        memory = environment.get("gpu_memory_bytes")
        size = f", {memory / 2**30:.0f} GiB" if memory else ""
        cuda = f", CUDA {environment['cuda']}" if environment.get("cuda") else ""
        found.append(("GPU", f"{environment['gpu']}{size}{cuda}"))
    found += [
        ("processor", processor),
        ("load at start", str(environment.get("load_at_start", MISSING))),
        ("clocks at start", clocks([environment.get("clocks_at_start")])),
        (f"clocks at the end of {'its part' if len(ends) == 1 else f'its {len(ends)} parts'}", clocks(ends)),
        ("versions", versions(environment)),
        ("setting", _setting(result["setting"].items())),
    ]
    return found


def _setting(items: Iterable[tuple[str, Any]]) -> str:
    return "; ".join(f"{name}: {_value(value)}" for name, value in items) or MISSING


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return " ".join(map(_value, value)) or MISSING
    if value is None:
        return MISSING
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
