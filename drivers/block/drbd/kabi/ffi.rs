// SPDX-License-Identifier: GPL-2.0-only

//! The Rust half of `helpers.h`: declarations of the C functions that reach inline functions,
//! macros and opaque fields of the kernel. Nothing outside `kabi` may use it.

use kernel::{
    bindings,
    prelude::*, //
};

/// `struct crypto_shash`, which the kernel's bindings do not cover.
#[repr(C)]
pub(crate) struct CryptoShash {
    _opaque: [u8; 0],
}

/// `struct drbd_bdev_limits` of `helpers.h`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct BdevLimits {
    pub(crate) logical_block_bytes: u32,
    pub(crate) physical_block_bytes: u32,
    pub(crate) io_min_bytes: u32,
    pub(crate) io_opt_bytes: u32,
    pub(crate) alignment_offset_bytes: u32,
    pub(crate) max_hw_sectors: u32,
    pub(crate) max_discard_sectors: u32,
    pub(crate) discard_granularity_bytes: u32,
    pub(crate) discard_alignment_bytes: u32,
}

/// `struct drbd_genl_request` of `helpers.h`.
#[repr(C)]
pub(crate) struct GenlRequest {
    pub(crate) attrs: *const c_void,
    pub(crate) attrs_len: u32,
    pub(crate) cmd: u32,
    pub(crate) minor: u32,
    pub(crate) flags: u32,
    pub(crate) seq: u32,
    pub(crate) portid: u32,
    pub(crate) message_flags: u32,
}

