//! Our pair against the C pair on the fast kernel with disks in memory, in turns.
//!
//! Every round boots a fresh pair of each kind. Both live side by side, one idle while the other
//! is measured, and take turns with every slice of a measurement, so that both see the same
//! weather of the machine; what counts is the ratio within a round, and its median over the
//! rounds. Each node has a processor of the host to itself, as two machines have.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use crate::awake::{idle_and_all, Awake};
use crate::bed::{Bed, Kernel, Pairing};
use crate::node::{Driver, Node, Tools};
use crate::pair::{Pair, Plan};
use crate::provision::resource;

/// Size of the disk in memory, in KiB.
const DISK_KIB: u64 = 128 * 1024;

/// Length of a slice of a measurement.
const SECONDS: u32 = 2;

/// Slices of each measurement.
const SLICES: usize = 3;

/// What fio does, and which number of its report counts.
const PROFILES: [(&str, &str, &str); 6] = [
    (
        "4 KiB random write, depth 1, IOPS",
        "--rw=randwrite --bs=4k --iodepth=1",
        "write",
    ),
    (
        "4 KiB random write, depth 32, IOPS",
        "--rw=randwrite --bs=4k --iodepth=32",
        "write",
    ),
    (
        "4 KiB random write, 4 x 32, IOPS",
        "--rw=randwrite --bs=4k --iodepth=32 --numjobs=4 --group_reporting",
        "write",
    ),
    (
        "1 MiB sequential write, MB/s",
        "--rw=write --bs=1M --iodepth=4",
        "write",
    ),
    (
        "4 KiB random read, depth 1, IOPS",
        "--rw=randread --bs=4k --iodepth=1",
        "read",
    ),
    (
        "4 KiB random read, depth 32, IOPS",
        "--rw=randread --bs=4k --iodepth=32",
        "read",
    ),
];

/// What one profile gave.
struct Profile {
    /// IOPS or MB/s, as its name says.
    value: f64,
    /// Context switches per request, on M and on S.
    switches: [f64; 2],
    /// Frames that M sent and received per request.
    frames: f64,
    /// Part of the time in which the host's processors had nothing of the nodes to do, in percent.
    idle: f64,
}

/// What one pair gave in one round.
#[derive(Default)]
struct Measured {
    /// MB/s of the first sync with default options.
    sync: f64,
    /// The slices of each profile; none of those that were not asked for.
    profiles: [Vec<Profile>; PROFILES.len()],
    /// Of the disk without DRBD: random reads at depth 32.
    raw_read: f64,
    /// KiB that `up` took on M.
    attach_kib: i64,
    /// KiB more than before `up`, at the worst moment under load.
    peak_kib: i64,
}

/// A pair that runs.
struct Subject {
    pair: Pair,
    /// Free memory of M before `up`, in KiB.
    free_kib: i64,
    got: Measured,
}

/// Runs the rounds and prints the table; `rows` is a part of the names of the wanted profiles.
pub(crate) fn bench(bed: &Bed, rows: &str) -> Result<()> {
    ensure!(
        bed.kernel == Kernel::Fast,
        "measurements are made on the fast kernel: kernel=fast"
    );
    let rounds = bed.rounds.unwrap_or(5);
    let subject = bed.pairing;
    let tools = if subject.drivers == [Driver::C; 2] {
        subject.tools
    } else {
        [Tools::Utils; 2]
    };
    let reference = Pairing {
        drivers: [Driver::C; 2],
        tools,
    };
    let _awake = bed.awake.then(Awake::keep).transpose()?;
    let mut pairs = Vec::new();
    for round in 1..=rounds {
        let start = Instant::now();
        let (ours, c) = compare(bed, [subject, reference], rows, round)?;
        println!(
            "round {round} of {rounds}: {:.0} s",
            start.elapsed().as_secs_f64()
        );
        pairs.push((ours, c));
    }
    print!("{}{}", table(&pairs, subject), costs(&pairs));
    Ok(())
}

/// One round: the two pairs take turns, and each is first every second time.
fn compare(
    bed: &Bed,
    [ours, c]: [Pairing; 2],
    rows: &str,
    round: u32,
) -> Result<(Measured, Measured)> {
    let mut turn = round % 2 == 1;
    // Who boots first may have the better memory.
    let (mut ours, mut c) = if turn {
        let c = Subject::boot(bed, c, "c")?;
        (Subject::boot(bed, ours, "ours")?, c)
    } else {
        let ours = Subject::boot(bed, ours, "ours")?;
        (ours, Subject::boot(bed, c, "c")?)
    };
    let mut both = |measure: &dyn Fn(&mut Subject) -> Result<()>| {
        turn = !turn;
        let (first, second) = if turn {
            (&mut c, &mut ours)
        } else {
            (&mut ours, &mut c)
        };
        measure(first).and_then(|()| measure(second))
    };
    both(&Subject::start)?;
    for (index, (name, _, _)) in PROFILES.iter().enumerate() {
        if name.contains(rows) {
            for _ in 0..SLICES {
                both(&|subject| subject.slice(index))?;
            }
        }
    }
    Ok((ours.stop()?, c.stop()?))
}

