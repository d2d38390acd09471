//! Runs of resync and verify that follow one another over one connection: what still comes of the
//! one before.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::data::PeerIo;
use drbd_core::input::AdminRequest;
use drbd_core::peer_request::PeerId;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{ConnState, DiskState, Role, Uuid, UuidSet};
use drbd_format::wire::command::Command;
use pair::both::{grow, Pair};
use pair::node::{Node, V};

const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: true,
};
/// The last blocks of the device, not more than three.
const LAST: u64 = 1024 * 8;

/// Rounds in which nothing arrives on the meta socket of `a`.
fn rounds_without_acks(pair: &mut Pair, kept: &mut Vec<u8>, rounds: usize) {
    for _ in 0..rounds {
        pair.round_or_time();
        kept.extend(pair.a.meta_in.drain(..));
    }
}

/// A request of the peer or of a resync that is with the disk.
struct Held {
    id: PeerId,
    sector: u64,
    reads: bool,
}

/// Hands all that waits for the disk of a node to it. It holds its answers back.
fn hand_to_disk(node: &mut Node, held: &mut Vec<Held>) {
    while let Some(io) = node.core.next_peer_io(node.now) {
        let (id, sector, reads) = match io {
            PeerIo::Read {
                id,
                sector,
                len_bytes,
                ..
            } => {
                let at = sector.0 as usize * 512;
                let data = node.disk.data[at..at + len_bytes as usize].to_vec();
                node.pages.insert(id.slot, data);
                (id, sector.0, true)
            }
            PeerIo::Write { id, sector, .. } => (id, sector.0, false),
            PeerIo::Free { id } => {
                node.pages.remove(&id.slot);
                continue;
            }
            io => panic!("{io:?}"),
        };
        held.push(Held { id, sector, reads });
    }
}

/// The disk answers. What it writes it writes only now.
fn disk_answers(node: &mut Node, held: Held) {
    if !held.reads {
        let data = node.pages[&held.id.slot].clone();
        let at = held.sector as usize * 512;
        node.disk.data[at..at + data.len()].copy_from_slice(&data);
    }
    node.core.peer_io_done(held.id, true, node.now);
}

/// As [`disk_answers`], for all but those about the last blocks.
fn answer_but_last(node: &mut Node, held: &mut Vec<Held>) {
    for io in std::mem::take(held) {
        if io.sector < LAST {
            disk_answers(node, io);
        } else {
            held.push(io);
        }
    }
}

