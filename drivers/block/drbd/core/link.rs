//! What the control plane and the data plane tell each other, all of it values.
//!
//! Downwards: [`View`] and [`LinkView`] (the present state and settings, handed over whenever they
//! change) and [`Order`] (something to do now). Upwards: [`Upcall`] (something happened) and
//! [`Facts`] (numbers the control plane reads). [`crate::resource::Resource`] carries them back and
//! forth until both sides are quiet.

use drbd_format::types::Protocol;
use drbd_format::units::{Sector, SectorCount};
use drbd_format::wire::features::Terms;

use crate::config::DiskConfig;
use crate::state::VolumeState;
use crate::time::{Duration, Instant};

/// Number of volumes that one resource can hold.
pub const VOLUMES_MAX: usize = 16;

/// Place of a volume in the tables of its resource, below [`VOLUMES_MAX`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VolumeIndex(pub u8);

impl VolumeIndex {
    /// Returns the index as used for slices.
    #[inline]
    pub const fn slot(self) -> usize {
        // CAST: Widening.
        self.0 as usize
    }

    /// Returns the mask that stands for this volume in a set of volumes.
    #[inline]
    pub const fn bit(self) -> u32 {
        if self.0 < 32 {
            1 << self.0
        } else {
            0
        }
    }
}

/// Number of a volume as users and peers know it, 0 to 65534.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VolumeNumber(pub u16);

/// Settings and state of the connection that the data plane needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkView {
    /// How packets are read and written: agreed version and features, the peer's digest length.
    /// [`Terms::INITIAL`] until the feature handshake has ended (`reference/wire.md` 1.4).
    pub terms: Terms,
    /// This node holds the resolve-conflicts mark.
    pub resolver: bool,
    /// The handshake is over: anything but handshake packets may be sent.
    pub established: bool,
    /// Replication protocol of the own configuration.
    pub protocol: Protocol,
    /// Both nodes may be primary.
    pub two_primaries: bool,
    /// Bytes of the integrity digest in packets we send, 0: none.
    pub digest_out_len: u8,
    /// Bytes of the digest for online verify, 0: none.
    pub verify_len: u8,
    /// Bytes of the digest for checksum-based resync, 0: none.
    pub csums_len: u8,
    /// Checksum-based resync only if this node was a crashed primary.
    pub csums_after_crash_only: bool,
    /// `timeout`, 0.1 s.
    pub timeout_tenths: u32,
    /// `ko-count`, 0: off.
    pub ko_count: u32,
    /// `max-buffers`, pages.
    pub max_buffers: u32,
    /// `max-epoch-size`, writes.
    pub max_epoch_size: u32,
    /// What to watch for congestion; `None`: nothing.
    pub congestion: Option<Congestion>,
    /// A peer that is heard of for so long has noticed if the link was broken before.
    pub silence_max: Duration,
    /// Compress bitmaps.
    pub use_rle: bool,
    /// When the connection was established.
    pub since: Instant,
}

impl LinkView {
    /// Without a network configuration.
    pub const NONE: Self = Self {
        terms: Terms::INITIAL,
        resolver: false,
        established: false,
        protocol: Protocol::C,
        two_primaries: false,
        digest_out_len: 0,
        verify_len: 0,
        csums_len: 0,
        csums_after_crash_only: false,
        timeout_tenths: 60,
        ko_count: 7,
        max_buffers: 1_000_000,
        max_epoch_size: 2048,
        congestion: None,
        silence_max: Duration::ZERO,
        use_rle: true,
        since: Instant(0),
    };
}

/// Limits beyond which the link counts as congested (`reference/wire.md` 10.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Congestion {
    /// Sectors in flight, 0: not watched.
    pub fill_sectors: u32,
    /// Activity-log extents in use.
    pub extents: u32,
}

