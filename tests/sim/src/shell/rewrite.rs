//! The bytes of a node that stands for the C driver, where they differ from ours.

use drbd_core::quirk::{Quirk, Quirks};
use drbd_format::wire::command::Command;
use drbd_format::wire::features::ProtocolVersion;
use drbd_format::wire::header::Header;

use crate::world::World;

/// What the addresses of requests in a kernel have in common.
const ADDRESS: u64 = 0xffff_8881_2340_0000;
/// What an uninitialised field holds.
const STALE: u8 = 0xa5;
/// Bytes of a header in the versions that the simulator speaks after the handshake.
const HEADER_LEN: usize = 16;

/// Command and payload of the packet at the front, and what is behind it.
fn split(bytes: &mut [u8]) -> Option<(Command, &mut [u8], &mut [u8])> {
    let version = ProtocolVersion::new(100)?;
    let header = Header::decode(version, bytes.get(..HEADER_LEN)?).ok()?;
    let command = Command::from_wire(header.command).ok()?;
    let (_, rest) = bytes.split_at_mut(HEADER_LEN);
    // The payload of a data packet stands for more than it is.
    let len = rest.len().min(header.payload_len as usize);
    let (payload, behind) = rest.split_at_mut(len);
    Some((command, payload, behind))
}

/// The field that names a request.
fn change_block_id(payload: &mut [u8]) {
    if let Some(field) = payload.get_mut(8..16) {
        for (byte, change) in field.iter_mut().zip(ADDRESS.to_be_bytes()) {
            *byte ^= change;
        }
    }
}

fn is_syncer(payload: &[u8]) -> bool {
    payload.get(8..16) == Some(&[0xff; 8])
}

/// Changes a packet that the C driver sends: what our node wrote for it is not what it would.
fn sent_by_c(command: Command, payload: &mut [u8], quirks: Quirks) -> Quirks {
    use Command as C;
    let mut changed = Quirks::NONE;
    if quirks.contains(Quirk::StaleBytes) {
        let stale = match command {
            C::DataRequest | C::RsDataRequest | C::RsThinReq | C::OvRequest => 20..24,
            C::OvReply | C::CsumRsRequest => 20..24,
            C::OutOfSync => 12..16,
            C::RsIsInSync => 8..16,
            _ => 0..0,
        };
        if let Some(field) = payload.get_mut(stale) {
            field.fill(STALE);
            if !field.is_empty() {
                changed = Quirks::only(Quirk::StaleBytes);
            }
        }
    }
    let names = matches!(command, C::Data | C::Trim | C::Zeroes | C::DataRequest);
    if names && quirks.contains(Quirk::Addresses) {
        change_block_id(payload);
        changed = changed.or(Quirks::only(Quirk::Addresses));
    }
    changed
}

/// Changes a packet back that our node sends in answer.
fn sent_to_c(command: Command, payload: &mut [u8], quirks: Quirks) {
    use Command as C;
    let echoes = matches!(
        command,
        C::RecvAck | C::WriteAck | C::NegAck | C::NegDReply | C::Superseded | C::RetryWrite
    ) || command == C::DataReply;
    if echoes && !is_syncer(payload) && quirks.contains(Quirk::Addresses) {
        change_block_id(payload);
    }
}

impl World {
    /// Changes the packet, or the acks, that a node is about to send into what the two drivers
    /// would say to each other.
    pub(super) fn rewrite(&mut self, node: usize, bytes: &mut [u8]) {
        let (own, other) = (self.nodes[node].quirks, self.nodes[1 - node].quirks);
        if own == other {
            return;
        }
        let mut rest = bytes;
        while let Some((command, payload, behind)) = split(rest) {
            let changed = sent_by_c(command, payload, own);
            self.mattered = self.mattered.or(changed);
            sent_to_c(command, payload, other);
            rest = behind;
        }
    }
}
