//! A connection that nothing disturbs lasts.

use super::Checker;
use crate::cluster::Cluster;
use crate::world::SECOND;

/// No connection is given up for want of an answer while the network has delivered everything for
/// longer than that takes: somebody has forgotten to answer, or both wait for each other.
#[derive(Default)]
pub(super) struct LinksLast {
    /// Lines of the log that were looked at.
    seen: usize,
    /// When the network disturbed last.
    disturbed_ns: Option<u64>,
}

impl LinksLast {
    /// `timeout` times `ko-count`, and a ping.
    const LIMIT_NS: u64 = (42 + 11) * SECOND;
}

impl Checker for LinksLast {
    fn name(&self) -> &'static str {
        "links last"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let world = &cluster.world;
        let power = world.nodes.iter().all(|node| node.alive.is_some());
        let quiet = power && !world.net.is_disturbed(world.now_ns);
        let new = world.log.get(self.seen..).unwrap_or(&[]);
        self.seen = world.log.len();
        let given_up = new.iter().find(|said| said.text.contains("-> Timeout )"));
        let too_early = |at| world.now_ns - at <= Self::LIMIT_NS;
        if !quiet {
            self.disturbed_ns = Some(world.now_ns);
        } else if let Some(said) = given_up {
            if !self.disturbed_ns.is_some_and(too_early) {
                return Err(said.text.clone());
            }
        }
        Ok(())
    }
}
