"""The Triton kernels against the plain-torch reference, and their plan against the plan drawn in torch, bit for bit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffcore_gpu.kernels import Drawn, launch_mix_plan, launch_mix_store, mix, spec
from diffcore_gpu.ops.mix.reference import mix_reference
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.plan import MixPlan, Pairs, PlanConfig, draw_mix
from diffcore_gpu.plan.beta import Beta
from tests.kernels.constants import PackedPlan, pack_constants
from tests.kernels.device import DEVICE
from tests.kernels.float32_reference import mix_in_float32
from tests.pairs import pairs_of_counts
from tests.ulp import ulps_apart

MEAN = (0.485, 0.456, 0.406, 0.5, 0.45, 0.3, 0.6, 0.55, 0.4)
STD = (0.229, 0.224, 0.225, 0.25, 0.3, 0.2, 0.26, 0.21, 0.24)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)
HALVES = (torch.float16, torch.bfloat16)
FORMATS = (torch.contiguous_format, torch.channels_last)


@dataclass
class Batch:
    """A batch with a store of random counterparts, on DEVICE."""

    images: Tensor
    index: Tensor
    store: Tensor
    pairs: Pairs
    norm: Tensor
    round: Tensor
    status: Tensor
    row_label: Tensor
    labels: Tensor | None = None

    @classmethod
    def make(
        cls,
        batch: int,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        memory_format: torch.memory_format = torch.contiguous_format,
        seed: int = 0,
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        samples, rows = batch + 7, 11
        counts = torch.randint(0, 4, (samples,), generator=generator)
        pairs = pairs_of_counts(counts, rows)
        images = (
            torch.randint(0, 256, (batch, *shape), generator=generator, dtype=torch.uint8)
            if dtype == torch.uint8
            else torch.randn(batch, *shape, generator=generator).to(dtype)
        )
        channels = shape[0]
        return cls(
            images.to(DEVICE, memory_format=memory_format),
            torch.randperm(samples, generator=generator)[:batch].to(DEVICE),
            torch.randint(0, 256, (rows, *shape), generator=generator, dtype=torch.uint8).to(DEVICE),
            Pairs(pairs.pair_ptr.to(DEVICE), pairs.pair_row.to(DEVICE), rows),
            affine_of(MEAN[:channels], STD[:channels], channels).to(DEVICE),
            torch.tensor(3, device=DEVICE),
            torch.zeros(4, dtype=torch.int32, device=DEVICE),
            torch.arange(rows, device=DEVICE),
        )

    def run(
        self, config: PlanConfig, seed: int = 9, *, inplace: bool = False, with_plan: bool = True, advance: bool = False
    ) -> tuple[Tensor, MixPlan | None]:
        """The kernel's result and the plan that it wrote."""
        out = self.images if inplace else torch.full_like(self.images, 77)
        plan = PackedPlan(len(self.index), DEVICE) if with_plan else None
        table = config.lam_table()
        table = None if table is None else table.to(DEVICE)
        parameters = config.parameters()._asdict()
        flags = {name: bool(parameters.pop(name)) for name in ("box_inside", "best_row")}
        constants = pack_constants(
            {"store": self.store, "pair_ptr": self.pairs.pair_ptr, "pair_row": self.pairs.pair_row,
             "row_label": self.row_label, "lam_table": table, "norm": self.norm},
            {"num_samples": len(self.pairs.pair_ptr) - 1, "num_rows": len(self.store), "seed": seed, **parameters},
            DEVICE,
        )  # fmt: skip
        drawn = Drawn(
            self.index, self.labels, self.round, self.status, constants, advance, table is not None, **flags,
            store_planar=self.store.is_contiguous(),
        )  # fmt: skip
        if plan is None:
            launch_mix_store(self.images, out, drawn)
            return out, None
        launch_mix_store(self.images, out, drawn, plan.packed, plan.places)
        return out, MixPlan(*plan.tensors())

    def drawn(self, config: PlanConfig, seed: int = 9) -> MixPlan:
        """The plan as plain torch draws it on the CPU."""
        height, width = self.images.shape[-2:]
        pairs = Pairs(self.pairs.pair_ptr.cpu(), self.pairs.pair_row.cpu(), self.pairs.num_rows)
        return draw_mix(
            self.index.cpu(),
            pairs,
            config.parameters(),
            config.lam_table(),
            height=height,
            width=width,
            seed=seed,
            round=self.round.cpu(),
        )

    def expected(self, plan: MixPlan) -> Tensor:
        """The reference's result, on the CPU; of images of 16 bits to the bit, of float32 images the exact one."""
        channels = self.images.shape[1]
        counterparts = self.store.cpu()[plan.row.clamp(min=0)]
        if self.images.dtype in HALVES:
            return mix_in_float32(self.images.cpu(), counterparts, plan, self.norm.cpu())
        return mix_reference(self.images.cpu(), counterparts, plan, mean=MEAN[:channels], std=STD[:channels])


