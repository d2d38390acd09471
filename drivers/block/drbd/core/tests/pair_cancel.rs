//! Commands that are refused, given up or replaced leave nothing behind that waits for good.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::action::Ticket;
use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{ConnState, DiskState, Role};
use pair::both::{said, shape, Pair, SECTORS};
use pair::node::{Node, V};

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };
const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};
const VERIFY: AdminRequest = AdminRequest::Verify {
    volume: V,
    start: Some(0),
    stop: u64::MAX,
};

/// Begins a command and takes it as far as it goes without the peer.
fn begin(node: &mut Node, request: AdminRequest) -> Ticket {
    let ticket = Ticket(0x5000 + node.answers.len() as u32);
    node.core.handle(&Input::Admin(&request, ticket), node.now);
    while node.step() {}
    ticket
}

fn give_up(node: &mut Node, ticket: Ticket) {
    let before = node.answers.len();
    node.core.handle(&Input::Cancel(ticket), node.now);
    while node.step() {}
    assert_eq!(node.answers.get(before), Some(&(ticket, 129)));
}

#[test]
fn an_attach_that_is_refused_because_another_command_runs_gives_its_disk_back() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    begin(&mut pair.b, DISCONNECT);
    pair.b.attach(DiskConfig::DEFAULT);
    while pair.b.step() {}
    assert_eq!(pair.b.answers.last().unwrap().1, -18);
    assert!(pair.b.core.is_disk_gone(V));
    pair.until("alone", |pair| pair.b.state().conn == ConnState::StandAlone);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("attached", |pair| {
        pair.b.state().disk > DiskState::Negotiating
    });
}

#[test]
fn an_attach_that_is_given_up_gives_its_disk_back() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair.b.hold_bitmap = true;
    let config = DiskConfig {
        disk_size_sectors: 4096,
        ..DiskConfig::DEFAULT
    };
    pair.b.disk.superblock = None;
    pair.b.core = Node::new(7, 8, 0).core;
    let number = drbd_core::link::VolumeNumber(0);
    begin(&mut pair.b, AdminRequest::NewVolume { volume: V, number });
    pair.b.attach(config);
    while pair.b.step() {}
    assert_eq!(pair.b.state().disk, DiskState::Attaching);
    assert!(!pair.b.held_bitmaps.is_empty());
    let ticket = Ticket(1000 + pair.b.answers.len() as u32);
    give_up(&mut pair.b, ticket);
    pair.b.hold_bitmap = false;
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    assert!(pair.b.core.is_disk_gone(V));
    assert!(!pair.b.core.view(V).io_blocked);
    pair.b.attach(config);
    while pair.b.step() {}
    assert_eq!(pair.b.answers.last().unwrap().1, 101);
}

/// It would stay, and be given up later with the first block that takes a while.
#[test]
fn a_forced_detach_ends_an_attach_that_is_under_way() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair.b.hold_bitmap = true;
    pair.b.disk.superblock = None;
    pair.b.core = Node::new(7, 8, 0).core;
    let number = drbd_core::link::VolumeNumber(0);
    begin(&mut pair.b, AdminRequest::NewVolume { volume: V, number });
    pair.b.attach(DiskConfig::DEFAULT);
    while pair.b.step() {}
    assert_eq!(pair.b.state().disk, DiskState::Attaching);
    let before = pair.b.answers.len();
    let force = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    begin(&mut pair.b, force);
    let codes: Vec<i32> = pair.b.answers[before..].iter().map(|a| a.1).collect();
    assert_eq!(codes, [129, 1], "the attach; the detach");
    assert_eq!(pair.b.state().disk, DiskState::Diskless);
    assert!(pair.b.core.is_disk_gone(V));
    pair.b.hold_bitmap = false;
    pair.b.attach(DiskConfig::DEFAULT);
    while pair.b.step() {}
    assert_eq!(pair.b.answers.last().unwrap().1, 101);
    assert!(!pair.b.core.gives_up_disk(V));
}

/// `adjust` would take the options for those of a disk that is there.
#[test]
fn options_that_did_not_get_on_the_disk_are_an_error() {
    for force in [false, true] {
        let mut pair = Pair::synced();
        pair.a.hold_metadata = true;
        let before = pair.a.answers.len();
        let request = al_updates(&mut pair, true);
        begin(&mut pair.a, request);
        assert_eq!(pair.a.answers.len(), before, "the superblock is under way");
        let volume = V;
        if force {
            begin(&mut pair.a, AdminRequest::Detach { volume, force });
        } else {
            pair.a.fail_metadata = true;
            let failed = Input::MetadataWritten { volume, ok: false };
            pair.a.core.handle(&failed, pair.a.now);
            pair.run();
        }
        assert_eq!(pair.a.state().disk, DiskState::Diskless);
        let codes: Vec<i32> = pair.a.answers[before..].iter().map(|a| a.1).collect();
        assert!(codes.contains(&118), "{codes:?}");
    }
}

