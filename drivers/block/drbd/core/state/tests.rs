//! The rules over all states: complete tables as snapshots, and promises that hold everywhere.

use std::collections::HashSet;
use std::fmt::Write;
use std::string::String;

use drbd_format::types::{ConnState, DiskState, Fencing, OnNoData, Role};

use super::follow_up::{follow_up, Context, FollowUp};
use super::sanitize::{sanitize, Facts, Warning};
use super::transition::{check_hard, check_soft, check_valid, is_cluster_wide, Rules};
use super::{mask, Change, StateError, VolumeState};

const PLAIN: Facts = Facts {
    fencing: Fencing::DontCare,
    on_no_data: OnNoData::IoError,
    saved: None,
};

const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];

/// All combinations of connection, disks and roles.
fn all_states() -> impl Iterator<Item = VolumeState> {
    ConnState::ALL.iter().flat_map(|&conn| {
        DiskState::ALL.iter().flat_map(move |&disk| {
            DiskState::ALL.iter().flat_map(move |&pdsk| {
                ROLES.into_iter().flat_map(move |role| {
                    [Role::Unknown, Role::Primary, Role::Secondary]
                        .into_iter()
                        .map(move |peer| VolumeState {
                            role,
                            peer,
                            conn,
                            disk,
                            pdsk,
                            ..VolumeState::INITIAL
                        })
                })
            })
        })
    })
}

#[test]
fn sanitising_settles_after_two_rounds() {
    for flags in 0..8u32 {
        for state in all_states() {
            let wanted = VolumeState {
                aftr_isp: flags & 1 != 0,
                peer_isp: flags & 2 != 0,
                user_isp: flags & 4 != 0,
                ..state
            };
            let (once, _) = sanitize(wanted, wanted, &PLAIN);
            let (twice, _) = sanitize(once, once, &PLAIN);
            let (thrice, warning) = sanitize(twice, twice, &PLAIN);
            assert_eq!(twice, thrice, "{wanted}");
            assert_eq!(warning, None, "{wanted} -> {twice}");
        }
    }
}

#[test]
fn without_a_connection_nothing_is_known_of_the_peer() {
    use DiskState::{DUnknown, Inconsistent, Outdated};
    for state in all_states() {
        let (state, _) = sanitize(state, state, &PLAIN);
        if state.conn < ConnState::Connected {
            assert_eq!(state.peer, Role::Unknown);
            assert!(!state.peer_isp);
            assert!(matches!(state.pdsk, DUnknown | Inconsistent | Outdated));
        }
    }
}

#[test]
fn a_resync_is_paused_exactly_while_a_reason_exists() {
    for flags in 0..8u32 {
        for state in all_states() {
            let wanted = VolumeState {
                aftr_isp: flags & 1 != 0,
                peer_isp: flags & 2 != 0,
                user_isp: flags & 4 != 0,
                ..state
            };
            let (state, _) = sanitize(wanted, wanted, &PLAIN);
            let running = matches!(state.conn, ConnState::SyncSource | ConnState::SyncTarget);
            let paused = matches!(state.conn, ConnState::PausedSyncS | ConnState::PausedSyncT);
            assert!(!(running && state.sync_paused()));
            assert!(!paused || state.sync_paused());
        }
    }
}

#[test]
fn a_primary_is_frozen_only_when_it_has_just_lost_something() {
    let facts = Facts {
        fencing: Fencing::ResourceAndStonith,
        on_no_data: OnNoData::SuspendIo,
        saved: None,
    };
    for state in all_states() {
        let (same, _) = sanitize(state, state, &PLAIN);
        let (again, _) = sanitize(same, same, &facts);
        assert!(!again.suspended(), "nothing was lost in {same}");
    }
    let good = VolumeState {
        role: Role::Primary,
        peer: Role::Secondary,
        conn: ConnState::Connected,
        disk: DiskState::UpToDate,
        pdsk: DiskState::UpToDate,
        ..VolumeState::INITIAL
    };
    let lost = Change::conn(ConnState::NetworkFailure).apply(good).unwrap();
    assert!(sanitize(good, lost, &facts).0.susp_fen);
    let diskless = VolumeState {
        disk: DiskState::Diskless,
        ..lost
    };
    assert!(sanitize(good, diskless, &facts).0.susp_nod);
}

