/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the DRM backend asks of the drivers of GPUs: held against stand-ins for them,
 * which the linker puts in the place of libdrm. They keep the rules that the drivers
 * write down in their headers, and count handles. That real GPUs answer alike is not
 * shown here.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above. */
#include <cmocka.h>

#include "base/error.h"
#include "drm/drm.h"

#include <string.h>
#include <xf86drm.h>
#ifdef GDS_HAVE_AMDGPU
#include <amdgpu.h>
#include <amdgpu_drm.h>
#endif
#ifdef GDS_HAVE_I915
#include <i915_drm.h>
#endif
#ifdef GDS_HAVE_XE
#include <xe_drm.h>
#endif

enum { SIZE = 1 << 20, VRAM_REGION = 3 };
#define VRAM_BYTES (UINT64_C(8) << 30)
#define MAP_PLACE  UINT64_C(0x100000000)

static struct {
	bool discrete;
	bool old_kernel; /* knows no flags of creation */
	bool refuse_create, refuse_map;
	int handles; /* open */
	bool in_host;
} gpu;

int __wrap_drmIoctl(int fd, unsigned long request, void *argument);

static int refuse(int error)
{
	errno = error;
	return -1;
}

static int give_handle(uint32_t *handle, bool in_host)
{
	if (gpu.refuse_create)
		return refuse(ENOMEM);
	gpu.handles++;
	gpu.in_host = in_host;
	*handle = 41;
	return 0;
}

static int give_place(uint32_t handle, uint64_t *place)
{
	assert_int_equal(handle, 41);
	if (gpu.refuse_map)
		return refuse(EINVAL);
	*place = MAP_PLACE;
	return 0;
}

/* ---- Dumb buffers ------------------------------------------------------------- */

static int dumb_create(struct drm_mode_create_dumb *create)
{
	create->pitch = create->width * create->bpp / 8;
	create->size = (uint64_t)create->pitch * create->height;
	return give_handle(&create->handle, true);
}

static int dumb_map(struct drm_mode_map_dumb *map)
{
	uint64_t place = 0;
	int result = give_place(map->handle, &place);

	map->offset = place;
	return result;
}

/* ---- i915 --------------------------------------------------------------------- */

#ifdef GDS_HAVE_I915
static int i915_query(struct drm_i915_query *query)
{
	struct drm_i915_query_item *item = (void *)(uintptr_t)query->items_ptr;
	struct drm_i915_query_memory_regions *answer = (void *)(uintptr_t)item->data_ptr;
	int32_t bytes = (int32_t)(sizeof(*answer) + 2 * sizeof(answer->regions[0]));

	assert_int_equal(query->num_items, 1);
	assert_int_equal(item->query_id, DRM_I915_QUERY_MEMORY_REGIONS);
	if (item->length == 0) {
		item->length = bytes;
		return 0;
	}
	assert_int_equal(item->length, bytes);
	answer->num_regions = gpu.discrete ? 2 : 1;
	answer->regions[0].region.memory_class = I915_MEMORY_CLASS_SYSTEM;
	answer->regions[1].region.memory_class = I915_MEMORY_CLASS_DEVICE;
	answer->regions[1].region.memory_instance = VRAM_REGION;
	answer->regions[1].probed_size = VRAM_BYTES;
	return 0;
}

static int i915_create_ext(struct drm_i915_gem_create_ext *create)
{
	struct drm_i915_gem_create_ext_memory_regions *regions =
		(void *)(uintptr_t)create->extensions;
	struct drm_i915_gem_memory_class_instance *places = (void *)(uintptr_t)regions->regions;

	if (create->flags && gpu.old_kernel)
		return refuse(EINVAL);
	assert_int_equal(regions->base.name, I915_GEM_CREATE_EXT_MEMORY_REGIONS);
	assert_int_equal(regions->num_regions, 2);
	assert_int_equal(places[0].memory_class, I915_MEMORY_CLASS_DEVICE);
	assert_int_equal(places[0].memory_instance, VRAM_REGION);
	assert_int_equal(places[1].memory_class, I915_MEMORY_CLASS_SYSTEM);
	assert_int_equal(create->size, SIZE);
	return give_handle(&create->handle, false);
}

