//! Disks that are refused, and what is made of those that are not.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::time::Duration;
use drbd_format::disk::superblock::{MdFlags, Superblock};
use drbd_format::types::{ConnState, DiskState, Fencing, Protocol, Role};
use drbd_format::units::SectorCount;
use pair::both::{said, Pair, SECTORS};
use pair::node::{Node, V};

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };
const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};

/// Attaches the disk of `a` and returns the answer.
fn attach(pair: &mut Pair, config: DiskConfig) -> i32 {
    let before = pair.a.answers.len();
    pair.a.attach(config);
    pair.until("an answer", |pair| pair.a.answers.len() > before);
    assert_eq!(pair.a.answers.len(), before + 1, "one answer");
    pair.a.answers[before].1
}

fn of_size(disk_size_sectors: u64) -> DiskConfig {
    DiskConfig {
        disk_size_sectors,
        ..DiskConfig::DEFAULT
    }
}

/// Changes the superblock of a node that is down.
fn rewrite(node: &mut Node, change: impl Fn(&mut Superblock)) {
    let block = node.disk.superblock.as_mut().unwrap();
    let mut superblock = Superblock::decode(block).unwrap();
    change(&mut superblock);
    superblock.encode(block).unwrap();
}

/// Both nodes were in sync and `a` starts anew, with nothing but its disk.
fn restarted(change: impl Fn(&mut Superblock)) -> Pair {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.cut = true;
    pair.a.crash(5);
    pair.run();
    rewrite(&mut pair.a, change);
    pair
}

#[test]
fn a_disk_smaller_than_asked_for_is_refused_before_anything_changes() {
    let mut pair = Pair::new();
    assert_eq!(attach(&mut pair, of_size(SECTORS + 1)), 111);
    let line = format!(
        "max capacity {SECTORS} smaller than disk size {}",
        SECTORS + 1
    );
    assert!(said(&pair.a.log, &line), "{:#?}", pair.a.log);
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(attach(&mut pair, of_size(SECTORS)), 101, "all of it");
    assert_eq!(pair.a.state().disk, DiskState::Inconsistent);
    assert_eq!(pair.a.capacity, SECTORS);
}

#[test]
fn a_second_disk_is_refused() {
    let mut pair = Pair::new();
    assert_eq!(attach(&mut pair, DiskConfig::DEFAULT), 101);
    let now = pair.a.state();
    let facts = pair.a.facts();
    let config = DiskConfig::DEFAULT;
    let again = AdminRequest::Attach {
        volume: V,
        config,
        facts,
    };
    assert_eq!(pair.command(true, again), 124);
    assert_eq!(pair.a.state(), now);
}

#[test]
fn a_disk_smaller_than_the_device_is_refused() {
    for (sectors, code) in [(SECTORS - 8, 111), (SECTORS, 101)] {
        let mut pair = Pair::synced();
        assert_eq!(pair.command(true, DETACH), 1);
        pair.a.disk.data.truncate(sectors as usize * 512);
        assert_eq!(attach(&mut pair, DiskConfig::DEFAULT), code);
        assert_eq!(pair.a.capacity, SECTORS);
    }
}

#[test]
fn fencing_that_stops_io_is_refused_with_protocol_a() {
    let both = [Fencing::ResourceOnly, Fencing::ResourceAndStonith];
    for fencing in both {
        for protocol in [Protocol::A, Protocol::B, Protocol::C] {
            let mut pair = Pair::new();
            pair.cut = true;
            let config = NetConfig {
                protocol,
                ..NetConfig::DEFAULT
            };
            let digests = DigestLengths::default();
            let connect = AdminRequest::Connect { config, digests };
            assert_eq!(pair.command(true, connect), 1);
            let config = DiskConfig {
                fencing,
                ..DiskConfig::DEFAULT
            };
            let refused = fencing == Fencing::ResourceAndStonith && protocol == Protocol::A;
            let code = if refused { 154 } else { 101 };
            assert_eq!(attach(&mut pair, config), code, "{fencing} {protocol:?}");
        }
    }
}

#[test]
fn a_consistent_disk_that_has_shrunk_is_refused_unless_that_size_is_asked_for() {
    let less = SECTORS - 1024;
    for (size, consistent, code) in [
        (0, true, 170),
        (less - 8, true, 101),
        (less, true, 101),
        (0, false, 101),
    ] {
        let mut pair = restarted(|superblock| {
            if !consistent {
                superblock.flags = MdFlags(superblock.flags.0 & !MdFlags::CONSISTENT.0);
            }
        });
        pair.a.disk.data.truncate(less as usize * 512);
        let what = format!("size {size} consistent {consistent}");
        assert_eq!(attach(&mut pair, of_size(size)), code, "{what}");
        let line = format!("refusing to truncate a consistent device ({less} < {SECTORS})");
        let refused = code == 170;
        assert_eq!(said(&pair.a.log, &line), refused, "{what}");
        let disk = pair.a.state().disk;
        assert_eq!(disk == DiskState::Diskless, code == 170, "{what}");
        if code == 170 {
            // A refused disk can be attached as it was.
            pair.a.disk.data.resize(SECTORS as usize * 512, 0);
            assert_eq!(attach(&mut pair, of_size(0)), 101, "{what}");
        }
    }
}

