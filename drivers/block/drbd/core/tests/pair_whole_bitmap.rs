//! Commands that set or clear the whole bitmap, and what breaks in on them.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{ConnState, DiskState, Role};
use pair::both::Pair;
use pair::node::V;

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };

const fn new_uuid(clear_bitmap: bool) -> AdminRequest {
    AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap,
    }
}

fn is_logged(pair: &Pair) -> bool {
    pair.a.told.iter().any(|line| line.starts_with("log"))
}

/// A bit of the write is set only when it ends. It was lost when the node crashed before the bitmap
/// was written, and the disks counted as equal.
#[test]
fn a_write_after_the_bitmap_was_cleared_is_in_the_activity_log() {
    // Alone, with a fresh disk: all bits are set, and the log is suspended.
    let mut pair = Pair::new();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.a.told.clear();
    pair.a.write(80, 4096, 0x70);
    pair.run();
    assert!(!is_logged(&pair));
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    // Truck based replication: the copy is taken between the two.
    assert_eq!(pair.command(true, new_uuid(true)), 101);
    pair.b.disk.data = pair.a.disk.data.clone();
    pair.b.disk.superblock = pair.a.disk.superblock.clone();
    pair.b.disk.bitmap = pair.a.disk.bitmap.clone();
    assert_eq!(pair.command(true, new_uuid(false)), 101);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    pair.a.told.clear();
    pair.a.write(80, 4096, 0x71);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(()), Ok(())]);
    assert!(is_logged(&pair), "{:#?}", pair.a.told);
    pair.a.crash(3);
    pair.run();
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// The disk was left with the old generation and an empty bitmap: the peer was synced without what
/// had been written alone.
#[test]
fn the_bitmap_is_cleared_only_when_the_new_generation_is_on_disk() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair.run();
    pair.a.write(80, 4096, 0x71);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.command(true, DISCONNECT), 101);
    pair.pass(Duration::from_secs(1));
    pair.a.fail_metadata = true;
    assert_eq!(pair.command(true, new_uuid(true)), 118);
    pair.until("diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    pair.a.fail_metadata = false;
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.connect(NetConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

const FULL_SYNC: MdFlags = MdFlags(8);

/// A full sync of `b` is being prepared when the link breaks.
fn break_full_sync(pair: &mut Pair, by_b: bool) {
    pair.a.hold_bitmap = true;
    pair.b.hold_bitmap = true;
    let request = if by_b {
        AdminRequest::Invalidate { volume: V }
    } else {
        AdminRequest::InvalidateRemote { volume: V }
    };
    assert_eq!(pair.command(!by_b, request), 1);
    assert_eq!(pair.a.state().conn, ConnState::StartingSyncS);
    assert_eq!(pair.b.state().conn, ConnState::StartingSyncT);
    pair.break_now();
}

/// The command has been answered with success. The disk counted as good after the next handshake:
/// its generation is that of the peer's.
#[test]
fn data_that_were_called_worthless_stay_so_when_the_link_breaks() {
    for (by_b, role) in [
        (true, Role::Secondary),
        (true, Role::Primary),
        (false, Role::Secondary),
        (false, Role::Primary),
    ] {
        let mut pair = Pair::synced();
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        assert!(matches!(pair.role(false, role, false), 1 | 2));
        pair.b.disk.data[80 * 512] ^= 0xff;
        break_full_sync(&mut pair, by_b);
        pair.until("noticed", |pair| pair.b.state().conn < ConnState::Connected);
        assert_eq!(pair.b.state().disk, DiskState::Inconsistent);
        pair.a.release_bitmap();
        pair.b.release_bitmap();
        pair.until("in sync", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data, "{by_b} {role}");
    }
}

/// The bits need not be stable yet, and the flag for that need not be either.
#[test]
fn data_that_were_called_worthless_stay_so_after_a_crash() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.b.disk.data[80 * 512] ^= 0xff;
    pair.a.hold_bitmap = true;
    pair.b.hold_bitmap = true;
    let volume = V;
    assert_eq!(pair.command(false, AdminRequest::Invalidate { volume }), 1);
    assert_eq!(pair.b.state().conn, ConnState::StartingSyncT);
    pair.run();
    pair.b.crash(7);
    pair.run();
    pair.a.release_bitmap();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    let (config, digests) = (NetConfig::DEFAULT, DigestLengths::default());
    pair.b.admin(AdminRequest::Connect { config, digests });
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// It would make the next attach set all bits, long after the sync that it was for.
#[test]
fn the_mark_of_a_full_sync_does_not_stay_when_the_link_breaks() {
    for by_b in [true, false] {
        let mut pair = Pair::synced();
        break_full_sync(&mut pair, by_b);
        pair.a.release_bitmap();
        pair.b.release_bitmap();
        pair.until("in sync", Pair::in_sync);
        pair.pass(Duration::from_secs(6));
        for node in [&pair.a, &pair.b] {
            let flags = node.superblocks.last().unwrap().flags;
            assert!(!flags.contains(FULL_SYNC), "{by_b} {flags:?}");
        }
    }
}
