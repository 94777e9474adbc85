// SPDX-License-Identifier: GPL-2.0-only
/*
 * A dma-buf exporter for tests, whose memory moves, vanishes and fails on
 * request. gds_exporter.h says how to ask for it.
 */
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include "gds_exporter.h"

#define ODD_SEGMENT_BYTES 512

/* Two of these make a buffer. */
struct page_set {
	struct page **chunks;
};

struct buffer {
	struct dma_buf *dmabuf;
	size_t bytes;           /* what is allocated: whole chunks */
	unsigned int chunk;
	unsigned int nr_chunks;
	u32 flags;

	/* Everything below is protected by the reservation lock. */
	struct page_set sets[2];
	int current_set;
	bool revoked;
	struct gds_exporter_fault fault;
	struct gds_exporter_state state;
};

static struct workqueue_struct *fence_queue;
static u64 fence_context;
static atomic64_t fence_seqno;
static atomic_t fences_pending;

/* --- memory */

static void free_set(struct buffer *buffer, struct page_set *set)
{
	unsigned int i;

	if (!set->chunks)
		return;
	for (i = 0; i < buffer->nr_chunks; i++) {
		if (set->chunks[i])
			__free_pages(set->chunks[i], get_order(buffer->chunk));
	}
	kvfree(set->chunks);
}

static int alloc_set(struct buffer *buffer, struct page_set *set)
{
	unsigned int i;

	set->chunks = kvcalloc(buffer->nr_chunks, sizeof(*set->chunks), GFP_KERNEL);
	if (!set->chunks)
		return -ENOMEM;
	for (i = 0; i < buffer->nr_chunks; i++) {
		set->chunks[i] = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN | __GFP_COMP,
					     get_order(buffer->chunk));
		if (!set->chunks[i])
			return -ENOMEM;
	}
	return 0;
}

static void copy_set(struct buffer *buffer, struct page_set *to, struct page_set *from)
{
	unsigned int i;

	for (i = 0; i < buffer->nr_chunks; i++)
		memcpy(page_address(to->chunks[i]), page_address(from->chunks[i]),
		       buffer->chunk);
}

static void fill_set(struct buffer *buffer, struct page_set *set, u8 value)
{
	unsigned int i;

	for (i = 0; i < buffer->nr_chunks; i++)
		memset(page_address(set->chunks[i]), value, buffer->chunk);
}

static struct page *page_at(struct buffer *buffer, pgoff_t index)
{
	size_t offset = index << PAGE_SHIFT;
	struct page *chunk = buffer->sets[buffer->current_set].chunks[offset / buffer->chunk];

	return chunk + (offset % buffer->chunk >> PAGE_SHIFT);
}

static void free_buffer(struct buffer *buffer)
{
	free_set(buffer, &buffer->sets[0]);
	free_set(buffer, &buffer->sets[1]);
	kfree(buffer);
}

static int check_create(const struct gds_exporter_create *create)
{
	if (!create->size || create->size > SZ_8G)
		return -EINVAL;
	if (create->size % PAGE_SIZE && !(create->flags & GDS_EXPORTER_CREATE_ODD_SIZE))
		return -EINVAL;
	if (!is_power_of_2(create->chunk) || create->chunk < GDS_EXPORTER_CHUNK_MIN ||
	    create->chunk > GDS_EXPORTER_CHUNK_MAX)
		return -EINVAL;
	if (create->flags & ~(GDS_EXPORTER_CREATE_ODD_SIZE | GDS_EXPORTER_CREATE_ODD_SEGMENTS |
			      GDS_EXPORTER_CREATE_STATIC))
		return -EINVAL;
	return 0;
}

static struct buffer *alloc_buffer(const struct gds_exporter_create *create)
{
	struct buffer *buffer;
	int ret;

	buffer = kzalloc_obj(*buffer);
	if (!buffer)
		return ERR_PTR(-ENOMEM);
	buffer->chunk = create->chunk;
	buffer->nr_chunks = DIV_ROUND_UP(create->size, create->chunk);
	buffer->bytes = (size_t)buffer->nr_chunks * create->chunk;
	buffer->flags = create->flags;

	ret = alloc_set(buffer, &buffer->sets[0]);
	if (!ret && !(create->flags & GDS_EXPORTER_CREATE_STATIC))
		ret = alloc_set(buffer, &buffer->sets[1]);
	if (ret) {
		free_buffer(buffer);
		return ERR_PTR(ret);
	}
	return buffer;
}

/* --- a fence that signals after a while, as that of a GPU's copy would */