#[test]
fn a_resync_aborted_by_a_failed_disk_leaves_the_old_data_of_the_target_old() {
    let target = VolumeState {
        peer: Role::Primary,
        conn: ConnState::WfBitMapT,
        disk: DiskState::Outdated,
        pdsk: DiskState::UpToDate,
        ..VolumeState::INITIAL
    };
    let failed = Change::pdsk(DiskState::Failed).apply(target).unwrap();
    let (aborted, _) = sanitize(target, failed, &PLAIN);
    assert_eq!(aborted.conn, ConnState::Connected);
    assert_eq!(aborted.disk, DiskState::Outdated);
    let gone = Change::pdsk(DiskState::Diskless).apply(aborted).unwrap();
    assert_eq!(sanitize(aborted, gone, &PLAIN).0.disk, DiskState::Outdated);

    let source = VolumeState {
        role: Role::Primary,
        conn: ConnState::WfBitMapS,
        disk: DiskState::UpToDate,
        pdsk: DiskState::Consistent,
        ..VolumeState::INITIAL
    };
    let failed = Change::disk(DiskState::Failed).apply(source).unwrap();
    let (aborted, _) = sanitize(source, failed, &PLAIN);
    assert!(aborted.pdsk < DiskState::UpToDate);
    let told = Change::pdsk(DiskState::Outdated).apply(aborted).unwrap();
    assert!(sanitize(aborted, told, &PLAIN).0.pdsk < DiskState::UpToDate);
}

/// Seed 5273: the source of a resync that had not begun failed. The target, which is not told that
/// it is Inconsistent, says Outdated.
#[test]
fn a_target_that_is_less_bad_than_it_seemed_is_not_good() {
    let source = VolumeState {
        role: Role::Primary,
        conn: ConnState::PausedSyncS,
        disk: DiskState::UpToDate,
        pdsk: DiskState::Inconsistent,
        user_isp: true,
        ..VolumeState::INITIAL
    };
    let failed = Change::disk(DiskState::Failed).apply(source).unwrap();
    let (aborted, _) = sanitize(source, failed, &PLAIN);
    assert_eq!(aborted.conn, ConnState::Connected);
    let told = Change::pdsk(DiskState::Outdated).apply(aborted).unwrap();
    assert!(sanitize(aborted, told, &PLAIN).0.pdsk < DiskState::UpToDate);
}

