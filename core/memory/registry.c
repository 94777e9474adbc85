/* SPDX-License-Identifier: Apache-2.0 */
/* The only list of backends. */
#include "memory/backend.h"

static const struct backend_ops *const backends[] = {
#ifdef GDS_HAVE_VULKAN
	&backend_vulkan,
#endif
	&backend_host,
};

const struct backend_ops *const *backend_registry(size_t *count)
{
	*count = sizeof(backends) / sizeof(backends[0]);
	return backends;
}