#[allow(
    improper_ctypes,
    reason = "structures travel behind pointers only, as in the kernel's own bindings"
)]
unsafe extern "C" {
    pub(crate) fn drbd_helper_disk_alloc(
        lim: *mut bindings::queue_limits,
        key: *mut bindings::lock_class_key,
    ) -> *mut bindings::gendisk;
    pub(crate) fn drbd_helper_disk_prepare(
        disk: *mut bindings::gendisk,
        major: c_int,
        minor: c_int,
        fops: *const bindings::block_device_operations,
    );
    pub(crate) fn drbd_helper_disk_data(disk: *mut bindings::gendisk) -> *mut c_void;
    pub(crate) fn drbd_helper_bio_disk_data(bio: *mut bindings::bio) -> *mut c_void;
    pub(crate) fn drbd_helper_disk_set_data(disk: *mut bindings::gendisk, data: *mut c_void);
    pub(crate) fn drbd_helper_disk_get(disk: *mut bindings::gendisk);
    pub(crate) fn drbd_helper_disk_add(disk: *mut bindings::gendisk) -> c_int;
    pub(crate) fn drbd_helper_disk_capacity(disk: *mut bindings::gendisk) -> u64;
    pub(crate) fn drbd_helper_disk_change_event(disk: *mut bindings::gendisk);
    pub(crate) fn drbd_helper_limits_start(
        disk: *mut bindings::gendisk,
        out: *mut bindings::queue_limits,
    );
    pub(crate) fn drbd_helper_limits_commit(
        disk: *mut bindings::gendisk,
        lim: *mut bindings::queue_limits,
    ) -> c_int;
    pub(crate) fn drbd_helper_limits_cancel(disk: *mut bindings::gendisk);
    pub(crate) fn drbd_helper_register_blkdev(major: c_uint, name: *const c_char) -> c_int;
    pub(crate) fn drbd_helper_bdev_open(
        path: *const c_char,
        holder: *mut c_void,
    ) -> *mut bindings::file;
    pub(crate) fn drbd_helper_bdev_close(file: *mut bindings::file);
    pub(crate) fn drbd_helper_bdev_of(file: *mut bindings::file) -> *mut bindings::block_device;
    pub(crate) fn drbd_helper_bdev_sectors(bdev: *mut bindings::block_device) -> u64;
    pub(crate) fn drbd_helper_bdev_has_cache(bdev: *mut bindings::block_device) -> bool;
    pub(crate) fn drbd_helper_bdev_limits(bdev: *mut bindings::block_device, out: *mut BdevLimits);
    pub(crate) fn drbd_helper_bdev_discard(
        bdev: *mut bindings::block_device,
        sector: u64,
        sectors: u64,
    ) -> c_int;
    pub(crate) fn drbd_helper_bdev_zeroout(
        bdev: *mut bindings::block_device,
        sector: u64,
        sectors: u64,
        may_unmap: bool,
    ) -> c_int;
    pub(crate) fn drbd_helper_bio_clone(
        bdev: *mut bindings::block_device,
        source: *mut bindings::bio,
        bioset: *mut c_void,
    ) -> *mut bindings::bio;
    pub(crate) fn drbd_helper_bio_alloc(
        bdev: *mut bindings::block_device,
        opf: u32,
        bioset: *mut c_void,
    ) -> *mut bindings::bio;
    pub(crate) fn drbd_helper_bio_attach(
        bio: *mut bindings::bio,
        sector: u64,
        vec: *mut bindings::bio_vec,
        count: u16,
        len: u32,
    );
    pub(crate) fn drbd_helper_bio_hold(bio: *mut bindings::bio);
    pub(crate) fn drbd_helper_bio_set_errno(bio: *mut bindings::bio, errno: c_int);
    pub(crate) fn drbd_helper_bio_errno(bio: *mut bindings::bio) -> c_int;
    pub(crate) fn drbd_helper_bio_start_acct(bio: *mut bindings::bio, start: *mut c_ulong);
    pub(crate) fn drbd_helper_bio_end_acct(bio: *mut bindings::bio, start: c_ulong);
    pub(crate) fn drbd_helper_bioset_new(reserve: c_uint, front_pad: c_uint) -> *mut c_void;
    pub(crate) fn drbd_helper_bioset_free(bioset: *mut c_void);
    pub(crate) fn drbd_helper_page_try(order: c_uint) -> *mut bindings::page;
    pub(crate) fn drbd_helper_pool_page(
        pool: *mut bindings::mempool,
        may_sleep: bool,
    ) -> *mut bindings::page;
    pub(crate) fn drbd_helper_page_release(page: *mut bindings::page, pool: *mut bindings::mempool);
    pub(crate) fn drbd_helper_pool_lacks(pool: *mut bindings::mempool) -> bool;
    pub(crate) fn drbd_helper_page_address(page: *mut bindings::page) -> *mut c_void;
    pub(crate) fn drbd_helper_page_spliceable(
        page: *mut bindings::page,
        offset: u32,
        len: u32,
    ) -> bool;
    pub(crate) fn drbd_helper_page_pool(reserve: c_int) -> *mut bindings::mempool;
    pub(crate) fn drbd_helper_kmalloc_pool(reserve: c_int, size: usize) -> *mut bindings::mempool;
    pub(crate) fn drbd_helper_pool_alloc(
        pool: *mut bindings::mempool,
        may_sleep: bool,
    ) -> *mut c_void;
    pub(crate) fn drbd_helper_socket_new(family: c_int, out: *mut *mut bindings::socket) -> c_int;
    pub(crate) fn drbd_helper_socket_prepare(sock: *mut bindings::socket);
    pub(crate) fn drbd_helper_socket_bind(
        sock: *mut bindings::socket,
        addr: *mut c_void,
        len: c_int,
    ) -> c_int;
    pub(crate) fn drbd_helper_socket_connect(
        sock: *mut bindings::socket,
        addr: *mut c_void,
        len: c_int,
        flags: c_int,
    ) -> c_int;
    pub(crate) fn drbd_helper_socket_accept(
        listener: *mut bindings::socket,
        out: *mut *mut bindings::socket,
    ) -> c_int;
    pub(crate) fn drbd_helper_socket_buffers(sock: *mut bindings::socket, sndbuf: u32, rcvbuf: u32);
    pub(crate) fn drbd_helper_socket_timeouts(
        sock: *mut bindings::socket,
        receive_jiffies: c_long,
        send_jiffies: c_long,
    );
    pub(crate) fn drbd_helper_socket_nodelay(sock: *mut bindings::socket);
    pub(crate) fn drbd_helper_socket_delay_acks(sock: *mut bindings::socket);
    pub(crate) fn drbd_helper_socket_priority(sock: *mut bindings::socket, priority: u32);
    pub(crate) fn drbd_helper_socket_reuseaddr(sock: *mut bindings::socket);
    pub(crate) fn drbd_helper_socket_unacked(sock: *mut bindings::socket) -> u32;
    pub(crate) fn drbd_helper_socket_abort(sock: *mut bindings::socket);
    pub(crate) fn drbd_helper_socket_recv(
        sock: *mut bindings::socket,
        buf: *mut c_void,
        len: usize,
        flags: c_int,
    ) -> c_int;
    pub(crate) fn drbd_helper_socket_recv_bvec(
        sock: *mut bindings::socket,
        vec: *const bindings::bio_vec,
        count: usize,
        offset: usize,
        len: usize,
        flags: c_int,
    ) -> c_int;
    pub(crate) fn drbd_helper_socket_send(
        sock: *mut bindings::socket,
        buf: *const c_void,
        len: usize,
        flags: c_int,
    ) -> c_int;
    pub(crate) fn drbd_helper_socket_send_bvec(
        sock: *mut bindings::socket,
        vec: *const bindings::bio_vec,
        count: usize,
        offset: usize,
        len: usize,
        flags: c_int,
    ) -> c_int;
    pub(crate) fn drbd_helper_thread_create(
        run: unsafe extern "C" fn(*mut c_void) -> c_int,
        data: *mut c_void,
        name: *const c_char,
    ) -> *mut bindings::task_struct;
    pub(crate) fn drbd_helper_thread_should_stop() -> bool;
    pub(crate) fn drbd_helper_thread_allow_signals();
    pub(crate) fn drbd_helper_thread_realtime();
    pub(crate) fn drbd_helper_thread_affinity(mask: *const c_char) -> c_int;
    pub(crate) fn drbd_helper_signal_pending() -> bool;
    pub(crate) fn drbd_helper_flush_signals();
    pub(crate) fn drbd_helper_task_get(task: *mut bindings::task_struct);
    pub(crate) fn drbd_helper_task_put(task: *mut bindings::task_struct);
    pub(crate) fn drbd_helper_task_is_current(task: *mut bindings::task_struct) -> bool;
    pub(crate) fn drbd_helper_noio_save() -> c_uint;
    pub(crate) fn drbd_helper_noio_restore(flags: c_uint);
    pub(crate) fn drbd_helper_workqueue_new(
        name: *const c_char,
        ordered: bool,
    ) -> *mut bindings::workqueue_struct;
    pub(crate) fn drbd_helper_workqueue_flush(wq: *mut bindings::workqueue_struct);
    pub(crate) fn drbd_helper_timer_setup(
        timer: *mut bindings::timer_list,
        fire: unsafe extern "C" fn(*mut bindings::timer_list),
    );
    pub(crate) fn drbd_helper_jiffies() -> c_ulong;
    pub(crate) fn drbd_helper_ms_to_jiffies(ms: u32) -> c_ulong;
    pub(crate) fn drbd_helper_now_ns() -> u64;
    pub(crate) fn drbd_helper_module_get() -> bool;
    pub(super) fn drbd_helper_module_srcversion() -> *const c_char;
    pub(crate) fn drbd_helper_module_put();
    pub(crate) fn drbd_helper_hash_new(name: *const c_char) -> *mut CryptoShash;
    pub(crate) fn drbd_helper_hash_free(tfm: *mut CryptoShash);
    pub(crate) fn drbd_helper_hash_size(tfm: *mut CryptoShash) -> u32;
    pub(crate) fn drbd_helper_hash_set_key(
        tfm: *mut CryptoShash,
        key: *const u8,
        len: u32,
    ) -> c_int;
    pub(crate) fn drbd_helper_hash_desc_size(tfm: *mut CryptoShash) -> usize;
    pub(crate) fn drbd_helper_hash_init(tfm: *mut CryptoShash, desc: *mut c_void) -> c_int;
    pub(crate) fn drbd_helper_hash_update(
        desc: *mut c_void,
        data: *const c_void,
        len: u32,
    ) -> c_int;
    pub(crate) fn drbd_helper_hash_final(desc: *mut c_void, out: *mut u8) -> c_int;
    pub(crate) fn drbd_helper_crc32c(seed: u32, data: *const c_void, len: usize) -> u32;
    pub(crate) fn drbd_helper_equal(a: *const c_void, b: *const c_void, len: usize) -> bool;
    pub(crate) fn drbd_helper_genl_request(
        info: *const bindings::genl_info,
        out: *mut GenlRequest,
    ) -> bool;
    pub(crate) fn drbd_helper_genl_dump_info(
        cb: *mut bindings::netlink_callback,
    ) -> *const bindings::genl_info;
    pub(crate) fn drbd_helper_genl_family_of(
        info: *const bindings::genl_info,
    ) -> *mut bindings::genl_family;
    pub(crate) fn drbd_helper_genl_capable(
        request: *mut bindings::sk_buff,
        sys_admin: bool,
    ) -> bool;
    pub(crate) fn drbd_helper_genl_new(len: usize) -> *mut bindings::sk_buff;
    pub(crate) fn drbd_helper_genl_put(
        skb: *mut bindings::sk_buff,
        family: *const bindings::genl_family,
        portid: u32,
        seq: u32,
        flags: u32,
        cmd: u8,
        user_header: *const c_void,
        attrs: *const c_void,
        len: usize,
    ) -> c_int;
    pub(crate) fn drbd_helper_genl_reply(
        skb: *mut bindings::sk_buff,
        info: *mut bindings::genl_info,
    ) -> c_int;
    pub(crate) fn drbd_helper_genl_multicast(
        family: *const bindings::genl_family,
        skb: *mut bindings::sk_buff,
    ) -> c_int;
    pub(crate) fn drbd_helper_skb_len(skb: *const bindings::sk_buff) -> u32;
    pub(crate) fn drbd_helper_skb_free(skb: *mut bindings::sk_buff);
    pub(crate) fn drbd_helper_proc_new(
        name: *const c_char,
        show: unsafe extern "C" fn(*mut bindings::seq_file, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> bool;
    pub(crate) fn drbd_helper_proc_remove(name: *const c_char);
    pub(crate) fn drbd_helper_seq_private(seq: *mut bindings::seq_file) -> *mut c_void;
    pub(crate) fn drbd_helper_usermode(argv: *mut *mut c_char, envp: *mut *mut c_char) -> c_int;
    pub(crate) fn drbd_helper_param_minor_count() -> u32;
    pub(crate) fn drbd_helper_param_disable_sendpage() -> bool;
    pub(crate) fn drbd_helper_param_allow_oos() -> bool;
    pub(crate) fn drbd_helper_param_proc_details() -> c_int;
    pub(crate) fn drbd_helper_param_usermode_helper(out: *mut c_char, len: usize);
}