/// It would stay, marked as given up, and a detach would not wait for what is on its way to it.
#[test]
fn a_forced_detach_ends_an_attach_that_waits_for_io_at_the_peer() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, DETACH), 1);
    pair.b.hold_peer_io = true;
    pair.a.write(80, 4096, 0x71);
    pair.run();
    let before = pair.a.answers.len();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.answers.len(), before, "the write is with the peer");
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    let force = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    begin(&mut pair.a, force);
    let codes: Vec<i32> = pair.a.answers[before..].iter().map(|a| a.1).collect();
    assert_eq!(codes, [129, 1], "the attach; the detach");
    assert!(pair.a.core.is_disk_gone(V));
    assert!(!pair.a.core.view(V).io_blocked);
    assert!(!pair.a.core.gives_up_disk(V));
    pair.b.hold_peer_io = false;
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
    begin(&mut pair.a, force);
    assert!(!pair.a.core.gives_up_disk(V), "the disk has gone");
    begin(&mut pair.a, force);
    assert!(!pair.a.core.gives_up_disk(V), "there was none");
}

/// It would be behind the end of the disk, and fail.
#[test]
fn no_superblock_is_written_behind_the_end_of_the_disk() {
    let mut pair = Pair::synced();
    let before = pair.a.told.len();
    let force = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    assert_eq!(pair.command(true, force), 1);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    let told = &pair.a.told[before..];
    let closed = told.iter().position(|told| told.contains("CloseDisk"));
    let behind = &told[closed.expect("it is closed")..];
    assert!(!said(behind, "WriteMetadata"), "{behind:#?}");
}

#[test]
fn an_invalidate_that_is_given_up_lets_io_go_on() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DISCONNECT), 101);
    pair.b.hold_bitmap = true;
    let ticket = begin(&mut pair.b, AdminRequest::Invalidate { volume: V });
    assert!(pair.b.core.view(V).io_blocked);
    give_up(&mut pair.b, ticket);
    assert!(!pair.b.core.view(V).io_blocked);
    pair.b.hold_bitmap = false;
    while !pair.b.held_bitmaps.is_empty() {
        pair.b.write_held_bitmap();
    }
    pair.run();
    assert_eq!(
        pair.command(false, AdminRequest::Outdate { volume: V }),
        -16
    );
}

/// Nobody knows of it who would resume I/O.
#[test]
fn a_suspension_that_is_given_up_lets_io_go_on() {
    for link_lost in [false, true] {
        let mut pair = Pair::synced();
        pair.a.hold_local = true;
        pair.a.write(80, 4096, 1);
        pair.run();
        let ticket = begin(&mut pair.a, AdminRequest::SuspendIo { volume: V });
        assert!(pair.a.state().suspended());
        let before = pair.a.log.len();
        pair.cut = link_lost;
        pair.until("known", |pair| {
            !link_lost || pair.a.state().conn < ConnState::Connected
        });
        give_up(&mut pair.a, ticket);
        assert!(!pair.a.state().suspended());
        let owed = said(&pair.a.log[before..], "new current UUID");
        assert_eq!(owed, link_lost, "the generation that was owed");
        pair.a.hold_local = false;
        pair.a.write(800, 4096, 2);
        pair.run();
        assert_eq!(
            pair.a.ended,
            [Ok(())],
            "the other one is still with the disk"
        );
    }
}

/// It may never answer.
#[test]
fn a_suspension_does_not_wait_for_a_disk_that_is_given_up_by_force() {
    let mut pair = Pair::synced();
    pair.a.hold_local = true;
    pair.a.write(80, 4096, 1);
    pair.run();
    let ticket = begin(&mut pair.a, AdminRequest::SuspendIo { volume: V });
    let force = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    assert_eq!(pair.a.core.answer_to(ticket), None);
    let now = pair.a.now;
    pair.a.core.handle(&Input::Admin(&force, Ticket(1)), now);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(pair.a.core.answer_to(ticket), Some(1));
}

