/* SPDX-License-Identifier: Apache-2.0 */
#include "attach.h"

#include "reader.h"

#include <pthread.h>

/* Of all attachment lists: they change when things are met, opened and closed. */
static pthread_mutex_t lists_lock = PTHREAD_MUTEX_INITIALIZER;

struct attachment *attachment_find(struct object *object, struct gds_reader *reader)
{
	struct attachment *attachment;

	pthread_mutex_lock(&lists_lock);
	attachment = object->attachments;
	while (attachment && attachment->reader != reader)
		attachment = attachment->object_next;
	pthread_mutex_unlock(&lists_lock);
	return attachment;
}

void attachment_link(struct attachment *attachment, struct gds_reader *reader,
		     struct object *object)
{
	attachment->reader = reader;
	attachment->object = object;
	pthread_mutex_lock(&lists_lock);
	attachment->object_next = object->attachments;
	attachment->object_link = &object->attachments;
	if (attachment->object_next)
		attachment->object_next->object_link = &attachment->object_next;
	object->attachments = attachment;
	attachment->reader_next = reader->attachments;
	attachment->reader_link = &reader->attachments;
	if (attachment->reader_next)
		attachment->reader_next->reader_link = &attachment->reader_next;
	reader->attachments = attachment;
	pthread_mutex_unlock(&lists_lock);
}

void attachment_unlink(struct attachment *attachment)
{
	pthread_mutex_lock(&lists_lock);
	*attachment->object_link = attachment->object_next;
	if (attachment->object_next)
		attachment->object_next->object_link = attachment->object_link;
	*attachment->reader_link = attachment->reader_next;
	if (attachment->reader_next)
		attachment->reader_next->reader_link = attachment->reader_link;
	pthread_mutex_unlock(&lists_lock);
}

/* The first reader that is attached, kept alive for the caller, or NULL. */
static struct gds_reader *first_reader(struct object *object)
{
	struct gds_reader *reader = NULL;

	pthread_mutex_lock(&lists_lock);
	if (object->attachments) {
		reader = object->attachments->reader;
		reader_get(reader);
	}
	pthread_mutex_unlock(&lists_lock);
	return reader;
}

static int detach_object(struct gds_reader *reader, void *argument)
{
	/* Looked up again: the reader's own closing may have been first. */
	struct attachment *attachment = attachment_find(argument, reader);

	if (attachment)
		attachment->detach(attachment);
	return 0;
}

void object_detach_all(struct object *object)
{
	struct gds_reader *reader;

	while ((reader = first_reader(object)) != NULL) {
		/* After fork() the reader is the parent's, and so is what it keeps. */
		if (reader_check(reader, "closing")) {
			reader_put(reader);
			return;
		}
		reader_run(reader, detach_object, object);
		reader_put(reader);
	}
}
