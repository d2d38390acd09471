//! The control plane of one resource: state, connection, administration, metadata.
//!
//! [`ControlState`] and the [`Volume`]s are what lasts; [`Control`] joins them with the queues and
//! the present time for one call. What follows from a call leaves through two queues: actions for
//! the shell and orders for the data plane. Nothing here waits: whatever takes time is a job that
//! is looked at again after every event.
//!
//! Each file below adds methods to [`Control`].

use drbd_format::types::{ConnState, DiskState, OnNoData, Role};
use drbd_format::units::SectorCount;
use drbd_format::wire::features::{FeatureFlags, Terms};

use crate::action::Action;
use crate::admin::AdminJob;
use crate::config::{DiskConfig, NetConfig, ResourceConfig};
use crate::generation::Uuids;
use crate::handshake::Link;
use crate::input::{BackingFacts, DigestLengths};
use crate::link::{
    Congestion, ControlItem, ControlKind, Facts, LinkView, Order, View, VolumeIndex, VolumeNumber,
};
use crate::liveness::Liveness;
use crate::log::{Level, Line};
use crate::state::VolumeState;
use crate::time::Instant;

pub mod after;
pub mod connect;
pub mod decide;
pub mod encode;
pub mod engine;
pub mod events;
pub mod fifo;
mod hearing;
pub mod jobs;
pub mod metadata;
pub mod packets;
pub mod peer_state;
pub mod sizes;
pub mod sync;
mod thaw;

use engine::{TwoPhase, Work};
use fifo::{Ends, Fifo};
use jobs::VolumeJob;
use metadata::{FormerPrimary, MetadataIo};

/// Least number of slots for actions that the shell has to lend.
pub const ACTIONS_MIN: usize = 256;
/// Least number of slots for orders that the shell has to lend.
pub const ORDERS_MIN: usize = 256;
/// Least number of slots for packets that wait for metadata.
pub const OUTBOX_MIN: usize = 128;

/// Something for the data socket that must not leave before the metadata it relies on is stable,
/// and not before what was queued earlier.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    order: Order,
    volume: VolumeIndex,
    /// Version of the volume's metadata that has to be stable.
    needs: u32,
}

/// An attached backing disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Options, with the peer's resync settings merged in.
    pub config: DiskConfig,
    /// What the shell found at attach.
    pub facts: BackingFacts,
    /// Sectors for which there is room in the bitmap's memory.
    pub room_sectors: u64,
    /// Present generation UUIDs.
    pub uuids: Uuids,
    /// UUIDs as last put into a superblock for writing.
    pub written_uuids: Uuids,
    /// Flags as last put into a superblock for writing.
    pub written_flags: u32,
    /// UUIDs that are certainly on disk: only these are told to the peer.
    pub stable_uuids: Uuids,
    /// Flags that are on disk.
    pub stable_flags: u32,
    /// Present metadata flags.
    pub flags: u32,
    /// Last agreed size.
    pub la_size: u64,
    /// The generation was begun here since the attach, and given to nobody since.
    pub alone: bool,
}

impl Disk {
    /// Tells whether the peer's disk may be of this generation although the bitmap has a base.
    pub fn may_be_elsewhere(&self) -> bool {
        !self.alone && self.uuids.may_be_elsewhere()
    }
}

/// What is known of the peer's side of a volume.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerVolume {
    /// UUIDs as last received (with corrections).
    pub uuids: Option<Uuids>,
    /// Set bits as last received.
    pub bits: u64,
    /// UUID flags as last received.
    pub flags: u32,
    /// Usable size of the peer's disk, 0: unknown or diskless.
    pub disk_sectors: u64,
    /// What the peer's user limits it to, 0: not. What is told to the peer counts as taken over.
    pub user_sectors: u64,
    /// Largest request that the peer takes, 0: unknown.
    pub max_bio_bytes: u32,
}

/// What has been heard of a volume in this handshake.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Heard {
    /// Nothing yet.
    #[default]
    No,
    /// The peer has it.
    Yes,
    /// Nothing, though the peer has told all it had to tell.
    NotThere,
    /// As before, and the volume is not any more what the peer was told.
    Changed,
}

