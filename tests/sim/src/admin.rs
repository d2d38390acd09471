//! Administrators: one command after the other on each node.

use std::collections::VecDeque;

use drbd_core::action::Ticket;
use drbd_core::config::{DiskConfig, Name, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths, Input};
use drbd_core::link::{VolumeIndex, VolumeNumber};
use drbd_format::netlink::codes::RetCode;
use drbd_format::types::{ConnState, Fencing, OnCongestion, OnIoError, Protocol, Role};

use crate::digest;
use crate::faults::Faults;
use crate::features::Feature;
use crate::shell::{apply_activity_log, create_metadata, CreateAs};
use crate::world::{World, SECOND};

/// How long a command may take, as the module has it.
pub const COMMAND_TIMEOUT_NS: u64 = 115 * SECOND;

/// A command, as a person would give it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// `new-minor`.
    NewVolume(u8),
    /// `apply-al` and `attach`.
    Attach(u8),
    /// `create-md`.
    CreateMetadata(u8),
    /// `connect`; with `--discard-my-data`?
    Connect(bool),
    /// `disconnect`.
    Disconnect,
    /// `detach`.
    Detach(u8),
    /// `detach --force`.
    ForceDetach(u8),
    /// `primary`; forced?
    Primary(u8, bool),
    /// `secondary`.
    Secondary(u8),
    /// `invalidate`.
    Invalidate(u8),
    /// `suspend-io`.
    SuspendIo(u8),
    /// `resume-io`.
    ResumeIo(u8),
    /// `pause-sync`.
    PauseSync(u8),
    /// `resume-sync`.
    ResumeSync(u8),
    /// `resize`, to the size that is configured.
    Resize(u8),
    /// `verify`.
    Verify(u8),
}

/// The administrator of a node.
#[derive(Debug, Default)]
pub struct Admin {
    /// Commands to be given.
    pub queue: VecDeque<Command>,
    /// The command under way, its ticket and since when.
    pub current: Option<(Command, u32, u64)>,
    /// Last answers, for traces.
    pub answers: Vec<(Command, i32)>,
    /// Commands that had no answer in time.
    pub late: u64,
}

impl Admin {
    /// Nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.current.is_none()
    }

    /// A command has been given, or is to be, and has no answer yet.
    pub fn waits_for(&self, command: Command) -> bool {
        let current = self.current.map(|(current, ..)| current);
        current == Some(command) || self.queue.contains(&command)
    }

    /// The node has lost power.
    pub fn reset(&mut self) {
        self.queue.clear();
        self.current = None;
    }

    /// Gives a command later.
    pub fn add(&mut self, command: Command) {
        self.queue.push_back(command);
    }

    /// Gives the next command if the last one has been answered; returns an answer that has just
    /// arrived.
    pub fn step(
        &mut self,
        world: &mut World,
        node: usize,
        faults: &Faults,
    ) -> Option<(Command, i32)> {
        if let Some((command, ticket, since)) = self.current {
            let alive = world.alive(node)?;
            let answered = alive.answer.take().filter(|(of, ..)| *of == ticket);
            if let Some((_, code, text)) = answered {
                self.current = None;
                world.trace(node, || format!("{command:?} answered {code} {text:?}"));
                if matches!(command, Command::Attach(_)) && !is_success(code) {
                    if let Command::Attach(volume) = command {
                        world.release_disk(node, VolumeIndex(volume));
                    }
                }
                self.answers.push((command, code));
                return Some((command, code));
            }
            if world.now_ns > since + COMMAND_TIMEOUT_NS {
                world.trace(node, || format!("{command:?} had no answer"));
                self.current = None;
                self.late += 1;
            }
            return None;
        }
        let command = self.queue.pop_front()?;
        self.begin(world, node, command, faults)
    }

    fn begin(
        &mut self,
        world: &mut World,
        node: usize,
        command: Command,
        faults: &Faults,
    ) -> Option<(Command, i32)> {
        world.trace(node, || format!("command {command:?}"));
        if matches!(command, Command::ResumeIo(_)) {
            world.activity[node].suspended = None;
        }
        let request = match self.request(world, node, command, faults) {
            Ok(request) => request,
            Err(code) => {
                world.trace(node, || format!("{command:?} answered at once: {code}"));
                self.answers.push((command, code));
                return Some((command, code));
            }
        };
        let alive = world.alive(node)?;
        let ticket = alive.next_ticket;
        alive.next_ticket += 1;
        alive.answer = None;
        self.current = Some((command, ticket, world.now_ns));
        world.handle(node, &Input::Admin(&request, Ticket(ticket)));
        None
    }

    fn request(
        &mut self,
        world: &mut World,
        node: usize,
        command: Command,
        faults: &Faults,
    ) -> Result<AdminRequest, i32> {
        let index = VolumeIndex;
        Ok(match command {
            Command::NewVolume(volume) => AdminRequest::NewVolume {
                volume: index(volume),
                number: VolumeNumber(u16::from(volume)),
            },
            Command::Attach(volume) => return attach(world, node, volume, faults),
            Command::CreateMetadata(volume) => {
                return Err(create_anew(world, node, volume));
            }
            Command::Connect(discard_my_data) => AdminRequest::Connect {
                config: NetConfig {
                    discard_my_data,
                    ..net_config(node, faults)
                },
                digests: digests(faults),
            },
            Command::Disconnect => AdminRequest::Disconnect { force: false },
            Command::Detach(volume) => AdminRequest::Detach {
                volume: index(volume),
                force: false,
            },
            Command::ForceDetach(volume) => AdminRequest::Detach {
                volume: index(volume),
                force: true,
            },
            Command::Primary(volume, force) => AdminRequest::SetRole {
                volume: index(volume),
                role: Role::Primary,
                force,
            },
            Command::Secondary(volume) => AdminRequest::SetRole {
                volume: index(volume),
                role: Role::Secondary,
                force: false,
            },
            Command::Invalidate(volume) => AdminRequest::Invalidate {
                volume: index(volume),
            },
            Command::SuspendIo(volume) => AdminRequest::SuspendIo {
                volume: index(volume),
            },
            Command::ResumeIo(volume) => AdminRequest::ResumeIo {
                volume: index(volume),
            },
            Command::PauseSync(volume) => AdminRequest::PauseSync {
                volume: index(volume),
            },
            Command::ResumeSync(volume) => AdminRequest::ResumeSync {
                volume: index(volume),
            },
            Command::Verify(volume) => verify(world, node, volume),
            Command::Resize(volume) => AdminRequest::Resize {
                volume: index(volume),
                size_sectors: world.sizes[usize::from(volume)],
                // Alone one has to say that the peer has the space.
                force: world
                    .core(node)
                    .is_some_and(|core| core.state(index(volume)).conn < ConnState::Connected),
                assume_clean: false,
                max_capacity_sectors: world.usable(node, usize::from(volume)).ok_or(119)?,
            },
        })
    }
}