#[test]
fn the_mark_of_a_full_sync_counts_when_the_disk_comes_back() {
    for marked in [false, true] {
        let mut pair = restarted(|superblock| {
            if marked {
                superblock.flags = MdFlags(superblock.flags.0 | MdFlags::FULL_SYNC.0);
            }
        });
        assert_eq!(attach(&mut pair, DiskConfig::DEFAULT), 101);
        let all = SECTORS.div_ceil(8);
        let line = format!("({all} bits) marked out-of-sync by on disk bit-map.");
        assert_eq!(said(&pair.a.log, &line), marked, "{:#?}", pair.a.log);
        let assumed = "Assuming that all blocks are out of sync (aka FullSync)";
        assert_eq!(said(&pair.a.log, assumed), marked);
    }
}

#[test]
fn without_activity_log_a_crash_of_a_primary_marks_everything() {
    for (disabled, crashed) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut pair = restarted(|superblock| {
            let mut flags = superblock.flags.0;
            if disabled {
                flags |= MdFlags::AL_DISABLED.0;
            }
            if crashed {
                flags |= MdFlags::PRIMARY_IND.0;
            }
            superblock.flags = MdFlags(flags);
        });
        assert_eq!(attach(&mut pair, DiskConfig::DEFAULT), 101);
        let assumed = "Assuming that all blocks are out of sync (aka FullSync)";
        let all = disabled && crashed;
        assert_eq!(said(&pair.a.log, assumed), all, "{disabled} {crashed}");
    }
}

#[test]
fn a_forced_detach_does_not_take_the_place_of_a_command_that_waits() {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.cut = true;
    pair.a.admin(DISCONNECT);
    pair.run();
    let before = pair.a.answers.len();
    let force = AdminRequest::Detach {
        volume: V,
        force: true,
    };
    assert_eq!(pair.command(true, force), 1);
    assert_eq!(pair.a.answers.len(), before + 1, "the other one waits");
    pair.cut = false;
    pair.until("the other one", |pair| pair.a.answers.len() == before + 2);
    pair.pass(Duration::from_millis(100));
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
}

/// Seed 6002: the new size that the peer has just brought is being written when the connection goes
/// that was to tell what the disk is worth.
#[test]
fn a_disk_that_is_let_go_while_it_gets_a_new_size_holds_up_no_requests() {
    let mut pair = restarted(|superblock| superblock.la_size = SectorCount(SECTORS - 64));
    assert_eq!(pair.command(false, DETACH), 1);
    pair.cut = false;
    let connect = AdminRequest::Connect {
        config: NetConfig::DEFAULT,
        digests: DigestLengths::default(),
    };
    assert_eq!(pair.command(true, connect), 1);
    pair.until("connected", |pair| {
        pair.a.state().conn == ConnState::Connected
    });
    pair.a.hold_metadata = true;
    pair.a.attach(DiskConfig::DEFAULT);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    assert_eq!(pair.a.capacity, SECTORS, "the peer has brought it");
    pair.cut = true;
    pair.a.data_in.clear();
    pair.a.meta_in.clear();
    assert!(pair.a.notice_end(true));
    pair.run();
    pair.a.release_metadata();
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Diskless);
    assert_eq!(attach(&mut pair, DiskConfig::DEFAULT), 101);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.a.write(80, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
}

/// `reference/states.md` 7, 47. It was answered with -18, and the disk was closed.
#[test]
fn an_attach_that_a_handshake_overtakes_waits_for_its_end() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    pair.cut = true;
    pair.break_now();
    pair.until("alone", |pair| {
        pair.b.state().conn == ConnState::WfConnection && pair.b.state().disk == DiskState::Diskless
    });
    // It takes its time: all bits have to be set.
    pair.b
        .edit_superblock(|it| it.flags = it.flags.with(MdFlags::FULL_SYNC, true));
    pair.b.hold_metadata = true;
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.b.state().disk, DiskState::Attaching);
    pair.cut = false;
    for _ in 0..1000 {
        if pair.b.state().conn == ConnState::WfReportParams {
            break;
        }
        pair.round_or_time();
    }
    assert_eq!(pair.b.state().conn, ConnState::WfReportParams);
    let mut held: Vec<u8> = pair.b.data_in.drain(..).collect();
    let answers = pair.b.answers.len();
    pair.b.release_metadata();
    for _ in 0..40 {
        pair.round();
        held.extend(pair.b.data_in.drain(..));
    }
    assert_eq!(pair.b.state().disk, DiskState::Attaching);
    assert_eq!(pair.b.answers.len(), answers);
    pair.b.data_in.extend(held);
    pair.until("in sync", Pair::in_sync);
    assert_eq!(pair.b.answers[answers].1, 101);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// `reference/netlink.md` 2.11, step 5; disk-options does the same.
#[test]
fn values_that_no_controller_works_with_are_put_right_at_attach_and_later() {
    let config = DiskConfig {
        c_plan_ahead_tenths: 301,
        resync_rate_kib: 0,
        ..DiskConfig::DEFAULT
    };
    let mut pair = Pair::new();
    assert_eq!(attach(&mut pair, config), 101);
    let right = |pair: &mut Pair| {
        let disk = pair.a.core.view(V).disk;
        (disk.c_plan_ahead_tenths, disk.resync_rate_kib)
    };
    assert_eq!(right(&mut pair), (300, 1));
    pair.set_disk_options(true, DiskConfig::DEFAULT);
    assert_eq!(right(&mut pair), (20, 250));
    pair.set_disk_options(true, config);
    assert_eq!(right(&mut pair), (300, 1));
}
