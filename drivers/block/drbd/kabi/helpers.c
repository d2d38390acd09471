// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inline functions, macros and field accessors for the Rust side, see
 * helpers.h.  Each function does what its name says and decides nothing.
 */

#include <linux/bio.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/crc32.h>
#include <linux/file.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/net.h>
#include <linux/proc_fs.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <linux/timekeeping.h>
#include <linux/timer.h>
#include <linux/uio.h>
#include <linux/umh.h>
#include <linux/workqueue.h>
#include <crypto/hash.h>
#include <crypto/utils.h>
#include <net/genetlink.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "helpers.h"

/* Constants that the Rust side repeats because bindgen loses them. */
static_assert(REQ_OP_READ == 0 && REQ_OP_WRITE == 1 && REQ_OP_FLUSH == 2);
static_assert(REQ_OP_DISCARD == 3 && REQ_OP_WRITE_ZEROES == 9);
static_assert(BLK_FEAT_WRITE_CACHE == 1u << 0 && BLK_FEAT_FUA == 1u << 1);
static_assert(BLK_FEAT_ROTATIONAL == 1u << 2 && BLK_FEAT_IO_STAT == 1u << 4);
static_assert(BLK_FEAT_STABLE_WRITES == 1u << 5);
static_assert(BLK_OPEN_READ == 1 && BLK_OPEN_WRITE == 2);
static_assert(MSG_PEEK == 2 && MSG_DONTWAIT == 0x40 && MSG_WAITALL == 0x100);
static_assert(MSG_NOSIGNAL == 0x4000 && MSG_MORE == 0x8000 && MSG_SPLICE_PAGES == 0x8000000);

/* Block layer: disks */

struct gendisk *drbd_helper_disk_alloc(struct queue_limits *lim, struct lock_class_key *key)
{
	return __blk_alloc_disk(lim, NUMA_NO_NODE, key);
}

void drbd_helper_disk_prepare(struct gendisk *disk, int major, int minor,
			      const struct block_device_operations *fops)
{
	disk->major = major;
	disk->first_minor = minor;
	disk->minors = 1;
	disk->flags |= GENHD_FL_NO_PART;
	disk->fops = fops;
	snprintf(disk->disk_name, sizeof(disk->disk_name), "drbd%d", minor);
}

void *drbd_helper_disk_data(struct gendisk *disk)
{
	return disk->private_data;
}

void *drbd_helper_bio_disk_data(struct bio *bio)
{
	return bio->bi_bdev->bd_disk->private_data;
}

void drbd_helper_disk_set_data(struct gendisk *disk, void *data)
{
	disk->private_data = data;
}

void drbd_helper_disk_get(struct gendisk *disk)
{
	get_device(disk_to_dev(disk));
}

int drbd_helper_disk_add(struct gendisk *disk)
{
	return add_disk(disk);
}

u64 drbd_helper_disk_capacity(struct gendisk *disk)
{
	return get_capacity(disk);
}

void drbd_helper_disk_change_event(struct gendisk *disk)
{
	kobject_uevent(&disk_to_dev(disk)->kobj, KOBJ_CHANGE);
}

void drbd_helper_limits_start(struct gendisk *disk, struct queue_limits *out)
{
	*out = queue_limits_start_update(disk->queue);
}

int drbd_helper_limits_commit(struct gendisk *disk, struct queue_limits *lim)
{
	return queue_limits_commit_update(disk->queue, lim);
}

void drbd_helper_limits_cancel(struct gendisk *disk)
{
	queue_limits_cancel_update(disk->queue);
}

int drbd_helper_register_blkdev(unsigned int major, const char *name)
{
	return register_blkdev(major, name);
}

/* Block layer: backing devices */

struct file *drbd_helper_bdev_open(const char *path, void *holder)
{
	return bdev_file_open_by_path(path, BLK_OPEN_READ | BLK_OPEN_WRITE, holder, NULL);
}

