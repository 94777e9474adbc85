/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT, SIGTERM and SIGHUP ask the run to stop in good order; a second one kills. */
#include "signals.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t pending;

static void note(int signal_number)
{
	pending = signal_number;
}

/* What nohup(1), or a shell that runs a job behind, had ignored is ignored on. */
static void take(int signal_number, const struct sigaction *action)
{
	struct sigaction before;

	if (sigaction(signal_number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
		sigaction(signal_number, action, NULL);
}

void signals_install(void)
{
	/* No SA_RESTART: a wait must end, so that the run notices. */
	struct sigaction action = { .sa_handler = note, .sa_flags = (int)SA_RESETHAND };

	sigemptyset(&action.sa_mask);
	take(SIGINT, &action);
	take(SIGTERM, &action);
	take(SIGHUP, &action);
}

int signals_pending(void)
{
	return pending;
}

const char *signals_name(void)
{
	switch (pending) {
	case SIGINT:
		return "SIGINT";
	case SIGTERM:
		return "SIGTERM";
	case SIGHUP:
		return "SIGHUP";
	default:
		return "no signal";
	}
}