/// Brings the bitmap up to date and opens the disk.
fn attach(
    world: &mut World,
    node: usize,
    volume: u8,
    faults: &Faults,
) -> Result<AdminRequest, i32> {
    let index = VolumeIndex(volume);
    if !world.has_backing(node, index) {
        let disk = &mut world.nodes[node].disks[usize::from(volume)];
        match apply_activity_log(disk) {
            Ok(extents) => world.trace(node, || format!("apply-al: {extents:?}")),
            Err(text) => world.fail(format!("apply-al failed: {text}")),
        }
    }
    let config = disk_config(faults, world.sizes[usize::from(volume)]);
    world.open_disk(node, index, config, faults.extras.log_slots)
}

/// Creates metadata on a disk that is not in use, as for a new one.
fn create_anew(world: &mut World, node: usize, volume: u8) -> i32 {
    if world.has_backing(node, VolumeIndex(volume)) {
        return RetCode::DISK_CONFIGURED.0;
    }
    world.unrelated[usize::from(volume)].renewed = true;
    let disk = &mut world.nodes[node].disks[usize::from(volume)];
    match create_metadata(disk, CreateAs::JustCreated) {
        Some(_) => RetCode::NO_ERROR.0,
        None => RetCode::MD_DISK_TOO_SMALL.0,
    }
}

/// A verify of all of a volume, or of what somebody is interested in.
fn verify(world: &mut World, node: usize, volume: u8) -> AdminRequest {
    let capacity = world.alive(node).map_or(0, |alive| {
        let device = &alive.devices[usize::from(volume)];
        device.capacity
    });
    let random = &mut world.random;
    let start = random.below(capacity);
    let whole = random.chance(10);
    AdminRequest::Verify {
        volume: VolumeIndex(volume),
        start: (!whole || random.chance(50)).then_some(start),
        stop: if whole || random.chance(30) {
            u64::MAX
        } else {
            start + random.below(16_384)
        },
    }
}

/// Tells whether a command did what it was asked for.
pub fn is_success(code: i32) -> bool {
    RetCode(code).is_success()
}

fn disk_config(faults: &Faults, disk_size_sectors: u64) -> DiskConfig {
    let fencing = if faults.extras.fencing && faults.protocol != Protocol::A {
        Fencing::ResourceAndStonith
    } else {
        Fencing::DontCare
    };
    let features = &faults.features;
    DiskConfig {
        al_extents: 67,
        disk_size_sectors,
        fencing,
        on_io_error: if features.has(Feature::PassOn) {
            OnIoError::PassOn
        } else {
            OnIoError::Detach
        },
        disk_timeout_tenths: if features.has(Feature::Hangs) {
            features.timeout_tenths
        } else {
            0
        },
        ..DiskConfig::DEFAULT
    }
}

fn net_config(node: usize, faults: &Faults) -> NetConfig {
    let name = |wanted: bool, text: &[u8]| {
        let name = wanted.then(|| Name::new(text)).flatten();
        name.unwrap_or(Name::EMPTY)
    };
    let features = &faults.features;
    let congestion = features.has(Feature::Congestion);
    NetConfig {
        protocol: faults.protocol,
        verify_alg: name(features.has(Feature::Verify), b"crc32c"),
        on_congestion: if congestion {
            OnCongestion::PullAhead
        } else {
            OnCongestion::Block
        },
        congestion_fill: if congestion { features.limits.0 } else { 0 },
        congestion_extents: if congestion { features.limits.1 } else { 1237 },
        max_buffers: faults.buffers(node),
        max_epoch_size: faults.max_epoch_size,
        integrity_alg: name(faults.integrity, b"crc32c"),
        csums_alg: name(faults.csums, b"crc32c"),
        cram_hmac_alg: name(faults.secret, b"sha1"),
        shared_secret: name(faults.secret, b"open sesame"),
        ..NetConfig::DEFAULT
    }
}

fn digests(faults: &Faults) -> DigestLengths {
    let len = |wanted: bool, len: u8| if wanted { len } else { 0 };
    DigestLengths {
        hmac: len(faults.secret, 20),
        integrity: len(faults.integrity, digest::LEN),
        verify: len(faults.features.has(Feature::Verify), digest::LEN),
        csums: len(faults.csums, digest::LEN),
    }
}