void drbd_helper_bdev_close(struct file *file)
{
	bdev_fput(file);
}

struct block_device *drbd_helper_bdev_of(struct file *file)
{
	return file_bdev(file);
}

u64 drbd_helper_bdev_sectors(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}

bool drbd_helper_bdev_has_cache(struct block_device *bdev)
{
	return bdev_write_cache(bdev);
}

void drbd_helper_bdev_limits(struct block_device *bdev, struct drbd_bdev_limits *out)
{
	struct queue_limits *lim = &bdev->bd_disk->queue->limits;

	*out = (struct drbd_bdev_limits) {
		.logical_block_bytes = lim->logical_block_size,
		.physical_block_bytes = lim->physical_block_size,
		.io_min_bytes = lim->io_min,
		.io_opt_bytes = lim->io_opt,
		.alignment_offset_bytes = lim->alignment_offset,
		.max_hw_sectors = lim->max_hw_sectors,
		.max_discard_sectors = bdev_max_discard_sectors(bdev),
		.discard_granularity_bytes = bdev_discard_granularity(bdev),
		.discard_alignment_bytes = bdev_discard_alignment(bdev),
	};
}

int drbd_helper_bdev_discard(struct block_device *bdev, u64 sector, u64 sectors)
{
	return blkdev_issue_discard(bdev, sector, sectors, GFP_NOIO);
}

int drbd_helper_bdev_zeroout(struct block_device *bdev, u64 sector, u64 sectors, bool may_unmap)
{
	return blkdev_issue_zeroout(bdev, sector, sectors, GFP_NOIO,
				    may_unmap ? 0 : BLKDEV_ZERO_NOUNMAP);
}

/* Block layer: bios */

struct bio *drbd_helper_bio_clone(struct block_device *bdev, struct bio *source, void *bioset)
{
	return bio_alloc_clone(bdev, source, GFP_NOIO, bioset);
}

struct bio *drbd_helper_bio_alloc(struct block_device *bdev, u32 opf, void *bioset)
{
	return bio_alloc_bioset(bdev, 0, opf, GFP_NOIO, bioset);
}

/* The vector belongs to the caller, as with a clone. */
void drbd_helper_bio_attach(struct bio *bio, u64 sector, struct bio_vec *vec, u16 count, u32 len)
{
	bio_set_flag(bio, BIO_CLONED);
	bio->bi_io_vec = vec;
	bio->bi_vcnt = count;
	bio->bi_iter.bi_sector = sector;
	bio->bi_iter.bi_size = len;
	bio->bi_iter.bi_idx = 0;
}

void drbd_helper_bio_hold(struct bio *bio)
{
	bio_inc_remaining(bio);
}

void drbd_helper_bio_set_errno(struct bio *bio, int errno)
{
	bio->bi_status = errno_to_blk_status(errno);
}

int drbd_helper_bio_errno(struct bio *bio)
{
	return blk_status_to_errno(bio->bi_status);
}

void drbd_helper_bio_start_acct(struct bio *bio, unsigned long *start)
{
	*start = bio_start_io_acct(bio);
}

void drbd_helper_bio_end_acct(struct bio *bio, unsigned long start)
{
	bio_end_io_acct(bio, start);
}

void *drbd_helper_bioset_new(unsigned int reserve, unsigned int front_pad)
{
	struct bio_set *set = kzalloc(sizeof(*set), GFP_KERNEL);

	if (set && bioset_init(set, reserve, front_pad, 0)) {
		kfree(set);
		return NULL;
	}
	return set;
}

void drbd_helper_bioset_free(void *bioset)
{
	bioset_exit(bioset);
	kfree(bioset);
}

/* Pages */

struct page *drbd_helper_page_try(unsigned int order)
{
	gfp_t gfp = __GFP_NORETRY | __GFP_NOWARN | __GFP_NOMEMALLOC;

