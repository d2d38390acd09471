//! Control packets that arrive: which may come when, and where they are handled.

use drbd_format::types::{ConnState, DiskState, Role};
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::StateChange;
use drbd_format::wire::settings::{self, Sizes};

use super::after::verifying;
use super::engine::{Flags, SUCCESS};
use super::sync::{has_no_use_for_sync_uuid, is_in_another_run};
use super::{Control, Disk, Progress};
use crate::generation::{Uuids, FLAG_SKIP_INITIAL_SYNC, JUST_CREATED};
use crate::handshake::Stage;
use crate::link::{LinkError, VolumeIndex};
use crate::log::{Level, Line};
use crate::quirk::{quirk, Quirk};
use crate::state::transition::StateError;
use crate::state::{mask, Change};

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handled {
    /// It is dealt with.
    Done,
    /// The shell loads an algorithm before it goes on ([`Control::digest_loaded`]).
    Load,
    /// It can not be dealt with yet: the receiver waits and calls [`Control::retry_packet`].
    Wait,
    /// The connection can not go on.
    Fail(LinkError),
}

/// A packet that waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pending {
    /// P_AUTH_RESPONSE: the digests are being computed.
    AuthResponse([u8; 64], u8),
    /// P_STATE: a full sync is being prepared, or a new size is being written.
    State {
        /// Which volume.
        volume: VolumeIndex,
        /// The peer's state word.
        word: u32,
        /// What was decided, and whether the bits could be set.
        decided: Option<(ConnState, Option<bool>)>,
    },
    /// P_SYNC_UUID that is early, or waits for the bitmap.
    SyncUuid {
        /// Which volume.
        volume: VolumeIndex,
        /// The UUID.
        uuid: u64,
        /// The bitmap is being written.
        marks: bool,
    },
    /// P_SIZES that waits until all bits are set for a resync that begins, until one has ended, or
    /// for an answer.
    EarlySizes {
        /// Which volume.
        volume: VolumeIndex,
        /// The packet.
        sizes: Sizes,
    },
    /// A new size is being applied.
    Sizes {
        /// Which volume.
        volume: VolumeIndex,
        /// Reply with our sizes afterwards, with these flags.
        reply: Option<u16>,
    },
}

impl Pending {
    /// Keeps a response. `None` if no digest is that long.
    pub fn auth_response(response: &[u8]) -> Option<Self> {
        let mut bytes = [0; 64];
        bytes.get_mut(..response.len())?.copy_from_slice(response);
        Some(Self::AuthResponse(
            bytes,
            u8::try_from(response.len()).ok()?,
        ))
    }
}

