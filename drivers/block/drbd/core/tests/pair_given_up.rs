//! Disks that are given up, and what is written, read or flushed meanwhile.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{DiskState, OnIoError};
use pair::both::Pair;
use pair::node::V;

/// In the second extent of the activity log, which is in no log.
const COLD: u64 = 8192;

/// The disk of `a` has failed, and its handler runs.
fn with_a_handler() -> Pair {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        on_io_error: OnIoError::CallLocalIoError,
        ..DiskConfig::DEFAULT
    };
    let request = AdminRequest::DiskOptions { volume: V, config };
    assert_eq!(pair.command(true, request), 101);
    pair.a.hold_helpers = true;
    pair.a.fail_local = true;
    assert!(pair.a.request(Op::Read, 80, 4096, 0));
    pair.run();
    pair.a.fail_local = false;
    assert_eq!(pair.a.state().disk, DiskState::Failed);
    pair
}

/// The peer alone can mark what is written from then on, and does not know of the disk.
#[test]
fn what_is_written_while_the_handler_for_a_failed_disk_runs_is_marked() {
    let mut pair = with_a_handler();
    pair.b.hold_peer_io = true;
    let taken = pair.a.request(Op::Write, COLD, 4096, 0x71);
    pair.run();
    pair.a.hold_helpers = false;
    pair.a.end_helper();
    pair.run();
    assert!(taken || pair.a.request(Op::Write, COLD, 4096, 0x71));
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    pair.b.hold_peer_io = false;
    pair.run();
    pair.pass(Duration::from_millis(10));
    assert_eq!(pair.a.ended, [Ok(()); 2]);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}