/// How far an operation of the shell has got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Progress {
    /// Nobody has asked for it.
    #[default]
    Idle,
    /// The shell is at it.
    Running,
    /// It has ended; whether it succeeded.
    Done(bool),
}

/// Book-keeping of a running resync or verify.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// When it began.
    pub started: Instant,
    /// When the present pause began.
    pub paused_at: Option<Instant>,
    /// Nanoseconds paused before that.
    pub paused_nanos: u64,
    /// Bits to do at the start.
    pub total_bits: u64,
}

/// One volume.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// The place is in use.
    pub present: bool,
    /// Number that users and peers know.
    pub number: VolumeNumber,
    /// State; the suspension flags in it are not used, see [`Control::state`].
    pub state: VolumeState,
    /// The backing disk, from "publish" at attach until it is closed.
    pub disk: Option<Disk>,
    /// Current UUID of the data last in use.
    pub exposed_uuid: u64,
    /// This node was promoted without a disk: the data in use are those of the peer's one, and an
    /// own disk of the same generation need not have them (it may be that of a crashed Primary).
    pub promoted_diskless: bool,
    /// The disk that is gone had writes of applications that the peer's has not, whatever its UUID.
    pub peer_behind: bool,
    /// Size of the device in sectors.
    pub capacity: u64,
    /// The peer's side.
    pub peer: PeerVolume,
    /// What the peer has said of the volume in the handshake that goes on.
    pub heard: Heard,
    /// Number of set bits in the last UUID packet sent.
    pub sent_bits: u64,
    /// They have been compared, and the packet that tells them has not left yet.
    pub bits_counted: bool,
    /// UUID packets on their way to the socket.
    pub uuids_queued: u8,
    /// What the first of them tells, if a comparison has corrected the own UUIDs since: the peer
    /// compares what was compared here.
    pub compared_uuids: Option<Uuids>,
    /// This node was a crashed primary.
    pub crashed_primary: bool,
    /// Both disks were Inconsistent when the peer was promoted by force.
    pub consider_resync: bool,
    /// A new current UUID is due as soon as I/O goes on.
    pub new_uuid_due: bool,
    /// A Primary without a disk may take this one: a new current UUID is due when it does.
    pub uuid_due_if_taken: bool,
    /// The peer has said that it takes the data of this disk for good.
    pub taken: bool,
    /// The connected peer's disk has gone with writes that are not on the own one, and the peer has
    /// not said since that it knows.
    pub lacks_writes: bool,
    /// The disk that the connected peer attaches was refused, and the peer has not said since that
    /// it gives it up.
    pub peer_refused: bool,
    /// The own bitmap is still to be sent in the exchange that goes on.
    pub bitmap_due: bool,
    /// The disk waits, Outdated, for a resync of new space only: it has all there was before.
    pub lacks_new_space: bool,
    /// The device grew while the peer was away: sync the new part.
    pub grown: bool,
    /// The peer's disk has failed since its resync was over, of which we are still the source.
    pub target_failed: bool,
    /// The peer has been told of a new size and has not answered.
    pub resize_asked: bool,
    /// How many times the connected peer may still answer to a size that it was told of while it
    /// had no disk, or before it lost one. It may have one again before it hears of the size.
    pub late_answers: u8,
    /// The peer told of a larger size during our verify: it is answered with these flags behind it.
    pub size_answer: Option<u16>,
    /// What has run is over, a verify or else a resync, with this number of blocks, but a new size
    /// is still being written.
    pub run_over: Option<(bool, u64)>,
    /// The size, in sectors, before the last resize, or before all that have crossed it.
    pub resized_from: u64,
    /// Number of openers.
    pub opened: u32,
    /// Reasons for which new application I/O waits.
    pub blocks: u8,
    /// The control plane watches counters.
    pub watching: bool,
    /// A detach was forced.
    pub forced_detach: bool,
    /// The disk was given up because of an I/O error.
    pub io_error: bool,
    /// A read error was seen.
    pub read_error: bool,
    /// States found at attach, to be taken when the negotiation ends.
    pub saved: Option<(DiskState, DiskState)>,
    /// What goes on in the background.
    pub job: VolumeJob,
    /// Bitmap I/O of the shell.
    pub bitmap_io: Progress,
    /// The bitmap has to be written once more when the present writing has ended.
    pub bitmap_again: bool,
    /// Exit code of the helper for which a job waits.
    pub helper: Option<u8>,
    /// The run of a helper for which a job waits; an earlier one may still be on its way.
    pub helper_run: u32,
    /// How the last job ended that a command waits for.
    pub result: Option<bool>,
    /// Writing of the superblock.
    pub md: MetadataIo,
    /// Numbers of the data plane as of the beginning of this call.
    pub facts: Facts,
    /// Running resync or verify.
    pub run: Run,
    /// UUIDs of the source of the resync that this node is the target of, when it began.
    pub source: Option<Uuids>,
    /// First sector and stop sector of the next verify.
    pub verify: (u64, u64),
    /// The wait-for-connection timeout is the degraded one.
    pub degraded_timeout: bool,
    /// The device has still to follow the role.
    pub role_due: bool,
    /// The data plane maintains the activity log.
    pub al_updates: bool,
    /// The activity log is being written anew; then the flag that says it is off goes.
    pub al_resuming: bool,
    /// It is not Primary any more, but still marked so on disk.
    pub former_primary: FormerPrimary,
}

