/* SPDX-License-Identifier: Apache-2.0 */
/* The file of --output: it has no name, or one of its own, until it is complete. */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status fail_output(const struct output *output, int error)
{
	return fail(STATUS_FAILED, "cannot write: %s: %s: choose another --output or make room",
		    output->name, strerror(error));
}

static enum status check_names(const char *name, const char *input)
{
	struct stat old, in;

	if (stat(name, &old) != 0)
		return STATUS_OK;
	if (!S_ISREG(old.st_mode))
		return fail(STATUS_USAGE, "not a regular file: %s: choose another --output", name);
	if (stat(input, &in) == 0 && in.st_dev == old.st_dev && in.st_ino == old.st_ino)
		return fail(STATUS_USAGE, "output is the input: %s: choose another --output", name);
	return STATUS_OK;
}

/* The directory that holds `name`, to be freed. */
static char *directory_of(const char *name)
{
	const char *slash = strrchr(name, '/');

	if (!slash)
		return strdup(".");
	return strndup(name, slash == name ? 1 : (size_t)(slash - name));
}

static mode_t creation_mode(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return 0666 & ~mask;
}

/* For file systems without files that have no name. */
static int open_named(struct output *output)
{
	char *directory = directory_of(output->name);

	if (!directory || asprintf(&output->temporary, "%s/.gds-bench-XXXXXX", directory) < 0)
		output->temporary = NULL;
	free(directory);
	if (!output->temporary)
		return -ENOMEM;
	output->fd = mkostemp(output->temporary, O_CLOEXEC);
	if (output->fd >= 0)
		return 0;
	free(output->temporary);
	output->temporary = NULL;
	return -errno;
}

/* A file without a name is gone with this process, even if it is killed. */
static int open_nameless(struct output *output)
{
	char *directory = directory_of(output->name);

	if (!directory)
		return -ENOMEM;
	output->fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, creation_mode());
	free(directory);
	return output->fd >= 0 ? 0 : -errno;
}

enum status output_open(struct output *output, const char *name, const char *input)
{
	enum status status = check_names(name, input);
	int error;

	*output = (struct output){ .name = name, .fd = -1 };
	if (status != STATUS_OK)
		return status;
	error = open_nameless(output);
	if (error == -EOPNOTSUPP || error == -EISDIR)
		error = open_named(output);
	return error ? fail_output(output, -error) : STATUS_OK;
}

enum status output_write(struct output *output, const void *data, size_t bytes)
{
	const char *next = data;

	while (bytes) {
		ssize_t count = write(output->fd, next, bytes);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return fail_output(output, errno);
		next += count;
		bytes -= (size_t)count;
	}
	return STATUS_OK;
}

/* linkat() replaces nothing, rename() does: so the file gets a name of its own first. */
static int give_name(struct output *output)
{
	char *directory, link[64];
	int error = 0;

	if (output->temporary)
		return fchmod(output->fd, creation_mode()) ? -errno : 0;
	directory = directory_of(output->name);
	if (!directory ||
	    asprintf(&output->temporary, "%s/.gds-bench-%ld", directory, (long)getpid()) < 0)
		output->temporary = NULL;
	free(directory);
	if (!output->temporary)
		return -ENOMEM;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", output->fd);
	if (linkat(AT_FDCWD, link, AT_FDCWD, output->temporary, AT_SYMLINK_FOLLOW) != 0) {
		error = -errno;
		free(output->temporary);
		output->temporary = NULL;
	}
	return error;
}

enum status output_commit(struct output *output)
{
	int error = fsync(output->fd) ? -errno : give_name(output);

	if (!error && rename(output->temporary, output->name) != 0)
		error = -errno;
	if (error)
		return fail_output(output, -error);
	free(output->temporary);
	output->temporary = NULL;
	return STATUS_OK;
}

void output_close(struct output *output)
{
	if (output->fd < 0)
		return;
	if (output->temporary)
		unlink(output->temporary);
	free(output->temporary);
	close(output->fd);
	*output = (struct output){ .fd = -1 };
}
