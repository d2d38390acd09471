//! Which changes of state runs have made, and the diagram of them for Documentation.

use std::collections::BTreeMap;
use std::fmt::Write;

use drbd_core::state::VolumeState;
use drbd_format::types::{ConnState, DiskState};

/// Changes of state of all volumes, each with how often it was seen.
#[derive(Clone, Debug, Default)]
pub struct Diagram {
    connections: BTreeMap<(ConnState, ConnState), u64>,
    disks: BTreeMap<(DiskState, DiskState), u64>,
}

impl Diagram {
    /// Takes note of a change, given as packed state words.
    pub fn note(&mut self, old: u32, new: u32) {
        let (Some(old), Some(new)) = (VolumeState::from_word(old), VolumeState::from_word(new))
        else {
            return;
        };
        if old.conn != new.conn {
            *self.connections.entry((old.conn, new.conn)).or_default() += 1;
        }
        if old.disk != new.disk {
            *self.disks.entry((old.disk, new.disk)).or_default() += 1;
        }
    }

    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        for (&edge, count) in &other.connections {
            *self.connections.entry(edge).or_default() += count;
        }
        for (&edge, count) in &other.disks {
            *self.disks.entry(edge).or_default() += count;
        }
    }

    /// Every change as a line of the diagrams: `  WFBitMapS --> SyncSource`.
    pub fn lines(&self) -> [Vec<String>; 2] {
        let connections = self.connections.keys();
        let disks = self.disks.keys();
        [
            connections
                .map(|(old, new)| format!("  {old} --> {new}"))
                .collect(),
            disks
                .map(|(old, new)| format!("  {old} --> {new}"))
                .collect(),
        ]
    }

    /// The page of Documentation.
    pub fn page(&self) -> String {
        let [connections, disks] = self.lines();
        let mut page = String::from(INTRODUCTION);
        let parts = [
            ("Connection", "StandAlone", connections),
            ("Disk", "Diskless", disks),
        ];
        for (title, first, lines) in parts {
            let _ = write!(
                page,
                "\n## {title}\n\n```mermaid\nstateDiagram-v2\n  [*] --> {first}\n{}\n```\n",
                lines.join("\n")
            );
        }
        page
    }
}

const INTRODUCTION: &str = "\
# State diagram

Which changes of state one node of a pair goes through: every change that runs of the simulator
have made, with all their faults. Made by `drbd-sim diagram=1 n=<seeds>`; a test runs some seeds and
fails on a change that is missing here. What each state means is told in
[reference/states.md](reference/states.md), which changes are refused in the tables of
`core/state/snapshots`.

The peer's disk goes through the states of its own node, as far as it tells them.
";
