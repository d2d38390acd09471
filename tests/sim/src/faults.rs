//! What goes wrong in a run, drawn from its seed.

use drbd_core::quirk::Quirks;
use drbd_format::types::Protocol;

use crate::extras::Extras;
use crate::features::Features;
use crate::network::Quality;
use crate::random::Random;
use crate::world::{MICRO, MILLI};

/// The shape of a run: sizes, speeds, and which faults happen.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Volumes of the resource.
    pub volumes: usize,
    /// Size of each disk in sectors, metadata included.
    pub disk_sectors: u64,
    /// Replication protocol.
    pub protocol: Protocol,
    /// The disks have volatile caches.
    pub volatile: bool,
    /// Latency of the disks, least and most.
    pub disk_latency_ns: (u64, u64),
    /// The network.
    pub network: Quality,
    /// Largest time until a woken thread runs.
    pub wakeup_ns: u64,
    /// The nodes begin with a full resync.
    pub full_sync: bool,
    /// Slots for requests and for requests of the peer.
    pub slots: (usize, usize),
    /// `max-buffers`.
    pub max_buffers: u32,
    /// `max-epoch-size`.
    pub max_epoch_size: u32,
    /// Drift of the clocks, parts per million.
    pub drift_ppm: [i64; 2],
    /// Time between two faults, least and most; `None`: no faults.
    pub pause_ns: Option<(u64, u64)>,
    /// How likely each kind is, relative to the others.
    pub weights: [u64; Fault::ALL.len()],
    /// The administrator promotes a node that may lack writes.
    pub reckless: bool,
    /// Requests that an application has in flight.
    pub depth: usize,
    /// Regions in which the application writes.
    pub regions: u64,
    /// A digest is sent with the data.
    pub integrity: bool,
    /// Peers authenticate each other.
    pub secret: bool,
    /// Checksums are compared before resync.
    pub csums: bool,
    /// What happens besides.
    pub extras: Extras,
    /// What few clusters use.
    pub features: Features,
    /// What each node does as the C driver does.
    pub quirks: [Quirks; 2],
}

/// Kinds of faults and of things that administrators do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A node loses power.
    PowerLoss,
    /// Both nodes lose power.
    BothLosePower,
    /// The network is cut for a while.
    Cut,
    /// One socket stalls for a while.
    Stall,
    /// An administrator disconnects.
    Disconnect,
    /// The primary role moves, in good order.
    Switch,
    /// The disk of the secondary is detached.
    Detach,
    /// The data of the secondary is declared worthless.
    Invalidate,
    /// A disk returns errors for a while.
    DiskError,
    /// I/O is suspended and resumed.
    Suspend,
    /// A resync is paused and resumed.
    PauseSync,
    /// The connection is reset from outside.
    Reset,
    /// A disk does not answer for a while; most often it is detached by force.
    Hang,
    /// An administrator starts an online verify.
    Verify,
}

impl Fault {
    /// All kinds that every run may have.
    pub const ALL: [Self; 12] = [
        Self::PowerLoss,
        Self::BothLosePower,
        Self::Cut,
        Self::Stall,
        Self::Disconnect,
        Self::Switch,
        Self::Detach,
        Self::Invalidate,
        Self::DiskError,
        Self::Suspend,
        Self::PauseSync,
        Self::Reset,
    ];
}

impl Faults {
    /// A quiet run on small, fast disks.
    pub fn none() -> Self {
        Self {
            volumes: 1,
            disk_sectors: 40_000,
            protocol: Protocol::C,
            volatile: true,
            disk_latency_ns: (20 * MICRO, 500 * MICRO),
            network: Quality {
                delay_min_ns: 20 * MICRO,
                delay_max_ns: 200 * MICRO,
                fragment_max: 4000,
                buffer_bytes: 60_000,
            },
            wakeup_ns: 20 * MICRO,
            full_sync: false,
            slots: (256, 256),
            max_buffers: 2048,
            max_epoch_size: 2048,
            drift_ppm: [0, 0],
            pause_ns: None,
            weights: [0; Fault::ALL.len()],
            reckless: false,
            depth: 8,
            regions: 4,
            integrity: false,
            secret: false,
            csums: false,
            extras: Extras::default(),
            features: Features::NONE,
            quirks: [Quirks::NONE; 2],
        }
    }

