//! How fast a resync may ask for data.
//!
//! Two limits: a window (sectors asked for and not yet answered), refilled by answers, and a token
//! bucket filled at `c-max-rate` (or at the fixed `resync-rate` if `c-plan-ahead` is 0). The window
//! opens as long as answers come back, up to half of `max-buffers` and to what was answered within
//! `c-delay-target`, and falls back to `c-fill-target` when application I/O competes for the disk;
//! then not more than `c-min-rate` is asked for. Compared with `reference/io.md` 6.3 the plan per
//! 100 ms tick is replaced by the window, the limits and their options are the same.

use crate::config::DiskConfig;
use crate::time::{Duration, Instant};

/// Sectors of the window at the start, and of the smallest one on a link that is fast enough: one
/// request of the largest size.
const WINDOW_MIN: u32 = 2048;
/// Sectors of the smallest window on a slow link. Writes of applications wait behind what is in
/// flight, for all volumes that are being synced.
const WINDOW_SLOW: u32 = 128;
/// Span over which the speed of answers is measured.
const MEASURE_MS: u64 = 500;
/// Time that application I/O counts as present after it was last seen.
const APP_MEMORY: Duration = Duration::from_millis(100);
/// Sectors of application I/O within [`APP_MEMORY`] that count as competition.
const APP_SECTORS: u32 = 64;
const NS_PER_SEC: u64 = 1_000_000_000;
/// Span for which unused tokens are saved.
const BURST_MS: u64 = 100;

fn short(sectors: u64) -> u32 {
    u32::try_from(sectors).unwrap_or(u32::MAX)
}

/// What may be asked for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Allowance {
    /// So many sectors, at least 8.
    Sectors(u64),
    /// Nothing before an answer arrives.
    Window,
    /// Nothing before this time.
    Until(Instant),
}

/// State of the two limits. Sectors are in 32 bits: a shell has it on its stack, for each volume.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    window: u32,
    /// What was answered within `c-delay-target` when it was measured last.
    window_timely: u32,
    measured: u32,
    tokens: u32,
    app_sectors: u32,
    competing: bool,
    measured_since: Instant,
    filled: Instant,
    app_since: Instant,
    /// Rate wanted at present, KiB/s, for display.
    pub wanted_kib: u64,
}

impl Rate {
    /// Starts with a small window and no tokens used.
    pub fn new(now: Instant, config: &DiskConfig) -> Self {
        Self {
            window: WINDOW_MIN.max(config.c_fill_target),
            window_timely: u32::MAX,
            measured: 0,
            tokens: WINDOW_MIN,
            app_sectors: 0,
            competing: false,
            measured_since: now,
            filled: now,
            app_since: now,
            wanted_kib: u64::from(config.resync_rate_kib),
        }
    }

    /// Application I/O of this size went to the disk.
    #[inline]
    pub fn application(&mut self, sectors: u64, now: Instant) {
        if now.since(self.app_since) > APP_MEMORY {
            self.competing = self.app_sectors > APP_SECTORS;
            self.app_since = now;
            self.app_sectors = 0;
        }
        self.app_sectors = self.app_sectors.saturating_add(short(sectors));
        self.competing |= self.app_sectors > APP_SECTORS;
    }

    /// An answer for so many sectors arrived.
    #[inline]
    pub fn answered(&mut self, sectors: u64) {
        self.measured = self.measured.saturating_add(short(sectors));
        if !self.competing {
            self.window = self.window.saturating_add(short(sectors));
        }
    }

    fn competes(&mut self, now: Instant) -> bool {
        if now.since(self.app_since).0 > 2 * APP_MEMORY.0 {
            self.competing = false;
            self.app_sectors = 0;
        }
        self.competing
    }

    /// What takes longer than `c-delay-target` to be answered is not there earlier for being asked
    /// now. If everything has been answered the span says nothing about the link.
    fn measure(&mut self, now: Instant, config: &DiskConfig, in_flight: u64) {
        let passed_ms = now.since(self.measured_since).as_millis();
        if passed_ms < MEASURE_MS {
            return;
        }
        let target_ms = u64::from(config.c_delay_target_tenths) * 100;
        let timely = u64::from(self.measured) * target_ms / passed_ms;
        let least = if in_flight == 0 {
            self.window_timely
        } else {
            WINDOW_SLOW
        };
        self.window_timely = short(timely).max(least);
        self.measured = 0;
        self.measured_since = now;
    }

