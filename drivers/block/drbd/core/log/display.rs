//! The literal texts of [`Line`].

use core::fmt;

use super::Line;
use crate::state::VolumeState;

/// A size as users read it: below 10000 of a unit (`reference/metadata.md` 4.4).
struct HumanSize(u64);

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0;
        for unit in ["KB", "MB", "GB", "TB", "PB"] {
            if size < 10_000 {
                return write!(f, "{size} {unit}");
            }
            // Round to the nearest: the highest bit shifted out decides.
            size = (size >> 10).saturating_add(size >> 9 & 1);
        }
        write!(f, "{size} EB")
    }
}

fn state_of(word: u32) -> VolumeState {
    VolumeState::from_word(word).unwrap_or(VolumeState::INITIAL)
}

/// Writes the fields that differ, each followed by one space.
fn write_change(f: &mut fmt::Formatter<'_>, old: u32, new: u32, mask: u32) -> fmt::Result {
    use crate::state::mask::{AFTR_ISP, CONN, DISK, PDSK, PEER, PEER_ISP, ROLE, USER_ISP};
    let (o, n) = (state_of(old), state_of(new));
    let differs = |field: u32| (old ^ new) & mask & field != 0;
    if differs(ROLE) {
        write!(f, "role( {} -> {} ) ", o.role, n.role)?;
    }
    if differs(PEER) {
        write!(f, "peer( {} -> {} ) ", o.peer, n.peer)?;
    }
    if differs(CONN) {
        write!(f, "conn( {} -> {} ) ", o.conn, n.conn)?;
    }
    if differs(DISK) {
        write!(f, "disk( {} -> {} ) ", o.disk, n.disk)?;
    }
    if differs(PDSK) {
        write!(f, "pdsk( {} -> {} ) ", o.pdsk, n.pdsk)?;
    }
    for (field, name) in [
        (AFTR_ISP, "aftr_isp"),
        (PEER_ISP, "peer_isp"),
        (USER_ISP, "user_isp"),
    ] {
        if differs(field) {
            let set = |word: u32| u8::from(word & field != 0);
            write!(f, "{name}( {} -> {} ) ", set(old), set(new))?;
        }
    }
    Ok(())
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_, text) => f.write_str(text),
            Self::HandshakeDone { .. }
            | Self::Features { .. }
            | Self::Dialects { .. }
            | Self::UnexpectedPacket { .. }
            | Self::BrokenStream(_)
            | Self::SendBlocked { .. }
            | Self::Authenticated { .. }
            | Self::Incompatible(_)
            | Self::Different { .. } => self.fmt_link(f),
            Self::StateChange { .. }
            | Self::ConnStateChange { .. }
            | Self::Suspension { .. }
            | Self::Refused(_)
            | Self::RefusedState { .. }
            | Self::RefusedMask { .. }
            | Self::RefusedConn { .. }
            | Self::RefusedByPeer { .. }
            | Self::RealPeerDisk(_) => self.fmt_state(f),
            Self::Uuids { .. }
            | Self::Uuid { .. }
            | Self::HandshakeUuids { .. }
            | Self::Compared { .. }
            | Self::AutoSolved { .. }
            | Self::NeedsVersion { .. }
            | Self::DryRun { .. }
            | Self::StrayBits { .. } => self.fmt_generation(f),
            Self::PeerTooSmall { .. }
            | Self::Size { .. }
            | Self::MaxBio { .. }
            | Self::RequestedTooBig { .. }
            | Self::PeerSetsSize { .. }
            | Self::SizesDiffer { .. }
            | Self::RefuseTruncate { .. }
            | Self::CapacityTooSmall { .. }
            | Self::MarkedOutOfSync { .. }
            | Self::BitmapSize { .. } => self.fmt_size(f),
            Self::ResyncBegins { .. }
            | Self::ResyncDone { .. }
            | Self::EqualChecksums { .. }
            | Self::FailedBlocks { .. }
            | Self::VerifyFound { .. }
            | Self::VerifySector { .. }
            | Self::FenceReturned { .. }
            | Self::FenceBroken { .. }
            | Self::HandlerRefused { .. }
            | Self::LocalIoFailed { .. } => self.fmt_work(f),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "Display has chosen the group"
)]
impl Line {
    fn fmt_link(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeDone { version } => {
                write!(
                    f,
                    "Handshake successful: Agreed network protocol version {version}"
                )
            }
            Self::Features { flags } => {
                write!(f, "Feature flags enabled on protocol level: 0x{flags:x}")?;
                let names = [
                    (1, "TRIM"),
                    (2, "THIN_RESYNC"),
                    (4, "WRITE_SAME"),
                    (8, "WRITE_ZEROES"),
                ];
                for (flag, name) in names {
                    if flags & flag != 0 {
                        write!(f, " {name}")?;
                    }
                }
                f.write_str(if *flags == 0 { " none." } else { "." })
            }
            Self::Dialects { min, max } => write!(
                f,
                "incompatible DRBD dialects: I support 86-101, peer supports {min}-{max}"
            ),
            Self::UnexpectedPacket {
                command,
                len_bytes,
                conn,
            } => write!(
                f,
                "unexpected packet 0x{command:x} ({len_bytes} bytes) in state {conn}"
            ),
            Self::BrokenStream(error) => write!(f, "{error}; giving up the connection"),
            Self::SendBlocked { left } => write!(f, "sock_sendmsg time expired, ko = {left}"),
            Self::Authenticated { bytes } => {
                write!(f, "Peer authenticated using {bytes} bytes HMAC")
            }
            Self::Incompatible(option) => write!(f, "incompatible {option} settings"),
            Self::Different { option, own, peer } => {
                write!(
                    f,
                    "Different {option} settings. me=\"{own}\" peer=\"{peer}\""
                )
            }
            _ => Ok(()),
        }
    }

    fn fmt_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateChange { old, new } => write_change(f, *old, *new, u32::MAX),
            Self::ConnStateChange { old, new, mask } => write_change(f, *old, *new, *mask),
            Self::Suspension { old, new } => {
                write!(f, "susp( {} -> {} ) ", u8::from(*old), u8::from(*new))
            }
            Self::Refused(text) => write!(f, "State change failed: {text}"),
            Self::RefusedState { word, wanted } => {
                let label = if *wanted { " wanted" } else { "  state" };
                write!(f, "{label} = {{ {} }}", state_of(*word))
            }
            Self::RefusedMask { mask, val } => write!(f, " mask = 0x{mask:x} val = 0x{val:x}"),
            Self::RefusedConn { old, wanted } => {
                write!(f, " old_conn:{old} wanted_conn:{wanted}")
            }
            Self::RefusedByPeer { text, code } => {
                write!(f, "Requested state change failed by peer: {text} ({code})")
            }
            Self::RealPeerDisk(disk) => write!(f, "real peer disk state = {disk}"),
            _ => Ok(()),
        }
    }

    fn fmt_generation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuids {
                text,
                uuids: [c, b, h0, h1],
            } => {
                write!(f, "{text} {c:016X}:{b:016X}:{h0:016X}:{h1:016X}")
            }
            Self::Uuid { text, uuid } => write!(f, "{text}{uuid:016X}"),
            Self::HandshakeUuids {
                peer,
                uuids: [c, b, h0, h1],
                bits,
                flags,
            } => {
                let who = if *peer { "peer" } else { "self" };
                write!(
                    f,
                    "{who} {c:016X}:{b:016X}:{h0:016X}:{h1:016X} bits:{bits} flags:{flags:X}"
                )
            }
            Self::Compared { result, rule } => {
                write!(f, "uuid_compare()={result} by rule {rule}")
            }
            Self::AutoSolved {
                primaries,
                from_peer,
            } => {
                let node = if *from_peer { "peer" } else { "this" };
                write!(
                    f,
                    "Split-Brain detected, {primaries} primaries, automatically solved. \
                     Sync from {node} node"
                )
            }
            Self::NeedsVersion { version, features } => {
                f.write_str("To resolve this both sides have to support at least protocol ")?;
                write!(f, "{version}")?;
                if *features != 0 {
                    write!(f, " and feature flags 0x{features:x}")?;
                }
                Ok(())
            }
            Self::DryRun { source, full } => write!(
                f,
                "dry-run connect: Would become {}, doing a {} resync.",
                if *source { "SyncSource" } else { "SyncTarget" },
                if *full { "full" } else { "bit-map based" }
            ),
            Self::StrayBits { bits } => write!(f, "No resync, but {bits} bits in bitmap!"),
            _ => Ok(()),
        }
    }

    fn fmt_size(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerTooSmall { device, new, old } => {
                let (what, end) = if *device {
                    ("device", "; demote me first!")
                } else {
                    ("disk", "")
                };
                write!(
                    f,
                    "The peer's {what} size is too small! ({new} < {old} sectors){end}"
                )
            }
            Self::Size { kib } => write!(f, "size = {} ({kib} KB)", HumanSize(*kib)),
            Self::MaxBio { bytes } => write!(f, "max BIO size = {bytes}"),
            Self::RequestedTooBig {
                wanted_kib,
                possible_kib,
            } => {
                write!(
                    f,
                    "Requested disk size is too big ({wanted_kib} > {possible_kib})"
                )
            }
            Self::PeerSetsSize { new, old } => {
                write!(f, "Peer sets u_size to {new} sectors (old: {old})")
            }
            Self::SizesDiffer { own, peer } => write!(
                f,
                "Considerable difference in lower level device sizes: {own}s vs. {peer}s"
            ),
            Self::RefuseTruncate {
                new,
                old,
                allowed: false,
            } => {
                write!(
                    f,
                    "refusing to truncate a consistent device ({new} < {old})"
                )
            }
            Self::RefuseTruncate {
                new,
                old,
                allowed: true,
            } => {
                write!(
                    f,
                    "truncating a consistent device during attach ({new} < {old})"
                )
            }
            Self::CapacityTooSmall { max, wanted } => {
                write!(f, "max capacity {max} smaller than disk size {wanted}")
            }
            Self::MarkedOutOfSync { bits } => write!(
                f,
                "{} ({bits} bits) marked out-of-sync by on disk bit-map.",
                HumanSize(bits.saturating_mul(4))
            ),
            Self::BitmapSize { bits } => write!(
                f,
                "resync bitmap: bits={bits} words={} pages={}",
                bits.div_ceil(64),
                bits.div_ceil(32_768)
            ),
            _ => Ok(()),
        }
    }

    fn fmt_work(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResyncBegins { conn, bits } => write!(
                f,
                "Began resync as {conn} (will sync {} KB [{bits} bits set]).",
                bits.saturating_mul(4)
            ),
            Self::ResyncDone {
                verify,
                total_secs,
                paused_secs,
                kib_per_sec,
            } => write!(
                f,
                "{} done (total {total_secs} sec; paused {paused_secs} sec; {kib_per_sec} K/sec)",
                if *verify { "Online verify" } else { "Resync" }
            ),
            Self::EqualChecksums { equal, total } => {
                let percent = equal.saturating_mul(100).checked_div(*total).unwrap_or(0);
                let kib = |bits: u64| bits.saturating_mul(4);
                write!(
                    f,
                    "{percent} % had equal checksums, eliminated: {}K; transferred {}K total {}K",
                    kib(*equal),
                    kib(total.saturating_sub(*equal)),
                    kib(*total)
                )
            }
            Self::FailedBlocks { count } => write!(f, "            {count} failed blocks"),
            Self::VerifyFound { count } => {
                write!(f, "Online verify found {count} 4k block out of sync!")
            }
            Self::VerifySector {
                start: true,
                sector,
            } => {
                write!(f, "Starting Online Verify from sector {sector}")
            }
            Self::VerifySector {
                start: false,
                sector,
            } => {
                write!(f, "Online Verify reached sector {sector}")
            }
            Self::FenceReturned { exit, text } => {
                write!(f, "fence-peer helper returned {exit} ({text})")
            }
            Self::FenceBroken { exit } => write!(f, "fence-peer helper broken, returned {exit}"),
            Self::HandlerRefused {
                handler,
                exit,
                drop,
            } => write!(
                f,
                "{handler} handler returned {exit}, {}",
                if *drop {
                    "dropping connection."
                } else {
                    "ignored."
                }
            ),
            Self::LocalIoFailed { place, detaching } => write!(
                f,
                "Local IO failed in {place}.{}",
                if *detaching { " Detaching..." } else { "" }
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "display_tests.rs"]
mod tests;
