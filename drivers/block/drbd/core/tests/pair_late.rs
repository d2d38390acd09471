//! What two resources make of generations that do not quite fit, and of packets that come late.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::action::Ticket;
use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::request::Op;
use drbd_core::state::VolumeState;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{ConnState, DiskState, Protocol, Role, Uuid, UuidSet};
use drbd_format::wire::command::Command;
use pair::both::{said, Pair};
use pair::node::{Node, V};

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };

fn connect(config: NetConfig) -> AdminRequest {
    AdminRequest::Connect {
        config,
        digests: DigestLengths::default(),
    }
}

/// The peer corrects its generations before it tells them; then only its state says what it has
/// decided.
#[test]
fn a_disk_that_is_attached_follows_what_the_peer_has_decided() {
    let mut pair = Pair::synced();
    pair.command(false, DISCONNECT);
    pair.run();
    pair.a.crash(99);
    pair.b.crash(98);
    pair.run();
    let common = [Uuid(0xa0), Uuid(0xb0), Uuid(0xc0), Uuid(0xd0)];
    let [current, start, first, second] = common;
    pair.a.edit_superblock(|it| {
        it.uuids = UuidSet {
            current,
            bitmap: Uuid(0),
            history: [start, first],
        };
        it.flags = it.flags.with(MdFlags::CRASHED_PRIMARY, true);
    });
    pair.b.edit_superblock(|it| {
        it.uuids = UuidSet {
            current,
            bitmap: start,
            history: [first, second],
        };
    });
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.connect(NetConfig::DEFAULT);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", |pair| {
        let good = |state: VolumeState| {
            state.conn == ConnState::Connected && state.disk == DiskState::UpToDate
        };
        good(pair.a.state()) && good(pair.b.state())
    });
    assert!(said(&pair.b.log, "by rule 34"), "{:#?}", pair.b.log);
}

/// Otherwise the peer sees equal generations where a node has found that it missed the end of a
/// resync; that node sends its bitmap, and nobody expects it.
#[test]
fn a_peer_that_is_faster_is_told_the_generations_that_were_compared() {
    let mut pair = Pair::synced();
    pair.command(false, DISCONNECT);
    pair.command(true, DISCONNECT);
    pair.a.crash(99);
    pair.b.crash(98);
    pair.run();
    let [current, start, first, second] = [Uuid(0xa0), Uuid(0xb0), Uuid(0xc0), Uuid(0xd0)];
    pair.a.edit_superblock(|it| {
        it.uuids = UuidSet {
            current,
            bitmap: start,
            history: [first, second],
        };
    });
    pair.b.edit_superblock(|it| {
        it.uuids = UuidSet {
            current,
            bitmap: Uuid(0),
            history: [start, first],
        };
    });
    pair.attach();
    // Its features only.
    pair.a.sends_left = Some(1);
    pair.connect(NetConfig::DEFAULT);
    assert!(said(&pair.a.log, "by rule 34"), "{:#?}", pair.a.log);
    pair.a.sends_left = None;
    pair.until("in sync", |pair| {
        pair.a.state().conn == ConnState::Connected && pair.b.state().conn == ConnState::Connected
    });
    assert!(said(&pair.b.log, "by rule 35"), "{:#?}", pair.b.log);
}

