//! The comparison over all small sets, and the generations of a resync.

use super::*;

use std::collections::BTreeSet;

const NOW: Situation = Situation {
    version: 101,
    feature_wsame: true,
    self_crashed: false,
    peer_crashed: false,
    self_primary: false,
    peer_primary: false,
    resolver: false,
};

/// The same situation as the peer sees it.
fn mirrored(now: Situation) -> Situation {
    Situation {
        self_crashed: now.peer_crashed,
        peer_crashed: now.self_crashed,
        self_primary: now.peer_primary,
        peer_primary: now.self_primary,
        resolver: !now.resolver,
        ..now
    }
}

/// Every set over a few generations, two of them a sync offset apart.
fn sets() -> Vec<Uuids> {
    let (a, b, c) = (0x10, 0x10 + SYNC_OFFSET, 0x30);
    let currents = [JUST_CREATED, a, b | 1, c];
    let others = [0, JUST_CREATED, a, b, c];
    let mut sets = Vec::new();
    for current in currents {
        for bitmap in others {
            for h0 in others {
                for h1 in others {
                    sets.push(Uuids::from_array([current, bitmap, h0, h1]));
                }
            }
        }
    }
    sets
}

#[test]
fn both_nodes_come_to_opposite_results_for_all_small_sets() {
    let sets = sets();
    let mut rules = BTreeSet::new();
    for version in [86, 95, 101] {
        for &one in &sets {
            for &other in &sets {
                let now = Situation { version, ..NOW };
                let here = compare(&mut one.clone(), &mut other.clone(), &now);
                let there = compare(&mut other.clone(), &mut one.clone(), &mirrored(now));
                rules.insert(here.rule);
                let symmetric = match here.result {
                    -2..=2 => there.result == -here.result,
                    _ => there.result == here.result,
                };
                // A set may match in two ways at once, then the first rule of each node wins.
                let ambiguous = here.rule >= 50 && there.rule >= 50;
                assert!(
                    symmetric || ambiguous,
                    "{one:x?} {other:x?} {version}: {here:?} {there:?}"
                );
            }
        }
    }
    let all = [
        10, 20, 30, 34, 35, 36, 37, 40, 50, 51, 60, 70, 71, 80, 90, 100,
    ];
    assert_eq!(rules.into_iter().collect::<Vec<_>>(), all);
}

/// Rules 34, 35, 51 and 71 correct UUIDs, which peers do since version 91.
#[test]
fn version_91_is_asked_for_by_older_ones_only() {
    let sets = sets();
    for (version, asks) in [(90, true), (91, false)] {
        let now = Situation { version, ..NOW };
        let mut rules = BTreeSet::new();
        for &one in &sets {
            for &other in &sets {
                let found = compare(&mut one.clone(), &mut other.clone(), &now);
                if found.result == NEEDS_91 {
                    rules.insert(found.rule);
                }
            }
        }
        let expected: &[u8] = if asks { &[30, 51, 71] } else { &[] };
        assert!(
            rules.iter().copied().eq(expected.iter().copied()),
            "{rules:?}"
        );
    }
}

#[test]
fn crash_marks_decide_between_equal_generations() {
    let set = Uuids::from_array([0x10, 0, 0, 0]);
    for bits in 0..64u32 {
        let bit = |n: u32| bits >> n & 1 != 0;
        let now = Situation {
            version: 101,
            feature_wsame: bit(0),
            self_crashed: bit(1),
            peer_crashed: bit(2),
            self_primary: bit(3),
            peer_primary: bit(4),
            resolver: bit(5),
        };
        let here = compare(&mut set.clone(), &mut set.clone(), &now);
        let there = compare(&mut set.clone(), &mut set.clone(), &mirrored(now));
        if !now.self_crashed && !now.peer_crashed {
            assert_eq!((here.result, here.rule), (0, 40));
        } else if !now.self_primary && !now.peer_primary {
            assert_eq!(here.rule, 40);
            assert_eq!(here.result.abs(), 1);
        } else {
            assert_eq!(here.rule, 41);
            let expected = match (now.feature_wsame, now.self_primary, now.peer_primary) {
                (false, _, _) => -(0x1_0000 + 101 + 4 * 256),
                (true, true, true) => -100,
                (true, true, false) => 1,
                (true, false, _) => -1,
            };
            assert_eq!(here.result, expected);
        }
        if here.result.abs() < 100 {
            assert_eq!(here.result, -there.result, "{now:?}");
        }
    }
}