/// The disk of the node that is asked goes, and what it has refused for that is heard of when the
/// other one, which had asked for digests, asks for data of the same blocks.
#[test]
fn a_late_refusal_of_a_verify_does_not_count_for_the_resync_that_follows() {
    let mut pair = Pair::with_volumes(1, LAST + 8);
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    pair.choose_verify();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.run();
    pair.a.admin(AdminRequest::Verify {
        volume: V,
        start: Some(LAST),
        stop: u64::MAX,
    });
    while !pair.a.sent.contains(&Command::OvRequest.to_wire()) {
        pair.round();
    }
    pair.b.admin(DETACH);
    pair.b.step();
    assert!(pair.b.state().disk < DiskState::Inconsistent);
    let mut kept = Vec::new();
    rounds_without_acks(&mut pair, &mut kept, 40);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    pair.b.attach(DiskConfig::DEFAULT);
    rounds_without_acks(&mut pair, &mut kept, 40);
    let good = pair.a.state();
    assert_eq!(
        (good.conn, good.pdsk),
        (ConnState::Connected, DiskState::UpToDate)
    );
    pair.b.hold_peer_io = true;
    pair.b.admin(AdminRequest::InvalidateRemote { volume: V });
    let mut held = Vec::new();
    for _ in 0..100 {
        rounds_without_acks(&mut pair, &mut kept, 1);
        hand_to_disk(&mut pair.b, &mut held);
        answer_but_last(&mut pair.b, &mut held);
    }
    assert_eq!(pair.a.state().conn, ConnState::SyncTarget);
    pair.a.meta_in.extend(kept);
    for _ in 0..20 {
        pair.round_or_time();
    }
    for io in held.drain(..) {
        disk_answers(&mut pair.b, io);
    }
    pair.b.hold_peer_io = false;
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// It has waited for its extent until that run had ended, and the next one knows nothing of the
/// extent: a write to the block gets to the peer first.
#[test]
fn what_is_read_for_a_run_that_has_ended_is_not_sent_in_the_next_one() {
    let mut pair = Pair::synced();
    pair.write_while_away(&[(800, 0x21)]);
    pair.rounds_until("source", |pair| {
        pair.a.state().conn == ConnState::SyncSource
    });
    let mut kept = Vec::new();
    // In the way of the read.
    pair.a.write(6000, 4096, 0x71);
    rounds_without_acks(&mut pair, &mut kept, 40);
    assert_eq!(pair.b.state().conn, ConnState::SyncTarget);
    pair.a.hold_peer_io = true;
    pair.b.admin(DETACH);
    rounds_without_acks(&mut pair, &mut kept, 40);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    pair.a.meta_in.extend(kept);
    pair.run();
    let mut held = Vec::new();
    hand_to_disk(&mut pair.a, &mut held);
    assert!(held.len() == 1 && held[0].sector == 800);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    let conns = [pair.a.state(), pair.b.state()].map(|state| state.conn);
    assert_eq!(conns, [ConnState::SyncSource, ConnState::SyncTarget]);
    pair.a.write(800, 4096, 0x22);
    pair.run();
    pair.a.sent.clear();
    for io in held {
        disk_answers(&mut pair.a, io);
    }
    pair.run();
    assert!(!pair.a.sent.contains(&Command::RsDataReply.to_wire()));
    pair.a.hold_peer_io = false;
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// The state that tells of it comes before the source has ended the resync.
#[test]
fn a_source_hears_that_its_target_pauses_at_the_end_of_the_resync() {
    let mut pair = Pair::ended_at_the_target();
    let volume = V;
    pair.a.admin(AdminRequest::PauseSync { volume });
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.state().user_isp);
    assert!(pair.b.state().peer_isp);
    assert_ne!(pair.command(true, AdminRequest::ResumeSync { volume }), 0);
    pair.run();
    assert!(!pair.b.state().peer_isp);
}

/// `b`, which may be Primary, is the target of a resync of all, and its disk holds the write of the
/// last blocks back. The source's disk goes.
fn target_with_a_slow_disk(primary: bool) -> (Pair, Held) {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    if primary {
        assert_eq!(pair.role(false, Role::Primary, false), 1);
    }
    pair.run();
    pair.b.admin(AdminRequest::Invalidate { volume: V });
    pair.rounds_until("target", |pair| {
        pair.b.hold_peer_io = pair.b.state().conn == ConnState::SyncTarget;
        pair.b.hold_peer_io
    });
    let mut held = Vec::new();
    while held.is_empty() {
        pair.round_or_time();
        hand_to_disk(&mut pair.b, &mut held);
        answer_but_last(&mut pair.b, &mut held);
    }
    pair.a.admin(DETACH);
    pair.run();
    assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
    (pair, held.remove(0))
}

/// No extent keeps an application off the block any more, and the disk may write the data of the
/// resync last.
#[test]
fn a_write_waits_for_data_of_a_resync_that_has_ended() {
    let (mut pair, late) = target_with_a_slow_disk(true);
    pair.a.attach(DiskConfig::DEFAULT);
    // It asks for nothing yet.
    pair.rounds_until("target", |pair| {
        let conn = pair.b.state().conn;
        if matches!(conn, ConnState::WfSyncUuid) {
            pair.b.sends_left = Some(0);
        }
        conn == ConnState::SyncTarget
    });
    pair.b.write(LAST, 4096, 0x33);
    pair.b.sent.clear();
    for _ in 0..10 {
        if !pair.b.sent.contains(&Command::Data.to_wire()) {
            pair.b.sends_left = Some(1);
        }
        while pair.round() {}
        pair.b.sends_left = Some(0);
    }
    disk_answers(&mut pair.b, late);
    pair.b.hold_peer_io = false;
    pair.b.sends_left = None;
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.b.ended, [Ok(())]);
    assert_eq!(pair.b.disk.data[LAST as usize * 512], 0x33);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// It is about a resync from here. The disk is replaced, and the next one is a resync from the
/// peer, whose data were called good by force, and which has written to the block since.
#[test]
fn a_late_ack_of_resync_data_does_not_count_for_a_resync_from_the_peer() {
    let (mut pair, late) = target_with_a_slow_disk(false);
    let mut kept = Vec::new();
    let mut without_acks = |pair: &mut Pair, rounds: usize| {
        for _ in 0..rounds {
            pair.round();
            kept.extend(pair.a.meta_in.drain(..));
        }
        std::mem::take(&mut kept)
    };
    disk_answers(&mut pair.b, late);
    let mut acks = without_acks(&mut pair, 5);
    pair.b.hold_peer_io = false;
    pair.b.admin(AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: true,
    });
    acks.extend(without_acks(&mut pair, 20));
    assert_eq!(pair.b.state().disk, DiskState::UpToDate);
    pair.b.write(LAST, 4096, 0x33);
    acks.extend(without_acks(&mut pair, 20));
    // It is replaced.
    pair.a.edit_superblock(|it| {
        it.uuids = UuidSet {
            current: Uuid(4),
            bitmap: Uuid(0),
            history: [Uuid(0); 2],
        };
        it.flags = it.flags.with(MdFlags::CONSISTENT, false);
    });
    pair.a.attach(DiskConfig::DEFAULT);
    for _ in 0..100 {
        if pair.a.state().conn != ConnState::SyncTarget {
            acks.extend(without_acks(&mut pair, 1));
        }
    }
    assert_eq!(pair.a.state().conn, ConnState::SyncTarget);
    pair.a.meta_in.extend(acks);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// The peer has not heard of it, and no bitmaps are exchanged before the new space is synced.
#[test]
fn what_only_the_source_marks_does_not_keep_new_space_from_being_synced() {
    let mut pair = Pair::synced_in_front(4096);
    pair.choose_verify();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.run();
    pair.a.disk.data[0] ^= 1;
    pair.a.admin(AdminRequest::Verify {
        volume: V,
        start: Some(0),
        stop: u64::MAX,
    });
    while pair.a.state().conn != ConnState::VerifyS {
        pair.round();
    }
    while !pair.a.core.bit_is_set(V, 0) {
        pair.round_or_time();
        pair.b.meta_in.clear();
    }
    pair.break_now();
    pair.until("back", Pair::in_sync);
    let marked = [&pair.a, &pair.b].map(|node| node.core.bit_is_set(V, 0));
    assert_eq!(marked, [true, false]);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    assert_eq!(pair.command(true, grow(false)), 101);
    pair.until("in sync", Pair::in_sync);
}
