//! What two resources do when something is wrong: settings, secrets, links, power, data.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, Name, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::link::LinkError;
use drbd_core::time::Duration;
use drbd_format::disk::superblock::MdFlags;
use drbd_format::types::{AfterSbPolicy, ConnState, DiskState, Fencing, Protocol, Role};
use pair::both::{said, shape, Pair};
use pair::node::V;

const DISCONNECT: AdminRequest = AdminRequest::Disconnect { force: false };

fn connect(config: NetConfig) -> AdminRequest {
    let digests = DigestLengths {
        hmac: 32,
        ..DigestLengths::default()
    };
    AdminRequest::Connect { config, digests }
}

fn both_with(a: NetConfig, b: NetConfig) -> Pair {
    let mut pair = Pair::new();
    pair.attach();
    assert_eq!(pair.command(true, connect(a)), 1);
    assert_eq!(pair.command(false, connect(b)), 1);
    pair.run();
    pair
}

fn secret(text: &str) -> NetConfig {
    NetConfig {
        cram_hmac_alg: Name::new(b"sha1").unwrap(),
        shared_secret: Name::new(text.as_bytes()).unwrap(),
        ..NetConfig::DEFAULT
    }
}

#[test]
fn the_right_secret_connects_and_a_wrong_one_stands_alone() {
    let mut pair = both_with(secret("pomme"), secret("pomme"));
    assert_eq!(
        pair.a.state().conn,
        ConnState::Connected,
        "{:#?}",
        pair.a.log
    );
    assert!(said(&pair.a.log, "Peer authenticated using 32 bytes HMAC"));

    let mut pair = both_with(secret("pomme"), secret("poire"));
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert_eq!(pair.b.state().conn, ConnState::StandAlone);
    assert!(said(&pair.a.log, "Authentication of peer failed"));
}

#[test]
fn a_reflected_challenge_is_refused() {
    let mut pair = Pair::new();
    pair.random = [7, 7];
    pair.attach();
    pair.connect(secret("pomme"));
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert!(
        !pair.a.sent.contains(&0x11),
        "no response is computed for the peer"
    );
}

#[test]
fn a_peer_that_skips_the_authentication_gets_nowhere() {
    let mut pair = both_with(secret("pomme"), NetConfig::DEFAULT);
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert!(pair.b.state().conn < ConnState::Connected);
    assert!(!pair.a.sent.contains(&0x0b), "no parameters are told");
}

#[test]
fn every_setting_that_must_match_is_named() {
    let base = NetConfig::DEFAULT;
    let policy = AfterSbPolicy::DiscardZeroChanges;
    let cases = [
        (
            "protocol",
            NetConfig {
                protocol: Protocol::A,
                ..base
            },
        ),
        (
            "after-sb-0pri",
            NetConfig {
                after_sb_0p: policy,
                ..base
            },
        ),
        (
            "after-sb-1pri",
            NetConfig {
                after_sb_1p: AfterSbPolicy::Consensus,
                ..base
            },
        ),
        (
            "after-sb-2pri",
            NetConfig {
                after_sb_2p: AfterSbPolicy::ViolentlyAs0p,
                ..base
            },
        ),
        (
            "allow-two-primaries",
            NetConfig {
                two_primaries: true,
                ..base
            },
        ),
        (
            "data-integrity-alg",
            NetConfig {
                integrity_alg: Name::new(b"md5").unwrap(),
                ..base
            },
        ),
    ];
    for (name, config) in cases {
        let mut pair = both_with(config, base);
        let line = format!("incompatible {name} settings");
        assert!(said(&pair.a.log, &line), "{name}: {:#?}", pair.a.log);
        assert!(said(&pair.b.log, &line), "{name}: {:#?}", pair.b.log);
        assert_eq!(pair.a.state().conn, ConnState::StandAlone, "{name}");
        assert_eq!(pair.b.state().conn, ConnState::StandAlone, "{name}");
    }
    let verify = NetConfig {
        verify_alg: Name::new(b"md5").unwrap(),
        ..base
    };
    let mut pair = both_with(verify, base);
    assert!(said(
        &pair.a.log,
        "Different verify-alg settings. me=\"md5\" peer=\"\""
    ));
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
}

