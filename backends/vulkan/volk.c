/* SPDX-License-Identifier: Apache-2.0 */
/* volk comes as source: this is where it is compiled. */
#define VOLK_IMPLEMENTATION
#include <volk.h>