impl Control<'_> {
    /// A control packet has arrived on the data socket, about volume number `number`.
    pub fn packet(&mut self, number: u16, packet: &Packet<'_>) -> Handled {
        let handled = self.dispatch(number, packet);
        self.conclude_packet(handled)
    }

    /// Tries again what had to wait.
    pub fn retry_packet(&mut self) -> Handled {
        let handled = match self.s.link.pending {
            None => Handled::Done,
            Some(Pending::AuthResponse(bytes, len)) => {
                self.check_response(bytes.get(..usize::from(len)).unwrap_or(&[]))
            }
            Some(Pending::State {
                volume,
                word,
                decided,
            }) => self.receive_state(volume, word, decided),
            Some(Pending::SyncUuid {
                volume,
                uuid,
                marks,
            }) => self.receive_sync_uuid(volume, uuid, marks),
            Some(Pending::EarlySizes { volume, sizes }) => self.receive_sizes(volume, &sizes),
            Some(Pending::Sizes { volume, reply }) => self.sizes_applied(volume, reply),
        };
        self.conclude_packet(handled)
    }

    /// Tells whether the packet that waits has a chance now.
    pub fn pending_is_ready(&self) -> bool {
        match self.s.link.pending {
            None => false,
            Some(Pending::AuthResponse(..)) => self.s.link.digests_ready(),
            Some(Pending::State {
                volume, decided, ..
            }) => match decided {
                Some((_, ready)) => ready.is_some(),
                None => !self.is_relaid(volume),
            },
            Some(Pending::SyncUuid { volume, marks, .. }) => {
                let resized = self.is_relaid(volume);
                let volume = self.vol(volume);
                let state = volume.state;
                let due = matches!(state.conn, ConnState::WfSyncUuid | ConnState::Behind);
                let written = !marks || volume.bitmap_io != Progress::Running;
                (due && written && !resized)
                    || state.conn < ConnState::Connected
                    || has_no_use_for_sync_uuid(volume)
                    || is_in_another_run(&state)
            }
            Some(Pending::EarlySizes { volume, .. }) => !self.is_early_for_size(volume),
            Some(Pending::Sizes { volume, .. }) => !self.is_relaid(volume),
        }
    }

    pub(crate) fn conclude_packet(&mut self, handled: Handled) -> Handled {
        match handled {
            Handled::Wait => self.s.link.all_told_at = None,
            Handled::Done | Handled::Load => {
                self.s.link.pending = None;
                self.expect_more();
            }
            Handled::Fail(error) => {
                self.s.link.pending = None;
                self.link_failed(error);
            }
        }
        self.finish();
        handled
    }

    fn dispatch(&mut self, number: u16, packet: &Packet<'_>) -> Handled {
        match self.s.link.stage {
            Stage::Up => {}
            Stage::Features | Stage::Challenge | Stage::Response => {
                return self.early_packet(packet);
            }
            Stage::Down | Stage::Closing => return Handled::Fail(LinkError::NetworkFailure),
        }
        match packet {
            Packet::Protocol(settings) => return self.protocol(settings),
            Packet::DelayProbe(_) => return Handled::Done,
            _ => {}
        }
        if !self.s.link.protocol_seen {
            return self.misplaced(packet);
        }
        match packet {
            Packet::ProtocolUpdate(settings) => return self.protocol_update(settings),
            Packet::ConnStChgReq(change) => return self.conn_change_requested(change),
            Packet::StateChgReq(change) if self.version() < 100 => {
                let conn = change.mask.0 & crate::state::mask::CONN;
                let leaves = ConnState::Disconnecting.to_wire() << 4;
                if conn != 0 && change.value.0 & conn == leaves {
                    return self.conn_change_requested(change);
                }
            }
            _ => {}
        }
        let Some(v) = self.by_number(number) else {
            let config = matches!(
                packet,
                Packet::SyncParam(_)
                    | Packet::SyncParam89(_)
                    | Packet::Sizes(_)
                    | Packet::Uuids(_)
                    | Packet::State(_)
            );
            if config {
                self.text_resource(Level::Warning, "ignoring parameters of an unknown volume");
                return Handled::Done;
            }
            return self.misplaced(packet);
        };
        self.volume_packet(v, packet)
    }

    fn volume_packet(&mut self, v: VolumeIndex, packet: &Packet<'_>) -> Handled {
        if !self.hear_of(v) {
            return Handled::Fail(LinkError::NetworkFailure);
        }
        match packet {
            Packet::SyncParam(param) | Packet::SyncParam89(param) => self.sync_param(v, param),
            Packet::Sizes(sizes) => self.receive_sizes(v, sizes),
            Packet::Uuids(uuids) => self.receive_uuids(v, uuids),
            Packet::State(state) => self.receive_state(v, state.word.0, None),
            Packet::SyncUuid(sync) => self.receive_sync_uuid(v, sync.uuid.0, false),
            Packet::StateChgReq(change) => self.change_requested(v, change),
            _ => self.misplaced(packet),
        }
    }

    fn misplaced(&mut self, packet: &Packet<'_>) -> Handled {
        let line = Line::UnexpectedPacket {
            command: packet.command().to_wire(),
            len_bytes: 0,
            conn: self.s.conn,
        };
        self.log_resource(line);
        Handled::Fail(LinkError::ProtocolError)
    }

    /// P_UUIDS (`reference/wire.md` 4.6).
    fn receive_uuids(&mut self, v: VolumeIndex, packet: &settings::Uuids) -> Handled {
        let set = Uuids::from_set(&packet.set);
        // CAST: Only the four lowest flags have a meaning.
        let flags = (packet.flags.0 & 0xf) as u32;
        let state = self.state(v);
        let volume = self.vol_mut(v);
        volume.peer.uuids = Some(set);
        volume.peer.bits = packet.bits_set;
        volume.peer.flags = flags;
        let undecided = state.conn < ConnState::Connected || state.pdsk == DiskState::Diskless;
        let without_disk = state.disk < DiskState::Inconsistent;
        // The peer may have begun its generation for our writes, or our promotion, and not have
        // told it.
        let begun = (volume.facts.missed_writes || volume.promoted_diskless)
            && volume.exposed_uuid & !1 == set.bitmap & !1
            && !volume.peer_lacks_writes();
        if undecided && without_disk && state.role == Role::Primary && begun {
            volume.exposed_uuid = set.current;
        }
        if undecided && self.must_refuse_data(v) {
            return self.refuse_data(v);
        }
        let volume = self.vol_mut(v);
        if !without_disk {
            self.skip_initial_sync(v, &set, flags);
        } else if state.role == Role::Primary
            && state.pdsk == DiskState::UpToDate
            && volume.exposed_uuid != set.current
        {
            // The peer has begun a new generation for us, perhaps before our failed disk is let
            // go. (A peer without good data has a UUID that says nothing about ours.)
            self.expose(v, set.current);
        }
        Handled::Done
    }

    /// The disk of the peer, which has told its UUIDs, is not the one whose data a Primary without
    /// a disk has shown to applications, or lacks some of their writes.
    pub(crate) fn must_refuse_data(&self, v: VolumeIndex) -> bool {
        let volume = self.vol(v);
        volume.state.disk < DiskState::Inconsistent
            && volume.state.role == Role::Primary
            && volume.peer.uuids.is_some_and(|uuids| {
                volume.peer_lacks_writes() || volume.exposed_uuid & !1 != uuids.current & !1
            })
    }

    /// Ends the connection to a peer that [`Self::must_refuse_data`] is about.
    pub(crate) fn refuse_data(&mut self, v: VolumeIndex) -> Handled {
        let uuid = self.vol(v).exposed_uuid;
        let text = "Can only connect to data with current UUID=";
        self.log(v, Line::Uuid { text, uuid });
        Handled::Fail(LinkError::StandAlone)
    }

    /// The peer declares both disks equal although they were never synced
    /// (`reference/metadata.md` 5.3 row 6).
    fn skip_initial_sync(&mut self, v: VolumeIndex, peer: &Uuids, flags: u32) {
        let volume = self.vol(v);
        let fresh = volume
            .disk
            .is_some_and(|disk: Disk| disk.uuids.current & !1 == JUST_CREATED);
        if volume.state.conn != ConnState::Connected
            || self.version() < 90
            || flags & FLAG_SKIP_INITIAL_SYNC == 0
        {
            return;
        }
        if !fresh {
            self.agree_on_first_generation(v, peer);
            return;
        }
        self.text(
            v,
            Level::Info,
            "Accepted new current UUID, preparing to skip initial sync",
        );
        self.clear_all_bits(v);
        self.write_bitmap_soon(v);
        if let Some(disk) = self.vol_mut(v).disk.as_mut() {
            disk.uuids.current = peer.current;
            disk.uuids.bitmap = 0;
        }
        self.dirty(v);
        let good = Change::disk(DiskState::UpToDate).and(Change::pdsk(DiskState::UpToDate));
        self.set_state(v, good, Flags::VERBOSE);
    }

    /// Both nodes were told at once to skip the initial sync, and each has begun a generation for
    /// that. It has to be one, or they would find a split brain when they meet again.
    fn agree_on_first_generation(&mut self, v: VolumeIndex, peer: &Uuids) {
        let skips = self.s.job.is_some_and(|job| job.kind.skips_initial_sync(v));
        let volume = self.vol(v);
        let good = DiskState::UpToDate;
        let skipped = volume.state.disk == good && volume.state.pdsk == good;
        let first = |uuids: &Uuids| {
            uuids.history == [0; 2] && matches!(uuids.bitmap & !1, 0 | JUST_CREATED)
        };
        let both = first(peer) && volume.disk.is_some_and(|disk| first(&disk.uuids));
        if self.s.link.resolver || !both || !(skips || skipped) {
            return;
        }
        let primary = volume.state.role == Role::Primary;
        let volume = self.vol_mut(v);
        if let Some(disk) = volume.disk.as_mut() {
            disk.uuids.current = peer.current;
            disk.uuids.mark_primary(primary);
            volume.exposed_uuid = disk.uuids.current;
        }
        self.log_uuids(v, "receiver updated UUIDs to");
        self.dirty(v);
        self.tell_uuids(v);
    }

    /// P_STATE_CHG_REQ: the peer asks whether it may change the state (`reference/states.md` 3.6).
    fn change_requested(&mut self, v: VolumeIndex, request: &StateChange) -> Handled {
        let change = asked(request);
        let code = if self.s.link.resolver && self.own_question_bars(v, change) {
            StateError::ConcurrentChange.code()
        } else if !change.may_be_asked() {
            self.refuse_request(request)
        } else if self.waits_for_size(v, change) || self.would_miss_size(v, change) {
            StateError::InTransientState.code()
        } else if let Some(error) = self.lacks_a_disk_for(v, change) {
            error.code()
        } else {
            self.set_state(
                v,
                change,
                Flags {
                    ignore_outdate_failure: false,
                    ..Flags::FOR_PEER
                },
            )
        };
        let number = self.vol(v).number;
        self.s.liveness.reply_state(number, code);
        Handled::Done
    }

    /// An own question is under way, which excludes one of the peer about this volume. Roles of
    /// different volumes are not independent: without two Primaries either answer would be in vain.
    fn own_question_bars(&self, v: VolumeIndex, change: Change) -> bool {
        let roles = |asked: &Change| asked.names(mask::ROLE) && change.names(mask::ROLE);
        self.s.two_phase.is_some_and(|asked| {
            self.version() < 100 || asked.volume.is_none_or(|of| of == v) || roles(&asked.change)
        })
    }

    /// The peer asks for a verify, and has not heard yet of the size that we have told it: nobody
    /// would sync the new space.
    fn would_miss_size(&self, v: VolumeIndex, change: Change) -> bool {
        let volume = self.vol(v);
        volume.resize_asked
            && change.names(mask::CONN)
            && change.apply(volume.state).is_some_and(verifying)
    }

    /// What the peer asks for needs a disk that is not there, or not good, which it may not know
    /// yet (`reference/states.md` 3.6). A resync or verify would end before it begins, and the peer
    /// would let its data count as old; a Primary without a disk would use old data of ours. The
    /// error says it from the peer's point of view.
    fn lacks_a_disk_for(&self, v: VolumeIndex, change: Change) -> Option<StateError> {
        let old = self.vol(v).state;
        let new = change.apply(old)?;
        let begins = change.names(mask::CONN) && new.conn > ConnState::Connected;
        let promoted = new.peer == Role::Primary && old.peer != Role::Primary;
        let error = if begins && old.disk <= DiskState::Failed {
            StateError::NoRemoteDisk
        } else if begins && old.disk == DiskState::Negotiating {
            // The peer has asked before it heard of the disk: a comparison comes first.
            StateError::InTransientState
        } else if begins && old.pdsk <= DiskState::Failed {
            StateError::NoLocalDisk
        } else if promoted && old.pdsk <= DiskState::Failed && old.disk == DiskState::Outdated {
            StateError::NoUpToDateDisk
        } else {
            return None;
        };
        (!quirk(Quirk::AbortedCountsAsGood)).then_some(error)
    }

    /// P_CONN_ST_CHG_REQ: the peer wants to leave.
    fn conn_change_requested(&mut self, request: &StateChange) -> Handled {
        let change = asked(request);
        let allowed = change.may_be_asked_of_connection();
        self.s.link.peer_asked |= allowed;
        let ours = self.s.two_phase.is_some_and(|asked| asked.volume.is_none());
        let code = if self.s.link.resolver && ours {
            StateError::ConcurrentChange.code()
        } else if !allowed {
            self.refuse_request(request)
        } else {
            self.s.link.close_after_reply = true;
            let code = self.set_conn_state(change, Flags::FOR_PEER);
            if code < SUCCESS || self.s.conn > ConnState::TearDown {
                self.s.link.close_after_reply = false;
            }
            code
        };
        let old = self.version() < 100;
        if self.s.link.close_after_reply && change.names(mask::DISK) {
            self.s.link.reply_due = Some((old, code));
        } else {
            self.s.liveness.reply_conn(old, code);
        }
        Handled::Done
    }

    /// The peer, which takes its leave, counts our disks as Outdated when it hears the answer, and
    /// need not fence us. One that can not be written is not answered for.
    pub(crate) fn send_reply_due(&mut self) {
        let Some((old, code)) = self.s.link.reply_due else {
            return;
        };
        let written = |v| self.metadata_stable(v) && !self.vol(v).io_error;
        if self.indices().all(written) {
            self.s.link.reply_due = None;
            self.s.liveness.reply_conn(old, code);
        }
    }

    /// The peer wants something that is not its to change.
    fn refuse_request(&mut self, request: &StateChange) -> i32 {
        let error = StateError::NotSupported;
        self.log_resource(Line::Refused(error.text()));
        self.log_resource(Line::RefusedMask {
            mask: request.mask.0,
            val: request.value.0,
        });
        error.code()
    }

    /// P_STATE_CHG_REPLY, P_CONN_ST_CHG_REPLY: the peer's answer.
    pub(crate) fn change_answered(&mut self, of_conn: bool, code: i32) {
        let old = self.version() < 100;
        if let Some(asked) = self.s.two_phase.as_mut() {
            if old || asked.volume.is_none() == of_conn {
                asked.reply = Some(code);
            }
        }
        self.conclude_abandoned();
    }

    /// Queues a state packet after the sizes and UUIDs that belong to it.
    pub(crate) fn send_uuids_and_state(&mut self, v: VolumeIndex) {
        self.send_uuids(v, 0);
        self.send_state(v);
    }
}

/// What the peer asks for, as a change here.
fn asked(request: &StateChange) -> Change {
    Change {
        mask: request.mask.0,
        val: request.value.0,
    }
    .mirrored()
}
