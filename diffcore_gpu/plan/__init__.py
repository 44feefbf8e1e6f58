"""What will be done to each sample of one batch, and how it is drawn."""

from __future__ import annotations

from diffcore_gpu.plan.draw import check_index_range, check_labels, draw_mix, draw_plan, round_for
from diffcore_gpu.plan.fields import MixPlan
from diffcore_gpu.plan.spec import BoxPlacement, DrawParameters, HasPairs, LamSpec, Pairs, PlanConfig, RowChoice

__all__ = [
    "BoxPlacement",
    "DrawParameters",
    "HasPairs",
    "LamSpec",
    "MixPlan",
    "Pairs",
    "PlanConfig",
    "RowChoice",
    "check_index_range",
    "check_labels",
    "draw_mix",
    "draw_plan",
    "round_for",
]
