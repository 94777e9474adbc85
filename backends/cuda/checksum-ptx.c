/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel that computes CRC-32 registers, in PTX, the assembly language that the
 * driver compiles for whatever GPU there is. It is made for the oldest version and
 * target that have the instructions, so that drivers old and new take it.
 *
 * The message is cut into chunks of 256 quads of 16 bytes, the last one shorter. Each
 * thread goes over one chunk, bit by bit: the register, with zlib's inversions before
 * and after left to the CPU, takes in a word, and is then shifted 32 times, adding
 * the polynomial wherever a 1 falls out. There are enough chunks to hide what memory
 * and each step keep a thread waiting.
 */
#include "device.h"

/* 0xedb88320 is zlib's polynomial; neg makes of the bit that falls out a mask. */
#define STEP                                   \
	"	and.b32 %mask, %register, 1;\n"      \
	"	neg.s32 %mask, %mask;\n"             \
	"	and.b32 %mask, %mask, 0xedb88320;\n" \
	"	shr.u32 %register, %register, 1;\n"  \
	"	xor.b32 %register, %register, %mask;\n"
#define STEPS_8    STEP STEP STEP STEP STEP STEP STEP STEP
#define WORD(word) "	xor.b32 %register, %register, " word ";\n" STEPS_8 STEPS_8 STEPS_8 STEPS_8

const char cuda_checksum_ptx[] =
	".version 6.0\n"
	".target sm_30\n"
	".address_size 64\n"
	"\n"
	".visible .entry crc32_registers(\n"
	"	.param .u64 message,\n"   /* address, a multiple of 16 */
	"	.param .u64 registers,\n" /* address of where they go, one for each chunk */
	"	.param .u32 quads\n"      /* of the message */
	")\n"
	"{\n"
	"	.reg .pred %done, %more;\n"
	"	.reg .b32 %chunk, %block, %threads, %thread, %quad, %quads, %end;\n"
	"	.reg .b32 %register, %mask, %word0, %word1, %word2, %word3;\n"
	"	.reg .b64 %message, %registers, %offset;\n"
	"\n"
	"	mov.u32 %block, %ctaid.x;\n"
	"	mov.u32 %threads, %ntid.x;\n"
	"	mov.u32 %thread, %tid.x;\n"
	"	mad.lo.u32 %chunk, %block, %threads, %thread;\n"
	"	ld.param.u32 %quads, [quads];\n"
	"	shl.b32 %quad, %chunk, 8;\n"
	"	setp.ge.u32 %done, %quad, %quads;\n"
	"	@%done bra END;\n"
	"	add.u32 %end, %quad, 256;\n"
	"	min.u32 %end, %end, %quads;\n"
	"\n"
	"	ld.param.u64 %message, [message];\n"
	"	cvta.to.global.u64 %message, %message;\n"
	"	mul.wide.u32 %offset, %quad, 16;\n"
	"	add.u64 %message, %message, %offset;\n"
	"	mov.u32 %register, 0;\n"
	"\n"
	"NEXT:\n"
	"	ld.global.v4.u32 {%word0, %word1, %word2, %word3}, [%message];\n" WORD("%word0")
		WORD("%word1") WORD("%word2")
			WORD("%word3") "	add.u64 %message, %message, 16;\n"
				       "	add.u32 %quad, %quad, 1;\n"
				       "	setp.lt.u32 %more, %quad, %end;\n"
				       "	@%more bra NEXT;\n"
				       "\n"
				       "	ld.param.u64 %registers, [registers];\n"
				       "	cvta.to.global.u64 %registers, %registers;\n"
				       "	mul.wide.u32 %offset, %chunk, 4;\n"
				       "	add.u64 %registers, %registers, %offset;\n"
				       "	st.global.u32 [%registers], %register;\n"
				       "END:\n"
				       "	ret;\n"
				       "}\n";