	if (order)
		gfp |= __GFP_COMP;
	return alloc_pages(gfp | __GFP_KSWAPD_RECLAIM, order);
}

struct page *drbd_helper_pool_page(struct mempool *pool, bool may_sleep)
{
	return mempool_alloc(pool, may_sleep ? GFP_NOIO : GFP_NOWAIT);
}

void drbd_helper_page_release(struct page *page, struct mempool *pool)
{
	if (!PageCompound(page) && page_count(page) == 1)
		mempool_free(page, pool);
	else
		put_page(page);
}

bool drbd_helper_pool_lacks(struct mempool *pool)
{
	return !mempool_is_saturated(pool);
}

void *drbd_helper_page_address(struct page *page)
{
	return page_address(page);
}

bool drbd_helper_page_spliceable(struct page *page, u32 offset, u32 len)
{
	return sendpages_ok(page, len, offset);
}

struct mempool *drbd_helper_page_pool(int reserve)
{
	return mempool_create_page_pool(reserve, 0);
}

struct mempool *drbd_helper_kmalloc_pool(int reserve, size_t size)
{
	return mempool_create_kmalloc_pool(reserve, size);
}

void *drbd_helper_pool_alloc(struct mempool *pool, bool may_sleep)
{
	return mempool_alloc(pool, may_sleep ? GFP_NOIO : GFP_NOWAIT);
}

/* Sockets */

int drbd_helper_socket_new(int family, struct socket **out)
{
	return sock_create_kern(&init_net, family, SOCK_STREAM, IPPROTO_TCP, out);
}

/* Memory for this socket is on the write-out path: no I/O to get it. */
void drbd_helper_socket_prepare(struct socket *sock)
{
	sock->sk->sk_allocation = GFP_NOIO;
	sock->sk->sk_use_task_frag = false;
}

int drbd_helper_socket_bind(struct socket *sock, void *addr, int len)
{
	return kernel_bind(sock, addr, len);
}

int drbd_helper_socket_connect(struct socket *sock, void *addr, int len, int flags)
{
	return kernel_connect(sock, addr, len, flags);
}

int drbd_helper_socket_accept(struct socket *listener, struct socket **out)
{
	return kernel_accept(listener, out, 0);
}

void drbd_helper_socket_buffers(struct socket *sock, u32 sndbuf, u32 rcvbuf)
{
	struct sock *sk = sock->sk;

	if (sndbuf) {
		WRITE_ONCE(sk->sk_sndbuf, sndbuf);
		sk->sk_userlocks |= SOCK_SNDBUF_LOCK;
	}
	if (rcvbuf) {
		WRITE_ONCE(sk->sk_rcvbuf, rcvbuf);
		sk->sk_userlocks |= SOCK_RCVBUF_LOCK;
	}
}

void drbd_helper_socket_timeouts(struct socket *sock, long receive_jiffies, long send_jiffies)
{
	if (receive_jiffies)
		WRITE_ONCE(sock->sk->sk_rcvtimeo, receive_jiffies);
	if (send_jiffies)
		WRITE_ONCE(sock->sk->sk_sndtimeo, send_jiffies);
}

void drbd_helper_socket_nodelay(struct socket *sock)
{
	tcp_sock_set_nodelay(sock->sk);
}

void drbd_helper_socket_delay_acks(struct socket *sock)
{
	tcp_sock_set_quickack(sock->sk, 0);
}

void drbd_helper_socket_priority(struct socket *sock, u32 priority)
{
	sock_set_priority(sock->sk, priority);
}

void drbd_helper_socket_reuseaddr(struct socket *sock)
{
	sock_set_reuseaddr(sock->sk);
}

