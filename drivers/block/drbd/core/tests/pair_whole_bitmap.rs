//! Commands that set or clear the whole bitmap, and what breaks in on them.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::AdminRequest;
use drbd_core::time::Duration;
use drbd_format::types::{DiskState, Role};
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