static int i915_map(struct drm_i915_gem_mmap_offset *map)
{
	uint64_t place = 0;
	int result;

	/* The driver takes only this on discrete GPUs, and does not take it on others. */
	if ((map->flags == I915_MMAP_OFFSET_FIXED) != gpu.discrete)
		return refuse(ENODEV);
	result = give_place(map->handle, &place);
	map->offset = place;
	return result;
}
#endif

/* ---- xe ----------------------------------------------------------------------- */

#ifdef GDS_HAVE_XE
static int xe_query(struct drm_xe_device_query *query)
{
	struct drm_xe_query_mem_regions *answer = (void *)(uintptr_t)query->data;
	uint32_t bytes = (uint32_t)(sizeof(*answer) + 2 * sizeof(answer->mem_regions[0]));

	assert_int_equal(query->query, DRM_XE_DEVICE_QUERY_MEM_REGIONS);
	if (query->size == 0) {
		query->size = bytes;
		return 0;
	}
	assert_int_equal(query->size, bytes);
	answer->num_mem_regions = gpu.discrete ? 2 : 1;
	answer->mem_regions[0].mem_class = DRM_XE_MEM_REGION_CLASS_SYSMEM;
	answer->mem_regions[0].min_page_size = 4096;
	answer->mem_regions[1].mem_class = DRM_XE_MEM_REGION_CLASS_VRAM;
	answer->mem_regions[1].instance = VRAM_REGION;
	answer->mem_regions[1].min_page_size = 65536;
	answer->mem_regions[1].total_size = VRAM_BYTES;
	answer->mem_regions[1].cpu_visible_size = VRAM_BYTES / 2;
	return 0;
}

static int xe_create(struct drm_xe_gem_create *create)
{
	bool in_host = create->placement == 1u << 0;

	assert_int_equal(create->size, SIZE);
	assert_int_equal(create->vm_id, 0);
	assert_true(in_host || create->placement == 1u << VRAM_REGION);
	/* What the header asks for with each placement. */
	assert_int_equal(create->flags, in_host ? 0 : DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM);
	assert_true(in_host || create->cpu_caching == DRM_XE_GEM_CPU_CACHING_WC);
	return give_handle(&create->handle, in_host);
}

static int xe_map(struct drm_xe_gem_mmap_offset *map)
{
	uint64_t place = 0;
	int result = give_place(map->handle, &place);

	map->offset = place;
	return result;
}
#endif

int __wrap_drmIoctl(int fd, unsigned long request, void *argument)
{
	switch (request) {
	case DRM_IOCTL_MODE_CREATE_DUMB:
		return dumb_create(argument);
	case DRM_IOCTL_MODE_MAP_DUMB:
		return dumb_map(argument);
	case DRM_IOCTL_GEM_CLOSE:
		assert_int_equal(((struct drm_gem_close *)argument)->handle, 41);
		gpu.handles--;
		return 0;
#ifdef GDS_HAVE_I915
	case DRM_IOCTL_I915_QUERY:
		return i915_query(argument);
	case DRM_IOCTL_I915_GEM_CREATE:
		return give_handle(&((struct drm_i915_gem_create *)argument)->handle, true);
	case DRM_IOCTL_I915_GEM_CREATE_EXT:
		return i915_create_ext(argument);
	case DRM_IOCTL_I915_GEM_MMAP_OFFSET:
		return i915_map(argument);
#endif
#ifdef GDS_HAVE_XE
	case DRM_IOCTL_XE_DEVICE_QUERY:
		return xe_query(argument);
	case DRM_IOCTL_XE_GEM_CREATE:
		return xe_create(argument);
	case DRM_IOCTL_XE_GEM_MMAP_OFFSET:
		return xe_map(argument);
#endif
	default:
		fail_msg("request 0x%lx is not expected", request);
		return -1;
	}
}

/* ---- amdgpu ------------------------------------------------------------------- */

#ifdef GDS_HAVE_AMDGPU
static int fake_device, fake_bo;

int __wrap_amdgpu_device_initialize(int fd, uint32_t *major, uint32_t *minor,
				    amdgpu_device_handle *device);
int __wrap_amdgpu_device_deinitialize(amdgpu_device_handle device);
int __wrap_amdgpu_device_get_fd(amdgpu_device_handle device);
int __wrap_amdgpu_query_heap_info(amdgpu_device_handle device, uint32_t heap, uint32_t flags,
				  struct amdgpu_heap_info *info);
int __wrap_amdgpu_bo_alloc(amdgpu_device_handle device, struct amdgpu_bo_alloc_request *request,
			   amdgpu_bo_handle *bo);
