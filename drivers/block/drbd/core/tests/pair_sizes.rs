//! Sizes that cross each other: both nodes come to rest, at the same size.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use std::collections::VecDeque;

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{ConnState, DiskState, Role};
use drbd_format::units::SectorCount;
use drbd_format::wire::packet::Packet;
use drbd_format::wire::settings::{QueueLimits, SizeFlags, Sizes};
use pair::both::{said, Pair, SECTORS};
use pair::node::{Node, V};

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

/// Each node is told of sizes while it has no disk, to which it does not answer.
fn told_without_disk(pair: &mut Pair) {
    let (volume, force) = (V, false);
    for on_a in [true, false] {
        let detach = AdminRequest::Detach { volume, force };
        assert_eq!(pair.command(!on_a, detach), 1);
        for size in [FRONT + 8, FRONT + 16] {
            assert_eq!(pair.command(on_a, resize(size)), 101);
        }
        pair.node(!on_a).attach(limited(FRONT + 16));
        pair.until("in sync", Pair::in_sync);
        assert_eq!(pair.command(on_a, resize(FRONT)), 101);
        pair.until("in sync", Pair::in_sync);
    }
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT, FRONT));
}

/// Both nodes begin something, and their first packets cross in the way that `order` says.
fn crossing(a: Deed, b: Deed, order: u32, told: bool) -> Pair {
    let mut pair = Pair::synced_in_front(FRONT);
    if told {
        told_without_disk(&mut pair);
    }
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
        let orders = [0, 40, 80, 30, 61].map(|order| (order, false));
        for (order, told) in orders.into_iter().chain([(40, true), (30, true)]) {
            let mut pair = crossing(a, b, order, told);
            pair.run();
            for _ in 0..100 {
                pair.pass(Duration::from_millis(100));
            }
            let states = [pair.a.state(), pair.b.state()];
            let what = format!("{a:?} {b:?} {order} {told}: {} {}", states[0], states[1]);
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

/// Lets both nodes work for a while. What `a` sends on its data socket is held up.
fn held_up(pair: &mut Pair, held: &mut VecDeque<u8>) {
    for _ in 0..200 {
        pair.a.step();
        pair.b.step();
        held.append(&mut pair.a.data_out);
        pair.a.data_in.append(&mut pair.b.data_out);
        pair.a.meta_in.append(&mut pair.b.meta_out);
        pair.b.meta_in.append(&mut pair.a.meta_out);
    }
}

/// Seed 864860: the peer has no disk, or gives it up, while it is told of one size after the other,
/// and hears of all of them when it has its disk back. Its answer to an older one took the newest
/// one back, under the hands of a Primary.
#[test]
fn answers_to_older_sizes_take_nothing_back() {
    let sizes = [FRONT + 24, FRONT + 8, FRONT + 16, FRONT + 32];
    let last = sizes[sizes.len() - 1];
    for (writes, with_disk) in [(true, false), (false, false), (true, true), (false, true)] {
        let what = format!("{writes} {with_disk}");
        let mut pair = Pair::synced_in_front(FRONT);
        let detach = AdminRequest::Detach {
            volume: V,
            force: false,
        };
        let mut held = VecDeque::new();
        if with_disk {
            pair.a.admin(resize(FRONT + 40));
            held_up(&mut pair, &mut held);
            pair.b.admin(detach);
            held_up(&mut pair, &mut held);
        } else {
            assert_eq!(pair.command(false, detach), 1);
        }
        assert_eq!(pair.a.state().pdsk, DiskState::Diskless, "{what}");
        if writes {
            pair.a.write(800, 4096, 0x77);
        }
        for size in sizes {
            pair.a.admin(resize(size));
            held_up(&mut pair, &mut held);
            let answer = pair.a.answers.last().map(|answer| answer.1);
            assert_eq!((pair.a.capacity, answer), (size, Some(101)), "{what}");
        }
        pair.b.attach(limited(last));
        held_up(&mut pair, &mut held);
        assert!(pair.a.state().pdsk > DiskState::Diskless, "{what}");
        let before = pair.a.told.len();
        held.append(&mut pair.a.data_out);
        pair.b.data_in.append(&mut held);
        pair.until("in sync", Pair::in_sync);
        assert_eq!((pair.a.capacity, pair.b.capacity), (last, last), "{what}");
        let set = |line: &&String| line.starts_with("SetCapacity");
        assert_eq!(
            pair.a.told[before..].iter().filter(set).count(),
            0,
            "{what}"
        );
        let used = last as usize * 512;
        assert!(
            pair.a.disk.data[..used] == pair.b.disk.data[..used],
            "{what}"
        );
        for node in [&mut pair.a, &mut pair.b] {
            assert_eq!(node.core.counters(V).out_of_sync_bits, 0, "{what}");
            assert!(!node.core.view(V).io_blocked, "{what}");
        }
        assert_eq!(pair.command(true, resize(FRONT + 40)), 101, "{what}");
        pair.until("in sync", Pair::in_sync);
        let grown = (FRONT + 40, FRONT + 40);
        assert_eq!((pair.a.capacity, pair.b.capacity), grown, "{what}");
    }
}

/// What `b` says of its disk if the device has this size, and is limited to it.
fn says(pair: &mut Pair, disk: u64, limit: u64, current: u64) {
    let [disk, user, current] = [disk, limit, current].map(SectorCount);
    let sizes = Sizes {
        disk,
        user,
        current,
        max_bio_bytes: 1 << 20,
        queue_order_type: 0,
        flags: SizeFlags(0),
        queue: Some(QueueLimits {
            physical_block_size: 512,
            logical_block_size: 512,
            alignment_offset: 0,
            io_min: 512,
            io_opt: 0,
            discard_enabled: true,
            discard_zeroes_data: false,
            write_same_capable: false,
        }),
    };
    let terms = *pair.a.core.data.terms();
    let mut bytes = [0; 128];
    let packet = Packet::Sizes(sizes);
    let len = packet.encode(&terms, 0, &mut bytes).expect("expressible");
    pair.a.data_in.extend(&bytes[..len]);
    while pair.a.step() {}
    // Our peer would make sense of the answer.
    pair.a.data_out.clear();
}

/// The C driver answers without a disk as well, other than our nodes.
#[test]
fn as_many_answers_count_as_late_as_may_come() {
    for (answers, late) in [(0, 2), (1, 1), (2, 0), (3, 0)] {
        let mut pair = Pair::synced_in_front(FRONT);
        let (volume, force) = (V, false);
        let detach = AdminRequest::Detach { volume, force };
        assert_eq!(pair.command(false, detach), 1);
        let size = FRONT + 16;
        for size in [FRONT + 8, size] {
            assert_eq!(pair.command(true, resize(size)), 101);
        }
        for _ in 0..answers {
            says(&mut pair, 0, 0, size);
        }
        pair.b.attach(limited(size));
        pair.until("in sync", Pair::in_sync);
        for _ in 0..late {
            says(&mut pair, SECTORS, FRONT, FRONT);
            assert_eq!(pair.a.capacity, size, "{answers}");
        }
        says(&mut pair, SECTORS, FRONT, FRONT);
        assert_eq!(pair.a.capacity, FRONT, "{answers}");
    }
}

/// It may have another one when it hears of the size.
#[test]
fn a_peer_that_loses_its_disk_may_answer_late_to_a_size_from_before_that() {
    let mut pair = Pair::synced_in_front(FRONT);
    let size = FRONT + 16;
    let mut held = VecDeque::new();
    pair.a.admin(resize(size));
    held_up(&mut pair, &mut held);
    let (volume, force) = (V, false);
    pair.b.admin(AdminRequest::Detach { volume, force });
    held_up(&mut pair, &mut held);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    pair.b.data_in.append(&mut held);
    pair.run();
    pair.b.attach(limited(size));
    pair.until("in sync", Pair::in_sync);
    says(&mut pair, SECTORS, FRONT, FRONT);
    assert_eq!(pair.a.capacity, size);
    says(&mut pair, SECTORS, FRONT, FRONT);
    assert_eq!(pair.a.capacity, FRONT);
}

/// What is said of a disk that comes back is no answer to a size.
#[test]
fn a_disk_with_an_older_limit_is_refused_whatever_its_peer_was_told() {
    let mut pair = Pair::synced_in_front(FRONT);
    let (volume, force) = (V, false);
    let detach = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(false, detach), 1);
    assert_eq!(pair.command(true, resize(FRONT + 16)), 101);
    pair.b.attach(limited(FRONT));
    pair.run();
    assert!(said(&pair.a.log, "disk size is too small"));
    assert_eq!(pair.a.capacity, FRONT + 16);
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
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    pair.a.attach(limited(0));
    pair.run();
    assert_eq!(pair.a.capacity, SECTORS);
}

/// Detaches a disk, and attaches it with another limit. Returns how often the device of the node
/// got a size meanwhile.
fn attach_anew(pair: &mut Pair, on_a: bool, limit: u64) -> usize {
    let (volume, force) = (V, false);
    let detach = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(on_a, detach), 1);
    let before = pair.node(on_a).told.len();
    pair.node(on_a).attach(limited(limit));
    pair.until("in sync", Pair::in_sync);
    let sizes = |line: &&String| line.starts_with("SetCapacity");
    pair.node(on_a).told[before..].iter().filter(sizes).count()
}