/// Seed 233547: it did not look at the role of which it had just been told. Both became the source.
#[test]
fn a_crashed_secondary_follows_the_primary_of_an_equal_generation() {
    let mut pair = Pair::synced();
    pair.command(false, DISCONNECT);
    pair.command(true, DISCONNECT);
    pair.a.crash(99);
    pair.b.crash(98);
    pair.run();
    // A branch of the last one: a promotion begins no other.
    let [current, start, first, second] = [0xa0 + (1 << 32), 0xb0, 0xc0, 0xa0].map(Uuid);
    for node in [&mut pair.a, &mut pair.b] {
        node.edit_superblock(|it| {
            it.uuids = UuidSet {
                current,
                bitmap: start,
                history: [first, second],
            };
            it.flags = it.flags.with(MdFlags::CRASHED_PRIMARY, true);
        });
    }
    pair.attach();
    // Not the resolver, which would be the target anyhow.
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.connect(NetConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(
        said(&pair.a.log, "uuid_compare()=-1 by rule 41"),
        "{:#?}",
        pair.a.log
    );
    assert!(
        said(&pair.b.log, "uuid_compare()=1 by rule 41"),
        "{:#?}",
        pair.b.log
    );
}

/// It belongs to a resync of the disk that was there before, which no comparison will bring back.
#[test]
fn a_sync_uuid_from_before_an_attach_does_not_hold_up_the_peer() {
    let mut pair = Pair::before_sync_uuid();
    // What b says gets through, not what a says.
    let alone = |pair: &mut Pair, wanted: fn(&mut Pair) -> bool| {
        for _ in 0..1000 {
            if wanted(pair) {
                return;
            }
            pair.a.step();
            pair.b.step();
            pair.a.data_in.append(&mut pair.b.data_out);
            pair.a.meta_in.append(&mut pair.b.meta_out);
        }
        panic!("{} {}", pair.a.state(), pair.b.state());
    };
    alone(&mut pair, |pair| {
        pair.a.state().conn == ConnState::SyncSource
    });
    let volume = V;
    pair.b.admin(AdminRequest::Detach {
        volume,
        force: true,
    });
    alone(&mut pair, |pair| pair.b.state().disk == DiskState::Diskless);
    alone(&mut pair, |pair| {
        pair.a.state().conn == ConnState::Connected
    });
    pair.b.attach(DiskConfig::DEFAULT);
    alone(&mut pair, |pair| {
        pair.b.state().disk == DiskState::Negotiating
    });
    pair.until("in sync", Pair::in_sync);
}

/// Seed 51880: the peer took it for that of the next one, and both waited for ever.
#[test]
fn a_bitmap_for_an_exchange_that_came_to_nothing_is_not_sent() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair.a.write(800, 4096, 0x77);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.b.admin(connect(NetConfig::DEFAULT));
    while pair.b.state().conn != ConnState::WfBitMapT {
        pair.round_or_time();
    }
    // The own bitmap waits for this, and what the peer says goes on.
    pair.b.hold_metadata = true;
    pair.run();
    let (volume, force) = (V, true);
    pair.a.admin(AdminRequest::Detach { volume, force });
    pair.run();
    assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::WfBitMapT);
    pair.b.release_metadata();
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// `b` is behind and about to be synced. Bitmaps take two packets.
fn before_the_exchange() -> Pair {
    let mut pair = Pair::synced();
    for on_a in [true, false] {
        assert_eq!(pair.command(on_a, DISCONNECT), 101);
    }
    pair.a.write(800, 4096, 0x77);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    for node in [&mut pair.a, &mut pair.b] {
        node.admin(connect(NetConfig {
            use_rle: false,
            ..NetConfig::DEFAULT
        }));
    }
    pair
}

fn bitmaps(node: &Node) -> usize {
    let bitmap = |command: &&u16| **command == Command::Bitmap.to_wire();
    node.sent.iter().filter(bitmap).count()
}

/// The other node counts on the rest of it, and this one sends it before the one that it is asked
/// for then.
#[test]
fn a_bitmap_of_which_a_part_is_sent_goes_out_to_its_end() {
    let mut pair = before_the_exchange();
    while bitmaps(&pair.b) == 0 {
        if pair.b.state().conn == ConnState::WfBitMapT {
            pair.b.sends_left = Some(1);
        }
        pair.round_or_time();
    }
    let (volume, force) = (V, true);
    pair.a.admin(AdminRequest::Detach { volume, force });
    pair.run();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.state().conn, ConnState::WfBitMapT);
    pair.b.sends_left = None;
    pair.until("in sync", Pair::in_sync);
    assert_eq!(bitmaps(&pair.b), 4);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert!(!said(&pair.a.log, "ProtocolError"), "{:#?}", pair.a.log);
}

