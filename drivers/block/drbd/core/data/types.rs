//! The values that cross the border between the data plane and the shell.

use drbd_format::disk::layout::Striping;
use drbd_format::units::Sector;

use crate::link::{LinkError, VolumeIndex};
use crate::peer_request::PeerId;
use crate::request::{IoError, Op, RequestId};
use crate::time::Instant;

/// One application request as the block layer hands it in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AppIo {
    /// Which volume.
    pub volume: VolumeIndex,
    /// What is wanted. A write without data is a [`Op::Flush`].
    pub op: Op,
    /// First sector.
    pub sector: Sector,
    /// Length: a multiple of 512 bytes; at most 1 MiB, for discards and zeroes 128 MiB; 0 for a
    /// flush.
    pub len_bytes: u32,
    /// Force unit access.
    pub fua: bool,
    /// Flush before.
    pub preflush: bool,
    /// Somebody waits for it.
    pub sync: bool,
    /// Zeroing may deallocate.
    pub may_unmap: bool,
    /// Failing is no problem.
    pub read_ahead: bool,
}

/// Answer to [`super::DataPlane::submit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Submit {
    /// Admitted. The shell keeps the upper request under the slot and carries out the local part.
    Admitted {
        /// Identity, until `Free` is popped.
        id: RequestId,
        /// What to do locally.
        local: LocalPart,
    },
    /// End the upper request with success; there is nothing to keep.
    Finish,
    /// The shell keeps the upper request; it comes back through `next_ready`.
    Parked {
        /// Identity, until `Free` is popped.
        id: RequestId,
    },
    /// End the upper request with this error; there is nothing to keep.
    Refuse(IoError),
    /// Sleep until `Wants::submitters`, then try again.
    Wait,
}

/// What a request needs from the local disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LocalPart {
    /// Submit a clone of the upper request to the backing device, then `local_done`.
    Clone {
        /// Force unit access.
        fua: bool,
        /// Flush before.
        preflush: bool,
    },
    /// Discard or zero out the range (`reference/io.md` 5.2), then `local_done`. May sleep.
    Discard {
        /// Zeroes must be written.
        zero_out: bool,
        /// Zeroing may deallocate.
        may_unmap: bool,
    },
    /// Nothing.
    None,
}

/// Something that happened to an application request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Done {
    /// Which request.
    pub id: RequestId,
    /// What to do.
    pub what: DoneKind,
}

/// What the shell has to do with an ended request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DoneKind {
    /// End the upper request.
    EndBio(Result<(), IoError>),
    /// The slot is free: drop clone and page references.
    Free,
    /// Submit the upper request again, as a new one.
    Reissue,
}

/// Next step of the activity log of a volume; the volume worker carries it out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AlStep {
    /// Nothing to do.
    Idle,
    /// Write this page of the bitmap (`bitmap_page`), then `bitmap_page_written`.
    WriteBitmapPage {
        /// Page number.
        page: u32,
    },
    /// Write the 4096 bytes in the buffer, then `al_written`.
    WriteTransaction {
        /// Place on the metadata device, from its start.
        md_sector: Sector,
        /// With pre-flush and FUA (without if `md-flushes` is off).
        flush: bool,
    },
}

/// A packet to be sent on the data socket: `len` bytes of the buffer, then the payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// Bytes of the buffer to send.
    pub len: usize,
    /// Pages that follow.
    pub payload: Payload,
    /// Send the integrity digest of the pages before them.
    pub digest: bool,
    /// Behind this packet the integrity digest is of the algorithm that the network configuration
    /// names now ([`crate::resource::Resource::net_config`]).
    pub algorithm: Option<Algorithm>,
    /// The pages must be copied: the upper request may end before TCP is done (protocol A).
    pub copy: bool,
    /// To be handed to `sent`, always, also if the socket failed.
    pub token: SentToken,
}

/// A packet that tells the peer of `data-integrity-alg` (`reference/wire.md` 4.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// P_PROTOCOL. What the peer sends has digests of the same algorithm until it says otherwise.
    First,
    /// P_PROTOCOL_UPDATE.
    Another,
}

/// Pages that follow a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Payload {
    /// All pages of this application request.
    App(RequestId),
    /// None.
    None,
    /// All pages of this peer request.
    Peer(PeerId),
}

/// Names a packet in the hands of the sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SentToken {
    /// An application request.
    App(RequestId),
    /// A packet that nobody asks after.
    Nothing,
    /// A reply to the peer.
    Peer(PeerId),
}

