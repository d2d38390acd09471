//! Runs seeds of the simulator.
//!
//! `drbd-sim seed=N` prints a trace of one run; `drbd-sim n=N [from=M] [jobs=J] [writes=W]` runs
//! many on all processors and prints the first seed that fails. With `peer=c` one of the two nodes
//! stands for the C driver, with `peer=` and the name of a quirk it has this one only. `bug=N` puts
//! a known bug back. `unlikely=off` runs without unlikely branches of the core, `unlikely=all` with
//! them in each run, `unlikely=` and the name of one with this one only. `features=` likewise, with
//! one name or several and commas between them. With `apart=1` all runs have their metadata on
//! devices of their own. With `diagram=1` it prints Documentation/states.md instead.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use drbd_core::chance::Unlikely;
use drbd_core::put_back::Bug;
use drbd_core::quirk::{Quirk, Quirks};
use drbd_sim::cluster::{Cluster, HEAL_LIMIT_NS};
use drbd_sim::diagram::Diagram;
use drbd_sim::extras::Extras;
use drbd_sim::faults::Faults;
use drbd_sim::features::{Feature, Features};
use drbd_sim::unlikely::Branches;

/// A run allocates a lot of small things and keeps few of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the arguments ask for.
struct Wanted {
    seed: Option<u64>,
    count: u64,
    from: u64,
    jobs: usize,
    writes: u64,
    keep_going: bool,
    quiet: bool,
    diagram: bool,
    /// What one of the nodes does as the C driver does.
    peer: Quirks,
    /// A bug put back.
    bug: Option<Bug>,
    /// Which unlikely branches runs have, if not those that the seed says.
    unlikely: Option<Branching>,
    /// Which features runs have, if not those that the seed says.
    features: Option<Having>,
    /// All runs have their metadata on devices of their own.
    apart: bool,
}

/// Features of each run.
enum Having {
    All,
    Off,
    Only(Vec<Feature>),
}

/// Unlikely branches of each run.
#[derive(Clone, Copy)]
enum Branching {
    All,
    Off,
    Only(Unlikely),
}

impl Wanted {
    fn faults(&self, seed: u64) -> Faults {
        let mut faults = match &self.features {
            None => Faults::draw_with(seed, self.peer),
            Some(having) => self.featured(seed, having),
        };
        if self.apart {
            faults.extras.metadata_apart = Extras::metadata_apart(seed, 100);
        }
        let unlikely = &mut faults.extras.unlikely;
        match self.unlikely {
            None => {}
            Some(Branching::All) => *unlikely = unlikely.or(Some(Branches::all(seed))),
            Some(Branching::Off) => *unlikely = None,
            Some(Branching::Only(one)) => {
                *unlikely = Some(unlikely.unwrap_or(Branches::all(seed)).only(one));
            }
        }
        faults
    }
}

impl Wanted {
    fn featured(&self, seed: u64, having: &Having) -> Faults {
        let features = match having {
            Having::All => Features::all(seed),
            Having::Off => Features::NONE,
            Having::Only(these) => Features::all(seed).only(these),
        };
        let mut faults = Faults::draw_featured(seed, features);
        faults.quirks = Faults::draw_with(seed, self.peer).quirks;
        faults
    }
}

fn parse() -> Result<Wanted, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut wanted = Wanted {
        seed: None,
        count: 200,
        from: 0,
        jobs: cores,
        writes: 500,
        keep_going: false,
        quiet: false,
        diagram: false,
        peer: Quirks::NONE,
        bug: None,
        unlikely: None,
        features: None,
        apart: false,
    };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').unwrap_or(("seed", &argument));
        if name == "peer" {
            wanted.peer = peer(value)?;
            continue;
        }
        if name == "features" {
            wanted.features = Some(having(value)?);
            continue;
        }
        if name == "unlikely" {
            wanted.unlikely = Some(branching(value)?);
            continue;
        }
        let number = value
            .parse::<u64>()
            .map_err(|_| format!("{argument}: a number is expected"))?;
        match name {
            "seed" => wanted.seed = Some(number),
            "n" => wanted.count = number,
            "from" => wanted.from = number,
            "jobs" => wanted.jobs = number.max(1) as usize,
            "writes" => wanted.writes = number,
            "all" => wanted.keep_going = number != 0,
            "quiet" => wanted.quiet = number != 0,
            "diagram" => wanted.diagram = number != 0,
            "apart" => wanted.apart = number != 0,
            "bug" => {
                let place = (number as usize).checked_sub(1);
                let bug = place.and_then(|place| Bug::ALL.get(place));
                let unknown = || format!("{argument}: there are {}", Bug::ALL.len());
                wanted.bug = Some(*bug.ok_or_else(unknown)?);
            }
            _ => {
                return Err(format!(
                    "{name}: not known; seed, n, from, jobs, writes, all, peer, bug, unlikely, \
                     features, apart"
                ))
            }
        }
    }
    Ok(wanted)
}

