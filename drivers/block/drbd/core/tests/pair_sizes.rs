//! Sizes that cross each other: both nodes come to rest, at the same size.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{ConnState, DiskState};
use pair::both::{said, Pair, SECTORS};
use pair::node::V;

/// The size of the device in the beginning.
const FRONT: u64 = SECTORS - 64;
/// Packets that are sent one by one before both nodes are left alone.
const STEPS: u32 = 4;

/// What a node begins to do.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Another size, 0 for all that the disks have.
    Resize(u64),
    /// A disk with this limit, where the own one was detached before.
    Attach(u64),
}

fn resize(size_sectors: u64) -> AdminRequest {
    AdminRequest::Resize {
        volume: V,
        size_sectors,
        force: false,
        assume_clean: false,
        max_capacity_sectors: SECTORS,
    }
}

fn limited(disk_size_sectors: u64) -> DiskConfig {
    DiskConfig {
        disk_size_sectors,
        ..DiskConfig::DEFAULT
    }
}

/// `a`, `b` or both send a packet, and both work on what they have.
fn send_one(pair: &mut Pair, who: u32) {
    pair.a.sends_left = Some(u32::from(who != 1));
    pair.b.sends_left = Some(u32::from(who != 0));
    for _ in 0..4 {
        pair.round();
    }
    pair.a.sends_left = Some(0);
    pair.b.sends_left = Some(0);
}

fn begin(pair: &mut Pair, on_a: bool, deed: Deed) {
    let node = pair.node(on_a);
    match deed {
        Deed::Resize(size) => node.admin(resize(size)),
        Deed::Attach(limit) => node.attach(limited(limit)),
    }
}

/// Brings a node to where its deed begins.
fn prepare(pair: &mut Pair, on_a: bool, deed: Deed) {
    let (volume, force) = (V, false);
    match deed {
        Deed::Resize(_) => {}
        Deed::Attach(_) => {
            let detach = AdminRequest::Detach { volume, force };
            assert_eq!(pair.command(on_a, detach), 1);
        }
    }
}

/// Both nodes begin something, and their first packets cross in the way that `order` says.
fn crossing(a: Deed, b: Deed, order: u32) -> Pair {
    let mut pair = Pair::synced_in_front(FRONT);
    prepare(&mut pair, true, a);
    prepare(&mut pair, false, b);
    pair.a.sends_left = Some(0);
    pair.b.sends_left = Some(0);
    begin(&mut pair, true, a);
    begin(&mut pair, false, b);
    for _ in 0..20 {
        pair.round();
    }
    for step in 0..STEPS {
        send_one(&mut pair, order / 3u32.pow(step) % 3);
    }
    pair.a.sends_left = None;
    pair.b.sends_left = None;
    pair
}

/// Seed 55327 and relatives: what a node said of itself took the place of what the other one had
/// just taken over, and both exchanged their limits for ever, or only one of them synced the new
/// space.
#[test]
fn sizes_that_cross_come_to_rest_at_the_same() {
    use Deed::{Attach, Resize};
    let (less, least, more, most) = (FRONT - 8, FRONT - 16, FRONT + 8, FRONT + 16);
    let cases = [
        (Resize(0), Resize(more), SECTORS),
        (Resize(more), Resize(most), most),
        (Resize(most), Resize(more), most),
        (Resize(less), Resize(more), less),
        (Resize(0), Resize(less), less),
        (Resize(less), Resize(least), least),
        (Resize(more), Attach(0), more),
        (Resize(more), Attach(most), more),
        (Resize(less), Attach(more), less),
        (Attach(0), Resize(more), more),
        (Attach(most), Resize(more), more),
    ];
    for (a, b, wanted) in cases {
        // One node first, the other one, both at once, and in turns.
        for order in [0, 40, 80, 30, 61] {
            let mut pair = crossing(a, b, order);
            pair.run();
            for _ in 0..100 {
                pair.pass(Duration::from_millis(100));
            }
            let what = format!("{a:?} {b:?} {order}: {} {}", pair.a.state(), pair.b.state());
            assert!(pair.in_sync(), "{what}");
            assert_eq!(
                (pair.a.capacity, pair.b.capacity),
                (wanted, wanted),
                "{what}"
            );
            let used = wanted as usize * 512;
            assert!(
                pair.a.disk.data[..used] == pair.b.disk.data[..used],
                "{what}"
            );
            for node in [&mut pair.a, &mut pair.b] {
                assert_eq!(node.core.counters(V).out_of_sync_bits, 0, "{what}");
                assert!(!node.core.view(V).io_blocked, "{what}");
                assert_eq!(
                    node.answers.last().map(|answer| answer.1),
                    Some(101),
                    "{what}"
                );
            }
        }
    }
}