/* What the peer has not acknowledged, in bytes; a FIN is none. */
u32 drbd_helper_socket_unacked(struct socket *sock)
{
	struct sock *sk = sock->sk;
	u32 unacked;

	lock_sock(sk);
	unacked = tcp_sk(sk)->write_seq - tcp_sk(sk)->snd_una;
	if (unacked && (sk->sk_shutdown & SEND_SHUTDOWN))
		unacked--;
	release_sock(sk);
	return unacked;
}

/* Nothing is sent any more, not even what waits to be sent again. */
void drbd_helper_socket_abort(struct socket *sock)
{
	tcp_abort(sock->sk, ECONNABORTED);
}

int drbd_helper_socket_recv(struct socket *sock, void *buf, size_t len, int flags)
{
	struct msghdr msg = { .msg_flags = flags };
	struct kvec vec = { .iov_base = buf, .iov_len = len };

	return kernel_recvmsg(sock, &msg, &vec, 1, len, flags);
}

int drbd_helper_socket_recv_bvec(struct socket *sock, const struct bio_vec *vec, size_t count,
				 size_t offset, size_t len, int flags)
{
	struct msghdr msg = { .msg_flags = flags };

	iov_iter_bvec(&msg.msg_iter, ITER_DEST, vec, count, offset + len);
	iov_iter_advance(&msg.msg_iter, offset);
	return sock_recvmsg(sock, &msg, flags);
}

int drbd_helper_socket_send(struct socket *sock, const void *buf, size_t len, int flags)
{
	struct msghdr msg = { .msg_flags = flags };
	struct kvec vec = { .iov_base = (void *)buf, .iov_len = len };

	return kernel_sendmsg(sock, &msg, &vec, 1, len);
}

int drbd_helper_socket_send_bvec(struct socket *sock, const struct bio_vec *vec, size_t count,
				 size_t offset, size_t len, int flags)
{
	struct msghdr msg = { .msg_flags = flags };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, vec, count, offset + len);
	iov_iter_advance(&msg.msg_iter, offset);
	return sock_sendmsg(sock, &msg);
}

/* Tasks, work queues, waiting, time */

struct task_struct *drbd_helper_thread_create(int (*run)(void *), void *data, const char *name)
{
	return kthread_create(run, data, "%s", name);
}

bool drbd_helper_thread_should_stop(void)
{
	/* Other tasks have no place where the answer would be. */
	return (current->flags & PF_KTHREAD) && kthread_should_stop();
}

void drbd_helper_thread_allow_signals(void)
{
	allow_signal(SIGHUP);
	allow_signal(SIGXCPU);
}

void drbd_helper_thread_realtime(void)
{
	sched_set_fifo_low(current);
}

void drbd_helper_flush_signals(void)
{
	flush_signals(current);
}

int drbd_helper_thread_affinity(const char *mask)
{
	cpumask_var_t cpus;
	int parsed, err;

	if (!zalloc_cpumask_var(&cpus, GFP_KERNEL))
		return -ENOMEM;
	/* Of a mask that is too long the groups that fit have been read. */
	parsed = mask[0] ? cpumask_parse(mask, cpus) : 0;
	if (parsed && parsed != -EOVERFLOW) {
		free_cpumask_var(cpus);
		return parsed;
	}
	if (!cpumask_and(cpus, cpus, cpu_possible_mask))
		cpumask_copy(cpus, cpu_possible_mask);
	err = set_cpus_allowed_ptr(current, cpus);
	/* None of them is online. */
	if (err == -EINVAL)
		err = set_cpus_allowed_ptr(current, cpu_possible_mask);
	free_cpumask_var(cpus);
	return err ? err : parsed;
}

bool drbd_helper_signal_pending(void)
{
	return signal_pending(current);
}

void drbd_helper_task_get(struct task_struct *task)
{
	get_task_struct(task);
}

void drbd_helper_task_put(struct task_struct *task)
{
	put_task_struct(task);
}

bool drbd_helper_task_is_current(struct task_struct *task)
{
	return task == current;
}

unsigned int drbd_helper_noio_save(void)
{
	return memalloc_noio_save();
}