/// `all`, `off`, or one of the branches by its name.
fn branching(name: &str) -> Result<Branching, String> {
    let named = |unlikely: &Unlikely| format!("{unlikely:?}") == name;
    match (name, Unlikely::ALL.into_iter().find(named)) {
        ("all", _) => Ok(Branching::All),
        ("off", _) => Ok(Branching::Off),
        (_, Some(one)) => Ok(Branching::Only(one)),
        (_, None) => Err(format!("{name}: all, off, or one of {:?}", Unlikely::ALL)),
    }
}

/// `all`, `off`, or the names of some of the features with commas between them.
fn having(names: &str) -> Result<Having, String> {
    match names {
        "all" => return Ok(Having::All),
        "off" => return Ok(Having::Off),
        _ => {}
    }
    let mut these = Vec::new();
    for name in names.split(',') {
        let named = |feature: &Feature| format!("{feature:?}") == name;
        match Feature::ALL.into_iter().find(named) {
            Some(feature) => these.push(feature),
            None => return Err(format!("{name}: all, off, or some of {:?}", Feature::ALL)),
        }
    }
    Ok(Having::Only(these))
}

/// `c`, or one of the quirks by its name.
fn peer(name: &str) -> Result<Quirks, String> {
    let named = |quirk: &Quirk| format!("{quirk:?}") == name;
    match Quirk::ALL.into_iter().find(named) {
        Some(quirk) => Ok(Quirks::only(quirk)),
        None if name == "c" => Ok(Quirks::C),
        None => Err(format!("peer={name}: c or one of {:?}", Quirk::ALL)),
    }
}

/// What a run came to.
struct Outcome {
    failure: Option<String>,
    /// Why it ended early: a defect of the C driver.
    excused: Option<String>,
    mattered: Quirks,
    /// How often each unlikely branch was taken.
    taken: [u64; Unlikely::COUNT],
    helped: u32,
    simulated_ns: u64,
    events: u64,
    diagram: Diagram,
}

fn run(seed: u64, wanted: &Wanted, verbose: bool) -> Outcome {
    let mut cluster = Cluster::new(seed, wanted.faults(seed));
    cluster.world.verbose = verbose;
    drbd_sim::mutants::choose(wanted.bug);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drbd_sim::complete_run(&mut cluster, wanted.writes, HEAL_LIMIT_NS);
    }));
    if result.is_err() {
        cluster.world.fail("panic".to_string());
    }
    Outcome {
        failure: cluster.world.failure.clone(),
        excused: cluster.world.excused.take(),
        mattered: cluster.world.mattered,
        taken: cluster.world.unlikely(),
        helped: cluster.helped,
        simulated_ns: cluster.world.now_ns,
        events: cluster.world.events,
        diagram: std::mem::take(&mut cluster.world.diagram),
    }
}

