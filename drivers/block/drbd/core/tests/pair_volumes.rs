//! Volumes that are taken away and made anew while the nodes are connected.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::AdminRequest;
use drbd_core::link::{VolumeIndex, VolumeNumber};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, DiskState, Fencing, Role};
use pair::both::{said, Pair, SECTORS};
use pair::node::V;

const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};
const DEL: AdminRequest = AdminRequest::DelVolume { volume: V };
const NEW: AdminRequest = AdminRequest::NewVolume {
    volume: V,
    number: VolumeNumber(0),
};

/// Lets both nodes work. What `a` says takes its time.
fn hold_answers(pair: &mut Pair, held: &mut Vec<u8>) {
    for _ in 0..40 {
        pair.round();
        held.extend(pair.b.data_in.drain(..));
    }
}

/// The node that has the volume already does not tell its generations: the handshake is about a
/// volume without a disk. The old data counted as good.
#[test]
fn a_disk_that_is_attached_before_its_new_volume_is_connected_is_compared() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    assert_eq!(pair.command(false, DEL), 101);
    pair.a.write(80, 4096, 0x71);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    let mut held = Vec::new();
    pair.b.admin(NEW);
    hold_answers(&mut pair, &mut held);
    pair.b.attach(DiskConfig::DEFAULT);
    hold_answers(&mut pair, &mut held);
    assert_eq!(pair.b.answers.last().unwrap().1, 101);
    pair.b.data_in.extend(held);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    let text = "has not been compared with ours";
    assert!(said(&pair.b.log, text), "{:#?}", pair.b.log);
    pair.pass(Duration::from_secs(2));
    assert!(pair.in_sync());
}

/// The one that was made anew waited for a handshake in which the peer took no part.
#[test]
fn a_volume_stays_if_the_peer_does_not_let_it_go() {
    let mut pair = Pair::synced();
    let config = DiskConfig {
        fencing: Fencing::ResourceOnly,
        ..DiskConfig::DEFAULT
    };
    let volume = V;
    let request = AdminRequest::DiskOptions { volume, config };
    assert_eq!(pair.command(true, request), 101);
    assert_eq!(pair.command(false, DETACH), 1);
    // A Primary that is not to be without a peer that is not fenced.
    assert_eq!(pair.command(false, DEL), -10);
    assert_eq!(pair.b.state().conn, ConnState::Connected);
    assert_eq!(pair.command(false, NEW), 162);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("in sync", Pair::in_sync);
}

#[test]
fn a_volume_goes_with_the_link_that_breaks_before_the_peer_answers() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    let answers = pair.b.answers.len();
    pair.b.admin(DEL);
    pair.b.step();
    assert_eq!(pair.b.answers.len(), answers);
    pair.break_now();
    pair.until("an answer", |pair| pair.b.answers.len() > answers);
    assert_eq!(pair.b.answers[answers].1, 101);
}

/// A node without a disk has nothing to compare; the data are those of the peer.
#[test]
fn a_volume_that_is_made_anew_uses_the_peer_and_is_mirrored_when_it_has_its_disk() {
    for attaches in [false, true] {
        let mut pair = Pair::synced();
        assert_eq!(pair.role(true, Role::Secondary, false), 1);
        assert_eq!(pair.command(false, DETACH), 1);
        assert_eq!(pair.command(false, DEL), 101);
        assert_eq!(pair.command(false, NEW), 101);
        pair.pass(Duration::from_secs(1));
        if attaches {
            pair.b.attach(DiskConfig::DEFAULT);
            pair.until("in sync", Pair::in_sync);
        }
        assert_eq!(pair.role(false, Role::Primary, false), 1);
        if !attaches {
            continue;
        }
        pair.b.write(80, 4096, 0x71);
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.b.ended, [Ok(())]);
        assert_eq!(pair.a.disk.data[80 * 512], 0x71);
    }
}