/// State and settings of one volume that the data plane needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View {
    /// The state vector with the resource's suspension flags overlaid.
    pub state: VolumeState,
    /// New application I/O has to wait for a moment (resize, attach, detach, verify …).
    pub io_blocked: bool,
    /// The control plane waits for a counter of [`Facts`] to become zero: report
    /// [`Upcall::Idle`] whenever one of them does.
    pub watch_idle: bool,
    /// Size of the replicated device.
    pub capacity: SectorCount,
    /// Largest request towards peer and disk, in bytes.
    pub max_bio_bytes: u32,
    /// This node was a crashed primary (for checksum-based resync).
    pub crashed_primary: bool,
    /// The activity log is maintained (`al-updates`).
    pub al_updates: bool,
    /// The superblock that shall say that there is a Primary is not on disk yet: after a crash
    /// nobody would look at the activity log.
    pub log_is_void: bool,
    /// The generation of the disk is not on disk yet, or the peer has not been told of the resync
    /// from here: nothing is written before.
    pub generation_due: bool,
    /// How far a resync to this disk has begun.
    pub target: Target,
    /// I/O is suspended when no good data is left (`on-no-data-accessible`).
    pub suspends_without_data: bool,
    /// Options of the disk, the peer's resync settings already merged in.
    pub disk: DiskConfig,
}

/// How far a resync to a disk has begun (`reference/io.md` 6.1). As long as the disk is consistent
/// on stable storage (good) nothing is written to it for the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// The source has begun it, and this node is about to.
    Begins {
        /// The disk is good.
        good: bool,
    },
    /// It has begun, and the disk is still good.
    Good,
    /// None begins, or it goes on.
    No,
}

impl Target {
    /// The source has begun a resync, and this node is about to.
    pub(crate) const fn begins(self) -> bool {
        matches!(self, Self::Begins { .. })
    }

    /// Nothing may be written to the disk for the peer.
    pub(crate) const fn is_good(self) -> bool {
        matches!(self, Self::Begins { good: true } | Self::Good)
    }
}

impl View {
    /// A volume that has just been created.
    pub const INITIAL: Self = Self {
        state: VolumeState::INITIAL,
        io_blocked: false,
        watch_idle: false,
        capacity: SectorCount(0),
        max_bio_bytes: 1 << 20,
        crashed_primary: false,
        al_updates: true,
        log_is_void: false,
        generation_due: false,
        target: Target::No,
        suspends_without_data: false,
        disk: DiskConfig::DEFAULT,
    };
}

/// Direction of a resync or an online verify, from this node's point of view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Answers (resync), asks and compares (verify).
    Source,
    /// Asks and writes (resync), answers (verify).
    Target,
}

/// Something the data plane must do now, in the order given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The [`View`] of this volume has changed (carried out by the resource: `set_view`).
    View(VolumeIndex),
    /// The [`LinkView`] has changed (carried out by the resource: `set_link`).
    Link,
    /// A volume exists from now on.
    NewVolume(VolumeIndex, VolumeNumber),
    /// The volume is gone; nothing of it is in flight.
    DropVolume(VolumeIndex),
    /// Both sockets exist: packets may be sent; sequence numbers and epochs start anew.
    LinkUp,
    /// The connection is gone: forget what was queued, cancel work for the peer, report
    /// [`Upcall::PeerIoDrained`] when none of it is left. With `keep` the transfer log stays as it
    /// is (I/O is suspended), otherwise its requests end (`reference/io.md` 1.10).
    LinkLost {
        /// Keep the requests for a later resend.
        keep: bool,
        /// Keep also those that applications are done with and that nobody can send again, of
        /// volumes whose disk has a fencing policy: if the peer is restarted meanwhile, and may
        /// lack them, its disk will say so.
        keep_ended: bool,
    },
    /// Send the frozen requests of all volumes again (`reference/io.md` 1.9 a).
    ResendFrozen,
    /// The frozen requests of all volumes end as on connection loss.
    EndFrozen,
    /// The frozen requests of this volume end as on connection loss.
    EndFrozenOf(VolumeIndex),
    /// Frozen requests of this volume that waited for its disk fail.
    FailFrozen(VolumeIndex),
    /// Frozen requests of all volumes that waited for a disk go to the disk again.
    RestartFrozen,
    /// The writes of this volume that have not ended go to its disk, which is back.
    RestartWrites(VolumeIndex),
    /// The volume has a disk; its bitmap, with room for the capacity, has been lent.
    DiskAttached(VolumeIndex),
    /// The volume has no disk any more.
    DiskDetached(VolumeIndex),
    /// Forced detach: end the local part of every request that waits for the disk.
    AbortLocal(VolumeIndex),
    /// The device has this size from now on; bits of new space are set or clear.
    Resize {
        /// Which volume.
        volume: VolumeIndex,
        /// New size.
        capacity: SectorCount,
        /// Set the bits of the new space.
        set_new_bits: bool,
    },
    /// Mark everything out of sync.
    SetAllBits(VolumeIndex),
    /// Mark everything in sync.
    ClearAllBits(VolumeIndex),
    /// Send the whole bitmap, as soon as no application I/O of the volume is in flight locally;
    /// then report [`Upcall::BitmapSent`].
    SendBitmap(VolumeIndex),
    /// The exchange that the bitmap was for has come to nothing: it is not sent.
    KeepBitmap(VolumeIndex),
    /// Begin a resync; paused or running follows from the state.
    StartResync(VolumeIndex, Side),
    /// The resync from here that begins is one of new space, without an exchange of the bitmaps.
    OnlyNewSpace {
        /// Volume.
        volume: VolumeIndex,
        /// Size of the device before.
        old: SectorCount,
    },
    /// Begin an online verify.
    StartVerify {
        /// Which volume.
        volume: VolumeIndex,
        /// Asking or answering side.
        side: Side,
        /// First sector; ignored for [`Side::Target`], which learns it from the first request.
        start: Sector,
        /// Sector at which to stop, `u64::MAX`: the end.
        stop: Sector,
    },
    /// A resync or verify has ended or was given up: forget its extents and counters.
    StopResync(VolumeIndex),
    /// The peer says that the resync (verify) is over: report [`Upcall::ResyncDone`]
    /// ([`Upcall::VerifyDone`]) if nothing but failed blocks is left.
    CheckResyncDone {
        /// Volume.
        volume: VolumeIndex,
        /// Its disk has failed, or could not write everything.
        failed: bool,
    },
    /// Blocks were marked while the end of the resync that we are the target of was agreed on.
    GoOnSyncing(VolumeIndex),
    /// A new write epoch begins (replication was switched on or off).
    NewEpoch,
    /// Fill the whole activity log ring with numbered transactions; [`Facts::ring_pending`] tells
    /// when that is done.
    WriteRing(VolumeIndex),
    /// Empty the activity log and stop updating it.
    SuspendAl(VolumeIndex),
    /// Maintain the activity log again.
    ResumeAl(VolumeIndex),
    /// Queue a control packet on the data socket.
    Send(ControlItem),
}

