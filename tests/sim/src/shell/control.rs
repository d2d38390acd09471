//! The control thread: performs actions, one after the other.

use std::rc::Rc;

use drbd_core::action::{Action, HmacJob};
use drbd_core::input::Input;
use drbd_core::link::VolumeIndex;
use drbd_core::log::Line;
use drbd_core::put_back::{put_back, Bug};
use drbd_format::units::BitmapPage;

use crate::digest;
use crate::disk::{DiskOp, DiskRequest, DiskResult};
use crate::node::{Busy, Thread, Waiter, Worker};
use crate::world::{Said, World};

impl World {
    /// Performs actions until one has to wait.
    pub(crate) fn run_control(&mut self, node: usize) {
        loop {
            let Some(alive) = self.alive(node) else {
                return;
            };
            match alive.control {
                Busy::Ready => {
                    let Some(Some(action)) = self.with(node, |alive, _| alive.core.pop_action())
                    else {
                        return;
                    };
                    self.perform(node, action);
                }
                Busy::Lock(action) => {
                    alive.control = Busy::Ready;
                    self.perform(node, action);
                    if matches!(self.alive(node).map(|a| a.control), Some(Busy::Lock(_))) {
                        return;
                    }
                }
                Busy::CloseDisk(volume) => {
                    if !self.close_disk(node, volume) {
                        return;
                    }
                }
                Busy::BitmapWrite { writing: false, .. } => {
                    if !self.bitmap_write(node) {
                        return;
                    }
                }
                Busy::Superblock(_) | Busy::BitmapRead(..) | Busy::BitmapWrite { .. } => return,
            }
        }
    }

    fn perform(&mut self, node: usize, action: Action) {
        self.trace(node, || match &action {
            Action::Log { volume, line } => format!("log {volume:?} {line}"),
            action => format!("{action:?}"),
        });
        match action {
            Action::AdminDone { ticket, code, text } => {
                if let Some(alive) = self.alive(node) {
                    alive.answer = Some((ticket.0, code, text));
                }
            }
            Action::CloseDisk { volume } => self.set_control(node, Busy::CloseDisk(volume)),
            Action::CloseSockets => self.close_sockets(node),
            Action::Hmac(job) => self.hmac(node, job),
            Action::Log { volume, line } => self.say(node, volume, &line),
            Action::ReadBitmap { volume } => self.bitmap_read(node, volume, 0),
            Action::RunHelper {
                handler,
                volume,
                wait,
                run,
            } => {
                self.helpers.push(handler.name().to_string());
                self.note_target(node, handler, volume);
                if wait {
                    self.run_helper(node, handler, volume, run);
                }
            }
            Action::SetCapacity { volume, capacity } => {
                if let Some(alive) = self.alive(node) {
                    alive.devices[volume.slot()].capacity = capacity.0;
                }
            }
            Action::SetLimits {
                volume,
                max_bio_bytes,
                ..
            } => {
                if let Some(alive) = self.alive(node) {
                    alive.devices[volume.slot()].max_bio_bytes = max_bio_bytes;
                }
            }
            Action::SetReadOnly { volume, read_only } => {
                if let Some(alive) = self.alive(node) {
                    alive.devices[volume.slot()].read_only = read_only;
                }
            }
            Action::StartConnect => self.start_connect(node),
            Action::WriteBitmap { volume, all } => {
                if all {
                    self.with(node, |alive, _| alive.core.mark_bitmap_changed(volume));
                }
                let busy = Busy::BitmapWrite {
                    volume,
                    page: 0,
                    ok: true,
                    writing: false,
                };
                self.set_control(node, busy);
            }
            Action::WriteMetadata { volume } => self.write_superblock(node, volume),
            Action::NotifyVolume { volume, old, new } => {
                self.diagram.note(old, new);
                self.note_no_target(node, volume, new);
            }
            Action::NotifyConnection { .. } | Action::Uevent { .. } => {}
        }
    }

    fn say(&mut self, node: usize, volume: Option<VolumeIndex>, line: &Line) {
        let text = line.to_string();
        if let Some(volume) = volume.filter(|_| text == "Unrelated data, aborting!") {
            self.unrelated[volume.slot()].said += 1;
        }
        self.log.push(Said { node, volume, text });
    }

    fn set_control(&mut self, node: usize, busy: Busy) {
        if let Some(alive) = self.alive(node) {
            alive.control = busy;
        }
    }

    fn hmac(&mut self, node: usize, job: HmacJob) {
        let mut key = [0; 64];
        let mut message = [0; 128];
        let lengths = self.with(node, |alive, _| {
            alive.core.hmac_input(job, &mut key, &mut message)
        });
        let (key_len, message_len) = lengths.unwrap_or((0, 0));
        let digest = digest::hmac(&key[..key_len], &message[..message_len]);
        let digest = &digest;
        self.handle(node, &Input::HmacReady { job, digest });
    }

