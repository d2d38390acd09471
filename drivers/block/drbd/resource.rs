// SPDX-License-Identifier: GPL-2.0-only

//! One resource in the kernel: the core's state under its lock, and who is woken after each call.
//!
//! Every entry into the core goes through [`Resource::with`]. It holds the lock for one call (or a
//! bounded batch), asks the core which executors have work now, and rings their bells after the
//! lock is gone. Nothing slow happens under the lock.

mod ending;
mod processors;

pub(crate) use ending::{
    Errand,
    Leftover, //
};

use crate::{
    bell::Bell,
    complete,
    disk::{
        BackingRef,
        Place, //
    },
    kabi::{
        bio::IncomingBio,
        digest::random_u64,
        genl::Events,
        log,
        module::ModuleRef,
        page::{
            PageBuf,
            PagePool, //
        },
        thread,
        timer::{
            self,
            Timer, //
        },
        wait::WaitQueue,
        workqueue::WorkQueue, //
    },
    name::Name,
    net::{
        connect::Connector,
        digests::Digests, //
    },
    perform,
    registry::Registry,
    threads::Threads,
    volume::Volume, //
};
use drbd_core::{
    action::Ticket,
    config::ResourceConfig,
    control,
    input::{
        AdminRequest,
        Input, //
    },
    link::{
        VolumeIndex,
        VOLUMES_MAX, //
    },
    memory::Memory,
    peer_request::PeerId,
    report::ResourceStatus,
    request::RequestId,
    resource::{
        ControlMemory,
        Wants, //
    },
    time::Instant, //
};
use drbd_format::options::{
    NetConf,
    ResourceOpts, //
};
use kernel::{
    alloc::{
        KVVec,
        VVec, //
    },
    fmt,
    new_mutex,
    new_spinlock,
    new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Arc,
        Mutex,
        SetOnce,
        SpinLock,
        SpinLockIrq, //
    }, //
};

/// Application requests that a resource can hold at once, those whose barrier is not yet
/// acknowledged included.
pub(crate) const REQUESTS_MAX: usize = 8192;

/// Requests on behalf of the peer that a resource can hold at once.
pub(crate) const PEER_REQUESTS_MAX: usize = 4096;

/// Pages that are kept in reserve for received data: one largest request.
const PAGES_RESERVE: usize = 256;

/// How long a command may take before its caller gives up, in milliseconds. The tools wait 120 s.
const COMMAND_TIMEOUT_MS: u32 = 115_000;

/// How long an answer that has left the core may be on its way to the command, in milliseconds.
const HAND_OVER_TIMEOUT_MS: u32 = 5_000;

/// Commands that can wait for their answers at the same time: one that holds the admin mutex, and
/// forced ones.
const COMMANDS_MAX: usize = 8;

/// The answer to a command.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    /// Return code of reference/netlink.md 4.
    pub(crate) code: i32,
    /// Text for the administrator.
    pub(crate) text: Option<&'static str>,
}

/// Room for the answer to a command. It is given back with this value.
pub(crate) struct Expected<'a> {
    resource: &'a Resource,
    ticket: Ticket,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.resource.forget_answer(self.ticket);
    }
}

/// A command under way.
#[derive(Clone, Copy)]
struct Waiting {
    ticket: Ticket,
    answer: Option<Answer>,
}

/// Whether a resource can still be worked with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Life {
    /// It can.
    Alive,
    /// It has been deleted; who found it before that comes too late.
    Gone,
}

/// The storage that the kernel lends to the core.
pub(crate) struct KernelMemory;

impl Memory for KernelMemory {
    type Requests = KVVec<drbd_core::request::RequestSlot>;
    type PeerRequests = KVVec<drbd_core::peer_request::PeerSlot>;
    type Volumes = KVVec<drbd_core::data::VolumeSlot<Self>>;
    type AlExtents = KVVec<drbd_core::activity_log::AlSlot>;
    type ResyncExtents = KVVec<drbd_core::resync::extents::ResyncSlot>;
    // More than 64 TiB of data need more than kvmalloc gives.
    type Bitmap = VVec<u64>;
    type BitmapPages = KVVec<drbd_core::bitmap::PageState>;
    type ControlVolumes = KVVec<drbd_core::control::Volume>;
    type Actions = KVVec<Option<drbd_core::action::Action>>;
    type Orders = KVVec<Option<drbd_core::link::Order>>;
    type Outbox = KVVec<Option<drbd_core::control::Held>>;
}

