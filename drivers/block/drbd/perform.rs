// SPDX-License-Identifier: GPL-2.0-only

//! Execution of what the control plane asks for: one arm per action, no decision.

use crate::{
    admin::events,
    depend,
    disk::{
        attach,
        bitmap_pages,
        metadata, //
    },
    helper,
    kabi::{
        log,
        show::Show, //
    },
    resource::{
        Answer,
        Resource, //
    },
    volume::Volume, //
};
use drbd_core::{
    action::{
        Action,
        HmacJob, //
    },
    input::Input,
    link::VolumeIndex,
    log::{
        Level,
        Line, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Longest digest of any algorithm that the kernel offers.
const DIGEST_LEN_MAX: usize = 64;

/// Carries out one action. May sleep; runs in the control thread of the resource.
pub(crate) fn perform(resource: &Arc<Resource>, action: Action) {
    match action {
        Action::AdminDone { ticket, code, text } => resource.answer(ticket, Answer { code, text }),
        Action::CloseDisk { volume } => with(resource, volume, attach::close),
        Action::CloseSockets => {
            resource.connector.close();
            resource.interrupt_receiver();
        }
        Action::Hmac(job) => hmac(resource, job),
        Action::Log { volume, line } => print(resource, volume, &line),
        Action::NotifyConnection { old, new } => events::connection(resource, old, new),
        Action::NotifyVolume { volume, old, new } => {
            with(resource, volume, |volume| events::volume(volume, old, new));
            depend::evaluate(&resource.registry);
        }
        Action::ReadBitmap { volume } => {
            with(resource, volume, |volume| bitmap_pages::read_all(volume));
        }
        Action::RunHelper {
            handler,
            volume,
            wait,
            run,
        } => helper::run(resource, handler, volume, wait.then_some(run)),
        Action::SetCapacity { volume, capacity } => {
            with(resource, volume, |volume| {
                volume.disk.set_capacity(capacity.0);
            });
        }
        Action::SetLimits {
            volume,
            max_bio_bytes,
            max_discard_bytes,
            max_write_zeroes_bytes,
        } => with(resource, volume, |volume| {
            let [discard, write_zeroes] = [max_discard_bytes, max_write_zeroes_bytes];
            attach::set_limits(volume, max_bio_bytes, discard / 512, write_zeroes / 512);
        }),
        Action::SetReadOnly { volume, read_only } => {
            with(resource, volume, |volume| {
                volume.disk.set_read_only(read_only);
            });
        }
        Action::StartConnect => resource.connector.start(),
        Action::Uevent { volume } => {
            with(resource, volume, |volume| volume.disk.change_event());
        }
        Action::WriteBitmap { volume, all } => {
            with(resource, volume, |volume| bitmap_pages::write(volume, all));
        }
        Action::WriteMetadata { volume } => {
            with(resource, volume, |volume| {
                metadata::write_superblock(volume);
            });
        }
    }
}

/// Calls `act` with the volume at `index`, which exists as long as the core names it.
fn with(resource: &Resource, index: VolumeIndex, act: impl FnOnce(&Arc<Volume>)) {
    if let Some(volume) = resource.volume(index) {
        act(&volume);
    }
}

fn hmac(resource: &Resource, job: HmacJob) {
    let mut key = [0; 64];
    let mut message = [0; 128];
    let (key_len, message_len) =
        resource.with(|inner, _| inner.core.hmac_input(job, &mut key, &mut message));
    let mut digest = [0; DIGEST_LEN_MAX];
    let len = match (key.get(..key_len), message.get(..message_len)) {
        (Some(key), Some(message)) => resource
            .digests
            .lock()
            .hmac(key, message, &mut digest)
            .unwrap_or(0),
        _ => 0,
    };
    resource.handle(Input::HmacReady {
        job,
        digest: digest.get(..len).unwrap_or(&[]),
    });
}

fn print(resource: &Resource, volume: Option<VolumeIndex>, line: &Line) {
    let level = match line.level() {
        Level::Alert => log::Level::Alert,
        Level::Error => log::Level::Error,
        Level::Warning => log::Level::Warning,
        Level::Info => log::Level::Info,
    };
    match volume.and_then(|index| resource.volume(index)) {
        Some(volume) => volume.log(level, fmt!("{}", Show(line))),
        None => resource.log(level, fmt!("{}", Show(line))),
    }
}