int __wrap_amdgpu_bo_export(amdgpu_bo_handle bo, enum amdgpu_bo_handle_type type, uint32_t *handle);
int __wrap_amdgpu_bo_free(amdgpu_bo_handle bo);
int __wrap_drmCommandWriteRead(int fd, unsigned long index, void *data, unsigned long bytes);

int __wrap_amdgpu_device_initialize(int fd, uint32_t *major, uint32_t *minor,
				    amdgpu_device_handle *device)
{
	*major = 3;
	*minor = 49;
	*device = (void *)&fake_device;
	gpu.handles++;
	return 0;
}

int __wrap_amdgpu_device_deinitialize(amdgpu_device_handle device)
{
	gpu.handles--;
	return 0;
}

int __wrap_amdgpu_device_get_fd(amdgpu_device_handle device)
{
	return 1234;
}

int __wrap_amdgpu_query_heap_info(amdgpu_device_handle device, uint32_t heap, uint32_t flags,
				  struct amdgpu_heap_info *info)
{
	assert_int_equal(heap, AMDGPU_GEM_DOMAIN_VRAM);
	info->heap_size = VRAM_BYTES;
	return 0;
}

int __wrap_amdgpu_bo_alloc(amdgpu_device_handle device, struct amdgpu_bo_alloc_request *request,
			   amdgpu_bo_handle *bo)
{
	if (gpu.refuse_create)
		return -ENOMEM;
	assert_int_equal(request->alloc_size, SIZE);
	assert_true(request->flags & AMDGPU_GEM_CREATE_CPU_ACCESS_REQUIRED);
	gpu.in_host = request->preferred_heap == AMDGPU_GEM_DOMAIN_GTT;
	*bo = (void *)&fake_bo;
	gpu.handles++;
	return 0;
}

int __wrap_amdgpu_bo_export(amdgpu_bo_handle bo, enum amdgpu_bo_handle_type type, uint32_t *handle)
{
	*handle = type == amdgpu_bo_handle_type_dma_buf_fd ? 99 : 41;
	return 0;
}

int __wrap_amdgpu_bo_free(amdgpu_bo_handle bo)
{
	gpu.handles--;
	return 0;
}

int __wrap_drmCommandWriteRead(int fd, unsigned long index, void *data, unsigned long bytes)
{
	union drm_amdgpu_gem_mmap *map = data;
	uint64_t place = 0;

	assert_int_equal(fd, 1234);
	assert_int_equal(index, DRM_AMDGPU_GEM_MMAP);
	if (give_place(map->in.handle, &place))
		return -errno;
	map->out.addr_ptr = place;
	return 0;
}
#endif

/* ---- Tests -------------------------------------------------------------------- */