#[test]
fn mirrored_discard_policies_fit_each_other() {
    let local = AfterSbPolicy::DiscardLocal;
    let a = NetConfig {
        after_sb_0p: local,
        ..NetConfig::DEFAULT
    };
    let b = NetConfig {
        after_sb_0p: local.mirrored(),
        ..NetConfig::DEFAULT
    };
    let mut pair = both_with(a, b);
    assert_eq!(pair.a.state().conn, ConnState::Connected);
}

/// Both nodes write alone; afterwards both are Secondary and connecting again.
fn diverged(config: NetConfig) -> Pair {
    let mut pair = Pair::synced();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert_eq!(pair.command(true, DISCONNECT), 101);
    assert_eq!(pair.command(false, DISCONNECT), 101);
    for (on_a, sector, byte) in [(true, 0, 0xaa), (false, 80, 0xbb)] {
        assert_eq!(pair.role(on_a, Role::Primary, false), 1);
        pair.node(on_a)
            .write(sector, if on_a { 4096 } else { 8192 }, byte);
        pair.run();
        assert_eq!(pair.role(on_a, Role::Secondary, false), 1);
    }
    assert_eq!(pair.command(true, connect(config)), 1);
    pair
}

#[test]
fn split_brain_is_refused_until_one_side_gives_up_its_changes() {
    let mut pair = diverged(NetConfig::DEFAULT);
    assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
    pair.run();
    for on_a in [true, false] {
        let node = pair.node(on_a);
        let line = "Split-Brain detected but unresolved, dropping connection!";
        assert!(said(&node.log, line), "{:#?}", node.log);
        assert!(said(&node.log, "uuid_compare()=100 by rule 90"));
        assert_eq!(node.state().conn, ConnState::StandAlone);
        assert!(node.helpers.contains(&"split-brain"));
    }
    assert_ne!(pair.a.disk.data, pair.b.disk.data);
    let discard = NetConfig {
        discard_my_data: true,
        ..NetConfig::DEFAULT
    };
    assert_eq!(pair.command(true, connect(discard)), 1);
    assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
    pair.until("healed", Pair::in_sync);
    let line = "Split-Brain detected, manually solved. Sync from peer node";
    assert!(said(&pair.a.log, line), "{:#?}", pair.a.log);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(pair.a.disk.data[80 * 512], 0xbb);
    assert_eq!(pair.a.disk.data[0], 0x11);
}

