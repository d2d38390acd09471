//! Which disk may serve a Primary that has lost its own: none that lacks what applications wrote.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Protocol, Role};
use pair::both::{said, Pair};
use pair::node::V;

const REFUSED: &str = "Can only connect to data with current UUID=";

fn detach(force: bool) -> AdminRequest {
    AdminRequest::Detach { volume: V, force }
}

fn connect() -> AdminRequest {
    AdminRequest::Connect {
        config: NetConfig::DEFAULT,
        digests: DigestLengths {
            hmac: 32,
            ..DigestLengths::default()
        },
    }
}

fn alone(pair: &mut Pair) -> bool {
    pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
}

fn refuses(pair: &mut Pair) -> bool {
    let log = &pair.a.log;
    log.iter().any(|line| line.contains(REFUSED)) && pair.a.state().conn == ConnState::StandAlone
}

/// Both disks of a generation are gone at the same time: nobody could begin another one.
fn without_disks() -> Pair {
    let mut pair = Pair::synced();
    pair.a.sends_left = Some(0);
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 0x32);
    assert_eq!(pair.command(false, detach(true)), 1);
    pair.a.sends_left = None;
    pair.a.fail_local = false;
    pair.until("both diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless && pair.a.state().pdsk == DiskState::Diskless
    });
    assert!(
        pair.a.ended.iter().all(Result::is_err),
        "{:?}",
        pair.a.ended
    );
    pair.a.ended.clear();
    pair
}

/// `a` writes, then the other node attaches as well: both have what was written.
fn written_and_synced(pair: &mut Pair, last_is_a: bool) {
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.node(last_is_a).attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data[80 * 512], 9);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Seeds 1068 and 5952.
#[test]
fn a_disk_that_is_attached_for_a_diskless_primary_begins_a_generation() {
    let mut pair = without_disks();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("served", |pair| pair.a.state().pdsk == DiskState::UpToDate);
    written_and_synced(&mut pair, true);
}

/// Seed 4912: the disk was lost before it was marked as that of a Primary.
#[test]
fn a_disk_that_a_primary_attaches_alone_begins_a_generation() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.run();
    pair.a.fail_metadata = true;
    pair.b.fail_metadata = true;
    pair.a.admin(AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: false,
    });
    pair.until("both diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless && pair.a.state().pdsk == DiskState::Diskless
    });
    assert_eq!(pair.a.state().role, Role::Primary);
    pair.a.fail_metadata = false;
    pair.b.fail_metadata = false;
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("attached", |pair| {
        pair.a.state().disk == DiskState::UpToDate
    });
    written_and_synced(&mut pair, false);
}

/// Found by the storms of `pair_storm.rs`: the peer went on from a generation of which both had a
/// copy, and so did the Primary with the disk that it attached alone. Nobody saw that both had.
#[test]
fn a_disk_that_a_primary_attaches_alone_leaves_a_generation_that_may_be_elsewhere() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.write(80, 4096, 8);
    pair.until("both notice", alone);
    pair.a.admin(detach(true));
    pair.run();
    let shared = pair.a.superblocks.last().unwrap().uuids;
    assert_ne!(shared.bitmap.0, 0);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    let left = pair.a.superblocks.last().unwrap().uuids;
    assert_eq!(left.bitmap, shared.bitmap);
    assert_eq!(left.history[1], shared.current);
    assert_ne!(left.current.0 & !1, shared.current.0 & !1);
    pair.cut = false;
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.b.disk.data[80 * 512], 8);
}

/// Likewise of the target of a resync, of which the Primary has not heard that it has ended.
#[test]
fn a_primary_that_loses_the_target_of_its_resync_goes_on_in_a_generation_of_its_own() {
    let mut pair = Pair::synced_unheard();
    pair.until("both notice again", alone);
    for on_a in [true, false] {
        assert_eq!(
            pair.role(on_a, Role::Primary, false),
            if on_a { 2 } else { 1 }
        );
        pair.node(on_a).write(800, 4096, 9);
        pair.run();
        assert_eq!(pair.role(on_a, Role::Secondary, false), 1);
    }
    pair.cut = false;
    let line = "Split-Brain detected but unresolved, dropping connection!";
    pair.until("split brain", |pair| said(&pair.a.log, line));
}

