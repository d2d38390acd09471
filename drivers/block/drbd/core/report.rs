//! What operators and tools are told: numbers of resources and volumes, the text of `/proc/drbd`
//! (`reference/states.md` 2).

use core::fmt::{self, Write};

use drbd_format::state_word::{StateWord, VolumeState};
use drbd_format::types::{ConnState, DiskState, Protocol, Role, WriteOrdering};

use crate::data::Counters;
use crate::resync::session::{Mark, Session, MARKS};
use crate::time::{Duration, Instant};

/// State of a resource as the tools see it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ResourceStatus {
    /// Highest role of the volumes, by number.
    pub role: u8,
    /// Highest role of the peer's volumes, by number.
    pub peer_role: u8,
    /// State of the connection, 0 to 9.
    pub connection: u8,
    /// Application I/O is suspended by the administrator.
    pub susp: bool,
    /// Suspended for lack of data.
    pub susp_nod: bool,
    /// Suspended until the peer is fenced.
    pub susp_fen: bool,
    /// 0 none, 1 drain, 2 flush.
    pub write_ordering: u8,
}

/// What the metadata of a volume say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MetadataStatus {
    /// Current, bitmap, younger and older history.
    pub uuids: [u64; 4],
    /// Flags of the superblock.
    pub flags: u32,
}

/// State of a volume as the tools see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeStatus {
    /// Packed state word with the flags of the resource in it.
    pub word: u32,
    /// Size of the device.
    pub capacity_sectors: u64,
    /// Generation of the data last in use.
    pub exposed_uuid: u64,
    /// `None` unless the disk is at least Inconsistent.
    pub metadata: Option<MetadataStatus>,
    /// Bits of the bitmap.
    pub bits_total: u64,
    /// Bits to do in the present resync or verify.
    pub resync_total: u64,
    /// Bits that could not be synced.
    pub resync_failed: u64,
    /// Counters.
    pub counters: Counters,
    /// New application I/O would have to wait now.
    pub blocked: bool,
    /// Which startup timeout applies: 0 default, 1 degraded, 2 peer outdated.
    pub timeout_type: u32,
}

impl VolumeStatus {
    /// Returns the state of the own disk.
    pub fn disk(&self) -> DiskState {
        VolumeState::from_word(StateWord(self.word)).map_or(DiskState::Diskless, |state| state.disk)
    }
}

/// How far a resync or verify is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// A verify, not a resync.
    pub verify: bool,
    /// Bits to do in this run.
    pub total: u64,
    /// Bits still to do.
    pub left: u64,
    /// When it began.
    pub started: Instant,
    /// Time paused since.
    pub paused: Duration,
    /// Points in time with the bits left then.
    pub marks: [Mark; MARKS],
    /// The newest mark.
    pub last_mark: usize,
    /// Wanted rate in KiB/s; `None` on the side that only answers.
    pub wanted_kib: Option<u64>,
    /// Next bit to be looked at.
    pub position: u64,
    /// Bits of the bitmap.
    pub bits: u64,
    /// Sector at which a verify stops, if one was given that counts.
    pub stop_sector: Option<u64>,
}

impl Progress {
    /// Takes the numbers from a running session. `set` bits of the bitmap are set.
    pub fn of(session: &Session, verify: bool, asks: bool, set: u64, bits: u64) -> Self {
        let left = if verify {
            session.verify_left
        } else {
            set.saturating_sub(session.failed)
        };
        let position = if verify {
            bits.saturating_sub(left)
        } else {
            session.position.0
        };
        let stop = session.stop.0.saturating_mul(8);
        Self {
            verify,
            total: session.total,
            left,
            started: session.started,
            paused: session.paused,
            marks: session.marks,
            last_mark: session.last_mark(),
            wanted_kib: asks.then_some(session.rate.wanted_kib),
            position,
            bits,
            stop_sector: (verify && session.stop.0 < bits).then_some(stop),
        }
    }

    /// Returns the bits left, capped, and the share done in thousandths.
    fn share(&self) -> (u64, u64) {
        if self.left > self.total {
            return (self.total, if self.total == 0 { 1000 } else { 0 });
        }
        let shift = if self.total > u64::from(u32::MAX) {
            16
        } else {
            10
        };
        let whole = (self.total >> shift).saturating_add(1);
        let part = (self.left >> shift)
            .saturating_mul(1000)
            .checked_div(whole)
            .unwrap_or(0);
        (self.left, 1000_u64.saturating_sub(part))
    }

