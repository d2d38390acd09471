//! What the control plane asks the shell to do. Pulled with `Resource::pop_action`, in order.

use drbd_format::units::SectorCount;

use crate::link::VolumeIndex;
use crate::log::Line;

/// Names the command whose answer is meant; chosen by the shell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket(pub u32);

/// User-mode helpers (`reference/netlink.md` 8.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handler {
    /// A resync as target has ended.
    AfterResyncTarget,
    /// A resync as source is about to begin.
    BeforeResyncSource,
    /// A resync as target is about to begin.
    BeforeResyncTarget,
    /// The peer has to be fenced. Concerns the resource, not a volume.
    FencePeer,
    /// Split brain, before the policies are applied.
    InitialSplitBrain,
    /// The local disk failed.
    LocalIoError,
    /// Online verify found differences.
    OutOfSync,
    /// A primary has lost all good data.
    PriOnInconDegr,
    /// A primary should become sync target.
    PriLost,
    /// A primary should become sync target after split brain.
    PriLostAfterSb,
    /// Split brain that stays unresolved.
    SplitBrain,
    /// The fenced peer is good again. Concerns the resource, not a volume.
    UnfencePeer,
}

impl Handler {
    /// Returns the name given to the helper program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfterResyncTarget => "after-resync-target",
            Self::BeforeResyncSource => "before-resync-source",
            Self::BeforeResyncTarget => "before-resync-target",
            Self::FencePeer => "fence-peer",
            Self::InitialSplitBrain => "initial-split-brain",
            Self::LocalIoError => "local-io-error",
            Self::OutOfSync => "out-of-sync",
            Self::PriOnInconDegr => "pri-on-incon-degr",
            Self::PriLost => "pri-lost",
            Self::PriLostAfterSb => "pri-lost-after-sb",
            Self::SplitBrain => "split-brain",
            Self::UnfencePeer => "unfence-peer",
        }
    }

    /// The helper is called with the resource's name instead of a minor number.
    pub const fn concerns_resource(self) -> bool {
        matches!(self, Self::FencePeer | Self::UnfencePeer)
    }
}

/// A digest that only the shell can compute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HmacJob {
    /// Over the peer's challenge: our response.
    Response,
    /// Over our own challenge: what the peer must answer.
    Expected,
}

/// Something the shell must do, outside the lock. May sleep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Answer a command: `code` is a return code of `reference/netlink.md` 4.
    AdminDone {
        /// Which command.
        ticket: Ticket,
        /// ERR or SS code.
        code: i32,
        /// Additional text for the administrator.
        text: Option<&'static str>,
    },
    /// Close the backing devices and take back the memory lent to this volume.
    CloseDisk {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// Close both sockets and end the threads that use them, then `Input::ReceiverGone`. While
    /// connecting: give up the attempt, then the same input.
    CloseSockets,
    /// Compute HMAC(secret, message); both from `Resource::hmac_job`; answer `Input::HmacReady`.
    Hmac(HmacJob),
    /// Print this line into the kernel log.
    Log {
        /// The volume it is about, `None`: the resource.
        volume: Option<VolumeIndex>,
        /// The text and its level.
        line: Line,
    },
    /// The connection has changed its state: tell listeners.
    NotifyConnection {
        /// Old number.
        old: u8,
        /// New number.
        new: u8,
    },
    /// A volume has changed its state: tell listeners (broadcast, object notifications).
    NotifyVolume {
        /// Which volume.
        volume: VolumeIndex,
        /// Old packed state word.
        old: u32,
        /// New packed state word.
        new: u32,
    },
    /// Read the whole bitmap from disk, then `Input::BitmapRead`.
    ReadBitmap {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// Run a helper. If `wait` is set answer `Input::HelperDone` with it.
    RunHelper {
        /// Which helper.
        handler: Handler,
        /// The volume it is about; `None`: the resource.
        volume: Option<VolumeIndex>,
        /// The control plane waits for the exit code.
        wait: bool,
        /// Names this run in the answer.
        run: u32,
    },
    /// The device has this size from now on.
    SetCapacity {
        /// Which volume.
        volume: VolumeIndex,
        /// New size.
        capacity: SectorCount,
    },
    /// Recompute the queue limits of the upper device.
    SetLimits {
        /// Which volume.
        volume: VolumeIndex,
        /// Largest request in bytes.
        max_bio_bytes: u32,
        /// Largest discard in bytes, 0: none are offered.
        max_discard_bytes: u32,
        /// Largest write-zeroes in bytes, 0: none are offered.
        max_write_zeroes_bytes: u32,
    },
    /// The device can be written to (Primary) or not.
    SetReadOnly {
        /// Which volume.
        volume: VolumeIndex,
        /// Refuse writes.
        read_only: bool,
    },
    /// Begin to listen and connect. Ends with `Input::SocketsUp` or `Input::ConnectFailed`.
    StartConnect,
    /// Send a change uevent.
    Uevent {
        /// Which volume.
        volume: VolumeIndex,
    },
    /// Write the changed bitmap pages (all of them if `all`), then `Input::BitmapWritten`.
    WriteBitmap {
        /// Which volume.
        volume: VolumeIndex,
        /// Every page, changed or not.
        all: bool,
    },
    /// Write the superblock (`Resource::encode_superblock`) durably, then `Input::MetadataWritten`.
    WriteMetadata {
        /// Which volume.
        volume: VolumeIndex,
    },
}

const _: () = assert!(size_of::<Action>() <= 64);

#[cfg(test)]
mod tests {
    use super::*;

    /// `reference/netlink.md` 10.
    #[test]
    fn only_fencing_concerns_the_whole_resource() {
        use Handler as H;
        for (handler, whole) in [
            (H::AfterResyncTarget, false),
            (H::BeforeResyncSource, false),
            (H::BeforeResyncTarget, false),
            (H::FencePeer, true),
            (H::InitialSplitBrain, false),
            (H::LocalIoError, false),
            (H::OutOfSync, false),
            (H::PriOnInconDegr, false),
            (H::PriLost, false),
            (H::PriLostAfterSb, false),
            (H::SplitBrain, false),
            (H::UnfencePeer, true),
        ] {
            assert_eq!(handler.concerns_resource(), whole, "{}", handler.name());
        }
    }
}
