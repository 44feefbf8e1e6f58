"""The peak rates of memory that manufacturers publish."""

from __future__ import annotations

import re
from typing import Any

# Of the manufacturer's data sheets, GB/s, by the name that the driver gives; the first that fits.
DATA_SHEETS = (
    (r"H200", 4800.0),
    (r"H100 NVL", 3900.0),
    (r"H100 PCIe", 2000.0),
    (r"H100 80GB HBM3|H100 SXM", 3350.0),
    (r"A100.*80GB PCIe", 1935.0),
    (r"A100.*80GB", 2039.0),
    (r"A100.*40GB", 1555.0),
    (r"L40S", 864.0),
    (r"L4\b", 300.0),
    (r"RTX 4090\b(?! D| Laptop)", 1008.0),
    (r"T4\b", 320.0),
    (r"V100", 900.0),
)


def data_sheet_peak(name: str) -> float | None:
    """GB/s of the GPU's memory by its data sheet; None: not known here."""
    return next((peak for pattern, peak in DATA_SHEETS if re.search(rf"\b(?:{pattern})", name)), None)


def peak_of(properties: Any) -> tuple[float, str] | None:
    """GB/s of a GPU's memory and where the figure comes from; None: neither is known.

    Args:
        properties: of `torch.cuda.get_device_properties`. A GPU whose data sheet is not listed counts with its highest
            memory clock, twice per cycle, times the width of its bus.
    """
    sheet = data_sheet_peak(properties.name)
    if sheet is not None:
        return sheet, "data sheet"
    khz, bits = (getattr(properties, name, 0) or 0 for name in ("memory_clock_rate", "memory_bus_width"))
    return (2e3 * khz * bits / 8 / 1e9, "clock and bus") if khz and bits else None
