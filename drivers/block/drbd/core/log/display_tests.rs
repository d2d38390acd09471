//! The lines of the kernel log, letter by letter.

use super::super::{Level, ShortName};
use super::*;
use crate::config::Name;
use drbd_format::types::{ConnState, DiskState, Role};
use drbd_format::wire::command::FrameError;
use drbd_format::wire::packet::StreamError;
use std::string::ToString;

#[test]
fn lines_that_scripts_parse_are_literal() {
    let old = VolumeState::INITIAL;
    let new = VolumeState {
        role: Role::Primary,
        conn: ConnState::Connected,
        disk: DiskState::UpToDate,
        user_isp: true,
        ..old
    };
    let line = Line::StateChange {
        old: old.to_word(),
        new: new.to_word(),
    };
    assert_eq!(
        line.to_string(),
        "role( Secondary -> Primary ) conn( StandAlone -> Connected ) \
         disk( Diskless -> UpToDate ) user_isp( 0 -> 1 ) "
    );
    let line = Line::RefusedState {
        word: new.to_word(),
        wanted: true,
    };
    assert_eq!(
        line.to_string(),
        " wanted = { cs:Connected ro:Primary/Unknown ds:UpToDate/DUnknown r--u-- }"
    );
    assert_eq!(
        Line::Features { flags: 15 }.to_string(),
        "Feature flags enabled on protocol level: 0xf TRIM THIN_RESYNC WRITE_SAME \
         WRITE_ZEROES."
    );
    assert_eq!(
        Line::Features { flags: 0 }.to_string(),
        "Feature flags enabled on protocol level: 0x0 none."
    );
    assert_eq!(
        Line::Size { kib: 65_496 }.to_string(),
        "size = 64 MB (65496 KB)"
    );
    assert_eq!(
        Line::MarkedOutOfSync { bits: 3072 }.to_string(),
        "12 MB (3072 bits) marked out-of-sync by on disk bit-map."
    );
}

/// Every line is as `reference/states.md` 5 has it, and as important.
fn assert_lines(lines: &[(Line, Level, &str)]) {
    for (line, level, text) in lines {
        assert_eq!((line.to_string().as_str(), line.level()), (*text, *level));
    }
}

#[test]
fn what_is_said_of_the_link_is_literal() {
    let name = |text: &[u8]| ShortName::new(&Name::new(text).unwrap());
    let different = Line::Different {
        option: "data-integrity-alg",
        own: name(b"sha1"),
        peer: name(b"a-name-beyond-sixteen"),
    };
    let unexpected = Line::UnexpectedPacket {
        command: 0x1f,
        len_bytes: 9,
        conn: ConnState::WfReportParams,
    };
    let broken = StreamError::Frame(FrameError::UnknownCommand(0x77));
    assert_lines(&[
        (
            Line::HandshakeDone { version: 101 },
            Level::Info,
            "Handshake successful: Agreed network protocol version 101",
        ),
        (
            Line::Dialects { min: 110, max: 118 },
            Level::Error,
            "incompatible DRBD dialects: I support 86-101, peer supports 110-118",
        ),
        (
            unexpected,
            Level::Error,
            "unexpected packet 0x1f (9 bytes) in state WFReportParams",
        ),
        (
            Line::BrokenStream(broken),
            Level::Error,
            "unknown packet 0x77; giving up the connection",
        ),
        (
            Line::SendBlocked { left: 6 },
            Level::Error,
            "sock_sendmsg time expired, ko = 6",
        ),
        (
            Line::Authenticated { bytes: 20 },
            Level::Info,
            "Peer authenticated using 20 bytes HMAC",
        ),
        (
            Line::Incompatible("after-sb-0pri"),
            Level::Error,
            "incompatible after-sb-0pri settings",
        ),
        (
            different,
            Level::Error,
            "Different data-integrity-alg settings. me=\"sha1\" peer=\"a-name-beyond-si\"",
        ),
        (
            Line::Text(Level::Alert, "as it is"),
            Level::Alert,
            "as it is",
        ),
    ]);
}

