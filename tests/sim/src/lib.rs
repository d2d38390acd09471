//! Two nodes, their disks, the network, the clock and their users in one process, from one seed.
//!
//! The core is the very same that runs in the kernel. Around it a simulated shell does what the
//! kernel module does, in the same order, on disks that lose what was not flushed and over a
//! network that delays, cuts and stalls. A seed fixes everything: [`cluster::Cluster::new`] with
//! the same seed and faults is the same run, event for event.

pub mod admin;
pub mod check;
pub mod cluster;
pub mod diagram;
pub mod digest;
pub mod disk;
pub mod extras;
pub mod faults;
pub mod features;
pub mod heap;
pub mod memory;
pub mod mutants;
pub mod network;
pub mod node;
pub mod numbered;
pub mod oracle;
pub mod random;
pub mod scene;
pub mod shell;
pub mod trace;
pub mod unlikely;
pub mod wire;
pub mod workload;
pub mod world;

/// One whole run: faults under load, then heal, then everything must be well.
pub fn complete_run(cluster: &mut cluster::Cluster, writes: u64, limit_ns: u64) {
    cluster.run(writes);
    cluster.heal();
    cluster.run_until_idle(limit_ns);
    // What the cores have to say about it is said.
    cluster.run_for(world::MILLI);
    cluster.run_until_idle(limit_ns);
    cluster.check_end();
}