/// A Primary would be left without any data for a moment.
#[test]
fn a_bitmap_for_a_disk_that_has_gone_does_not_end_the_connection() {
    let mut pair = before_the_exchange();
    while bitmaps(&pair.a) == 0 {
        if pair.a.state().conn == ConnState::WfBitMapS {
            pair.a.sends_left = Some(1);
        }
        pair.round_or_time();
    }
    pair.run();
    let (volume, force) = (V, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    pair.run();
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    pair.a.sends_left = None;
    pair.run();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    for node in [&pair.a, &pair.b] {
        assert!(!said(&node.log, "ProtocolError"), "{:#?}", node.log);
    }
}

/// They have ended and can not be sent again: the generation does not wait for the end of the
/// suspension.
#[test]
fn writes_of_protocol_a_that_are_lost_while_io_is_suspended_are_synced() {
    let mut pair = Pair::synced_by(Protocol::A);
    pair.cut = true;
    pair.a.write(800, 4096, 0x77);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    let volume = V;
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume }), 1);
    pair.until("both notice", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    pair.cut = false;
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
    pair.until("still in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// A request for another one would meet a handshake that has decided already, and the nodes would
/// begin two different ones.
#[test]
fn an_invalidate_is_refused_while_a_full_sync_is_about_to_begin() {
    let mut pair = Pair::new();
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    pair.b.hold_bitmap = true;
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.run();
    let volume = V;
    assert_eq!(pair.command(false, AdminRequest::Invalidate { volume }), -8);
    pair.b.release_bitmap();
    pair.until("first sync", Pair::in_sync);
}

/// Seed 9840: the state waited for a superblock that was being written, the writes did not. They
/// are on the peer's disk only, and nobody else can mark them.
#[test]
fn the_peer_hears_of_a_failed_disk_before_it_gets_a_write_that_is_not_on_it() {
    let mut pair = Pair::synced();
    // Its extent is in the log from now on, which nothing new gets into while no superblock says
    // that there is a Primary.
    pair.a.write(800, 4096, 0x50);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.a.hold_metadata = true;
    let (volume, role) = (V, Role::Primary);
    pair.a.admin(AdminRequest::SetRole {
        volume,
        role,
        force: false,
    });
    pair.run();
    assert_eq!(pair.a.state().role, Role::Primary);
    pair.a.fail_local = true;
    pair.a.write(800, 4096, 0x51);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Failed);
    pair.a.write(1600, 4096, 0x52);
    pair.run();
    assert_eq!(pair.b.disk.data[1600 * 512], 0x52);
    assert!(pair.b.core.bit_is_set(V, 200));
    pair.a.fail_local = false;
    pair.a.release_metadata();
    pair.until("detached", |pair| {
        pair.b.state().pdsk == DiskState::Diskless
    });
}

/// Seeds 63778 and 23079: what the source writes alone afterwards is not in the generation that its
/// target has and goes on from.
#[test]
fn both_nodes_going_on_alone_is_seen_although_one_has_missed_the_end_of_a_resync() {
    let mut pair = Pair::synced_unheard();
    let alone = |pair: &mut Pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    };
    pair.a.crash(99);
    pair.until("the other one notices", alone);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    for on_a in [true, false] {
        assert_eq!(pair.role(on_a, Role::Primary, false), 1);
        pair.node(on_a).write(800, 4096, 9);
        pair.run();
        assert_eq!(pair.role(on_a, Role::Secondary, false), 1);
    }
    pair.cut = false;
    pair.a.admin(connect(NetConfig::DEFAULT));
    pair.until("split brain", |pair| {
        pair.a.state().conn == ConnState::StandAlone
    });
    let line = "Split-Brain detected but unresolved, dropping connection!";
    assert!(said(&pair.a.log, line), "{:#?}", pair.a.log);
}

/// Seed 813558: the source forgets a block when it hears of it, and a loss of power took block and
/// bitmap out of the cache of the target's disk, which only a superblock empties.
#[test]
fn a_target_asks_for_nothing_before_its_disk_marks_what_is_to_come() {
    let mut pair = Pair::before_sync_uuid();
    pair.b.hold_metadata = true;
    pair.b.sent.clear();
    pair.run();
    let asked = Command::RsDataRequest.to_wire();
    assert!(!pair.b.sent.contains(&asked));
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    pair.b.release_metadata();
    pair.until("in sync", Pair::in_sync);
    assert!(pair.b.sent.contains(&asked));
}