/// The core over the kernel's memory.
type Core = drbd_core::resource::Resource<KernelMemory>;

/// What lies beside the core under the same lock, indexed by slot.
pub(crate) struct Inner {
    pub(crate) core: KBox<Core>,
    /// The upper bio of each application request.
    app: KVVec<Option<(VolumeIndex, IncomingBio)>>,
    /// The payload of each request on behalf of the peer.
    peer: KVVec<Option<PageBuf>>,
    /// The backing disk of each volume.
    places: [Place; VOLUMES_MAX],
    /// Upper bios to be submitted again, each with its volume. Capacity for every slot.
    reissue: KVVec<(VolumeIndex, IncomingBio)>,
    /// When the timer fires; `u64::MAX` if it is not armed.
    armed_ns: u64,
}

/// The bells of the executors of a resource.
#[pin_data]
pub(crate) struct Bells {
    /// Performs actions of the control plane.
    #[pin]
    pub(crate) control: Bell,
    /// Sends on the data socket.
    #[pin]
    pub(crate) sender: Bell,
    /// Sends on the meta socket.
    #[pin]
    pub(crate) acks: Bell,
    /// The receiver, while the core makes it wait.
    #[pin]
    pub(crate) receiver: Bell,
    /// Submits requests on behalf of the peer that became ready later.
    #[pin]
    pub(crate) peer_io: Bell,
    /// The workers of the volumes.
    #[pin]
    pub(crate) volumes: [Bell; VOLUMES_MAX],
}

/// A replicated resource: up to [`VOLUMES_MAX`] volumes and one connection.
#[pin_data]
pub(crate) struct Resource {
    pub(crate) name: Name,
    /// All resources; on both sides until this one is deleted.
    pub(crate) registry: Arc<Registry>,
    /// Where events are announced.
    pub(crate) events: Arc<Events>,
    #[pin]
    inner: SpinLockIrq<Inner>,
    /// Serialises commands that change something.
    #[pin]
    pub(crate) admin: Mutex<Life>,
    #[pin]
    pub(crate) bells: Bells,
    /// Establishes connections and owns the one there is.
    #[pin]
    pub(crate) connector: Connector,
    /// Digests of the network configuration.
    #[pin]
    pub(crate) digests: Mutex<Digests>,
    /// Options as they were given, for answers.
    #[pin]
    pub(crate) options: Mutex<ResourceOpts>,
    /// Raised with each change of `cpu-mask`.
    cpu_mask_version: Atomic<u32>,
    /// Network options as they were given, for answers; `None` while StandAlone.
    #[pin]
    pub(crate) net_conf: Mutex<Option<NetConf>>,
    /// Network options that the core has been asked to use, until it has begun to.
    #[pin]
    pub(crate) net_staged: Mutex<Option<NetConf>>,
    /// There is a network configuration, or the last one has not been forgotten completely.
    pub(crate) net_in_use: Atomic<bool>,
    /// Pages for data on behalf of the peer.
    pub(crate) pages: Arc<PagePool>,
    /// Runs the user-mode helpers of volumes in their order, so that no thread of the resource
    /// waits for one.
    pub(crate) helpers: WorkQueue,
    /// Runs those that wait for no other: of the resource, which may take long, and in emergencies.
    pub(crate) urgent_helpers: WorkQueue,
    /// Closes backing disks, each of which may take any time.
    pub(crate) closing: WorkQueue,
    /// How many work on these three queues or wait to.
    errands: Atomic<u32>,
    /// The threads have ended.
    ended: Atomic<bool>,
    #[pin]
    volumes: SpinLock<[Option<Arc<Volume>>; VOLUMES_MAX]>,
    /// Tasks that wait until the core takes their bio.
    #[pin]
    submitters: WaitQueue,
    submitters_generation: Atomic<u32>,
    /// The commands under way, each with its answer as soon as there is one.
    #[pin]
    answers: SpinLock<[Option<Waiting>; COMMANDS_MAX]>,
    #[pin]
    answered: WaitQueue,
    next_ticket: Atomic<u32>,
    timer: SetOnce<Timer>,
    #[pin]
    threads: Mutex<Threads>,
    /// A module that serves a resource can not be unloaded.
    _module: ModuleRef,
}