/// Seeds 3445 and 4154: the peer knows of no later generation, but the bitmap of the disk that is
/// lost marked what it has not.
#[test]
fn a_diskless_primary_does_not_take_a_peer_that_lacks_what_its_bitmap_marked() {
    let mut pair = Pair::synced_unheard();
    pair.until("both notice again", alone);
    pair.a.write(80, 4096, 9);
    pair.run();
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 0x32);
    pair.until("diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    pair.a.fail_local = false;
    pair.cut = false;
    pair.until("refused", refuses);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.command(true, connect()), 1);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
}

/// Found by the storms of `pair_storm.rs`: the resync has no bitmap UUID yet, and nothing is
/// mirrored any more.
#[test]
fn a_diskless_primary_does_not_take_a_peer_that_asked_for_a_sync_of_everything() {
    let mut pair = Pair::synced();
    pair.a.hold_bitmap = true;
    pair.b.hold_bitmap = true;
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.until("asked for", |pair| {
        pair.a.state().conn == ConnState::StartingSyncS
    });
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.admin(detach(true));
    pair.run();
    for node in [&mut pair.a, &mut pair.b] {
        node.release_bitmap();
    }
    pair.until("diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    pair.breaks_in = Some(0);
    pair.until("refused", refuses);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.command(true, connect()), 1);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
}

/// Seed 960971: applications were done with the writes, and the Primary had lost its own disk.
#[test]
fn a_detach_in_good_order_waits_for_writes_that_have_arrived() {
    let mut pair = Pair::synced_by(Protocol::A);
    pair.b.hold_peer_io = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.cut = true;
    pair.until("both notice", alone);
    pair.b.admin(detach(false));
    pair.run();
    assert_eq!(pair.b.state().disk, DiskState::UpToDate);
    pair.b.hold_peer_io = false;
    pair.until("detached", |pair| {
        pair.b.state().disk == DiskState::Diskless
    });
    assert_eq!(pair.b.disk.data[80 * 512], 9);
}

/// Seed 1935: in protocol A the application is done with a write that is lost on its way, and the
/// disk that has it fails.
#[test]
fn a_diskless_primary_does_not_take_a_peer_that_may_lack_what_it_was_sent() {
    let mut pair = Pair::synced_by(Protocol::A);
    pair.cut = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 0x32);
    pair.until("both notice", alone);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    pair.cut = false;
    pair.until("refused", refuses);
}

/// Seed 7723: nothing but the peer's disk is good, so its word is waited for, in protocol A too.
#[test]
fn a_write_of_a_diskless_primary_ends_when_the_peer_has_it() {
    let mut pair = Pair::synced_by(Protocol::A);
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.a.write(80, 4096, 8);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.cut = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended.len(), 1);
    pair.until("both notice", alone);
    pair.run();
    assert!(pair.a.ended[1].is_err());
}

#[test]
fn a_diskless_primary_takes_a_peer_that_has_acknowledged_all() {
    let mut pair = Pair::synced_by(Protocol::A);
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.a.write(80, 4096, 9);
    pair.run();
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.core.counters(V).in_flight_sectors, 0);
    pair.cut = true;
    pair.until("both notice", alone);
    pair.cut = false;
    pair.until("served", |pair| pair.a.state().pdsk == DiskState::UpToDate);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data[80 * 512], 9);
}

/// Seed 6080: the link breaks while the disk is being attached, before it is compared.
#[test]
fn a_disk_that_missed_writes_is_not_good_because_the_link_broke_meanwhile() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.a.write(80, 4096, 9);
    pair.run();
    let before = pair.a.answers.len();
    pair.a.attach(DiskConfig::DEFAULT);
    assert_eq!(pair.a.state().disk, DiskState::Attaching);
    pair.cut = true;
    assert!(pair.a.notice_end(true));
    pair.run();
    assert_eq!(pair.a.answers[before].1, 150);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
}