def assert_same_plan(a: MixPlan, b: MixPlan) -> None:
    for name, x, y in zip(("row", "pixel", "lam", "box", "inside_real"), a.tensors(), b.tensors(), strict=True):
        assert torch.equal(x.cpu(), y.cpu()), name


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 33, 47), (3, 48, 64), (1, 16, 16), (4, 5, 7), (3, 1, 1)])
def test_equals_the_reference(
    shape: tuple[int, int, int], dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    config = PlanConfig(p=0.9)
    batch = Batch.make(9, shape, dtype, memory_format)
    plan = batch.drawn(config)
    expected = batch.expected(plan)
    mixed, written = batch.run(config)
    assert_same_plan(written, plan)
    assert mixed.stride() == batch.images.stride()
    assert ulps_apart(mixed.cpu(), expected) <= (1 if dtype == torch.float32 else 0)

    given_plan = torch.full_like(batch.images, 77)
    launch_mix_plan(batch.images, given_plan, batch.store, batch.norm, plan.to(DEVICE).tensors())
    assert torch.equal(given_plan, mixed)

    inplace, _ = batch.run(config, inplace=True, with_plan=False)
    assert inplace is batch.images
    assert torch.equal(inplace, mixed)


unit = st.floats(0, 1)
interval = st.tuples(unit, unit).map(lambda pair: tuple(sorted(pair)))
configs = st.builds(
    PlanConfig,
    p=st.sampled_from([0.0, 0.7, 1.0]),
    pixel_prob=st.sampled_from([0.0, 0.5, 1.0]),
    lam=st.one_of(unit, interval, st.sampled_from([0.0, 1.0, 0.5, Beta(0.3), Beta(4.0)])),
    box_area=st.one_of(unit, interval),
    box_placement=st.sampled_from(["clipped", "inside"]),
    real_patch_prob=st.sampled_from([0.0, 0.5, 1.0]),
    row_choice=st.sampled_from(["random", "best"]),
)


@given(
    config=configs,
    batch=st.integers(0, 4),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 70)),
    dtype=st.sampled_from(DTYPES),
    memory_format=st.sampled_from(FORMATS),
    seed=st.integers(-(2**63), 2**63 - 1),
    round=st.integers(0, 2**40),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_equals_the_reference_for_any_settings_and_shape(
    config: PlanConfig,
    batch: int,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    seed: int,
    round: int,
) -> None:
    data = Batch.make(batch, shape, dtype, memory_format, seed=abs(seed) % 1000)
    data.round.fill_(round)
    plan = data.drawn(config, seed)
    if batch == 0:
        assert len(plan) == 0
        return
    mixed, written = data.run(config, seed)
    assert_same_plan(written, plan)
    assert ulps_apart(mixed.cpu(), data.expected(plan)) <= (1 if dtype == torch.float32 else 0)
    assert data.status.tolist() == [0, 0, 0, 0]


def test_the_upper_bits_of_an_index_draw_anew_for_the_same_sample() -> None:
    batch = Batch.make(2, (3, 8, 8), torch.float32)
    counts = batch.pairs.pair_ptr.diff()
    sample = int(counts.argmax())
    draws = 20
    batch.index = sample + 2**spec.SAMPLE_BITS * torch.arange(draws, device=DEVICE)
    batch.images = batch.images[:1].repeat(draws, 1, 1, 1)
    mixed, plan = batch.run(PlanConfig())
    of_this_index = batch.drawn(PlanConfig())  # but for the row, which depends on what is looked up
    assert_same_plan(plan, dataclasses.replace(of_this_index, row=plan.row.cpu()))
    assert len(set(plan.lam.tolist())) == draws
    first, last = batch.pairs.pair_ptr[sample : sample + 2].tolist()
    assert set(plan.row.tolist()) == set(batch.pairs.pair_row[first:last].tolist())
    assert batch.status.tolist() == [0, 0, 0, 0]
    assert ulps_apart(mixed.cpu(), batch.expected(plan.to("cpu"))) <= 1


