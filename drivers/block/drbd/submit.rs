// SPDX-License-Identifier: GPL-2.0-only

//! Application I/O on its way in: from the upper device to the core and to the backing disk.

use crate::{
    complete::CloneDone,
    disk::{
        metadata,
        BackingRef, //
    },
    kabi::{
        bio::{
            with_plug, //
            BioHold,
            Flags,
            IncomingBio,
            Op,
        },
        params,
        thread, //
    },
    resource::Inner,
    volume::Volume, //
};
use drbd_core::{
    data::{
        AppIo,
        LocalPart,
        Submit, //
    },
    link::VolumeIndex,
    query::OpenError,
    request::{
        IoError,
        Op as AppOp,
        RequestId, //
    },
    time::Instant, //
};
use drbd_format::units::Sector;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Parked requests that are taken per lock hold.
const READY_BATCH: usize = 16;

/// Error number of a Secondary that is opened for reading.
const EMEDIUMTYPE: i32 = 124;

/// Opens the device, if the core lets it. May sleep.
pub(crate) fn open(volume: &Volume, write: bool) -> Result {
    let index = volume.index;
    let allow_oos = params::allow_oos();
    volume
        .resource
        .with(|inner, now| inner.core.open(index, write, allow_oos, now))
        .map_err(|refusal| match refusal {
            OpenError::ReadOnly => EROFS,
            OpenError::MediumType => Error::from_errno(-EMEDIUMTYPE),
        })
}

/// Takes one upper bio. May sleep; may be called recursively.
pub(crate) fn submit(volume: &Arc<Volume>, mut bio: IncomingBio) {
    bio.start_accounting();
    let Some(io) = describe(volume.index, &bio) else {
        bio.end(Err(EOPNOTSUPP));
        return;
    };
    let resource = &volume.resource;
    let mut bio = Some(bio);
    loop {
        let seen = resource.submitters_generation();
        let outcome = resource.with(|inner, now| offer(inner, &io, &mut bio, now));
        if !matches!(outcome, Outcome::Wait) {
            follow(volume, outcome, bio);
            return;
        }
        resource.wait_submitters(seen);
    }
}

/// Offers a bio to the core; what it takes is moved to its place.
fn offer(inner: &mut Inner, io: &AppIo, bio: &mut Option<IncomingBio>, now: Instant) -> Outcome {
    match inner.core.submit(io, now) {
        Submit::Admitted { id, local } => {
            let start = Start::new(inner, io.volume, id, local, bio.as_ref());
            inner.put_app_bio(id, io.volume, bio.take());
            start.map_or(Outcome::Nothing, Outcome::Start)
        }
        Submit::Parked { id } => {
            inner.put_app_bio(id, io.volume, bio.take());
            Outcome::Nothing
        }
        Submit::Wait => Outcome::Wait,
        Submit::Refuse(error) => Outcome::End(Err(error_number(error))),
        Submit::Finish => Outcome::End(Ok(())),
    }
}

/// Does what follows from an offer. May sleep.
fn follow(volume: &Arc<Volume>, outcome: Outcome, bio: Option<IncomingBio>) {
    match outcome {
        Outcome::Start(start) => start.run(volume),
        Outcome::Nothing | Outcome::Wait => {}
        Outcome::End(result) => {
            if let Some(bio) = bio {
                bio.end(result);
            }
        }
    }
}

enum Outcome {
    Start(Start),
    Nothing,
    Wait,
    End(Result),
}

fn describe(volume: VolumeIndex, bio: &IncomingBio) -> Option<AppIo> {
    let flags = bio.flags();
    Some(AppIo {
        volume,
        op: match bio.op() {
            Op::Read => AppOp::Read,
            Op::Write => AppOp::Write,
            Op::Flush => AppOp::Flush,
            Op::Discard => AppOp::Discard,
            Op::WriteZeroes => AppOp::WriteZeroes,
            Op::Other => return None,
        },
        sector: Sector(bio.sector()),
        len_bytes: bio.len_bytes(),
        fua: flags.contains(Flags::FUA),
        preflush: flags.contains(Flags::PREFLUSH),
        sync: flags.contains(Flags::SYNC),
        may_unmap: !flags.contains(Flags::NOUNMAP),
        read_ahead: flags.contains(Flags::RAHEAD),
    })
}