/// A control packet waiting for its turn on the data socket. The control plane encodes it when it
/// is dequeued (`Control::encode`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ControlItem {
    /// The volume it is about; [`VolumeIndex`] 0 for packets of the whole connection.
    pub volume: VolumeIndex,
    /// What to send.
    pub kind: ControlKind,
}

/// Kinds of control packets (`reference/wire.md` 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ControlKind {
    /// P_CONNECTION_FEATURES.
    Features,
    /// P_AUTH_CHALLENGE.
    AuthChallenge,
    /// P_AUTH_RESPONSE.
    AuthResponse,
    /// P_PROTOCOL.
    Protocol,
    /// P_PROTOCOL_UPDATE.
    ProtocolUpdate,
    /// P_SYNC_PARAM or P_SYNC_PARAM89.
    SyncParam,
    /// P_SIZES.
    Sizes {
        /// c_size is 0: the peer shall answer with its own sizes.
        trigger_reply: bool,
        /// dds_flags.
        flags: u16,
    },
    /// P_UUIDS with these flags, as of the moment it was queued.
    Uuids {
        /// Flags (`reference/wire.md` 4.4).
        flags: u32,
    },
    /// P_STATE with the state word of the moment it was queued.
    State(u32),
    /// P_SYNC_UUID.
    SyncUuid(u64),
    /// P_STATE_CHG_REQ.
    StateChange {
        /// Fields to change.
        mask: u32,
        /// Their new values.
        val: u32,
    },
    /// P_CONN_ST_CHG_REQ (P_STATE_CHG_REQ below version 100).
    ConnStateChange {
        /// Fields to change.
        mask: u32,
        /// Their new values.
        val: u32,
    },
}

/// What failed on the local disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LocalError {
    /// Reading data.
    Read,
    /// Writing data.
    Write,
    /// Reading or writing metadata, bitmap or activity log.
    Metadata,
    /// The disk did not answer within `disk-timeout`.
    Timeout,
    /// A flush for the peer, over one connection after the other.
    Flush,
}

/// Why the connection ends (`reference/wire.md` 10.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkError {
    /// The peer does not answer.
    Timeout,
    /// End of file or error on the data socket.
    BrokenPipe,
    /// End of file or error on the meta socket, missing ping answer.
    NetworkFailure,
    /// The peer sent what it must not send.
    ProtocolError,
    /// Never connect again by itself.
    StandAlone,
}

