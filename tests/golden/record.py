"""Record what the torch implementation draws: ``python -m tests.golden.record``.

A recorded stream is a promise to whoever trained with it, so its file is never written again. A deliberate change of
what is drawn is a new `STREAM_VERSION`, with a file of its own beside the old ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.kernels.spec import GRID_BITS, STREAM_VERSION
from diffcore_gpu.plan import PlanConfig, draw_mix
from diffcore_gpu.plan.crops import RandomResizedCropMirror, draw_crops
from tests.golden.cases import CROPS, PLANS, CropCase, PlanCase, crop_index, pairs, plan_index


def path_of(version: int = STREAM_VERSION) -> Path:
    """The file of a version of the stream."""
    return Path(__file__).with_name(f"draws-{version}.json")


def plan_of(case: PlanCase) -> dict[str, Any]:
    """A plan as torch draws it; λ in units of 2⁻²⁴, so that JSON holds it exactly."""
    config = PlanConfig(**case.settings)
    plan = draw_mix(
        plan_index(), pairs(), config.parameters(), config.lam_table(), height=case.size[0], width=case.size[1],
        seed=case.seed, round=torch.tensor(case.round),
    )  # fmt: skip
    return {
        "row": plan.row.tolist(),
        "pixel": plan.pixel.int().tolist(),
        "lam": (plan.lam.double() * 2**GRID_BITS).long().tolist(),
        "box": plan.box.tolist(),
        "inside_real": plan.inside_real.int().tolist(),
    }


def crops_of(case: CropCase) -> dict[str, Any]:
    """Crops and mirror flags of images and counterparts as torch draws them."""
    config = RandomResizedCropMirror((224, 224), **case.settings)
    drawn = {}
    for prefix, (height, width), counterpart in (("", case.image, False), ("counterpart_", case.counterpart, True)):
        crops = draw_crops(
            crop_index(), config, height=height, width=width, seed=case.seed, round=case.round, counterpart=counterpart
        )
        drawn[f"{prefix}crop"] = crops.crop.tolist()
        drawn[f"{prefix}mirror"] = crops.mirror.int().tolist()
    return drawn


def main() -> None:
    """Write the file of this version, unless it is there."""
    path = path_of()
    if path.exists():
        sys.exit(f"{path.name} is there; a stream that draws otherwise needs a new STREAM_VERSION in kernels/spec.py.")
    lines = []
    for kind, cases, draw_case in (("plan", PLANS, plan_of), ("crops", CROPS, crops_of)):
        lines += [json.dumps({"kind": kind, "case": name, **draw_case(case)}) for name, case in cases.items()]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