/// Returns the error number for the upper layer.
pub(crate) fn error_number(error: IoError) -> Error {
    match error {
        IoError::Io | IoError::NoData => EIO,
        IoError::Invalid => EINVAL,
    }
}

/// The local part of a request, with the disk for which it was let go.
struct Start {
    id: RequestId,
    local: LocalPart,
    hold: BioHold,
    backing: Option<BackingRef>,
}

impl Start {
    /// Takes what it needs, under the lock. `None` if nothing is to be done.
    fn new(
        inner: &Inner,
        volume: VolumeIndex,
        id: RequestId,
        local: LocalPart,
        bio: Option<&IncomingBio>,
    ) -> Option<Self> {
        if local == LocalPart::None {
            return None;
        }
        Some(Self {
            id,
            local,
            hold: bio?.hold(),
            backing: inner.backing(volume),
        })
    }

    /// Gives it to the disk. May sleep.
    fn run(self, volume: &Arc<Volume>) {
        let Self {
            id,
            local,
            hold,
            backing,
        } = self;
        let Some(backing) = backing else {
            done(volume, id, false);
            return;
        };
        match local {
            LocalPart::None => {}
            // The clone has the flags of the upper bio.
            LocalPart::Clone { .. } => {
                let context = CloneDone::new(volume.clone(), id);
                backing.clones.submit_held(&backing.data, hold, context);
            }
            LocalPart::Discard {
                zero_out,
                may_unmap,
            } => {
                let (sector, len_bytes) = (Sector(hold.sector()), hold.len_bytes());
                let result = backing.discard(sector, len_bytes, zero_out, may_unmap);
                done(volume, id, result.is_ok());
            }
        }
    }
}

fn done(volume: &Volume, id: RequestId, ok: bool) {
    volume
        .resource
        .with(|inner, now| inner.core.local_done(id, ok, now));
}

/// The volume's worker: activity log transactions, then the requests that waited for them.
pub(crate) fn run_worker(volume: &Arc<Volume>) {
    let Some(bell) = volume.resource.bells.volumes.get(volume.index.slot()) else {
        return;
    };
    while !thread::should_stop() {
        bell.wait();
        loop {
            let reissued = reissue(volume);
            let logged = metadata::advance_activity_log(volume);
            let started = with_plug(|| start_ready(volume));
            if !(reissued || logged || started) {
                break;
            }
        }
    }
}

/// Submits again what the core wants to see again.
///
/// This thread never waits until the core takes a bio: what the core waits for may be this
/// thread's work. A bio that is refused stays queued, and [`Resource`](crate::resource::Resource)
/// rings the bell when the core may take it.
fn reissue(volume: &Arc<Volume>) -> bool {
    let index = volume.index;
    let mut any = false;
    loop {
        let offered = volume.resource.with(|inner, now| {
            let mut bio = inner.take_reissued(index);
            let io = describe(index, bio.as_ref()?)?;
            let outcome = offer(inner, &io, &mut bio, now);
            if matches!(outcome, Outcome::Wait) {
                inner.put_reissued(index, bio?);
                return None;
            }
            Some((outcome, bio))
        });
        let Some((outcome, bio)) = offered else {
            return any;
        };
        any = true;
        follow(volume, outcome, bio);
    }
}

/// Starts the parked requests that may go now.
fn start_ready(volume: &Arc<Volume>) -> bool {
    let mut any = false;
    loop {
        let mut ready = [const { None::<Option<Start>> }; READY_BATCH];
        volume
            .resource
            .with(|inner, now| take_ready(inner, volume.index, now, &mut ready));
        let mut taken = 0;
        for start in ready.into_iter().flatten() {
            taken += 1;
            if let Some(start) = start {
                start.run(volume);
            }
        }
        any |= taken > 0;
        if taken < READY_BATCH {
            return any;
        }
    }
}

fn take_ready(
    inner: &mut Inner,
    volume: VolumeIndex,
    now: Instant,
    ready: &mut [Option<Option<Start>>],
) {
    for slot in ready {
        let Some((id, local)) = inner.core.next_ready(volume, now) else {
            break;
        };
        *slot = Some(Start::new(inner, volume, id, local, inner.app_bio(id)));
    }
}