/// Seed 177937: the peer has said what its disk that it attached was limited to, and then took over
/// the smaller limit of this node. The disk here took the former one for the limit that holds: the
/// Primary saw a size that the peer took back.
#[test]
fn a_limit_that_the_peer_has_given_up_for_ours_holds_no_more() {
    let mut pair = Pair::synced_in_front(FRONT);
    attach_anew(&mut pair, true, FRONT + 8);
    attach_anew(&mut pair, false, FRONT + 16);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT + 8, FRONT + 8));
    assert_eq!(attach_anew(&mut pair, true, FRONT + 16), 0);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT + 8, FRONT + 8));
}

/// The same, where the peer is told of the smaller limit by the disk that is attached here, and has
/// nothing to answer.
#[test]
fn a_limit_that_the_peer_gave_up_without_a_word_holds_no_more() {
    let mut pair = Pair::synced_in_front(FRONT);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    let (volume, force) = (V, false);
    for on_a in [false, true] {
        let detach = AdminRequest::Detach { volume, force };
        assert_eq!(pair.command(on_a, detach), 1);
    }
    pair.b.attach(limited(FRONT + 16));
    pair.until("b attached", |pair| {
        pair.a.state().pdsk == DiskState::UpToDate
    });
    pair.a.attach(limited(FRONT));
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    assert_eq!(attach_anew(&mut pair, true, FRONT + 16), 0);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT, FRONT));
}

