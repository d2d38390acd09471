//! Every rule over every change of one part of the state, counted: too many to print, few enough
//! to run. After an intended change of a rule only its own lines may differ.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::string::String;
use std::vec::Vec;

use drbd_format::types::{ConnState, DiskState, Fencing, OnNoData, Role};

use super::follow_up::{follow_up, Context};
use super::sanitize::{sanitize, Facts};
use super::transition::{check_hard, check_hard_conn, check_soft, check_valid};
use super::transition::{is_cluster_wide, Change, Rules, StateError};
use super::VolumeState;

/// How often each answer was given, and to which questions.
#[derive(Default)]
struct Tally {
    asked: u64,
    /// Stands for the present question and, where they differ, the answers so far.
    place: u64,
    answers: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    /// Counts an answer to the present question.
    fn count(&mut self, answer: &impl Debug) {
        let mut name = String::new();
        write!(name, "{answer:?}").unwrap();
        let (count, mark) = self.answers.entry(name).or_default();
        *count += 1;
        *mark = mark.wrapping_mul(0x0100_0000_01b3) ^ self.place;
    }

    fn next(&mut self) {
        self.asked += 1;
        self.place += 1;
    }

    /// As [`Self::next`]; all that follows depends on `word`, which is too long to be printed.
    fn next_after(&mut self, word: u64) {
        self.asked += 1;
        self.place = self.place.wrapping_mul(31) ^ word;
    }

    fn print(&self, title: &str, into: &mut String) {
        writeln!(into, "{title}: {} questions", self.asked).unwrap();
        for (name, (count, mark)) in &self.answers {
            writeln!(into, "  {count:7} {name} ({mark:016x})").unwrap();
        }
    }
}

const PARTNERS: [Role; 3] = [Role::Unknown, Role::Primary, Role::Secondary];
const OWN: [Role; 2] = [Role::Primary, Role::Secondary];

/// Combinations of roles, connection and disks, thinned out evenly.
fn states(step: usize) -> impl Iterator<Item = VolumeState> {
    let roles = OWN
        .into_iter()
        .flat_map(|role| PARTNERS.into_iter().map(move |peer| (role, peer)));
    let all = roles.flat_map(|(role, peer)| {
        ConnState::ALL.iter().flat_map(move |&conn| {
            DiskState::ALL.iter().flat_map(move |&disk| {
                DiskState::ALL.iter().map(move |&pdsk| VolumeState {
                    role,
                    peer,
                    conn,
                    disk,
                    pdsk,
                    ..VolumeState::INITIAL
                })
            })
        })
    });
    all.step_by(step)
}

/// The states that differ from this one in one part, and itself.
fn neighbours(state: VolumeState) -> Vec<VolumeState> {
    let mut all = Vec::new();
    all.extend(
        ConnState::ALL
            .iter()
            .map(|&conn| VolumeState { conn, ..state }),
    );
    all.extend(
        DiskState::ALL
            .iter()
            .map(|&disk| VolumeState { disk, ..state }),
    );
    all.extend(
        DiskState::ALL
            .iter()
            .map(|&pdsk| VolumeState { pdsk, ..state }),
    );
    all.extend(OWN.map(|role| VolumeState { role, ..state }));
    all.extend(PARTNERS.map(|peer| VolumeState { peer, ..state }));
    all.extend((0..64).map(|bits| flagged(state, bits)));
    all
}

fn flagged(state: VolumeState, bits: u32) -> VolumeState {
    VolumeState {
        susp: bits & 1 != 0,
        susp_nod: bits & 2 != 0,
        susp_fen: bits & 4 != 0,
        aftr_isp: bits & 8 != 0,
        peer_isp: bits & 16 != 0,
        user_isp: bits & 32 != 0,
        ..state
    }
}

fn rules() -> [Rules; 9] {
    let net = Rules {
        net: true,
        version: 101,
        ..Rules::NONE
    };
    [
        Rules::NONE,
        net,
        Rules {
            two_primaries: true,
            ..net
        },
        Rules {
            verify_alg: true,
            ..net
        },
        Rules {
            verify_alg: true,
            version: 87,
            ..net
        },
        Rules {
            verify_alg: true,
            version: 88,
            ..net
        },
        Rules {
            open: true,
            other_peer_primary: true,
            ..net
        },
        Rules {
            fencing: Fencing::ResourceOnly,
            ..net
        },
        Rules {
            fencing: Fencing::ResourceAndStonith,
            state_sent: true,
            ..net
        },
    ]
}

