//! What the shell reports to the control plane.

use drbd_format::types::Role;

use crate::action::{Handler, HmacJob, Ticket};
use crate::config::{DiskConfig, NetConfig, ResourceConfig};
use crate::link::{LinkError, VolumeIndex, VolumeNumber};

/// Something that happened, or a command.
///
/// Large payloads are borrowed: the core copies what it keeps.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A command. Answered by exactly one `Action::AdminDone` with this ticket, at once or later.
    Admin(&'a AdminRequest, Ticket),
    /// The bitmap has been read and handed to the data plane.
    BitmapRead {
        /// Which volume.
        volume: VolumeIndex,
        /// Whether all pages could be read.
        ok: bool,
    },
    /// All pages asked for have been written.
    BitmapWritten {
        /// Which volume.
        volume: VolumeIndex,
        /// Whether all succeeded.
        ok: bool,
    },
    /// The backing devices are closed and lent memory has been taken back.
    DiskClosed {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// The caller of a command has given up waiting.
    Cancel(Ticket),
    /// The device has been closed by one opener.
    Closed {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// Listening or connecting failed for good (address in use …).
    ConnectFailed,
    /// A helper for whose end the control plane waits has ended.
    HelperDone {
        /// Which helper.
        handler: Handler,
        /// The volume it was about.
        volume: Option<VolumeIndex>,
        /// The run that has ended.
        run: u32,
        /// Exit code 0 to 255; 0 if it could not be run.
        exit: u8,
    },
    /// The shell has computed a digest.
    HmacReady {
        /// Which one.
        job: HmacJob,
        /// The digest, at most 64 bytes; empty: it could not be computed.
        digest: &'a [u8],
    },
    /// A socket failed or a timeout was seen by the shell.
    LinkLost(LinkError),
    /// The disk has not answered within `disk-timeout`, or is being given up by force, and nobody
    /// waits for the block of metadata any more (`reference/io.md` 4.3). Comes before the outcome
    /// of what the block was for, which is a failure.
    MetadataTimedOut {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// The superblock has been written.
    MetadataWritten {
        /// Which volume.
        volume: VolumeIndex,
        /// Whether it succeeded.
        ok: bool,
    },
    /// The device has been opened.
    Opened {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// Both sockets are closed and nobody uses them any more.
    ReceiverGone,
    /// The data socket has taken nothing for `timeout`; repeated while that goes on.
    SendTimeout,
    /// Another volume, named by `resync-after`, has to sync first, or not any more.
    SyncDependency {
        /// Which volume.
        volume: VolumeIndex,
        /// It has to wait.
        busy: bool,
    },
    /// Both sockets exist.
    SocketsUp {
        /// This node accepted the meta socket (`reference/wire.md` 1.4).
        resolver: bool,
        /// 64 unpredictable bytes, the challenge of the authentication.
        random: &'a [u8; 64],
    },
}

/// What the shell knows about a backing disk when it asks to attach it. The superblock has been
/// read and passed the checks of `reference/metadata.md` 2.3; the devices are open; the memory for
/// the bitmap (of `max_capacity_sectors`) and the extent tables has been lent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackingFacts {
    /// The four generation UUIDs: current, bitmap, history 1, history 2.
    pub uuids: [u64; 4],
    /// Identifies the metadata instance, carried along.
    pub device_uuid: u64,
    /// Metadata flags (`reference/metadata.md` 2.2).
    pub flags: u32,
    /// Last agreed size, 0: never.
    pub la_size_sectors: u64,
    /// Last known largest request of the peer.
    pub la_peer_max_bio_bytes: u32,
    /// Usable sectors of the device (`reference/metadata.md` 1.2).
    pub max_capacity_sectors: u64,
    /// Place of the superblock, sectors from the start of the metadata device.
    pub md_offset_sectors: u64,
    /// Size of the metadata area, sectors.
    pub md_size_sectors: u32,
    /// Place of the activity log relative to the superblock, sectors.
    pub al_offset_sectors: i32,
    /// Place of the bitmap relative to the superblock, sectors.
    pub bm_offset_sectors: i32,
    /// Stripes of the activity log.
    pub al_stripes: u32,
    /// Size of a stripe in 4 KiB blocks.
    pub al_stripe_size_4k: u32,
    /// `meta_dev_idx` (`reference/metadata.md` 1.1).
    pub md_index: i32,
    /// Largest request the disk takes, in bytes.
    pub max_bio_bytes: u32,
    /// Physical and logical block size, bytes.
    pub physical_block_bytes: u32,
    /// Logical block size, bytes.
    pub logical_block_bytes: u32,
    /// Misalignment of the device, bytes.
    pub alignment_offset: u32,
    /// Smallest efficient request, bytes.
    pub io_min_bytes: u32,
    /// Best request, bytes.
    pub io_opt_bytes: u32,
    /// The disk can discard.
    pub discard: bool,
}

/// The commands (`reference/netlink.md` 2). Existence of objects, parameters and privileges have
/// been checked by the shell; everything that depends on the state is checked here.
#[derive(Clone, Copy, Debug)]
pub enum AdminRequest {
    /// attach
    Attach {
        /// Which volume.
        volume: VolumeIndex,
        /// Options.
        config: DiskConfig,
        /// The disk.
        facts: BackingFacts,
    },
    /// connect; the digests named in the options exist, their lengths are given.
    Connect {
        /// Options.
        config: NetConfig,
        /// Lengths of their digests.
        digests: DigestLengths,
    },
    /// del-minor, the part that concerns the state.
    DelVolume {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// detach
    Detach {
        /// Which volume.
        volume: VolumeIndex,
        /// Do not wait for the disk.
        force: bool,
    },
    /// disconnect
    Disconnect {
        /// Do not ask the peer.
        force: bool,
    },
    /// chg-disk-opts
    DiskOptions {
        /// Which volume.
        volume: VolumeIndex,
        /// The new options.
        config: DiskConfig,
    },
    /// invalidate
    Invalidate {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// invalidate-peer
    InvalidateRemote {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// chg-net-opts
    NetOptions {
        /// The new options.
        config: NetConfig,
        /// Lengths of their digests.
        digests: DigestLengths,
    },
    /// new-c-uuid
    NewCurrentUuid {
        /// Which volume.
        volume: VolumeIndex,
        /// Also clear the bitmap.
        clear_bitmap: bool,
    },
    /// new-minor
    NewVolume {
        /// A free place.
        volume: VolumeIndex,
        /// Its number.
        number: VolumeNumber,
    },
    /// outdate
    Outdate {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// pause-sync
    PauseSync {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// resize
    Resize {
        /// Which volume.
        volume: VolumeIndex,
        /// Wanted size, 0: no limit.
        size_sectors: u64,
        /// Assume that the peer has the space.
        force: bool,
        /// New space need not be synced.
        assume_clean: bool,
        /// Usable sectors of the backing device now (it may have grown).
        max_capacity_sectors: u64,
    },
    /// resource-opts
    ResourceOptions {
        /// The new options.
        config: ResourceConfig,
    },
    /// resume-io
    ResumeIo {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// resume-sync
    ResumeSync {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// primary, secondary
    SetRole {
        /// Which volume.
        volume: VolumeIndex,
        /// Wanted role.
        role: Role,
        /// Promote without good data.
        force: bool,
    },
    /// suspend-io
    SuspendIo {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// start-ov
    Verify {
        /// Which volume.
        volume: VolumeIndex,
        /// First sector; `None`: where the last run stopped.
        start: Option<u64>,
        /// Sector at which to stop, `u64::MAX`: the end.
        stop: u64,
    },
}

/// A digest whose algorithm the peer may choose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DigestUse {
    /// `csums-alg`.
    Checksums,
    /// `data-integrity-alg`, of what the peer sends.
    Integrity,
    /// `verify-alg`.
    Verify,
}

impl DigestUse {
    /// The option that names the algorithm.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Checksums => "csums-alg",
            Self::Integrity => "data-integrity-alg",
            Self::Verify => "verify-alg",
        }
    }
}

/// Lengths in bytes of the digests that a network configuration names, 0: none configured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DigestLengths {
    /// `cram-hmac-alg`.
    pub hmac: u8,
    /// `data-integrity-alg`.
    pub integrity: u8,
    /// `verify-alg`.
    pub verify: u8,
    /// `csums-alg`.
    pub csums: u8,
}