/// The same, where both were told when they connected.
#[test]
fn a_limit_that_the_peer_gave_up_when_it_connected_holds_no_more() {
    let mut pair = Pair::synced_in_front(FRONT);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.cut = true;
    pair.until("alone", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    let (volume, force) = (V, false);
    for (on_a, limit) in [(true, FRONT + 8), (false, FRONT + 16)] {
        let detach = AdminRequest::Detach { volume, force };
        assert_eq!(pair.command(on_a, detach), 1);
        pair.node(on_a).attach(limited(limit));
    }
    pair.run();
    pair.cut = false;
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT + 8, FRONT + 8));
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    assert_eq!(attach_anew(&mut pair, true, FRONT + 16), 0);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT + 8, FRONT + 8));
}

/// Seed 654535: the peer's answer to the disk that was attached here counted as a late one to a
/// size from before, and its limit for nothing: the Primary saw a size that the peer took back.
#[test]
fn the_limit_of_the_peer_holds_for_an_attached_disk_whatever_counts_as_late() {
    let mut pair = Pair::synced_in_front(FRONT);
    let (volume, force) = (V, true);
    let detach = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(false, detach), 1);
    for size in [FRONT + 8, FRONT + 16] {
        assert_eq!(pair.command(true, resize(size)), 101);
    }
    pair.b.attach(limited(FRONT + 16));
    pair.until("in sync", Pair::in_sync);
    for on_a in [true, false] {
        let detach = AdminRequest::Detach { volume, force };
        assert_eq!(pair.command(on_a, detach), 1);
        pair.run();
    }
    pair.b.attach(limited(FRONT + 24));
    pair.until("served", |pair| pair.a.state().pdsk == DiskState::UpToDate);
    assert_eq!(pair.a.capacity, FRONT + 16);
    let before = pair.a.told.len();
    pair.a.attach(limited(0));
    pair.until("in sync", Pair::in_sync);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT + 24, FRONT + 24));
    let sizes = |line: &&String| line.starts_with("SetCapacity");
    assert_eq!(pair.a.told[before..].iter().filter(sizes).count(), 1);
}

/// Nothing says that the larger size came to nothing: the disk may be another one.
#[test]
fn a_larger_disk_is_not_cut_off_by_the_device_of_a_primary() {
    let mut pair = Pair::new();
    pair.b = Node::with_volumes(1, 2, SECTORS - 8, 0x22);
    pair.b.make_volumes();
    pair.sync_front(SECTORS - 8);
    let (volume, force) = (V, true);
    let detach = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(true, detach), 1);
    pair.a
        .edit_superblock(|superblock| superblock.la_size = SectorCount(SECTORS));
    let before = (pair.a.answers.len(), pair.a.superblocks.len());
    pair.a.attach(limited(0));
    pair.run();
    assert_eq!(pair.a.answers.len(), before.0 + 1);
    assert_eq!(pair.a.answers[before.0].1, 170);
    assert_eq!(pair.a.superblocks.len(), before.1);
}

/// Seed 363449: the disk failed while a larger size was being written, which came to nothing but
/// stood in the superblock. When it was attached again the Primary saw that size, and the peer took
/// it back.
#[test]
fn a_size_that_came_to_nothing_is_not_seen_by_a_primary_that_attaches_the_disk() {
    let mut pair = Pair::synced_in_front(FRONT);
    let (volume, force) = (V, true);
    let detach = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(true, detach), 1);
    pair.a.edit_superblock(|superblock| {
        superblock.la_size = SectorCount(FRONT + 8);
        superblock.flags.0 |= MdFlags::FULL_SYNC.0 | MdFlags::AL_DISABLED.0;
    });
    let before = pair.a.told.len();
    pair.a.attach(limited(FRONT + 8));
    pair.until("in sync", Pair::in_sync);
    let sizes = |line: &&String| line.starts_with("SetCapacity");
    assert_eq!(pair.a.told[before..].iter().filter(sizes).count(), 0);
    assert_eq!((pair.a.capacity, pair.b.capacity), (FRONT, FRONT));
    let used = FRONT as usize * 512;
    assert!(pair.a.disk.data[..used] == pair.b.disk.data[..used]);
}
