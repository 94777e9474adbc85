/* SPDX-License-Identifier: Apache-2.0 */
/* Part of a FAKE libcuda.so.1, see ptx.h. */
#include "ptx.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES       32
#define REGISTERS_MAX    64
#define INSTRUCTIONS_MAX 2048
#define LABELS_MAX       16
#define OPERANDS_MAX     6

enum opcode {
	OP_MOV,
	OP_ADD_32,
	OP_ADD_64,
	OP_MIN_U32,
	OP_MAD_LO_U32,
	OP_MUL_WIDE_U32,
	OP_AND,
	OP_XOR,
	OP_SHL_32,
	OP_SHR_U32,
	OP_NEG_32,
	OP_SETP_GE_U32,
	OP_SETP_LT_U32,
	OP_LD_PARAM,
	OP_LD_GLOBAL_V4,
	OP_ST_GLOBAL_32,
	OP_CVTA, /* generic addresses of global memory are those of global memory */
	OP_BRA,
	OP_RET,
};

static const struct {
	const char *text;
	enum opcode opcode;
	unsigned operands;
} mnemonics[] = {
	{ "mov.u32", OP_MOV, 2 },
	{ "add.u32", OP_ADD_32, 3 },
	{ "add.u64", OP_ADD_64, 3 },
	{ "min.u32", OP_MIN_U32, 3 },
	{ "mad.lo.u32", OP_MAD_LO_U32, 4 },
	{ "mul.wide.u32", OP_MUL_WIDE_U32, 3 },
	{ "and.b32", OP_AND, 3 },
	{ "xor.b32", OP_XOR, 3 },
	{ "shl.b32", OP_SHL_32, 3 },
	{ "shr.u32", OP_SHR_U32, 3 },
	{ "neg.s32", OP_NEG_32, 2 },
	{ "setp.ge.u32", OP_SETP_GE_U32, 3 },
	{ "setp.lt.u32", OP_SETP_LT_U32, 3 },
	{ "ld.param.u32", OP_LD_PARAM, 2 },
	{ "ld.param.u64", OP_LD_PARAM, 2 },
	{ "ld.global.v4.u32", OP_LD_GLOBAL_V4, 5 },
	{ "st.global.u32", OP_ST_GLOBAL_32, 2 },
	{ "cvta.to.global.u64", OP_CVTA, 2 },
	{ "bra", OP_BRA, 1 },
	{ "ret", OP_RET, 0 },
};

struct operand {
	enum { NONE, REGISTER, CONSTANT, PARAMETER, LABEL, SPECIAL } kind;
	uint64_t value; /* index of a register, a parameter or a label; or the constant */
};

struct instruction {
	enum opcode opcode;
	int predicate; /* register, or -1 */
	struct operand operands[OPERANDS_MAX];
};

struct label {
	char name[NAME_BYTES];
	size_t at;
	bool defined;
};

struct ptx {
	char entry[NAME_BYTES];
	struct {
		char name[NAME_BYTES];
		size_t bytes;
	} parameters[PTX_PARAMETERS_MAX];
	size_t parameter_count;
	char registers[REGISTERS_MAX][NAME_BYTES];
	size_t register_count;
	struct label labels[LABELS_MAX];
	size_t label_count;
	struct instruction code[INSTRUCTIONS_MAX];
	size_t count;
};

enum special { TID_X, NTID_X, CTAID_X };

/* ---- Parsing ---- */

static int find_register(const struct ptx *ptx, const char *name)
{
	for (size_t i = 0; i < ptx->register_count; i++)
		if (strcmp(ptx->registers[i], name) == 0)
			return (int)i;
	return -1;
}

static bool declare_registers(struct ptx *ptx, char *line)
{
	char *rest;

	strtok_r(line, " \t", &rest); /* .reg */
	strtok_r(NULL, " \t", &rest); /* the type */
	for (char *name; (name = strtok_r(NULL, " \t,;", &rest)) != NULL;) {
		if (ptx->register_count == REGISTERS_MAX || name[0] != '%' ||
		    strlen(name) >= NAME_BYTES || find_register(ptx, name) >= 0)
			return false;
		memcpy(ptx->registers[ptx->register_count++], name, strlen(name) + 1);
	}
	return true;
}

static bool declare_parameter(struct ptx *ptx, const char *line)
{
	size_t i = ptx->parameter_count;

	if (i == PTX_PARAMETERS_MAX)
		return false;
	if (sscanf(line, ".param .u32 %31[a-z_0-9]", ptx->parameters[i].name) == 1)
		ptx->parameters[i].bytes = 4;
	else if (sscanf(line, ".param .u64 %31[a-z_0-9]", ptx->parameters[i].name) == 1)
		ptx->parameters[i].bytes = 8;
	else
		return false;
	ptx->parameter_count++;
	return true;
}