struct late_fence {
	struct dma_fence base;
	spinlock_t lock;
	struct delayed_work work;
};

static const char *late_fence_name(struct dma_fence *fence)
{
	return "gds_exporter";
}

static const struct dma_fence_ops late_fence_ops = {
	.get_driver_name = late_fence_name,
	.get_timeline_name = late_fence_name,
};

static void late_fence_signal(struct work_struct *work)
{
	struct late_fence *fence = container_of(to_delayed_work(work), struct late_fence, work);

	dma_fence_signal(&fence->base);
	dma_fence_put(&fence->base);
	if (atomic_dec_and_test(&fences_pending))
		wake_up_var(&fences_pending);
}

static int add_late_fence(struct buffer *buffer, unsigned int delay_us)
{
	struct late_fence *fence;
	int ret;

	ret = dma_resv_reserve_fences(buffer->dmabuf->resv, 1);
	if (ret)
		return ret;
	fence = kzalloc_obj(*fence);
	if (!fence)
		return -ENOMEM;
	spin_lock_init(&fence->lock);
	dma_fence_init(&fence->base, &late_fence_ops, &fence->lock, fence_context,
		       atomic64_inc_return(&fence_seqno));
	dma_resv_add_fence(buffer->dmabuf->resv, &fence->base, DMA_RESV_USAGE_KERNEL);
	INIT_DELAYED_WORK(&fence->work, late_fence_signal);
	atomic_inc(&fences_pending);
	queue_delayed_work(fence_queue, &fence->work, usecs_to_jiffies(delay_us));
	return 0;
}

/* --- dma-buf operations */

static int gds_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct buffer *buffer = dmabuf->priv;
	int ret;

	dma_resv_lock(dmabuf->resv, NULL);
	ret = -buffer->fault.attach_errno;
	if (!ret) {
		buffer->state.attachments++;
		buffer->state.attached++;
		buffer->state.peer2peer = attachment->peer2peer;
	}
	dma_resv_unlock(dmabuf->resv);
	return ret;
}

static void gds_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct buffer *buffer = dmabuf->priv;

	dma_resv_lock(dmabuf->resv, NULL);
	buffer->state.attachments--;
	dma_resv_unlock(dmabuf->resv);
}

static int gds_pin(struct dma_buf_attachment *attachment)
{
	struct buffer *buffer = attachment->dmabuf->priv;

	return -buffer->fault.pin_errno;
}

static void gds_unpin(struct dma_buf_attachment *attachment)
{
}

/* The first segment gives its tail to the second, which nobody can describe by PRPs. */
static void make_odd(struct scatterlist *first)
{
	struct scatterlist *second = sg_next(first);

	first->length -= ODD_SEGMENT_BYTES;
	if (second) {
		second->length += ODD_SEGMENT_BYTES;
		second->offset = PAGE_SIZE - ODD_SEGMENT_BYTES;
	}
}

static int fill_table(struct buffer *buffer, struct page_set *set, struct sg_table *table)
{
	struct scatterlist *entry;
	unsigned int i;
	int ret;

	ret = sg_alloc_table(table, buffer->nr_chunks, GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(table, entry, i)
		sg_set_page(entry, set->chunks[i], buffer->chunk, 0);
	if (buffer->flags & GDS_EXPORTER_CREATE_ODD_SEGMENTS)
		make_odd(table->sgl);
	return 0;
}

static int map_refused(struct buffer *buffer)
{
	if (buffer->revoked)
		return -ENODEV;
	if (!buffer->fault.map_errno)
		return 0;
	if (buffer->fault.map_skip) {
		buffer->fault.map_skip--;
		return 0;
	}
	return -buffer->fault.map_errno;
}

static struct sg_table *map_set(struct buffer *buffer, struct page_set *set, struct device *dev,
				enum dma_data_direction dir)
{
	struct sg_table *table;
	int ret;

	table = kzalloc_obj(*table);
	if (!table)
		return ERR_PTR(-ENOMEM);
	ret = fill_table(buffer, set, table);
	if (ret)
		goto err_free;
	ret = dma_map_sgtable(dev, table, dir, 0);
	if (ret)
		goto err_table;
	return table;
err_table:
	sg_free_table(table);
err_free:
	kfree(table);
	return ERR_PTR(ret);
}

static struct sg_table *gds_map(struct dma_buf_attachment *attachment,
				enum dma_data_direction dir)
{
	struct buffer *buffer = attachment->dmabuf->priv;
	int other = !buffer->fault.lie ? buffer->current_set : !buffer->current_set;
	struct sg_table *table = ERR_PTR(map_refused(buffer));

	if (!table)
		table = map_set(buffer, &buffer->sets[other], attachment->dev, dir);
	if (IS_ERR(table)) {
		buffer->state.map_failed++;
		return table;
	}
	buffer->state.mappings++;
	buffer->state.mapped++;
	return table;
}

static void gds_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
		      enum dma_data_direction dir)
{
	struct buffer *buffer = attachment->dmabuf->priv;

