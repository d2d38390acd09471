//! One request on behalf of the peer, or of our own resync and verify: write, read, compare.

use drbd_format::units::{Sector, SectorCount, SectorRange};

use crate::link::VolumeIndex;
use crate::memory::interval::{Interval, Node};
use crate::memory::slab::{Id, Link, Links, Slot};

/// Identity of a peer request.
pub type PeerId = Id;

/// Slot for one peer request.
pub type PeerSlot = Slot<PeerRequest>;

/// Longest digest kept with a request, in bytes.
pub const DIGEST_MAX: usize = 64;

/// What the request is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PeerKind {
    /// Checksum resync, source: read, compare with the peer's digest.
    ChecksumCompare,
    /// Checksum resync, target: read, send our digest.
    ChecksumRead,
    /// Application read of the peer.
    Read,
    /// A packet that is only answered in the negative: no disk, or out of place.
    Refused,
    /// Resync, source: read and send.
    ResyncRead,
    /// Resync, target: range without data, to be discarded.
    ResyncTrim,
    /// Resync, target: data to be written.
    ResyncWrite,
    /// Thin resync, source: read, send only if not all zero.
    ThinRead,
    /// Application discard or write-zeroes of the peer.
    Trim,
    /// Verify, asking side: read, compare with the peer's digest.
    VerifyCompare,
    /// Verify, answering side: read, send our digest.
    VerifyRead,
    /// Application write of the peer.
    #[default]
    Write,
}

impl PeerKind {
    /// The request changes the disk.
    #[inline]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            Self::ResyncTrim | Self::ResyncWrite | Self::Trim | Self::Write
        )
    }

    /// The request counts for an epoch.
    #[inline]
    pub const fn is_application_write(self) -> bool {
        matches!(self, Self::Trim | Self::Write)
    }

    /// The digest of the data is needed after it was read.
    #[inline]
    pub const fn wants_digest(self) -> bool {
        matches!(
            self,
            Self::ChecksumCompare | Self::ChecksumRead | Self::VerifyCompare | Self::VerifyRead
        )
    }

    /// A read whose outcome makes blocks equal in a run of a resync.
    #[inline]
    pub const fn is_for_a_run(self) -> bool {
        matches!(
            self,
            Self::ChecksumCompare | Self::ChecksumRead | Self::ResyncRead | Self::ThinRead
        )
    }

    /// The peer says whether it has written what it is answered.
    #[inline]
    pub const fn is_acked(self) -> bool {
        self.is_for_a_run() && !matches!(self, Self::ChecksumRead)
    }

    /// The request belongs to resync or verify: it holds a resync extent.
    #[inline]
    pub const fn holds_extent(self) -> bool {
        match self {
            Self::ChecksumCompare
            | Self::ChecksumRead
            | Self::ResyncRead
            | Self::ResyncTrim
            | Self::ResyncWrite
            | Self::ThinRead
            | Self::VerifyCompare
            | Self::VerifyRead => true,
            Self::Read | Self::Refused | Self::Trim | Self::Write => false,
        }
    }
}

/// Where the request is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stage {
    /// Nobody waits for it but the disk that keeps it, which is detached by force.
    Abandoned,
    /// Its ack waits for the meta socket.
    Acking,
    /// The shell computes a digest over its data.
    Digest,
    /// Nothing is left but to give its pages back.
    Freeing,
    /// With the disk.
    InFlight,
    /// The shell receives its payload.
    #[default]
    Receiving,
    /// Its reply waits for the data socket.
    Replying,
    /// The data socket is working on its reply.
    Sending,
    /// Waits for its extent, its epoch, an overlapping write or its turn.
    Waiting,
}

/// An ack to be sent on the meta socket.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ack {
    /// P_NEG_ACK
    Neg,
    /// P_NEG_DREPLY
    NegRead,
    /// P_NEG_RS_DREPLY
    NegResyncRead,
    /// None.
    #[default]
    None,
    /// P_RECV_ACK
    Received,
    /// P_RS_CANCEL
    ResyncCancel,
    /// P_RS_IS_IN_SYNC
    ResyncInSync,
    /// P_RS_WRITE_ACK
    ResyncWritten,
    /// P_RETRY_WRITE
    Retry,
    /// P_SUPERSEDED
    Superseded,
    /// P_OV_RESULT
    VerifyResult {
        /// The blocks are equal.
        same: bool,
    },
    /// P_WRITE_ACK
    Written,
}