/// Seed 55327: the disk of the node that resizes fails before it has told of the new size.
#[test]
fn a_node_without_a_disk_takes_no_limit_away() {
    let mut pair = Pair::synced_in_front(FRONT);
    pair.b.fail_metadata = true;
    pair.b.admin(resize(FRONT + 8));
    pair.until("lost", |pair| pair.b.state().disk == DiskState::Diskless);
    pair.b.fail_metadata = false;
    pair.run();
    assert!(!said(&pair.a.log, "Peer sets u_size"));
    assert_eq!(pair.a.capacity, FRONT);
    pair.b.attach(limited(FRONT + 8));
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT, FRONT));
    assert_eq!(pair.command(true, resize(0)), 101);
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (SECTORS, SECTORS));
}

/// Seed 414289: a disk that was about to be given up still answered to one size, after the next one
/// had been agreed to, and the device became smaller again.
#[test]
fn a_peer_that_is_about_to_detach_answers_to_a_size_before_the_next_one() {
    let mut pair = Pair::synced_in_front(FRONT);
    let (volume, force) = (V, false);
    pair.b.admin(AdminRequest::Detach { volume, force });
    while pair.b.step() {}
    pair.a.data_in.append(&mut pair.b.data_out);
    while pair.a.step() {}
    assert_eq!(pair.a.state().pdsk, DiskState::Failed);
    let answers = pair.a.answers.len();
    for (size, code) in [(FRONT + 8, 101), (FRONT + 16, 130)] {
        pair.a.admin(resize(size));
        while pair.a.step() {}
        assert_eq!(pair.a.answers.last().map(|answer| answer.1), Some(code));
        // What it says on the meta socket does not get through.
        pair.b.data_in.append(&mut pair.a.data_out);
        while pair.b.step() {}
    }
    assert_eq!(pair.a.answers.len(), answers + 2);
    pair.run();
    assert_eq!(pair.a.capacity, FRONT + 8);
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    assert_eq!(pair.command(true, resize(FRONT + 16)), 101);
    pair.b.attach(limited(FRONT + 16));
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT + 16, FRONT + 16));
}

/// Its own limit comes from before that.
#[test]
fn a_disk_that_is_being_attached_takes_over_the_limit_of_a_resize() {
    let mut pair = Pair::synced_in_front(FRONT);
    let (volume, force) = (V, false);
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume, force }),
        1
    );
    // So it takes a while.
    pair.b
        .edit_superblock(|superblock| superblock.flags.0 |= MdFlags::FULL_SYNC.0);
    pair.b.hold_bitmap = true;
    pair.b.attach(limited(FRONT));
    pair.run();
    assert_eq!(pair.b.state().disk, DiskState::Attaching);
    let more = AdminRequest::Resize {
        volume,
        size_sectors: FRONT + 8,
        force: true,
        assume_clean: false,
        max_capacity_sectors: SECTORS,
    };
    assert_eq!(pair.command(true, more), 101);
    pair.b.release_bitmap();
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT + 8, FRONT + 8));
    let used = (FRONT as usize + 8) * 512;
    assert!(pair.a.disk.data[..used] == pair.b.disk.data[..used]);
}

/// A Primary would see a size that the peer takes back.
#[test]
fn the_limit_of_the_peer_holds_for_a_disk_that_a_primary_attaches() {
    let mut pair = Pair::synced_in_front(FRONT);
    let (volume, force) = (V, false);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    let before = pair.a.told.len();
    pair.a.attach(limited(0));
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT, FRONT));
    let sizes = |line: &&String| line.starts_with("SetCapacity");
    assert_eq!(pair.a.told[before..].iter().filter(sizes).count(), 0);
    // Who has lost its peer does not know what that one is limited to.
    pair.cut = true;
    pair.until("alone", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    let grown = AdminRequest::Resize {
        volume,
        size_sectors: 0,
        force: true,
        assume_clean: false,
        max_capacity_sectors: SECTORS,
    };
    assert_eq!(pair.command(true, grown), 101);
    assert_eq!(
        pair.role(true, drbd_format::types::Role::Secondary, false),
        1
    );
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    pair.a.attach(limited(0));
    pair.run();
    assert_eq!(pair.a.capacity, SECTORS);
}