static size_t get_label(struct ptx *ptx, const char *name)
{
	size_t i = 0;

	while (i < ptx->label_count && strcmp(ptx->labels[i].name, name) != 0)
		i++;
	if (i == LABELS_MAX)
		abort();
	if (i == ptx->label_count) {
		snprintf(ptx->labels[i].name, NAME_BYTES, "%s", name);
		ptx->label_count++;
	}
	return i;
}

static bool parse_special(const char *text, struct operand *operand)
{
	static const char *const names[] = { "%tid.x", "%ntid.x", "%ctaid.x" };

	for (uint64_t i = 0; i < 3; i++)
		if (strcmp(text, names[i]) == 0) {
			*operand = (struct operand){ SPECIAL, i };
			return true;
		}
	return false;
}

static bool parse_operand(struct ptx *ptx, const char *text, bool is_label, struct operand *operand)
{
	char *end;
	int index;

	if (is_label) {
		*operand = (struct operand){ LABEL, get_label(ptx, text) };
		return true;
	}
	if (parse_special(text, operand))
		return true;
	index = find_register(ptx, text);
	if (index >= 0) {
		*operand = (struct operand){ REGISTER, (uint64_t)index };
		return true;
	}
	for (size_t i = 0; i < ptx->parameter_count; i++)
		if (strcmp(ptx->parameters[i].name, text) == 0) {
			*operand = (struct operand){ PARAMETER, i };
			return true;
		}
	*operand = (struct operand){ CONSTANT, strtoull(text, &end, 0) };
	return *end == '\0' && end != text;
}

static bool parse_instruction(struct ptx *ptx, char *line)
{
	struct instruction *code = &ptx->code[ptx->count];
	unsigned operands = 0;
	char *rest;
	char *word = strtok_r(line, " \t;", &rest);
	size_t which = 0;

	code->predicate = -1;
	if (word && word[0] == '@') {
		code->predicate = find_register(ptx, word + 1);
		if (code->predicate < 0)
			return false;
		word = strtok_r(NULL, " \t;", &rest);
	}
	while (word && which < sizeof(mnemonics) / sizeof(mnemonics[0]) &&
	       strcmp(mnemonics[which].text, word) != 0)
		which++;
	if (!word || which == sizeof(mnemonics) / sizeof(mnemonics[0]) ||
	    ptx->count == INSTRUCTIONS_MAX)
		return false;
	code->opcode = mnemonics[which].opcode;
	while ((word = strtok_r(NULL, " \t,;[]{}", &rest)) != NULL) {
		if (operands == OPERANDS_MAX ||
		    !parse_operand(ptx, word, code->opcode == OP_BRA, &code->operands[operands]))
			return false;
		operands++;
	}
	ptx->count++;
	return operands == mnemonics[which].operands;
}

static bool parse_line(struct ptx *ptx, char *line)
{
	char *colon;

	line += strspn(line, " \t");
	colon = strchr(line, ':');
	if (line[0] == '\0' || strchr("{})", line[0]))
		return true;
	if (strncmp(line, ".version", 8) == 0 || strncmp(line, ".target", 7) == 0 ||
	    strcmp(line, ".address_size 64") == 0)
		return true;
	if (strncmp(line, ".visible .entry ", 16) == 0)
		return sscanf(line, ".visible .entry %31[a-z_0-9](", ptx->entry) == 1;
	if (strncmp(line, ".param", 6) == 0)
		return declare_parameter(ptx, line);
	if (strncmp(line, ".reg", 4) == 0)
		return declare_registers(ptx, line);
	if (colon) {
		*colon = '\0';
		struct label *label = &ptx->labels[get_label(ptx, line)];

		label->at = ptx->count;
		label->defined = true;
		return true;
	}
	return parse_instruction(ptx, line);
}

static bool labels_are_defined(const struct ptx *ptx)
{
	for (size_t i = 0; i < ptx->label_count; i++)
		if (!ptx->labels[i].defined)
			return false;
	return ptx->entry[0] && ptx->count;
}

struct ptx *ptx_parse(const char *text)
{
	struct ptx *ptx = calloc(1, sizeof(*ptx));
	char line[256];
	bool fine = ptx != NULL;