impl Volume {
    /// An unused place.
    pub const EMPTY: Self = Self {
        present: false,
        number: VolumeNumber(0),
        state: VolumeState::INITIAL,
        disk: None,
        exposed_uuid: 0,
        promoted_diskless: false,
        peer_behind: false,
        capacity: 0,
        peer: PeerVolume {
            uuids: None,
            bits: 0,
            flags: 0,
            disk_sectors: 0,
            user_sectors: 0,
            max_bio_bytes: 0,
        },
        heard: Heard::No,
        sent_bits: 0,
        bits_counted: false,
        uuids_queued: 0,
        compared_uuids: None,
        crashed_primary: false,
        consider_resync: false,
        new_uuid_due: false,
        uuid_due_if_taken: false,
        taken: false,
        lacks_writes: false,
        peer_refused: false,
        bitmap_due: false,
        lacks_new_space: false,
        grown: false,
        target_failed: false,
        resize_asked: false,
        late_answers: 0,
        size_answer: None,
        run_over: None,
        resized_from: 0,
        opened: 0,
        blocks: 0,
        watching: false,
        forced_detach: false,
        io_error: false,
        read_error: false,
        saved: None,
        job: VolumeJob::None,
        bitmap_io: Progress::Idle,
        bitmap_again: false,
        helper: None,
        helper_run: 0,
        result: None,
        md: MetadataIo::NEW,
        facts: Facts {
            bits_set: 0,
            bits_total: 0,
            app_in_flight: 0,
            peer_pending: 0,
            local_in_flight: 0,
            app_local: 0,
            peer_writes: 0,
            verify_start: 0,
            verified_bits: 0,
            equal_bits: None,
            refused_unmarked: false,
            ends_on_count: false,
            ring_pending: false,
            missed_writes: false,
            lacks_ended: false,
            failed_writes: false,
            refused_writes: false,
            took_writes: false,
            peer_missed: false,
            al_used: false,
            unsettled: false,
            ended_unsettled: false,
            given_up: false,
            keeps_ended: false,
        },
        source: None,
        run: Run {
            started: Instant(0),
            paused_at: None,
            paused_nanos: 0,
            total_bits: 0,
        },
        verify: (0, u64::MAX),
        degraded_timeout: false,
        role_due: false,
        al_updates: true,
        al_resuming: false,
        former_primary: FormerPrimary::No,
    };

    /// The peer's disk may lack writes of applications, of which no generation tells.
    pub(crate) const fn peer_lacks_writes(&self) -> bool {
        self.peer_behind || self.facts.peer_missed
    }

    /// What is frozen goes to the next disk again; what applications are done with does not, nor
    /// what has been given up.
    pub(crate) const fn has_lost_writes(&self) -> bool {
        let facts = &self.facts;
        facts.ended_unsettled || facts.given_up || facts.failed_writes || self.peer_lacks_writes()
    }
}

