"""The fused crop-and-mix kernels against the float64 reference, and their plan against the one drawn in torch."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.kernels import Drawn, DrawnCrops, crop_mix, launch_crop_mix_plan, launch_crop_mix_store
from diffcore_gpu.ops.crop_mix.op import with_crops
from diffcore_gpu.ops.crop_mix.reference import crop_mix_reference
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan import MixPlan, Pairs, PlanConfig, draw_mix
from diffcore_gpu.plan.beta import Beta
from diffcore_gpu.plan.crops import RandomResizedCropMirror, central_crop
from tests.kernels.constants import PackedPlan, pack_constants
from tests.kernels.device import DEVICE
from tests.pairs import pairs_of_counts

MEAN, STD = (0.485, 0.456, 0.406, 0.5, 0.4), (0.229, 0.224, 0.225, 0.25, 0.3)
FORMATS = (torch.contiguous_format, torch.channels_last)
# Of values up to about 2.7: float32 sums of some ten products, then the output's own rounding.
TOLERANCE = {torch.float32: 3e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@dataclass
class Work:
    """A batch of raw images, a store of another size, and how crops are drawn; on the CPU."""

    images: Tensor
    store: Tensor
    index: Tensor
    pairs: Pairs
    row_label: Tensor
    geometry: RandomResizedCropMirror
    same: bool

    @classmethod
    def make(
        cls, channels: int, source: tuple[int, int], stored: tuple[int, int], geometry: RandomResizedCropMirror,
        memory_format: torch.memory_format = torch.contiguous_format, same: bool = False, batch: int = 4, seed: int = 0,
    ) -> Work:  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        counts = torch.randint(0, 4, (batch + 5,), generator=generator)
        rows = 6
        pairs = pairs_of_counts(counts, rows)
        images = torch.randint(0, 256, (batch, channels, *source), generator=generator, dtype=torch.uint8)
        return cls(
            images.to(memory_format=memory_format),
            torch.randint(0, 256, (rows, channels, *stored), generator=generator, dtype=torch.uint8),
            torch.randperm(batch + 5, generator=generator)[:batch],
            Pairs(pairs.pair_ptr, pairs.pair_row, rows),
            torch.randint(0, 2, (rows,), generator=generator),
            geometry,
            same,
        )

    def drawn(self, config: PlanConfig, labels: Tensor | None = None) -> MixPlan:
        """The plan as plain torch draws it."""
        size = self.geometry.size
        common = {"seed": 9, "round": torch.tensor(3)}
        plan = draw_mix(
            self.index, self.pairs, config.parameters(), config.lam_table(), height=size[0], width=size[1], **common
        )
        if labels is not None:
            wrong = (plan.row >= 0) & (self.row_label[plan.row.clamp(min=0)] != labels)
            plan = MixPlan(torch.where(wrong, -1, plan.row), plan.pixel, plan.lam, plan.box, plan.inside_real)
        return with_crops(
            plan, self.index, self.geometry.parameters(), self.geometry.ratio, self.geometry.side_table(),
            self.images.shape[-2:], self.store.shape[-2:], same=self.same, **common,
        )  # fmt: skip

    def norm(self) -> Tensor:
        channels = self.images.shape[1]
        return affine_of(MEAN[:channels], STD[:channels], channels).to(DEVICE)

    def empty(self, dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
        shape = (*self.images.shape[:2], *self.geometry.size)
        return torch.full(shape, 99, dtype=dtype).to(DEVICE, memory_format=memory_format)

    def run(
        self, config: PlanConfig, dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format, labels: Tensor | None = None,
    ) -> tuple[Tensor, MixPlan, list[int]]:  # fmt: skip
        """The kernel's result, the plan that it wrote, and its counters."""
        out = self.empty(dtype, memory_format)
        index, status = self.index.to(DEVICE), torch.zeros(4, dtype=torch.int32, device=DEVICE)
        plan = PackedPlan(len(index), DEVICE, crops=True)
        table = config.lam_table()
        parameters = config.parameters()._asdict()
        flags = {name: bool(parameters.pop(name)) for name in ("box_inside", "best_row")}
        area_low, area_span, mirror_below = self.geometry.parameters()
        store = self.store.to(DEVICE)
        addresses = {
            "store": store, "pair_ptr": self.pairs.pair_ptr.to(DEVICE), "pair_row": self.pairs.pair_row.to(DEVICE),
            "row_label": self.row_label.to(DEVICE), "lam_table": None if table is None else table.to(DEVICE),
            "side_table": self.geometry.side_table(DEVICE), "norm": self.norm(),
        }  # fmt: skip
        numbers = {
            "num_samples": len(self.pairs.pair_ptr) - 1, "num_rows": len(store), "seed": 9, **parameters,
            "crop_area_low": area_low, "crop_area_span": area_span, "mirror_below": mirror_below,
        }  # fmt: skip
        drawn = Drawn(
            index, None if labels is None else labels.to(DEVICE), torch.tensor(3, device=DEVICE), status,
            pack_constants(addresses, numbers, DEVICE), advance=False, lam_table=table is not None, **flags,
            store_planar=store.is_contiguous(),
        )  # fmt: skip
        crops = DrawnCrops(
            central_crop(*self.images.shape[-2:], self.geometry.ratio),
            central_crop(*self.store.shape[-2:], self.geometry.ratio), self.same,
        )  # fmt: skip
        launch_crop_mix_store(
            self.images.to(DEVICE), out, store.shape[-2:], drawn, crops, plan.packed, plan.places
        )  # fmt: skip
        return out.cpu(), MixPlan(*(value.cpu() for value in plan.tensors())), status.tolist()

    def expected(self, plan: MixPlan, dtype: torch.dtype) -> Tensor:
        channels = self.images.shape[1]
        counterparts = self.store[plan.row.clamp(min=0)]
        if dtype == torch.uint8:
            return crop_mix_reference(self.images, counterparts, plan, self.geometry.size) * 255
        return crop_mix_reference(
            self.images, counterparts, plan, self.geometry.size, mean=MEAN[:channels], std=STD[:channels]
        )