#[test]
fn what_is_refused_is_as_reviewed() {
    let mut text = String::new();
    for (number, rules) in rules().iter().enumerate() {
        let mut valid = Tally::default();
        let mut soft = Tally::default();
        for old in states(13) {
            valid.count(&check_valid(old, rules));
            valid.next();
            for new in neighbours(old) {
                soft.count(&check_soft(old, new, rules));
                soft.next();
            }
        }
        valid.print(&std::format!("valid, rules {number}"), &mut text);
        soft.print(&std::format!("soft, rules {number}"), &mut text);
    }
    let mut hard = Tally::default();
    let mut asked = Tally::default();
    for old in states(5) {
        for new in neighbours(old) {
            hard.count(&check_hard(old, new));
            hard.next();
            asked.count(&is_cluster_wide(old, new));
            asked.next();
        }
    }
    hard.print("hard", &mut text);
    asked.print("asks the peer", &mut text);
    let mut conn = Tally::default();
    for &old in ConnState::ALL {
        for &new in ConnState::ALL {
            conn.count(&check_hard_conn(old, new));
            conn.next();
        }
    }
    conn.print("hard, of a connection", &mut text);
    for code in -40..0 {
        if let Some(error) = StateError::from_code(code) {
            writeln!(text, "{code} {error:?}: {}", error.text()).unwrap();
        }
    }
    insta::assert_snapshot!("refused", text);
}

