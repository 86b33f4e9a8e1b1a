#include "textflag.h"

// func siftAVX2(dst, src []int32, lo, hi, tail int32, lanes *[256]uint64) (kept, aboveLo, aboveTail int, least int32)
TEXT ·siftAVX2(SB), NOSPLIT, $0-100
	MOVQ dst_base+0(FP), DI
	MOVQ src_base+24(FP), SI
	MOVQ src_len+32(FP), CX
	MOVL lo+48(FP), AX
	MOVL hi+52(FP), BX
	MOVL tail+56(FP), DX
	MOVQ lanes+64(FP), R8
	VMOVD AX, X0
	VMOVD BX, X1
	VMOVD DX, X2
	VPBROADCASTD X0, Y0
	VPBROADCASTD X1, Y1
	VPBROADCASTD X2, Y2
	VPXOR Y3, Y3, Y3      // by lane: how many are above lo
	VPXOR Y4, Y4, Y4      // above tail
	VPCMPEQD Y5, Y5, Y5
	VPSRLD $1, Y5, Y5     // the smallest so far, from MaxInt32
	MOVQ DI, R9
	LEAQ (SI)(CX*4), R10
	JMP check

loop:
	VMOVDQU (SI), Y6
	VPCMPGTD Y0, Y6, Y7   // v > lo: -1
	VPCMPGTD Y6, Y1, Y8   // hi > v
	VPCMPGTD Y2, Y6, Y9   // v > tail
	VPSUBD Y7, Y3, Y3
	VPSUBD Y9, Y4, Y4
	VPMINSD Y6, Y5, Y5
	VPAND Y7, Y8, Y8
	VPOR Y8, Y9, Y9
	VMOVMSKPS Y9, AX      // a bit for each lane that is kept
	VPMOVZXBD (R8)(AX*8), Y10
	POPCNTL AX, AX
	VPERMD Y6, Y10, Y10   // those to the front
	VMOVDQU Y10, (DI)
	LEAQ (DI)(AX*4), DI
	ADDQ $32, SI

check:
	CMPQ SI, R10
	JB loop

	SUBQ R9, DI
	SHRQ $2, DI
	MOVQ DI, kept+72(FP)
	VEXTRACTI128 $1, Y3, X6
	VPADDD X6, X3, X3
	VPHADDD X3, X3, X3
	VPHADDD X3, X3, X3
	VMOVD X3, AX
	MOVQ AX, aboveLo+80(FP)
	VEXTRACTI128 $1, Y4, X6
	VPADDD X6, X4, X4
	VPHADDD X4, X4, X4
	VPHADDD X4, X4, X4
	VMOVD X4, AX
	MOVQ AX, aboveTail+88(FP)
	VEXTRACTI128 $1, Y5, X6
	VPMINSD X6, X5, X5
	VPSHUFD $0x4e, X5, X6
	VPMINSD X6, X5, X5
	VPSHUFD $0xb1, X5, X6
	VPMINSD X6, X5, X5
	VMOVD X5, AX
	MOVL AX, least+96(FP)
	VZEROUPPER
	RET

// func partitionAVX2(values, spare []int32, pivot int32, lanes *[256]uint64) (low, high int)
TEXT ·partitionAVX2(SB), NOSPLIT, $0-80
	MOVQ values_base+0(FP), SI
	MOVQ values_len+8(FP), CX
	MOVQ spare_base+24(FP), DX
	MOVL pivot+48(FP), AX
	MOVQ lanes+56(FP), R8
	VMOVD AX, X0
	VPBROADCASTD X0, Y0
	MOVQ SI, DI
	MOVQ DX, R9
	LEAQ (SI)(CX*4), R10
	JMP check

loop:
	VMOVDQU (SI), Y6
	VPCMPGTD Y0, Y6, Y7
	VMOVMSKPS Y7, AX
	VPMOVZXBD (R8)(AX*8), Y8
	POPCNTL AX, CX
	XORL $255, AX
	VPMOVZXBD (R8)(AX*8), Y9
	VPERMD Y6, Y8, Y8
	VPERMD Y6, Y9, Y9
	VMOVDQU Y9, (DI)
	VMOVDQU Y8, (DX)
	LEAQ (DX)(CX*4), DX
	SHLQ $2, CX
	SUBQ CX, DI
	ADDQ $32, DI
	ADDQ $32, SI

check:
	CMPQ SI, R10
	JB loop

	SUBQ values_base+0(FP), DI
	SUBQ R9, DX
	SHRQ $2, DI
	SHRQ $2, DX
	MOVQ DI, low+64(FP)
	MOVQ DX, high+72(FP)
	VZEROUPPER
	RET