def assert_close(result: Tensor, expected: Tensor) -> None:
    # a byte within float32's error of a tie may go either way
    tolerance = 0.5 + 1e-3 if result.dtype == torch.uint8 else TOLERANCE[result.dtype]
    assert (result.double() - expected).abs().max() <= tolerance


def assert_same_plan(a: MixPlan, b: MixPlan) -> None:
    for x, y in zip(a.tensors(), b.tensors(), strict=True):
        assert torch.equal(x, y)


sides = st.tuples(st.integers(4, 26), st.integers(4, 26))


@given(
    channels=st.sampled_from([1, 3, 4, 5]),
    source=sides,
    stored=sides,
    size=st.tuples(st.integers(6, 11), st.integers(6, 11)),  # the interpreter is slow where many pixels shrink to one
    config=st.sampled_from(
        [PlanConfig(), PlanConfig(pixel_prob=1.0), PlanConfig(pixel_prob=0.0), PlanConfig(lam=Beta(0.5), p=0.7),
         PlanConfig(pixel_prob=1.0, lam=0.0), PlanConfig(pixel_prob=1.0, lam=1.0),
         PlanConfig(pixel_prob=0.0, box_placement="inside", row_choice="best")]
    ),
    dtype=st.sampled_from([*TOLERANCE, torch.uint8]),
    source_format=st.sampled_from(FORMATS),
    target_format=st.sampled_from(FORMATS),
    same=st.booleans(),
    seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_equals_the_reference(
    channels: int, source: tuple[int, int], stored: tuple[int, int], size: tuple[int, int], config: PlanConfig,
    dtype: torch.dtype, source_format: torch.memory_format, target_format: torch.memory_format, same: bool, seed: int,
) -> None:  # fmt: skip
    geometry = RandomResizedCropMirror(size, scale=(0.2, 1.0))
    work = Work.make(channels, source, source if same else stored, geometry, source_format, same, seed=seed)
    result, plan, status = work.run(config, dtype, target_format)
    assert status == [0, 0, 0, 0]
    assert_same_plan(plan, work.drawn(config))
    assert_close(result, work.expected(plan, dtype))

    given_plan = work.empty(dtype, target_format)
    tensors = [value.to(DEVICE) for value in plan.tensors()]
    launch_crop_mix_plan(work.images.to(DEVICE), given_plan, work.store.to(DEVICE), work.norm(), tensors)
    assert torch.equal(given_plan.cpu(), result)


@pytest.mark.parametrize(("rows", "wide"), [(1, 4), (5, 2)])
def test_a_program_may_take_few_rows(rows: int, wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_mix, "CROP_MIX_ROWS", rows)
    monkeypatch.setattr(crop_mix, "CROP_MIX_WIDE", wide)
    work = Work.make(3, (20, 24), (18, 18), RandomResizedCropMirror((11, 16)), batch=2)
    for memory_format in FORMATS:
        result, plan, _ = work.run(PlanConfig(), memory_format=memory_format)
        assert_close(result, work.expected(plan, torch.float32))


def patches(size: tuple[int, int], boxes: list[tuple[int, int, int, int]], inside_real: bool) -> list[Tensor]:
    """A plan of patches alone, for whole images of 1 and of 9 × 80 pixels by turns."""
    batch = len(boxes)
    whole = torch.tensor([[0, 0, 9, 80], [8, 79, 9, 80]] * batch, dtype=torch.int32)[:batch]
    mirror = torch.arange(batch) % 3 == 0
    return [
        torch.arange(batch), torch.zeros(batch, dtype=torch.bool), torch.full((batch,), 0.5),
        torch.tensor(boxes, dtype=torch.int32), torch.full((batch,), inside_real),
        whole, mirror, whole.flip(0), ~mirror,
    ]  # fmt: skip


@pytest.mark.parametrize("inside_real", [True, False])
def test_a_patch_shows_each_image_on_its_side_alone(inside_real: bool) -> None:
    """Edges within a row's chunk of 128 pixels and between two, and patches that are empty or the whole image."""
    size = (6, 140)
    boxes = [(2, 110, 5, 135), (0, 0, 6, 128), (3, 128, 6, 140), (0, 5, 4, 6), (4, 0, 4, 9), (0, 0, 6, 140)]
    generator = torch.Generator().manual_seed(1)
    images, store = (torch.randint(0, 256, (6, 2, 9, 80), generator=generator, dtype=torch.uint8) for _ in range(2))
    plan = patches(size, boxes, inside_real)
    out = torch.zeros(6, 2, *size, device=DEVICE)
    norm = affine_of(None, None, 2).to(DEVICE)
    launch_crop_mix_plan(images.to(DEVICE), out, store.to(DEVICE), norm, [tensor.to(DEVICE) for tensor in plan])
    assert_close(out.cpu(), crop_mix_reference(images, store, MixPlan(*plan), size))

    # Of the image that does not show at a pixel, nothing comes through, not even in the last place.
    for shown, batch in (("real", (images, 255 - store)), ("generated", (255 - images, store))):
        other = torch.zeros_like(out)
        launch_crop_mix_plan(
            batch[0].to(DEVICE), other, batch[1].to(DEVICE), norm, [value.to(DEVICE) for value in plan]
        )
        for sample, (top, left, bottom, right) in enumerate(boxes):
            inside = torch.zeros(size, dtype=torch.bool)
            inside[top:bottom, left:right] = True
            same = inside if inside_real == (shown == "real") else ~inside
            assert torch.equal(out[sample].cpu()[:, same], other[sample].cpu()[:, same])


@pytest.mark.parametrize("channels", [2, 7, 9])
def test_takes_any_number_of_channels(channels: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    shape = (2, channels, 9, 80)
    images, store = (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for _ in range(2))
    plan = patches((8, 12), [(2, 3, 7, 9), (0, 0, 8, 5)], inside_real=True)
    plan[1] = torch.tensor([True, False])
    norm = affine_of(None, None, channels).to(DEVICE)
    for memory_format in FORMATS:
        out = torch.zeros(2, channels, 8, 12, device=DEVICE).to(memory_format=memory_format)
        launch_crop_mix_plan(
            images.to(DEVICE), out, store.to(DEVICE, memory_format=memory_format), norm,
            [tensor.to(DEVICE) for tensor in plan],
        )  # fmt: skip
        assert_close(out.cpu(), crop_mix_reference(images, store, MixPlan(*plan), (8, 12)))


@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((1.0, 1.0), (1.0, 1.0))])
def test_draws_the_crops_of_plain_torch(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Also where attempts fail: the second case hardly ever fits, and takes the central crop."""
    geometry = RandomResizedCropMirror((4, 4), scale=scale, ratio=ratio)
    work = Work.make(1, (37, 61), (50, 23), geometry, batch=12)
    _, plan, _ = work.run(PlanConfig())
    assert_same_plan(plan, work.drawn(PlanConfig()))
    assert not torch.equal(plan.crop, plan.counterpart_crop)


def test_one_crop_for_both() -> None:
    work = Work.make(3, (20, 24), (20, 24), RandomResizedCropMirror((8, 8)), same=True, batch=8)
    _, plan, _ = work.run(PlanConfig())
    assert torch.equal(plan.crop, plan.counterpart_crop)
    assert torch.equal(plan.mirror, plan.counterpart_mirror)


def test_a_label_of_another_class_is_counted_and_not_mixed() -> None:
    work = Work.make(3, (16, 16), (16, 16), RandomResizedCropMirror((8, 8)), batch=8)
    right = work.run(PlanConfig())[1]
    labels = work.row_label[right.row.clamp(min=0)]
    result, plan, status = work.run(PlanConfig(), labels=labels)
    assert status == [0, 0, 0, 0]
    assert_same_plan(plan, right)
    changed = int((right.row >= 0).nonzero()[0])
    labels[changed] = 7
    result, plan, status = work.run(PlanConfig(), labels=labels)
    assert status == [0, 0, 1, 0]
    assert plan.row[changed] == -1
    assert_same_plan(plan, work.drawn(PlanConfig(), labels))
    assert_close(result, work.expected(plan, torch.float32))


def test_crops_and_rows_beyond_their_images_are_clipped() -> None:
    work = Work.make(3, (10, 12), (9, 14), RandomResizedCropMirror((6, 6)), batch=4)
    plan = work.drawn(PlanConfig())
    wild = torch.tensor([[-5, -5, 99, 99], [50, 50, 60, 60], [3, 4, 3, 4], [9, 2, -4, 7]], dtype=torch.int32)
    tensors = [
        torch.tensor([0, 1, 99, -3]), plan.pixel, plan.lam, plan.box, plan.inside_real,
        wild, plan.mirror, wild, plan.counterpart_mirror,
    ]  # fmt: skip
    out = work.empty(torch.float32, torch.contiguous_format)
    launch_crop_mix_plan(
        work.images.to(DEVICE), out, work.store.to(DEVICE), work.norm(), [tensor.to(DEVICE) for tensor in tensors]
    )
    expected = MixPlan(torch.tensor([0, 1, -1, -1]), *tensors[1:])
    assert_close(out.cpu(), work.expected(expected, torch.float32))