/// Seed 4054 with a C peer: its UUIDs came while the disk still was there, and called it the
/// target; it has seen none of ours, and calls its disk good.
#[test]
fn a_diskless_primary_does_not_take_a_peer_that_was_to_be_its_target() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.write(80, 4096, 9);
    pair.until("both notice", alone);
    pair.a.fail_metadata = true;
    pair.a.sends_left = Some(1);
    pair.cut = false;
    pair.until("diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    pair.a.sends_left = None;
    pair.until("refused", refuses);
    pair.a.fail_metadata = false;
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.command(true, connect()), 1);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.b.disk.data[80 * 512], 9);
}

/// `a` has written what the disk of `b` was not there for, and has not heard of that.
fn written_while_away() -> Pair {
    let mut pair = Pair::synced();
    pair.b.sends_left = Some(0);
    assert_eq!(pair.command(false, detach(true)), 1);
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair
}

/// Seed 43733: the disk was away for a while, and the Primary has not heard of that when its own
/// one fails.
#[test]
fn a_disk_that_missed_writes_is_not_good_because_the_peer_loses_its_own_one() {
    let mut pair = written_while_away();
    assert_eq!(pair.a.state().pdsk, DiskState::UpToDate, "not heard of");
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.state().disk, DiskState::Negotiating);
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 0x32);
    pair.run();
    assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    let before = pair.b.answers.len();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.answers[before].1, 150, "nor the next time");
    // It would be on this disk alone.
    pair.a.ended.clear();
    pair.a.write(88, 4096, 9);
    pair.run();
    assert!(pair.a.ended[0].is_err());
}

/// Seed 850672: the disk that comes back was away also when the Primary lost its own one. What that
/// says of its peer's disk is about the time before.
#[test]
fn a_disk_that_missed_writes_is_refused_also_if_the_peer_has_lost_its_own_one_meanwhile() {
    let mut pair = written_while_away();
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 0x32);
    pair.run();
    assert_eq!(pair.a.state().pdsk, DiskState::UpToDate, "not heard of");
    assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
    let before = pair.b.answers.len();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.answers[before].1, 150);
    pair.b.sends_left = None;
    pair.until("heard", |pair| pair.a.state().pdsk == DiskState::Diskless);
    pair.a.ended.clear();
    pair.a.write(88, 4096, 9);
    pair.run();
    assert!(pair.a.ended[0].is_err());
}

/// Seed 1072152: the disk of the peer is gone too before its new generation is on it. That of the
/// Primary, which steps down, is not the newer one for having been in use.
#[test]
fn a_disk_that_lacks_writes_comes_back_as_no_good_one_also_after_a_demotion() {
    let mut pair = Pair::synced();
    let mut uuids = None;
    pair.b.edit_superblock(|it| uuids = Some(it.uuids));
    pair.a.fail_local = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(pair.command(false, detach(true)), 1);
    pair.run();
    pair.b
        .edit_superblock(|it| it.uuids = uuids.expect("looked at"));
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.a.fail_local = false;
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Inconsistent);
    assert_eq!(pair.role(true, Role::Primary, false), -2);
    // As `apply-al` does it.
    let page = pair.b.disk.bitmap.entry(0);
    page.or_insert_with(|| vec![0; 4096])[1] |= 1 << 2;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data[80 * 512], 9);
}

/// Seed 1216172: in protocol A the peer may lack more than that.
#[test]
fn a_disk_that_lacks_what_was_only_sent_comes_back_as_a_good_one_after_a_demotion() {
    let mut pair = Pair::synced_by(Protocol::A);
    pair.cut = true;
    pair.a.fail_local = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.until("both notice", alone);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.a.fail_local = false;
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
}

/// `a` is promoted without a disk. That of `b` serves it, and is gone before the generation that it
/// begins is on it, or told.
fn promoted_and_left(pair: &mut Pair) {
    pair.b.fail_metadata = true;
    pair.b.hold_metadata = true;
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    pair.b.admin(detach(true));
    pair.run();
    pair.b.release_metadata();
    pair.until("both diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless && pair.a.state().pdsk == DiskState::Diskless
    });
    pair.b.fail_metadata = false;
}

