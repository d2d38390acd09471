// SPDX-License-Identifier: GPL-2.0-only

//! The generic netlink family `drbd`, version 1, with the multicast group `events`
//! (reference/netlink.md 1).
//!
//! Attributes are passed on as raw bytes: the kernel checks nothing, the driver's own reader does.

use super::ffi;
use core::marker::PhantomData;
use kernel::{
    bindings,
    container_of,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        MutexGuard, //
    },
    types::Opaque, //
};

const ADMIN_PERM: u8 = 1;
const NLM_F_EXCL: u32 = 0x200;
const NLM_F_MULTI: u32 = 2;
/// Commands below this number are not checked for reserved header fields.
const FIRST_CHECKED_COMMAND: u8 = 42;
const USER_HEADER_LEN: usize = 8;

/// One command of the family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    /// Its number.
    pub(crate) number: u8,
    /// It answers single requests.
    pub(crate) doit: bool,
    /// It answers dump requests.
    pub(crate) dump: bool,
    /// It needs `CAP_NET_ADMIN`.
    pub(crate) admin: bool,
}

/// What the family does. All functions may sleep and run under the generic netlink lock.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The commands.
    const COMMANDS: &'static [Command];

    /// Handles a request; the answer goes out with [`Request::reply`].
    ///
    /// # Errors
    ///
    /// The sender gets an `NLMSG_ERROR` with the error.
    fn doit(&self, request: &Request<'_>, lock: FamilyLock<'_>) -> Result;

    /// Writes some of the messages of a dump. It is called again, with the same
    /// [`Dump::state`], until it writes nothing.
    ///
    /// # Errors
    ///
    /// Ends the dump with the error.
    fn dump(&self, request: &Request<'_>, dump: &mut Dump<'_>) -> Result;
}

/// A message from user space.
pub(crate) struct Request<'a> {
    raw: ffi::GenlRequest,
    skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
    _life: PhantomData<&'a ()>,
}

impl Request<'_> {
    /// Number of the command.
    pub(crate) fn command(&self) -> u8 {
        self.raw.cmd as u8
    }

    /// The minor number of the user header.
    pub(crate) fn minor(&self) -> u32 {
        self.raw.minor
    }

    /// The flags of the user header.
    pub(crate) fn flags(&self) -> u32 {
        self.raw.flags
    }

    /// Whether the sender wants an error if the object exists already (`NLM_F_EXCL`).
    pub(crate) fn exclusive(&self) -> bool {
        self.raw.message_flags & NLM_F_EXCL != 0
    }

    /// The attributes: everything behind the user header, not checked.
    pub(crate) fn attrs(&self) -> &[u8] {
        if self.raw.attrs_len == 0 {
            return &[];
        }
        // SAFETY: The message is valid as long as the request.
        unsafe { core::slice::from_raw_parts(self.raw.attrs.cast(), self.raw.attrs_len as usize) }
    }

    /// Whether the sender, and whoever opened its socket, has `CAP_NET_ADMIN`.
    pub(crate) fn may_admin_network(&self) -> bool {
        // SAFETY: The message is valid as long as the request.
        unsafe { ffi::drbd_helper_genl_capable(self.skb, false) }
    }

    /// Whether the sender, and whoever opened its socket, has `CAP_SYS_ADMIN`.
    pub(crate) fn may_admin_system(&self) -> bool {
        // SAFETY: The message is valid as long as the request.
        unsafe { ffi::drbd_helper_genl_capable(self.skb, true) }
    }

    /// Sends the answer: same command and sequence number. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or the receiver is gone.
    pub(crate) fn reply(&self, minor: u32, ret_code: i32, attrs: &[u8]) -> Result {
        // SAFETY: The information is valid as long as the request.
        let family = unsafe { ffi::drbd_helper_genl_family_of(self.info) };
        let message = Message {
            command: self.command(),
            portid: self.raw.portid,
            sequence: self.raw.seq,
            flags: 0,
            minor,
            ret_code,
        };
        let skb = message.build(family, attrs)?;
        // SAFETY: The call takes the message over, whatever happens.
        to_result(unsafe { ffi::drbd_helper_genl_reply(skb, self.info) })
    }
}

