/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the tests of leak-checking builds: nothing is unloaded.
 *
 * The Vulkan loader unloads its drivers when an instance is destroyed. What they
 * keep in their static variables (llvmpipe keeps a little) is then a leak of an
 * "unknown module", which no suppression can name. With the driver still there it is
 * reachable, and every leak that is reported has a stack to read.
 */
int dlclose(void *handle);

int dlclose(void *handle)
{
	(void)handle;
	return 0;
}