fn contexts() -> [(&'static str, Context); 9] {
    let all = Context {
        has_disk: true,
        no_bitmap_uuid: true,
        may_be_elsewhere: false,
        grown: true,
        unsettled: true,
        version: 101,
    };
    [
        ("all", all),
        (
            "no disk",
            Context {
                has_disk: false,
                ..all
            },
        ),
        (
            "bitmap UUID",
            Context {
                no_bitmap_uuid: false,
                ..all
            },
        ),
        (
            "not grown",
            Context {
                grown: false,
                ..all
            },
        ),
        (
            "settled",
            Context {
                unsettled: false,
                ..all
            },
        ),
        ("version 96", Context { version: 96, ..all }),
        ("version 97", Context { version: 97, ..all }),
        ("version 99", Context { version: 99, ..all }),
        (
            "version 100",
            Context {
                version: 100,
                ..all
            },
        ),
    ]
}

#[test]
fn what_follows_from_each_change_is_as_reviewed() {
    let mut text = String::new();
    for (name, context) in contexts() {
        let mut tally = Tally::default();
        for (number, old) in (0..).zip(states(11)) {
            // A flag that was there before, and one that comes.
            let old = flagged(old, number % 64);
            for new in neighbours(old) {
                for item in follow_up(old, new, &context).iter() {
                    tally.count(&item);
                }
                tally.next();
            }
        }
        tally.print(name, &mut text);
    }
    insta::assert_snapshot!("follow_ups", text);
}

#[test]
fn what_becomes_of_each_wish_is_as_reviewed() {
    let mut text = String::new();
    let saved = Some((DiskState::Consistent, DiskState::Outdated));
    for fencing in [
        Fencing::DontCare,
        Fencing::ResourceOnly,
        Fencing::ResourceAndStonith,
    ] {
        for on_no_data in [OnNoData::IoError, OnNoData::SuspendIo] {
            for saved in [None, saved] {
                let facts = Facts {
                    fencing,
                    on_no_data,
                    saved,
                };
                let mut tally = Tally::default();
                for old in states(17) {
                    for new in neighbours(old) {
                        let (state, warning) = sanitize(old, new, &facts);
                        tally.count(&warning);
                        tally.next_after(u64::from(state.to_word()));
                    }
                }
                tally.print(&std::format!("{facts:?}"), &mut text);
            }
        }
    }
    insta::assert_snapshot!("wishes", text);
}

#[test]
fn what_a_state_permits_is_as_reviewed() {
    let mut tally = Tally::default();
    for (number, state) in (0..).zip(states(1)) {
        let s = flagged(state, number % 64);
        let yes = [
            s.keeps_dependents_waiting(),
            s.suspended(),
            s.replicates(),
            s.sends_out_of_sync(),
            s.may_write(),
            s.sync_paused(),
            s.is_sync_source(),
            s.is_sync_target(),
            s.unconfigured(),
        ];
        for (question, _) in yes.iter().enumerate().filter(|(_, yes)| **yes) {
            tally.count(&question);
        }
        assert_eq!(VolumeState::from_word(s.to_word()), Some(s));
        tally.next();
    }
    let mut text = String::new();
    tally.print("each question, by number", &mut text);
    let mut asked = Tally::default();
    for state in states(19) {
        for new in neighbours(state) {
            let changes = [
                Change::conn(new.conn).and(Change::disk(new.disk)),
                Change::pdsk(new.pdsk).and(Change::role(new.role)),
                Change::peer(new.peer),
            ];
            for change in changes {
                let after = change.apply(state).map(VolumeState::to_word);
                let mirrored = change.mirrored();
                asked.count(&(change.may_be_asked(), change.may_be_asked_of_connection()));
                let words = u64::from(after.unwrap_or(0)) ^ u64::from(mirrored.mask) << 32;
                asked.next_after(words ^ u64::from(mirrored.val));
            }
        }
    }
    asked.print("changes", &mut text);
    insta::assert_snapshot!("permits", text);
}

/// Draws that look like chance and are the same each time.
struct Lot(u64);

impl Lot {
    fn draw(&mut self, of: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 33) as usize % of
    }

    fn flag(&mut self) -> bool {
        self.draw(2) == 1
    }

    fn state(&mut self) -> VolumeState {
        let state = VolumeState {
            role: OWN[self.draw(2)],
            peer: PARTNERS[self.draw(3)],
            conn: ConnState::ALL[self.draw(ConnState::ALL.len())],
            disk: DiskState::ALL[self.draw(DiskState::ALL.len())],
            pdsk: DiskState::ALL[self.draw(DiskState::ALL.len())],
            ..VolumeState::INITIAL
        };
        // Most have no flag.
        let bits = if self.flag() { 0 } else { self.draw(64) as u32 };
        flagged(state, bits)
    }

    /// The state after some parts have changed.
    fn after(&mut self, old: VolumeState) -> VolumeState {
        let new = self.state();
        let keep = [(); 6].map(|()| self.draw(3) != 0);
        VolumeState {
            role: if keep[0] { old.role } else { new.role },
            peer: if keep[1] { old.peer } else { new.peer },
            conn: if keep[2] { old.conn } else { new.conn },
            disk: if keep[3] { old.disk } else { new.disk },
            pdsk: if keep[4] { old.pdsk } else { new.pdsk },
            ..if keep[5] { old } else { new }
        }
    }

    fn context(&mut self) -> Context {
        Context {
            has_disk: self.flag(),
            no_bitmap_uuid: self.flag(),
            // Three draws: what follows is drawn as it was when there were two more facts.
            may_be_elsewhere: [self.flag(), self.flag(), self.flag()][0],
            grown: self.flag(),
            unsettled: self.flag(),
            version: [86, 96, 97, 99, 100, 101][self.draw(6)],
        }
    }

    fn facts(&mut self) -> Facts {
        let disks = DiskState::ALL.len();
        let saved = (
            DiskState::ALL[self.draw(disks)],
            DiskState::ALL[self.draw(disks)],
        );
        let fencing = [
            Fencing::DontCare,
            Fencing::ResourceOnly,
            Fencing::ResourceAndStonith,
        ];
        Facts {
            fencing: fencing[self.draw(3)],
            on_no_data: [OnNoData::IoError, OnNoData::SuspendIo][self.draw(2)],
            saved: self.flag().then_some(saved),
        }
    }
}

/// Several parts change at once, in every context: what only two conditions together decide.
#[test]
fn what_comes_of_jumps_is_as_reviewed() {
    let mut lot = Lot(1);
    let [mut items, mut wishes, mut soft, mut hard] = [(); 4].map(|()| Tally::default());
    let rules = rules();
    for _ in 0..60_000 {
        let old = lot.state();
        let new = lot.after(old);
        for item in follow_up(old, new, &lot.context()).iter() {
            items.count(&item);
        }
        items.next();
        let (state, warning) = sanitize(old, new, &lot.facts());
        wishes.count(&warning);
        wishes.next_after(u64::from(state.to_word()));
        let rules = &rules[lot.draw(rules.len())];
        soft.count(&check_soft(old, new, rules).or(check_valid(new, rules)));
        soft.next();
        hard.count(&(check_hard(old, new), is_cluster_wide(old, new)));
        hard.next();
    }
    let mut text = String::new();
    items.print("consequences", &mut text);
    wishes.print("wishes", &mut text);
    soft.print("soft and valid", &mut text);
    hard.print("hard, and whether the peer is asked", &mut text);
    insta::assert_snapshot!("jumps", text);
}
