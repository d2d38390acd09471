//! Unlikely branches of the core (`Documentation/testing.md`, "Unlikely branches").

use drbd_core::chance::Unlikely;

use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::faults::Faults;
use drbd_sim::unlikely::Branches;

/// Writes of each run.
const WRITES: u64 = 300;

/// What a run came to: failure, simulated time, events, how often each branch was taken.
type End = (Option<String>, u64, u64, [u64; Unlikely::COUNT]);

fn run(seed: u64) -> End {
    let mut faults = Faults::draw(seed);
    faults.extras.unlikely = Some(Branches::all(seed));
    let mut cluster = Cluster::new(seed, faults);
    drbd_sim::complete_run(&mut cluster, WRITES, HEAL_LIMIT_NS);
    let world = &cluster.world;
    let failure = world.failure.clone();
    (failure, world.now_ns, world.events, world.unlikely())
}

#[test]
fn each_branch_is_taken_in_some_runs_and_none_does_harm() {
    let mut failed = Vec::new();
    let mut runs = [0; Unlikely::COUNT];
    for seed in 0..40 {
        let (failure, _, _, taken) = run(seed);
        failed.extend(failure.map(|text| format!("seed {seed}: {text}")));
        for (count, times) in runs.iter_mut().zip(taken) {
            *count += u32::from(times != 0);
        }
    }
    assert_eq!(failed, [""; 0]);
    for (unlikely, count) in Unlikely::ALL.iter().zip(runs) {
        assert!(count >= 2, "{unlikely:?} in {count} runs");
    }
}

#[test]
fn a_run_with_unlikely_branches_repeats_itself() {
    for seed in [3, 4] {
        let first = run(seed);
        assert_ne!(first.3, [0; Unlikely::COUNT]);
        assert_eq!(run(seed), first);
    }
}

#[test]
fn a_quarter_of_all_runs_has_them_and_their_faults_are_the_same() {
    let with = |seed: &u64| Faults::draw(*seed).extras.unlikely.is_some();
    let count = (0..1000).filter(with).count();
    assert!((200..300).contains(&count), "{count}");
}