#[test]
fn what_is_said_of_a_refused_state_is_literal() {
    let (old, wanted) = (ConnState::StandAlone, ConnState::Disconnecting);
    let change = Line::ConnStateChange {
        old: VolumeState::INITIAL.to_word(),
        new: VolumeState {
            peer: Role::Primary,
            conn: ConnState::Connected,
            pdsk: DiskState::UpToDate,
            aftr_isp: true,
            peer_isp: true,
            ..VolumeState::INITIAL
        }
        .to_word(),
        mask: !crate::state::mask::AFTR_ISP,
    };
    let by_peer = Line::RefusedByPeer {
        text: "Multiple primaries not allowed by config",
        code: -1,
    };
    assert_lines(&[
        (
            change,
            Level::Info,
            "peer( Unknown -> Primary ) conn( StandAlone -> Connected ) \
             pdsk( DUnknown -> UpToDate ) peer_isp( 0 -> 1 ) ",
        ),
        (
            Line::Suspension {
                old: false,
                new: true,
            },
            Level::Info,
            "susp( 0 -> 1 ) ",
        ),
        (
            Line::Refused("Device is held open by someone"),
            Level::Error,
            "State change failed: Device is held open by someone",
        ),
        (
            Line::RefusedMask {
                mask: 0x1f0,
                val: 0x10,
            },
            Level::Error,
            " mask = 0x1f0 val = 0x10",
        ),
        (
            Line::RefusedConn { old, wanted },
            Level::Error,
            " old_conn:StandAlone wanted_conn:Disconnecting",
        ),
        (
            by_peer,
            Level::Error,
            "Requested state change failed by peer: Multiple primaries not allowed by config (-1)",
        ),
        (
            Line::RealPeerDisk(DiskState::Consistent),
            Level::Info,
            "real peer disk state = Consistent",
        ),
    ]);
}

#[test]
fn what_is_said_of_generations_is_literal() {
    let uuids = [1, 2, 3, 0xabcd];
    let solved = |from_peer| Line::AutoSolved {
        primaries: 0,
        from_peer,
    };
    assert_lines(&[
        (
            Line::Uuids { text: "new", uuids },
            Level::Info,
            "new 0000000000000001:0000000000000002:0000000000000003:000000000000ABCD",
        ),
        (
            Line::HandshakeUuids {
                peer: true,
                uuids,
                bits: 7,
                flags: 0xa,
            },
            Level::Info,
            "peer 0000000000000001:0000000000000002:0000000000000003:000000000000ABCD bits:7 \
             flags:A",
        ),
        (
            Line::Compared {
                result: -1,
                rule: 50,
            },
            Level::Info,
            "uuid_compare()=-1 by rule 50",
        ),
        (
            solved(true),
            Level::Warning,
            "Split-Brain detected, 0 primaries, automatically solved. Sync from peer node",
        ),
        (
            solved(false),
            Level::Warning,
            "Split-Brain detected, 0 primaries, automatically solved. Sync from this node",
        ),
    ]);
}

#[test]
fn what_is_said_of_the_end_of_a_handshake_is_literal() {
    let needs = |features| Line::NeedsVersion {
        version: 96,
        features,
    };
    let would = |source, full| Line::DryRun { source, full };
    assert_lines(&[
        (
            needs(0),
            Level::Alert,
            "To resolve this both sides have to support at least protocol 96",
        ),
        (
            needs(2),
            Level::Alert,
            "To resolve this both sides have to support at least protocol 96 and feature flags \
             0x2",
        ),
        (
            would(true, true),
            Level::Info,
            "dry-run connect: Would become SyncSource, doing a full resync.",
        ),
        (
            would(false, false),
            Level::Info,
            "dry-run connect: Would become SyncTarget, doing a bit-map based resync.",
        ),
        (
            Line::StrayBits { bits: 3 },
            Level::Info,
            "No resync, but 3 bits in bitmap!",
        ),
    ]);
}

