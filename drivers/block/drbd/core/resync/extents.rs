//! Extents of 16 MiB that are locked against application writes while they are being synced
//! (`reference/io.md` 4.5).
//!
//! An extent is first closed for new writes; once none of its activity-log extents is in use any
//! more it is locked and may be read or written by the resync. The last user opens it again.
//! Whoever waits for an extent that is only closed must give it up before it turns to another one
//! or stops waiting: nobody else opens it.

use core::ops::DerefMut;

/// Number of extents that can be locked or half locked at a time.
pub const RESYNC_EXTENTS: usize = 61;
/// The serving side waits above this number of locked extents.
pub const SERVE_LIMIT: u32 = 30;
/// The asking side waits above this number of locked extents.
pub const ASK_LIMIT: u32 = 58;

const FREE: u64 = u64::MAX;

/// One extent closed for application writes.
#[derive(Clone, Copy, Debug)]
pub struct ResyncSlot {
    extent: u64,
    users: u32,
}

impl Default for ResyncSlot {
    fn default() -> Self {
        Self {
            extent: FREE,
            users: 0,
        }
    }
}

/// Answer to an attempt to lock an extent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begin {
    /// Locked; one more user.
    Locked,
    /// Closed for new writes, but old ones are still in flight.
    Busy,
    /// Too many extents are locked.
    Full,
}

/// All extents closed at present; searches look at no more than [`RESYNC_EXTENTS`] slots.
#[derive(Debug)]
pub struct ResyncExtents<S> {
    slots: S,
    closed: u32,
    locked: u32,
}

impl<S: DerefMut<Target = [ResyncSlot]>> ResyncExtents<S> {
    /// Makes all slots free.
    pub fn new(mut slots: S) -> Self {
        for slot in slots.iter_mut() {
            *slot = ResyncSlot::default();
        }
        Self {
            slots,
            closed: 0,
            locked: 0,
        }
    }

    /// Gives the memory back.
    pub fn into_memory(self) -> S {
        self.slots
    }

    /// Opens all extents, whoever used them. Answers `true` if there was one.
    pub fn clear(&mut self) -> bool {
        if self.closed == 0 {
            return false;
        }
        for slot in self.slots.iter_mut() {
            *slot = ResyncSlot::default();
        }
        self.closed = 0;
        self.locked = 0;
        true
    }

    /// Returns the number of locked extents.
    pub fn locked(&self) -> u32 {
        self.locked
    }

    #[inline]
    fn find(&self, extent: u64) -> Option<usize> {
        if self.closed == 0 {
            return None;
        }
        self.slots.iter().position(|slot| slot.extent == extent)
    }

    /// Tells whether application writes to the extent have to wait.
    #[inline]
    pub fn stops_write(&self, extent: u64) -> bool {
        self.find(extent).is_some()
    }

    /// Tells whether the extent is locked for somebody.
    pub fn is_locked(&self, extent: u64) -> bool {
        self.find(extent)
            .is_some_and(|index| self.slots[index].users != 0)
    }

    /// Tries to lock the extent. `unused` tells whether none of its activity-log extents is in
    /// use; it is asked only if the extent is not locked yet.
    pub fn begin(&mut self, extent: u64, limit: u32, unused: impl FnOnce() -> bool) -> Begin {
        let index = match self.find(extent) {
            Some(index) => index,
            None => {
                if self.locked > limit {
                    return Begin::Full;
                }
                let Some(index) = self.slots.iter().position(|slot| slot.extent == FREE) else {
                    return Begin::Full;
                };
                self.slots[index] = ResyncSlot {
                    extent,
                    ..ResyncSlot::default()
                };
                self.closed += 1;
                index
            }
        };
        if self.slots[index].users == 0 {
            if !unused() {
                return Begin::Busy;
            }
            self.locked += 1;
        }
        self.slots[index].users += 1;
        Begin::Locked
    }

    /// One user is done. Answers `true` if the extent is open again: writes that waited may go.
    pub fn complete(&mut self, extent: u64) -> bool {
        let Some(index) = self.find(extent) else {
            return false;
        };
        let slot = &mut self.slots[index];
        if slot.users == 0 {
            return false;
        }
        slot.users -= 1;
        if slot.users != 0 {
            return false;
        }
        *slot = ResyncSlot::default();
        self.closed -= 1;
        self.locked -= 1;
        true
    }

    /// Opens every extent but `keep` that is closed and not locked. Answers `true` if there was
    /// one: writes that waited may go.
    pub fn give_up_but(&mut self, keep: Option<u64>) -> bool {
        if self.closed == self.locked {
            return false;
        }
        let mut any = false;
        for slot in self.slots.iter_mut() {
            if slot.extent != FREE && slot.users == 0 && Some(slot.extent) != keep {
                *slot = ResyncSlot::default();
                self.closed -= 1;
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents() -> ResyncExtents<Vec<ResyncSlot>> {
        ResyncExtents::new(vec![ResyncSlot::default(); RESYNC_EXTENTS])
    }

    #[test]
    fn a_busy_extent_is_closed_for_new_writes_and_locked_once_unused() {
        let mut extents = extents();
        assert!(!extents.stops_write(5));
        assert_eq!(extents.begin(5, ASK_LIMIT, || false), Begin::Busy);
        assert!(extents.stops_write(5));
        assert!(!extents.is_locked(5));
        assert_eq!(extents.begin(5, ASK_LIMIT, || true), Begin::Locked);
        assert_eq!(
            extents.begin(5, ASK_LIMIT, || unreachable!()),
            Begin::Locked
        );
        assert!(!extents.complete(5));
        assert!(extents.stops_write(5));
        assert!(extents.complete(5), "the last user opens it");
        assert!(!extents.stops_write(5));
        assert!(!extents.complete(5));
    }

    #[test]
    fn limits_are_kept() {
        let mut extents = extents();
        for extent in 0..=u64::from(SERVE_LIMIT) {
            assert_eq!(extents.begin(extent, SERVE_LIMIT, || true), Begin::Locked);
        }
        assert_eq!(extents.begin(99, SERVE_LIMIT, || true), Begin::Full);
        assert_eq!(
            extents.begin(0, SERVE_LIMIT, || true),
            Begin::Locked,
            "locked already"
        );
        assert_eq!(extents.begin(99, ASK_LIMIT, || false), Begin::Busy);
        assert!(!extents.give_up_but(Some(99)));
        assert!(extents.give_up_but(Some(7)) && !extents.stops_write(99));
        assert!(
            !extents.give_up_but(None) && extents.stops_write(0),
            "locked"
        );
        extents.clear();
        assert_eq!(extents.locked(), 0);
    }
}