/// Seed 908082: a disk that fails now has what is written to it, in the generation of the peer's.
#[test]
fn nothing_is_written_before_the_generation_of_the_disk_is_on_it() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x71);
    pair.run();
    pair.a.hold_metadata = true;
    pair.breaks_in = Some(0);
    pair.cut = true;
    pair.run();
    assert!(said(&pair.a.log, "new current UUID 1F9BBF32CF6C8155"));
    assert!(!pair.a.request(Op::Write, 800, 4096, 0x72));
    assert!(!pair.a.request(Op::Write, 0, 512, 0x72));
    assert_eq!(pair.a.disk.data[800 * 512], 0x71);
    pair.a.release_metadata();
    pair.run();
    pair.a.write(800, 4096, 0x72);
    pair.run();
    assert_eq!(pair.a.disk.data[800 * 512], 0x72);
}

/// Seed 1049397: the target had answered the bitmap of an exchange that came to nothing; the source
/// took that for the answer to the next one and did not send it what it had marked since.
#[test]
fn a_source_sends_its_bitmap_also_if_that_of_the_target_comes_first() {
    let mut pair = Pair::synced();
    let detach = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    // What this node, or the other one, says on its data socket gets through.
    let one_way = |pair: &mut Pair, of_a: bool| {
        for _ in 0..100 {
            pair.a.step();
            pair.b.step();
            if of_a {
                pair.b.data_in.append(&mut pair.a.data_out);
            } else {
                pair.a.data_in.append(&mut pair.b.data_out);
            }
            pair.a.meta_in.append(&mut pair.b.meta_out);
            pair.b.meta_in.append(&mut pair.a.meta_out);
        }
    };
    assert_eq!(pair.command(false, detach), 1);
    pair.a.write(800, 4096, 0x71);
    pair.run();
    pair.b.attach(DiskConfig::DEFAULT);
    one_way(&mut pair, false);
    assert_eq!(pair.a.state().conn, ConnState::WfBitMapS);
    pair.b.admin(detach);
    one_way(&mut pair, false);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    pair.a.write(1600, 4096, 0x72);
    pair.b.step();
    pair.b.attach(DiskConfig::DEFAULT);
    one_way(&mut pair, true);
    assert_eq!(pair.b.state().conn, ConnState::WfSyncUuid);
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.b.disk.data[1600 * 512], 0x72);
}

/// Found by the storms of `pair_storm.rs`: the answer to a question that was settled meanwhile was
/// taken for that to the next one, and what the peer had agreed to did not happen.
#[test]
fn an_answer_is_that_to_its_own_question() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.run();
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.b.step();
    let (volume, force) = (V, true);
    pair.a.admin(AdminRequest::Detach { volume, force });
    let before = pair.b.answers.len();
    for _ in 0..100 {
        pair.a.step();
        pair.b.step();
        pair.b.data_in.append(&mut pair.a.data_out);
        pair.b.meta_in.append(&mut pair.a.meta_out);
    }
    assert_eq!(pair.b.answers[before].1, 2, "its peer's disk is gone");
    let force = false;
    assert_eq!(
        pair.command(false, AdminRequest::Detach { volume, force }),
        1
    );
    pair.run();
    let disks = [pair.a.state().pdsk, pair.b.state().disk];
    assert_eq!(disks, [DiskState::Diskless; 2]);
}

/// The next command waited for the answer to the question of the one before. When its caller went,
/// that question was taken for the one given up, and what it had asked for took effect after all.
#[test]
fn a_command_that_is_given_up_leaves_the_question_before_it_alone() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.run();
    // What a says on its meta socket does not get through.
    let without_acks_of_a = |pair: &mut Pair| {
        for _ in 0..100 {
            pair.a.step();
            pair.b.step();
            pair.b.data_in.append(&mut pair.a.data_out);
            pair.a.data_in.append(&mut pair.b.data_out);
            pair.a.meta_in.append(&mut pair.b.meta_out);
        }
    };
    let (volume, before) = (V, pair.b.answers.len());
    pair.a.hold_bitmap = true;
    pair.b.admin(AdminRequest::Invalidate { volume });
    without_acks_of_a(&mut pair);
    assert_eq!(pair.a.state().conn, ConnState::StartingSyncS, "it agreed");
    pair.a.admin(AdminRequest::Detach {
        volume,
        force: true,
    });
    pair.a.step();
    pair.a.release_bitmap();
    without_acks_of_a(&mut pair);
    assert_eq!(pair.b.answers[before].1, 2, "its peer's disk is gone");
    let ticket = Ticket(pair.b.answers.len() as u32 + 1000);
    pair.b.admin(AdminRequest::Detach {
        volume,
        force: false,
    });
    without_acks_of_a(&mut pair);
    assert_eq!(pair.b.answers.len(), before + 1, "it waits");
    let now = pair.b.now;
    pair.b.core.handle(&Input::Cancel(ticket), now);
    pair.a.attach(DiskConfig::DEFAULT);
    without_acks_of_a(&mut pair);
    assert_eq!(pair.b.state().pdsk, DiskState::UpToDate);
    pair.until("in sync", Pair::in_sync);
    assert!(!said(&pair.b.log, "Starting full resync"));
}

