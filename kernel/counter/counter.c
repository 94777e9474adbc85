// SPDX-License-Identifier: GPL-2.0-only
/*
 * A TCG plugin that counts what the guest's processor executes, in user space
 * and in the kernel. The guest marks where a measurement begins and ends with an
 * instruction that does nothing (see kernel/tests/figures.c); at each mark the
 * counts so far are written out.
 *
 * The plugin interface is declared here, as far as it is used: Debian packages no
 * header for it. COUNTER_API is the version that this QEMU speaks.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef void tb_translated(qemu_plugin_id_t id, void *tb);
typedef void executed(unsigned int vcpu, void *argument);
enum { NO_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_translated *callback);
void qemu_plugin_register_vcpu_tb_exec_cb(void *tb, executed *callback, int flags, void *argument);
void qemu_plugin_register_vcpu_insn_exec_cb(void *insn, executed *callback, int flags,
					    void *argument);
size_t qemu_plugin_tb_n_insns(const void *tb);
uint64_t qemu_plugin_tb_vaddr(const void *tb);
void *qemu_plugin_tb_get_insn(const void *tb, size_t index);
size_t qemu_plugin_insn_size(const void *insn);
#if COUNTER_API < 3
const void *qemu_plugin_insn_data(const void *insn);
#else
size_t qemu_plugin_insn_data(const void *insn, void *bytes, size_t size);
#endif

EXPORT int qemu_plugin_version = COUNTER_API;

/* nopl 0x6d644700(%rax,%rax,1): four of its bytes are ours to choose. */
static const uint8_t mark[] = {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x47, 0x64, 0x6d};

static uint64_t user_count, kernel_count;
static FILE *output;

static void count_user(unsigned int vcpu, void *argument)
{
	(void)vcpu;
	user_count += (uintptr_t)argument;
}

static void count_kernel(unsigned int vcpu, void *argument)
{
	(void)vcpu;
	kernel_count += (uintptr_t)argument;
}

static void write_counts(unsigned int vcpu, void *argument)
{
	(void)vcpu;
	(void)argument;
	fprintf(output, "%" PRIu64 " %" PRIu64 "\n", user_count, kernel_count);
	fflush(output);
}

static bool is_mark(const void *insn)
{
	uint8_t bytes[sizeof(mark)];

	if (qemu_plugin_insn_size(insn) != sizeof(mark))
		return false;
#if COUNTER_API < 3
	memcpy(bytes, qemu_plugin_insn_data(insn), sizeof(bytes));
#else
	qemu_plugin_insn_data(insn, bytes, sizeof(bytes));
#endif
	return memcmp(bytes, mark, sizeof(mark)) == 0;
}

static void translated(qemu_plugin_id_t id, void *tb)
{
	size_t count = qemu_plugin_tb_n_insns(tb);
	bool in_kernel = qemu_plugin_tb_vaddr(tb) >> 63;
	size_t i;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, in_kernel ? count_kernel : count_user, NO_REGISTERS,
					     (void *)(uintptr_t)count);
	for (i = 0; i < count; i++) {
		void *insn = qemu_plugin_tb_get_insn(tb, i);

		if (is_mark(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, write_counts, NO_REGISTERS, NULL);
	}
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	static const char option[] = "out=";

	(void)info;
	if (argc != 1 || strncmp(argv[0], option, strlen(option)) != 0)
		return -1;
	output = fopen(argv[0] + strlen(option), "w");
	if (!output)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
