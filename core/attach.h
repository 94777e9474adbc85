/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers, and the files, buffers and devices that they use, are opened and
 * closed independently. What a reader keeps for an object it has met - a slot in
 * its lane, staging memory on a device - is an attachment, known to both sides,
 * so that whichever is closed first takes the attachment with it.
 */
#ifndef GDS_ATTACH_H
#define GDS_ATTACH_H

#include <stddef.h>

struct gds_reader;
struct attachment;

/* Embedded in gds_file, gds_buffer and gds_device. */
struct object {
	struct attachment *attachments; /* one for each reader that met the object */
};

/* Embedded in what a reader keeps for an object. */
struct attachment {
	struct gds_reader *reader;
	struct object *object;
	struct attachment *object_next;
	struct attachment **object_link; /* that leads to it: there may be thousands in a list */
	struct attachment *reader_next;
	struct attachment **reader_link;
	/*
	 * Lets go of the object: waits for what is in flight on it, gives the slots
	 * back and frees the attachment. Called as the reader's driver.
	 */
	void (*detach)(struct attachment *attachment);
};

/* The reader's attachment of the object, or NULL. */
struct attachment *attachment_find(struct object *object, struct gds_reader *reader);

void attachment_link(struct attachment *attachment, struct gds_reader *reader,
		     struct object *object);
void attachment_unlink(struct attachment *attachment);

/* Detaches every reader from an object that is about to go. */
void object_detach_all(struct object *object);

#endif
