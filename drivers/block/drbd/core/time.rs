//! Points in time and spans of time, in nanoseconds, as the shell hands them in.
//!
//! The core has no clock. Every call that may depend on time carries the present [`Instant`].

/// A point on the shell's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Instant(pub u64);

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Duration(pub u64);

impl Instant {
    /// Returns the point `span` later, or the end of time.
    #[inline]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Returns the time that passed since `earlier`, zero if that lies in the future.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Returns a span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Returns a span of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Returns a span given in the tenths of a second that options use.
    pub const fn from_tenths(tenths: u32) -> Self {
        // CAST: Widening, `as` because `From` is not const.
        Self::from_millis((tenths as u64).saturating_mul(100))
    }

    /// Returns the whole seconds in this span.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Returns the whole milliseconds in this span.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Returns this span `times` over.
    pub const fn times(self, times: u32) -> Self {
        // CAST: Widening, `as` because `From` is not const.
        Self(self.0.saturating_mul(times as u64))
    }
}

/// Returns the earlier of two deadlines; `None` means never.
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_wraps() {
        assert_eq!(
            Instant(u64::MAX).after(Duration::from_secs(1)),
            Instant(u64::MAX)
        );
        assert_eq!(Instant(1).since(Instant(2)), Duration::ZERO);
        assert_eq!(Duration::from_tenths(5).as_millis(), 500);
        assert_eq!(earliest(None, Some(Instant(3))), Some(Instant(3)));
        assert_eq!(
            earliest(Some(Instant(2)), Some(Instant(3))),
            Some(Instant(2))
        );
    }
}
