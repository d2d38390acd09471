//! Application I/O on its way in and out.

use drbd_core::data::{AppIo, DoneKind, LocalPart, Submit};
use drbd_core::link::VolumeIndex;
use drbd_core::request::{Op, RequestId};
use drbd_format::units::Sector;

use crate::disk::{DiskOp, DiskRequest};
use crate::node::{Bio, Thread, Waiter};
use crate::world::World;

/// What became of a bio.
pub(crate) enum Taken {
    /// The core has it, or it has ended.
    Yes,
    /// The task has to wait with it.
    No(Bio),
}

impl World {
    /// Takes a bio of an application. Its end appears in `ended`.
    pub fn submit_bio(&mut self, node: usize, bio: Bio) {
        if let Taken::No(bio) = self.resubmit(node, bio) {
            if let Some(alive) = self.alive(node) {
                alive.waiting.push_back(bio);
            }
        }
    }

    pub(crate) fn resubmit(&mut self, node: usize, bio: Bio) -> Taken {
        let io = AppIo {
            volume: bio.volume,
            op: bio.op,
            sector: Sector(bio.sector),
            len_bytes: (bio.count * 512) as u32,
            fua: bio.fua,
            preflush: bio.preflush,
            sync: true,
            may_unmap: bio.may_unmap,
            read_ahead: false,
        };
        let volume = bio.volume;
        let (tag, mut bio) = (bio.tag, Some(bio));
        let outcome = self.with(node, |alive, now| {
            let outcome = alive.core.submit(&io, now);
            if let Submit::Admitted { id, .. } | Submit::Parked { id } = outcome {
                alive.app[id.slot as usize] = bio.take();
            }
            outcome
        });
        self.trace(node, || format!("bio {tag} {io:?}: {outcome:?}"));
        match (outcome, bio) {
            (Some(Submit::Admitted { id, local }), _) => self.start_local(node, volume, id, local),
            (Some(Submit::Wait), Some(bio)) => return Taken::No(bio),
            (Some(Submit::Refuse(_)), Some(bio)) => self.ended.push((node, bio, false)),
            (Some(Submit::Finish), Some(bio)) => self.ended.push((node, bio, true)),
            _ => {}
        }
        Taken::Yes
    }

    /// Gives the local part of a request to the disk.
    pub(crate) fn start_local(
        &mut self,
        node: usize,
        volume: VolumeIndex,
        id: RequestId,
        local: LocalPart,
    ) {
        if local == LocalPart::None {
            return;
        }
        self.count_moves(node, 1, 1);
        let Some(alive) = self.alive(node) else {
            return;
        };
        let backing = alive.devices[volume.slot()].backing;
        let bio = alive.app.get(id.slot as usize).and_then(Option::as_ref);
        let (Some(_), Some(bio)) = (backing, bio) else {
            self.with(node, |alive, now| alive.core.local_done(id, false, now));
            return;
        };
        let kept = matches!(local, LocalPart::Discard { zero_out, may_unmap }
            if bio.op == Op::WriteZeroes && !(zero_out && may_unmap == bio.may_unmap));
        if kept {
            let text = format!("{:?} is carried out as {local:?}", bio.op);
            self.fail(text);
            return;
        }
        let op = match (local, bio.op) {
            (LocalPart::Discard { .. }, _) => DiskOp::Zero { count: bio.count },
            (_, Op::Read) => DiskOp::Read { count: bio.count },
            (_, Op::Flush) => DiskOp::Flush,
            _ => DiskOp::Write(bio.data.clone()),
        };
        let request = DiskRequest {
            op,
            sector: bio.sector,
            preflush: bio.preflush,
            data_first: false,
            fua: bio.fua,
        };
        self.to_disk(node, volume, request, Waiter::App(id));
    }

    /// Takes finished requests out of the core.
    pub(crate) fn finish(&mut self, node: usize) {
        let mut ended = Vec::new();
        let mut rings = Vec::new();
        let Some(alive) = self.alive(node) else {
            return;
        };
        while let Some(done) = alive.core.pop_done() {
            let slot = done.id.slot as usize;
            match done.what {
                DoneKind::EndBio(result) => {
                    if let Some(bio) = alive.app[slot].take() {
                        ended.push((node, bio, result.is_ok()));
                    }
                }
                DoneKind::Reissue => {
                    if let Some(bio) = alive.app[slot].take() {
                        rings.push(bio.volume.0);
                        alive.reissue.push_back(bio);
                    }
                }
                DoneKind::Free => {}
            }
        }
        for (_, bio, ok) in &ended {
            self.trace(node, || format!("bio {} ended, ok {ok}", bio.tag));
        }
        self.count_moves(node, 0, ended.len());
        self.ended.extend(ended);
        for volume in rings {
            self.ring(node, Thread::Volume(volume));
        }
        // What the core wants besides is picked up by the caller's next look.
        self.with(node, |_, _| ());
    }

    /// Tasks that wait try again, in order.
    pub(crate) fn run_submitters(&mut self, node: usize) {
        let waiting = match self.alive(node) {
            Some(alive) => std::mem::take(&mut alive.waiting),
            None => return,
        };
        for bio in waiting {
            self.submit_bio(node, bio);
        }
    }
}