    fn write_superblock(&mut self, node: usize, volume: VolumeIndex) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        let device = &mut alive.devices[volume.slot()];
        let Some(backing) = device.backing else {
            self.handle(node, &Input::MetadataWritten { volume, ok: false });
            return;
        };
        if device.metadata_locked {
            alive.control = Busy::Lock(Action::WriteMetadata { volume });
            return;
        }
        let mut block = [0; 4096];
        let encoded = self.with(node, |alive, _| {
            alive.core.encode_superblock(volume, &mut block)
        });
        if !matches!(encoded, Some(Some(()))) {
            self.handle(node, &Input::MetadataWritten { volume, ok: false });
            return;
        }
        if let Some(alive) = self.alive(node) {
            alive.devices[volume.slot()].metadata_locked = true;
            alive.control = Busy::Superblock(volume);
        }
        let apart = !self.nodes[node].disks[volume.slot()]
            .placement()
            .is_internal();
        let unstable = self
            .alive(node)
            .is_some_and(|alive| apart && alive.core.has_unstable_blocks(volume));
        let (place, flush) = (backing.layout.superblock(), backing.md_flushes);
        let block = Rc::new(block);
        let request = DiskRequest::block(place.0, block, flush, unstable);
        self.to_disk(node, volume, request, Waiter::Thread(Thread::Control));
    }

    fn bitmap_read(&mut self, node: usize, volume: VolumeIndex, page: u32) {
        let Some(alive) = self.alive(node) else {
            return;
        };
        let backing = alive.devices[volume.slot()].backing;
        let place = backing
            .filter(|backing| page < backing.pages)
            .map(|backing| backing.layout.bitmap_page(BitmapPage(page.into())));
        match (backing, place) {
            (Some(_), Some(Some((sector, _)))) => {
                alive.control = Busy::BitmapRead(volume, page);
                let request = DiskRequest {
                    op: DiskOp::ReadBlock,
                    sector: sector.0,
                    preflush: false,
                    data_first: false,
                    fua: false,
                };
                self.to_disk(node, volume, request, Waiter::Thread(Thread::Control));
            }
            (Some(_), None) => self.bitmap_read_done(node, volume, true),
            _ => self.bitmap_read_done(node, volume, false),
        }
    }

    fn bitmap_read_done(&mut self, node: usize, volume: VolumeIndex, ok: bool) {
        self.set_control(node, Busy::Ready);
        self.handle(node, &Input::BitmapRead { volume, ok });
    }

    /// Writes the next changed page. False: the buffer or the disk is busy.
    fn bitmap_write(&mut self, node: usize) -> bool {
        let Some(Busy::BitmapWrite {
            volume, page, ok, ..
        }) = self.alive(node).map(|alive| alive.control)
        else {
            return true;
        };
        let has_backing = self.has_backing(node, volume);
        let next = self.with(node, |alive, _| alive.core.next_dirty_page(volume, page));
        let Some(Some(page)) = next.filter(|_| has_backing) else {
            self.set_control(node, Busy::Ready);
            let ok = ok && has_backing;
            self.handle(node, &Input::BitmapWritten { volume, ok });
            return true;
        };
        if self.write_bitmap_page(node, volume, page, Thread::Control) {
            let busy = Busy::BitmapWrite {
                volume,
                page,
                ok,
                writing: true,
            };
            self.set_control(node, busy);
        }
        false
    }

    /// The disk has done what the control thread waited for.
    pub(crate) fn control_disk_done(&mut self, node: usize, result: DiskResult) {
        let ok = !matches!(result, DiskResult::Failed);
        let Some(busy) = self.alive(node).map(|alive| alive.control) else {
            return;
        };
        match busy {
            Busy::Superblock(volume) => {
                self.set_control(node, Busy::Ready);
                self.unlock_metadata(node, volume);
                self.handle(node, &Input::MetadataWritten { volume, ok });
            }
            Busy::BitmapRead(volume, page) => {
                if let DiskResult::Block(block) = result {
                    self.with(node, |alive, _| {
                        alive.core.load_bitmap_page(volume, page, block.as_slice());
                    });
                    self.bitmap_read(node, volume, page + 1);
                } else {
                    self.bitmap_read_done(node, volume, false);
                }
            }
            Busy::BitmapWrite {
                volume,
                page,
                ok: before,
                ..
            } => {
                let busy = Busy::BitmapWrite {
                    volume,
                    page: page + 1,
                    ok: ok && before,
                    writing: false,
                };
                self.set_control(node, busy);
                self.unlock_metadata(node, volume);
                self.with(node, |alive, now| {
                    alive.core.bitmap_page_written(volume, page, ok, now);
                });
            }
            Busy::Lock(_) | Busy::CloseDisk(_) | Busy::Ready => {}
        }
        self.ring(node, Thread::Control);
    }

    /// Closes the devices as soon as nothing is with them. False: something is.
    fn close_disk(&mut self, node: usize, volume: VolumeIndex) -> bool {
        let Some(alive) = self.alive(node) else {
            return false;
        };
        let device = &mut alive.devices[volume.slot()];
        device.backing = None;
        let at_work = matches!(device.worker, Worker::Transaction | Worker::BitmapPage(_));
        if (device.in_flight > 0 || at_work) && !put_back(Bug::DiskClosedEarly) {
            return false;
        }
        alive.control = Busy::Ready;
        let memory = self.with(node, |alive, _| alive.core.take_disk(volume));
        drop(memory);
        self.handle(node, &Input::DiskClosed { volume });
        true
    }
}