/// Seed 1173042: each takes what the other one said before its attach for an answer, and then
/// thinks that the other one gives its disk up.
#[test]
fn disks_that_are_attached_at_once_after_a_split_brain_do_not_both_count_as_good() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    for on_a in [true, false] {
        let request = AdminRequest::Detach {
            volume: V,
            force: true,
        };
        assert_eq!(pair.command(on_a, request), 1);
    }
    pair.run();
    for (on_a, current) in [(true, 0xa0), (false, 0xb0)] {
        let node = pair.node(on_a);
        node.edit_superblock(|it| {
            it.uuids.bitmap = it.uuids.current;
            it.uuids.current = Uuid(current);
        });
        node.sends_left = Some(0);
        node.admin(AdminRequest::PauseSync { volume: V });
        node.attach(DiskConfig::DEFAULT);
    }
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    assert_eq!(pair.b.state().disk, DiskState::Negotiating);
    pair.a.sends_left = None;
    pair.b.sends_left = None;
    pair.until("apart", |pair| {
        let states = [pair.a.state(), pair.b.state()];
        states
            .iter()
            .any(|state| state.conn == ConnState::StandAlone)
    });
}

/// Both are of one generation until it begins, and what is written here alone would not be noticed.
#[test]
fn a_primary_whose_full_sync_is_about_to_begin_writes_nothing_that_its_source_may_not_get() {
    let mut pair = Pair::synced();
    pair.a.hold_bitmap = true;
    let volume = V;
    pair.a.admin(AdminRequest::Invalidate { volume });
    pair.run();
    assert_eq!(pair.a.state().conn, ConnState::StartingSyncT);
    assert!(!pair.a.request(Op::Write, 800, 4096, 9), "it waits");
    pair.break_now();
    pair.run();
    pair.a.release_bitmap();
    pair.until("equal again", |pair| {
        pair.a.state().conn == ConnState::Connected
    });
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// What is not compared yet can not be outdated; a good disk that is connected stays so.
#[test]
fn a_disk_that_waits_for_the_peer_is_not_good_because_it_is_to_be_outdated() {
    let mut pair = Pair::synced();
    let (volume, force) = (V, true);
    let detach = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(false, detach), 1);
    pair.a.write(800, 4096, 9);
    pair.run();
    pair.a.sends_left = Some(0);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.b.admin(AdminRequest::Outdate { volume });
    pair.run();
    assert_eq!(pair.b.state().disk, DiskState::Negotiating);
    pair.a.sends_left = None;
    pair.until("synced", Pair::in_sync);
    assert_eq!(pair.b.disk.data[800 * 512], 9);
}

/// It may have it in a cache only, and the own data are going to be overwritten.
#[test]
fn a_primary_gives_up_its_data_when_the_peer_has_its_writes_for_good() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 9);
    while pair.round() {}
    assert_eq!(pair.a.ended, [Ok(())]);
    let volume = V;
    pair.a.admin(AdminRequest::Invalidate { volume });
    while pair.round() {}
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
    // The barrier has not been sent, and the peer loses its power.
    pair.break_now();
    pair.b.crash(77);
    pair.b.disk.data[800 * 512..][..4096].fill(0x11);
    pair.run();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.b.admin(AdminRequest::Connect {
        config: NetConfig::DEFAULT,
        digests: DigestLengths::default(),
    });
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.disk.data[800 * 512], 9);
    pair.a.write(808, 4096, 9);
    while pair.round() {}
    assert_eq!(pair.command(true, AdminRequest::Invalidate { volume }), 1);
    pair.until("in sync again", Pair::in_sync);
}