	dma_unmap_sgtable(attachment->dev, table, dir, 0);
	sg_free_table(table);
	kfree(table);
	buffer->state.mappings--;
}

static void gds_release(struct dma_buf *dmabuf)
{
	struct buffer *buffer = dmabuf->priv;

	WARN_ON(buffer->state.mappings || buffer->state.attachments);
	free_buffer(buffer);
}

static vm_fault_t gds_fault(struct vm_fault *vmf)
{
	struct buffer *buffer = vmf->vma->vm_private_data;
	vm_fault_t ret;

	if (vmf->pgoff >= buffer->bytes >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	/* A move zaps the mapping under the same lock. */
	dma_resv_lock(buffer->dmabuf->resv, NULL);
	ret = vmf_insert_pfn(vmf->vma, vmf->address, page_to_pfn(page_at(buffer, vmf->pgoff)));
	dma_resv_unlock(buffer->dmabuf->resv);
	return ret;
}

static const struct vm_operations_struct gds_vm_ops = {
	.fault = gds_fault,
};

static int gds_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	vma->vm_private_data = dmabuf->priv;
	vma->vm_ops = &gds_vm_ops;
	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | VM_IO);
	return 0;
}

static const struct dma_buf_ops dynamic_ops = {
	.attach = gds_attach,
	.detach = gds_detach,
	.pin = gds_pin,
	.unpin = gds_unpin,
	.map_dma_buf = gds_map,
	.unmap_dma_buf = gds_unmap,
	.release = gds_release,
	.mmap = gds_mmap,
};

static const struct dma_buf_ops static_ops = {
	.attach = gds_attach,
	.detach = gds_detach,
	.map_dma_buf = gds_map,
	.unmap_dma_buf = gds_unmap,
	.release = gds_release,
	.mmap = gds_mmap,
};

/* --- requests of user space */

static int create_buffer(void __user *arg)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct gds_exporter_create create;
	struct buffer *buffer;
	struct dma_buf *dmabuf;
	int ret;

	if (copy_from_user(&create, arg, sizeof(create)))
		return -EFAULT;
	if (!create.chunk)
		create.chunk = GDS_EXPORTER_CHUNK_MIN;
	ret = check_create(&create);
	if (ret)
		return ret;
	buffer = alloc_buffer(&create);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);

	info.ops = create.flags & GDS_EXPORTER_CREATE_STATIC ? &static_ops : &dynamic_ops;
	info.size = create.flags & GDS_EXPORTER_CREATE_ODD_SIZE ? create.size : buffer->bytes;
	info.flags = O_RDWR;
	info.priv = buffer;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		free_buffer(buffer);
		return PTR_ERR(dmabuf);
	}
	buffer->dmabuf = dmabuf;
	ret = dma_buf_fd(dmabuf, O_CLOEXEC);
	if (ret < 0)
		dma_buf_put(dmabuf);
	return ret;
}

static struct dma_buf *get_ours(int fd)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);

	if (IS_ERR(dmabuf))
		return dmabuf;
	if (dmabuf->ops != &dynamic_ops && dmabuf->ops != &static_ops) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-EINVAL);
	}
	return dmabuf;
}

static void hold(unsigned int us)
{
	if (us)
		fsleep(us);
}

static u64 invalidate(struct buffer *buffer)
{
	ktime_t start = ktime_get();

	dma_buf_invalidate_mappings(buffer->dmabuf);
	dma_resv_wait_timeout(buffer->dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP, false,
			      MAX_SCHEDULE_TIMEOUT);
	return ktime_to_ns(ktime_sub(ktime_get(), start));
}

static int move(struct buffer *buffer, u8 poison)
{
	struct page_set *from = &buffer->sets[buffer->current_set];
	struct page_set *to = &buffer->sets[!buffer->current_set];

	unmap_mapping_range(buffer->dmabuf->file->f_mapping, 0, 0, 1);
	copy_set(buffer, to, from);
	fill_set(buffer, from, poison);
	buffer->current_set = !buffer->current_set;
	buffer->state.moved++;
	return buffer->fault.fence_us ? add_late_fence(buffer, buffer->fault.fence_us) : 0;
}