#[test]
fn a_suspension_that_was_there_before_stays_when_another_one_is_given_up() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.write(80, 4096, 9);
    pair.run();
    let suspend = AdminRequest::SuspendIo { volume: V };
    assert_eq!(pair.command(true, suspend), 1);
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    pair.cut = false;
    pair.b.hold_peer_io = true;
    pair.until("together", |pair| {
        pair.a.state().conn >= ConnState::Connected && pair.b.core.counters(V).unacked > 0
    });
    let ticket = begin(&mut pair.a, suspend);
    give_up(&mut pair.a, ticket);
    assert!(pair.a.state().suspended());
}

/// The shell takes nothing for undone that was done.
#[test]
fn what_has_become_of_a_command_that_is_given_up_can_be_asked() {
    let mut pair = Pair::synced();
    let node = &mut pair.a;
    let volume = drbd_core::link::VolumeIndex(1);
    let number = drbd_core::link::VolumeNumber(7);
    let (done, left) = (Ticket(70), Ticket(71));
    let create = AdminRequest::NewVolume { volume, number };
    node.core.handle(&Input::Admin(&create, done), node.now);
    node.core.handle(&Input::Cancel(done), node.now);
    assert_eq!(node.core.answer_to(done), Some(101), "it was carried out");
    assert_eq!(node.core.answer_to(left), None);
    while node.step() {}
    assert_eq!(node.core.answer_to(done), None, "the shell has it");

    node.core.handle(&Input::Admin(&DISCONNECT, left), node.now);
    assert_eq!(node.core.answer_to(left), None, "the peer is asked");
    node.core.handle(&Input::Cancel(left), node.now);
    assert_eq!(node.core.answer_to(left), Some(129));
}

#[test]
fn a_forced_disconnect_lets_the_io_go_on_that_the_replaced_command_blocked() {
    let mut pair = Pair::synced();
    pair.cut = true;
    begin(&mut pair.b, AdminRequest::Invalidate { volume: V });
    assert!(pair.b.core.view(V).io_blocked);
    let force = AdminRequest::Disconnect { force: true };
    assert_eq!(pair.command(false, force), 129, "of the replaced command");
    assert_eq!(pair.b.answers.last().unwrap().1, 101);
    assert!(!pair.b.core.view(V).io_blocked);
}

#[test]
fn a_change_that_the_peer_agrees_to_after_the_command_was_given_up_takes_effect() {
    let mut pair = Pair::synced_with_verify();
    let ticket = begin(&mut pair.a, VERIFY);
    give_up(&mut pair.a, ticket);
    assert!(!pair.a.core.view(V).io_blocked);
    pair.until("verified", |pair| {
        pair.a
            .log
            .iter()
            .any(|line| line.contains("Online verify done"))
    });
    pair.until("both at rest", Pair::in_sync);
    assert_eq!(pair.command(true, VERIFY), 1);
    pair.until("both at rest", Pair::in_sync);
}

#[test]
fn a_promotion_that_is_given_up_leaves_both_nodes_of_one_opinion() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    let promote = AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: false,
    };
    let ticket = begin(&mut pair.a, promote);
    give_up(&mut pair.a, ticket);
    pair.run();
    let both = "cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate r-----";
    assert_eq!(shape(&mut pair.a), both);
    assert_eq!(shape(&mut pair.b), both);
    pair.a.hold_metadata = true;
    let ticket = begin(&mut pair.a, promote);
    pair.run();
    assert_eq!(pair.a.state().role, Role::Primary);
    give_up(&mut pair.a, ticket);
    assert!(pair.a.read_only, "no application may write yet");
    pair.a.release_metadata();
    pair.run();
    assert!(!pair.a.read_only);
}

#[test]
fn a_generation_with_a_cleared_bitmap_waits_for_a_write_that_began_before() {
    let mut pair = Pair::new();
    pair.attach();
    pair.a.hold_bitmap = true;
    pair.connect(NetConfig::DEFAULT);
    assert_eq!(pair.command(true, DISCONNECT), 101);
    assert_eq!(pair.a.held_bitmaps.len(), 1, "the connection has ended");
    let answers = pair.a.answers.len();
    let request = AdminRequest::NewCurrentUuid {
        volume: V,
        clear_bitmap: true,
    };
    begin(&mut pair.a, request);
    pair.a.write_held_bitmap();
    while pair.a.step() {}
    assert_eq!(pair.a.answers.len(), answers, "nothing is cleared on disk");
    while !pair.a.held_bitmaps.is_empty() {
        pair.a.write_held_bitmap();
        while pair.a.step() {}
    }
    assert_eq!(pair.a.answers.last().unwrap().1, 101);
    assert!(pair.a.disk.bitmap.values().flatten().all(|&byte| byte == 0));
}