/// `a` has a volume that `b` does not have yet, and the link has been lost and is there again.
fn with_a_volume_of_a_alone() -> Pair {
    let mut pair = Pair::synced();
    let (volume, number) = (VolumeIndex(1), VolumeNumber(1));
    let new = AdminRequest::NewVolume { volume, number };
    assert_eq!(pair.command(true, new), 101);
    pair.write_while_away(&[(80, 0x71)]);
    pair.until("in sync", |pair| pair.volume_in_sync(V));
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.state_of(volume).conn, ConnState::WfReportParams);
    pair
}

/// The resync of the other volume did not begin, and commands about it waited for good.
#[test]
fn a_volume_that_the_peer_does_not_have_holds_up_no_other() {
    let mut pair = with_a_volume_of_a_alone();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    assert_eq!(pair.role(false, Role::Secondary, false), 1);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    let request = AdminRequest::Invalidate { volume: V };
    assert_eq!(pair.command(false, request), 1);
    pair.until("in sync", |pair| pair.volume_in_sync(V));
    assert_eq!(pair.command(true, DETACH), 1);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("in sync", |pair| pair.volume_in_sync(V));
}

/// It waited on one node, and was refused on the other one.
#[test]
fn a_volume_that_the_peer_does_not_have_keeps_nobody_from_leaving() {
    for on_a in [true, false] {
        let mut pair = with_a_volume_of_a_alone();
        let leave = AdminRequest::Disconnect { force: false };
        assert_eq!(pair.command(on_a, leave), 101);
        assert_eq!(pair.node(on_a).state().conn, ConnState::StandAlone);
        assert_eq!(pair.node(on_a).state().disk, DiskState::UpToDate);
    }
}

/// All volumes had to be connected for that.
#[test]
fn a_volume_that_the_peer_does_not_have_keeps_no_io_frozen() {
    let mut pair = with_a_volume_of_a_alone();
    let config = DiskConfig {
        fencing: Fencing::ResourceAndStonith,
        ..DiskConfig::DEFAULT
    };
    let volume = V;
    let request = AdminRequest::DiskOptions { volume, config };
    assert_eq!(pair.command(true, request), 101);
    pair.a.hold_helpers = true;
    pair.write_while_away(&[(160, 0x72)]);
    assert!(pair.a.state().suspended());
    pair.until("thawed", |pair| !pair.a.state().suspended());
    pair.until("in sync", |pair| pair.volume_in_sync(V));
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.disk.data[160 * 512], 0x72);
}

/// Each node asks about another volume at the same time (`reference/states.md` 3.6: one mutex for
/// each).
#[test]
fn questions_about_two_volumes_do_not_get_in_each_others_way() {
    let mut pair = Pair::synced_with_two_volumes();
    let second = VolumeIndex(1);
    for on_a in [true, false] {
        let answers = [pair.a.answers.len(), pair.b.answers.len()];
        let detach = |volume| AdminRequest::Detach {
            volume,
            force: false,
        };
        pair.node(on_a).admin(detach(V));
        pair.node(!on_a).admin(detach(second));
        pair.run();
        assert_eq!(
            pair.a.answers[answers[0]..]
                .iter()
                .map(|a| a.1)
                .collect::<Vec<_>>(),
            [1]
        );
        assert_eq!(
            pair.b.answers[answers[1]..]
                .iter()
                .map(|a| a.1)
                .collect::<Vec<_>>(),
            [1]
        );
        pair.node(on_a).attach_volume(V, DiskConfig::DEFAULT);
        pair.node(!on_a).attach_volume(second, DiskConfig::DEFAULT);
        pair.until("in sync", Pair::in_sync);
    }
}