static int act_locked(struct buffer *buffer, struct gds_exporter_act *act)
{
	int ret = 0;

	if (act->action == GDS_EXPORTER_RESTORE) {
		buffer->revoked = false;
		return 0;
	}
	hold(act->hold_us);
	if (act->action == GDS_EXPORTER_REVOKE)
		buffer->revoked = true;
	act->waited_ns = invalidate(buffer);
	if (act->action == GDS_EXPORTER_MOVE)
		ret = move(buffer, act->poison);
	hold(act->hold_us);
	return ret;
}

static int act_on_buffer(void __user *arg)
{
	struct gds_exporter_act act;
	struct dma_buf *dmabuf;
	int ret;

	if (copy_from_user(&act, arg, sizeof(act)))
		return -EFAULT;
	if (act.action > GDS_EXPORTER_INVALIDATE)
		return -EINVAL;
	act.waited_ns = 0;
	dmabuf = get_ours(act.dmabuf_fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	ret = -EOPNOTSUPP;
	if (dmabuf->ops == &dynamic_ops) {
		dma_resv_lock(dmabuf->resv, NULL);
		ret = act_locked(dmabuf->priv, &act);
		dma_resv_unlock(dmabuf->resv);
	}
	dma_buf_put(dmabuf);
	if (!ret && copy_to_user(arg, &act, sizeof(act)))
		ret = -EFAULT;
	return ret;
}

static bool valid_errno(int value)
{
	return value >= 0 && value <= MAX_ERRNO;
}

static int set_fault(void __user *arg)
{
	struct gds_exporter_fault fault;
	struct buffer *buffer;
	struct dma_buf *dmabuf;

	if (copy_from_user(&fault, arg, sizeof(fault)))
		return -EFAULT;
	if (!valid_errno(fault.attach_errno) || !valid_errno(fault.map_errno) ||
	    !valid_errno(fault.pin_errno) || fault.lie > 1 || fault.resv)
		return -EINVAL;
	dmabuf = get_ours(fault.dmabuf_fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	buffer = dmabuf->priv;
	if (fault.lie && !buffer->sets[1].chunks) {
		dma_buf_put(dmabuf);
		return -EOPNOTSUPP;
	}
	dma_resv_lock(dmabuf->resv, NULL);
	buffer->fault = fault;
	dma_resv_unlock(dmabuf->resv);
	dma_buf_put(dmabuf);
	return 0;
}

static int get_state(void __user *arg)
{
	struct gds_exporter_state state;
	struct buffer *buffer;
	struct dma_buf *dmabuf;

	if (copy_from_user(&state, arg, sizeof(state)))
		return -EFAULT;
	dmabuf = get_ours(state.dmabuf_fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	buffer = dmabuf->priv;
	dma_resv_lock(dmabuf->resv, NULL);
	buffer->state.dmabuf_fd = state.dmabuf_fd;
	state = buffer->state;
	dma_resv_unlock(dmabuf->resv);
	dma_buf_put(dmabuf);
	return copy_to_user(arg, &state, sizeof(state)) ? -EFAULT : 0;
}

static long gds_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (command) {
	case GDS_EXPORTER_CREATE:
		return create_buffer(user);
	case GDS_EXPORTER_ACT:
		return act_on_buffer(user);
	case GDS_EXPORTER_FAULT:
		return set_fault(user);
	case GDS_EXPORTER_STATE:
		return get_state(user);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations gds_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = gds_ioctl,
};

static struct miscdevice gds_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gds_exporter",
	.fops = &gds_fops,
	.mode = 0600,
};

static int __init gds_exporter_init(void)
{
	int ret;

	fence_context = dma_fence_context_alloc(1);
	fence_queue = alloc_workqueue("gds_exporter", WQ_UNBOUND, 0);
	if (!fence_queue)
		return -ENOMEM;
	ret = misc_register(&gds_device);
	if (ret)
		destroy_workqueue(fence_queue);
	return ret;
}
module_init(gds_exporter_init);

static void __exit gds_exporter_exit(void)
{
	misc_deregister(&gds_device);
	/* A fence outlives the buffer it was made for, and runs code of this module. */
	wait_var_event(&fences_pending, !atomic_read(&fences_pending));
	destroy_workqueue(fence_queue);
}
module_exit(gds_exporter_exit);

MODULE_DESCRIPTION("dma-buf exporter that misbehaves on request, for tests");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