    /// Takes the tokens of the time that has passed, whole sectors of them: what is left of it
    /// counts the next time, however often that is.
    fn fill(&mut self, now: Instant, rate: u64, burst: u32) {
        let full_ns = u64::from(burst) * NS_PER_SEC / rate;
        let passed_ns = now.since(self.filled).0;
        if passed_ns >= full_ns {
            self.tokens = burst;
            self.filled = now;
            return;
        }
        let gained = passed_ns * rate / NS_PER_SEC;
        self.tokens = self.tokens.saturating_add(short(gained)).min(burst);
        let used_ns = (gained * NS_PER_SEC).div_ceil(rate);
        self.filled = self.filled.after(Duration(used_ns));
    }

    /// Returns what may be asked for, given what is in flight and the limit that `max-buffers`
    /// sets, both in sectors.
    pub fn allowance(
        &mut self,
        now: Instant,
        config: &DiskConfig,
        in_flight: u64,
        window_max: u64,
    ) -> Allowance {
        let mut rate_kib = if config.c_plan_ahead_tenths == 0 {
            u64::from(config.resync_rate_kib)
        } else {
            u64::from(config.c_max_rate_kib)
        };
        if config.c_min_rate_kib != 0 && self.competes(now) {
            rate_kib = rate_kib.min(u64::from(config.c_min_rate_kib));
            self.window = WINDOW_MIN.max(config.c_fill_target);
        }
        self.wanted_kib = rate_kib;
        let window_max = short(window_max.max(8));
        self.measure(now, config, in_flight);
        let most = window_max.max(WINDOW_MIN).min(self.window_timely);
        self.window = self.window.min(most);
        let rate = rate_kib.max(1) * 2;
        let burst = short(rate * BURST_MS / 1000).max(WINDOW_MIN);
        self.fill(now, rate, burst);
        let room = self.window.min(window_max);
        let room = room.saturating_sub(short(in_flight)) & !7;
        if room == 0 {
            return Allowance::Window;
        }
        // Small requests cost as much as large ones: wait for a useful amount.
        let useful = (burst / 4).clamp(8, WINDOW_MIN);
        if self.tokens < useful {
            let missing_ms = u64::from(useful - self.tokens) * 1000 / rate + 1;
            return Allowance::Until(now.after(Duration::from_millis(missing_ms)));
        }
        Allowance::Sectors(u64::from(room.min(self.tokens & !7)))
    }