/// What the peer asks for waits for the writes in the same extent. That of the other volume waited
/// behind it.
#[test]
fn a_disk_that_hangs_with_a_write_holds_up_the_resync_of_its_own_volume_only() {
    let mut pair = Pair::with_volumes(2, SECTORS);
    let second = VolumeIndex(1);
    for volume in [V, second] {
        pair.a.attach_volume(volume, DiskConfig::DEFAULT);
        pair.b.attach_volume(volume, DiskConfig::DEFAULT);
        pair.run();
    }
    pair.connect(NetConfig::DEFAULT);
    pair.a.hold_peer_io = true;
    for volume in [V, second] {
        pair.promote(volume);
    }
    pair.until("sources", |pair| {
        let is_source = |volume| pair.a.state_of(volume).is_sync_source();
        [V, second].map(is_source) == [true; 2]
    });
    pair.a.volume(V).hold_local = true;
    pair.a.write(80, 4096, 0x71);
    pair.run();
    pair.a.hold_peer_io = false;
    pair.until("in sync", |pair| pair.volume_in_sync(second));
    assert!(pair.a.state().is_sync_source(), "its disk hangs");
    let disks = [&mut pair.a, &mut pair.b].map(|node| node.volume(second).disk.data.clone());
    assert!(disks[0] == disks[1]);
}

/// As [`with_a_volume_of_a_alone`], which has a disk and is in use.
fn with_a_primary_volume_of_a_alone() -> (Pair, VolumeIndex) {
    let mut pair = Pair::with_volumes(2, SECTORS);
    let lone = VolumeIndex(1);
    pair.attach();
    pair.a.attach_volume(lone, DiskConfig::DEFAULT);
    pair.run();
    let request = AdminRequest::DelVolume { volume: lone };
    assert_eq!(pair.command(false, request), 101);
    pair.connect(NetConfig::DEFAULT);
    pair.pass(Duration::from_secs(5));
    for volume in [V, lone] {
        let (role, force) = (Role::Primary, true);
        let request = AdminRequest::SetRole {
            volume,
            role,
            force,
        };
        pair.a.admin(request);
        pair.pass(Duration::from_secs(5));
        assert_eq!(pair.a.answers.last().unwrap().1, 1, "{volume:?}");
    }
    pair.until("in sync", |pair| pair.volume_in_sync(V));
    assert_eq!(pair.a.state_of(lone).conn, ConnState::WfReportParams);
    (pair, lone)
}

/// The command, which the node answers in time.
fn answered(pair: &mut Pair, request: AdminRequest) -> i32 {
    let answers = pair.a.answers.len();
    pair.a.admin(request);
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.a.answers.len(), answers + 1, "{request:?}");
    pair.a.answers[answers].1
}

/// A write to the volumes, of which the peer does not hear, then I/O is suspended, and the link
/// lost.
fn suspend_with_writes(pair: &mut Pair, volumes: &[VolumeIndex], byte: u8) {
    pair.cut = true;
    for &volume in volumes {
        assert!(pair.a.request_on(volume, Op::Write, 80, 4096, byte));
    }
    pair.run();
    let answers = pair.a.answers.len();
    pair.a.admin(AdminRequest::SuspendIo { volume: V });
    pair.until("both notice", |pair| {
        let states = [pair.a.state(), pair.b.state()];
        states.iter().all(|state| state.conn < ConnState::Connected)
    });
    pair.until("suspended", |pair| pair.a.answers.len() > answers);
    assert_eq!(pair.a.answers[answers].1, 1);
}

/// It waited for the peer to tell of it: for as long as the connection lasted.
#[test]
fn a_volume_in_use_that_the_peer_does_not_have_keeps_no_io_suspended() {
    let (mut pair, lone) = with_a_primary_volume_of_a_alone();
    for (volume, byte) in [(V, 0x71), (lone, 0x72)] {
        suspend_with_writes(&mut pair, &[V, lone], byte);
        pair.cut = false;
        pair.until("connected", |pair| {
            pair.a.state().conn >= ConnState::Connected
        });
        let resume = AdminRequest::ResumeIo { volume };
        assert_eq!(answered(&mut pair, resume), 1);
        assert!(!pair.a.state().suspended());
        pair.until("in sync", |pair| pair.volume_in_sync(V));
        assert!(pair.a.ended.iter().all(Result::is_ok));
        assert_eq!(pair.a.disk.data[80 * 512], byte);
        assert!(pair.a.disk.data == pair.b.disk.data);
        assert_eq!(pair.a.state_of(lone).conn, ConnState::WfReportParams);
    }
}