impl Resource {
    /// Creates a resource without volumes and connection, and starts its threads. May sleep.
    pub(crate) fn new(name: Name, registry: &Arc<Registry>) -> Result<Arc<Self>> {
        let inner = Inner::new_on_own_stack()?;
        let resource = Arc::pin_init(
            try_pin_init!(Self {
                name,
                registry: registry.clone(),
                events: registry.events().clone(),
                inner <- new_spinlock_irq!(inner, "drbd_resource"),
                admin <- new_mutex!(Life::Alive, "drbd_admin"),
                bells <- Bells::new(),
                connector <- Connector::new(),
                digests <- new_mutex!(Digests::default(), "drbd_digests"),
                options <- new_mutex!(ResourceOpts::default(), "drbd_options"),
                cpu_mask_version: Atomic::new(0),
                net_conf <- new_mutex!(None, "drbd_net_conf"),
                net_staged <- new_mutex!(None, "drbd_net_staged"),
                net_in_use: Atomic::new(false),
                pages: PagePool::new(PAGES_RESERVE)?,
                helpers: WorkQueue::ordered(c"drbd_helpers")?,
                urgent_helpers: WorkQueue::unbound(c"drbd_urgent")?,
                closing: WorkQueue::unbound(c"drbd_closing")?,
                errands: Atomic::new(0),
                ended: Atomic::new(false),
                volumes <- new_spinlock!([const { None }; VOLUMES_MAX], "drbd_volumes"),
                submitters <- WaitQueue::new(),
                submitters_generation: Atomic::new(0),
                answers <- new_spinlock!([None; COMMANDS_MAX], "drbd_answers"),
                answered <- WaitQueue::new(),
                next_ticket: Atomic::new(1),
                timer: SetOnce::new(),
                threads <- new_mutex!(Threads::default(), "drbd_threads"),
                _module: ModuleRef::get().ok_or(ENODEV)?,
            }? Error),
            GFP_KERNEL,
        )?;
        let of_timer = resource.clone();
        resource
            .timer
            .populate(Timer::new(move || of_timer.on_timer())?);
        match Threads::start(&resource) {
            Ok(threads) => *resource.threads.lock() = threads,
            Err(error) => {
                // The timer holds the resource.
                resource.shut_down();
                return Err(error);
            }
        }
        Ok(resource)
    }

    /// Prints a line about the resource. Any context.
    pub(crate) fn log(&self, level: log::Level, text: fmt::Arguments<'_>) {
        log::print(level, fmt!("drbd {}", self.name), text);
    }