@pytest.mark.parametrize("inplace", [False, True])
def test_the_round_advances_when_all_have_read_it(inplace: bool) -> None:
    batch = Batch.make(5, (3, 40, 60), torch.float32)
    advanced = Batch.make(5, (3, 40, 60), torch.float32)
    for _ in range(3):
        batch.images, advanced.images = (torch.ones_like(batch.images) for _ in range(2))
        mixed, plan = batch.run(PlanConfig(), inplace=inplace)
        same, same_plan = advanced.run(PlanConfig(), inplace=inplace, advance=True)
        batch.round += 1
        assert torch.equal(mixed, same)
        assert_same_plan(plan, same_plan)
        assert torch.equal(batch.round, advanced.round)
        assert advanced.status.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("bad", [-1, 10**6, -(2**62), 2**39, -(2**40), 2**40 - 1])
def test_an_unknown_index_passes_through_and_is_counted(bad: int) -> None:
    batch = Batch.make(3, (3, 9, 9), torch.float32)
    batch.index[1] = bad
    mixed, plan = batch.run(PlanConfig())
    assert plan.row[1] == -1
    assert torch.equal(mixed[1], batch.images[1])
    assert batch.status.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("bad", [11, 10**9, -5])
def test_an_unknown_row_passes_through_and_is_counted(bad: int) -> None:
    batch = Batch.make(4, (3, 9, 9), torch.float32)
    batch.pairs = Pairs(torch.arange(12, device=DEVICE), torch.full((11,), bad, device=DEVICE), batch.pairs.num_rows)
    mixed, plan = batch.run(PlanConfig())
    assert plan.row.tolist() == [-1] * 4
    assert torch.equal(mixed, batch.images)
    assert batch.status.tolist() == [0, 4, 0, 0]


def test_a_sample_that_is_not_mixed_by_chance_is_not_counted() -> None:
    batch = Batch.make(6, (3, 9, 9), torch.float32)
    mixed, _ = batch.run(PlanConfig(p=0.0))
    assert torch.equal(mixed, batch.images)
    assert batch.status.tolist() == [0, 0, 0, 0]


def test_a_label_of_another_class_is_counted_and_not_mixed() -> None:
    batch = Batch.make(6, (3, 9, 9), torch.float32)
    _, plan = batch.run(PlanConfig())
    batch.labels = batch.row_label[plan.row.clamp(min=0)].clone()
    mixed, same = batch.run(PlanConfig())
    assert_same_plan(plan, same)
    assert batch.status.tolist() == [0, 0, 0, 0]
    wrong = int((plan.row >= 0).nonzero()[0])
    batch.labels[wrong] += 1
    mixed, without = batch.run(PlanConfig())
    assert batch.status.tolist() == [0, 0, 1, 0]
    assert without.row[wrong] == -1
    assert torch.equal(mixed[wrong], batch.images[wrong])
    assert torch.equal(without.row != plan.row, torch.arange(6, device=DEVICE) == wrong)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's, inside the interpreter
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("lam", [0.3, 0.0, 1.0])
def test_infinite_and_nan_images(lam: float, memory_format: torch.memory_format) -> None:
    config = PlanConfig(pixel_prob=1.0, lam=lam)
    batch = Batch.make(4, (3, 6, 5), torch.float32, memory_format)
    batch.images[0, :, 2] = float("inf")
    batch.images[1, 1] = float("-inf")
    batch.images[2, :, :, 3] = float("nan")
    mixed, plan = batch.run(config)
    expected = batch.expected(plan.to("cpu"))
    assert torch.equal(mixed.cpu().isnan(), expected.isnan())
    assert torch.equal(mixed.cpu().isinf(), expected.isinf())
    finite = expected.isfinite()
    assert ulps_apart(mixed.cpu()[finite], expected[finite]) <= 1


def test_every_byte_is_exact_for_uint8() -> None:
    """All 65,536 pairs of bytes, for λ that give ties and for λ at the ends of the grid."""
    real = torch.arange(256, dtype=torch.uint8).repeat(256).reshape(1, 1, 256, 256).to(DEVICE)
    store = torch.arange(256, dtype=torch.uint8).repeat_interleave(256).reshape(1, 1, 256, 256).to(DEVICE)
    norm = affine_of(None, None, 1).to(DEVICE)
    for lam in (0.5, 0.25, 2**-24, 1 - 2**-24, 0.3, 1 / 3):
        plan = MixPlan(
            torch.tensor([0]),
            torch.tensor([True]),
            torch.tensor([round(lam * 2**24) / 2**24], dtype=torch.float32),
            torch.zeros(1, 4, dtype=torch.int32),
            torch.tensor([False]),
        )
        out = torch.empty_like(real)
        launch_mix_plan(real, out, store, norm, plan.to(DEVICE).tensors())
        assert torch.equal(out.cpu(), mix_reference(real.cpu(), store.cpu(), plan)), lam