#[test]
fn a_resync_goes_through_the_documented_generations() {
    let (c, b, x, y) = (0xc0, 0xb0, 0x80, 0x90);
    let mut source = Uuids::from_array([c | 1, b, x, y]);
    let mut target = Uuids::from_array([b, 0, x, y]);
    // What the target has learned when the connection was made.
    let told = source;
    let sync = source.begin_source(0x7777);
    assert_eq!(sync, b + SYNC_OFFSET);
    assert_eq!(source.to_array(), [c | 1, sync, b, x]);
    target.begin_target(sync, false);
    assert_eq!(target.to_array(), [sync, 0, x, y]);
    target.finish_target(&told, false);
    source.clear_bitmap();
    assert_eq!(source.to_array(), [c | 1, 0, sync, b]);
    assert_eq!(target.to_array(), [c, 0, sync, b]);
}

#[test]
fn without_a_base_the_sync_uuid_is_random() {
    for base in [0, JUST_CREATED] {
        let mut set = Uuids::from_array([0xc0, base, 0, 0]);
        assert_eq!(set.begin_source(0x7776), 0x7776);
        assert_eq!(set.history, [base, 0]);
    }
}

/// Seed 710230: after a split brain no rule takes the UUID back of a resync that never began.
#[test]
fn resyncs_that_never_begin_do_not_use_up_the_history() {
    let ([c, b, x], [d, y]) = ([0xc0, 0xb0, 0x80], [0xd0, 0x90]);
    let mut source = Uuids::from_array([c, b, x, y]);
    let target = Uuids::from_array([d, b, x, y]);
    for again in [false, true, true, true] {
        assert_eq!(source.begins_once_more(&target), again);
        if !again {
            source.begin_source(0x7777);
        }
        assert_eq!(source.to_array(), [c, b + SYNC_OFFSET, b, x]);
        let (mut own, mut peer) = (source, target);
        assert_eq!(compare(&mut own, &mut peer, &NOW).result, -100);
    }
    let began = Uuids::from_array([b + SYNC_OFFSET, 0, x, y]);
    assert!(!source.begins_once_more(&began), "it has been");
    let first = Uuids::from_array([c, b + SYNC_OFFSET, 0, 0]);
    assert!(!first.begins_once_more(&target), "with a random one");
}

/// A resync cut at any point is continued from the bitmap, never from scratch and never the wrong
/// way round.
#[test]
fn a_resync_cut_anywhere_goes_on_with_the_bitmap() {
    let fresh = || {
        (
            Uuids::from_array([0xc1, 0xb0, 0x80, 0x90]),
            Uuids::from_array([0xb0, 0, 0x80, 0x90]),
        )
    };
    for cut in 0..5 {
        let (mut source, mut target) = fresh();
        let told = source;
        let sync = if cut >= 1 { source.begin_source(1) } else { 0 };
        if cut >= 2 {
            target.begin_target(sync, false);
        }
        if cut >= 3 {
            target.finish_target(&told, false);
        }
        if cut >= 4 {
            source.clear_bitmap();
        }
        let (mut own, mut peer) = (source, target);
        let seen = compare(&mut own, &mut peer, &NOW);
        let expected = if cut == 4 { 0 } else { 1 };
        assert_eq!(seen.result, expected, "cut {cut}: {seen:?}");
        let (mut own, mut peer) = (target, source);
        let seen = compare(&mut own, &mut peer, &NOW);
        assert_eq!(seen.result, -expected, "cut {cut}: {seen:?}");
    }
}

/// Whether a resync from here has ended may not be known here: a source that goes on alone branches
/// off, so that the other node sees it if it has gone on alone, too.
#[test]
fn a_branch_of_a_source_is_told_from_what_its_target_made_of_the_same_generation() {
    let (c, b) = (0xc0, 0xb0);
    let told = Uuids::from_array([c | 1, b, 0x80, 0x90]);
    let mut source = told;
    assert!(source.may_be_elsewhere());
    let not_begun = Uuids::from_array([b, 0, 0x80, 0x90]);
    let sync = source.begin_source(1);
    let mut under_way = not_begun;
    under_way.begin_target(sync, false);
    let mut done = under_way;
    done.finish_target(&told, false);
    let mut gone_on = done;
    gone_on.new_current(0xe0, false);
    source.branch(true);
    assert!(!source.may_be_elsewhere(), "once is enough");
    for (peer, result) in [(not_begun, 1), (under_way, 1), (done, 1), (gone_on, -100)] {
        let (mut own, mut other) = (source, peer);
        let here = compare(&mut own, &mut other, &NOW);
        assert_eq!(here.result, result, "{peer:x?}: {here:?}");
        let (mut own, mut other) = (peer, source);
        let there = compare(&mut own, &mut other, &NOW);
        let mirrored = if result == -100 { result } else { -result };
        assert_eq!(there.result, mirrored, "{peer:x?}: {there:?}");
    }
}

