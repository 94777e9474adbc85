/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gds-bench check: what this machine can do, and for each thing it cannot, why,
 * and what would help.
 */
#include "commands.h"
#include "proof.h"
#include "report.h"
#include "setup.h"
#include "signals.h"
#include "sizes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Enough that a path shows what it does to a buffer, and small for any device. */
#define SAMPLE_BUFFER_BYTES ((uint64_t)1 << 20)

struct check {
	struct options options;
	json_t *report; /* NULL where text is printed */
	json_t *files;
	json_t *devices;
	/* Names of the devices found, to be looked at one by one. */
	char (*names)[sizeof(((struct gds_device_info *)0)->name)];
	size_t name_count;
	bool names_backend; /* what comes before the files names a backend, and no file */
	bool interrupted;   /* a signal came, and was told of */
	enum status worst;
};

static void note(struct check *check, enum status status)
{
	if (check->worst == STATUS_OK)
		check->worst = status;
}

/* ---- The system and its lanes ------------------------------------------------- */

static void show_system(struct check *check)
{
	struct rlimit locked = { .rlim_cur = RLIM_INFINITY };
	struct utsname system = { .release = "?" };
	char size[SIZE_TEXT_BYTES];
	bool limited;

	uname(&system);
	getrlimit(RLIMIT_MEMLOCK, &locked);
	limited = locked.rlim_cur != RLIM_INFINITY;
	if (check->report) {
		json_put(check->report, KEY_KERNEL, json_text(system.release));
		json_put(check->report, KEY_LOCKED_MEMORY_BYTES,
			 limited ? json_integer((json_int_t)locked.rlim_cur) : json_null());
		return;
	}
	printf("gds %s, Linux %s, locked memory limit %s\n", gds_version(), system.release,
	       limited ? size_format(size, (double)locked.rlim_cur) : "none");
}

static void show_lane(struct check *check, json_t *lanes, enum gds_lane lane, bool usable,
		      const char *reason)
{
	json_t *object;

	if (!check->report) {
		printf("  %-8s %s%s%s\n", gds_lane_name(lane), usable ? "usable" : "not usable",
		       reason[0] ? ": " : "", reason);
		return;
	}
	object = json_object();
	json_put(object, KEY_LANE, json_text(gds_lane_name(lane)));
	json_put(object, KEY_USABLE, json_boolean(usable));
	json_put(object, KEY_REASON, json_text(reason));
	json_array_append_new(lanes, object);
}

/* That threads were asked for is no news of the lane. */
static const char *lane_lacks(int lane, struct gds_reader *reader)
{
	return lane == GDS_LANE_URING ? gds_reader_lane_reason(reader) : "";
}

static void show_lanes(struct check *check)
{
	json_t *lanes = check->report ? json_array() : NULL;

	if (!check->report)
		printf("\nlanes\n");
	for (int lane = GDS_LANE_URING; lane <= GDS_LANE_THREADS; lane++) {
		struct gds_reader_options options = {
			.size = sizeof(options),
			.flags = GDS_READER_SINGLE_THREAD,
			.lane = (uint32_t)lane,
		};
		struct gds_reader *reader;
		int error = gds_reader_open(&reader, &options);

		show_lane(check, lanes, (enum gds_lane)lane, error == 0,
			  error ? gds_last_error() : lane_lacks(lane, reader));
		if (!error)
			gds_reader_close(reader);
	}
	if (lanes)
		json_put(check->report, KEY_LANES, lanes);
}

/* ---- Devices ------------------------------------------------------------------ */

static void show_device(const struct gds_device_info *info)
{
	char size[SIZE_TEXT_BYTES];

	printf("  %-12s %s, %s", info->name, info->description, info->driver);
	if (info->memory_bytes)
		printf(", %s", size_format(size, (double)info->memory_bytes));
	printf("%s\n", info->unified ? ", memory shared with the host" : "");
}

/* Whether an operand, which may be NULL, is "BACKEND" or "BACKEND:...". */
static bool begins_with(const char *operand, const char *backend)
{
	size_t length = strlen(backend);

	return operand && strncmp(operand, backend, length) == 0 &&
	       (operand[length] == '\0' || operand[length] == ':') && access(operand, F_OK) != 0;
}

static int visit_device(const char *backend, const struct gds_device_info *info, const char *reason,
			void *user)
{
	struct check *check = user;
	json_t *object = NULL;
	void *names;

	check->names_backend |= begins_with(check->options.files[0], backend);
	if (check->report) {
		object = json_object();
		json_put(object, KEY_BACKEND, json_text(backend));
		json_array_append_new(check->devices, object);
	}
	if (!info) {
		if (object)
			json_put(object, KEY_REASON, json_text(reason));
		else
			printf("  %-12s none: %s\n", backend, reason);
		return 0;
	}
	if (object)
		json_put_device(object, info);
	else
		show_device(info);
	names = realloc(check->names, (check->name_count + 1) * sizeof(*check->names));
	if (!names)
		return -ENOMEM;
	check->names = names;
	memcpy(check->names[check->name_count++], info->name, sizeof(info->name));
	return 0;
}

