/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the Vulkan examples have in common, none of which is about gds: an instance, a
 * device with queues and a timeline semaphore, and pipelines of one compute shader. Any
 * application has this already. An error is printed and ends the program.
 */
#ifndef EXAMPLES_COMPUTE_H
#define EXAMPLES_COMPUTE_H

#include <gds/gds.h>
#include <stdbool.h>
#include <vulkan/vulkan.h>

struct compute {
	VkInstance instance;
	VkPhysicalDevice physical;
	VkPhysicalDeviceProperties properties;
	VkPhysicalDeviceMemoryProperties memory;
	VkDevice device;
	uint32_t family;
	uint32_t queue_count;
	VkQueue queue;     /* the application's */
	VkQueue gds_queue; /* for gds: another one, where the device has more than one */
	bool dma_buf;      /* memory can be exported as dma-bufs */
	bool foreign;      /* VK_EXT_queue_family_foreign is enabled */
	VkSemaphore timeline;
	VkCommandPool pool;
	VkCommandBuffer commands;
};

/* A range of a VkBuffer, bound to a shader as a storage buffer. */
struct compute_binding {
	VkBuffer buffer;
	VkDeviceSize offset;
	VkDeviceSize bytes;
};

/* A compute shader with its buffers bound. */
struct compute_shader {
	VkDescriptorSetLayout set_layout;
	VkPipelineLayout layout;
	VkPipeline pipeline;
	VkDescriptorPool pool;
	VkDescriptorSet set;
};

/* The first device whose name has `name` in it, or the first of all where that is NULL. */
void compute_open(struct compute *compute, const char *name);
void compute_close(struct compute *compute);

/* The device, as gds_device_import_vulkan() wants it described. */
struct gds_vulkan_device compute_describe(const struct compute *compute);

/*
 * Binds `bindings` to the shader as set 0, bindings 0 to `count` - 1 (at most 4).
 * `constant_bytes` are those of its push constants.
 */
void compute_shader_create(const struct compute *compute, struct compute_shader *shader,
			   const uint32_t *code, size_t code_bytes,
			   const struct compute_binding *bindings, uint32_t count,
			   uint32_t constant_bytes);
void compute_shader_destroy(const struct compute *compute, struct compute_shader *shader);

/* Begins the command buffer with the shader bound. */
void compute_begin(const struct compute *compute, const struct compute_shader *shader);

/*
 * Ends the command buffer and submits it: at `stage` it waits on the queue until the
 * timeline semaphore has reached `wait`, and sets it to `signal` when it is done.
 */
void compute_submit(const struct compute *compute, VkPipelineStageFlags stage, uint64_t wait,
		    uint64_t signal);

/* Waits, on the CPU, until the timeline semaphore has reached `value`. */
void compute_wait(const struct compute *compute, uint64_t value);

/* Ends the program unless `result` is VK_SUCCESS, saying what was tried. */
void compute_check(VkResult result, const char *what);
#define VK(call) compute_check((call), #call)

#endif
