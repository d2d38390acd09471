//! Features that few clusters use (`Documentation/testing.md`, "Features").

use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::faults::Faults;
use drbd_sim::features::{Feature, Features};

/// Writes of each run.
const WRITES: u64 = 300;

/// Runs the seeds with one feature; returns what the cores have said, and what went wrong.
fn runs(feature: Feature) -> (Vec<String>, Vec<String>) {
    let (mut said, mut failed) = (Vec::new(), Vec::new());
    for seed in 0..8 {
        let features = Features::all(seed).only(&[feature]);
        let mut cluster = Cluster::new(seed, Faults::draw_featured(seed, features));
        drbd_sim::complete_run(&mut cluster, WRITES, HEAL_LIMIT_NS);
        let world = &mut cluster.world;
        said.extend(world.log.drain(..).map(|said| said.text));
        failed.extend(
            world
                .failure
                .take()
                .map(|text| format!("seed {seed}: {text}")),
        );
    }
    (said, failed)
}

/// What a core only says in runs that have the feature.
#[test]
fn each_feature_matters_in_some_runs_and_none_does_harm() {
    for (feature, text) in [
        (Feature::Congestion, "conn( Ahead -> SyncSource )"),
        (Feature::Flushes, "Local IO failed in write. Detaching"),
        (Feature::Hangs, "disk( UpToDate -> Failed )"),
        (Feature::PassOn, "disk( UpToDate -> Inconsistent )"),
        (Feature::Verify, "Online verify done"),
        (Feature::Zeroes, "Local IO failed in write. Detaching"),
        (Feature::Freezes, "susp( 0 -> 1 )"),
    ] {
        let (said, failed) = runs(feature);
        assert_eq!(failed, [""; 0], "{feature:?}");
        let matters = said.iter().any(|line| line.contains(text));
        assert!(matters, "{feature:?}: nobody says {text:?}");
    }
}

#[test]
fn runs_without_features_have_the_same_faults() {
    let plain = |seed: &u64| {
        let features = Faults::draw(*seed).features;
        !features.any() && !features.has(Feature::Freezes)
    };
    for seed in (0..100).filter(plain) {
        let drawn = format!("{:?}", Faults::draw(seed));
        let without = Faults::draw_featured(seed, Features::NONE);
        assert_eq!(drawn, format!("{without:?}"));
    }
}
