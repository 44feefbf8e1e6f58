"""Ways through a listing whose lengths can be counted by hand."""

from __future__ import annotations

import pytest

from diffcore_gpu.kernels.sass import Event, basic_blocks, shortest_way

LISTING = """
kernel:
	//## File "/x/kernels/mix.py", line 5
        /*0000*/                   MOV R1, R2 ;
        /*0010*/              @!P0 BRA `(.L_x_2) ;
	//## File "/x/kernels/mix.py", line 10
.L_x_0:
        /*0020*/                   LDG.E.128 R4, [R2.64] ;
        /*0030*/                   STG.E.128 [R2.64], R4 ;
        /*0040*/               @P1 CALL.REL.NOINC `(.L_x_1) ;
        /*0050*/                   BRA `(.L_x_0) ;
.L_x_1:
        /*0060*/                   BRA `(.L_x_3) ;
.L_x_2:
	//## File "/x/triton/core.py", line 10
	//## File "/x/kernels/mix.py", line 20 inlined at "/x/kernels/mix.py", line 10
        /*0070*/                   STG.E.64 [R2.64], R4 ;
        /*0080*/                   CALL.REL.NOINC `($slow) ;
        /*0090*/              @!P2 BRA `(.L_x_2) ;
.L_x_3:
	//## File "/x/kernels/mix.py", line 6
        /*00a0*/               @P3 EXIT ;
        /*00b0*/                   MOV R1, R3 ;
        /*00c0*/                   EXIT ;
"""


WIDE = Event("wide", "kernels/mix.py", range(10, 15))
NARROW = Event("narrow", "kernels/mix.py", range(20, 25))


def test_the_way_of_each_loop() -> None:
    blocks = basic_blocks(LISTING, [WIDE, NARROW])
    # 2 before; LDG, STG, CALL each turn, and BRA between two; BRA behind; EXIT
    assert shortest_way(blocks, [("wide", 16)]) == 2 + 3 + 1 + 1
    assert shortest_way(blocks, [("wide", 48)]) == 2 + 3 * 3 + 2 + 1 + 1
    assert shortest_way(blocks, [("narrow", 16)]) == 2 + 2 * 3 + 1


def test_there_is_no_way_that_stores_a_part() -> None:
    blocks = basic_blocks(LISTING, [WIDE, NARROW])
    with pytest.raises(LookupError, match="events"):
        shortest_way(blocks, [("wide", 8)])
    with pytest.raises(LookupError, match="events"):
        shortest_way(blocks, [("wide", 16), ("narrow", 8)])
    with pytest.raises(LookupError, match="events"):
        shortest_way(basic_blocks(LISTING, [Event("none", "kernels/mix.py", range(30, 31))]), [("none", 16)])


def test_loads_and_stores_happen_in_their_order() -> None:
    load = Event("load", "kernels/mix.py", range(10, 15), "LDG")
    blocks = basic_blocks(LISTING, [load, WIDE])
    assert shortest_way(blocks, [("load", 16), ("wide", 16)] * 2) == 2 + 3 * 2 + 1 + 1 + 1
    with pytest.raises(LookupError, match="events"):
        shortest_way(blocks, [("load", 32), ("wide", 32)])
    with pytest.raises(LookupError, match="events"):
        shortest_way(blocks, [("wide", 16), ("load", 16)])


def test_an_arm_that_must_be_taken_is_taken() -> None:
    arm = Event("arm", "kernels/mix.py", range(20, 25), None)
    blocks = basic_blocks(LISTING, [WIDE, arm])
    assert shortest_way(blocks, [("arm", 0)]) == 2 + 3 + 1
    assert shortest_way(blocks, [("wide", 16)]) == 2 + 3 + 1 + 1
    with pytest.raises(LookupError, match="events"):
        shortest_way(blocks, [("arm", 0), ("wide", 16)])
    # the loop is passed twice where its arm must be taken twice
    assert shortest_way(blocks, [("arm", 0), ("arm", 0)]) == 2 + 3 * 2 + 1