fn al_updates(pair: &mut Pair, al_updates: bool) -> AdminRequest {
    let config = DiskConfig {
        al_updates,
        ..pair.a.core.view(V).disk
    };
    AdminRequest::DiskOptions { volume: V, config }
}

#[test]
fn the_activity_log_is_off_only_while_the_superblock_says_so() {
    let mut pair = Pair::synced();
    let off = |node: &Node| {
        let last = node.superblocks.last().unwrap();
        last.flags.contains(MdFlags::AL_DISABLED)
    };
    pair.a.hold_metadata = true;
    let request = al_updates(&mut pair, false);
    begin(&mut pair.a, request);
    assert!(pair.a.core.view(V).al_updates, "the flag is not stable yet");
    pair.a.release_metadata();
    pair.run();
    assert!(off(&pair.a) && !pair.a.core.view(V).al_updates);
    let writes = pair.a.core.counters(V).al_writes;
    let request = al_updates(&mut pair, true);
    pair.a.hold_log = true;
    begin(&mut pair.a, request);
    assert!(off(&pair.a) && pair.a.core.view(V).al_updates);
    pair.a.hold_log = false;
    pair.run();
    assert_eq!(pair.a.answers.last().unwrap().1, 101);
    assert!(!off(&pair.a));
    assert!(
        pair.a.core.counters(V).al_writes - writes >= 8,
        "whole ring"
    );
}

#[test]
fn a_device_does_not_grow_beyond_the_memory_for_its_bitmap() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, DISCONNECT), 101);
    let request = AdminRequest::Resize {
        volume: V,
        size_sectors: 0,
        force: true,
        assume_clean: false,
        max_capacity_sectors: 4 * SECTORS,
    };
    assert_eq!(pair.command(true, request), 140);
    assert_eq!(pair.a.capacity, SECTORS);
    assert_eq!(pair.a.core.view(V).capacity.0, SECTORS);
}

#[test]
fn a_promotion_begins_with_a_ping() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert!(pair.b.meta_out.is_empty());
    let promote = AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: false,
    };
    begin(&mut pair.b, promote);
    let sent: Vec<u8> = pair.b.meta_out.iter().copied().collect();
    let found = |from: &[u8]| from[..2] == [0x86, 0x20] && from[6..] == [0, 0x13];
    assert!(sent.windows(8).any(found), "{sent:x?}");
}

/// Seeds 652660 and 605055: the peer, which had agreed to the detach and lost its own disk, did not
/// count on the disk of a node that kept it for that reason.
#[test]
fn a_change_that_can_not_be_made_after_the_peer_agreed_makes_the_nodes_compare_anew() {
    for loses_first in [false, true] {
        let mut pair = Pair::synced();
        pair.a.admin(DETACH);
        while pair.a.step() {}
        pair.b.data_in.append(&mut pair.a.data_out);
        while pair.b.step() {}
        assert_eq!(pair.b.state().pdsk, DiskState::Failed);
        let mut agreed = core::mem::take(&mut pair.b.meta_out);
        if loses_first {
            let (volume, force) = (V, true);
            pair.b.admin(AdminRequest::Detach { volume, force });
            while pair.b.step() {}
            pair.a.data_in.append(&mut pair.b.data_out);
            while pair.a.step() {}
        }
        pair.a.meta_in.append(&mut agreed);
        let known = if loses_first {
            [DiskState::Diskless, DiskState::UpToDate]
        } else {
            [DiskState::UpToDate, DiskState::Diskless]
        };
        pair.until("known", |pair| {
            let states = [pair.a.state(), pair.b.state()];
            let connected = states
                .iter()
                .all(|state| state.conn == ConnState::Connected);
            connected && states.map(|state| state.pdsk) == known
        });
        let code = pair.a.answers.last().unwrap().1;
        assert_eq!(code, if loses_first { -2 } else { 1 });
    }
}

