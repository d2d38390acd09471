//! Questions of the shell to a resource: may the device be opened, how is the link to be set up,
//! what are users told. Nothing here changes the state, except for the count of openers.

use core::fmt;

use drbd_format::state_word::{self, StateWord};
use drbd_format::types::{DiskState, Role, WriteOrdering};

use crate::config::DiskConfig;
use crate::control::jobs::VolumeJob;
use crate::control::Volume;
use crate::input::Input;
use crate::link::{Side, VolumeIndex};
use crate::memory::Memory;
use crate::report::{MetadataStatus, ProcVolume, Progress, ResourceStatus, VolumeStatus};
use crate::resource::Resource;
use crate::resync::session::Job;
use crate::state::VolumeState;
use crate::time::Instant;

/// Why a device cannot be opened (`reference/netlink.md` 7.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenError {
    /// A Secondary is not opened for reading.
    MediumType,
    /// A Secondary is not opened for writing.
    ReadOnly,
}

/// How the sockets of a connection are set up (`reference/wire.md` 1.3, 1.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkOptions {
    /// Time for one attempt to connect, and between attempts.
    pub connect_int_ms: u32,
    /// Time for the answer to a ping.
    pub ping_timeout_ms: u32,
    /// Time between having both sockets and looking at them.
    pub check_timeout_ms: u32,
    /// How long a send may be blocked before it is looked at.
    pub timeout_ms: u32,
    /// Send buffer, 0: TCP decides.
    pub sndbuf_bytes: u32,
    /// Receive buffer, 0: TCP decides.
    pub rcvbuf_bytes: u32,
}

/// What is in use at this moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Held {
    /// Slots of application requests, over all volumes.
    pub requests: u32,
    /// Slots of requests of the peer and of our resync, over all volumes.
    pub peer_requests: u32,
    /// How many of them are over, and a disk that was detached by force has yet to give back.
    pub abandoned: u32,
    /// Packets that wait on the data socket, over all volumes.
    pub packets: u32,
    /// Extents that resync keeps from applications.
    pub extents: u32,
    /// Memory is lent for a disk.
    pub disk: bool,
    /// Its attach has ended.
    pub attached: bool,
    /// The disk serves requests.
    pub in_use: bool,
}

/// Returns the more important of two roles.
fn highest(a: Role, b: Role) -> Role {
    match (a, b) {
        (Role::Primary, _) | (_, Role::Primary) => Role::Primary,
        (Role::Secondary, _) | (_, Role::Secondary) => Role::Secondary,
        (Role::Unknown, Role::Unknown) => Role::Unknown,
    }
}

