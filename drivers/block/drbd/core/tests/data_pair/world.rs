//! Two nodes, the bytes between them, and the checks.

use drbd_core::data::AppIo;
use drbd_core::link::{LinkView, LocalError, Order, Side, Upcall, View};
use drbd_core::request::Op;
use drbd_core::state::VolumeState;
use drbd_core::time::{Duration, Instant};
use drbd_format::types::{ConnState, DiskState, OnIoError, Protocol, ReadBalancing, Role};
use drbd_format::units::{Sector, SectorCount};
use drbd_format::wire::features::{FeatureFlags, ProtocolVersion, Terms};

use super::node::{Bio, Node, V};

pub(crate) struct World {
    pub(crate) nodes: [Node; 2],
    pub(crate) sectors: u64,
    pub(crate) protocol: Protocol,
    pub(crate) random: u64,
    pub(crate) now: Instant,
    pub(crate) next_number: u64,
    pub(crate) synced: bool,
    pub(crate) verified: u32,
    pub(crate) checksums: bool,
    pub(crate) two_primaries: bool,
    pub(crate) pass_on: bool,
    /// The caches of the disks are not volatile.
    pub(crate) no_flushes: bool,
    pub(crate) zeroes_for_discards: bool,
    pub(crate) ko_count: u32,
    /// `rs-discard-granularity`.
    pub(crate) granularity_bytes: u32,
    pub(crate) disk_timeout_tenths: u32,
    pub(crate) read_balancing: ReadBalancing,
    /// Blocks that could not be synced are no mistake; so many there were.
    pub(crate) may_fail: bool,
    pub(crate) failed_bits: u64,
    /// What the disks of both nodes are said to have failed in.
    pub(crate) disk_errors: Vec<(usize, LocalError)>,
    keep: bool,
    /// Number, first sector and length of every write.
    writes: Vec<(u64, u64, u64)>,
    pub(crate) state: [VolumeState; 2],
    connected: bool,
    pub(crate) max_buffers: [u32; 2],
    source: usize,
    bitmaps: [bool; 2],
}

impl World {
    pub(crate) fn new(seed: u64, sectors: u64, protocol: Protocol) -> Self {
        Self::with_limits(seed, sectors, protocol, 67, 64, 2048)
    }

    pub(crate) fn with_limits(
        seed: u64,
        sectors: u64,
        protocol: Protocol,
        al: usize,
        slots: usize,
        max_buffers: u32,
    ) -> Self {
        let state = VolumeState {
            disk: DiskState::UpToDate,
            role: Role::Primary,
            ..VolumeState::INITIAL
        };
        let mut world = Self {
            nodes: [
                Node::new(sectors, al, slots, slots),
                Node::new(sectors, al, slots, slots),
            ],
            sectors,
            protocol,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Instant(1),
            next_number: 1,
            synced: false,
            verified: 0,
            checksums: false,
            two_primaries: false,
            pass_on: false,
            no_flushes: false,
            zeroes_for_discards: false,
            ko_count: 0,
            granularity_bytes: 0,
            disk_timeout_tenths: 0,
            read_balancing: ReadBalancing::PreferLocal,
            may_fail: false,
            failed_bits: 0,
            disk_errors: Vec::new(),
            keep: false,
            writes: Vec::new(),
            state: [state; 2],
            connected: false,
            max_buffers: [max_buffers; 2],
            source: 0,
            bitmaps: [false; 2],
        };
        for at in 0..2 {
            world.publish(at);
            world.nodes[at].order(&Order::DiskAttached(V));
        }
        world
    }