    /// Draws the faults of a seed. Each run has some kinds only: a swarm of runs sees more than
    /// many runs that have all.
    pub fn draw(seed: u64) -> Self {
        Self::draw_featured(seed, Features::draw(seed))
    }

    /// As [`Self::draw`], with other features.
    pub fn draw_featured(seed: u64, features: Features) -> Self {
        let mut r = Random::new(seed ^ 0x6661_756c_7473);
        let slow_disk = r.chance(20);
        let mut weights = [0; Fault::ALL.len()];
        for weight in &mut weights {
            *weight = if r.chance(45) { r.between(1, 5) } else { 0 };
        }
        let least = r.pick(&[10, 50, 200, 1000]) * MILLI;
        let large = r.chance(15);
        let volumes = if r.chance(20) { 2 } else { 1 };
        let disk_sectors = if large {
            r.between(270_000, 600_000)
        } else {
            r.between(3_000, 80_000)
        };
        let extras = Extras::draw(seed);
        let mut faults = Self {
            volumes,
            disk_sectors: extras.disk_sectors().unwrap_or(disk_sectors),
            protocol: r.pick(&[
                Protocol::C,
                Protocol::C,
                Protocol::C,
                Protocol::C,
                Protocol::B,
                Protocol::A,
            ]),
            volatile: r.chance(80),
            disk_latency_ns: if slow_disk {
                (MILLI, 40 * MILLI)
            } else {
                (10 * MICRO, r.between(20, 2000) * MICRO)
            },
            network: Quality {
                delay_min_ns: 10 * MICRO,
                delay_max_ns: r.pick(&[20, 200, 2000, 20_000]) * MICRO,
                fragment_max: r.pick(&[8, 100, 1500, 64_000]),
                buffer_bytes: r.pick(&[2_000, 16_000, 128_000]) as usize,
            },
            wakeup_ns: r.pick(&[1, 20, 500]) * MICRO,
            full_sync: !large && r.chance(15),
            slots: (
                r.pick(&[16, 64, 256]) as usize,
                r.pick(&[32, 128, 512]) as usize,
            ),
            max_buffers: r.pick(&[32, 128, 2048]) as u32,
            max_epoch_size: r.pick(&[1, 20, 2048]) as u32,
            drift_ppm: [
                r.between(0, 400) as i64 - 200,
                r.between(0, 400) as i64 - 200,
            ],
            pause_ns: r.chance(95).then_some((least, least * r.between(2, 30))),
            weights,
            reckless: r.chance(15),
            depth: r.pick(&[1, 4, 16, 64]) as usize,
            regions: r.pick(&[1, 3, 20, 150]),
            integrity: r.chance(15),
            secret: r.chance(15),
            csums: r.chance(15),
            extras,
            features,
            quirks: [Quirks::NONE; 2],
        };
        extras.shape(&mut faults);
        features.shape(&mut faults);
        faults
    }

    /// `max-buffers` of a node.
    pub fn buffers(&self, node: usize) -> u32 {
        match (self.extras.crossed, node) {
            (true, 0) => 32,
            (true, _) => 128,
            (false, _) => self.max_buffers,
        }
    }

    /// As [`Self::draw`], but one of the nodes, by the seed, has these quirks. What the C driver
    /// does differently with the features nobody has written down.
    pub fn draw_with(seed: u64, quirks: Quirks) -> Self {
        let features = if quirks == Quirks::NONE {
            Features::draw(seed)
        } else {
            Features::NONE
        };
        let mut faults = Self::draw_featured(seed, features);
        faults.quirks[(seed % 2) as usize] = quirks;
        faults
    }

    /// Draws the kind of the next fault.
    pub fn next(&self, random: &mut Random) -> Option<Fault> {
        let total: u64 = self.weights.iter().sum();
        let mut at = random.below(total);
        for (fault, weight) in Fault::ALL.iter().zip(self.weights) {
            if at < weight {
                return Some(*fault);
            }
            at -= weight;
        }
        None
    }
}
