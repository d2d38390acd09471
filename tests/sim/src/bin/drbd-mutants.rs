//! Puts each known bug back and runs seeds until one notices.
//!
//! `drbd-mutants [bug=N] [n=SEEDS] [from=M] [jobs=J] [writes=W]` prints a table: the bug, the
//! first seed that fails because of it, and what the checker said.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use drbd_core::put_back::Bug;
use drbd_sim::mutants::{hunt, Hunt};

/// As in `drbd-sim`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bugs that have to fall to random seeds for the run to count as good.
const WANTED: usize = 25;

struct Wanted {
    bug: Option<u64>,
    count: u64,
    from: u64,
    jobs: usize,
    writes: u64,
}

fn parse() -> Result<Wanted, String> {
    let mut wanted = Wanted {
        bug: None,
        count: 2000,
        from: 0,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        writes: 500,
    };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').unwrap_or(("", &argument));
        let number = value
            .parse::<u64>()
            .map_err(|_| format!("{argument}: a number is expected"))?;
        match name {
            "bug" => wanted.bug = Some(number),
            "n" => wanted.count = number,
            "from" => wanted.from = number,
            "jobs" => wanted.jobs = number.max(1) as usize,
            "writes" => wanted.writes = number,
            _ => return Err(format!("{name}: not known; bug, n, from, jobs, writes")),
        }
    }
    Ok(wanted)
}

fn print(hunt: &Hunt) {
    let (number, bug) = (hunt.bug.number(), format!("{:?}", hunt.bug));
    let excluded = match hunt.excluded.len() {
        0 => String::new(),
        count => format!(" ({count} seeds that fail anyway passed over)"),
    };
    match &hunt.found {
        Some((seed, text)) => {
            let text: String = text.chars().take(150).collect();
            println!("{number:>2}  {bug:<30} seed {seed:>5}  {text}{excluded}");
        }
        None => println!("{number:>2}  {bug:<30} none of {}{excluded}", hunt.seeds),
    }
}

fn main() -> ExitCode {
    let wanted = match parse() {
        Ok(wanted) => wanted,
        Err(text) => {
            eprintln!("drbd-mutants: {text}");
            return ExitCode::from(2);
        }
    };
    let bugs: Vec<Bug> = Bug::ALL
        .into_iter()
        .filter(|bug| {
            wanted
                .bug
                .is_none_or(|number| u64::from(bug.number()) == number)
        })
        .collect();
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let fallen = Mutex::new(0_usize);
    std::thread::scope(|scope| {
        for _ in 0..wanted.jobs {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt(*bug, wanted.from, wanted.count, wanted.writes);
                    if let Ok(mut fallen) = fallen.lock() {
                        *fallen += usize::from(hunt.found.is_some());
                        print(&hunt);
                    }
                }
            });
        }
    });
    let fallen = fallen.into_inner().unwrap_or_default();
    println!(
        "put-back bugs: {fallen} of {} fall to random seeds",
        bugs.len()
    );
    if fallen >= WANTED.min(bugs.len()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
