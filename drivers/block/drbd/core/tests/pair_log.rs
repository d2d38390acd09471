//! Writes and the activity log of a disk that goes and comes back.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState};
use pair::both::Pair;
use pair::node::V;

/// Seed 722017: a write that waited for its extent when the disk was lost went to the next one
/// without being in its log.
#[test]
fn a_write_that_waited_for_the_log_of_a_lost_disk_waits_for_that_of_the_next_one() {
    for overlapped in [false, true] {
        let (volume, force) = (V, true);
        let mut pair = Pair::synced();
        pair.cut = true;
        pair.until("alone", |pair| pair.a.state().conn < ConnState::Connected);
        pair.a.hold_log = true;
        pair.a.write(800, 4096, 0x71);
        if overlapped {
            pair.a.write(800, 4096, 0x72);
        }
        pair.a.admin(AdminRequest::SuspendIo { volume });
        pair.run();
        pair.a.admin(AdminRequest::Detach { volume, force });
        pair.until("diskless", |pair| {
            pair.a.state().disk == DiskState::Diskless
        });
        pair.a.hold_log = false;
        pair.a.attach(DiskConfig::DEFAULT);
        pair.until("attached", |pair| {
            pair.a.state().disk == DiskState::UpToDate
        });
        pair.a.hold_log = true;
        assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
        pair.pass(Duration::from_millis(100));
        assert_eq!(pair.a.ended, [], "not in the log yet");
        pair.a.hold_log = false;
        pair.until("written", |pair| !pair.a.ended.is_empty());
        assert_eq!(pair.a.ended[0], Ok(()));
        pair.cut = false;
        pair.until("in sync", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data);
    }
}