#[test]
fn a_wish_to_discard_reaches_a_peer_that_is_faster() {
    let mut pair = diverged(NetConfig::DEFAULT);
    assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
    pair.run();
    let discard = NetConfig {
        discard_my_data: true,
        ..NetConfig::DEFAULT
    };
    // Features, protocol, sync parameters, sizes: the UUIDs wait while the peer decides.
    pair.a.sends_left = Some(4);
    assert_eq!(pair.command(true, connect(discard)), 1);
    assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
    pair.run();
    let line = "Split-Brain detected, manually solved. Sync from peer node";
    assert!(said(&pair.a.log, line), "{:#?}", pair.a.log);
    pair.a.sends_left = None;
    pair.until("healed", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

/// Seeds 45, 196: the peer refused, said nothing, and the disk stayed Negotiating for ever.
#[test]
fn a_disk_whose_data_the_peer_refuses_is_given_up() {
    let mut pair = diverged(NetConfig::DEFAULT);
    assert_eq!(
        pair.command(
            true,
            AdminRequest::Detach {
                volume: V,
                force: false
            }
        ),
        1
    );
    assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
    pair.until("connected", |pair| {
        pair.a.state().conn == ConnState::Connected
    });
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("given up", |pair| {
        pair.a.state().disk == DiskState::Diskless && pair.a.answers.last().unwrap().1 == 101
    });
    let line = "Disk attach process on the peer node was aborted.";
    assert!(said(&pair.b.log, line), "{:#?}", pair.b.log);
    assert_eq!(pair.b.state().pdsk, DiskState::Diskless);
    assert_eq!(pair.a.state().conn, ConnState::Connected);
}

/// Seed 883: the bits were set, and the resync began with a peer that had no disk any more.
#[test]
fn a_full_sync_does_not_begin_when_the_targets_disk_has_gone_meanwhile() {
    let mut pair = Pair::synced();
    pair.a.hold_metadata = true;
    pair.a.admin(AdminRequest::InvalidateRemote { volume: V });
    pair.until("begun", |pair| {
        pair.a.state().conn == ConnState::StartingSyncS
    });
    let volume = V;
    pair.b.admin(AdminRequest::Detach {
        volume,
        force: true,
    });
    pair.until("diskless", |pair| {
        pair.a.state().pdsk == DiskState::Diskless
    });
    pair.a.hold_metadata = false;
    pair.a.release_metadata();
    pair.run();
    assert_eq!(
        shape(&mut pair.a),
        "cs:Connected ro:Primary/Secondary ds:UpToDate/Diskless r-----"
    );
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("synced again", Pair::in_sync);
}

#[test]
fn the_policy_for_no_primary_takes_the_node_with_more_changes() {
    let config = NetConfig {
        after_sb_0p: AfterSbPolicy::DiscardLeastChanges,
        ..NetConfig::DEFAULT
    };
    let mut pair = diverged(config);
    assert_eq!(pair.command(false, connect(config)), 1);
    pair.until("healed", Pair::in_sync);
    let line = "Split-Brain detected, 0 primaries, automatically solved. Sync from peer node";
    assert!(said(&pair.a.log, line), "{:#?}", pair.a.log);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(pair.a.disk.data[80 * 512], 0xbb);
}

#[test]
fn a_cut_link_is_noticed_and_what_was_written_meanwhile_is_synced() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.write(800, 4096, 0x77);
    pair.until("both notice", |pair| {
        pair.a.state().conn < ConnState::Connected && pair.b.state().conn < ConnState::Connected
    });
    assert!(said(&pair.a.log, "PingAck did not arrive in time."));
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.a.write(1600, 4096, 0x78);
    pair.run();
    assert_eq!(
        shape(&mut pair.a),
        "cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown r-----"
    );
    pair.cut = false;
    pair.until("back in sync", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert!(pair.a.core.counters(V).sent_sectors <= 16);
}

#[test]
fn a_crashed_primary_comes_back_as_target_of_a_bitmap_resync() {
    let mut pair = Pair::synced();
    pair.a.write(800, 4096, 0x77);
    pair.run();
    pair.a.crash(99);
    pair.until("b notices", |pair| {
        pair.b.state().conn < ConnState::Connected
    });
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    pair.b.write(2400, 4096, 0x79);
    pair.run();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(
        shape(&mut pair.a),
        "cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown r-----"
    );
    assert_eq!(pair.command(true, connect(NetConfig::DEFAULT)), 1);
    pair.until("back in sync", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(pair.a.disk.data[2400 * 512], 0x79);
    assert!(said(&pair.a.log, "by rule 50"), "{:#?}", pair.a.log);
}

#[test]
fn unrelated_data_never_connects() {
    let mut pair = Pair::new();
    pair.attach();
    for on_a in [true, false] {
        assert_eq!(pair.role(on_a, Role::Primary, true), 1);
        assert_eq!(pair.role(on_a, Role::Secondary, false), 1);
    }
    // Both came from "just created": wipe what they have in common.
    for on_a in [true, false] {
        for _ in 0..3 {
            let clear_bitmap = false;
            let request = AdminRequest::NewCurrentUuid {
                volume: V,
                clear_bitmap,
            };
            assert_eq!(pair.command(on_a, request), 101);
        }
    }
    pair.connect(NetConfig::DEFAULT);
    assert!(
        said(&pair.a.log, "Unrelated data, aborting!"),
        "{:#?}",
        pair.a.log
    );
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert_eq!(pair.b.state().conn, ConnState::StandAlone);
}

#[test]
fn a_new_generation_is_on_disk_before_the_peer_hears_of_it() {
    let mut pair = Pair::new();
    pair.attach();
    pair.connect(NetConfig::DEFAULT);
    pair.a.hold_metadata = true;
    pair.a.sent.clear();
    pair.a.admin(AdminRequest::SetRole {
        volume: V,
        role: Role::Primary,
        force: true,
    });
    pair.run();
    assert_eq!(pair.a.state().role, Role::Primary);
    assert!(
        !pair.a.sent.contains(&0x0c),
        "UUIDs were told before they were written"
    );
    assert!(pair.a.read_only, "no application may write yet");
    pair.a.release_metadata();
    pair.until("first sync", Pair::in_sync);
    assert!(pair.a.sent.contains(&0x0c));
}

#[test]
fn with_stonith_a_primary_freezes_until_the_peer_is_fenced() {
    for (exit, thawed) in [(7, true), (4, true), (5, true), (1, false)] {
        let mut pair = Pair::synced();
        let config = DiskConfig {
            fencing: Fencing::ResourceAndStonith,
            ..DiskConfig::DEFAULT
        };
        pair.set_disk_options(true, config);
        pair.a.exits.insert("fence-peer", exit);
        pair.cut = true;
        pair.a.write(800, 4096, 0x77);
        pair.until("a notices", |pair| {
            pair.a.state().conn < ConnState::Connected
        });
        pair.pass(Duration::from_secs(2));
        assert!(pair.a.helpers.contains(&"fence-peer"));
        assert_eq!(
            pair.a.state().suspended(),
            !thawed,
            "exit {exit}: {:#?}",
            pair.a.log
        );
        assert_eq!(pair.a.ended.len(), usize::from(thawed), "exit {exit}");
        if thawed {
            assert_eq!(pair.a.state().pdsk, DiskState::Outdated);
            assert!(said(&pair.a.log, "new current UUID"));
        }
        pair.cut = false;
        pair.until("back in sync", Pair::in_sync);
        assert_eq!(pair.a.disk.data, pair.b.disk.data);
        assert!(!pair.a.state().suspended());
    }
}

/// Whatever moment the link breaks at, the first sync comes to its end without anybody's help.
#[test]
fn the_first_sync_survives_a_break_at_any_moment() {
    let mut moments = 0;
    for rounds in 0..400 {
        let mut pair = Pair::new();
        pair.attach();
        pair.breaks_in = Some(rounds);
        pair.connect(NetConfig::DEFAULT);
        pair.until("connected", |pair| {
            pair.a.state().conn >= ConnState::Connected
                && pair.b.state().conn >= ConnState::Connected
        });
        assert!(pair.role(true, Role::Primary, true) >= 1, "break {rounds}");
        pair.until(&format!("synced after break {rounds}"), Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data, "break {rounds}");
        assert_eq!(pair.b.disk.data[0], 0x11);
        if pair.breaks_in.is_some() {
            break;
        }
        moments += 1;
    }
    assert!(moments > 20, "the link broke only {moments} times");
}

/// Disconnected, with a few blocks that only `a` has.
fn written_apart() -> Pair {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DISCONNECT), 101);
    for block in [3, 77, 400, 1001] {
        pair.a.write(block * 8, 4096, 0x99);
    }
    pair.run();
    pair
}

/// The same for a reconnect with a bitmap resync, in both directions.
#[test]
fn a_bitmap_resync_survives_a_break_at_any_moment() {
    for rounds in 0..200 {
        let mut pair = written_apart();
        pair.breaks_in = Some(rounds);
        assert_eq!(pair.command(false, connect(NetConfig::DEFAULT)), 1);
        pair.until(&format!("synced after break {rounds}"), Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data, "break {rounds}");
        assert!(!said(&pair.a.log, "Split-Brain"), "break {rounds}");
        let full = "Writing the whole bitmap, full sync required after drbd_sync_handshake.";
        let times = pair.a.log.iter().filter(|line| *line == full).count();
        assert!(
            times <= 1,
            "break {rounds} led to a full sync: {:#?}",
            pair.a.log
        );
        if pair.breaks_in.is_some() {
            return;
        }
    }
    panic!("never came through without a break");
}

/// Whatever moment the target's disk goes away at, with the disk everything is in sync again.
/// Seed 1015: a source that had missed the end of the resync waited for a target for ever.
#[test]
fn a_bitmap_resync_survives_a_detach_at_any_moment() {
    for rounds in 0..200 {
        let mut pair = written_apart();
        pair.b.admin(connect(NetConfig::DEFAULT));
        let mut in_sync = false;
        for _ in 0..rounds {
            pair.round_or_time();
            in_sync |= pair.in_sync();
        }
        let volume = V;
        pair.b.admin(AdminRequest::Detach {
            volume,
            force: true,
        });
        pair.until(&format!("connected, detach {rounds}"), |pair| {
            pair.b.state().disk == DiskState::Diskless
                && pair.a.state().conn == ConnState::Connected
        });
        pair.a.write(80, 4096, 0x98);
        pair.run();
        pair.b.attach(DiskConfig::DEFAULT);
        pair.until(&format!("synced after detach {rounds}"), Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data, "detach {rounds}");
        if in_sync {
            return;
        }
    }
    panic!("never came through without a detach");
}

/// Seed 993: the target knew a sync UUID that was on no other disk, and counted as unrelated.
#[test]
fn a_sync_uuid_that_could_not_be_written_is_not_told() {
    let mut pair = Pair::before_sync_uuid();
    assert_eq!(pair.a.state().conn, ConnState::WfBitMapS);
    let told = |pair: &Pair| {
        let lines = pair.b.log.iter();
        lines
            .filter(|line| line.contains("updated sync uuid"))
            .count()
    };
    let before = told(&pair);
    pair.a.fail_metadata = true;
    pair.until("disk lost", |pair| {
        pair.a.state().disk == DiskState::Diskless && pair.b.state().conn == ConnState::Connected
    });
    assert!(said(&pair.a.log, "updated sync UUID"));
    assert!(said(&pair.a.log, "meta data update failed!"));
    assert_eq!(told(&pair), before, "{:#?}", pair.b.log);
}

/// Seeds 66, 274: a target that loses power forgets what its disk had in its cache. The source has
/// cleared the bits then; the target's own ones have to be on its disk before the first block
/// comes.
#[test]
fn the_targets_disk_marks_what_the_source_knows_before_the_sync_begins() {
    let mut pair = Pair::before_sync_uuid();
    pair.b.hold_bitmap = true;
    for _ in 0..200 {
        pair.round_or_time();
    }
    let told = "updated sync uuid";
    let before = pair.b.log.iter().filter(|line| line.contains(told)).count();
    assert_eq!(pair.b.state().conn, ConnState::WfSyncUuid);
    pair.b.release_bitmap();
    assert_ne!(pair.b.disk.bitmap[&0][100 / 8] & 1 << (100 % 8), 0);
    pair.until("synced", Pair::in_sync);
    let after = pair.b.log.iter().filter(|line| line.contains(told)).count();
    assert_eq!(after, before + 1);
    assert!(pair.a.disk.data == pair.b.disk.data);
}

/// Commands that need the peer end with an answer whatever moment the link breaks at, and both
/// nodes find together again.
#[test]
fn a_role_change_survives_a_break_at_any_moment() {
    for rounds in 0..60 {
        let mut pair = Pair::synced();
        pair.breaks_in = Some(rounds);
        assert!(pair.role(true, Role::Secondary, false) >= 1);
        let code = pair.role(false, Role::Primary, false);
        assert!(code == 1 || code == 2, "break {rounds}: {code}");
        pair.b.write(64, 4096, 0x51);
        pair.until(&format!("together after break {rounds}"), Pair::in_sync);
        assert!(pair.a.disk.data == pair.b.disk.data, "break {rounds}");
        assert_eq!(pair.b.state().role, Role::Primary);
        assert_eq!(pair.a.state().peer, Role::Primary);
    }
}

/// A write of the old Primary that comes to the disk behind a promotion would overwrite what the
/// new one has written.
#[test]
fn a_promotion_waits_for_the_writes_of_the_peer_that_is_gone() {
    let mut pair = Pair::synced();
    pair.b.hold_peer_io = true;
    pair.a.write(800, 4096, 0x51);
    pair.run();
    pair.cut = true;
    pair.until("b notices", |pair| {
        pair.b.state().conn < ConnState::Connected
    });
    let before = pair.b.answers.len();
    let role = Role::Primary;
    pair.b.admin(AdminRequest::SetRole {
        volume: V,
        role,
        force: false,
    });
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.b.state().role, Role::Secondary);
    assert_eq!(pair.b.answers.len(), before);
    pair.b.hold_peer_io = false;
    pair.until("an answer", |pair| pair.b.answers.len() > before);
    assert_eq!(pair.b.answers[before].1, 1);
    assert_eq!(pair.b.state().role, Role::Primary);
    assert_eq!(pair.b.disk.data[800 * 512], 0x51);
}