static enum status show_devices(struct check *check)
{
	int error;

	if (!check->report)
		printf("\ndevices\n");
	error = gds_device_list(visit_device, check);
	return error ? fail_library(error) : STATUS_OK;
}

/* ---- Paths -------------------------------------------------------------------- */

/* A file as it is shown with one device. */
struct view {
	const char *name;
	const char *device;
	int64_t bytes;
	struct gds_explanation explanation;
};

static void print_path(const struct gds_explanation *explanation, int path)
{
	const struct gds_path_verdict *verdict = &explanation->paths[path];
	const char *word = !verdict->usable                 ? "cannot be used"
			   : (int)explanation->path == path ? "taken"
							    : "usable";

	printf("  %-8s %s%s%s\n", gds_path_name((enum gds_path)path), word,
	       verdict->reason[0] ? ": " : "", verdict->reason);
	if (verdict->remedy[0])
		printf("  %-8s   -> %s\n", "", verdict->remedy);
}

static void print_drives(const char *drives)
{
	size_t length;

	for (; *drives; drives += length + (drives[length] == '\n')) {
		length = strcspn(drives, "\n");
		printf("  %.*s\n", (int)length, drives);
	}
}

static void print_view(const struct view *view)
{
	const struct gds_explanation *explanation = &view->explanation;
	char size[SIZE_TEXT_BYTES];
	char *name = strdup(view->name);

	if (name)
		make_one_line(name);
	printf("\n%s (%s) into %s: path %s, lane %s, %s\n", name ? name : "?",
	       size_format(size, (double)view->bytes), view->device,
	       gds_path_name((enum gds_path)explanation->path),
	       gds_lane_name((enum gds_lane)explanation->lane),
	       explanation->direct ? "O_DIRECT" : "through the page cache");
	free(name);
	if (explanation->direct_reason[0])
		printf("  %s\n", explanation->direct_reason);
	if (explanation->lane_reason[0])
		printf("  %s\n", explanation->lane_reason);
	if (explanation->layout[0])
		printf("  %s\n", explanation->layout);
	print_drives(explanation->drives);
	for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++)
		print_path(explanation, path);
	printf("  kernel   %s\n", explanation->kernel);
}

static json_t *paths_json(const struct gds_explanation *explanation)
{
	json_t *paths = json_array();

	for (int path = GDS_PATH_DMABUF; path < GDS_PATH_COUNT; path++) {
		const struct gds_path_verdict *verdict = &explanation->paths[path];
		json_t *object = json_object();

		json_put(object, KEY_PATH, json_text(gds_path_name((enum gds_path)path)));
		json_put(object, KEY_USABLE, json_boolean(verdict->usable));
		json_put(object, KEY_REASON, json_text(verdict->reason));
		json_put(object, KEY_REMEDY, json_text(verdict->remedy));
		json_array_append_new(paths, object);
	}
	return paths;
}

static json_t *drives_json(const char *drives)
{
	json_t *array = json_array();
	char line[256];
	size_t length;

	for (; *drives; drives += length + (drives[length] == '\n')) {
		length = strcspn(drives, "\n");
		snprintf(line, sizeof(line), "%.*s", (int)length, drives);
		json_array_append_new(array, json_text(line));
	}
	return array;
}

static json_t *view_json(const struct view *view)
{
	const struct gds_explanation *explanation = &view->explanation;
	json_t *object = json_object();

	json_put(object, KEY_FILE, json_text(view->name));
	json_put(object, KEY_BYTES, json_integer(view->bytes));
	json_put(object, KEY_DEVICE, json_text(view->device));
	json_put(object, KEY_PATH, json_text(gds_path_name((enum gds_path)explanation->path)));
	json_put(object, KEY_LANE, json_text(gds_lane_name((enum gds_lane)explanation->lane)));
	json_put(object, KEY_LANE_REASON, json_text(explanation->lane_reason));
	json_put(object, KEY_DIRECT, json_boolean(explanation->direct));
	json_put(object, KEY_DIRECT_REASON, json_text(explanation->direct_reason));
	json_put(object, KEY_OFFSET_ALIGNMENT, json_integer(explanation->offset_alignment));
	json_put(object, KEY_MEMORY_ALIGNMENT, json_integer(explanation->memory_alignment));
	json_put(object, KEY_LAYOUT, json_text(explanation->layout));
	json_put(object, KEY_DRIVES, drives_json(explanation->drives));
	json_put(object, KEY_PATHS, paths_json(explanation));
	json_put(object, KEY_DMABUF_READS, json_text(explanation->kernel));
	return object;
}

static enum status check_required(const struct check *check, const struct view *view)
{
	uint64_t path = check->options.path;
	const struct gds_path_verdict *verdict = &view->explanation.paths[path];

	if (path == GDS_PATH_AUTO || verdict->usable)
		return STATUS_OK;
	return fail(STATUS_UNAVAILABLE, "path %s: %s into %s: %s%s%s",
		    gds_path_name((enum gds_path)path), view->name, view->device, verdict->reason,
		    verdict->remedy[0] ? ": " : "", verdict->remedy);
}