    fn mark(&self, ahead: usize) -> Mark {
        let at = self
            .last_mark
            .wrapping_add(ahead)
            .checked_rem(MARKS)
            .unwrap_or(0);
        self.marks.get(at).copied().unwrap_or_default()
    }

    /// Returns rate in KiB/s since a mark, the seconds left, and whether nothing has moved for
    /// three minutes.
    fn speed(&self, ahead: usize, left: u64, now: Instant) -> (u64, u64, bool) {
        let mark = self.mark(ahead);
        let seconds = now.since(mark.at).as_secs();
        let stalled = seconds > 180;
        let seconds = seconds.max(1);
        let done = mark.left.saturating_sub(left);
        let rate = done.checked_div(seconds).unwrap_or(0).saturating_mul(4);
        let unit = (done / 100).saturating_add(1);
        let time = seconds
            .saturating_mul(left.checked_div(unit).unwrap_or(0))
            .checked_div(100)
            .unwrap_or(0);
        (rate, time, stalled)
    }

    /// Writes the progress lines (`reference/states.md` 2.3).
    fn write(&self, now: Instant, details: i32, out: &mut dyn Write) -> fmt::Result {
        let (left, share) = self.share();
        let bar = share / 50;
        out.write_str("\t[")?;
        for _ in 1..bar {
            out.write_char('=')?;
        }
        out.write_char('>')?;
        for _ in bar..20 {
            out.write_char('.')?;
        }
        let what = if self.verify { "verified:" } else { "sync'ed:" };
        let (whole, tenth) = (share / 10, share % 10);
        write!(out, "] {what}{whole:3}.{tenth}% ")?;
        if self.total > 1 << 20 {
            let mib = |bits: u64| (bits >> 10).saturating_mul(4);
            writeln!(out, "({}/{})M", mib(left), mib(self.total))?;
        } else {
            let kib = |bits: u64| bits.saturating_mul(4);
            writeln!(out, "({}/{})K", kib(left), kib(self.total))?;
        }
        self.write_speed(left, now, details, out)?;
        if details >= 1 {
            self.write_position(out)?;
        }
        Ok(())
    }

    fn write_speed(
        &self,
        left: u64,
        now: Instant,
        details: i32,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let (rate, time, stalled) = self.speed(2, left, now);
        let (hours, minutes, seconds) = (time / 3600, time / 60 % 60, time % 60);
        write!(
            out,
            "\tfinish: {hours}:{minutes:02}:{seconds:02} speed: {} (",
            Grouped(rate)
        )?;
        if details >= 1 {
            let (short, _, _) = self.speed(7, left, now);
            write!(out, "{} -- ", Grouped(short))?;
        }
        let ran = now
            .since(self.started)
            .as_secs()
            .saturating_sub(self.paused.as_secs())
            .max(1);
        let average = self
            .total
            .saturating_sub(left)
            .checked_div(ran)
            .unwrap_or(0)
            .saturating_mul(4);
        write!(out, "{})", Grouped(average))?;
        if let Some(wanted) = self.wanted_kib {
            write!(out, " want: {}", Grouped(wanted))?;
        }
        out.write_str(" K/sec")?;
        if stalled {
            out.write_str(" (stalled)")?;
        }
        out.write_char('\n')
    }

    fn write_position(&self, out: &mut dyn Write) -> fmt::Result {
        let unit = (self.bits / 100).saturating_add(1);
        let percent = self.position.checked_div(unit).unwrap_or(0);
        let (at, all) = (self.position.saturating_mul(8), self.bits.saturating_mul(8));
        write!(out, "\t{percent:3}% sector pos: {at}/{all}")?;
        if let Some(stop) = self.stop_sector {
            write!(out, " stop sector: {stop}")?;
        }
        out.write_char('\n')
    }
}

/// A number with its thousands separated by commas.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 1_u64;
        while self.0.checked_div(unit).unwrap_or(0) >= 1000 {
            unit = unit.saturating_mul(1000);
        }
        write!(f, "{}", self.0.checked_div(unit).unwrap_or(0))?;
        while unit > 1 {
            unit /= 1000;
            write!(f, ",{:03}", self.0.checked_div(unit).unwrap_or(0) % 1000)?;
        }
        Ok(())
    }
}