    /// Calls the core and wakes whoever has work afterwards. Any context.
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let (result, wants) = self.call(call);
        self.dispatch(wants);
        result
    }

    /// As [`Resource::with`] for a caller that runs [`crate::disk::peer_io::run`] right afterwards.
    pub(crate) fn with_peer_io<R>(&self, call: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let (result, mut wants) = self.call(call);
        wants.peer_io = false;
        self.dispatch(wants);
        result
    }

    /// As [`Resource::with`] for the sender of the data socket, which looks for packets at the end
    /// of the call.
    pub(crate) fn with_sender<R>(&self, call: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let (result, mut wants) = self.call(call);
        wants.sender = false;
        self.dispatch(wants);
        result
    }

    /// As [`Resource::with`] for a caller that takes finished requests itself, in the same call.
    pub(crate) fn with_done<R>(&self, call: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let (result, mut wants) = self.call(call);
        wants.done = false;
        self.dispatch(wants);
        result
    }

    fn call<R>(&self, call: impl FnOnce(&mut Inner, Instant) -> R) -> (R, Wants) {
        let now = Instant(timer::now_ns());
        let mut inner = self.inner.lock();
        let result = call(&mut inner, now);
        let mut wants = inner.core.take_wants();
        if wants.submitters {
            wants.volumes |= inner.reissuing();
        }
        // Deadlines mostly move away: the timer then fires for nothing now and again, which is
        // cheaper than to arm it at every call.
        if let (Some(at), Some(timer)) = (wants.timer, self.timer.as_ref()) {
            if at.0 < inner.armed_ns {
                inner.armed_ns = at.0;
                timer.arm_at_ns(at.0);
            }
        }
        (result, wants)
    }

    /// Tells the core something. Any context.
    pub(crate) fn handle(&self, input: Input<'_>) {
        self.with(|inner, now| inner.core.handle(&input, now));
    }

    fn dispatch(&self, wants: Wants) {
        if wants.done {
            complete::finish(self);
        }
        let bells = [
            (wants.sender, &self.bells.sender),
            (wants.acks, &self.bells.acks),
            (wants.peer_io, &self.bells.peer_io),
            (wants.receiver, &self.bells.receiver),
            (wants.actions, &self.bells.control),
        ];
        for (_, bell) in bells.iter().filter(|(wanted, _)| *wanted) {
            bell.ring();
        }
        self.ring_volumes(wants.volumes);
        if wants.submitters {
            self.submitters_generation.fetch_add(1, Full);
            self.submitters.wake_all();
        }
    }

    /// Wakes the workers of the volumes whose bits are set. Any context.
    pub(crate) fn ring_volumes(&self, volumes: u32) {
        let mut left = volumes;
        while left != 0 {
            if let Some(bell) = self.bells.volumes.get(left.trailing_zeros() as usize) {
                bell.ring();
            }
            left &= left.wrapping_sub(1);
        }
    }

    fn on_timer(&self) {
        self.with(|inner, now| {
            inner.armed_ns = u64::MAX;
            inner.core.on_timer(now);
        });
    }

    /// Returns a mark for [`Resource::wait_submitters`], to be taken before the core is asked.
    pub(crate) fn submitters_generation(&self) -> u32 {
        self.submitters_generation.load(Acquire)
    }

    /// Waits until the core may take a bio that it refused after `seen` was taken. May sleep.
    pub(crate) fn wait_submitters(&self, seen: u32) {
        self.submitters
            .wait(|| (self.submitters_generation.load(Acquire) != seen).then_some(()));
    }

    /// Carries out a command and returns its answer, for which there is room. The caller holds the
    /// admin mutex, unless the command is one that ends another. May sleep.
    ///
    /// # Errors
    ///
    /// `EINTR` or `ETIMEDOUT` if the core has lost the answer.
    ///
    /// A caller that is interrupted, or waits for too long, gives the command up. It may have been
    /// carried out before, and then the answer says so; else the answer is `INTR`.
    pub(crate) fn command(
        &self,
        request: &AdminRequest,
        expected: &Expected<'_>,
    ) -> Result<Answer> {
        let ticket = expected.ticket;
        self.handle(Input::Admin(request, ticket));
        // After the end of the threads, which one that holds no mutex may see, nobody answers.
        let answer = self
            .answered
            .wait_interruptible(Some(COMMAND_TIMEOUT_MS), || {
                let answer = self.take_answer(ticket);
                (answer.is_some() || self.ended.load(Acquire)).then_some(answer)
            });
        if let Ok(Some(Some(answer))) = answer {
            return Ok(answer);
        }
        // Nobody waits any more, so the core must not be kept busy.
        let known = self.with(|inner, now| {
            inner.core.handle(&Input::Cancel(ticket), now);
            inner.core.answer_to(ticket)
        });
        let text = None;
        let settled = known.map(|code| Answer { code, text }).or_else(|| {
            // The control thread has it in its hands.
            let handed_over = || self.take_answer(ticket);
            self.answered
                .wait_timeout(HAND_OVER_TIMEOUT_MS, handed_over)
        });
        settled.ok_or(answer.err().unwrap_or(ETIMEDOUT))
    }

    /// Reserves room for the answer to a command.
    ///
    /// # Errors
    ///
    /// `EBUSY` if too many wait.
    pub(crate) fn expect_answer(&self) -> Result<Expected<'_>> {
        let ticket = Ticket(self.next_ticket.fetch_add(1, Full));
        let mut answers = self.answers.lock();
        let free = answers.iter_mut().find(|slot| slot.is_none());
        let answer = None;
        *free.ok_or(EBUSY)? = Some(Waiting { ticket, answer });
        drop(answers);
        let resource = self;
        Ok(Expected { resource, ticket })
    }

    fn take_answer(&self, ticket: Ticket) -> Option<Answer> {
        let mut answers = self.answers.lock();
        let slot = answers
            .iter_mut()
            .find(|slot| slot.is_some_and(|w| w.ticket == ticket && w.answer.is_some()))?;
        slot.take()?.answer
    }

    fn forget_answer(&self, ticket: Ticket) {
        for slot in self.answers.lock().iter_mut() {
            if slot.is_some_and(|waiting| waiting.ticket == ticket) {
                *slot = None;
            }
        }
    }

    /// Waits until `condition` holds, which is looked at after each [`Resource::announce_event`].
    /// `None` if the time is over or the task is interrupted. May sleep.
    pub(crate) fn wait_event(
        &self,
        timeout_ms: u32,
        condition: impl FnMut() -> Option<()>,
    ) -> Option<()> {
        self.answered
            .wait_interruptible(Some(timeout_ms), condition)
            .unwrap_or(None)
    }

    /// Wakes those who wait for an event. Any context.
    pub(crate) fn announce_event(&self) {
        self.answered.wake_all();
    }

    /// Hands the answer of a command to whoever waits for it.
    pub(crate) fn answer(&self, ticket: Ticket, answer: Answer) {
        for waiting in self.answers.lock().iter_mut().flatten() {
            if waiting.ticket == ticket {
                waiting.answer = Some(answer);
            }
        }
        self.answered.wake_all();
    }

    /// Returns the volume at `index`. Not in interrupt context.
    pub(crate) fn volume(&self, index: VolumeIndex) -> Option<Arc<Volume>> {
        self.volumes.lock().get(index.slot())?.clone()
    }

    /// Returns the volumes in the order of their places.
    pub(crate) fn volumes(&self) -> [Option<Arc<Volume>>; VOLUMES_MAX] {
        self.volumes.lock().clone()
    }

    /// Puts a volume into its place, or removes it. Returns the one before.
    pub(crate) fn set_volume(
        &self,
        index: VolumeIndex,
        volume: Option<Arc<Volume>>,
    ) -> Option<Arc<Volume>> {
        let mut volumes = self.volumes.lock();
        let slot = volumes.get_mut(index.slot())?;
        core::mem::replace(slot, volume)
    }

    /// Returns what answers and events say about the resource.
    pub(crate) fn status(&self) -> ResourceStatus {
        self.with(|inner, _| inner.core.status())
    }

    /// Breaks a blocking call of the receiver thread. May sleep.
    pub(crate) fn interrupt_receiver(&self) {
        self.threads.lock().interrupt_receiver();
    }

    /// Returns the network options as they were given, with what the core has changed since; `None`
    /// while StandAlone. May sleep.
    pub(crate) fn net_conf_in_force(&self) -> Option<NetConf> {
        let mut conf = (*self.net_conf.lock())?;
        self.with(|inner, _| {
            if let Some(net) = inner.core.net_config() {
                net.tell(&mut conf);
            }
        });
        Some(conf)
    }

    /// Performs actions until the thread is asked to stop.
    pub(crate) fn run_control(self: &Arc<Self>) {
        let mut mask = 0;
        while !thread::should_stop() {
            self.follow_cpu_mask(&mut mask);
            self.bells.control.wait();
            while let Some(action) = self.with(|inner, _| inner.core.pop_action()) {
                perform::perform(self, action);
            }
        }
    }
}