/// What to do after the fixed part of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Incoming {
    /// Receive digest and payload straight into the pages of the upper request, then
    /// `app_payload`.
    AppPayload {
        /// Which request.
        id: RequestId,
        /// Length of the payload.
        len_bytes: u32,
        /// Length of the digest before it.
        digest_len: u32,
    },
    /// Go on with the next header.
    Done,
    /// Read so many bytes and throw them away.
    Drain {
        /// Digest and payload.
        len_bytes: u32,
    },
    /// The connection cannot go on; the state has changed already. Close the sockets.
    Error(LinkError),
    /// Load the algorithm of a digest ([`crate::resource::Resource::digest_to_load`]), then
    /// `digest_loaded`, which says how to go on.
    LoadDigest,
    /// Allocate pages for the slot, receive digest and payload into them, then `peer_payload`.
    PeerPayload {
        /// Which request.
        id: PeerId,
        /// Length of the payload.
        len_bytes: u32,
        /// Length of the digest before it.
        digest_len: u32,
    },
    /// Call `data_retry` after `Wants::receiver`.
    Wait,
}

/// One step of the peer I/O executor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerIo {
    /// Compute the digest of the pages, then `digest_ready`.
    Digest {
        /// Which request.
        id: PeerId,
        /// `true`: verify-alg, `false`: csums-alg.
        verify: bool,
    },
    /// Discard or zero out, then `peer_io_done`.
    Discard {
        /// Which request.
        id: PeerId,
        /// Which volume.
        volume: VolumeIndex,
        /// First sector.
        sector: Sector,
        /// Length.
        len_bytes: u32,
        /// Zeroes must be written.
        zero_out: bool,
        /// Zeroing may deallocate.
        may_unmap: bool,
    },
    /// Flush the backing device, then `flush_done`.
    Flush {
        /// For `flush_done`.
        token: FlushToken,
        /// Which volume.
        volume: VolumeIndex,
    },
    /// The pages may go; the slot may be used again at once.
    Free {
        /// Which request.
        id: PeerId,
    },
    /// Allocate pages and read into them, then `peer_io_done`.
    Read {
        /// Which request.
        id: PeerId,
        /// Which volume.
        volume: VolumeIndex,
        /// First sector.
        sector: Sector,
        /// Length.
        len_bytes: u32,
        /// Say in `peer_io_read` whether all bytes are zero.
        check_zero: bool,
    },
    /// Write the pages, then `peer_io_done`.
    Write {
        /// Which request.
        id: PeerId,
        /// Which volume.
        volume: VolumeIndex,
        /// First sector.
        sector: Sector,
        /// Length.
        len_bytes: u32,
        /// Force unit access.
        fua: bool,
        /// Flush before.
        preflush: bool,
        /// Somebody waits for it.
        sync: bool,
    },
}

/// Names a flush.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlushToken {
    pub(crate) volume: VolumeIndex,
    pub(crate) connection: u32,
}

/// Which executors of the data plane have work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DataWants {
    /// `pop_done`.
    pub done: bool,
    /// `next_packet`.
    pub sender: bool,
    /// `next_acks`.
    pub acks: bool,
    /// `next_peer_io`.
    pub peer_io: bool,
    /// The receiver waiting in [`Incoming::Wait`] may try again.
    pub receiver: bool,
    /// Tasks waiting in [`Submit::Wait`] may try again.
    pub submitters: bool,
    /// One bit for each volume whose worker should call `next_ready` and `al_next`.
    pub volumes: u32,
    /// Earliest time at which `on_timer` should be called.
    pub timer: Option<Instant>,
}

/// Where the activity log lies on the metadata device (`reference/metadata.md` 3.4).
#[derive(Clone, Copy, Debug)]
pub struct AlPlace {
    /// First sector of the ring.
    pub sector: Sector,
    /// Stripes and their size.
    pub striping: Striping,
}

/// Counters of one volume, named as in `/proc/drbd` (`reference/states.md` 2.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// `ns`: sectors of volume data sent.
    pub sent_sectors: u64,
    /// `nr`: sectors of volume data received.
    pub received_sectors: u64,
    /// `dw`: sectors written to the local disk.
    pub written_sectors: u64,
    /// `dr`: sectors read from the local disk.
    pub read_sectors: u64,
    /// `al`: transactions of the activity log.
    pub al_writes: u64,
    /// `bm`: pages of the bitmap written because extents left the activity log.
    pub bm_writes: u64,
    /// `lo`: requests with the local disk.
    pub local: u32,
    /// `pe`: requests to the peer without an answer.
    pub pending: u32,
    /// `ua`: requests of the peer without an answer.
    pub unacked: u32,
    /// `ap`: application requests not completed.
    pub app: u32,
    /// `ep`: epochs.
    pub epochs: u32,
    /// Sectors of writes that were sent and are not covered by a barrier ack.
    pub in_flight_sectors: u64,
    /// `oos`: bits set.
    pub out_of_sync_bits: u64,
    /// Slots of the activity log with references.
    pub al_used: u32,
    /// Activity log is suspended.
    pub al_suspended: bool,
}