/// Until then only the activity log tells what may differ, and it is looked at for a Primary only.
#[test]
fn a_former_primary_counts_as_one_until_its_bitmap_is_on_disk() {
    let marked = |node: &pair::node::Node| {
        let last = node.superblocks.last().expect("one was written");
        last.flags.contains(MdFlags::PRIMARY_IND)
    };
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.hold_bitmap = true;
    pair.a.write(800, 4096, 0x77);
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
    pair.a.write(1600, 4096, 0x78);
    pair.run();
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.pass(Duration::from_secs(1));
    assert!(marked(&pair.a), "the bitmap is not there");
    pair.a.release_bitmap();
    pair.run();
    assert!(!marked(&pair.a));
    assert_ne!(pair.a.disk.bitmap[&0][200 / 8] & 1 << (200 % 8), 0);
    assert_eq!(pair.role(true, Role::Primary, false), 1);
    assert!(marked(&pair.a));
    pair.a.hold_bitmap = true;
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    pair.a.admin(AdminRequest::Detach {
        volume: V,
        force: false,
    });
    pair.run();
    pair.a.release_bitmap();
    pair.until("it is detached", |pair| {
        pair.a.state().disk == DiskState::Diskless
    });
    assert!(!marked(&pair.a));
}

/// They would fill the buffer of the thread that receives them, which takes that for a broken peer.
#[test]
fn what_comes_on_the_meta_socket_while_the_link_is_closed_is_thrown_away() {
    let mut pair = Pair::synced();
    let node = &mut pair.a;
    let error = LinkError::NetworkFailure;
    node.core.handle(&Input::LinkLost(error), node.now);
    assert_eq!(node.core.meta_bytes(&[0x11; 4096], node.now), Ok(4096));
}

