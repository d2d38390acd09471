/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Prototypes of the C side of the driver: inline functions, macros and field
 * accessors that Rust cannot reach.  There is no logic here.  Every prototype
 * has its twin in kabi/ffi.rs; helpers.c includes this file, so the compiler
 * checks one half and a reviewer the other.
 */
#ifndef DRBD_KABI_HELPERS_H
#define DRBD_KABI_HELPERS_H

#include <linux/types.h>

struct bio;
struct bio_vec;
struct block_device;
struct block_device_operations;
struct crypto_shash;
struct file;
struct genl_family;
struct genl_info;
struct gendisk;
struct lock_class_key;
struct mempool;
struct module;
struct netlink_callback;
struct page;
struct queue_limits;
struct seq_file;
struct sk_buff;
struct socket;
struct task_struct;
struct timer_list;
struct workqueue_struct;

/* Block layer: disks */
struct gendisk *drbd_helper_disk_alloc(struct queue_limits *lim, struct lock_class_key *key);
void drbd_helper_disk_prepare(struct gendisk *disk, int major, int minor,
			      const struct block_device_operations *fops);
void *drbd_helper_disk_data(struct gendisk *disk);
void *drbd_helper_bio_disk_data(struct bio *bio);
void drbd_helper_disk_set_data(struct gendisk *disk, void *data);
void drbd_helper_disk_get(struct gendisk *disk);
int drbd_helper_disk_add(struct gendisk *disk);
u64 drbd_helper_disk_capacity(struct gendisk *disk);
void drbd_helper_disk_change_event(struct gendisk *disk);
void drbd_helper_limits_start(struct gendisk *disk, struct queue_limits *out);
int drbd_helper_limits_commit(struct gendisk *disk, struct queue_limits *lim);
void drbd_helper_limits_cancel(struct gendisk *disk);
int drbd_helper_register_blkdev(unsigned int major, const char *name);

/* Block layer: backing devices */
struct drbd_bdev_limits {
	u32 logical_block_bytes;
	u32 physical_block_bytes;
	u32 io_min_bytes;
	u32 io_opt_bytes;
	u32 alignment_offset_bytes;
	u32 max_hw_sectors;
	u32 max_discard_sectors;
	u32 discard_granularity_bytes;
	u32 discard_alignment_bytes;
};

struct file *drbd_helper_bdev_open(const char *path, void *holder);
void drbd_helper_bdev_close(struct file *file);
struct block_device *drbd_helper_bdev_of(struct file *file);
u64 drbd_helper_bdev_sectors(struct block_device *bdev);
bool drbd_helper_bdev_has_cache(struct block_device *bdev);
void drbd_helper_bdev_limits(struct block_device *bdev, struct drbd_bdev_limits *out);
int drbd_helper_bdev_discard(struct block_device *bdev, u64 sector, u64 sectors);
int drbd_helper_bdev_zeroout(struct block_device *bdev, u64 sector, u64 sectors, bool may_unmap);

/* Block layer: bios */
struct bio *drbd_helper_bio_clone(struct block_device *bdev, struct bio *source, void *bioset);
struct bio *drbd_helper_bio_alloc(struct block_device *bdev, u32 opf, void *bioset);
void drbd_helper_bio_attach(struct bio *bio, u64 sector, struct bio_vec *vec, u16 count, u32 len);
void drbd_helper_bio_hold(struct bio *bio);
void drbd_helper_bio_set_errno(struct bio *bio, int errno);
int drbd_helper_bio_errno(struct bio *bio);
void drbd_helper_bio_start_acct(struct bio *bio, unsigned long *start);
void drbd_helper_bio_end_acct(struct bio *bio, unsigned long start);
void *drbd_helper_bioset_new(unsigned int reserve, unsigned int front_pad);
void drbd_helper_bioset_free(void *bioset);

/* Pages */
struct page *drbd_helper_page_try(unsigned int order);
struct page *drbd_helper_pool_page(struct mempool *pool, bool may_sleep);
void drbd_helper_page_release(struct page *page, struct mempool *pool);
bool drbd_helper_pool_lacks(struct mempool *pool);
void *drbd_helper_page_address(struct page *page);
bool drbd_helper_page_spliceable(struct page *page, u32 offset, u32 len);
struct mempool *drbd_helper_page_pool(int reserve);
struct mempool *drbd_helper_kmalloc_pool(int reserve, size_t size);
void *drbd_helper_pool_alloc(struct mempool *pool, bool may_sleep);

