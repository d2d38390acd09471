//! Random runs: as many seeds as a check has time for, and those that once failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::faults::Faults;
use drbd_sim::features::{Feature, Features};

/// Writes of each run.
const WRITES: u64 = 500;
/// Seeds of each check.
const SEEDS: u64 = 200;

/// Each found something that is mended since.
const ONCE_FAILED: [u64; 267] = [
    47, 242, 248, 281, 284, 384, 448, 481, 531, 551, 563, 587, 592, 609, 681, 690, 706, 774, 808,
    812, 837, 874, 882, 934, 990, 993, 998, 1037, 1050, 1068, 1081, 1146, 1148, 1181, 1232, 1246,
    1251, 1261, 1351, 1384, 1385, 1389, 1525, 1537, 1543, 1572, 1577, 1789, 1842, 1871, 1935, 1968,
    2153, 2212, 2260, 2542, 2561, 2571, 2629, 2679, 2783, 2812, 2956, 3201, 3407, 3445, 3647, 3671,
    3906, 4054, 4154, 4245, 4769, 4912, 5191, 5273, 5312, 5327, 5409, 5646, 5878, 5952, 6002, 6080,
    6321, 7723, 8155, 8560, 8764, 8775, 8808, 9756, 9840, 10248, 10688, 10838, 10842, 13388, 13542,
    13969, 15031, 17308, 19621, 20716, 21046, 21297, 21616, 22882, 23361, 23716, 24464, 27628,
    30849, 30963, 32145, 32387, 33229, 34876, 37673, 37751, 42006, 42719, 43566, 43733, 45378,
    45474, 46241, 47093, 47727, 47897, 49233, 49414, 49653, 51880, 56852, 57758, 58242, 59287,
    60131, 60166, 62485, 62689, 63605, 63767, 63778, 69814, 70812, 75269, 76487, 84634, 85441,
    89541, 100156, 101172, 103129, 108161, 116022, 119073, 123823, 130659, 134624, 140447, 143205,
    144801, 148209, 148663, 158025, 162087, 162186, 163958, 177937, 178282, 204913, 207197, 207332,
    208446, 209759, 224676, 233547, 237497, 262348, 263514, 264293, 276416, 285221, 289464, 300210,
    301854, 303282, 310512, 313199, 331346, 331851, 334214, 335695, 363449, 395634, 401531, 407885,
    414289, 416053, 427100, 432478, 457522, 458816, 504119, 520412, 525301, 527190, 527529, 552599,
    586699, 605055, 606264, 614274, 614901, 617328, 621064, 624329, 642195, 652660, 654084, 654103,
    654535, 677712, 693080, 701757, 709880, 710230, 720614, 722017, 722477, 725012, 727022, 727766,
    736926, 739767, 747517, 760964, 813558, 842776, 850672, 864860, 865996, 869484, 875564, 891155,
    891919, 894302, 908082, 919168, 934673, 947926, 960971, 987959, 1028095, 1043582, 1049397,
    1072152, 1084853, 1123731, 1173042, 1200225, 1216172, 2001394, 2006382, 4000052,
];

/// Likewise, with these features.
const ONCE_FAILED_WITH: [(u64, &[Feature]); 24] = [
    (264, &[Feature::Flushes, Feature::PassOn]),
    (14259, &[Feature::Hangs, Feature::PassOn, Feature::Zeroes]),
    (300449, &[Feature::Hangs, Feature::PassOn, Feature::Verify]),
    (3000207, &[Feature::Hangs, Feature::PassOn]),
    (3005907, &[Feature::Hangs, Feature::PassOn]),
    (6000000, &[Feature::Congestion]),
    (6000015, &[Feature::Congestion]),
    (6000030, &[Feature::Congestion]),
    (6000031, &[Feature::Congestion]),
    (6000036, &[Feature::Congestion]),
    (6000068, &[Feature::Congestion]),
    (6000072, &[Feature::Congestion]),
    (6000160, &[Feature::Congestion]),
    (6500149, &[Feature::PassOn]),
    (6500459, &[Feature::PassOn]),
    (6502484, &[Feature::PassOn]),
    (6504580, &[Feature::PassOn]),
    (6510811, &[Feature::PassOn, Feature::Verify]),
    (6522055, &[Feature::PassOn]),
    (6600425, &[Feature::PassOn]),
    (6900680, &[Feature::Congestion]),
    (6900696, &[Feature::Congestion]),
    (6903350, &[Feature::Congestion]),
    (11003543, &[Feature::Congestion, Feature::Freezes]),
];

/// Carries the runs out on all processors and returns what went wrong.
fn failures(runs: &[(u64, Faults)]) -> Vec<String> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let take = || runs.get(next.fetch_add(1, Ordering::Relaxed) as usize);
                while let Some((seed, faults)) = take() {
                    let mut cluster = Cluster::new(*seed, faults.clone());
                    drbd_sim::complete_run(&mut cluster, WRITES, HEAL_LIMIT_NS);
                    if let Some(text) = cluster.world.failure {
                        failed.lock().unwrap().push(format!("seed {seed}: {text}"));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn two_hundred_seeds_are_good() {
    let runs: Vec<_> = (0..SEEDS).map(|seed| (seed, Faults::draw(seed))).collect();
    assert_eq!(failures(&runs), [""; 0]);
}

#[test]
fn seeds_that_once_failed_are_good() {
    let mut runs = Vec::new();
    for seed in ONCE_FAILED {
        let faults = Faults::draw(seed);
        if faults.extras.unlikely.is_some() {
            // Most failed before there were unlikely branches.
            let mut plain = faults.clone();
            plain.extras.unlikely = None;
            runs.push((seed, plain));
        }
        if faults.features.any() {
            // Likewise.
            runs.push((seed, Faults::draw_featured(seed, Features::NONE)));
        }
        runs.push((seed, faults));
    }
    assert_eq!(failures(&runs), [""; 0]);
}

#[test]
fn seeds_that_once_failed_with_features_are_good() {
    let runs = ONCE_FAILED_WITH.map(|(seed, these)| {
        let features = Features::all(seed).only(these);
        (seed, Faults::draw_featured(seed, features))
    });
    assert_eq!(failures(&runs), [""; 0]);
}
