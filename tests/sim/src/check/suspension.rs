//! While I/O is suspended nothing moves.

use super::Checker;
use crate::cluster::Cluster;
use crate::node::name;

/// While I/O is suspended no request of an application goes to the disk and none ends. After
/// `suspend-io` was answered none is with the disk, until I/O is resumed.
#[derive(Default)]
pub(super) struct SuspendedIsQuiet {
    /// Bios ended and requests begun while I/O was suspended, when somebody looked last, if it was
    /// suspended then.
    frozen: [Option<u64>; 2],
}

impl Checker for SuspendedIsQuiet {
    fn name(&self) -> &'static str {
        "suspended is quiet"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for node in 0..2 {
            if !cluster.world.touched[node] {
                continue;
            }
            let state = cluster.state(node, 0);
            let activity = &mut cluster.world.activity[node];
            let now = activity.counts;
            let frozen = state.is_some_and(|state| state.suspended());
            let moves = activity.while_suspended;
            let before = std::mem::replace(&mut self.frozen[node], frozen.then_some(moves));
            if frozen && before.is_some_and(|before| before != moves) {
                return Err(format!("a bio ended or began on {}", name(node)));
            }
            if !state.is_some_and(|state| state.susp) {
                activity.suspended = None;
            }
            let Some(then) = activity.suspended else {
                continue;
            };
            let what = ["bios ended", "requests began", "disk requests ended"];
            for (what, (then, now)) in what.iter().zip(then.iter().zip(now)) {
                if now != *then {
                    let count = now - then;
                    return Err(format!("{count} {what} on {}", name(node)));
                }
            }
        }
        Ok(())
    }
}