/// Seed 331346: the disk that the node had as it crashed is of the same generation, and lacks what
/// its cache lost. The peer's one, through which the node is Primary again, is gone before the
/// generation that it begins is on it, or told.
#[test]
fn a_disk_that_a_node_was_promoted_without_does_not_stand_in_for_that_of_the_peer() {
    let mut pair = Pair::synced();
    let sector = 80 * 512;
    let lost = pair.a.disk.data[sector..sector + 4096].to_vec();
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.crash(99);
    pair.a.disk.data[sector..sector + 4096].copy_from_slice(&lost);
    pair.until("noticed", |pair| pair.b.state().conn < ConnState::Connected);
    assert_eq!(pair.command(true, connect()), 1);
    pair.until("served", |pair| pair.a.state().pdsk == DiskState::UpToDate);
    promoted_and_left(&mut pair);
    let before = pair.a.answers.len();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.answers[before].1, 150);
    pair.b.crash(98);
    pair.until("noticed", |pair| pair.a.state().conn < ConnState::Connected);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.command(false, connect()), 1);
    pair.until("served again", |pair| {
        pair.a.state().pdsk == DiskState::UpToDate
    });
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.a.disk.data[sector], 9);
}

/// `a`, a Secondary, has only the disk of the peer.
fn detached_secondary() -> Pair {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.run();
    pair
}

/// `a`, without a disk, connects again and gets its data from `b`.
fn takes_the_data_of_the_peer(pair: &mut Pair) {
    pair.until("connected again or refused", |pair| {
        pair.a.state().conn == ConnState::Connected || refuses(pair)
    });
    assert_eq!(pair.a.state().pdsk, DiskState::UpToDate);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
}

/// The word of the generation that the peer has begun for the promotion is lost with the link.
#[test]
fn a_node_that_was_promoted_without_a_disk_takes_the_generation_begun_for_that() {
    let mut pair = detached_secondary();
    pair.b.hold_metadata = true;
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    assert!(said(&pair.b.log, "new current UUID"));
    pair.cut = true;
    pair.b.release_metadata();
    pair.until("both notice", alone);
    pair.cut = false;
    takes_the_data_of_the_peer(&mut pair);
}

/// Who steps down may choose older data.
#[test]
fn a_disk_that_a_node_was_promoted_without_can_be_attached_after_a_demotion() {
    let mut pair = detached_secondary();
    promoted_and_left(&mut pair);
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.cut = true;
    pair.until("both notice", alone);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.role(true, Role::Primary, false), 1);
}

/// Both nodes had the same data, and the disk of `b` has been outdated since it lost the link.
fn outdated() -> Pair {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.run();
    pair.cut = true;
    pair.until("both notice", alone);
    assert_eq!(pair.command(false, AdminRequest::Outdate { volume: V }), 1);
    assert_eq!(pair.b.state().disk, DiskState::Outdated);
    pair
}

fn connected(pair: &mut Pair) -> bool {
    let states = [pair.a.state(), pair.b.state()];
    states
        .iter()
        .all(|state| state.conn == ConnState::Connected)
}

/// Seed 621064: the disk lacked what the other one had before it failed.
#[test]
fn an_outdated_disk_does_not_become_good_by_meeting_a_node_without_a_disk() {
    let mut pair = outdated();
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.cut = false;
    pair.until("connected", connected);
    pair.run();
    let [a, b] = [pair.a.state(), pair.b.state()];
    assert_eq!([a.pdsk, b.disk], [DiskState::Outdated; 2]);
    assert_eq!(pair.role(false, Role::Primary, false), -2);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("compared", Pair::in_sync);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
}