/* Sockets */
int drbd_helper_socket_new(int family, struct socket **out);
void drbd_helper_socket_prepare(struct socket *sock);
int drbd_helper_socket_bind(struct socket *sock, void *addr, int len);
int drbd_helper_socket_connect(struct socket *sock, void *addr, int len, int flags);
int drbd_helper_socket_accept(struct socket *listener, struct socket **out);
void drbd_helper_socket_buffers(struct socket *sock, u32 sndbuf, u32 rcvbuf);
void drbd_helper_socket_timeouts(struct socket *sock, long receive_jiffies, long send_jiffies);
void drbd_helper_socket_nodelay(struct socket *sock);
void drbd_helper_socket_delay_acks(struct socket *sock);
void drbd_helper_socket_priority(struct socket *sock, u32 priority);
void drbd_helper_socket_reuseaddr(struct socket *sock);
u32 drbd_helper_socket_unacked(struct socket *sock);
void drbd_helper_socket_abort(struct socket *sock);
int drbd_helper_socket_recv(struct socket *sock, void *buf, size_t len, int flags);
int drbd_helper_socket_recv_bvec(struct socket *sock, const struct bio_vec *vec, size_t count,
				 size_t offset, size_t len, int flags);
int drbd_helper_socket_send(struct socket *sock, const void *buf, size_t len, int flags);
int drbd_helper_socket_send_bvec(struct socket *sock, const struct bio_vec *vec, size_t count,
				 size_t offset, size_t len, int flags);

/* Tasks, work queues, waiting, time */
struct task_struct *drbd_helper_thread_create(int (*run)(void *), void *data, const char *name);
bool drbd_helper_thread_should_stop(void);
void drbd_helper_thread_allow_signals(void);
void drbd_helper_thread_realtime(void);
int drbd_helper_thread_affinity(const char *mask);
bool drbd_helper_signal_pending(void);
void drbd_helper_flush_signals(void);
void drbd_helper_task_get(struct task_struct *task);
void drbd_helper_task_put(struct task_struct *task);
bool drbd_helper_task_is_current(struct task_struct *task);
unsigned int drbd_helper_noio_save(void);
void drbd_helper_noio_restore(unsigned int flags);
struct workqueue_struct *drbd_helper_workqueue_new(const char *name, bool ordered);
void drbd_helper_workqueue_flush(struct workqueue_struct *wq);
void drbd_helper_timer_setup(struct timer_list *timer, void (*fire)(struct timer_list *));
unsigned long drbd_helper_jiffies(void);
unsigned long drbd_helper_ms_to_jiffies(u32 ms);
u64 drbd_helper_now_ns(void);
bool drbd_helper_module_get(void);
void drbd_helper_module_put(void);
const char *drbd_helper_module_srcversion(void);

/* Digests */
struct crypto_shash *drbd_helper_hash_new(const char *name);
void drbd_helper_hash_free(struct crypto_shash *tfm);
u32 drbd_helper_hash_size(struct crypto_shash *tfm);
int drbd_helper_hash_set_key(struct crypto_shash *tfm, const u8 *key, u32 len);
size_t drbd_helper_hash_desc_size(struct crypto_shash *tfm);
int drbd_helper_hash_init(struct crypto_shash *tfm, void *desc);
int drbd_helper_hash_update(void *desc, const void *data, u32 len);
int drbd_helper_hash_final(void *desc, u8 *out);
u32 drbd_helper_crc32c(u32 seed, const void *data, size_t len);
bool drbd_helper_equal(const void *a, const void *b, size_t len);

/* Generic netlink */
struct drbd_genl_request {
	const void *attrs;
	u32 attrs_len;
	u32 cmd;
	u32 minor;
	u32 flags;
	u32 seq;
	u32 portid;
	u32 message_flags;
};

bool drbd_helper_genl_request(const struct genl_info *info, struct drbd_genl_request *out);
const struct genl_info *drbd_helper_genl_dump_info(struct netlink_callback *cb);
struct genl_family *drbd_helper_genl_family_of(const struct genl_info *info);
bool drbd_helper_genl_capable(struct sk_buff *request, bool sys_admin);
struct sk_buff *drbd_helper_genl_new(size_t len);
int drbd_helper_genl_put(struct sk_buff *skb, const struct genl_family *family, u32 portid, u32 seq,
			 u32 flags, u8 cmd, const void *user_header, const void *attrs,
			 size_t len);
int drbd_helper_genl_reply(struct sk_buff *skb, struct genl_info *info);
int drbd_helper_genl_multicast(const struct genl_family *family, struct sk_buff *skb);
u32 drbd_helper_skb_len(const struct sk_buff *skb);
void drbd_helper_skb_free(struct sk_buff *skb);

/* /proc, user-mode helper, parameters */
bool drbd_helper_proc_new(const char *name, int (*show)(struct seq_file *, void *), void *data);
void drbd_helper_proc_remove(const char *name);
void *drbd_helper_seq_private(struct seq_file *seq);
int drbd_helper_usermode(char **argv, char **envp);
u32 drbd_helper_param_minor_count(void);
bool drbd_helper_param_disable_sendpage(void);
bool drbd_helper_param_allow_oos(void);
int drbd_helper_param_proc_details(void);
void drbd_helper_param_usermode_helper(char *out, size_t len);

#endif