impl Subject {
    fn boot(bed: &Bed, pairing: Pairing, name: &str) -> Result<Self> {
        let mut bed = bed.clone();
        bed.pairing = pairing;
        let plan = Plan {
            disk_kib: [1024; 2],
            resource: resource("resftp", "", &[]),
            snap: 0,
            memory_mib: Some(768),
            pinned: true,
            ..Plan::default()
        };
        let pair = Pair::boot(&bed, &format!("bench_{name}"), &plan)?;
        // Every page of the disk exists before anything is measured.
        pair.run_both(&format!(
            "modprobe brd rd_nr=1 rd_size={DISK_KIB} && rm /dev/sda2 && \
             mknod /dev/sda2 b $(stat -Lc '0x%t 0x%T' /dev/ram0) && \
             dd if=/dev/zero of=/dev/ram0 bs=1M oflag=direct 2>/dev/null; \
             modprobe drbd && drbdadm create-md resftp"
        ))?;
        Ok(Self {
            pair,
            free_kib: 0,
            got: Measured::default(),
        })
    }

    /// Up and in sync.
    fn start(&mut self) -> Result<()> {
        let pair = &self.pair;
        self.got.raw_read = fio(&pair.m, "/dev/ram0", PROFILES[5].1, "read", 2)?;
        self.free_kib = free_kib(&pair.m)?;
        pair.run_both("drbdadm up resftp && drbdadm wait-connect resftp")?;
        self.got.attach_kib = self.free_kib - free_kib(&pair.m)?;
        self.got.sync = first_sync(pair)?;
        Ok(())
    }

    /// One slice of a profile, and the least free memory meanwhile.
    fn slice(&mut self, index: usize) -> Result<()> {
        // The shell would read the file byte by byte, and M has one processor.
        let watch = self.pair.m.start(
            &format!(
                "end=$(($(date +%s) + {SECONDS})); while [ $(date +%s) -lt $end ]; do \
                 sed -n 's/^MemFree: *\\([0-9]*\\).*/\\1/p' /proc/meminfo; sleep 0.5; \
                 done | sort -n | head -n 1"
            ),
            Duration::from_secs(60),
        )?;
        let (_, options, direction) = PROFILES[index];
        let found = profile(&self.pair, options, direction)?;
        self.got.profiles[index].push(found);
        let least: i64 = watch.wait()?.line().parse().context("MemFree")?;
        self.got.peak_kib = self.got.peak_kib.max(self.free_kib - least);
        Ok(())
    }

    /// Down, and judged by what the kernels said.
    fn stop(self) -> Result<Measured> {
        let pair = self.pair;
        pair.m
            .wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate"], 30)?;
        pair.m.run("drbdadm secondary resftp")?.ok()?;
        pair.run_both("drbdadm down resftp && rmmod drbd")?;
        pair.finish()?;
        Ok(self.got)
    }
}

/// MB/s (millions of bytes) of the first sync of the whole disk, default options.
fn first_sync(pair: &Pair) -> Result<f64> {
    let start = Instant::now();
    pair.m
        .run("drbdadm -- --overwrite-data-of-peer primary resftp")?
        .ok()?;
    pair.m
        .wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate"], 300)?;
    #[allow(clippy::cast_precision_loss)]
    let bytes = (DISK_KIB * 1024) as f64;
    Ok(bytes / 1e6 / start.elapsed().as_secs_f64())
}

fn free_kib(node: &Node) -> Result<i64> {
    let out = node.run(
        "sync; echo 3 >/proc/sys/vm/drop_caches; sed -n 's/^MemFree: *\\([0-9]*\\).*/\\1/p' \
         /proc/meminfo",
    )?;
    out.ok()?.line().parse().context("MemFree")
}

/// One measurement of the replicated device, with what it cost.
fn profile(pair: &Pair, options: &str, direction: &str) -> Result<Profile> {
    let before = [counts(&pair.m)?, counts(&pair.s)?];
    let host = idle_and_all()?;
    let value = fio(&pair.m, "/dev/drbd0", options, direction, SECONDS)?;
    let [idle, all] = idle_and_all()?;
    let after = [counts(&pair.m)?, counts(&pair.s)?];
    let size = if options.contains("bs=1M") {
        1.048_576
    } else {
        1.0
    };
    let requests = value / size * f64::from(SECONDS);
    let spent = |node: usize, what: usize| (after[node][what] - before[node][what]) / requests;
    Ok(Profile {
        value,
        switches: [spent(0, 0), spent(1, 0)],
        frames: spent(0, 1),
        idle: 100.0 * (idle - host[0]) / (all - host[1]),
    })
}

