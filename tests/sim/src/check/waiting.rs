//! Nobody waits for the peer without a timer, and nobody waits for ever.

use drbd_core::handshake::Stage;
use drbd_core::link::VolumeIndex;
use drbd_core::state::VolumeState;
use drbd_format::types::{ConnState, DiskState};

use super::Checker;
use crate::cluster::Cluster;
use crate::node::{name, Alive, Receiver, Thread, VOLUMES};
use crate::world::{MILLI, SECOND};

/// The longest that a node may be silent and deaf: `ping-int` and `ping-timeout`, and the drift of
/// its clock.
const SILENCE_NS: u64 = 10_600 * MILLI;

/// An attempt to connect waits until a point in time. While two sockets exist a timer runs that
/// looks after the peer: a stage of the handshake has its time, afterwards the next ping or its
/// answer is due (`reference/wire.md` 10.1), or the ping waits for the meta socket, which has its
/// own timeout (10.2).
pub(super) struct SilenceIsNoticed;

impl Checker for SilenceIsNoticed {
    fn name(&self) -> &'static str {
        "silence is noticed"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let now_ns = cluster.world.now_ns;
        for node in &cluster.world.nodes {
            let Some(alive) = node.alive.as_deref() else {
                continue;
            };
            let who = name(node.id);
            if waits_until(&alive.receiver).is_some_and(|until_ns| until_ns < now_ns) {
                return Err(format!("{who} does not go on: {:?}", alive.receiver));
            }
            let stage = alive.core.control_state().0.core.link.stage;
            if matches!(stage, Stage::Down | Stage::Closing) || sends_acks(alive, now_ns) {
                continue;
            }
            if alive.timer.0.is_none() {
                return Err(format!("{who} has no timer in {stage:?}"));
            }
            let left_ns = alive.timer_ns.saturating_sub(now_ns);
            if left_ns > SILENCE_NS {
                let left_ms = left_ns / MILLI;
                return Err(format!("{who} looks in {left_ms} ms, in {stage:?}"));
            }
        }
        Ok(())
    }
}

/// Until when an attempt to connect waits for the peer.
fn waits_until(receiver: &Receiver) -> Option<u64> {
    match receiver {
        Receiver::Connecting(until_ns)
        | Receiver::Probing(until_ns)
        | Receiver::Accepting(until_ns)
        | Receiver::FirstPacket(_, until_ns) => Some(*until_ns),
        Receiver::Idle
        | Receiver::Establishing
        | Receiver::Connected(_)
        | Receiver::Serving(_)
        | Receiver::Lost => None,
    }
}

/// The ack sender is about to run, or waits for its socket no longer than it may.
fn sends_acks(alive: &Alive, now_ns: u64) -> bool {
    alive.bells[Thread::Acks.bell()] || alive.acks.alarm_ns > now_ns
}

/// What a node is in the middle of; it ends in bounded time whatever the peer does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Middle {
    /// Of a state of the connection that leads to another one.
    Conn(ConnState),
    /// Of a state of the disk that leads to another one.
    Disk(DiskState),
    /// Of a resync with so many bits and requests left.
    Resync(u64, u32),
}

impl Middle {
    /// It waits for writes of applications in flight.
    fn is_of_a_sync(self) -> bool {
        match self {
            Self::Conn(conn) => conn >= ConnState::StartingSyncS,
            Self::Disk(_) => false,
            Self::Resync(..) => true,
        }
    }
}

/// Since when a volume is in the middle of something.
type Since = [Option<(Middle, u64)>; 3];

/// States that lead to others do so in bounded time, and a resync begins and gets on, unless I/O is
/// suspended: then it waits for writes that are frozen (seed 116022).
#[derive(Default)]
pub(super) struct StatesPass {
    since: [[Since; VOLUMES]; 2],
}

impl StatesPass {
    /// `timeout` times `ko-count`, after which a request without an answer ends a connection, and
    /// a new attempt to connect.
    const LIMIT_NS: u64 = (42 + 18) * SECOND;

    fn look(
        &mut self,
        node: usize,
        volume: usize,
        middles: [Option<Middle>; 3],
        now_ns: u64,
    ) -> Result<(), String> {
        for (since, middle) in self.since[node][volume].iter_mut().zip(middles) {
            match (*since, middle) {
                (Some((old, at_ns)), Some(new)) if old == new => {
                    if now_ns - at_ns > Self::LIMIT_NS {
                        let (who, s) = (name(node), (now_ns - at_ns) / SECOND);
                        return Err(format!("{who} volume {volume} is in {new:?} since {s} s"));
                    }
                }
                (_, new) => *since = new.map(|middle| (middle, now_ns)),
            }
        }
        Ok(())
    }
}