#[test]
fn what_is_said_of_sizes_is_literal() {
    let small = |device| Line::PeerTooSmall {
        device,
        new: 8,
        old: 16,
    };
    let truncate = |allowed| Line::RefuseTruncate {
        new: 8,
        old: 16,
        allowed,
    };
    assert_lines(&[
        (
            small(true),
            Level::Error,
            "The peer's device size is too small! (8 < 16 sectors); demote me first!",
        ),
        (
            small(false),
            Level::Error,
            "The peer's disk size is too small! (8 < 16 sectors)",
        ),
        (
            Line::MaxBio { bytes: 4096 },
            Level::Info,
            "max BIO size = 4096",
        ),
        (
            Line::RequestedTooBig {
                wanted_kib: 9,
                possible_kib: 8,
            },
            Level::Error,
            "Requested disk size is too big (9 > 8)",
        ),
        (
            Line::PeerSetsSize { new: 8, old: 16 },
            Level::Info,
            "Peer sets u_size to 8 sectors (old: 16)",
        ),
        (
            Line::SizesDiffer { own: 8, peer: 16 },
            Level::Warning,
            "Considerable difference in lower level device sizes: 8s vs. 16s",
        ),
        (
            truncate(false),
            Level::Warning,
            "refusing to truncate a consistent device (8 < 16)",
        ),
        (
            truncate(true),
            Level::Warning,
            "truncating a consistent device during attach (8 < 16)",
        ),
        (
            Line::CapacityTooSmall { max: 8, wanted: 16 },
            Level::Error,
            "max capacity 8 smaller than disk size 16",
        ),
        (
            Line::BitmapSize { bits: 65_537 },
            Level::Info,
            "resync bitmap: bits=65537 words=1025 pages=3",
        ),
    ]);
    assert_eq!(HumanSize(u64::MAX).to_string(), "16384 EB");
    assert_eq!(HumanSize(9_999).to_string(), "9999 KB");
    assert_eq!(HumanSize(10_000).to_string(), "10 MB");
}

#[test]
fn what_is_said_of_work_is_literal() {
    let done = |verify| Line::ResyncDone {
        verify,
        total_secs: 5,
        paused_secs: 1,
        kib_per_sec: 250,
    };
    let at = |start| Line::VerifySector { start, sector: 8 };
    let begins = Line::ResyncBegins {
        conn: ConnState::SyncSource,
        bits: 4,
    };
    let (end, verify_end) = (
        "Resync done (total 5 sec; paused 1 sec; 250 K/sec)",
        "Online verify done (total 5 sec; paused 1 sec; 250 K/sec)",
    );
    assert_lines(&[
        (
            begins,
            Level::Info,
            "Began resync as SyncSource (will sync 16 KB [4 bits set]).",
        ),
        (done(false), Level::Info, end),
        (done(true), Level::Info, verify_end),
        (
            Line::EqualChecksums { equal: 1, total: 3 },
            Level::Info,
            "33 % had equal checksums, eliminated: 4K; transferred 8K total 12K",
        ),
        (
            Line::FailedBlocks { count: 2 },
            Level::Info,
            "            2 failed blocks",
        ),
        (
            Line::VerifyFound { count: 2 },
            Level::Alert,
            "Online verify found 2 4k block out of sync!",
        ),
        (
            at(true),
            Level::Info,
            "Starting Online Verify from sector 8",
        ),
        (at(false), Level::Info, "Online Verify reached sector 8"),
    ]);
}

#[test]
fn what_is_said_of_helpers_and_disks_is_literal() {
    let fenced = Line::FenceReturned {
        exit: 4,
        text: "peer was fenced",
    };
    let refused = |drop| Line::HandlerRefused {
        handler: "before-resync-source",
        exit: 3,
        drop,
    };
    let failed = |detaching| Line::LocalIoFailed {
        place: "drbd_endio_write_sec_final",
        detaching,
    };
    assert_lines(&[
        (
            fenced,
            Level::Info,
            "fence-peer helper returned 4 (peer was fenced)",
        ),
        (
            Line::FenceBroken { exit: 9 },
            Level::Error,
            "fence-peer helper broken, returned 9",
        ),
        (
            refused(true),
            Level::Info,
            "before-resync-source handler returned 3, dropping connection.",
        ),
        (
            refused(false),
            Level::Info,
            "before-resync-source handler returned 3, ignored.",
        ),
        (
            failed(true),
            Level::Error,
            "Local IO failed in drbd_endio_write_sec_final. Detaching...",
        ),
        (
            failed(false),
            Level::Warning,
            "Local IO failed in drbd_endio_write_sec_final.",
        ),
    ]);
}