/// One row per connection state and own disk, one column per peer disk.
fn table(mut cell: impl FnMut(VolumeState) -> String) -> String {
    let mut text = String::new();
    for &conn in ConnState::ALL {
        for &disk in DiskState::ALL {
            write!(text, "{conn:14} {disk:12}").unwrap();
            for &pdsk in DiskState::ALL {
                let state = VolumeState {
                    conn,
                    disk,
                    pdsk,
                    ..VolumeState::INITIAL
                };
                write!(text, " {}", cell(state)).unwrap();
            }
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_table_of_sanitised_states_is_as_reviewed() {
    let text = table(|state| {
        let (s, warning) = sanitize(state, state, &PLAIN);
        let word = |disk: DiskState| disk.to_wire();
        let mark = if warning.is_some() { "!" } else { "" };
        std::format!(
            "{}:{}{}{mark}",
            s.conn.to_wire(),
            word(s.disk),
            word(s.pdsk)
        )
    });
    insta::assert_snapshot!("sanitised", text);
}

#[test]
fn the_table_of_valid_states_is_as_reviewed() {
    let rules = Rules {
        net: true,
        version: 101,
        ..Rules::NONE
    };
    for role in ROLES {
        let text = table(|state| {
            let state = VolumeState { role, ..state };
            match check_valid(state, &rules) {
                Ok(()) => "  .".into(),
                Err(error) => std::format!("{:3}", error.code()),
            }
        });
        insta::assert_snapshot!(std::format!("valid_{role}"), text);
    }
}

#[test]
fn the_table_of_transitions_is_as_reviewed() {
    let mut text = String::new();
    for state_sent in [false, true] {
        for &old in ConnState::ALL {
            write!(text, "{:5} {old:14}", state_sent).unwrap();
            for &new in ConnState::ALL {
                let good = DiskState::UpToDate;
                let base = VolumeState {
                    disk: good,
                    pdsk: good,
                    ..VolumeState::INITIAL
                };
                let (o, n) = (
                    VolumeState { conn: old, ..base },
                    VolumeState { conn: new, ..base },
                );
                let rules = Rules {
                    net: true,
                    version: 101,
                    state_sent,
                    ..Rules::NONE
                };
                let result = check_hard(o, n)
                    .map_err(|e| ("h", e))
                    .and_then(|()| check_soft(o, n, &rules).map_err(|e| ("s", e)));
                match result {
                    Ok(()) if is_cluster_wide(o, n) => text.push_str("   ask"),
                    Ok(()) => text.push_str("     ."),
                    Err((kind, error)) => write!(text, " {kind}{:4}", error.code()).unwrap(),
                }
            }
            text.push('\n');
        }
    }
    insta::assert_snapshot!("transitions", text);
}

#[test]
fn every_refusal_can_happen_and_has_a_text_and_a_number_of_its_own() {
    let mut seen = HashSet::new();
    let net = Rules {
        net: true,
        version: 101,
        ..Rules::NONE
    };
    let variants = [
        net,
        Rules {
            version: 86,
            verify_alg: true,
            ..net
        },
        Rules { open: true, ..net },
        Rules {
            other_peer_primary: true,
            ..net
        },
        Rules {
            fencing: Fencing::ResourceOnly,
            ..net
        },
        Rules {
            state_sent: true,
            ..net
        },
    ];
    for rules in variants {
        for state in all_states() {
            seen.extend(check_valid(state, &rules).err());
            for &conn in ConnState::ALL {
                let new = VolumeState {
                    conn,
                    disk: DiskState::Outdated,
                    ..state
                };
                seen.extend(check_hard(state, new).err());
                seen.extend(check_soft(state, new, &rules).err());
                let good = VolumeState {
                    disk: DiskState::UpToDate,
                    ..new
                };
                seen.extend(check_soft(state, good, &rules).err());
                let outdated = VolumeState {
                    pdsk: DiskState::Outdated,
                    ..new
                };
                seen.extend(check_soft(state, outdated, &rules).err());
            }
        }
    }
    let elsewhere = [StateError::FailedByPeer, StateError::ConcurrentChange];
    let mut codes = HashSet::new();
    for &error in StateError::ALL {
        assert!(
            seen.contains(&error) || elsewhere.contains(&error),
            "{error:?}"
        );
        assert!(codes.insert(error.code()));
        assert_eq!(StateError::from_code(error.code()), Some(error));
        assert!(!error.text().is_empty());
    }
    assert_eq!(StateError::from_code(-3), None);
}

#[test]
fn a_lost_connection_is_never_left_without_retry_or_teardown() {
    for &old in ConnState::ALL {
        for &new in ConnState::ALL {
            let lost = old >= ConnState::Timeout && old <= ConnState::TearDown;
            let state = |conn| VolumeState {
                conn,
                ..VolumeState::INITIAL
            };
            if lost && old != new && check_hard(state(old), state(new)).is_ok() {
                assert!(matches!(
                    new,
                    ConnState::Unconnected | ConnState::Disconnecting
                ));
            }
        }
    }
}

#[test]
fn what_the_peer_asks_for_is_translated_into_our_view() {
    let ask = Change::role(Role::Primary).and(Change::disk(DiskState::UpToDate));
    let here = Change::peer(Role::Primary).and(Change::pdsk(DiskState::UpToDate));
    assert_eq!(ask.mirrored(), here);
    let leave = Change::conn(ConnState::Disconnecting);
    assert_eq!(leave.mirrored(), Change::conn(ConnState::TearDown));
    let pause = Change::flag(mask::USER_ISP, true);
    assert_eq!(pause.mirrored(), Change::flag(mask::PEER_ISP, true));
    let verify = Change::conn(ConnState::VerifyS);
    assert_eq!((verify.mask, verify.val), (0x1f0, 0x120));
    assert_eq!(verify.mirrored(), Change::conn(ConnState::VerifyT));
    for &conn in &[
        ConnState::SyncSource,
        ConnState::Ahead,
        ConnState::WfBitMapS,
    ] {
        let mirrored = Change::conn(conn).mirrored();
        assert_eq!(mirrored, Change::conn(ConnState::StandAlone));
    }
}

/// Seed 196: the second new UUID pushed the first one into the bitmap's place, and the disk that
/// the peer attached later seemed to be unrelated.
#[test]
fn a_primary_that_connects_without_a_disk_begins_one_generation_only() {
    let context = Context {
        has_disk: true,
        no_bitmap_uuid: true,
        may_be_elsewhere: false,
        grown: false,
        unsettled: false,
        version: 101,
    };
    let old = VolumeState {
        conn: ConnState::WfReportParams,
        disk: DiskState::UpToDate,
        pdsk: DiskState::DUnknown,
        role: Role::Secondary,
        peer: Role::Unknown,
        ..VolumeState::INITIAL
    };
    let new = VolumeState {
        conn: ConnState::Connected,
        pdsk: DiskState::Diskless,
        peer: Role::Primary,
        ..old
    };
    let list = follow_up(old, new, &context);
    let generations = [
        FollowUp::PeerDataLost,
        FollowUp::DisklessPeerPromoted,
        FollowUp::DisklessPeerCame,
    ];
    let count = list
        .iter()
        .filter(|item| generations.contains(item))
        .count();
    assert_eq!(count, 1);
}

/// Seeds 26994 and 63023: a resync may have ended unheard, and then the peer's disk is of the same
/// generation.
#[test]
fn a_primary_without_a_disk_does_not_write_into_a_generation_that_its_own_disk_may_have() {
    for may_be_elsewhere in [false, true] {
        let context = Context {
            has_disk: true,
            no_bitmap_uuid: false,
            may_be_elsewhere,
            grown: false,
            unsettled: false,
            version: 101,
        };
        let old = VolumeState {
            conn: ConnState::Connected,
            disk: DiskState::UpToDate,
            pdsk: DiskState::Diskless,
            peer: Role::Secondary,
            ..VolumeState::INITIAL
        };
        let new = VolumeState {
            peer: Role::Primary,
            ..old
        };
        let list = follow_up(old, new, &context);
        let begins = list
            .iter()
            .any(|item| item == FollowUp::DisklessPeerPromoted);
        assert_eq!(begins, may_be_elsewhere);
    }
}

/// Seeds 76487 and 108161: frozen requests are sent again, the writes that a lagging peer was not
/// sent are not. Its disk was taken for equal when it came back.
#[test]
fn a_peer_that_lags_behind_is_not_forgiven_as_one_that_lacks_only_what_is_frozen() {
    let context = Context {
        has_disk: true,
        no_bitmap_uuid: true,
        may_be_elsewhere: false,
        grown: false,
        unsettled: false,
        version: 101,
    };
    let lags = [
        (ConnState::Connected, DiskState::UpToDate, false),
        (ConnState::VerifyS, DiskState::UpToDate, false),
        (ConnState::Ahead, DiskState::UpToDate, true),
        (ConnState::StartingSyncS, DiskState::Consistent, true),
        (ConnState::WfBitMapS, DiskState::Consistent, true),
        (ConnState::SyncSource, DiskState::Inconsistent, true),
    ];
    for (conn, pdsk, expected) in lags {
        let old = VolumeState {
            role: Role::Primary,
            conn,
            disk: DiskState::UpToDate,
            pdsk,
            peer: Role::Secondary,
            ..VolumeState::INITIAL
        };
        let new = VolumeState {
            conn: ConnState::NetworkFailure,
            pdsk: DiskState::DUnknown,
            peer: Role::Unknown,
            ..old
        };
        let list = follow_up(old, new, &context);
        let has = |wanted| list.iter().any(|item| item == wanted);
        assert_eq!(has(FollowUp::LaggingPeerLost), expected, "{conn:?}");
        assert_eq!(has(FollowUp::PeerDataLost), !expected, "{conn:?}");
    }
}

#[test]
fn every_consequence_can_happen_and_none_follows_from_nothing() {
    let context = Context {
        has_disk: true,
        no_bitmap_uuid: true,
        may_be_elsewhere: false,
        grown: false,
        unsettled: false,
        version: 101,
    };
    for state in all_states() {
        let list = follow_up(state, state, &context);
        assert_eq!(list.iter().count(), 0, "{state}: {:?}", list.iter().next());
    }
    let mut seen = Vec::new();
    let grown = Context {
        grown: true,
        ..context
    };
    for old in all_states().step_by(7) {
        for new in all_states().step_by(11) {
            let frozen = VolumeState {
                susp_nod: true,
                susp_fen: true,
                ..new
            };
            let suspended = VolumeState { susp: true, ..new };
            for new in [frozen, suspended] {
                for item in follow_up(old, new, &grown).iter() {
                    if !seen.contains(&item) {
                        seen.push(item);
                    }
                }
            }
        }
    }
    let all = [
        FollowUp::ForgetCrash,
        FollowUp::PrimaryDegraded,
        FollowUp::RestartOnDisk,
        FollowUp::SendSyncUuid,
        FollowUp::PeerGotDisk,
        FollowUp::SendBitmap,
        FollowUp::PeerDataLost,
        FollowUp::LaggingPeerLost,
        FollowUp::DisklessPeerPromoted,
        FollowUp::DisklessPeerCame,
        FollowUp::WriteBitmap,
        FollowUp::Negotiate,
        FollowUp::SendState,
        FollowUp::StartFullSync,
        FollowUp::DiskFailed,
        FollowUp::DiskGone,
        FollowUp::SyncGrown,
    ];
    for item in all {
        assert!(seen.contains(&item), "{item:?}");
    }
}

#[test]
fn a_run_that_lost_its_disk_is_aborted_and_said_so() {
    let good = VolumeState {
        disk: DiskState::UpToDate,
        pdsk: DiskState::UpToDate,
        ..VolumeState::INITIAL
    };
    for (conn, warning) in [
        (ConnState::VerifyS, Warning::VerifyAborted),
        (ConnState::VerifyT, Warning::VerifyAborted),
        (ConnState::WfBitMapS, Warning::ResyncAborted),
    ] {
        let old = VolumeState { conn, ..good };
        let failed = Change::disk(DiskState::Failed).apply(old).unwrap();
        let (new, said) = sanitize(old, failed, &PLAIN);
        assert_eq!((new.conn, said), (ConnState::Connected, Some(warning)));
    }
    let all = [
        Warning::VerifyAborted,
        Warning::ResyncAborted,
        Warning::LostWhileNegotiating,
        Warning::UpgradedDisk,
        Warning::UpgradedPdsk,
    ];
    let texts: HashSet<&str> = all.iter().map(|warning| warning.text()).collect();
    assert_eq!(texts.len(), all.len());
}

#[test]
fn a_field_taken_out_of_a_change_is_left_alone() {
    let change = Change::role(Role::Primary).and(Change::pdsk(DiskState::Outdated));
    assert_eq!(change.without(mask::PDSK), Change::role(Role::Primary));
    assert_eq!(change.without(mask::DISK), change);
}

/// The verify was asked for before a disk failed, and the peer's consent comes after it: the states
/// of a verify would make both disks UpToDate (seed 458816).
#[test]
fn nothing_but_good_disks_is_verified() {
    use DiskState::{Inconsistent, UpToDate};
    let connected = |disk, pdsk| VolumeState {
        conn: ConnState::Connected,
        disk,
        pdsk,
        ..VolumeState::INITIAL
    };
    for conn in [ConnState::VerifyS, ConnState::VerifyT] {
        for (disk, pdsk) in [(Inconsistent, UpToDate), (UpToDate, Inconsistent)] {
            let old = connected(disk, pdsk);
            let new = VolumeState { conn, ..old };
            let seen = check_soft(old, new, &Rules::NONE);
            assert_eq!(seen, Err(StateError::NoUpToDateDisk), "{new}");
        }
        let old = connected(UpToDate, UpToDate);
        let new = VolumeState { conn, ..old };
        assert_eq!(check_soft(old, new, &Rules::NONE), Ok(()));
    }
}