    pub(crate) fn chance(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn publish(&mut self, at: usize) {
        let mut view = View {
            state: self.state[at],
            ..View::INITIAL
        };
        view.capacity = SectorCount(self.sectors);
        view.disk.c_max_rate_kib = 4_194_304;
        view.disk.c_min_rate_kib = 0;
        view.disk.discard_zeroes_if_aligned = !self.zeroes_for_discards;
        view.disk.disk_flushes = !self.no_flushes;
        view.disk.rs_discard_granularity_bytes = self.granularity_bytes;
        view.disk.disk_timeout_tenths = self.disk_timeout_tenths;
        view.disk.read_balancing = self.read_balancing;
        if self.pass_on {
            view.disk.on_io_error = OnIoError::PassOn;
        }
        self.nodes[at].data.set_view(V, &view, self.now);
    }

    pub(crate) fn set_conn(&mut self, at: usize, conn: ConnState) {
        self.state[at].conn = conn;
        self.publish(at);
    }

    pub(crate) fn connect_as(&mut self, first: ConnState, second: ConnState) {
        self.connected = true;
        for (at, conn) in [first, second].into_iter().enumerate() {
            self.publish_link(at);
            self.nodes[at].order(&Order::LinkUp);
            self.state[at].conn = conn;
            self.state[at].pdsk = self.state[1 - at].disk;
            if matches!(conn, ConnState::WfBitMapS) {
                self.state[at].pdsk = DiskState::Consistent;
            }
        }
        self.publish(0);
        self.publish(1);
    }

    /// Hands the settings of the connection over.
    pub(crate) fn publish_link(&mut self, at: usize) {
        let link = LinkView {
            terms: Terms {
                version: ProtocolVersion::new(101).unwrap(),
                features: FeatureFlags(15),
                integrity_len: if self.random & 2 == 0 { 8 } else { 0 },
            },
            digest_out_len: if self.random & 2 == 0 { 8 } else { 0 },
            established: true,
            protocol: self.protocol,
            max_buffers: self.max_buffers[at],
            verify_len: 8,
            csums_len: if self.checksums { 8 } else { 0 },
            use_rle: self.random & 4 == 0,
            ko_count: self.ko_count,
            timeout_tenths: 60,
            two_primaries: self.two_primaries,
            resolver: at == 0,
            ..LinkView::NONE
        };
        self.nodes[at].data.set_link(&link);
    }

    pub(crate) fn connect(&mut self) {
        self.connect_as(ConnState::Connected, ConnState::Connected);
    }

    pub(crate) fn connect_diskless(&mut self, at: usize) {
        self.state[at].disk = DiskState::Diskless;
        self.publish(at);
        self.nodes[at].order(&Order::DiskDetached(V));
        self.connect();
    }

    pub(crate) fn set_disk(&mut self, at: usize, disk: DiskState) {
        self.state[at].disk = disk;
        self.publish(at);
    }

    /// A node hears that its peer has lost its disk.
    pub(crate) fn peer_disk_lost(&mut self, at: usize) {
        self.state[at].pdsk = DiskState::Failed;
        self.set_conn(at, ConnState::Connected);
        self.nodes[at].order(&Order::StopResync(V));
        self.nodes[at].order(&Order::NewEpoch);
    }

    /// No data is accessible, or is again.
    pub(crate) fn suspend(&mut self, at: usize, suspended: bool) {
        self.state[at].susp_nod = suspended;
        self.publish(at);
        self.nodes[at].data.orders_done(self.now);
    }

    /// The disk is replaced by itself: the activity log starts anew.
    pub(crate) fn attach_again(&mut self, at: usize) {
        self.set_disk(at, DiskState::Diskless);
        self.nodes[at].order(&Order::DiskDetached(V));
        assert!(self.nodes[at].data.take_disk(V).is_some());
        let sectors = self.sectors;
        self.nodes[at].lend(V, sectors, 67);
        self.nodes[at].al_disk.clear();
        self.set_disk(at, DiskState::UpToDate);
        self.nodes[at].order(&Order::DiskAttached(V));
    }

    /// Runs both nodes until `condition` holds.
    pub(crate) fn run_until(&mut self, condition: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            for at in 0..2 {
                for kind in 0..10 {
                    if condition(self) {
                        return;
                    }
                    self.step(at, kind);
                }
            }
            self.advance_clock(Duration::from_millis(1));
        }
        panic!("it never came to that");
    }

    pub(crate) fn conn(&self, at: usize) -> ConnState {
        self.state[at].conn
    }