    /// So many sectors have been asked for.
    #[inline]
    pub fn asked(&mut self, sectors: u64) {
        self.tokens = self.tokens.saturating_sub(short(sectors));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers arrive after 1 ms; returns KiB per second over `seconds`.
    fn run(config: &DiskConfig, seconds: u64, app: bool) -> u64 {
        let mut rate = Rate::new(Instant(0), config);
        let mut done = 0;
        let mut in_flight = 0;
        for ms in 0..seconds * 1000 {
            let now = Instant(ms * 1_000_000);
            rate.answered(in_flight);
            done += in_flight;
            in_flight = 0;
            if app {
                rate.application(16, now);
            }
            while let Allowance::Sectors(n) = rate.allowance(now, config, in_flight, 8192) {
                rate.asked(n);
                in_flight += n;
            }
        }
        done / 2 / seconds
    }

    #[test]
    fn applications_compete_beyond_a_limit_and_for_a_while() {
        let ms = |at: u64| Instant(at * 1_000_000);
        let rate = |sectors| {
            let mut rate = Rate::new(ms(0), &DiskConfig::DEFAULT);
            rate.application(u64::from(sectors), ms(0));
            rate
        };
        let mut few = rate(APP_SECTORS);
        assert!(!few.competes(ms(0)));
        few.application(1, ms(101));
        assert!(!few.competes(ms(101)), "neither before nor since");
        let mut many = rate(APP_SECTORS);
        many.application(1, ms(100));
        assert!(many.competes(ms(200)), "twice the time is not over");
        assert!(!many.competes(ms(201)));
        let mut before = rate(APP_SECTORS + 1);
        before.application(1, ms(101));
        assert!(before.competes(ms(101)), "they did a moment ago");
        before.application(1, ms(202));
        assert!(!before.competes(ms(202)));
    }

    #[test]
    fn the_maximum_rate_is_reached_and_kept() {
        let config = DiskConfig {
            c_max_rate_kib: 50_000,
            ..DiskConfig::DEFAULT
        };
        let measured = run(&config, 5, false);
        assert!((45_000..=51_500).contains(&measured), "{measured} KiB/s");
    }

    /// What is asked for in a while, all of it answered at once, if there is an occasion to ask
    /// every `step_us`; in KiB per second.
    fn asked_every(step_us: u64, seconds: u64, config: &DiskConfig) -> u64 {
        let mut rate = Rate::new(Instant(0), config);
        let mut done = 0;
        for step in 0..seconds * 1_000_000 / step_us {
            let now = Instant(step * step_us * 1000);
            while let Allowance::Sectors(n) = rate.allowance(now, config, 0, 8192) {
                rate.asked(n);
                rate.answered(n);
                done += n;
            }
        }
        done / 2 / seconds
    }

    #[test]
    fn a_rate_does_not_depend_on_how_often_there_is_an_occasion_to_ask() {
        for rate_kib in [10, 250, 999, 4000, 50_000, 102_400] {
            let config = DiskConfig {
                c_max_rate_kib: rate_kib,
                ..DiskConfig::DEFAULT
            };
            for step_us in [100, 700, 1000, 1900, 3000, 17_300] {
                let seconds = if rate_kib == 10 { 600 } else { 20 };
                let measured = asked_every(step_us, seconds, &config);
                let rate = u64::from(rate_kib);
                assert!(
                    (rate * 9 / 10..=rate * 11 / 10 + 60).contains(&measured),
                    "{measured} of {rate} KiB/s, asked every {step_us} us"
                );
            }
        }
    }

    #[test]
    fn the_fixed_rate_is_kept_without_a_plan() {
        let config = DiskConfig {
            c_plan_ahead_tenths: 0,
            resync_rate_kib: 4000,
            ..DiskConfig::DEFAULT
        };
        let measured = run(&config, 10, false);
        assert!((3600..=4400).contains(&measured), "{measured} KiB/s");
    }

    #[test]
    fn application_io_throttles_to_the_minimum_rate_which_can_be_switched_off() {
        let config = DiskConfig {
            c_min_rate_kib: 2000,
            ..DiskConfig::DEFAULT
        };
        let measured = run(&config, 10, true);
        assert!((1600..=3000).contains(&measured), "{measured} KiB/s");
        let config = DiskConfig {
            c_min_rate_kib: 0,
            ..DiskConfig::DEFAULT
        };
        assert!(run(&config, 3, true) > 80_000);
    }

    /// Answers arrive in order, over a link for so many sectors a second. Returns what is in flight
    /// at most, once the first window is answered, and what was answered each second.
    fn over_link(link: u64, seconds: u64, config: &DiskConfig) -> (u64, u64) {
        let mut rate = Rate::new(Instant(0), config);
        let (mut in_flight, mut most, mut done, mut budget) = (0, 0, 0, 0);
        for ms in 0..seconds * 1000 {
            let now = Instant(ms * 1_000_000);
            budget += link;
            let arrived = (budget / 1000).min(in_flight);
            budget = if arrived < in_flight {
                budget - arrived * 1000
            } else {
                0
            };
            rate.answered(arrived);
            in_flight -= arrived;
            done += arrived;
            while let Allowance::Sectors(n) = rate.allowance(now, config, in_flight, 8192) {
                rate.asked(n);
                in_flight += n;
            }
            most = if ms < 110_000 { 0 } else { most.max(in_flight) };
        }
        (most, done / seconds)
    }

    /// Seed 1084853: two volumes had 8 MiB under way, and a write waited behind them for longer
    /// than `ko-count` allows.
    #[test]
    fn no_more_is_in_flight_than_is_answered_within_the_delay_target() {
        let config = DiskConfig::DEFAULT;
        for (link, most_expected) in [(20, 128), (200, 250), (2000, 2500), (4000, 5000)] {
            let (most, speed) = over_link(link, 200, &config);
            assert!(most <= most_expected, "{most} in flight, {link} a second");
            assert!(speed >= link * 9 / 10, "{speed} of {link} a second");
        }
        let config = DiskConfig {
            c_delay_target_tenths: 2,
            ..DiskConfig::DEFAULT
        };
        let (most, speed) = over_link(4000, 200, &config);
        assert!(most <= 1000 && speed >= 3600, "{most}, {speed}");
    }

    /// What may be asked for after so many milliseconds, with so much in flight.
    fn asks(config: &DiskConfig, ms: u64, in_flight: u64, window_max: u64) -> Allowance {
        let mut rate = Rate::new(Instant(0), config);
        rate.asked(u64::from(WINDOW_MIN));
        rate.answered(10_000);
        let now = Instant(ms * 1_000_000);
        rate.allowance(now, config, in_flight, window_max)
    }

    #[test]
    fn tokens_come_with_time_and_room_with_answers() {
        use Allowance::{Sectors, Until, Window};
        let at = |ms: u64| Until(Instant(ms * 1_000_000));
        // 16 sectors in a millisecond.
        let config = DiskConfig {
            c_max_rate_kib: 8000,
            ..DiskConfig::DEFAULT
        };
        for (ms, in_flight, window_max, expected) in [
            (0, 0, 8192, at(33)),
            (31, 0, 8192, at(33)),
            (32, 0, 8192, Sectors(512)),
            (33, 0, 8192, Sectors(528)),
            (100, 0, 8192, Sectors(1600)),
            (1000, 0, 8192, Sectors(2048)),
            (1000, 7000, 8192, Sectors(1192)),
            (1000, 8184, 8192, Sectors(8)),
            (1000, 8185, 8192, Window),
            (1000, 0, 0, Sectors(8)),
            (1000, 100, 1000, Sectors(896)),
        ] {
            let found = asks(&config, ms, in_flight, window_max);
            assert_eq!(found, expected, "{ms} ms, {in_flight} of {window_max}");
        }
        // Fast enough for more than one large request in a burst.
        let config = DiskConfig {
            c_max_rate_kib: 100_000,
            ..DiskConfig::DEFAULT
        };
        assert_eq!(asks(&config, 10, 0, 1 << 20), at(11));
        assert_eq!(asks(&config, 30, 0, 1 << 20), Sectors(6000));
        assert_eq!(asks(&config, 500, 0, 1 << 20), Sectors(12_048));
    }

    #[test]
    fn applications_compete_while_they_write_much_and_a_while_longer() {
        for (sectors, times, gap_ms, later_ms, competes) in [
            (64, 1, 0, 1, false),
            (65, 1, 0, 1, true),
            (8, 8, 10, 1, false),
            (8, 9, 10, 1, true),
            (65, 1, 0, 200, true),
            (65, 1, 0, 201, false),
            // What was written in the moment before counts in the next one as well.
            (40, 4, 90, 1, true),
            (40, 4, 101, 1, false),
        ] {
            let config = DiskConfig::DEFAULT;
            let mut rate = Rate::new(Instant(0), &config);
            let mut now = 0;
            for number in 0..times {
                now = number * gap_ms * 1_000_000;
                rate.application(sectors, Instant(now));
            }
            now += later_ms * 1_000_000;
            let _ = rate.allowance(Instant(now), &config, 0, 8192);
            let wanted = if competes { 250 } else { 102_400 };
            assert_eq!(
                rate.wanted_kib, wanted,
                "{times} times {sectors} sectors, {gap_ms} ms apart, {later_ms} ms ago"
            );
        }
    }

    #[test]
    fn the_window_never_exceeds_its_limit() {
        let config = DiskConfig::DEFAULT;
        let mut rate = Rate::new(Instant(0), &config);
        rate.answered(1 << 30);
        let now = Instant(1_000_000_000);
        match rate.allowance(now, &config, 100, 128) {
            Allowance::Sectors(sectors) => assert!(sectors <= 28),
            other => panic!("{other:?}"),
        }
        assert_eq!(rate.allowance(now, &config, 128, 128), Allowance::Window);
    }
}
