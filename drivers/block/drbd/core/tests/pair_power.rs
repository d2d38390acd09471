//! What is on stable storage when the power goes: which write waits for which.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::Role;
use pair::both::Pair;

/// The log names what may be in the cache of the data device only. Without the mark of a Primary
/// nobody looks at it.
#[test]
fn the_mark_of_a_primary_goes_behind_a_flush_of_its_data() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    pair.pass(Duration::from_secs(6));
    let before = pair.a.superblocks.len();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.pass(Duration::from_secs(6));
    let since = &pair.a.superblocks[before..];
    let at = since
        .iter()
        .position(|it| !it.flags.contains(MdFlags::PRIMARY_IND))
        .expect("the mark goes");
    assert!(pair.a.flushed[before + at], "{:?}", pair.a.flushed);
    assert!(!pair.a.flushed[before - 1], "no flush without need");
}