@pytest.mark.parametrize("share_left", [1e-2, 1e-4, 0.0])
def test_cancellation_keeps_the_precision(share_left: float) -> None:
    """Images that cancel their counterpart but for a small share, which plain float32 gets wrong by thousands of units.

    Where everything cancels, the bound is absolute: 2⁻⁴⁰ of operands of about 1.
    """
    config = PlanConfig(pixel_prob=1.0, lam=0.5)
    batch = Batch.make(6, (3, 32, 32), torch.float32)
    mean, std = (torch.tensor(values[:3], dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    generated = (batch.store[:1].cpu().double() / 255 - mean) / std
    batch.store = batch.store[:1].expand_as(batch.store).contiguous()
    images = -generated * (1 - share_left)
    batch.images = images.to(torch.float32).expand(6, -1, -1, -1).contiguous().to(DEVICE)
    mixed, plan = batch.run(config)
    assert bool((plan.row >= 0).any())
    expected = batch.expected(plan.to("cpu"))
    assert (mixed.cpu().double() - expected.double()).abs().max() <= max(
        2**-40, 2**-23 * expected.double().abs().max().item()
    )
    large_enough = expected.abs() > 1e-6
    assert ulps_apart(mixed.cpu()[large_enough], expected[large_enough]) <= 1


@pytest.mark.parametrize(("dtype", "rare"), [(torch.float16, 6e-5), (torch.bfloat16, 1.5e-5)])
def test_float32_is_nearly_always_enough_for_16_bits(
    dtype: torch.dtype, rare: float, generator: torch.Generator
) -> None:
    """How often the promise differs from the exact result by more than 1 ulp, and that only cancellation makes it.

    Of normalized images, about 3 of 100,000 values in float16, and 1 of 200,000 in bfloat16.
    """
    batch = 64
    images = torch.randn(batch, 3, 128, 128, generator=generator).to(dtype)
    counterparts = torch.randint(0, 256, images.shape, generator=generator, dtype=torch.uint8)
    lam = torch.randint(1, 2**24, (batch,), generator=generator) / 2**24
    yes, box = torch.ones(batch, dtype=torch.bool), torch.zeros(batch, 4, dtype=torch.int32)
    plan = MixPlan(torch.zeros(batch, dtype=torch.int64), yes, lam, box, yes)
    ours = mix_in_float32(images, counterparts, plan, affine_of(MEAN[:3], STD[:3], 3)).double()
    mean, std = (torch.tensor(values[:3], dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    share = lam.double().view(-1, 1, 1, 1)
    operands = share * images.double(), (1 - share) * (counterparts.double() / 255 - mean) / std
    exact = operands[0] + operands[1]
    unit = torch.exp2(exact.abs().log2().floor()) * torch.finfo(dtype).eps
    unit = unit.clamp(min=torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps)
    beyond = (ours - exact).abs() > unit
    assert 0 < beyond.double().mean() < rare
    larger = torch.maximum(operands[0].abs(), operands[1].abs()) + 1
    assert (exact.abs() / larger)[beyond].max() < 0.01


@pytest.mark.parametrize("store_format", FORMATS)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("shape", [(3, 16, 16), (5, 9, 7), (9, 11, 32)])
def test_a_store_of_either_format(
    shape: tuple[int, int, int], dtype: torch.dtype, memory_format: torch.memory_format,
    store_format: torch.memory_format,
) -> None:  # fmt: skip
    batch = Batch.make(4, shape, dtype, memory_format)
    expected, plan = batch.run(PlanConfig())
    assert ulps_apart(expected.cpu(), batch.expected(plan.to("cpu"))) <= (1 if dtype == torch.float32 else 0)
    batch.store = batch.store.to(memory_format=store_format)
    mixed, same = batch.run(PlanConfig())
    assert_same_plan(plan, same)
    assert torch.equal(mixed, expected)
    given_plan = torch.full_like(batch.images, 77)
    launch_mix_plan(batch.images, given_plan, batch.store, batch.norm, plan.tensors())
    assert torch.equal(given_plan, expected)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_several_tiles_of_several_programs(
    dtype: torch.dtype, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mix, "STEPS", 2)
    batch = Batch.make(3, (3, 64, 72), dtype, memory_format)
    mixed, plan = batch.run(PlanConfig())
    assert_same_plan(plan, batch.drawn(PlanConfig()))
    assert ulps_apart(mixed.cpu(), batch.expected(plan.to("cpu"))) <= (1 if dtype == torch.float32 else 0)
