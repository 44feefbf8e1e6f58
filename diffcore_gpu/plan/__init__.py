"""What will be done to each sample of one batch, and how it is drawn."""

from diffcore_gpu.plan.draw import (
    STREAM_BOX,
    STREAM_CHOICE,
    BoxPlacement,
    DrawParameters,
    HasPairs,
    LamSpec,
    MixPlan,
    Pairs,
    PlanConfig,
    RowChoice,
    check_index_range,
    check_labels,
    draw_mix,
    draw_plan,
    round_for,
)

__all__ = [
    "STREAM_BOX",
    "STREAM_CHOICE",
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