/// Decisions and settings of the resource that last between calls.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    /// Options of the resource.
    pub config: ResourceConfig,
    /// I/O suspended by the administrator.
    pub susp: bool,
    /// Whoever has suspended I/O has gone: it goes on when the handshake is over.
    pub resume_due: bool,
    /// I/O frozen for lack of data.
    pub susp_nod: bool,
    /// I/O frozen until the peer is fenced.
    pub susp_fen: bool,
    /// Requests were kept when a connection was lost, and have not been sent again, nor ended.
    pub resend_due: bool,
    /// State of the connection object, at most WFReportParams.
    pub conn: ConnState,
    /// Network configuration.
    pub net: Option<NetConfig>,
    /// Lengths of its digests.
    pub digests: DigestLengths,
    /// Length of the integrity digest of what is sent: `digests` as the peer knows it.
    pub digest_out_len: u8,
    /// The connection while it is being set up and while it stands.
    pub link: Link,
    /// Question to the peer in flight.
    pub two_phase: Option<TwoPhase>,
    /// Command in progress.
    pub job: Option<AdminJob>,
    /// Pings and deadlines.
    pub liveness: Liveness,
    /// After-change work to do, oldest first.
    pub work: [Option<Work>; engine::WORK_MAX],
    /// State of the generator of UUIDs.
    pub random: [u64; 2],
    /// Number of the last run of a helper.
    pub helper_runs: u32,
    /// A fence-peer helper has ended since the last unfence-peer.
    pub unfence_due: bool,
    /// A job waits for something; look again when the data plane has moved.
    pub waiting: bool,
    /// An action could not be queued: the shell did not drain the queue.
    pub overflow: bool,
}

/// All of the control plane that lasts, except for the volumes and the queues' slots.
#[derive(Clone, Copy, Debug)]
pub struct ControlState {
    /// Decisions and settings.
    pub core: Core,
    actions: Ends,
    orders: Ends,
    outbox: Ends,
}

impl ControlState {
    /// A new resource. `seed` is unpredictable; generation UUIDs are drawn from it.
    pub const fn new(seed: [u64; 2], config: ResourceConfig) -> Self {
        Self {
            core: Core {
                config,
                susp: false,
                resume_due: false,
                susp_nod: false,
                susp_fen: false,
                resend_due: false,
                conn: ConnState::StandAlone,
                net: None,
                digests: DigestLengths {
                    hmac: 0,
                    integrity: 0,
                    verify: 0,
                    csums: 0,
                },
                digest_out_len: 0,
                link: Link::NONE,
                two_phase: None,
                job: None,
                liveness: Liveness::NEW,
                work: [None; engine::WORK_MAX],
                random: seed,
                helper_runs: 0,
                unfence_due: false,
                waiting: false,
                overflow: false,
            },
            actions: Ends { head: 0, len: 0 },
            orders: Ends { head: 0, len: 0 },
            outbox: Ends { head: 0, len: 0 },
        }
    }
}

/// Slots that the shell lends to the control plane.
#[derive(Debug)]
pub struct Lent<'a> {
    /// One per possible volume.
    pub volumes: &'a mut [Volume],
    /// At least [`ACTIONS_MIN`].
    pub actions: &'a mut [Option<Action>],
    /// At least [`ORDERS_MIN`].
    pub orders: &'a mut [Option<Order>],
    /// At least [`OUTBOX_MIN`].
    pub outbox: &'a mut [Option<Held>],
}

/// The control plane at work.
#[derive(Debug)]
pub struct Control<'a> {
    pub(crate) s: &'a mut Core,
    pub(crate) volumes: &'a mut [Volume],
    pub(crate) actions: Fifo<'a, Action>,
    pub(crate) orders: Fifo<'a, Order>,
    pub(crate) outbox: Fifo<'a, Held>,
    pub(crate) now: Instant,
}

impl<'a> Control<'a> {
    /// Joins what lasts with the slots for one call at the time `now`.
    pub fn new(state: &'a mut ControlState, lent: Lent<'a>, now: Instant) -> Self {
        let ControlState {
            core,
            actions,
            orders,
            outbox,
        } = state;
        Self {
            s: core,
            volumes: lent.volumes,
            actions: Fifo::new(lent.actions, actions),
            orders: Fifo::new(lent.orders, orders),
            outbox: Fifo::new(lent.outbox, outbox),
            now,
        }
    }