/// The peer has taken the volume away meanwhile: what was kept for it ends, in a generation of its
/// own, and that of the other volume is sent again, without one.
#[test]
fn what_is_kept_for_a_volume_that_the_peer_has_no_more_ends_with_a_generation() {
    for asked in [false, true] {
        let (mut pair, lone) = with_a_primary_volume_of_a_alone();
        let (volume, number) = (lone, VolumeNumber(1));
        let new = AdminRequest::NewVolume { volume, number };
        assert_eq!(pair.command(false, new), 101);
        pair.b.attach_volume(lone, DiskConfig::DEFAULT);
        pair.until("in sync", Pair::in_sync);
        pair.until("in sync", |pair| pair.volume_in_sync(lone));
        suspend_with_writes(&mut pair, &[V, lone], 0x73);
        let detach = AdminRequest::Detach {
            volume,
            force: false,
        };
        assert_eq!(pair.command(false, detach), 1);
        let request = AdminRequest::DelVolume { volume };
        assert_eq!(pair.command(false, request), 101);
        let before = pair.a.log.len();
        pair.cut = false;
        pair.until("connected", |pair| {
            pair.a.state().conn >= ConnState::Connected
        });
        if !asked {
            pair.pass(Duration::from_secs(5));
        }
        let resume = AdminRequest::ResumeIo { volume: V };
        assert_eq!(answered(&mut pair, resume), 1);
        let begun = |line: &&String| line.contains("new current UUID");
        assert_eq!(pair.a.log[before..].iter().filter(begun).count(), 1);
        assert!(pair.a.ended.iter().all(Result::is_ok));
        pair.until("in sync", |pair| pair.volume_in_sync(V));
        assert!(pair.a.disk.data == pair.b.disk.data);
        assert_eq!(pair.command(false, new), 101);
        pair.b.attach_volume(lone, DiskConfig::DEFAULT);
        pair.until("in sync", |pair| {
            pair.volume_in_sync(V) && pair.volume_in_sync(lone)
        });
        let disks = [&mut pair.a, &mut pair.b].map(|node| node.volume(lone).disk.data.clone());
        assert!(disks[0] == disks[1]);
        assert_eq!(disks[0][80 * 512], 0x73);
    }
}

/// A command about it was answered at the end of the connection only.
#[test]
fn a_volume_that_the_peer_does_not_have_takes_commands() {
    let (mut pair, lone) = with_a_primary_volume_of_a_alone();
    pair.write_while_away(&[(80, 0x71)]);
    pair.until("in sync", |pair| pair.volume_in_sync(V));
    for role in [Role::Secondary, Role::Primary, Role::Secondary] {
        let request = AdminRequest::SetRole {
            volume: lone,
            role,
            force: false,
        };
        assert_eq!(answered(&mut pair, request), 1);
    }
    let (volume, force) = (lone, false);
    assert_eq!(
        answered(&mut pair, AdminRequest::Detach { volume, force }),
        1
    );
    pair.a.attach_volume(lone, DiskConfig::DEFAULT);
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.a.state_of(lone).disk, DiskState::UpToDate);
    assert!(pair.volume_in_sync(V));
    // It is made after all.
    let number = VolumeNumber(1);
    let new = AdminRequest::NewVolume { volume, number };
    assert_eq!(pair.command(false, new), 101);
    pair.b.attach_volume(lone, DiskConfig::DEFAULT);
    pair.until("in sync", |pair| {
        pair.volume_in_sync(V) && pair.volume_in_sync(lone)
    });
    assert!(said(
        &pair.a.log,
        "tells of the volume late; connecting anew"
    ));
}