impl Checker for StatesPass {
    fn name(&self) -> &'static str {
        "states pass"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let (now_ns, volumes) = (cluster.world.now_ns, cluster.faults.volumes);
        let mut others = self.since.iter().flatten().flatten().flatten();
        let suspended = others.any(|(middle, _)| middle.is_of_a_sync()) && is_suspended(cluster);
        for (node, touched) in cluster.world.touched.into_iter().enumerate() {
            let Some(alive) = cluster.world.alive(node) else {
                self.since[node] = Default::default();
                continue;
            };
            for volume in 0..volumes {
                let since = &self.since[node][volume];
                let calm = since.iter().all(Option::is_none);
                if calm && !(touched && is_in_the_middle(alive, volume)) {
                    continue;
                }
                let mut middles = if touched {
                    middles(alive, VolumeIndex(volume as u8))
                } else {
                    since.map(|since| since.map(|(middle, _)| middle))
                };
                if suspended {
                    middles = middles.map(|middle| middle.filter(|middle| !middle.is_of_a_sync()));
                }
                self.look(node, volume, middles, now_ns)?;
            }
        }
        Ok(())
    }
}

fn is_suspended(cluster: &mut Cluster) -> bool {
    (0..2).any(|node| {
        let state = cluster.state(node, 0);
        state.is_some_and(|state| state.suspended())
    })
}

/// Tells whether there is any of [`middles`].
fn is_in_the_middle(alive: &mut Alive, volume: usize) -> bool {
    let state = alive.core.state(VolumeIndex(volume as u8));
    leads_on(state.conn) || disk_leads_on(state.disk) || is_syncing(state.conn)
}

fn is_syncing(conn: ConnState) -> bool {
    matches!(conn, ConnState::SyncSource | ConnState::SyncTarget)
}

/// Tells whether a state of the disk leads to another one by itself.
fn disk_leads_on(disk: DiskState) -> bool {
    matches!(
        disk,
        DiskState::Attaching | DiskState::Failed | DiskState::Negotiating
    )
}

fn middles(alive: &mut Alive, volume: VolumeIndex) -> [Option<Middle>; 3] {
    let state = alive.core.state(volume);
    [
        leads_on(state.conn).then_some(Middle::Conn(state.conn)),
        disk_leads_on(state.disk).then_some(Middle::Disk(state.disk)),
        resync(alive, volume, &state),
    ]
}

fn resync(alive: &Alive, volume: VolumeIndex, state: &VolumeState) -> Option<Middle> {
    if !is_syncing(state.conn) {
        return None;
    }
    let session = alive.core.data.session(volume)?;
    let bits = alive.core.counters(volume).out_of_sync_bits;
    Some(Middle::Resync(bits, session.outstanding))
}

/// Tells whether a state of the connection leads to another one by itself.
fn leads_on(conn: ConnState) -> bool {
    match conn {
        ConnState::Disconnecting
        | ConnState::Unconnected
        | ConnState::Timeout
        | ConnState::BrokenPipe
        | ConnState::NetworkFailure
        | ConnState::ProtocolError
        | ConnState::TearDown
        | ConnState::WfReportParams
        | ConnState::StartingSyncS
        | ConnState::StartingSyncT
        | ConnState::WfBitMapS
        | ConnState::WfBitMapT
        | ConnState::WfSyncUuid => true,
        ConnState::StandAlone
        | ConnState::WfConnection
        | ConnState::Connected
        | ConnState::SyncSource
        | ConnState::SyncTarget
        | ConnState::VerifyS
        | ConnState::VerifyT
        | ConnState::PausedSyncS
        | ConnState::PausedSyncT
        | ConnState::Ahead
        | ConnState::Behind => false,
    }
}

/// What an application or an administrator has asked for ends in bounded time, unless I/O is
/// suspended. The time does not count in which the network is cut: cuts that follow each other
/// closely may keep a connection alive in which nothing gets on (seed 303282).
#[derive(Default)]
pub(super) struct RequestsEnd {
    free_since_ns: u64,
    looked_ns: u64,
    cut: bool,
    late: [u64; 2],
}

impl RequestsEnd {
    /// As for [`StatesPass`]; a resize or a suspended disk may come on top.
    const LIMIT_NS: u64 = 120 * SECOND;
}

impl Checker for RequestsEnd {
    fn name(&self) -> &'static str {
        "requests end"
    }

    fn after_event(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let now_ns = cluster.world.now_ns;
        for node in 0..2 {
            if std::mem::replace(&mut self.late[node], cluster.admins[node].late)
                != cluster.admins[node].late
            {
                return Err(format!("a command on {} had no answer", name(node)));
            }
        }
        let suspended = cluster.workload.node.is_none_or(|node| {
            (0..cluster.faults.volumes).any(|volume| {
                cluster
                    .state(node, volume)
                    .is_none_or(|state| state.suspended())
            })
        });
        if suspended {
            self.free_since_ns = now_ns;
            return Ok(());
        }
        let since_ns = cluster.workload.oldest_ns().unwrap_or(now_ns);
        let mut since_ns = since_ns.max(self.free_since_ns);
        let looked_ns = std::mem::replace(&mut self.looked_ns, now_ns);
        if std::mem::replace(&mut self.cut, cluster.world.net.cut) {
            since_ns = now_ns.min(since_ns + now_ns - looked_ns);
            self.free_since_ns = since_ns;
        }
        let waits_ns = now_ns - since_ns;
        if waits_ns > Self::LIMIT_NS {
            let text = cluster.describe();
            return Err(format!(
                "a request waits since {} s: {text}",
                waits_ns / SECOND
            ));
        }
        Ok(())
    }
}