impl Bells {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            control <- Bell::new(),
            sender <- Bell::new(),
            acks <- Bell::new(),
            receiver <- Bell::new(),
            peer_io <- Bell::new(),
            volumes <- pin_init::pin_init_array_from_fn(|_| Bell::new()),
        })
    }
}

impl Inner {
    /// As [`Inner::new`], on the stack of a worker: the core is several KiB large until it lies on
    /// the heap, and a command has used a good part of its own stack already.
    fn new_on_own_stack() -> Result<Self> {
        let made = Arc::pin_init(new_mutex!(None, "drbd_new"), GFP_KERNEL)?;
        let slot = made.clone();
        let queue = WorkQueue::ordered(c"drbd_new")?;
        queue.spawn(move || *slot.lock() = Some(Self::new()))?;
        queue.flush();
        let inner = made.lock().take();
        inner.unwrap_or(Err(ENOMEM))
    }

    fn new() -> Result<Self> {
        Ok(Self {
            core: new_core()?,
            app: table(REQUESTS_MAX)?,
            peer: table(PEER_REQUESTS_MAX)?,
            places: [const { Place::Empty }; VOLUMES_MAX],
            reissue: KVVec::with_capacity(REQUESTS_MAX, GFP_KERNEL)?,
            armed_ns: u64::MAX,
        })
    }

    /// Returns what a volume has for a disk. What is put out of it is dropped outside of the lock.
    pub(crate) fn place(&mut self, volume: VolumeIndex) -> &mut Place {
        // The number of places is a power of two, and an index is smaller.
        &mut self.places[volume.slot() % VOLUMES_MAX]
    }

    /// Returns the backing disk of a volume.
    pub(crate) fn backing(&self, volume: VolumeIndex) -> Option<BackingRef> {
        self.places.get(volume.slot())?.get()
    }

    /// A write or discard of the peer has ended. What is in a volatile cache has to be flushed,
    /// also if the device has got one since it was attached: another table of the device mapper, or
    /// a setting of the controller or of the administrator, of which nobody tells.
    pub(crate) fn peer_written(&mut self, volume: VolumeIndex, id: PeerId, ok: bool, now: Instant) {
        if self.places.get(volume.slot()).is_some_and(Place::has_cache) {
            self.core.has_volatile_cache(volume);
        }
        self.core.peer_io_done(id, ok, now);
    }

