//! How what a node does is written down.

use drbd_core::action::Action;
use drbd_core::data::Outgoing;
use drbd_core::link::VolumeIndex;
use drbd_core::resource::Wants;
use drbd_format::disk::superblock::Superblock;
use drbd_format::types::UuidSet;
use drbd_format::units::Sector;

/// Bytes as words of four, at most 24, zeros at the end left out.
pub(super) fn hex(bytes: &[u8]) -> String {
    let used = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    let words = bytes[..used.next_multiple_of(4).min(bytes.len())]
        .chunks(4)
        .take(24);
    let words: Vec<String> = words
        .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    format!("{} bytes {}", bytes.len(), words.join(" "))
}

pub(super) fn told_of_action(action: &Action) -> String {
    match action {
        Action::Log { volume, line } => {
            let about = volume.map_or('-', |_| 'v');
            format!("{about} {:?}: {line}", line.level())
        }
        action => format!("{action:?}").replace("volume: VolumeIndex(0)", "v0"),
    }
}

pub(super) fn told_of_packet(out: &Outgoing, buf: &[u8]) -> String {
    let mut line = format!("data {}", hex(&buf[..out.len]));
    for (set, mark) in [(out.digest, " digest"), (out.copy, " copy")] {
        line.push_str(if set { mark } else { "" });
    }
    line
}

pub(super) fn told_of_log(at: Sector, flush: bool, block: &[u8]) -> String {
    format!("log at {}, flush {flush}: {}", at.0, hex(&block[..32]))
}

pub(super) fn told_of(superblock: &Superblock) -> String {
    let UuidSet {
        current,
        bitmap,
        history: [h0, h1],
    } = superblock.uuids;
    format!(
        "superblock {:x} {:x} {:x} {:x} flags {:x} size {} peer {}",
        current.0,
        bitmap.0,
        h0.0,
        h1.0,
        superblock.flags.0,
        superblock.la_size.0,
        superblock.la_peer_max_bio_bytes
    )
}

/// Which threads have been woken and have not looked yet.
#[derive(Default)]
pub(super) struct Woken {
    pub(super) acks: bool,
    pub(super) done: bool,
    pub(super) peer_io: bool,
    pub(super) receiver: bool,
    pub(super) sender: bool,
    /// One bit for the worker of each volume.
    volumes: u32,
}

impl Woken {
    pub(super) fn by(&mut self, wants: &Wants) {
        self.acks |= wants.acks;
        self.done |= wants.done;
        self.peer_io |= wants.peer_io;
        self.receiver |= wants.receiver;
        self.sender |= wants.sender;
        self.volumes |= if wants.submitters {
            u32::MAX
        } else {
            wants.volumes
        };
    }

    /// Tells whether this worker has been woken. Some will have to look again.
    pub(super) fn volume(&mut self, volume: VolumeIndex, again: bool) -> bool {
        let woken = self.volumes & volume.bit() != 0;
        if !again {
            self.volumes &= !volume.bit();
        }
        woken
    }
}