	for (size_t length; fine && *text; text += length + (text[length] == '\n')) {
		length = strcspn(text, "\n");
		if (length >= sizeof(line))
			break;
		memcpy(line, text, length);
		line[length] = '\0';
		fine = parse_line(ptx, line);
		if (!fine)
			fprintf(stderr, "fake libcuda: PTX is not understood: %.*s\n", (int)length,
				text);
	}
	if (!fine || *text || !labels_are_defined(ptx)) {
		free(ptx);
		return NULL;
	}
	return ptx;
}

void ptx_free(struct ptx *ptx)
{
	free(ptx);
}

const char *ptx_entry(const struct ptx *ptx)
{
	return ptx->entry;
}

size_t ptx_parameters(const struct ptx *ptx)
{
	return ptx->parameter_count;
}

size_t ptx_parameter_bytes(const struct ptx *ptx, size_t index)
{
	return ptx->parameters[index].bytes;
}

/* ---- Running ---- */

struct thread {
	const struct ptx *ptx;
	const uint64_t *parameters;
	uint32_t specials[3];
	uint64_t registers[REGISTERS_MAX];
	void *(*translate)(uint64_t address, size_t bytes);
};

static uint64_t value_of(const struct thread *thread, const struct operand *operand)
{
	switch (operand->kind) {
	case REGISTER:
		return thread->registers[operand->value];
	case PARAMETER:
		return thread->parameters[operand->value];
	case SPECIAL:
		return thread->specials[operand->value];
	default:
		return operand->value;
	}
}

static void *address_of(const struct thread *thread, uint64_t address, size_t bytes)
{
	void *host = address % bytes ? NULL : thread->translate(address, bytes);

	if (!host) {
		fprintf(stderr, "fake libcuda: a kernel touches 0x%llx, which it must not\n",
			(unsigned long long)address);
		abort();
	}
	return host;
}

/* The value of an instruction that gives its first operand one. */
static uint64_t compute(enum opcode opcode, uint64_t a, uint64_t b, uint64_t c)
{
	const uint32_t low = (uint32_t)a, by = (uint32_t)b;

	switch (opcode) {
	case OP_ADD_32:
		return low + by;
	case OP_ADD_64:
		return a + b;
	case OP_MIN_U32:
		return low < by ? low : by;
	case OP_MAD_LO_U32:
		return (uint32_t)(low * by + (uint32_t)c);
	case OP_MUL_WIDE_U32:
		return (uint64_t)low * by;
	case OP_AND:
		return low & by;
	case OP_XOR:
		return low ^ by;
	case OP_SHL_32:
		return by > 31 ? 0 : (uint32_t)(low << by);
	case OP_SHR_U32:
		return by > 31 ? 0 : low >> by;
	case OP_NEG_32:
		return (uint32_t)-low;
	case OP_SETP_GE_U32:
		return low >= by;
	case OP_SETP_LT_U32:
		return low < by;
	default: /* mov, ld.param, cvta */
		return a;
	}
}

static void load_quad(struct thread *thread, const struct instruction *code)
{
	const uint32_t *words =
		address_of(thread, value_of(thread, &code->operands[4]), 4 * sizeof(*words));

	for (size_t i = 0; i < 4; i++)
		thread->registers[code->operands[i].value] = words[i];
}

/* Does an instruction and gives the place of the next. */
static size_t step(struct thread *thread, size_t at)
{
	const struct instruction *code = &thread->ptx->code[at];
	const struct operand *operands = code->operands;

	if (code->predicate >= 0 && !thread->registers[code->predicate])
		return at + 1;
	switch (code->opcode) {
	case OP_RET:
		return thread->ptx->count;
	case OP_BRA:
		return thread->ptx->labels[operands[0].value].at;
	case OP_LD_GLOBAL_V4:
		load_quad(thread, code);
		break;
	case OP_ST_GLOBAL_32:
		*(uint32_t *)address_of(thread, value_of(thread, &operands[0]), sizeof(uint32_t)) =
			(uint32_t)value_of(thread, &operands[1]);
		break;
	default:
		thread->registers[operands[0].value] =
			compute(code->opcode, value_of(thread, &operands[1]),
				value_of(thread, &operands[2]), value_of(thread, &operands[3]));
	}
	return at + 1;
}

void ptx_run(const struct ptx *ptx, const uint64_t *parameters, uint32_t block, uint32_t threads,
	     uint32_t thread_index, void *(*translate)(uint64_t address, size_t bytes))
{
	struct thread thread = {
		.ptx = ptx,
		.parameters = parameters,
		.specials = { [TID_X] = thread_index, [NTID_X] = threads, [CTAID_X] = block },
		.translate = translate,
	};

	/* Registers are undefined at first. */
	memset(thread.registers, 0x5a, sizeof(thread.registers));
	for (size_t at = 0; at < ptx->count;)
		at = step(&thread, at);
}
