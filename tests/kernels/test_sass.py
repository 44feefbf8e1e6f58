"""Ways through a listing whose lengths can be counted by hand."""

from diffcore_gpu.kernels.sass import basic_blocks, shortest_way

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
        /*00a0*/               @P3 EXIT ;
        /*00b0*/                   MOV R1, R3 ;
        /*00c0*/                   EXIT ;
"""


def test_the_way_of_each_loop() -> None:
    blocks = basic_blocks(LISTING, "kernels/mix.py")
    wide, narrow = range(10, 15), range(20, 25)
    # 2 before; LDG, STG, CALL each turn, and BRA between two; BRA behind; EXIT
    assert shortest_way(blocks, wide, narrow, 16) == 2 + 3 + 1 + 1
    assert shortest_way(blocks, wide, narrow, 48) == 2 + 3 * 3 + 2 + 1 + 1
    assert shortest_way(blocks, narrow, wide, 16) == 2 + 2 * 3 + 1


def test_there_is_no_way_that_stores_a_part() -> None:
    blocks = basic_blocks(LISTING, "kernels/mix.py")
    assert shortest_way(blocks, range(10, 15), range(20, 25), 8) is None
    assert shortest_way(blocks, range(30, 31), range(10, 25), 16) is None