/// Context switches since boot and frames of the cable so far.
fn counts(node: &Node) -> Result<[f64; 2]> {
    let out = node.run(
        "sed -n 's/^ctxt //p' /proc/stat; \
         cat /sys/class/net/[ev]*/statistics/[rt]x_packets | { n=0; while read p; do \
         n=$((n + p)); done; echo $n; }",
    )?;
    let out = out.ok()?;
    let mut words = out.stdout.split_whitespace().map(str::parse);
    let mut next = || words.next().context("a counter")?.context("a counter");
    Ok([next()?, next()?])
}

/// IOPS, or MB/s for the profile of large writes.
fn fio(node: &Node, device: &str, options: &str, direction: &str, seconds: u32) -> Result<f64> {
    let out = node.run_within(
        &format!(
            "fio --name=b --filename={device} --direct=1 --ioengine=libaio --thread \
             --time_based --runtime={seconds} --output-format=json {options}"
        ),
        Duration::from_secs(120),
    )?;
    let out = out.ok()?;
    let json = out.stdout.find('{').map_or("", |at| &out.stdout[at..]);
    let report: serde_json::Value = serde_json::from_str(json).context("fio's report")?;
    let job = &report["jobs"][0][direction];
    let value = if options.contains("bs=1M") {
        job["bw_bytes"].as_f64().map(|bytes| bytes / 1e6)
    } else {
        job["iops"].as_f64()
    };
    value.context("a number in fio's report")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The mean over the slices; not a number if there are none.
fn mean(slices: &[Profile], pick: impl Fn(&Profile) -> f64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let count = slices.len() as f64;
    slices.iter().map(pick).sum::<f64>() / count
}

/// The profiles that were asked for, with their places.
fn measured_profiles(
    pairs: &[(Measured, Measured)],
) -> impl Iterator<Item = (usize, (&'static str, &'static str, &'static str))> + '_ {
    let wanted = |index: usize| pairs.iter().all(|pair| !pair.0.profiles[index].is_empty());
    let all = PROFILES.into_iter().enumerate();
    all.filter(move |(index, _)| wanted(*index))
}

/// What a request costs: tells where a difference comes from.
fn costs(pairs: &[(Measured, Measured)]) -> String {
    let mut out = format!(
        "\n{:44} {:>23} {:>23}\n",
        "per request: switches on M, S; frames; idle", "ours", "C"
    );
    let picks: [fn(&Profile) -> f64; 4] = [
        |slice| slice.switches[0],
        |slice| slice.switches[1],
        |slice| slice.frames,
        |slice| slice.idle,
    ];
    for (index, (name, _, _)) in measured_profiles(pairs) {
        let of = |side: fn(&(Measured, Measured)) -> &Measured| {
            let [m, s, frames, idle] = picks.map(|pick| {
                let rounds = pairs.iter().map(|pair| &side(pair).profiles[index]);
                median(rounds.map(|slices| mean(slices, pick)).collect())
            });
            format!("{m:5.2} {s:5.2} {frames:5.2} {idle:3.0} %")
        };
        let (ours, c) = (of(|pair| &pair.0), of(|pair| &pair.1));
        let _ = writeln!(out, "{name:44} {ours} {c}");
    }
    out
}

fn table(pairs: &[(Measured, Measured)], subject: Pairing) -> String {
    let mut out = format!(
        "\n{:?} against the C pair, {} rounds in turns, disks of {} MiB in memory, {SLICES} x \
         {SECONDS} s each\n\
         {:38} {:>9} {:>9} {:>7}  spread of the ratio\n",
        subject.drivers,
        pairs.len(),
        DISK_KIB / 1024,
        "",
        "ours",
        "C",
        "ratio"
    );
    let mut row = |name: &str, pick: &dyn Fn(&Measured) -> f64| {
        let ours = median(pairs.iter().map(|(ours, _)| pick(ours)).collect());
        let c = median(pairs.iter().map(|(_, c)| pick(c)).collect());
        let ratios: Vec<f64> = pairs.iter().map(|(ours, c)| pick(ours) / pick(c)).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let ratio = median(ratios);
        let _ = writeln!(
            out,
            "{name:38} {ours:9.0} {c:9.0} {ratio:7.2}  {least:.2} to {most:.2}"
        );
    };
    for (index, (name, _, _)) in measured_profiles(pairs) {
        row(name, &|measured| {
            mean(&measured.profiles[index], |slice| slice.value)
        });
    }
    row("first sync, default options, MB/s", &|measured| {
        measured.sync
    });
    row("(raw disk: random read, depth 32)", &|measured| {
        measured.raw_read
    });
    #[allow(clippy::cast_precision_loss)]
    row("memory at attach and connect, KiB", &|measured| {
        measured.attach_kib as f64
    });
    #[allow(clippy::cast_precision_loss)]
    row("the same at the peak, fio included, KiB", &|measured| {
        measured.peak_kib as f64
    });
    out
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_does_not_depend_on_the_order() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