/// Seeds 869484 and 891155: a node that had agreed to be the source was invalidated itself, before
/// the answer got to the other one. Neither disk will do for a resync, and as with the C driver a
/// forced promotion says which one is good.
#[test]
fn disks_that_are_both_given_up_at_once_are_of_use_again_by_a_forced_promotion() {
    for on_a in [true, false] {
        let mut pair = Pair::synced();
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        pair.run();
        let invalidate = AdminRequest::Invalidate { volume: V };
        begin(&mut pair.b, invalidate);
        pair.a.data_in.append(&mut pair.b.data_out);
        while pair.a.step() {}
        assert!(pair.a.state().is_sync_source(), "it agreed");
        let mut agreed = core::mem::take(&mut pair.a.meta_out);
        begin(&mut pair.a, AdminRequest::Disconnect { force: true });
        begin(&mut pair.a, invalidate);
        assert_eq!(pair.a.answers.last().unwrap().1, 1);
        pair.b.meta_in.append(&mut agreed);
        while pair.b.step() {}
        assert_eq!(pair.b.answers.last().unwrap().1, 1);
        pair.run();
        let disks = |pair: &mut Pair| [pair.a.state().disk, pair.b.state().disk];
        assert_eq!(disks(&mut pair), [DiskState::Inconsistent; 2]);

        let connect = AdminRequest::Connect {
            config: NetConfig::DEFAULT,
            digests: DigestLengths::default(),
        };
        begin(&mut pair.a, connect);
        pair.until("refused", |pair| {
            pair.a.state().conn == ConnState::StandAlone
        });
        assert!(said(&pair.a.log, "but I am inconsistent"));
        assert_eq!(pair.role(on_a, Role::Primary, false), -2);
        assert_eq!(pair.role(on_a, Role::Primary, true), 1);
        begin(&mut pair.a, connect);
        pair.until("in sync", Pair::in_sync);
        assert_eq!(pair.node(on_a).state().role, Role::Primary);
        let resynced = pair.node(on_a).core.counters(V).sent_sectors;
        assert!(resynced >= SECTORS, "all of it from the good one");
    }
}

/// The question of the node that decides was refused and its command given up. The other one, which
/// leaves now, hears that there is such a question before its own answer has arrived over there.
#[test]
fn whoever_leaves_does_not_wait_for_a_question_that_has_been_answered() {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        fencing: drbd_format::types::Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    };
    let volume = V;
    let request = AdminRequest::DiskOptions { volume, config };
    assert_eq!(pair.command(true, request), 101);
    pair.run();
    let ticket = begin(&mut pair.b, DISCONNECT);
    give_up(&mut pair.b, ticket);
    pair.a.data_in.append(&mut pair.b.data_out);
    while pair.a.step() {}
    let answer = std::mem::take(&mut pair.a.meta_out);
    assert!(!answer.is_empty());
    let before = pair.a.answers.len();
    pair.a.admin(DISCONNECT);
    while pair.a.step() {}
    pair.b.data_in.append(&mut pair.a.data_out);
    while pair.b.step() {}
    pair.a.meta_in.append(&mut pair.b.meta_out);
    while pair.a.step() {}
    assert_eq!(pair.a.answers.len(), before);
    pair.b.meta_in.extend(answer);
    pair.until("an answer", |pair| pair.a.answers.len() > before);
    assert_eq!(pair.a.answers[before].1, 101);
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
}

/// The end of the suspension was refused while the peer had not been heard, and did not come later.
#[test]
fn a_suspension_that_is_given_up_in_a_handshake_ends_behind_it() {
    for again in [false, true] {
        let mut pair = Pair::synced();
        pair.a.hold_local = true;
        pair.a.write(80, 4096, 1);
        pair.run();
        let suspend = AdminRequest::SuspendIo { volume: V };
        let ticket = begin(&mut pair.a, suspend);
        pair.cut = true;
        pair.until("both notice", |pair| {
            let states = [pair.a.state(), pair.b.state()];
            states.iter().all(|state| state.conn < ConnState::Connected)
        });
        pair.cut = false;
        pair.rounds_until("a handshake", |pair| {
            pair.a.state().conn == ConnState::WfReportParams
        });
        give_up(&mut pair.a, ticket);
        assert!(pair.a.state().suspended(), "the peer gets what was kept");
        if again {
            begin(&mut pair.a, suspend);
        }
        pair.a.hold_local = false;
        pair.a.end_held();
        pair.pass(Duration::from_secs(5));
        assert_eq!(pair.a.state().suspended(), again);
        if again {
            assert_eq!(pair.a.answers.last().unwrap().1, 1);
            let resume = AdminRequest::ResumeIo { volume: V };
            assert_eq!(pair.command(true, resume), 1);
        }
        pair.until("in sync", Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data);
    }
}
