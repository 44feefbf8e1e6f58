"""Augmentation overhead A_O of eq. 9, full training steps with every method: the paper's Table 6 on this machine.

Fetching a batch, mixing, forward, backward and SGD of one model; what a method adds to the vanilla step is its
overhead. The methods take turns, so that drift hits all alike. A_O is the median over the turns of
(T_aug − T_van) / T_van, with an interval of order statistics so wide that all intervals of the table hold their medians
together with 95 %; where it holds 0, the difference is called noise. Beside it stands the method's own stage in percent
of its step. A method that fails, or does not fit into memory, is a row that says so.

    diffcore bench overhead --amp --json benchmarks/results/DEVICE/overhead.json
    diffcore bench overhead --device cpu --model resnet18 --size 64 --batch 4 --repeats 3 --methods mixup cutmix
    diffcore bench overhead --real birds --store stores/birds --size 224 --residency disk

The vanilla steps take two turns of their own, as "vanilla" and "vanilla again". What stands in the row of the second is
the error of all rows: there is no method in it. This library's method, mixup and cutmix take their turns first, at all
batch sizes, and the other methods after that, with vanilla steps of their own.

Without --real the images are random and lie on the device; index and labels go through the whole store, so that
counterparts are read as in training, and not out of the cache that the batch before left. With --real, batches come
from the images through a loader, and the share of the step in which the loop waits for the loader is told too.
--residency says where diffcore-mix finds its counterparts; with "host" and "disk" the batches of all methods, the
vanilla ones too, come from the host through a PrefetchLoader, and those of diffcore-mix bring their counterparts.

With --json every turn is written when it is over, so a run that was cut off, by whatever (--budget-minutes too), goes
on with the next turn when it is started again. Tables can be drawn from the file at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffcore_gpu.baselines import BASELINES
from diffcore_gpu.benchmarks import paper
from diffcore_gpu.benchmarks.harness.measure import table
from diffcore_gpu.benchmarks.paper import OURS
from diffcore_gpu.benchmarks.reporting.step_tables import OWN, WAITED, overhead_notes, share_cell
from diffcore_gpu.benchmarks.reporting.tables import NOISE
from diffcore_gpu.benchmarks.steps.results import AtBatch, at_batches
from diffcore_gpu.benchmarks.steps.run import step_suite


def report(result: Mapping[str, Any]) -> str:
    """A table for each batch size of a result, and how sure its figures are."""
    found = at_batches(result["results"])
    return "\n\n".join([*map(_table, found), "\n".join(overhead_notes(result, found))])


def _table(at: AtBatch) -> str:
    """The arms at one batch size, with the paper's column where it has one."""
    rows = []
    loader = any(arm.loader_share is not None for arm in at.arms.values())
    for name, arm in at.arms.items():
        one = arm.overhead
        theirs = paper.at_batch(paper.OVERHEAD, name, at.batch)
        rows.append(
            (
                name,
                f"{arm.time['median_ms']:.2f}",
                "" if one is None else f"{one.percent:+.1f}{NOISE if one.noise else ''}",
                "" if one is None else f"{one.low:+.1f} … {one.high:+.1f}",
                f"{arm.own_percent:.2f}",
                "" if theirs is None else f"{theirs:+.1f}",
                *([share_cell(arm.loader_share)] if loader else []),
            )
        )
    header = (f"batch {at.batch}", "step, ms", "A_O, %", "interval", OWN, "paper, %")
    text = table((*header, *([WAITED] if loader else [])), rows)
    return "\n".join([text, *(f"{name} failed: {reason}" for name, reason in at.failed.items())])


main = step_suite("overhead", [OURS, *BASELINES], report)