/// Link and disk of a Primary go together, and nobody has begun a new generation here. The disk
/// comes back alone: what is written then is not of the generation of the peer's data.
#[test]
fn a_disk_that_comes_back_to_a_lonely_primary_gets_a_new_generation() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.admin(AdminRequest::Detach {
        volume: V,
        force: true,
    });
    pair.until("alone", |pair| {
        let state = pair.a.state();
        state.disk == DiskState::Diskless && state.conn < ConnState::Connected
    });
    let before = pair.a.log.len();
    pair.a.attach(DiskConfig::DEFAULT);
    pair.until("attached", |pair| {
        pair.a.state().disk == DiskState::UpToDate
    });
    let log = &pair.a.log[before..];
    assert!(said(log, "new current UUID"), "{log:#?}");
}

/// What comes on the other socket tells that it is alive.
#[test]
fn a_peer_whose_data_come_is_not_given_up_for_a_ping_that_it_does_not_answer() {
    let mut pair = Pair::synced_by(Protocol::A);
    pair.b.core.handle(&Input::SendTimeout, pair.b.now);
    let hold_answers = |pair: &mut Pair| {
        pair.round();
        pair.b.meta_in.clear();
        for node in [&mut pair.a, &mut pair.b] {
            node.now = node.now.after(Duration::from_millis(100));
        }
    };
    for write in 0..20 {
        pair.a.write(8 * write, 4096, 7);
        for _ in 0..4 {
            hold_answers(&mut pair);
        }
        assert_eq!(pair.b.state().conn, ConnState::Connected, "{write}");
    }
    for _ in 0..10 {
        hold_answers(&mut pair);
    }
    assert!(said(&pair.b.log, "PingAck did not arrive in time."));
}