#[test]
fn an_outdated_disk_is_good_for_a_diskless_primary_that_takes_its_data() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.cut = true;
    pair.until("both notice", alone);
    assert_eq!(pair.command(false, AdminRequest::Outdate { volume: V }), 1);
    pair.cut = false;
    let taken = |pair: &mut Pair| {
        pair.b.state().disk == DiskState::UpToDate && pair.a.state().pdsk == DiskState::UpToDate
    };
    pair.until("taken", taken);
    written_and_synced(&mut pair, true);

    // Seed 642195: the same with a disk that is attached again.
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.cut = true;
    pair.until("both notice", alone);
    assert_eq!(pair.command(false, AdminRequest::Outdate { volume: V }), 1);
    assert_eq!(pair.command(false, detach(false)), 1);
    pair.cut = false;
    pair.until("connected", connected);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("taken", taken);
    written_and_synced(&mut pair, true);
}

/// Seed 21046: the node had not heard that the peer's disk, which was just attached, is Outdated.
#[test]
fn a_node_without_a_disk_is_not_promoted_with_the_outdated_disk_of_its_peer() {
    let mut pair = outdated();
    assert_eq!(pair.command(false, detach(false)), 1);
    assert_eq!(pair.command(true, detach(false)), 1);
    pair.cut = false;
    pair.until("connected", connected);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.a.admin(AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: false,
    });
    pair.until("known", |pair| pair.a.state().pdsk == DiskState::Outdated);
    pair.run();
    assert_eq!(pair.a.state().role, Role::Secondary);
    assert_eq!(pair.b.state().disk, DiskState::Outdated);
    let promote = pair.role(true, Role::Primary, false);
    assert_eq!(promote, -2);
}

/// The disk goes, and the word of the generation that the peer has begun for it comes before the
/// consent, which takes the other socket. Nothing is written before the link breaks.
fn detached_after_word_of_a_generation() -> Pair {
    let mut pair = Pair::synced();
    // The peer hears that its disk is good.
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    let before = pair.a.answers.len();
    pair.a.admin(detach(false));
    for _ in 0..20 {
        pair.a.step();
        pair.b.step();
        let Pair { a, b, .. } = &mut pair;
        b.data_in.append(&mut a.data_out);
        a.data_in.append(&mut b.data_out);
    }
    assert!(said(&pair.b.log, "new current UUID"));
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
    pair.run();
    assert_eq!(pair.a.answers[before].1, 1);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    pair.break_now();
    pair
}

#[test]
fn a_generation_told_before_the_consent_to_a_detach_is_that_of_the_data_in_use() {
    let mut pair = detached_after_word_of_a_generation();
    takes_the_data_of_the_peer(&mut pair);
}

/// Or it would begin another generation beside that of the peer: a split brain.
#[test]
fn a_disk_of_the_generation_before_a_detach_is_not_attached_alone() {
    let mut pair = detached_after_word_of_a_generation();
    pair.cut = true;
    pair.run();
    let before = pair.a.answers.len();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("an answer", |pair| pair.a.answers.len() > before);
    assert_eq!(pair.a.answers[before].1, 150);
    pair.cut = false;
    pair.until("connected again", |pair| {
        pair.a.state().conn == ConnState::Connected
    });
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
}

/// What the disk took for a diskless Primary earlier, over the same connection, is on the other one
/// as well since: both have gone, and the one that comes back is refused. With a generation of its
/// own it would seem to be newer than the Primary's (seed 624329).
#[test]
fn a_disk_that_served_a_primary_once_begins_no_generation_when_it_is_refused_later() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, detach(false)), 1);
    written_and_synced(&mut pair, true);
    pair.a.fail_metadata = true;
    assert_eq!(pair.command(false, detach(true)), 1);
    pair.until("both diskless", |pair| {
        pair.a.state().disk == DiskState::Diskless && pair.a.state().pdsk == DiskState::Diskless
    });
    pair.a.fail_metadata = false;
    let held = pair.b.superblocks.last().expect("written").uuids.current;
    // The Primary tries its own disk, and says that it has none, before it hears of the peer's.
    pair.b.sends_left = Some(0);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("good", |pair| pair.b.state().disk == DiskState::UpToDate);
    pair.b.sends_left = None;
    pair.until("refused", refuses);
    pair.until("both notice", alone);
    pair.pass(Duration::from_secs(6));
    let last = pair.b.superblocks.last().expect("written").uuids.current;
    assert_eq!(last, held);
}