static enum status explain(struct check *check, const struct setup *setup, struct gds_file *file,
			   struct gds_buffer *buffer, struct view *view, json_t **object)
{
	int error;

	view->explanation.size = sizeof(view->explanation);
	view->bytes = gds_file_bytes(file);
	if (view->bytes < 0)
		return fail_library((int)view->bytes);
	error = gds_explain(setup->reader, file, buffer, &view->explanation);
	if (error)
		return fail_library(error);
	if (check->report) {
		*object = view_json(view);
		json_array_append_new(check->files, *object);
	} else {
		print_view(view);
	}
	return check_required(check, view);
}

/* Where both ends are named, it is shown that the path between them delivers. */
static enum status prove(struct check *check, const struct setup *setup, struct gds_file *file,
			 const struct view *view, json_t *object)
{
	struct proof proof = {
		.name = view->name,
		.file = file,
		.file_bytes = (uint64_t)view->bytes,
		.device = setup->device,
		.info = &setup->info,
		.explanation = &view->explanation,
	};

	if (!check->options.device || check->options.file_count == 0 || check->options.no_proof)
		return STATUS_OK;
	if (!object)
		fflush(stdout); /* it takes a while */
	return proof_run(&proof, &check->options, object);
}

/* `object` is what has been told of the file, or NULL. */
static void file_failed(struct check *check, json_t *object, const char *name, enum status status)
{
	note(check, status);
	if (!check->report)
		return;
	if (!object) {
		object = json_object();
		json_put(object, KEY_FILE, json_text(name));
		json_array_append_new(check->files, object);
	}
	json_put(object, KEY_ERROR, json_text(fail_message()));
}

static void check_file(struct check *check, const struct setup *setup, struct gds_buffer *buffer,
		       const char *name)
{
	struct view view = { .name = name, .device = setup->info.name };
	json_t *object = NULL;
	struct gds_file *file;
	enum status status;
	int error;

	if (signals_pending()) {
		file_failed(check, NULL, name, fail_signal(name));
		check->interrupted = true;
		return;
	}
	error = gds_file_open(&file, name);
	if (error) {
		file_failed(check, NULL, name, fail(STATUS_FAILED, "%s", gds_last_error()));
		return;
	}
	status = explain(check, setup, file, buffer, &view, &object);
	if (status == STATUS_OK)
		status = prove(check, setup, file, &view, object);
	if (status != STATUS_OK)
		file_failed(check, object, name, status);
	gds_file_close(file);
}

static const char *own_executable(void)
{
	static char name[4096];
	ssize_t length = readlink("/proc/self/exe", name, sizeof(name) - 1);

	if (length < 0)
		return "/proc/self/exe";
	name[length] = '\0';
	return name;
}

static enum status check_device(struct check *check, const char *name)
{
	const struct options *options = &check->options;
	struct options settings = *options;
	struct setup setup;
	struct gds_buffer *buffer;
	enum status status;
	int error;

	settings.device = name;
	settings.queue_depth = 64;
	settings.block_bytes = SAMPLE_BUFFER_BYTES;
	status = setup_open(&setup, &settings);
	if (status != STATUS_OK)
		return status;
	error = gds_buffer_alloc(&buffer, setup.device, SAMPLE_BUFFER_BYTES,
				 options->host_memory ? GDS_BUFFER_HOST : 0);
	if (error) {
		setup_close(&setup);
		return fail_library(error);
	}
	for (size_t i = 0; i < options->file_count && !check->interrupted; i++)
		check_file(check, &setup, buffer, options->files[i]);
	if (options->file_count == 0)
		check_file(check, &setup, buffer, own_executable());
	gds_buffer_free(buffer);
	setup_close(&setup);
	return STATUS_OK;
}

static void check_devices(struct check *check)
{
	if (check->options.device) {
		note(check, check_device(check, check->options.device));
		return;
	}
	for (size_t i = 0; i < check->name_count && !check->interrupted; i++)
		note(check, check_device(check, check->names[i]));
	if (check->name_count == 0)
		note(check, fail(STATUS_UNAVAILABLE,
				 "no device: gds-bench check: install a driver for one of the "
				 "backends above"));
}

/* As in "check vulkan:0 FILE". */
static void take_device(struct check *check)
{
	struct options *options = &check->options;

	if (options->device || options->file_count == 0 || !check->names_backend)
		return;
	options->device = options->files[0];
	options->files++;
	options->file_count--;
}

enum status command_check(const struct options *options)
{
	struct check check = { .options = *options };

	if (options->json) {
		check.report = json_report(COMMAND_CHECK);
		check.files = json_array();
		check.devices = json_array();
	}
	show_system(&check);
	show_lanes(&check);
	note(&check, show_devices(&check));
	take_device(&check);
	check_devices(&check);
	free(check.names);
	if (check.report) {
		json_put(check.report, KEY_DEVICES, check.devices);
		json_put(check.report, KEY_FILES, check.files);
		json_put(check.report, KEY_OK, json_boolean(check.worst == STATUS_OK));
		json_print(check.report);
	}
	return check.worst;
}