/// The generic netlink lock, which the kernel holds for a request.
///
/// # Invariants
///
/// It exists only during [`Handler::doit`], once, and the lock is held by this task.
pub(crate) struct FamilyLock<'a> {
    /// Belongs to the task, and to this call.
    _call: PhantomData<&'a *mut ()>,
}

impl FamilyLock<'_> {
    /// Releases the lock while `f` runs, for commands that take long: other requests are handled
    /// meanwhile. May sleep.
    pub(crate) fn released<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariant it is held. `f` cannot come here again: this value is
        // borrowed.
        unsafe { bindings::genl_unlock() };
        let result = f();
        // SAFETY: The caller of our callback expects it to be held afterwards.
        unsafe { bindings::genl_lock() };
        result
    }
}

/// Header fields of a message to user space.
struct Message {
    command: u8,
    portid: u32,
    sequence: u32,
    flags: u32,
    minor: u32,
    ret_code: i32,
}

impl Message {
    fn build(
        &self,
        family: *const bindings::genl_family,
        attrs: &[u8],
    ) -> Result<*mut bindings::sk_buff> {
        // SAFETY: A plain constructor.
        let skb = unsafe { ffi::drbd_helper_genl_new(attrs.len()) };
        if skb.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The message is new; the family is registered.
        let result = unsafe { self.put(skb, family, attrs) };
        if result.is_err() {
            // SAFETY: The message is ours.
            unsafe { ffi::drbd_helper_skb_free(skb) };
        }
        result.map(|()| skb)
    }

    /// Appends the message to `skb`.
    ///
    /// # Safety
    ///
    /// Both pointers are valid, `skb` is ours to write.
    unsafe fn put(
        &self,
        skb: *mut bindings::sk_buff,
        family: *const bindings::genl_family,
        attrs: &[u8],
    ) -> Result {
        let mut header = [0; USER_HEADER_LEN];
        let (minor, word) = header.split_at_mut(4);
        minor.copy_from_slice(&self.minor.to_ne_bytes());
        word.copy_from_slice(&self.ret_code.to_ne_bytes());
        // SAFETY: By the contract of the function; both slices can be read.
        to_result(unsafe {
            ffi::drbd_helper_genl_put(
                skb,
                family,
                self.portid,
                self.sequence,
                self.flags,
                self.command,
                header.as_ptr().cast(),
                attrs.as_ptr().cast(),
                attrs.len(),
            )
        })
    }
}

/// A dump in progress.
pub(crate) struct Dump<'a> {
    /// Free for the handler: kept from call to call, zero at the beginning.
    pub(crate) state: &'a mut [isize; 6],
    skb: *mut bindings::sk_buff,
    info: *const bindings::genl_info,
    portid: u32,
    sequence: u32,
}

