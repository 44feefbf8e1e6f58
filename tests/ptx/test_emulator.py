"""The emulator itself, on small kernels written by hand: what it computes, and what it does not let pass."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx.machine import Kernel
from tests.ptx.memory import Fault, Memory
from tests.ptx.parsing import PTXError, parse

HEAD = """
.version 8.0
.target sm_90
.visible .entry small(
	.param .u64 .ptr .global .align 1 small_param_0,
	.param .u32 small_param_1
)
.reqntid {threads}
{{
	.reg .pred 	%p<8>;
	.reg .b16 	%rs<8>;
	.reg .b32 	%r<16>;
	.reg .b64 	%rd<8>;
	ld.param.b64 	%rd1, [small_param_0];
	ld.param.b32 	%r1, [small_param_1];
	mov.u32 	%r2, %tid.x;
	mul.wide.u32 	%rd2, %r2, 4;
	add.s64 	%rd3, %rd1, %rd2;
"""
STORE = "st.global.b32 [%rd3], {{ %r3 }};"


def run(
    body: str, count: int = 32, threads: int = 32, number: int = 0, *, shared: int = 0, apart: bool = False,
    skew: int = 0, grid: int = 1,
) -> np.ndarray:  # fmt: skip
    """What a kernel makes of `count` uint32 that are 0 to count − 1."""
    text = HEAD.format(threads=threads) + body.replace("{{", "{").replace("}}", "}") + "\n\tret;\n}\n"
    memory = Memory(8192)
    content = np.arange(count, dtype=np.uint32).view(np.uint8)
    address = memory.allocate("values", content, skew, writable=True)
    Kernel(parse(text), shared).launch(grid, [address, number], memory, seed=1, apart=apart)
    return memory.content(address, content.size).copy().view(np.uint32)


def test_each_thread_stores_its_value() -> None:
    assert run(f"mad.lo.s32 %r3, %r2, 3, 5;\n{STORE}").tolist() == [3 * k + 5 for k in range(32)]


def test_lanes_part_and_meet_again() -> None:
    body = f"""
    mov.b32 %r3, 1;
    and.b32 %r4, %r2, 1;
    setp.eq.b32 %p1, %r4, 0;
    @%p1 bra $L__BB0_2;
    mov.b32 %r3, 2;
$L__BB0_2:
    shfl.sync.bfly.b32 %r5, %r3, 1, 31, -1;
    mad.lo.s32 %r3, %r3, 10, %r5;
    {STORE}"""
    assert run(body).tolist() == [12, 21] * 16


def test_a_loop_runs_as_often_as_each_lane_says() -> None:
    body = f"""
    mov.b32 %r3, 0;
    mov.b32 %r4, 0;
$L__BB0_1:
    add.s32 %r3, %r3, %r4;
    add.s32 %r4, %r4, 1;
    setp.le.s32 %p1, %r4, %r2;
    @%p1 bra $L__BB0_1;
    {STORE}"""
    assert run(body).tolist() == [k * (k + 1) // 2 for k in range(32)]


def test_an_endless_loop_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.ptx.machine.STEPS", 100)
    with pytest.raises(Fault, match="small does not come to an end"):
        run("$L__BB0_1:\nbra.uni $L__BB0_1;")


def test_an_access_beyond_an_allocation_names_instruction_lane_and_place() -> None:
    with pytest.raises(
        Fault, match=r"line \d+: ld\.global\.b32 .*thread 20 of block 0 reads .*byte 80 of the 80 of val"
    ):
        run("ld.global.b32 {{ %r3 }}, [ %rd3 + 0 ];", count=20)


def test_a_wild_address_is_a_fault() -> None:
    with pytest.raises(Fault, match="thread 0 of block 0 writes where it may not"):
        run("mov.b64 %rd3, 4096;\n" + STORE)


def test_misalignment_is_a_fault() -> None:
    with pytest.raises(Fault, match="thread 0 of block 0 reads misaligned: 16 bytes at byte 0"):
        run("ld.global.v4.b32 {{ %r3, %r4, %r5, %r6 }}, [ %rd1 + 0 ];", skew=8)


def test_a_guard_keeps_lanes_from_an_access() -> None:
    body = "setp.lt.s32 %p1, %r2, 20;\nmov.b32 %r3, 7;\n@%p1 ld.global.b32 {{ %r3 }}, [ %rd3 + 0 ];\n"
    body += "@%p1 st.global.b32 [ %rd3 + 0 ], {{ %r3 }};"
    assert run(body, count=20).tolist() == list(range(20))


@pytest.mark.parametrize("apart", [False, True])
def test_warps_that_exchange_without_a_barrier_are_a_fault(apart: bool) -> None:
    body = f"""
    shl.b32 %r4, %r2, 2;
    mov.b32 %r5, global_smem;
    add.s32 %r6, %r5, %r4;
    st.shared.b32 [%r6], %r2;
    bar.sync 0;
    xor.b32 %r7, %r4, 128;
    add.s32 %r8, %r5, %r7;
    ld.shared.b32 %r3, [%r8];
    {STORE}"""
    assert run(body, 64, 64, shared=256, apart=apart).tolist() == [k ^ 32 for k in range(64)]
    with pytest.raises(Fault, match="another warp uses, without a barrier between"):
        run(body.replace("bar.sync 0;", ""), 64, 64, shared=256, apart=apart)


@pytest.mark.parametrize("apart", [False, True])
def test_a_barrier_that_some_warps_pass_by_is_a_fault(apart: bool) -> None:
    body = "setp.lt.s32 %p1, %r2, 32;\n@%p1 bra $L__BB0_2;\nbar.sync 0;\n$L__BB0_2:\nmov.b32 %r3, 0;\n" + STORE
    with pytest.raises(Fault, match="The lanes of block 0 wait at different places: the end; line"):
        run(body, 64, 64, apart=apart)


def test_a_barrier_inside_a_diverged_warp_is_a_fault() -> None:
    body = "setp.lt.s32 %p1, %r2, 16;\n@%p1 bra $L__BB0_2;\nbar.sync 0;\n$L__BB0_2:\nmov.b32 %r3, 0;\n" + STORE
    with pytest.raises(Fault, match=r"bar\.sync 0: a warp has diverged here"):
        run(body)


def test_shared_memory_has_bounds() -> None:
    with pytest.raises(Fault, match="beyond the 64 bytes of shared memory"):
        run("shl.b32 %r4, %r2, 2;\nst.shared.b32 [%r4], %r2;", shared=64)


def test_an_unknown_opcode_is_named() -> None:
    with pytest.raises(PTXError, match=r"does not know the opcode sin\.approx\.f32"):
        run("sin.approx.f32 %r3, %r2;")


def test_a_product_and_sum_that_may_be_contracted_is_not_known() -> None:
    with pytest.raises(PTXError, match=r"mul\.f32"):
        run("mul.f32 %r3, %r2, %r2;")


def test_atomics_of_all_lanes_add_up() -> None:
    body = "atom.global.gpu.relaxed.add.u32 %r3, [ %rd1 + 0 ], 2;"
    assert run(body, count=1, threads=64, grid=3).tolist() == [2 * 64 * 3]


def test_the_shared_memory_of_the_block_is_the_shared_memory() -> None:
    """As triton 3.8 says it."""
    body = "st.shared::cta.b32 [%r5], %r2;\n\tld.shared::cta.b32 %r3, [%r5];\n" + STORE
    assert run("mul.lo.s32 %r5, %r2, 4;\n\t" + body, shared=128).tolist() == list(range(32))
