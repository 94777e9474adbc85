/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a path can be taken, and why not: what gds_explain() shows. */
#ifndef GDS_BASE_VERDICT_H
#define GDS_BASE_VERDICT_H

#include "base/error.h"

#include <errno.h>
#include <gds/gds.h>

static inline int verdict_refuse(struct gds_path_verdict *verdict, const char *reason,
				 const char *remedy)
{
	verdict->usable = 0;
	gds_text_set(verdict->reason, sizeof(verdict->reason), "%s", reason);
	gds_text_set(verdict->remedy, sizeof(verdict->remedy), "%s", remedy);
	return -EOPNOTSUPP;
}

/* Usable; the drawback may be empty. */
static inline int verdict_allow(struct gds_path_verdict *verdict, const char *drawback,
				const char *remedy)
{
	verdict_refuse(verdict, drawback, remedy);
	verdict->usable = 1;
	return 0;
}

#endif