fn main() -> ExitCode {
    let wanted = match parse() {
        Ok(wanted) => wanted,
        Err(text) => {
            eprintln!("drbd-sim: {text}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = wanted.seed {
        println!("seed {seed}: {:?}", wanted.faults(seed));
        let outcome = run(seed, &wanted, !wanted.quiet);
        let simulated_ms = outcome.simulated_ns / 1_000_000;
        return match outcome.failure {
            Some(text) => {
                println!("seed {seed}: {text}");
                ExitCode::FAILURE
            }
            None => {
                if let Some(text) = outcome.excused {
                    println!("seed {seed}: ended at a {text}");
                }
                println!(
                    "seed {seed}: good, {simulated_ms} ms, {} events",
                    outcome.events
                );
                ExitCode::SUCCESS
            }
        };
    }
    many(&wanted)
}

/// After so many seeds a line says how far it is.
const PROGRESS: u64 = 50_000;

fn many(wanted: &Wanted) -> ExitCode {
    let next = AtomicU64::new(wanted.from);
    let end = wanted.from.saturating_add(wanted.count);
    let totals = Mutex::new((0_u64, 0_u64, 0_u64));
    let failed: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let diagram = Mutex::new(Diagram::default());
    let mixed = Mutex::new(Mixed::default());
    let taken = Mutex::new([0_u64; Unlikely::COUNT]);
    let start = Instant::now();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..wanted.jobs {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let stop = !wanted.keep_going && failed.lock().is_ok_and(|f| !f.is_empty());
                if seed >= end || stop {
                    return;
                }
                let outcome = run(seed, wanted, false);
                if let Ok(mut totals) = totals.lock() {
                    totals.0 += 1;
                    totals.1 += outcome.simulated_ns;
                    totals.2 += outcome.events;
                    if totals.0 % PROGRESS == 0 && totals.0 < wanted.count {
                        let seconds = start.elapsed().as_secs();
                        eprintln!("{} of {} in {seconds} s", totals.0, wanted.count);
                    }
                }
                if let Ok(mut mixed) = mixed.lock() {
                    mixed.add(seed, &outcome);
                }
                if let Ok(mut taken) = taken.lock() {
                    for (count, times) in taken.iter_mut().zip(outcome.taken) {
                        *count += u64::from(times != 0);
                    }
                }
                if let Ok(mut diagram) = diagram.lock() {
                    diagram.add(&outcome.diagram);
                }
                if let (Some(text), Ok(mut failed)) = (outcome.failure, failed.lock()) {
                    println!("seed {seed}: {text}");
                    failed.push(seed);
                }
            });
        }
    });
    let (seeds, simulated_ns, events) = totals.into_inner().unwrap_or_default();
    let failed = failed.into_inner().unwrap_or_default();
    if wanted.diagram {
        print!("{}", diagram.into_inner().unwrap_or_default().page());
        return exit_code(&failed);
    }
    let seconds = start.elapsed().as_secs_f64().max(0.001);
    let hours = simulated_ns as f64 / 3.6e12;
    println!(
        "{seeds} seeds in {seconds:.1} s ({:.1} per second), {hours:.1} simulated hours ({:.2} per \
         second), {events} events, {} failed",
        seeds as f64 / seconds,
        hours / seconds,
        failed.len()
    );
    let taken = taken.into_inner().unwrap_or_default();
    let named = Unlikely::ALL.iter().zip(taken);
    let named: Vec<String> = named
        .map(|(one, count)| format!("{one:?} {count}"))
        .collect();
    println!("seeds with unlikely branches: {}", named.join(", "));
    if wanted.peer != Quirks::NONE {
        mixed.into_inner().unwrap_or_default().print();
    }
    exit_code(&failed)
}

/// What came up in runs with a node that stands for the C driver.
#[derive(Default)]
struct Mixed {
    seen: [u64; Quirk::ALL.len()],
    helped: u64,
    excused: Vec<u64>,
}

impl Mixed {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        for (count, quirk) in self.seen.iter_mut().zip(Quirk::ALL) {
            *count += u64::from(outcome.mattered.contains(quirk));
        }
        self.helped += u64::from(outcome.helped > 0);
        if outcome.excused.is_some() {
            self.excused.push(seed);
        }
    }

    fn print(&self) {
        println!(
            "{} seeds ended at wrong data of the C driver: {:?}; in {} a person had to disconnect",
            self.excused.len(),
            self.excused,
            self.helped
        );
        for (count, quirk) in self.seen.iter().zip(Quirk::ALL) {
            println!("{quirk:?} mattered in {count} seeds");
        }
    }
}

fn exit_code(failed: &[u64]) -> ExitCode {
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