impl Dump<'_> {
    /// Writes a message of the dump. `false` if there is no room for it: stop, remember where in
    /// [`state`](Self::state), and return; the call comes again.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` if it would not fit into an empty buffer either.
    pub(crate) fn message(
        &mut self,
        command: u8,
        minor: u32,
        ret_code: i32,
        attrs: &[u8],
    ) -> Result<bool> {
        self.put(true, command, minor, ret_code, attrs)
    }

    /// Like [`message`](Self::message), with the header of a multicast: neither the mark of a dump
    /// nor a receiver.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn event(
        &mut self,
        command: u8,
        minor: u32,
        ret_code: i32,
        attrs: &[u8],
    ) -> Result<bool> {
        self.put(false, command, minor, ret_code, attrs)
    }

    fn put(
        &mut self,
        multipart: bool,
        command: u8,
        minor: u32,
        ret_code: i32,
        attrs: &[u8],
    ) -> Result<bool> {
        let message = Message {
            command,
            portid: if multipart { self.portid } else { 0 },
            sequence: self.sequence,
            flags: if multipart { NLM_F_MULTI } else { 0 },
            minor,
            ret_code,
        };
        // SAFETY: Both are valid as long as the dump callback runs.
        let (result, empty) = unsafe {
            let empty = ffi::drbd_helper_skb_len(self.skb) == 0;
            let family = ffi::drbd_helper_genl_family_of(self.info);
            (message.put(self.skb, family, attrs), empty)
        };
        match result {
            Ok(()) => Ok(true),
            Err(EMSGSIZE) if !empty => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The registered family. Dropping it unregisters it and waits for running commands (may sleep).
pub(crate) struct Family<H: Handler> {
    inner: Pin<KBox<Inner<H>>>,
    events: Arc<Events>,
}

/// # Invariants
///
/// `family` is registered; it points to `ops` and `group`, which do not change.
#[pin_data]
struct Inner<H> {
    #[pin]
    family: Opaque<bindings::genl_family>,
    ops: KVec<bindings::genl_small_ops>,
    group: bindings::genl_multicast_group,
    handler: Arc<H>,
}

// SAFETY: After registration everything is read-only, and the kernel has its own locks.
unsafe impl<H: Handler> Send for Inner<H> {}
// SAFETY: As above.
unsafe impl<H: Handler> Sync for Inner<H> {}

impl<H: Handler> Family<H> {
    /// Registers the family; from now on commands arrive. `events` can send from now on. May sleep.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the C driver is loaded, `ENOMEM`.
    pub(crate) fn register(handler: Arc<H>, events: &Arc<Events>) -> Result<Self> {
        let mut ops = KVec::with_capacity(H::COMMANDS.len(), GFP_KERNEL)?;
        for command in H::COMMANDS {
            ops.push(Self::operation(command), GFP_KERNEL)?;
        }
        let mut group: bindings::genl_multicast_group = pin_init::zeroed();
        copy_name(&mut group.name, b"events");
        let inner = KBox::pin_init(
            pin_init!(Inner {
                family: Opaque::new(pin_init::zeroed()),
                ops,
                group,
                handler,
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The structure is not registered yet, so it is ours. It does not move, nor do the
        // arrays that it points to, until it is unregistered.
        unsafe {
            let family = &mut *inner.family.get();
            copy_name(&mut family.name, b"drbd");
            family.hdrsize = USER_HEADER_LEN as c_uint;
            family.version = 1;
            family.set_netnsok(1);
            family.small_ops = inner.ops.as_ptr();
            family.n_small_ops = inner.ops.len() as u8;
            family.mcgrps = &inner.group;
            family.n_mcgrps = 1;
            family.resv_start_op = FIRST_CHECKED_COMMAND;
            family.module = super::module::THIS_MODULE;
            to_result(bindings::genl_register_family(family))?;
        }
        // INVARIANT: The family is registered.
        *events.family.lock() = Some(FamilyPtr(inner.family.get()));
        Ok(Self {
            inner,
            events: events.clone(),
        })
    }

    fn operation(command: &Command) -> bindings::genl_small_ops {
        let mut op: bindings::genl_small_ops = pin_init::zeroed();
        op.cmd = command.number;
        op.flags = if command.admin { ADMIN_PERM } else { 0 };
        if command.doit {
            op.doit = Some(Self::doit);
        }
        if command.dump {
            op.dumpit = Some(Self::dumpit);
        }
        op
    }

    /// # Safety
    ///
    /// `info` belongs to a message for a family that this type has registered.
    unsafe fn handler<'a>(info: *const bindings::genl_info) -> &'a H {
        // SAFETY: The family lies in an `Inner<H>`, which lives until no callback runs any more.
        unsafe {
            let family = ffi::drbd_helper_genl_family_of(info);
            let inner = container_of!(Opaque::cast_from(family), Inner<H>, family);
            &(*inner).handler
        }
    }

    /// # Safety
    ///
    /// Called by the kernel for a message to the family.
    unsafe extern "C" fn doit(
        skb: *mut bindings::sk_buff,
        info: *mut bindings::genl_info,
    ) -> c_int {
        // SAFETY: Both are valid for the call.
        let (handler, request) = unsafe { (Self::handler(info), request(skb, info)) };
        // INVARIANT: The family asks for no parallel operations, so that the kernel holds the lock.
        let lock = FamilyLock { _call: PhantomData };
        let result = request.and_then(|request| handler.doit(&request, lock));
        result.map_or_else(Error::to_errno, |()| 0)
    }

    /// # Safety
    ///
    /// Called by the kernel for a dump request to the family.
    unsafe extern "C" fn dumpit(
        skb: *mut bindings::sk_buff,
        cb: *mut bindings::netlink_callback,
    ) -> c_int {
        // SAFETY: Both are valid for the call, and the arguments are ours. The request message is
        // that of the callback.
        let (handler, request, mut dump) = unsafe {
            let info = ffi::drbd_helper_genl_dump_info(cb);
            let request = match request((*cb).skb, info.cast_mut()) {
                Ok(request) => request,
                Err(error) => return error.to_errno(),
            };
            let dump = Dump {
                state: &mut (*cb).__bindgen_anon_1.args,
                skb,
                info,
                portid: request.raw.portid,
                sequence: request.raw.seq,
            };
            (Self::handler(info), request, dump)
        };
        match handler.dump(&request, &mut dump) {
            // SAFETY: As above.
            Ok(()) => unsafe { ffi::drbd_helper_skb_len(skb) as c_int },
            Err(error) => error.to_errno(),
        }
    }
}

/// # Safety
///
/// Both pointers are valid for the life of the result and belong together.
unsafe fn request<'a>(
    skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
) -> Result<Request<'a>> {
    let mut raw = core::mem::MaybeUninit::uninit();
    // SAFETY: By the contract of the function; `raw` can be written.
    if !unsafe { ffi::drbd_helper_genl_request(info, raw.as_mut_ptr()) } {
        return Err(EINVAL);
    }
    Ok(Request {
        // SAFETY: The call has filled it.
        raw: unsafe { raw.assume_init() },
        skb,
        info,
        _life: PhantomData,
    })
}

fn copy_name(to: &mut [c_char], name: &[u8]) {
    for (to, from) in to.iter_mut().zip(name) {
        *to = *from;
    }
}

impl<H: Handler> Drop for Family<H> {
    fn drop(&mut self) {
        // Whoever sends an event holds this lock, so from here on nobody uses the family. It must
        // not be held any longer: a command sends events while generic netlink holds its own locks,
        // which unregistering takes.
        *self.events.family.lock() = None;
        // SAFETY: By the type invariant the family is registered.
        unsafe { bindings::genl_unregister_family(self.inner.family.get()) };
    }
}

struct FamilyPtr(*mut bindings::genl_family);

// SAFETY: The pointer is used only under the lock that it is kept in.
unsafe impl Send for FamilyPtr {}

/// Sends to the multicast group `events` of the family, once that is registered.
#[pin_data]
pub(crate) struct Events {
    /// Only while the family is registered.
    #[pin]
    family: Mutex<Option<FamilyPtr>>,
    /// Serialises groups of events.
    #[pin]
    group: Mutex<()>,
}

impl Events {
    /// Makes the sender. May sleep.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                family <- new_mutex!(None),
                group <- new_mutex!((), "drbd_events"),
            }),
            GFP_KERNEL,
        )
    }

    /// Nobody else who asks for this sends meanwhile. May sleep.
    pub(crate) fn group(&self) -> MutexGuard<'_, ()> {
        self.group.lock()
    }

    /// Sends an event, in the initial network namespace. May sleep. Without listeners, or without
    /// family, it does nothing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOBUFS` if a listener is too slow.
    pub(crate) fn multicast(
        &self,
        command: u8,
        sequence: u32,
        minor: u32,
        ret_code: i32,
        attrs: &[u8],
    ) -> Result {
        let family = self.family.lock();
        let Some(FamilyPtr(family)) = family.as_ref() else {
            return Ok(());
        };
        let message = Message {
            command,
            portid: 0,
            sequence,
            flags: 0,
            minor,
            ret_code,
        };
        let skb = message.build(*family, attrs)?;
        // SAFETY: The family is registered while the lock is held; the call takes the message.
        match to_result(unsafe { ffi::drbd_helper_genl_multicast(*family, skb) }) {
            Err(ESRCH) => Ok(()),
            result => result,
        }
    }
}