void drbd_helper_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

struct workqueue_struct *drbd_helper_workqueue_new(const char *name, bool ordered)
{
	if (ordered)
		return alloc_ordered_workqueue("%s", WQ_MEM_RECLAIM, name);
	return alloc_workqueue("%s", WQ_MEM_RECLAIM | WQ_UNBOUND, 0, name);
}

void drbd_helper_workqueue_flush(struct workqueue_struct *wq)
{
	flush_workqueue(wq);
}

void drbd_helper_timer_setup(struct timer_list *timer, void (*fire)(struct timer_list *))
{
	timer_setup(timer, fire, 0);
}

unsigned long drbd_helper_jiffies(void)
{
	return jiffies;
}

unsigned long drbd_helper_ms_to_jiffies(u32 ms)
{
	return msecs_to_jiffies(ms);
}

u64 drbd_helper_now_ns(void)
{
	return ktime_get_ns();
}

bool drbd_helper_module_get(void)
{
	return try_module_get(THIS_MODULE);
}

const char *drbd_helper_module_srcversion(void)
{
	return THIS_MODULE->srcversion ? THIS_MODULE->srcversion : "";
}

void drbd_helper_module_put(void)
{
	module_put(THIS_MODULE);
}

/* Digests */

struct crypto_shash *drbd_helper_hash_new(const char *name)
{
	return crypto_alloc_shash(name, 0, 0);
}

void drbd_helper_hash_free(struct crypto_shash *tfm)
{
	crypto_free_shash(tfm);
}

u32 drbd_helper_hash_size(struct crypto_shash *tfm)
{
	return crypto_shash_digestsize(tfm);
}

int drbd_helper_hash_set_key(struct crypto_shash *tfm, const u8 *key, u32 len)
{
	return crypto_shash_setkey(tfm, key, len);
}

size_t drbd_helper_hash_desc_size(struct crypto_shash *tfm)
{
	return sizeof(struct shash_desc) + crypto_shash_descsize(tfm);
}

int drbd_helper_hash_init(struct crypto_shash *tfm, void *desc)
{
	((struct shash_desc *)desc)->tfm = tfm;
	return crypto_shash_init(desc);
}

int drbd_helper_hash_update(void *desc, const void *data, u32 len)
{
	return crypto_shash_update(desc, data, len);
}

int drbd_helper_hash_final(void *desc, u8 *out)
{
	return crypto_shash_final(desc, out);
}

u32 drbd_helper_crc32c(u32 seed, const void *data, size_t len)
{
	return crc32c(seed, data, len);
}

bool drbd_helper_equal(const void *a, const void *b, size_t len)
{
	return !crypto_memneq(a, b, len);
}

/* Generic netlink */

/* The user header of the family: minor, and flags or return code. */
struct drbd_user_header {
	__u32 minor;
	__u32 word;
};

bool drbd_helper_genl_request(const struct genl_info *info, struct drbd_genl_request *out)
{
	const struct drbd_user_header *header = genl_info_userhdr(info);
	u32 offset = GENL_HDRLEN + sizeof(*header);
	u32 len = nlmsg_len(info->nlhdr);

	if (len < offset)
		return false;
	*out = (struct drbd_genl_request) {
		.attrs = (const u8 *)nlmsg_data(info->nlhdr) + offset,
		.attrs_len = len - offset,
		.cmd = info->genlhdr->cmd,
		.minor = header->minor,
		.flags = header->word,
		.seq = info->snd_seq,
		.portid = info->snd_portid,
		.message_flags = info->nlhdr->nlmsg_flags,
	};
	return true;
}

const struct genl_info *drbd_helper_genl_dump_info(struct netlink_callback *cb)
{
	return genl_info_dump(cb);
}

struct genl_family *drbd_helper_genl_family_of(const struct genl_info *info)
{
	return (struct genl_family *)info->family;
}