/// The state that tells of the end of the resync is not the only one that comes before the source
/// has ended it.
#[test]
fn a_source_hears_that_its_target_has_stepped_back_at_the_end_of_the_resync() {
    let mut pair = Pair::ended_at_the_target();
    let volume = V;
    let (role, force) = (Role::Secondary, false);
    pair.a.admin(AdminRequest::SetRole {
        volume,
        role,
        force,
    });
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.a.state().role, Role::Secondary);
    assert_eq!(pair.b.state().peer, Role::Secondary);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
}

/// What one node has sent arrives, and both work until nothing of that is left to do.
fn arrives(pair: &mut Pair, at_a: bool) {
    for _ in 0..10 {
        pair.a.step();
        pair.b.step();
        let (from, to) = match at_a {
            true => (&mut pair.b, &mut pair.a),
            false => (&mut pair.a, &mut pair.b),
        };
        to.data_in.append(&mut from.data_out);
        to.meta_in.append(&mut from.meta_out);
    }
}

/// Found by the storms of `pair_storm.rs`: an answer to a state from before the disk went made the
/// next disk a target, and behind it came the UUID of the resync that the former disk was to have.
/// It waited for the bitmap, which came behind it.
#[test]
fn the_uuid_of_a_resync_of_the_former_disk_holds_up_nothing() {
    let (volume, force) = (V, true);
    let detach = AdminRequest::Detach { volume, force };
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, detach), 1);
    pair.a.write(800, 4096, 0x71);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    // Both disks are attached at once, and `b` hears that the other one was away only then.
    for node in [&mut pair.a, &mut pair.b] {
        if node.state().disk != DiskState::Diskless {
            node.admin(detach);
        }
        node.step();
        node.attach(DiskConfig::DEFAULT);
    }
    arrives(&mut pair, true);
    assert_eq!(pair.a.state().conn, ConnState::WfBitMapS);
    arrives(&mut pair, false);
    assert_eq!(pair.b.state().conn, ConnState::WfSyncUuid);
    arrives(&mut pair, true);
    assert_eq!(pair.a.state().conn, ConnState::SyncSource);
    pair.b.admin(detach);
    pair.b.step();
    pair.b.attach(DiskConfig::DEFAULT);
    pair.b.step();
    arrives(&mut pair, false);
    assert_eq!(pair.b.state().conn, ConnState::WfBitMapT);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Found by the storms of `pair_storm.rs`: the source agrees to a detach of its target, and begins
/// a generation without it. The target, which has all data by then, ends its run first.
#[test]
fn a_target_that_is_left_out_of_a_generation_does_not_take_it_at_the_end_of_its_resync() {
    let (volume, force) = (V, false);
    let mut pair = Pair::before_sync_uuid();
    pair.rounds_until("begun", |pair| pair.b.state().conn == ConnState::SyncTarget);
    // The ping that ends the run is sent before; its answer and the consent come together.
    for round in 0..60 {
        if round == 20 {
            pair.b.admin(AdminRequest::Detach { volume, force });
        }
        for node in [&mut pair.a, &mut pair.b] {
            node.now = node.now.after(Duration::from_millis(4));
            node.step();
        }
        pair.a.data_in.append(&mut pair.b.data_out);
        pair.a.meta_in.append(&mut pair.b.meta_out);
        pair.b.data_in.append(&mut pair.a.data_out);
    }
    assert_eq!(pair.a.state().pdsk, DiskState::Failed);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    arrives(&mut pair, false);
    assert!(!said(&pair.b.log, "Resync aborted"), "{:?}", pair.b.log);
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.b.step();
    assert_eq!(pair.b.state().disk, DiskState::Negotiating);
    pair.a.write(800, 4096, 0x21);
    pair.break_now();
    pair.cut = true;
    pair.until("apart", |pair| pair.b.state().conn < ConnState::Connected);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.cut = false;
    pair.until("known", |pair| said(&pair.a.log, "Split-Brain detected"));
}