    /// The connection breaks at any moment.
    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        for at in 0..2 {
            self.nodes[at].broken = true;
            self.nodes[at].data_out.clear();
            self.nodes[at].meta_out.clear();
            self.nodes[at].stalled = false;
            self.state[at].conn = ConnState::NetworkFailure;
            self.state[at].pdsk = DiskState::DUnknown;
            self.publish(at);
            let keep = self.keep && at == 0;
            self.nodes[at].order(&Order::LinkLost {
                keep,
                keep_ended: keep,
            });
            let now = self.now;
            self.nodes[at].data.receiver_gone(now);
        }
        self.synced = false;
    }

    /// The connection breaks while the policy is to freeze I/O.
    pub(crate) fn disconnect_and_freeze(&mut self) {
        self.state[0].susp_fen = true;
        self.keep = true;
        self.disconnect();
        self.keep = false;
    }

    /// The same peer is back, with everything it had.
    pub(crate) fn reconnect_and_resend(&mut self) {
        assert!(self.nodes.iter().all(|node| node.tokens.is_empty()));
        for node in &mut self.nodes {
            node.upcalls.clear();
            node.broken = false;
        }
        self.connect();
        self.nodes[0].order(&Order::ResendFrozen);
        self.state[0].susp_fen = false;
        self.publish(0);
        self.nodes[0].order(&Order::NewEpoch);
    }

    /// Bitmaps are exchanged, then the target syncs.
    pub(crate) fn reconnect_with_bitmaps(&mut self, source: usize) {
        assert!(self.nodes.iter().all(|node| node.tokens.is_empty()));
        for node in &mut self.nodes {
            assert!(
                node.upcalls.contains(&Upcall::PeerIoDrained),
                "work for the peer ended"
            );
            node.upcalls.clear();
            node.broken = false;
        }
        self.synced = false;
        self.source = source;
        self.bitmaps = [false; 2];
        let mut conn = [ConnState::WfBitMapT; 2];
        conn[source] = ConnState::WfBitMapS;
        self.connect_as(conn[0], conn[1]);
        self.nodes[source].order(&Order::SendBitmap(V));
    }

    pub(crate) fn start_sync(&mut self, source: usize) {
        let target = 1 - source;
        self.state[source].conn = ConnState::SyncSource;
        self.state[source].pdsk = DiskState::Inconsistent;
        self.state[target].conn = ConnState::SyncTarget;
        self.state[target].disk = DiskState::Inconsistent;
        self.state[target].pdsk = DiskState::UpToDate;
        self.publish(source);
        self.publish(target);
        self.nodes[source].order(&Order::StartResync(V, Side::Source));
        self.nodes[target].order(&Order::StartResync(V, Side::Target));
    }

    pub(crate) fn start_verify(&mut self, source: usize) {
        self.set_conn(source, ConnState::VerifyS);
        self.set_conn(1 - source, ConnState::VerifyT);
        for (at, side) in [(1 - source, Side::Target), (source, Side::Source)] {
            self.nodes[at].order(&Order::StartVerify {
                volume: V,
                side,
                start: Sector(0),
                stop: Sector(u64::MAX),
            });
        }
    }

    /// Plays the control plane.
    fn control(&mut self, at: usize) -> bool {
        let upcalls = core::mem::take(&mut self.nodes[at].upcalls);
        let worked = !upcalls.is_empty();
        for upcall in upcalls {
            match upcall {
                Upcall::BitmapSent(_) => {}
                Upcall::BitmapReceived(_) => {
                    self.bitmaps[at] = true;
                    if at != self.source {
                        self.nodes[at].order(&Order::SendBitmap(V));
                        self.set_conn(at, ConnState::WfSyncUuid);
                    } else {
                        self.start_sync(at);
                    }
                }
                Upcall::ResyncDone { failed_bits, .. } => {
                    assert!(self.may_fail || failed_bits == 0);
                    self.failed_bits = failed_bits;
                    self.end_sync(at);
                }
                Upcall::VerifyDone { .. } => {
                    self.verified += 1;
                    self.nodes[at].order(&Order::StopResync(V));
                    self.set_conn(at, ConnState::Connected);
                }
                Upcall::LinkFailed(error) => assert!(self.nodes[at].broken, "{error:?}"),
                Upcall::PeerIoDrained => {
                    self.nodes[at].upcalls.push(upcall);
                    if self.nodes[at].upcalls.len() == 1 {
                        return false;
                    }
                }
                Upcall::LocalIoFailed { error, .. } => self.disk_errors.push((at, error)),
                Upcall::Idle(_)
                | Upcall::BitmapWriteDue(_)
                | Upcall::Congested(_)
                | Upcall::Uncongested(_)
                | Upcall::PingWanted
                | Upcall::TookWrites(_) => {}
            }
        }
        worked
    }

    /// What the ping at the end of a resync guarantees: the source has seen every ack.
    fn end_sync(&mut self, target: usize) {
        let source = 1 - target;
        while self.nodes[target].send_acks() {}
        self.deliver_acks(target, true);
        self.nodes[source].order(&Order::CheckResyncDone {
            volume: V,
            failed: false,
        });
        for at in [target, source] {
            self.nodes[at].order(&Order::StopResync(V));
            self.state[at].conn = ConnState::Connected;
            self.state[at].disk = DiskState::UpToDate;
            self.state[at].pdsk = DiskState::UpToDate;
            self.publish(at);
        }
        self.synced = true;
    }

    fn deliver_acks(&mut self, from: usize, all: bool) -> bool {
        let mut stream = core::mem::take(&mut self.nodes[from].meta_out);
        let mut worked = false;
        while self.nodes[1 - from].receive_ack(&mut stream) {
            worked = true;
            if !all {
                break;
            }
        }
        self.nodes[from].meta_out = stream;
        worked
    }

    /// One event somewhere.
    pub(crate) fn step(&mut self, at: usize, kind: u64) -> bool {
        match kind {
            0 => self.nodes[at].send(),
            1 => {
                let ok = self.connected;
                self.nodes[at].report_sent(ok)
            }
            2 => self.nodes[at].send_acks(),
            3 if self.connected => {
                let mut stream = core::mem::take(&mut self.nodes[1 - at].data_out);
                let worked = self.nodes[at].receive(&mut stream);
                self.nodes[1 - at].data_out = stream;
                worked
            }
            4 if self.connected => self.deliver_acks(1 - at, false),
            5 => self.nodes[at].fetch_peer_io(),
            6 => {
                let jobs = self.nodes[at].jobs.len() as u64;
                if jobs == 0 {
                    return false;
                }
                let number = self.chance(jobs) as usize;
                self.nodes[at].run_job(number);
                true
            }
            7 => self.nodes[at].al_step(),
            8 => self.nodes[at].housekeeping(),
            9 => self.control(at),
            _ => false,
        }
    }

    pub(crate) fn random_steps(&mut self, count: u32) {
        for _ in 0..count {
            let kind = self.chance(10);
            let at = self.chance(2) as usize;
            self.advance_clock(Duration(10_000));
            self.step(at, kind);
        }
    }

    pub(crate) fn advance_clock(&mut self, span: Duration) {
        self.now = self.now.after(span);
        for node in &mut self.nodes {
            node.now = self.now;
            if node.data.next_timeout().is_some_and(|at| at <= self.now) {
                node.data.on_timer(self.now);
            }
        }
    }

    /// Runs until nothing happens any more while no time passes.
    pub(crate) fn settle_at_once(&mut self) {
        while (0..20).fold(false, |worked, n| {
            worked | self.step(n as usize / 10, n % 10)
        }) {}
    }

    /// Runs until nothing happens any more; must come to an end.
    pub(crate) fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..2_000_000 {
            let mut worked = false;
            for at in 0..2 {
                for kind in 0..10 {
                    worked |= self.step(at, kind);
                }
            }
            self.advance_clock(Duration::from_millis(1));
            quiet = if worked { 0 } else { quiet + 1 };
            if quiet > 50 {
                return;
            }
        }
        panic!("no end in sight");
    }

    fn bio(&mut self, op: Op, sector: u64, sectors: u64) -> Bio {
        let number = self.next_number;
        self.next_number += 1;
        let mut data = Vec::new();
        if op == Op::Write {
            for sector in 0..sectors {
                let mut block = [0_u8; 512];
                for (at, byte) in block.iter_mut().enumerate() {
                    *byte = (number
                        .wrapping_mul(31)
                        .wrapping_add(sector + at as u64 / 64)) as u8;
                }
                block[..8].copy_from_slice(&number.to_le_bytes());
                data.extend_from_slice(&block);
            }
        }
        if op.is_write() && op != Op::Flush {
            self.writes.push((number, sector, sectors));
        }
        let bits = self.chance(16);
        let io = AppIo {
            volume: V,
            op,
            sector: Sector(sector),
            len_bytes: (sectors * 512) as u32,
            fua: op == Op::Write && bits & 3 == 0,
            preflush: op == Op::Write && bits & 12 == 0,
            sync: false,
            may_unmap: true,
            read_ahead: false,
        };
        Bio { io, data, number }
    }

    pub(crate) fn write(&mut self, at: usize, sector: u64, sectors: u64) -> u64 {
        let bio = self.bio(Op::Write, sector, sectors);
        let number = bio.number;
        self.nodes[at].submit(bio);
        number
    }

    pub(crate) fn flush(&mut self, at: usize) {
        let bio = self.bio(Op::Flush, 0, 0);
        self.nodes[at].submit(bio);
    }

    pub(crate) fn read(&mut self, at: usize, sector: u64, sectors: u64) -> u64 {
        let bio = self.bio(Op::Read, sector, sectors);
        let number = bio.number;
        self.nodes[at].submit(bio);
        number
    }

    fn random_range(&mut self) -> (u64, u64) {
        let len = match self.chance(10) {
            0 => 1 + self.chance(255),
            1..=3 => 1 + self.chance(16),
            _ => 8,
        };
        // A few hot places make overlaps likely.
        let start = match self.chance(3) {
            0 => self.chance(64),
            _ => self.chance(self.sectors),
        };
        (start.min(self.sectors - len), len)
    }

    pub(crate) fn random_io(&mut self, at: usize) {
        let (sector, sectors) = self.random_range();
        let op = match self.chance(12) {
            0 => Op::Flush,
            1..=2 => Op::Read,
            _ => Op::Write,
        };
        let (sector, sectors) = if op == Op::Flush {
            (0, 0)
        } else {
            (sector, sectors)
        };
        let bio = self.bio(op, sector, sectors);
        self.nodes[at].submit(bio);
    }

    pub(crate) fn random_io_read(&mut self, at: usize) {
        let (sector, sectors) = self.random_range();
        let bio = self.bio(Op::Read, sector, sectors);
        self.nodes[at].submit(bio);
    }

    pub(crate) fn random_discard(&mut self, at: usize, op: Op) {
        let (sector, _) = self.random_range();
        let sectors = (1 + self.chance(9000)).min(self.sectors - sector);
        let bio = self.bio(op, sector, sectors);
        self.nodes[at].submit(bio);
    }

    pub(crate) fn fill(&mut self, at: usize) {
        for (number, block) in self.nodes[at].disk.current.chunks_mut(512).enumerate() {
            block[..8].copy_from_slice(&(number as u64 ^ 0x5a5a).to_le_bytes());
        }
        self.nodes[at].disk.flush();
    }

    pub(crate) fn check_equal(&self) {
        let (one, two) = (&self.nodes[0].disk.current, &self.nodes[1].disk.current);
        for (number, (a, b)) in one.chunks(4096).zip(two.chunks(4096)).enumerate() {
            assert!(
                a == b,
                "block {number} differs, bits {} {}, writes {:?} {:?}",
                self.nodes[0].is_set(number as u64),
                self.nodes[1].is_set(number as u64),
                &a[..8],
                &b[..8]
            );
        }
    }

    /// Whatever differs is marked on the first node.
    pub(crate) fn check_marked(&self) {
        let (one, two) = (&self.nodes[0].disk.current, &self.nodes[1].disk.current);
        for (number, (a, b)) in one.chunks(4096).zip(two.chunks(4096)).enumerate() {
            let marked = self.nodes[0].is_set(number as u64);
            assert!(a == b || marked, "block {number} differs and is not marked");
        }
    }

    /// Returns the numbers of the writes that have been reported as done.
    pub(crate) fn done_writes(&mut self) -> Vec<u64> {
        while self.nodes[0].housekeeping() {}
        self.nodes[0]
            .results
            .iter()
            .filter(|(_, r)| r.is_ok())
            .map(|(n, _)| *n)
            .collect()
    }

    /// What was written once and reported as done is on the second node's disk.
    pub(crate) fn check_promised(&self, done: &[u64]) {
        let mut seen = vec![0_u64; self.sectors as usize];
        let mut times = vec![0_u32; self.sectors as usize];
        for (number, sector, sectors) in &self.writes {
            for at in *sector..*sector + *sectors {
                seen[at as usize] = *number;
                times[at as usize] += 1;
            }
        }
        let done: std::collections::HashSet<u64> = done.iter().copied().collect();
        for (sector, number) in seen.iter().enumerate() {
            if times[sector] == 1 && done.contains(number) {
                let bytes = &self.nodes[1].disk.current[sector * 512..sector * 512 + 8];
                assert_eq!(bytes, number.to_le_bytes(), "sector {sector}");
            }
        }
    }

    /// Whatever the first node has forgotten about would survive a power failure of the second.
    pub(crate) fn check_stable(&self) {
        let mut busy = vec![false; self.sectors as usize];
        for bio in self.nodes[0]
            .bios
            .values()
            .filter(|bio| bio.io.op != Op::Read)
        {
            let start = bio.io.sector.0 as usize;
            for sector in &mut busy[start..start + bio.io.len_bytes as usize / 512] {
                *sector = true;
            }
        }
        for (sector, busy) in busy.into_iter().enumerate() {
            let at = sector * 512;
            let one = &self.nodes[0].disk.current[at..at + 512];
            let two = &self.nodes[1].disk.stable[at..at + 512];
            let marked = self.nodes[0].is_set(sector as u64 / 8);
            assert!(
                busy || marked || one == two,
                "sector {sector} is not stable"
            );
        }
    }

    /// Every write that is with the disk or the peer is covered by the log on disk.
    pub(crate) fn check_al(&self) {
        let node = &self.nodes[0];
        for job in &node.jobs {
            let super::node::Job::App(id, _) = job else {
                continue;
            };
            let io = node.bios[&id.slot].io;
            if !io.op.is_write() || io.op == Op::Flush {
                continue;
            }
            let last = io.sector.0 + u64::from(io.len_bytes) / 512 - 1;
            for extent in io.sector.0 >> 13..=last >> 13 {
                let covered = node.al_disk.values().any(|e| u64::from(*e) == extent);
                assert!(covered, "extent {extent} is not in the log");
            }
        }
    }

    /// The whole device, read through this node, is what the other node's disk holds.
    pub(crate) fn check_reads(&mut self, at: usize) {
        self.nodes[at].read_back.clear();
        for sector in (0..self.sectors).step_by(64) {
            let len = 64.min(self.sectors - sector);
            let bio = self.bio(Op::Read, sector, len);
            self.nodes[at].submit(bio);
            self.random_steps(20);
        }
        self.settle();
        let other = &self.nodes[1 - at].disk.current;
        let mut seen = 0;
        for (io, data) in self.nodes[at].read_back.values() {
            let start = io.sector.0 as usize * 512;
            assert!(data[..] == other[start..start + io.len_bytes as usize]);
            seen += data.len();
        }
        assert_eq!(seen, other.len());
    }

    /// Nothing is left over.
    pub(crate) fn check_idle(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            let counters = node.data.counters(V);
            assert!(
                node.bios.is_empty(),
                "node {at}: {} requests",
                node.bios.len()
            );
            assert!(node.waiting.is_empty(), "node {at}: submitters");
            assert!(node.pages.is_empty(), "node {at}: pages");
            assert!(node.jobs.is_empty() && node.tokens.is_empty());
            assert!(node.data_out.is_empty() && node.meta_out.is_empty());
            assert_eq!(counters.local, 0, "node {at}: {counters:?}");
            assert_eq!(counters.pending, 0, "node {at}: {counters:?}");
            assert_eq!(counters.unacked, 0, "node {at}: {counters:?}");
            assert_eq!(counters.app, 0, "node {at}: {counters:?}");
            assert_eq!(counters.epochs, 1, "node {at}: {counters:?}");
            assert_eq!(counters.al_used, 0, "node {at}: {counters:?}");
        }
    }
}
