// SPDX-License-Identifier: GPL-2.0-only

//! `resync-after`: which volume has to sync before which (reference/metadata.md 6.7). Volumes of
//! all resources depend on each other; whether a state keeps others waiting is decided by the core.

use crate::{
    registry::Registry,
    volume::Volume, //
};
use drbd_core::input::Input;
use drbd_format::netlink::{
    codes::RetCode,
    ids::MINOR_MAX, //
};
use kernel::prelude::*;

/// Longest chain that is followed; only a loop could be longer.
const CHAIN_MAX: usize = 1 << 12;

/// Returns the minor that has to sync before `volume`. Without a disk there is none. May sleep.
fn predecessor(volume: &Volume) -> Option<u32> {
    let conf = *volume.disk_conf.lock();
    u32::try_from(conf?.resync_after).ok()
}

/// Checks whether the volume with this minor may wait for the minor `wanted`. May sleep.
///
/// # Errors
///
/// The code for a minor that cannot exist, or for a loop.
pub(crate) fn check(registry: &Registry, minor: u32, wanted: i32) -> Result<(), RetCode> {
    if wanted == -1 {
        return Ok(());
    }
    let wanted = u32::try_from(wanted).ok().filter(|w| *w <= MINOR_MAX);
    let mut next = wanted.ok_or(RetCode::RESYNC_AFTER)?;
    for _ in 0..CHAIN_MAX {
        if next == minor {
            return Err(RetCode::RESYNC_AFTER_CYCLE);
        }
        match registry.by_minor(next).and_then(|v| predecessor(&v)) {
            None => return Ok(()),
            Some(before) => next = before,
        }
    }
    Err(RetCode::RESYNC_AFTER_CYCLE)
}

/// Checks as [`check`] does, and lets `take` put what was checked where others see it, before
/// anybody else may check. May sleep.
///
/// # Errors
///
/// As there; nothing was put.
pub(crate) fn check_and<R>(
    registry: &Registry,
    minor: u32,
    wanted: i32,
    take: impl FnOnce() -> R,
) -> Result<R, RetCode> {
    let _structure = registry.lock_structure();
    check(registry, minor, wanted)?;
    if wanted != -1 {
        registry.set_chained();
    }
    Ok(take())
}

/// Tells every volume whether it has to wait for another. May sleep.
pub(crate) fn evaluate(registry: &Registry) {
    // Every change of a state leads here, and looks at all volumes of all resources.
    if !registry.is_chained() {
        return;
    }
    let mut next = 0;
    while let Some(volume) = registry.next_minor(next) {
        let busy = has_to_wait(registry, &volume);
        let index = volume.index;
        volume.resource.with(|inner, now| {
            if inner.core.state(index).aftr_isp != busy {
                let volume = index;
                let input = Input::SyncDependency { volume, busy };
                inner.core.handle(&input, now);
            }
        });
        let Some(following) = volume.minor.checked_add(1) else {
            break;
        };
        next = following;
    }
}

fn has_to_wait(registry: &Registry, volume: &Volume) -> bool {
    let mut before = predecessor(volume);
    for _ in 0..CHAIN_MAX {
        let Some(other) = before.and_then(|minor| registry.by_minor(minor)) else {
            return false;
        };
        let index = other.index;
        let state = other.resource.with(|inner, _| inner.core.state(index));
        if state.keeps_dependents_waiting() {
            return true;
        }
        before = predecessor(&other);
    }
    false
}
