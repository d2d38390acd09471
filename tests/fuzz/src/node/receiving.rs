//! Receiving, byte by byte, as the kernel module does.

use drbd_core::data::Incoming;
use drbd_core::handshake::Stage;
use drbd_core::link::LinkError;
use drbd_core::resource::Front;

use super::{trace, Node, Pages};

/// The longest header and fixed part that a receiver has room for.
const BUFFER_LEN: usize = 4096 + 64;

/// How far the data socket has been read.
#[derive(Debug, Default)]
pub(super) enum Receiver {
    /// A header comes next.
    #[default]
    Header,
    /// Digest and payload come next, the latter into these pages if there are any.
    Payload(Incoming, Option<Pages>),
    /// The core has asked to wait.
    Wait,
}

/// Bytes of a socket that have not been used up.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    at: usize,
}

impl Inbox {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    fn use_up(&mut self, len: usize) {
        self.at += len;
        if self.at >= self.bytes.len() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }
}

impl Node {
    /// Bytes arrive.
    pub fn arrive(&mut self, meta: bool, bytes: &[u8]) {
        if self.hears() {
            let inbox = if meta {
                &mut self.meta_in
            } else {
                &mut self.data_in
            };
            inbox.bytes.extend_from_slice(bytes);
        }
    }

    /// A packet that had to wait is tried again. Returns whether it could be taken.
    pub(super) fn retry(&mut self) -> bool {
        if !matches!(self.receiver, Receiver::Wait) || !self.hears() {
            return false;
        }
        let incoming = self.core.data_retry(self.now);
        self.incoming(incoming);
        !matches!(self.receiver, Receiver::Wait)
    }

    pub(super) fn receive_data(&mut self) -> bool {
        let mut active = false;
        while self.hears() {
            match &self.receiver {
                Receiver::Header => {
                    let rest = self.data_in.rest();
                    match self.core.data_front(rest, self.now) {
                        Front::Need(len) => {
                            assert!(len <= BUFFER_LEN, "{len} bytes wanted in one piece");
                            assert!(len > rest.len(), "more wanted than needed");
                            return active;
                        }
                        Front::Packet { used, incoming, .. } => {
                            self.data_in.use_up(used);
                            self.incoming(incoming);
                        }
                    }
                }
                Receiver::Payload(incoming, _) => {
                    let (digest_len, len) = payload_lens(incoming);
                    let rest = self.data_in.rest();
                    if rest.len() < digest_len + len {
                        return active;
                    }
                    let intact = rest[..digest_len].iter().all(|&byte| byte == 0);
                    self.data_in.use_up(digest_len + len);
                    let received = std::mem::take(&mut self.receiver);
                    self.payload(received, intact);
                }
                Receiver::Wait => return active,
            }
            active = true;
        }
        active
    }

    fn incoming(&mut self, incoming: Incoming) {
        trace(|| format!("{incoming:?}"));
        self.receiver = match incoming {
            Incoming::Done => Receiver::Header,
            Incoming::Error(_) => {
                // The core has dealt with it already and keeps the first reason.
                self.lose_link(LinkError::ProtocolError);
                Receiver::Header
            }
            Incoming::LoadDigest => {
                let incoming = self.core.digest_loaded(Some(8), self.now);
                return self.incoming(incoming);
            }
            Incoming::Wait => Receiver::Wait,
            Incoming::AppPayload { .. } | Incoming::Drain { .. } => {
                Receiver::Payload(incoming, None)
            }
            Incoming::PeerPayload { len_bytes, .. } => {
                let pages = self.allocate(len_bytes);
                Receiver::Payload(incoming, Some(pages))
            }
        };
    }

    fn payload(&mut self, received: Receiver, intact: bool) {
        let Receiver::Payload(incoming, pages) = received else {
            return;
        };
        match (incoming, pages) {
            (Incoming::AppPayload { id, .. }, _) => {
                assert!(self.bios[id.slot as usize].is_some(), "no bio to read into");
                self.core.app_payload(id, intact, self.now);
            }
            (Incoming::PeerPayload { id, .. }, Some(pages)) => {
                self.put(id, pages);
                self.core.peer_payload(id, intact, self.now);
            }
            _ => {}
        }
    }

    pub(super) fn receive_meta(&mut self) -> bool {
        let rest = self.meta_in.rest();
        if !self.hears() || rest.is_empty() {
            return false;
        }
        match self.core.meta_bytes(rest, self.now) {
            Ok(used) => {
                assert!(used <= rest.len(), "more used than there is");
                let left = rest.len() - used;
                assert!(
                    used > 0 || left <= BUFFER_LEN || !self.core_is_up(),
                    "stuck"
                );
                self.meta_in.use_up(used);
                used > 0
            }
            Err(error) => {
                self.lose_link(error);
                true
            }
        }
    }

    fn core_is_up(&self) -> bool {
        let core = &self.core.control_state().0.core;
        core.link.stage == Stage::Up
    }
}

/// Lengths of digest and payload.
fn payload_lens(incoming: &Incoming) -> (usize, usize) {
    match *incoming {
        Incoming::AppPayload {
            len_bytes,
            digest_len,
            ..
        }
        | Incoming::PeerPayload {
            len_bytes,
            digest_len,
            ..
        } => (digest_len as usize, len_bytes as usize),
        Incoming::Drain { len_bytes } => (0, len_bytes as usize),
        Incoming::Done | Incoming::Error(_) | Incoming::LoadDigest | Incoming::Wait => (0, 0),
    }
}
