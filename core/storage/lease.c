/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/lease.h"

#include "storage/file.h"

#include <fcntl.h>
#include <signal.h>

/*
 * The kernel makes the process that takes a lease the one that is told. Between that
 * and forgetting it again, the signal would be one that does nothing by default, instead
 * of SIGIO, which ends the process.
 */
static bool take(int fd)
{
	if (fcntl(fd, F_SETSIG, SIGURG) != 0 || fcntl(fd, F_SETLEASE, F_RDLCK) != 0)
		return false;
	fcntl(fd, F_SETOWN, 0);
	return true;
}

/* A lease belongs to the open file, and so to all readers of it together. */
bool lease_take(struct gds_file *file)
{
	bool held;

	pthread_mutex_lock(&file->lease_lock);
	held = file->lease_holders ? fcntl(file->fd, F_GETLEASE) == F_RDLCK : take(file->fd);
	file->lease_holders += held;
	pthread_mutex_unlock(&file->lease_lock);
	return held;
}

bool lease_stands(struct gds_file *file)
{
	return fcntl(file->fd, F_GETLEASE) == F_RDLCK;
}

void lease_give(struct gds_file *file)
{
	pthread_mutex_lock(&file->lease_lock);
	if (--file->lease_holders == 0)
		fcntl(file->fd, F_SETLEASE, F_UNLCK);
	pthread_mutex_unlock(&file->lease_lock);
}
