/* SPDX-License-Identifier: Apache-2.0 */
/* The commands, each in the file of its name. */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

#include "options.h"
#include "status.h"

enum status command_check(const struct options *options);
enum status command_read(const struct options *options);
enum status command_bench(const struct options *options);

#endif