/// The peer was about to be synced from equal generations when it was lost.
#[test]
fn a_branch_of_a_source_is_not_far_from_a_target_that_had_not_begun() {
    let target = Uuids::from_array([0xc0, 0, 0x80, 0x90]);
    let mut source = target;
    source.begin_source(0x70);
    source.branch(true);
    let here = compare(&mut source.clone(), &mut target.clone(), &NOW);
    assert_eq!((here.result, here.rule), (1, 75));
    let (mut own, mut peer) = (target, source);
    let there = compare(&mut own, &mut peer, &NOW);
    assert_eq!((there.result, there.rule), (-1, 55));
    assert_eq!(peer.bitmap, target.current);
    // What is not the generation that was left is another matter.
    let younger = Uuids::from_array([0xe0, 0xc0, 0x80, 0x90]);
    assert_eq!(compare(&mut own, &mut younger.clone(), &NOW).rule, 50);
    let rest = compare(&mut source, &mut younger.clone(), &NOW);
    assert_eq!((rest.result, rest.rule), (-100, 100));
}

/// The target of a resync is promoted by force, and two generations begin at once: the second one
/// is for what is written alone.
#[test]
fn two_generations_at_once_do_not_make_the_data_unrelated() {
    let mut source = Uuids::from_array([0xc0, 0xb0, 0, 0]);
    let mut target = Uuids::from_array([0xb0, 0, 0, 0]);
    let sync = source.begin_source(0x70);
    target.begin_target(sync, false);
    target.new_current(0xd0, true);
    target.new_current(0xe0, true);
    // The source, for its part, begins with another disk what it never ends.
    source.set_bitmap(0x10);
    for (mut own, mut peer) in [(source, target), (target, source)] {
        let seen = compare(&mut own, &mut peer, &NOW);
        assert_eq!((seen.result, seen.rule), (-100, 100));
    }
}

/// Seed 262348: the target of a resync ran ahead and was then left alone, all before its source had
/// heard of the end. It took the source for a disk that had been left long ago, and synced all.
#[test]
fn a_branch_of_a_target_is_not_far_from_its_source_that_had_not_heard_of_the_end() {
    let (c, x, random) = (0xc0, 0x80, 0x7770);
    for base in [0, 0xb0] {
        let mut source = Uuids::from_array([c, base, x, 0x90]);
        let told = source;
        let mut target = Uuids::from_array([if base == 0 { c } else { base }, 0, x, 0x90]);
        let sync = source.begin_source(0x5550);
        target.begin_target(sync, true);
        target.finish_target(&told, true);
        assert_eq!(plain(target.history[0]), source.bitmap);
        // It pulls ahead, and leaves Ahead as the source of the next resync.
        assert_eq!(target.begin_source(random), random);
        target.branch(true);
        let (mut own, mut peer) = (target, source);
        let here = compare(&mut own, &mut peer, &NOW);
        assert_eq!((here.result, here.rule), (1, 75), "{base:x}");
        assert_eq!([own.bitmap, own.history[0]], [c | 1, random]);
        let (mut own, mut peer) = (source, target);
        let there = compare(&mut own, &mut peer, &NOW);
        assert_eq!((there.result, there.rule), (-1, 55), "{base:x}");
        assert_eq!(peer.bitmap, c | 1);
        // The bitmap of one that has gone on from there is not about what this one lacks.
        let mut gone_on = source;
        gone_on.new_current(0xe0, true);
        let rest = compare(&mut target.clone(), &mut gone_on, &NOW);
        assert_eq!((rest.result, rest.rule), (-100, 100), "{base:x}");
    }
}

/// The UUID of a resync is lost, the source goes on alone, and begins once more: the target gets
/// its generation, and it must leave that if it does not hear of the end.
#[test]
fn a_branch_that_has_been_synced_is_not_alone_any_more() {
    let mut target = Uuids::from_array([0xb0, 0, 0, 0]);
    let mut source = Uuids::from_array([0xc0, 0xb0, 0, 0]);
    source.begin_source(0x70);
    source.branch(true);
    let seen = compare(&mut source, &mut target, &NOW);
    assert_eq!((seen.result, seen.rule), (1, 71));
    let sync = source.begin_source(0x71);
    target.begin_target(sync, false);
    let told = source;
    target.finish_target(&told, false);
    assert!(source.may_be_elsewhere());
    source.branch(true);
    target.new_current(0xe0, true);
    let seen = compare(&mut source, &mut target, &NOW);
    assert_eq!(seen.result, -100, "{seen:?}");
}

/// The target had gone Ahead of its source, which had not heard of the end: both leave the
/// generation that they have in common.
#[test]
fn two_branches_of_one_generation_are_a_split_brain() {
    let mut source = Uuids::from_array([0xc0, 0xb0, 0x80, 0x90]);
    let mut target = Uuids::from_array([0xc0, 0x70, 0xb0, 0x80]);
    source.branch(true);
    target.branch(true);
    for (mut own, mut peer) in [(source, target), (target, source)] {
        let seen = compare(&mut own, &mut peer, &NOW);
        assert_eq!((seen.result, seen.rule), (-100, 100));
    }
}