static const struct {
	const struct drm_method *method;
	const char *vram; /* the placement of memory on the card; NULL: none */
} cases[] = {
	{ &drm_dumb, NULL },
#ifdef GDS_HAVE_AMDGPU
	{ &drm_amdgpu, "visible vram" },
#endif
#ifdef GDS_HAVE_I915
	{ &drm_i915, "vram or host" },
#endif
#ifdef GDS_HAVE_XE
	{ &drm_xe, "visible vram" },
#endif
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

static struct drm_device open_method(const struct drm_method *method, bool discrete)
{
	struct drm_device device = { .method = method };

	memset(&gpu, 0, sizeof(gpu));
	gpu.discrete = discrete;
	dmabuf_device_init(&device.base, &backend_drm, "drm:card0");
	gds_text_set(device.driver, sizeof(device.driver), "%s",
		     method->driver ? method->driver : "vgem");
	assert_int_equal(method->open(&device), 0);
	return device;
}

static void close_method(struct drm_device *device)
{
	if (device->method->close)
		device->method->close(device);
	assert_int_equal(gpu.handles, 0);
}

static struct dmabuf_slice new_slice(const struct drm_device *device)
{
	return (struct dmabuf_slice){
		.bytes = SIZE, .fd = -1, .map_fd = device->fd, .placement = device->base.placement
	};
}

static void release(struct drm_device *device, struct dmabuf_slice *slice)
{
	if (device->method->release)
		device->method->release(device, slice);
	else
		drm_close_handle(device, (uint32_t)slice->handle);
}

static void memory_comes_from_the_card_or_from_the_host_as_asked(void **state)
{
	for (size_t i = 0; i < CASES; i++)
		for (int host = 0; host < 2; host++) {
			struct drm_device device = open_method(cases[i].method, true);
			struct dmabuf_slice slice = new_slice(&device);
			bool on_card = cases[i].vram && !host;

			assert_int_equal(
				cases[i].method->make(&device, host ? GDS_BUFFER_HOST : 0, &slice),
				0);
			assert_int_equal(slice.map_offset, MAP_PLACE);
			assert_int_equal(gpu.in_host, !on_card);
			assert_string_equal(slice.placement, on_card ? cases[i].vram : "host");
			assert_int_equal(device.unified, !cases[i].vram);
			release(&device, &slice);
			close_method(&device);
		}
}

static void a_gpu_without_memory_of_its_own_uses_the_hosts(void **state)
{
	for (size_t i = 0; i < CASES; i++) {
		struct drm_device device = open_method(cases[i].method, false);
		struct dmabuf_slice slice = new_slice(&device);

		/* amdgpu calls the part of the host's memory that is set aside VRAM. */
		if (cases[i].method->driver && strcmp(cases[i].method->driver, "amdgpu") != 0) {
			assert_int_equal(cases[i].method->make(&device, 0, &slice), 0);
			assert_true(gpu.in_host && device.unified);
			assert_string_equal(slice.placement, "host");
			release(&device, &slice);
		}
		close_method(&device);
	}
}

static void a_card_that_is_full_is_told(void **state)
{
	for (size_t i = 0; i < CASES; i++) {
		struct drm_device device = open_method(cases[i].method, true);
		struct dmabuf_slice slice = new_slice(&device);

		gpu.refuse_create = true;
		assert_int_equal(cases[i].method->make(&device, 0, &slice), -ENOMEM);
		assert_non_null(strstr(gds_last_error(), "drm:card0"));
		close_method(&device);
	}
}

static void memory_that_the_cpu_cannot_map_is_refused_and_freed(void **state)
{
	for (size_t i = 0; i < CASES; i++) {
		struct drm_device device = open_method(cases[i].method, true);
		struct dmabuf_slice slice = new_slice(&device);

		gpu.refuse_map = true;
		assert_int_equal(cases[i].method->make(&device, 0, &slice), -EOPNOTSUPP);
		assert_non_null(strstr(gds_last_error(), "mapping"));
		close_method(&device);
	}
}

static void host_memory_of_dumb_buffers_on_a_card_is_refused(void **state)
{
	struct drm_device device = open_method(&drm_dumb, true);
	struct dmabuf_slice slice;

	gds_text_set(device.driver, sizeof(device.driver), "nouveau");
	device.unified = false;
	assert_int_equal(drm_dumb.open(&device), 0);
	assert_string_equal(device.base.placement, "dumb buffer");
	slice = new_slice(&device);
	assert_int_equal(drm_dumb.make(&device, GDS_BUFFER_HOST, &slice), -EOPNOTSUPP);
	close_method(&device);
}

#ifdef GDS_HAVE_I915
static void an_older_i915_gets_no_flags(void **state)
{
	struct drm_device device = open_method(&drm_i915, true);
	struct dmabuf_slice slice = new_slice(&device);

	gpu.old_kernel = true;
	assert_int_equal(drm_i915.make(&device, 0, &slice), 0);
	assert_false(gpu.in_host);
	release(&device, &slice);
	close_method(&device);
}
#endif

#ifdef GDS_HAVE_XE
static void sizes_on_xe_are_multiples_of_its_pages(void **state)
{
	struct drm_device device = open_method(&drm_xe, true);

	assert_int_equal(device.base.page_bytes, 65536);
	assert_true(device.memory_bytes == VRAM_BYTES / 2);
	close_method(&device);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_comes_from_the_card_or_from_the_host_as_asked),
		cmocka_unit_test(a_gpu_without_memory_of_its_own_uses_the_hosts),
		cmocka_unit_test(a_card_that_is_full_is_told),
		cmocka_unit_test(memory_that_the_cpu_cannot_map_is_refused_and_freed),
		cmocka_unit_test(host_memory_of_dumb_buffers_on_a_card_is_refused),
#ifdef GDS_HAVE_I915
		cmocka_unit_test(an_older_i915_gets_no_flags),
#endif
#ifdef GDS_HAVE_XE
		cmocka_unit_test(sizes_on_xe_are_multiples_of_its_pages),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
