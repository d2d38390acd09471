//! Control packets that leave: contents at the moment they are dequeued.

use drbd_format::state_word::StateWord;
use drbd_format::types::{Uuid, UuidSet};
use drbd_format::wire::features::{Offer, Terms};
use drbd_format::wire::packet::Packet;
use drbd_format::wire::payload::{State, StateChange};
use drbd_format::wire::settings::{
    ProtocolSettings, RateController, SyncParam, SyncUuid, UuidFlags, Uuids,
};

use super::Control;
use crate::config::{DiskConfig, Name};
use crate::generation;
use crate::link::{ControlItem, ControlKind, Order, VolumeIndex};

/// Returns a name as text. Names come from the configuration or passed the checks of packets.
fn text(name: &Name) -> &str {
    core::str::from_utf8(name.as_bytes()).unwrap_or("")
}

impl Control<'_> {
    /// Writes header and payload of `item` to the front of `buf` and returns their length. `None`
    /// if the packet has become pointless.
    pub fn encode(&mut self, item: &ControlItem, buf: &mut [u8]) -> Option<usize> {
        let v = item.volume;
        let number = self
            .volumes
            .get(v.slot())
            .map_or(0, |volume| volume.number.0);
        let terms = self.s.link.terms;
        let encoded = match item.kind {
            ControlKind::Features => {
                Packet::ConnectionFeatures(Offer::OURS).encode(&Terms::INITIAL, 0, buf)
            }
            ControlKind::AuthChallenge => {
                let challenge = self.s.link.own_challenge();
                Packet::AuthChallenge(challenge).encode(&terms, 0, buf)
            }
            ControlKind::AuthResponse => {
                let response = self.s.link.response();
                Packet::AuthResponse(response).encode(&terms, 0, buf)
            }
            ControlKind::Protocol => self.encode_protocol(false, buf)?,
            ControlKind::ProtocolUpdate => self.encode_protocol(true, buf)?,
            ControlKind::SyncParam => self.encode_sync_param(v, number, buf)?,
            ControlKind::Sizes {
                trigger_reply,
                flags,
            } => {
                let sizes = self.own_sizes(v, trigger_reply, flags);
                Packet::Sizes(sizes).encode(&terms, number, buf)
            }
            ControlKind::Uuids { flags } => {
                let packet = self.uuid_packet(v, flags)?;
                packet.encode(&terms, number, buf)
            }
            ControlKind::State(word) => {
                let word = StateWord(word);
                Packet::State(State { word }).encode(&terms, number, buf)
            }
            ControlKind::SyncUuid(uuid) => {
                let packet = Packet::SyncUuid(SyncUuid { uuid: Uuid(uuid) });
                packet.encode(&terms, number, buf)
            }
            ControlKind::StateChange { mask, val } => {
                let change = StateChange {
                    mask: StateWord(mask),
                    value: StateWord(val),
                };
                Packet::StateChgReq(change).encode(&terms, number, buf)
            }
            ControlKind::ConnStateChange { mask, val } => {
                let change = StateChange {
                    mask: StateWord(mask),
                    value: StateWord(val),
                };
                let packet = if self.version() >= 100 {
                    Packet::ConnStChgReq(change)
                } else {
                    Packet::StateChgReq(change)
                };
                packet.encode(&terms, 0, buf)
            }
        };
        encoded.ok()
    }

    fn encode_protocol(
        &mut self,
        update: bool,
        buf: &mut [u8],
    ) -> Option<Result<usize, drbd_format::wire::EncodeError>> {
        let net = self.s.net?;
        let settings = ProtocolSettings {
            protocol: net.protocol,
            after_sb_0p: net.after_sb_0p,
            after_sb_1p: net.after_sb_1p,
            after_sb_2p: net.after_sb_2p,
            discard_my_data: net.discard_my_data,
            dry_run: net.tentative,
            two_primaries: net.two_primaries,
            integrity_alg: text(&net.integrity_alg),
        };
        let packet = if update {
            Packet::ProtocolUpdate(settings)
        } else {
            Packet::Protocol(settings)
        };
        // Data behind it have digests of this algorithm, those before it of the old one.
        self.s.digest_out_len = self.s.digests.integrity;
        self.order(Order::Link);
        Some(packet.encode(&self.s.link.terms, 0, buf))
    }

    fn encode_sync_param(
        &self,
        v: VolumeIndex,
        number: u16,
        buf: &mut [u8],
    ) -> Option<Result<usize, drbd_format::wire::EncodeError>> {
        let net = self.s.net?;
        let config = self
            .vol(v)
            .disk
            .map_or(DiskConfig::DEFAULT, |disk| disk.config);
        let param = SyncParam {
            resync_rate_kib: config.resync_rate_kib,
            verify_alg: Some(text(&net.verify_alg)),
            csums_alg: Some(text(&net.csums_alg)),
            controller: Some(RateController {
                plan_ahead_tenths: config.c_plan_ahead_tenths,
                delay_target_tenths: config.c_delay_target_tenths,
                fill_target_sectors: config.c_fill_target,
                max_rate_kib: config.c_max_rate_kib,
            }),
        };
        let packet = if self.version() >= 89 {
            Packet::SyncParam89(param)
        } else {
            Packet::SyncParam(param)
        };
        Some(packet.encode(&self.s.link.terms, number, buf))
    }

    fn uuid_packet(&mut self, v: VolumeIndex, flags: u32) -> Option<Packet<'static>> {
        let volume = self.vol_mut(v);
        let counted = core::mem::take(&mut volume.bits_counted);
        let bits_set = if counted {
            volume.sent_bits
        } else {
            volume.facts.bits_set
        };
        volume.uuids_queued = volume.uuids_queued.saturating_sub(1);
        let compared = volume.compared_uuids.take();
        let uuids = compared.unwrap_or(volume.disk?.stable_uuids);
        volume.sent_bits = bits_set;
        Some(Packet::Uuids(Uuids {
            set: uuids.to_set(),
            bits_set,
            flags: UuidFlags(u64::from(flags)),
        }))
    }
}

impl generation::Uuids {
    /// Takes the UUIDs of a packet or superblock.
    pub const fn from_set(set: &UuidSet) -> Self {
        let [h0, h1] = set.history;
        Self::from_array([set.current.0, set.bitmap.0, h0.0, h1.0])
    }

    /// Returns the UUIDs as packets and superblocks hold them.
    pub const fn to_set(self) -> UuidSet {
        let [h0, h1] = self.history;
        UuidSet {
            current: Uuid(self.current),
            bitmap: Uuid(self.bitmap),
            history: [Uuid(h0), Uuid(h1)],
        }
    }
}