/// Something that happened on the data plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upcall {
    /// A request to the local disk failed.
    LocalIoFailed {
        /// Which volume.
        volume: VolumeIndex,
        /// What failed.
        error: LocalError,
    },
    /// After [`Order::LinkLost`]: nothing on behalf of the peer is in flight any more.
    PeerIoDrained,
    /// A counter of [`Facts`] has become zero while `watch_idle` is set.
    Idle(VolumeIndex),
    /// The whole bitmap has been handed to the data socket.
    BitmapSent(VolumeIndex),
    /// The peer's whole bitmap has been merged into ours.
    BitmapReceived(VolumeIndex),
    /// Only failed blocks are left to sync.
    ResyncDone {
        /// Which volume.
        volume: VolumeIndex,
        /// Bits that could not be synced.
        failed_bits: u64,
    },
    /// The verify has reached its end or its stop sector.
    VerifyDone {
        /// Which volume.
        volume: VolumeIndex,
        /// Bits found different in this run.
        out_of_sync_bits: u64,
    },
    /// The bitmap has changes that should be written soon (`reference/metadata.md` 4.4).
    BitmapWriteDue(VolumeIndex),
    /// The connection cannot go on.
    LinkFailed(LinkError),
    /// More is in flight than [`Congestion`] allows.
    Congested(VolumeIndex),
    /// In state Ahead: nothing is in flight any more.
    Uncongested(VolumeIndex),
    /// Ask the peer whether it is alive (a send has been blocked for `timeout`).
    PingWanted,
    /// The first write over this connection from a peer without a disk waits
    /// ([`Facts::took_writes`], `reference/metadata.md` 7).
    TookWrites(VolumeIndex),
}

/// Numbers of one volume that the control plane reads from the data plane.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// Set bits of the bitmap.
    pub bits_set: u64,
    /// Bits of the bitmap.
    pub bits_total: u64,
    /// Application requests admitted and not completed.
    pub app_in_flight: u32,
    /// Application requests not yet answered by the peer.
    pub peer_pending: u32,
    /// Requests to the local disk in flight, for applications and for the peer.
    pub local_in_flight: u32,
    /// Those for applications.
    pub app_local: u32,
    /// Writes of the peer's applications that are not finished.
    pub peer_writes: u32,
    /// Sector at which the next verify should start.
    pub verify_start: u64,
    /// Bits of the verify that goes on whose blocks have been compared.
    pub verified_bits: u64,
    /// Bits of the run that goes on whose blocks had equal checksums, if it compares them.
    pub equal_bits: Option<u64>,
    /// Of this run: blocks that are not marked here could not be read, or the peer refused them.
    pub refused_unmarked: bool,
    /// This run from here ends with the last bit; the peer has not said that it is over.
    pub ends_on_count: bool,
    /// The activity log ring is still being filled.
    pub ring_pending: bool,
    /// Applications have written to the peer alone since the own disk was UpToDate.
    pub missed_writes: bool,
    /// Some of them were acknowledged by the peer alone, and ended.
    pub lacks_ended: bool,
    /// Since the own disk was UpToDate writes of applications have ended in vain, or were given up
    /// while it was not there: any disk may have them.
    pub failed_writes: bool,
    /// Writes of the peer's applications have failed here since the own disk became UpToDate.
    pub refused_writes: bool,
    /// Writes have come in over this connection, for this disk, while the peer had none.
    pub took_writes: bool,
    /// Applications were told of writes that the peer may never have got.
    pub peer_missed: bool,
    /// Requests hold extents of the activity log, or will.
    pub al_used: bool,
    /// Writes have been sent of which it is not known that they are safe with the peer, or known
    /// that they are not.
    pub unsettled: bool,
    /// Applications are done with some of them; exact while I/O is suspended.
    pub ended_unsettled: bool,
    /// I/O is suspended, and some writes that are frozen will not be sent again.
    pub given_up: bool,
    /// I/O is suspended, and applications are done with writes whose barrier is not acknowledged,
    /// be it that of a connection that is gone.
    pub keeps_ended: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_without_a_bit_of_its_own_has_none() {
        assert_eq!(VolumeIndex(0).bit(), 1);
        assert_eq!(VolumeIndex(31).bit(), 1 << 31);
        assert_eq!(VolumeIndex(32).bit(), 0);
    }
}
