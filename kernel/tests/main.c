// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tests of the kernel series, run in kernel/vm.
 *
 *   kernel-tests [--list] [--only TEXT] [--seed N] [--stock]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cases.h"
#include "disk.h"
#include "test.h"
#include "vmctl.h"

static uint64_t fresh_seed(void)
{
	return (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
}

static void lift_limits(void)
{
	vm_throttle("nvme0", 0);
	vm_throttle("nvme1", 0);
	write_file("/sys/module/nvme/parameters/sgl_threshold", "32768");
}

static int usage(const char *program)
{
	fprintf(stderr, "usage: %s [--list] [--only TEXT] [--seed N] [--stock]\n", program);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"list", no_argument, NULL, 'l'},
		{"only", required_argument, NULL, 'o'},
		{"seed", required_argument, NULL, 's'},
		{"stock", no_argument, NULL, 'k'},
		{0},
	};
	struct test_options options = {0};
	bool stock = false;
	int option;

	test_seed = fresh_seed();
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case 'l':
			options.list = true;
			break;
		case 'o':
			options.only = optarg;
			break;
		case 's':
			test_seed = strtoull(optarg, NULL, 0);
			break;
		case 'k':
			stock = true;
			break;
		default:
			return usage(argv[0]);
		}
	}
	if (stock) {
		add_stock_cases();
	} else {
		add_registration_cases();
		add_transfer_cases();
		add_lifetime_cases();
		add_move_cases();
		add_random_cases();
		add_fault_cases();
		add_leak_cases();
	}
	test_clean_up = lift_limits;
	if (!options.list)
		disk_prepare();
	return test_run_all(&options);
}