    /// Asks the shell to do something. Log lines are dropped before the queue gets full.
    pub(crate) fn act(&mut self, action: Action) {
        let optional = matches!(action, Action::Log { .. });
        if optional && self.actions.room() < ACTIONS_MIN / 4 {
            return;
        }
        if self.actions.push(action).is_err() {
            self.s.overflow = true;
        }
    }

    /// Tells the data plane to do something.
    pub(crate) fn order(&mut self, order: Order) {
        if self.orders.push(order).is_err() {
            self.s.overflow = true;
        }
    }

    /// Prints a line about a volume.
    pub(crate) fn log(&mut self, volume: VolumeIndex, line: Line) {
        self.act(Action::Log {
            volume: Some(volume),
            line,
        });
    }

    /// Prints a line about the resource.
    pub(crate) fn log_resource(&mut self, line: Line) {
        self.act(Action::Log { volume: None, line });
    }

    /// Prints a fixed text about a volume.
    pub(crate) fn text(&mut self, volume: VolumeIndex, level: Level, text: &'static str) {
        self.log(volume, Line::Text(level, text));
    }

    /// Prints a fixed text about the resource.
    pub(crate) fn text_resource(&mut self, level: Level, text: &'static str) {
        self.log_resource(Line::Text(level, text));
    }

    /// Queues a control packet behind those queued before, once the metadata is stable.
    pub(crate) fn send(&mut self, volume: VolumeIndex, kind: ControlKind) {
        self.send_in_order(volume, Order::Send(ControlItem { volume, kind }));
    }

    /// Queues the bitmap behind the control packets queued before.
    pub(crate) fn send_bitmap(&mut self, volume: VolumeIndex) {
        self.vol_mut(volume).bitmap_due = true;
        self.order(Order::View(volume));
        self.send_in_order(volume, Order::SendBitmap(volume));
    }

    fn send_in_order(&mut self, volume: VolumeIndex, order: Order) {
        let needs = self.volumes.get(volume.slot()).map_or(0, |v| v.md.version);
        let held = Held {
            order,
            volume,
            needs,
        };
        if self.outbox.push(held).is_err() {
            self.s.overflow = true;
        }
    }

    /// Queues P_STATE with the present state. A disk that is being attached is none yet: a peer
    /// with the C driver tells us its UUIDs, which the attach waits for, only if there was none.
    pub(crate) fn send_state(&mut self, v: VolumeIndex) {
        let mut state = self.state(v);
        if state.disk == DiskState::Attaching {
            state.disk = DiskState::Diskless;
        }
        self.send(v, ControlKind::State(state.to_word()));
    }

    /// Queues P_UUIDS if there is a disk to speak of.
    pub(crate) fn send_uuids(&mut self, v: VolumeIndex, flags: u32) {
        if self.vol(v).state.disk >= DiskState::Negotiating && self.vol(v).disk.is_some() {
            // As of now: the peer may be faster, and its answer changes them.
            let flags = flags | self.own_uuid_flags(v);
            let volume = self.vol_mut(v);
            volume.uuids_queued = volume.uuids_queued.saturating_add(1);
            self.send(v, ControlKind::Uuids { flags });
        }
    }

    /// Returns the volume. `v` comes from [`Self::indices`] or was checked by [`Self::exists`].
    pub(crate) fn vol(&self, v: VolumeIndex) -> &Volume {
        &self.volumes[v.slot()]
    }

    /// Returns the volume for changes, see [`Self::vol`].
    pub(crate) fn vol_mut(&mut self, v: VolumeIndex) -> &mut Volume {
        &mut self.volumes[v.slot()]
    }

    /// Tells whether a volume lives at this place.
    pub(crate) fn exists(&self, v: VolumeIndex) -> bool {
        self.volumes
            .get(v.slot())
            .is_some_and(|volume| volume.present)
    }