bool drbd_helper_genl_capable(struct sk_buff *request, bool sys_admin)
{
	int cap = sys_admin ? CAP_SYS_ADMIN : CAP_NET_ADMIN;

	return netlink_capable(request, cap);
}

struct sk_buff *drbd_helper_genl_new(size_t len)
{
	return genlmsg_new(sizeof(struct drbd_user_header) + len, GFP_KERNEL);
}

int drbd_helper_genl_put(struct sk_buff *skb, const struct genl_family *family, u32 portid, u32 seq,
			 u32 flags, u8 cmd, const void *user_header, const void *attrs,
			 size_t len)
{
	void *header = genlmsg_put(skb, portid, seq, family, flags, cmd);

	if (!header)
		return -EMSGSIZE;
	if (len > skb_tailroom(skb)) {
		genlmsg_cancel(skb, header);
		return -EMSGSIZE;
	}
	memcpy(header, user_header, sizeof(struct drbd_user_header));
	skb_put_data(skb, attrs, len);
	genlmsg_end(skb, header);
	return 0;
}

int drbd_helper_genl_reply(struct sk_buff *skb, struct genl_info *info)
{
	return genlmsg_reply(skb, info);
}

int drbd_helper_genl_multicast(const struct genl_family *family, struct sk_buff *skb)
{
	return genlmsg_multicast(family, skb, 0, 0, GFP_KERNEL);
}

u32 drbd_helper_skb_len(const struct sk_buff *skb)
{
	return skb->len;
}

void drbd_helper_skb_free(struct sk_buff *skb)
{
	nlmsg_free(skb);
}

/* /proc, user-mode helper, parameters */

bool drbd_helper_proc_new(const char *name, int (*show)(struct seq_file *, void *), void *data)
{
	return proc_create_single_data(name, 0444, NULL, show, data);
}

void drbd_helper_proc_remove(const char *name)
{
	remove_proc_entry(name, NULL);
}

void *drbd_helper_seq_private(struct seq_file *seq)
{
	return seq->private;
}

int drbd_helper_usermode(char **argv, char **envp)
{
	return call_usermodehelper(argv[0], argv, envp, UMH_WAIT_PROC);
}

static unsigned int minor_count = 32;
static bool disable_sendpage;
static bool allow_oos;
static int proc_details;
static char usermode_helper[80] = "/sbin/drbdadm";

module_param(minor_count, uint, 0444);
MODULE_PARM_DESC(minor_count, "Sizes the memory pools: 256 requests for each device (1 to 255)");
module_param(disable_sendpage, bool, 0644);
MODULE_PARM_DESC(disable_sendpage, "Copy all data into the socket instead of passing pages");
module_param(allow_oos, bool, 0);
MODULE_PARM_DESC(allow_oos, "Permit opening a secondary read-only; its data may be stale");
module_param(proc_details, int, 0644);
MODULE_PARM_DESC(proc_details, "Verbosity of /proc/drbd");
module_param_string(usermode_helper, usermode_helper, sizeof(usermode_helper), 0644);
MODULE_PARM_DESC(usermode_helper, "Program that is started for event handlers");

MODULE_VERSION("8.4.11");
MODULE_ALIAS_BLOCKDEV_MAJOR(147);

u32 drbd_helper_param_minor_count(void)
{
	return minor_count;
}

bool drbd_helper_param_disable_sendpage(void)
{
	return READ_ONCE(disable_sendpage);
}

bool drbd_helper_param_allow_oos(void)
{
	return READ_ONCE(allow_oos);
}

int drbd_helper_param_proc_details(void)
{
	return READ_ONCE(proc_details);
}

void drbd_helper_param_usermode_helper(char *out, size_t len)
{
	kernel_param_lock(THIS_MODULE);
	strscpy(out, usermode_helper, len);
	kernel_param_unlock(THIS_MODULE);
}