fn number(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl<M: Memory> Resource<M> {
    /// Tells whether nothing of an earlier disk is left, so that another may be attached.
    pub fn is_disk_gone(&self, volume: VolumeIndex) -> bool {
        self.control_state()
            .1
            .get(volume.slot())
            .is_some_and(|volume| volume.disk.is_none() && volume.job == VolumeJob::None)
    }

    /// The options of the disk that are in force; `None` without one.
    pub fn disk_config(&self, volume: VolumeIndex) -> Option<&DiskConfig> {
        let volume = self.control_state().1.get(volume.slot())?;
        volume.disk.as_ref().map(|disk| &disk.config)
    }

    /// Tells whether the disk is being given up by force: nobody waits for its answers any more.
    pub fn gives_up_disk(&self, volume: VolumeIndex) -> bool {
        self.control_state()
            .1
            .get(volume.slot())
            .is_some_and(|volume| volume.forced_detach)
    }

    /// Tells what is in use, for those who look for leaks.
    pub fn held(&self, volume: VolumeIndex) -> Held {
        let place = self.data.volumes.get(volume.slot());
        let disk = place.and_then(|place| place.disk.as_ref());
        Held {
            requests: self.data.requests.used(),
            peer_requests: self.data.peers.used(),
            abandoned: self.data.abandoned(),
            packets: self.data.control_len,
            extents: disk.map_or(0, |disk| disk.extents.locked()),
            disk: disk.is_some(),
            attached: disk.is_some_and(|disk| disk.attached),
            in_use: place.is_some_and(|place| place.has_disk()),
        }
    }

    /// Somebody opens the device.
    ///
    /// # Errors
    ///
    /// Only a Primary can be opened; `allow_oos` lets others be read.
    pub fn open(
        &mut self,
        volume: VolumeIndex,
        write: bool,
        allow_oos: bool,
        now: Instant,
    ) -> Result<(), OpenError> {
        if self.state(volume).role != Role::Primary {
            if write {
                return Err(OpenError::ReadOnly);
            }
            if !allow_oos {
                return Err(OpenError::MediumType);
            }
        }
        self.handle(&Input::Opened { volume }, now);
        Ok(())
    }

    /// A successful open ends.
    pub fn close(&mut self, volume: VolumeIndex, now: Instant) {
        self.handle(&Input::Closed { volume }, now);
    }

    /// Returns how the sockets are set up; defaults without a network configuration.
    pub fn link_options(&self) -> LinkOptions {
        let net = self
            .net_config()
            .copied()
            .unwrap_or(crate::config::NetConfig::DEFAULT);
        let ping_timeout_ms = net.ping_timeout_tenths.saturating_mul(100);
        LinkOptions {
            connect_int_ms: net.connect_int_secs.saturating_mul(1000),
            ping_timeout_ms,
            check_timeout_ms: match net.sock_check_timeout_tenths {
                0 => ping_timeout_ms,
                tenths => tenths.saturating_mul(100),
            },
            timeout_ms: net.timeout_tenths.saturating_mul(100),
            sndbuf_bytes: net.sndbuf_bytes,
            rcvbuf_bytes: net.rcvbuf_bytes,
        }
    }

    /// Returns what tools are told about the resource.
    pub fn status(&self) -> ResourceStatus {
        let (state, volumes) = self.control_state();
        let mut role = Role::Unknown;
        let mut peer_role = Role::Unknown;
        for volume in volumes.iter().filter(|volume| volume.present) {
            role = highest(role, volume.state.role);
            peer_role = highest(peer_role, volume.state.peer);
        }
        if role == Role::Unknown {
            role = Role::Secondary;
        }
        ResourceStatus {
            role: number(role.to_wire()),
            peer_role: number(peer_role.to_wire()),
            connection: number(state.core.conn.to_wire()),
            susp: state.core.susp,
            susp_nod: state.core.susp_nod,
            susp_fen: state.core.susp_fen,
            write_ordering: match self.data.ordering() {
                WriteOrdering::None => 0,
                WriteOrdering::Drain => 1,
                WriteOrdering::Flush => 2,
            },
        }
    }

    /// Returns what tools are told about a volume.
    pub fn volume_status(&mut self, index: VolumeIndex) -> VolumeStatus {
        let state = self.state(index);
        let view = self.view(index);
        let facts = self.data.facts(index);
        let counters = self.data.counters(index);
        let (resync_total, resync_failed) = self
            .data
            .session(index)
            .map_or((0, 0), |session| (session.total, session.failed));
        let volume = self.control_volume(index);
        let suspended = state.susp || state.susp_nod || state.susp_fen;
        VolumeStatus {
            word: state.to_word(),
            capacity_sectors: volume.capacity,
            exposed_uuid: volume.exposed_uuid,
            metadata: metadata(&volume, &state),
            bits_total: facts.bits_total,
            resync_total,
            resync_failed,
            counters,
            blocked: suspended || view.io_blocked,
            timeout_type: timeout_type(&volume, &state),
        }
    }

    fn control_volume(&self, index: VolumeIndex) -> Volume {
        let (_, volumes) = self.control_state();
        volumes.get(index.slot()).copied().unwrap_or(Volume::EMPTY)
    }

    /// Writes the lines of a volume in `/proc/drbd`. `details` is the parameter `proc_details`.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn proc_volume(
        &mut self,
        index: VolumeIndex,
        minor: u32,
        details: i32,
        now: Instant,
        out: &mut dyn fmt::Write,
    ) -> fmt::Result {
        let state = self.state(index);
        let counters = self.data.counters(index);
        let facts = self.data.facts(index);
        let progress = self.data.session(index).map(|session| {
            let verify = session.job == Job::Verify;
            let asks = match session.side {
                Side::Source => verify,
                Side::Target => !verify,
            };
            Progress::of(session, verify, asks, facts.bits_set, facts.bits_total)
        });
        let shown = state_word::VolumeState::from_word(StateWord(state.to_word()));
        ProcVolume {
            minor,
            state: shown.unwrap_or(state_word::VolumeState::NEW),
            protocol: self.net_config().map(|net| net.protocol),
            counters: &counters,
            ordering: self.data.ordering(),
            progress,
        }
        .write(now, details, out)
    }
}

fn metadata(volume: &Volume, state: &VolumeState) -> Option<MetadataStatus> {
    let disk = volume.disk.as_ref()?;
    (state.disk >= DiskState::Inconsistent).then(|| MetadataStatus {
        uuids: disk.uuids.to_array(),
        flags: disk.flags,
    })
}

/// Which startup timeout applies (`reference/states.md` 7, item 53).
fn timeout_type(volume: &Volume, state: &VolumeState) -> u32 {
    if state.pdsk == DiskState::Outdated {
        2
    } else {
        u32::from(volume.degraded_timeout)
    }
}