    /// Returns the places of all volumes.
    pub(crate) fn indices(&self) -> impl Iterator<Item = VolumeIndex> {
        let mut present = 0u32;
        for (bit, volume) in self.volumes.iter().take(32).enumerate() {
            present |= u32::from(volume.present) << bit;
        }
        (0..32u8)
            .filter(move |bit| present >> bit & 1 != 0)
            .map(VolumeIndex)
    }

    /// Returns the place of the volume with this number.
    pub(crate) fn by_number(&self, number: u16) -> Option<VolumeIndex> {
        self.indices()
            .find(|&v| self.vol(v).number == VolumeNumber(number))
    }

    /// Returns the state of a volume with the resource's suspension flags.
    pub fn state(&self, v: VolumeIndex) -> VolumeState {
        VolumeState {
            susp: self.s.susp,
            susp_nod: self.s.susp_nod,
            susp_fen: self.s.susp_fen,
            ..self.vol(v).state
        }
    }

    /// I/O of the resource is suspended for any reason.
    pub(crate) fn suspended(&self) -> bool {
        self.s.susp || self.s.susp_nod || self.s.susp_fen
    }

    /// Agreed protocol version.
    pub(crate) fn version(&self) -> u32 {
        self.s.link.terms.version.number()
    }

    /// A feature was agreed.
    pub(crate) fn feature(&self, flag: FeatureFlags) -> bool {
        self.s.link.terms.features.contains(flag)
    }

    /// Draws a UUID: unpredictable enough to be unique, never special.
    pub(crate) fn random_uuid(&mut self) -> u64 {
        // splitmix64 over a counter, keyed by the second half of the seed: the seed is
        // unpredictable, the numbers only have to be unique.
        let [counter, key] = self.s.random;
        let counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.s.random = [counter, key];
        let mut z = counter ^ key.rotate_left(32);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31 ^ key).max(0x100)
    }

    /// Highest peer role of all volumes.
    pub(crate) fn peer_is_primary(&self) -> bool {
        self.indices()
            .any(|v| self.vol(v).state.peer == Role::Primary)
    }

    /// Returns what the data plane has to know about a volume.
    pub fn view(&self, v: VolumeIndex) -> View {
        let volume = self.vol(v);
        View {
            state: self.state(v),
            io_blocked: volume.blocks > 0,
            watch_idle: volume.watching,
            capacity: SectorCount(volume.capacity),
            max_bio_bytes: self.max_bio_bytes(v),
            crashed_primary: volume.crashed_primary,
            al_updates: volume.disk.is_none() || volume.al_updates,
            log_is_void: volume.disk.is_some_and(|disk| disk.primary_is_due())
                || self.awaits_writes(v),
            generation_due: self.holds_sync_uuid(v)
                || volume.disk.is_some_and(|disk| disk.generation_is_due()),
            target: self.target(v),
            suspends_without_data: self.s.config.on_no_data == OnNoData::SuspendIo,
            disk: volume.disk.map_or(DiskConfig::DEFAULT, |disk| disk.config),
        }
    }

    /// Returns what the data plane has to know about the connection.
    pub fn link_view(&self) -> LinkView {
        let Some(net) = self.s.net else {
            return LinkView {
                terms: Terms::INITIAL,
                ..LinkView::NONE
            };
        };
        let watch =
            self.version() >= 96 && net.on_congestion != drbd_format::types::OnCongestion::Block;
        LinkView {
            terms: self.s.link.terms,
            resolver: self.s.link.resolver,
            established: self.s.conn == ConnState::WfReportParams,
            protocol: net.protocol,
            two_primaries: net.two_primaries,
            digest_out_len: self.s.digest_out_len,
            verify_len: self.s.digests.verify,
            csums_len: self.s.digests.csums,
            csums_after_crash_only: net.csums_after_crash_only,
            timeout_tenths: net.timeout_tenths,
            ko_count: net.ko_count,
            max_buffers: net.max_buffers,
            max_epoch_size: net.max_epoch_size,
            congestion: watch.then_some(Congestion {
                fill_sectors: net.congestion_fill,
                extents: net.congestion_extents,
            }),
            silence_max: net.silence_max(),
            use_rle: net.use_rle,
            since: self.s.link.since,
        }
    }
}