/// A request on behalf of the peer.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    /// Which volume.
    pub volume: VolumeIndex,
    /// What for.
    pub kind: PeerKind,
    /// Where it is.
    pub stage: Stage,
    /// First sector.
    pub sector: Sector,
    /// Length in bytes.
    pub len_bytes: u32,
    /// Echoed to the peer.
    pub block_id: u64,
    /// Force unit access.
    pub fua: bool,
    /// Flush before.
    pub preflush: bool,
    /// Somebody waits for it.
    pub sync: bool,
    /// Write zeroes instead of discarding.
    pub zero_out: bool,
    /// Zeroing may deallocate.
    pub may_unmap: bool,
    /// DP_MAY_SET_IN_SYNC.
    pub may_set_in_sync: bool,
    /// A write ack is wanted.
    pub wants_write_ack: bool,
    /// A receive ack is wanted.
    pub wants_receive_ack: bool,
    /// The disk did it.
    pub ok: bool,
    /// The connection it belongs to is gone.
    pub cancelled: bool,
    /// It counts for its epoch.
    pub in_epoch: bool,
    /// The peer had no disk when it came in: only this node will know that the disks differ.
    pub peer_is_diskless: bool,
    /// It counts as an unfinished write of the peer's applications.
    pub is_counted_write: bool,
    /// It holds a user of its resync extent.
    pub holds_extent: bool,
    /// The resync session counts it.
    pub counted: bool,
    /// The disk that has it is detached by force: it is answered without it, and its slot and
    /// pages are not free before it comes back.
    pub aborted: bool,
    /// The shell keeps pages under this slot.
    pub has_pages: bool,
    /// Its payload pages count against max-buffers.
    pub pages: u32,
    /// It is a read of the peer, and there is memory for these pages.
    pub holds_pages: bool,
    /// Sequence number of its epoch.
    pub epoch: u64,
    /// Order of arrival of writes.
    pub arrival: u64,
    /// Place in the order of the data socket.
    pub stamp: u64,
    /// First extent of the activity log, if it needs the log.
    pub al_first: u32,
    /// Extents of the activity log held.
    pub al_count: u32,
    /// First ack.
    pub ack: Ack,
    /// Ack that follows the first one.
    pub next_ack: Ack,
    digest: [u8; DIGEST_MAX],
    digest_len: u8,
    links: [Link; LISTS],
    node: Node,
}

/// The one list for requests that wait for something on their way.
pub(crate) const LIST_WORK: usize = 0;
/// Acks in order.
pub(crate) const LIST_ACK: usize = 1;
/// All requests in existence.
pub(crate) const LIST_ALL: usize = 2;
const LISTS: usize = 3;

impl Default for PeerRequest {
    fn default() -> Self {
        Self {
            volume: VolumeIndex(0),
            kind: PeerKind::Write,
            stage: Stage::Receiving,
            sector: Sector(0),
            len_bytes: 0,
            block_id: u64::MAX,
            fua: false,
            preflush: false,
            sync: false,
            zero_out: false,
            may_unmap: false,
            may_set_in_sync: false,
            wants_write_ack: false,
            wants_receive_ack: false,
            ok: false,
            cancelled: false,
            in_epoch: false,
            peer_is_diskless: false,
            is_counted_write: false,
            holds_extent: false,
            counted: false,
            aborted: false,
            has_pages: false,
            pages: 0,
            holds_pages: false,
            epoch: 0,
            arrival: 0,
            stamp: 0,
            al_first: 0,
            al_count: 0,
            ack: Ack::None,
            next_ack: Ack::None,
            digest: [0; DIGEST_MAX],
            digest_len: 0,
            links: [Link::NONE; LISTS],
            node: Node::default(),
        }
    }
}

impl PeerRequest {
    /// Returns the sectors concerned.
    #[inline]
    pub fn range(&self) -> SectorRange {
        SectorRange::from_bytes(self.sector, self.len_bytes).unwrap_or_default()
    }

    /// Returns the length in sectors.
    #[inline]
    pub fn sectors(&self) -> SectorCount {
        self.range().len()
    }

    /// Returns the digest that came with the request or was computed for it.
    pub fn digest(&self) -> &[u8] {
        self.digest
            .get(..usize::from(self.digest_len))
            .unwrap_or(&[])
    }

    /// Keeps a digest. Answers `false` if it is too long.
    pub fn set_digest(&mut self, digest: &[u8]) -> bool {
        let Some(space) = self.digest.get_mut(..digest.len()) else {
            return false;
        };
        space.copy_from_slice(digest);
        self.digest_len = u8::try_from(digest.len()).unwrap_or(0);
        true
    }
}

impl Links for PeerRequest {
    #[inline]
    fn link(&self, list: usize) -> Link {
        self.links[list]
    }

    #[inline]
    fn set_link(&mut self, list: usize, link: Link) {
        self.links[list] = link;
    }
}

impl Interval for PeerRequest {
    #[inline]
    fn node(&self) -> &Node {
        &self.node
    }

    #[inline]
    fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}