/// One device of `/proc/drbd`.
#[derive(Clone, Copy, Debug)]
pub struct ProcVolume<'a> {
    /// Minor number.
    pub minor: u32,
    /// State with the flags of the resource in it.
    pub state: VolumeState,
    /// Replication protocol; `None` without a network configuration.
    pub protocol: Option<Protocol>,
    /// Counters.
    pub counters: &'a Counters,
    /// Write ordering of the resource.
    pub ordering: WriteOrdering,
    /// A running resync or verify.
    pub progress: Option<Progress>,
}

impl ProcVolume<'_> {
    /// Writes the lines of the device. `details` is the module parameter `proc_details`.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, now: Instant, details: i32, out: &mut dyn Write) -> fmt::Result {
        let (s, minor) = (&self.state, self.minor);
        if s.conn == ConnState::StandAlone
            && s.disk == DiskState::Diskless
            && s.role == Role::Secondary
        {
            return writeln!(out, "{minor:2}: cs:Unconfigured");
        }
        let protocol = match self.protocol {
            None => ' ',
            Some(Protocol::A) => 'A',
            Some(Protocol::B) => 'B',
            Some(Protocol::C) => 'C',
        };
        let mark = |set: bool, letter: char| if set { letter } else { '-' };
        let suspended = s.suspended || s.suspended_no_data || s.suspended_fencing;
        writeln!(
            out,
            "{minor:2}: cs:{} ro:{}/{} ds:{}/{} {protocol} {}{}{}{}-{}",
            s.conn.name(),
            s.role.name(),
            s.peer_role.name(),
            s.disk.name(),
            s.peer_disk.name(),
            if suspended { 's' } else { 'r' },
            mark(s.paused_by_dependency, 'a'),
            mark(s.paused_by_peer, 'p'),
            mark(s.paused_by_user, 'u'),
            mark(self.counters.al_suspended, 's'),
        )?;
        self.write_counters(out)?;
        let shown = matches!(
            s.conn,
            ConnState::SyncSource | ConnState::SyncTarget | ConnState::VerifyS | ConnState::VerifyT
        );
        match &self.progress {
            Some(progress) if shown => progress.write(now, details, out),
            Some(_) | None => Ok(()),
        }
    }

    fn write_counters(&self, out: &mut dyn Write) -> fmt::Result {
        let c = self.counters;
        writeln!(
            out,
            "    ns:{} nr:{} dw:{} dr:{} al:{} bm:{} lo:{} pe:{} ua:{} ap:{} ep:{} wo:{} oos:{}",
            c.sent_sectors / 2,
            c.received_sectors / 2,
            c.written_sectors / 2,
            c.read_sectors / 2,
            c.al_writes,
            c.bm_writes,
            c.local,
            c.pending,
            c.unacked,
            c.app,
            c.epochs,
            self.ordering.letter(),
            c.out_of_sync_bits.saturating_mul(4),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: u64) -> Instant {
        Instant(at * 1_000_000_000)
    }

    fn text(volume: &ProcVolume<'_>, now: Instant, details: i32) -> String {
        let mut out = String::new();
        volume.write(now, details, &mut out).unwrap();
        out
    }

    /// The second example of `reference/states.md` 2.5: 10,240 bits a second for 31 seconds.
    fn halfway() -> Progress {
        let mut marks = [Mark::default(); MARKS];
        for (age, mark) in marks.iter_mut().rev().enumerate() {
            let at = 31 - 1 - 3 * age as u64;
            mark.at = second(at);
            mark.left = 209_715 + 10_240 * (31 - at);
        }
        Progress {
            verify: false,
            total: 524_288,
            left: 209_715,
            started: second(0),
            paused: Duration::ZERO,
            marks,
            last_mark: MARKS - 1,
            wanted_kib: Some(102_400),
            position: 314_600,
            bits: 524_288,
            stop_sector: None,
        }
    }

    #[test]
    fn shares_and_units_change_where_they_should() {
        let of = |left, total| Progress {
            left,
            total,
            ..halfway()
        };
        let max = u64::from(u32::MAX);
        for (left, total, share) in [
            (10, 10, (10, 1000)),
            (11, 10, (10, 0)),
            (0, 0, (0, 1000)),
            (1, 0, (0, 1000)),
            (4_300_000, max, (4_300_000, 999)),
            (4_300_000, max + 1, (4_300_000, 1000)),
            (4_300_000, max + 2, (4_300_000, 1000)),
        ] {
            assert_eq!(of(left, total).share(), share, "{left} of {total}");
        }
        for (total, unit) in [(1 << 20, ")K"), ((1 << 20) + 1, ")M")] {
            let mut text = String::new();
            of(1, total).write(second(31), 0, &mut text).unwrap();
            assert!(text.contains(unit), "{text}");
        }
        let marks = [Mark {
            at: second(0),
            left: 8,
        }; MARKS];
        let still = Progress { marks, ..of(8, 8) };
        assert_eq!(still.speed(0, 8, second(180)), (0, 14, false));
        assert!(still.speed(0, 8, second(181)).2, "stalled");
    }

    #[test]
    fn a_resync_shows_as_in_the_specification() {
        let counters = Counters {
            received_sectors: 2 * 1_258_296,
            written_sectors: 2 * 1_258_292,
            pending: 6,
            epochs: 1,
            out_of_sync_bits: 209_715,
            ..Counters::default()
        };
        let volume = ProcVolume {
            minor: 0,
            state: VolumeState {
                role: Role::Secondary,
                peer_role: Role::Primary,
                conn: ConnState::SyncTarget,
                disk: DiskState::Inconsistent,
                peer_disk: DiskState::UpToDate,
                ..VolumeState::NEW
            },
            protocol: Some(Protocol::C),
            counters: &counters,
            ordering: WriteOrdering::Flush,
            progress: Some(halfway()),
        };
        assert_eq!(
            text(&volume, second(31), 0),
            " 0: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----\n    \
             ns:0 nr:1258296 dw:1258292 dr:0 al:0 bm:0 lo:0 pe:6 ua:0 ap:0 ep:1 wo:f \
             oos:838860\n\
             \t[===========>........] sync'ed: 60.3% (838860/2097152)K\n\
             \tfinish: 0:00:20 speed: 40,960 (40,588) want: 102,400 K/sec\n"
        );
        let detailed = text(&volume, second(31), 1);
        assert!(detailed.contains("speed: 40,960 (40,960 -- 40,588) want: 102,400 K/sec\n"));
        assert!(detailed.ends_with("\t 60% sector pos: 2516800/4194304\n"));
    }

    #[test]
    fn a_volume_without_anything_is_unconfigured() {
        let counters = Counters::default();
        let mut volume = ProcVolume {
            minor: 1,
            state: VolumeState::NEW,
            protocol: None,
            counters: &counters,
            ordering: WriteOrdering::Flush,
            progress: None,
        };
        assert_eq!(text(&volume, second(0), 0), " 1: cs:Unconfigured\n");
        volume.state.role = Role::Primary;
        volume.state.suspended = true;
        let shown = text(&volume, second(0), 0);
        let first = shown.lines().next().unwrap();
        assert_eq!(
            first,
            " 1: cs:StandAlone ro:Primary/Unknown ds:Diskless/DUnknown   s-----"
        );
    }

    #[test]
    fn the_bar_survives_every_number() {
        for (left, total) in [
            (0, 0),
            (5, 0),
            (10, 5),
            (0, 1),
            (1, 1),
            (u64::MAX, u64::MAX),
            (0, u64::MAX),
            (1 << 33, 1 << 34),
        ] {
            let progress = Progress {
                left,
                total,
                ..halfway()
            };
            let mut out = String::new();
            progress.write(second(1000), 1, &mut out).unwrap();
            let bar = out.find(']').unwrap() - 2;
            assert!(bar == 20 || bar == 21, "{out}");
            assert!(out.contains("(stalled)"), "{out}");
        }
    }

    #[test]
    fn thousands_are_separated() {
        let shown = |number| Grouped(number).to_string();
        assert_eq!(shown(0), "0");
        assert_eq!(shown(999), "999");
        assert_eq!(shown(1000), "1,000");
        assert_eq!(shown(999_999), "999,999");
        assert_eq!(shown(1_000_000), "1,000,000");
    }
}