    /// Returns the upper bio of a request.
    pub(crate) fn app_bio(&self, id: RequestId) -> Option<&IncomingBio> {
        let (_, bio) = self.app.get(id.slot as usize)?.as_ref()?;
        Some(bio)
    }

    /// Stores the upper bio of a request that the core has just taken.
    pub(crate) fn put_app_bio(
        &mut self,
        id: RequestId,
        volume: VolumeIndex,
        bio: Option<IncomingBio>,
    ) {
        if let Some(slot) = self.app.get_mut(id.slot as usize) {
            *slot = bio.map(|bio| (volume, bio));
        }
    }

    /// Takes the upper bio of a request that has ended.
    pub(crate) fn take_app_bio(&mut self, id: RequestId) -> Option<IncomingBio> {
        let (_, bio) = self.app.get_mut(id.slot as usize)?.take()?;
        Some(bio)
    }

    /// Stores the pages of a request on behalf of the peer.
    ///
    /// Returns what is to be dropped outside of the lock.
    #[must_use]
    pub(crate) fn put_peer_pages(&mut self, id: PeerId, pages: PageBuf) -> Option<PageBuf> {
        match self.peer.get_mut(id.slot as usize) {
            Some(slot) => slot.replace(pages),
            None => Some(pages),
        }
    }

    /// Takes the pages of a request on behalf of the peer.
    pub(crate) fn take_peer_pages(&mut self, id: PeerId) -> Option<PageBuf> {
        self.peer.get_mut(id.slot as usize)?.take()
    }

    /// Queues the upper bio of a request to be submitted again by the worker of its volume.
    ///
    /// Returns which volume that is.
    pub(crate) fn reissue(&mut self, id: RequestId) -> Option<VolumeIndex> {
        let (volume, bio) = self.app.get_mut(id.slot as usize)?.take()?;
        self.put_reissued(volume, bio);
        Some(volume)
    }

    /// Queues a bio to be submitted again.
    pub(crate) fn put_reissued(&mut self, volume: VolumeIndex, bio: IncomingBio) {
        // The capacity covers every slot; a bio that did not fit would end with an error.
        let _ = self.reissue.push_within_capacity((volume, bio));
    }

    /// Returns the volumes that have a bio to be submitted again, one bit each.
    fn reissuing(&self) -> u32 {
        let bits = self.reissue.iter().map(|(volume, _)| volume.bit());
        bits.fold(0, |all, bit| all | bit)
    }

    /// Takes the oldest bio of a volume that is to be submitted again.
    pub(crate) fn take_reissued(&mut self, volume: VolumeIndex) -> Option<IncomingBio> {
        let at = self.reissue.iter().position(|(of, _)| *of == volume)?;
        self.reissue.remove(at).ok().map(|(_, bio)| bio)
    }
}

/// Makes the core of a resource.
///
/// A function of its own: the value is several KiB large before it moves to the heap, and the stack
/// is small.
#[inline(never)]
fn new_core() -> Result<KBox<Core>> {
    let requests = table(REQUESTS_MAX)?;
    let peers = table(PEER_REQUESTS_MAX)?;
    let data_volumes = table(VOLUMES_MAX)?;
    let mut volumes = KVVec::with_capacity(VOLUMES_MAX, GFP_KERNEL)?;
    for _ in 0..VOLUMES_MAX {
        volumes.push(control::Volume::EMPTY, GFP_KERNEL)?;
    }
    let memory = ControlMemory {
        volumes,
        actions: table(control::ACTIONS_MIN)?,
        orders: table(control::ORDERS_MIN)?,
        outbox: table(control::OUTBOX_MIN)?,
    };
    let seed = [random_u64(), random_u64()];
    Ok(KBox::new(
        Core::compose(
            seed,
            ResourceConfig::DEFAULT,
            memory,
            requests,
            peers,
            data_volumes,
        ),
        GFP_KERNEL,
    )?)
}

/// Allocates a table of empty slots. May sleep.
pub(crate) fn table<T: Default>(len: usize) -> Result<KVVec<T>> {
    let mut table = KVVec::with_capacity(len, GFP_KERNEL)?;
    for _ in 0..len {
        table.push(T::default(), GFP_KERNEL)?;
    }
    Ok(table)
}
