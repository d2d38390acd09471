//! Setting up a connection: features, authentication, parameters (`reference/wire.md` 4.1 to 4.4).
//!
//! Stages follow each other strictly; what may arrive in a stage is decided by [`Stage`]. Sizes,
//! UUIDs and states, which may come at any later time too, are handled in `control/`.

use drbd_format::types::ConnState;
use drbd_format::wire::features::{FeatureFlags, Offer, Terms};
use drbd_format::wire::packet::Packet;
use drbd_format::wire::settings::{ProtocolSettings, SyncParam};

use crate::action::{Action, HmacJob};
use crate::config::Name;
use crate::control::engine::{Flags, SUCCESS};
use crate::control::packets::{Handled, Pending};
use crate::control::Control;
use crate::input::DigestUse;
use crate::link::{ControlKind, LinkError, Order, VolumeIndex};
use crate::log::{Level, Line, ShortName};
use crate::state::Change;
use crate::time::{Duration, Instant};

/// Bytes of our challenge.
const CHALLENGE: usize = 64;
/// Longest challenge that a peer may send.
const CHALLENGE_MAX: usize = 128;
/// Longest digest.
const DIGEST_MAX: usize = 64;

/// How far the connection has got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stage {
    /// No sockets.
    #[default]
    Down,
    /// Our features are sent, the peer's are expected.
    Features,
    /// Our challenge is sent, the peer's is expected.
    Challenge,
    /// The peer's response is expected.
    Response,
    /// Parameters are exchanged; with the first P_PROTOCOL the connection is in use.
    Up,
    /// Sockets are being closed.
    Closing,
}

/// Whether the peer has been fenced.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Fence {
    /// Nobody has asked.
    #[default]
    Idle,
    /// The helper runs.
    Running {
        /// Which run.
        run: u32,
        /// The connection after whose end it was called.
        generation: u32,
    },
    /// The helper has ended; the peer counts as fenced or not.
    Done(bool),
}

/// The connection while it is being set up and while it stands.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// How far it has got.
    pub stage: Stage,
    /// Agreed version and features.
    pub terms: Terms,
    /// This node accepted the meta socket.
    pub resolver: bool,
    /// "State sent" (`reference/states.md` 3.5).
    pub state_sent: bool,
    /// The peer, whose packets come one behind the other, has told of all its volumes by then.
    pub all_told_at: Option<Instant>,
    /// The peer's P_PROTOCOL has arrived and fits.
    pub protocol_seen: bool,
    /// One side only wants to know what would happen.
    pub dry_run: bool,
    /// The peer asked for the dry run.
    pub peer_dry_run: bool,
    /// When the sockets came up.
    pub since: Instant,
    /// The stage has to end before that.
    pub deadline: Option<Instant>,
    /// The next attempt begins then.
    pub retry_at: Option<Instant>,
    /// The connection was lost before it stood: pause before the next attempt.
    pub pause: bool,
    /// The shell has sockets, or tries to get them.
    pub shell_active: bool,
    /// The shell has been told to close the sockets.
    pub closing: bool,
    /// Nothing on behalf of the peer is in flight in the data plane.
    pub drained: bool,
    /// Close as soon as the answer to the peer's request has been sent.
    pub close_after_reply: bool,
    /// That answer, which waits until the disks that it calls Outdated are so on disk: to a peer
    /// of an old version, and the code.
    pub reply_due: Option<(bool, i32)>,
    /// The peer has asked for a change of the connection, and has not refused ours for that reason
    /// since.
    pub peer_asked: bool,
    /// The sockets are gone while the peer's answer to our disconnect may still come.
    pub lost_while_leaving: Option<LinkError>,
    /// A packet that has to wait.
    pub pending: Option<Pending>,
    /// Algorithms that the last packet names and that the shell has to load.
    pub load: [Option<(DigestUse, Name)>; 2],
    /// Fencing of the peer.
    pub fence: Fence,
    /// Counts connections that got as far as the parameters, so that a late fencing result is
    /// recognised.
    pub generation: u32,
    own_challenge: [u8; CHALLENGE],
    peer_challenge: [u8; CHALLENGE_MAX],
    peer_challenge_len: u8,
    response: [u8; DIGEST_MAX],
    response_len: u8,
    expected: [u8; DIGEST_MAX],
    expected_len: u8,
}

impl Link {
    /// No connection.
    pub const NONE: Self = Self {
        stage: Stage::Down,
        terms: Terms::INITIAL,
        resolver: false,
        state_sent: false,
        all_told_at: None,
        protocol_seen: false,
        dry_run: false,
        peer_dry_run: false,
        since: Instant(0),
        deadline: None,
        retry_at: None,
        pause: false,
        shell_active: false,
        closing: false,
        drained: true,
        close_after_reply: false,
        reply_due: None,
        peer_asked: false,
        lost_while_leaving: None,
        pending: None,
        load: [None; 2],
        fence: Fence::Idle,
        generation: 0,
        own_challenge: [0; CHALLENGE],
        peer_challenge: [0; CHALLENGE_MAX],
        peer_challenge_len: 0,
        response: [0; DIGEST_MAX],
        response_len: 0,
        expected: [0; DIGEST_MAX],
        expected_len: 0,
    };

    /// What becomes of a packet that may have named algorithms.
    fn load_due(&self) -> Handled {
        let any = self.load.iter().any(Option::is_some);
        if any {
            Handled::Load
        } else {
            Handled::Done
        }
    }

    /// Our challenge.
    pub fn own_challenge(&self) -> &[u8] {
        &self.own_challenge
    }

    /// Our response to the peer's challenge.
    pub fn response(&self) -> &[u8] {
        self.response
            .get(..usize::from(self.response_len))
            .unwrap_or(&[])
    }

    /// Both digests have been computed.
    pub const fn digests_ready(&self) -> bool {
        self.expected_len != 0 && self.response_len != 0
    }

    /// The message of a digest that the shell has to compute.
    pub fn hmac_message(&self, job: HmacJob) -> &[u8] {
        match job {
            HmacJob::Expected => &self.own_challenge,
            HmacJob::Response => self
                .peer_challenge
                .get(..usize::from(self.peer_challenge_len))
                .unwrap_or(&[]),
        }
    }
}

/// Compares in a time that does not depend on where the difference is.
fn equal_digests(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

/// Puts `bytes` at the front of `to` and returns their number.
fn keep(to: &mut [u8], bytes: &[u8]) -> u8 {
    match to.get_mut(..bytes.len()) {
        Some(front) => {
            front.copy_from_slice(bytes);
            u8::try_from(bytes.len()).unwrap_or(0)
        }
        None => 0,
    }
}

impl Control<'_> {
    /// Both sockets exist.
    pub(crate) fn sockets_up(&mut self, resolver: bool, random: &[u8; CHALLENGE]) {
        if self.s.conn != ConnState::WfConnection || self.s.link.stage != Stage::Down {
            return;
        }
        let link = &mut self.s.link;
        *link = Link {
            stage: Stage::Features,
            resolver,
            since: self.now,
            shell_active: true,
            own_challenge: *random,
            generation: link.generation,
            fence: link.fence,
            ..Link::NONE
        };
        self.s.liveness.restart(self.now);
        self.outbox.clear();
        self.stage_deadline();
        self.order(Order::Link);
        self.order(Order::LinkUp);
        self.send(VolumeIndex(0), ControlKind::Features);
    }

    /// The present stage has four ping timeouts.
    fn stage_deadline(&mut self) {
        let tenths = self.s.net.map_or(5, |net| net.ping_timeout_tenths);
        self.s.link.deadline = Some(self.now.after(Duration::from_tenths(tenths).times(4)));
    }

    /// A packet of the stages before the parameters.
    pub(crate) fn early_packet(&mut self, packet: &Packet<'_>) -> Handled {
        match (self.s.link.stage, packet) {
            (Stage::Features, Packet::ConnectionFeatures(offer)) => self.features(offer),
            (Stage::Challenge, Packet::AuthChallenge(challenge)) => self.challenge(challenge),
            (Stage::Response, Packet::AuthResponse(response)) => self.auth_response(response),
            // A peer that leaves out its response may have been interrupted: try again.
            (Stage::Response, _) => Handled::Fail(LinkError::NetworkFailure),
            _ => {
                self.unexpected(packet);
                Handled::Fail(LinkError::StandAlone)
            }
        }
    }

    fn unexpected(&mut self, packet: &Packet<'_>) {
        let line = Line::UnexpectedPacket {
            command: packet.command().to_wire(),
            len_bytes: 0,
            conn: self.s.conn,
        };
        self.log_resource(line);
    }

    fn features(&mut self, offer: &Offer) -> Handled {
        let terms = match Offer::agree(FeatureFlags::OFFERED, offer) {
            Ok(terms) => terms,
            Err(none) => {
                let line = Line::Dialects {
                    min: none.peer_min,
                    max: none.peer_max,
                };
                self.log_resource(line);
                return Handled::Fail(LinkError::StandAlone);
            }
        };
        self.s.link.terms = terms;
        self.order(Order::Link);
        self.log_resource(Line::HandshakeDone {
            version: terms.version.number(),
        });
        self.log_resource(Line::Features {
            flags: terms.features.0,
        });
        if self.s.net.is_some_and(|net| !net.cram_hmac_alg.is_empty()) {
            self.s.link.stage = Stage::Challenge;
            self.stage_deadline();
            self.send(VolumeIndex(0), ControlKind::AuthChallenge);
            return Handled::Done;
        }
        self.send_parameters()
    }

    fn challenge(&mut self, challenge: &[u8]) -> Handled {
        let link = &mut self.s.link;
        let reflected = challenge.get(..CHALLENGE) == Some(&link.own_challenge);
        if reflected {
            self.text_resource(Level::Error, "Peer presented the same challenge!");
            return Handled::Fail(LinkError::StandAlone);
        }
        link.peer_challenge_len = keep(&mut link.peer_challenge, challenge);
        link.stage = Stage::Response;
        self.stage_deadline();
        self.act(Action::Hmac(HmacJob::Response));
        self.act(Action::Hmac(HmacJob::Expected));
        Handled::Done
    }

    /// The shell has computed a digest.
    pub(crate) fn hmac_ready(&mut self, job: HmacJob, digest: &[u8]) {
        if self.s.link.stage != Stage::Response {
            return;
        }
        if digest.is_empty() || digest.len() > DIGEST_MAX {
            self.text_resource(Level::Error, "Authentication of peer failed");
            self.link_failed(LinkError::StandAlone);
            return;
        }
        let link = &mut self.s.link;
        match job {
            HmacJob::Response => {
                link.response_len = keep(&mut link.response, digest);
                self.send(VolumeIndex(0), ControlKind::AuthResponse);
            }
            HmacJob::Expected => link.expected_len = keep(&mut link.expected, digest),
        }
    }

    fn auth_response(&mut self, response: &[u8]) -> Handled {
        let Some(copy) = Pending::auth_response(response) else {
            return Handled::Fail(LinkError::NetworkFailure);
        };
        self.s.link.pending = Some(copy);
        self.check_response(response)
    }

    /// Compares the peer's response as soon as both digests are known.
    pub(crate) fn check_response(&mut self, response: &[u8]) -> Handled {
        let link = &self.s.link;
        if !link.digests_ready() {
            return Handled::Wait;
        }
        let expected = link
            .expected
            .get(..usize::from(link.expected_len))
            .unwrap_or(&[]);
        if response.len() != expected.len() {
            self.text_resource(Level::Error, "Authentication of peer failed, trying again.");
            return Handled::Fail(LinkError::NetworkFailure);
        }
        if !equal_digests(response, expected) {
            self.text_resource(Level::Error, "Authentication of peer failed");
            return Handled::Fail(LinkError::StandAlone);
        }
        let bytes = self.s.link.expected_len;
        self.s.link.pending = None;
        self.log_resource(Line::Authenticated { bytes });
        self.send_parameters()
    }

    /// Sends P_PROTOCOL and the parameters of every volume; the connection is up.
    fn send_parameters(&mut self) -> Handled {
        let dry_run = self.s.net.is_some_and(|net| net.tentative);
        if dry_run && self.version() < 92 {
            self.text_resource(Level::Error, "--dry-run is not supported by peer");
            return Handled::Fail(LinkError::StandAlone);
        }
        self.s.link.stage = Stage::Up;
        self.s.link.generation = self.s.link.generation.wrapping_add(1);
        self.s.link.deadline = None;
        self.s.link.dry_run = dry_run;
        self.s.link.state_sent = true;
        self.send(VolumeIndex(0), ControlKind::Protocol);
        for v in self.indices() {
            let volume = self.vol_mut(v);
            volume.peer = super::control::PeerVolume {
                flags: volume.peer.flags & crate::generation::FLAG_CRASHED_PRIMARY,
                ..Default::default()
            };
            volume.heard = super::control::Heard::No;
            volume.uuids_queued = 0;
            volume.compared_uuids = None;
            volume.bits_counted = false;
            self.send_volume_parameters(v);
        }
        let change = Change::conn(ConnState::WfReportParams);
        if self.set_conn_state(change, Flags::VERBOSE) < SUCCESS {
            self.s.link.state_sent = false;
            return Handled::Fail(LinkError::NetworkFailure);
        }
        if self.indices().next().is_none() {
            self.s.link.state_sent = false;
        }
        Handled::Done
    }

    /// The four packets that introduce a volume (`reference/wire.md` 4.4).
    pub(crate) fn send_volume_parameters(&mut self, v: VolumeIndex) {
        self.vol_mut(v).degraded_timeout = false;
        self.send(v, ControlKind::SyncParam);
        self.send_sizes(v, false, 0);
        self.send_uuids(v, 0);
        self.send_state(v);
    }

    /// P_PROTOCOL (`reference/wire.md` 4.3).
    pub(crate) fn protocol(&mut self, peer: &ProtocolSettings<'_>) -> Handled {
        let Some(net) = self.s.net else {
            return Handled::Fail(LinkError::ProtocolError);
        };
        let checks = [
            ("protocol", net.protocol == peer.protocol),
            (
                "after-sb-0pri",
                net.after_sb_0p == peer.after_sb_0p.mirrored(),
            ),
            (
                "after-sb-1pri",
                net.after_sb_1p == peer.after_sb_1p.mirrored(),
            ),
            (
                "after-sb-2pri",
                net.after_sb_2p == peer.after_sb_2p.mirrored(),
            ),
            (
                "discard-my-data",
                !(net.discard_my_data && peer.discard_my_data),
            ),
            (
                "allow-two-primaries",
                net.two_primaries == peer.two_primaries,
            ),
            (
                "data-integrity-alg",
                // Before version 87 the peer names none, and has none.
                net.integrity_alg.as_bytes() == peer.integrity_alg.as_bytes(),
            ),
        ];
        if let Some((option, _)) = checks.iter().find(|(_, fits)| !fits) {
            self.log_resource(Line::Incompatible(option));
            return Handled::Fail(LinkError::StandAlone);
        }
        let link = &mut self.s.link;
        link.protocol_seen = true;
        link.peer_dry_run = peer.dry_run;
        link.dry_run |= peer.dry_run;
        link.terms.integrity_len = self.s.digests.integrity;
        self.order(Order::Link);
        Handled::Done
    }

    /// P_PROTOCOL_UPDATE: the peer has changed its options online.
    pub(crate) fn protocol_update(&mut self, peer: &ProtocolSettings<'_>) -> Handled {
        let Some(net) = self.s.net.as_mut() else {
            return Handled::Fail(LinkError::ProtocolError);
        };
        net.protocol = peer.protocol;
        net.after_sb_0p = peer.after_sb_0p.mirrored();
        net.after_sb_1p = peer.after_sb_1p.mirrored();
        net.after_sb_2p = peer.after_sb_2p.mirrored();
        net.two_primaries = peer.two_primaries;
        let Some(integrity_alg) = Name::new(peer.integrity_alg.as_bytes()) else {
            return Handled::Fail(LinkError::ProtocolError);
        };
        self.order(Order::Link);
        self.adopt(DigestUse::Integrity, integrity_alg);
        self.s.link.load_due()
    }

    /// The peer has chosen an algorithm. Without one there is nothing to load.
    fn adopt(&mut self, what: DigestUse, name: Name) {
        if name.is_empty() {
            self.digest_chosen(what, name, 0);
            return;
        }
        let place = self.s.link.load.iter_mut().find(|place| place.is_none());
        debug_assert!(place.is_some(), "one packet names two at most");
        if let Some(place) = place {
            *place = Some((what, name));
        }
    }

    fn digest_chosen(&mut self, what: DigestUse, name: Name, len: u8) {
        let digests = &mut self.s.digests;
        match (what, self.s.net.as_mut()) {
            (DigestUse::Integrity, _) => self.s.link.terms.integrity_len = len,
            (DigestUse::Checksums, Some(net)) => (net.csums_alg, digests.csums) = (name, len),
            (DigestUse::Verify, Some(net)) => (net.verify_alg, digests.verify) = (name, len),
            (DigestUse::Checksums | DigestUse::Verify, None) => {}
        }
        self.order(Order::Link);
    }

    /// The shell has loaded the algorithm that the peer has chosen, whose digests have this
    /// length; `None`: there is no such algorithm here.
    pub fn digest_loaded(&mut self, len: Option<u8>) -> Handled {
        let load = &mut self.s.link.load;
        let Some((what, name)) = load.iter_mut().find_map(Option::take) else {
            return Handled::Done;
        };
        let handled = match len {
            Some(len) => {
                self.digest_chosen(what, name, len);
                self.s.link.load_due()
            }
            None => {
                self.log_resource(Line::Incompatible(what.option()));
                Handled::Fail(LinkError::StandAlone)
            }
        };
        self.conclude_packet(handled)
    }

    /// P_SYNC_PARAM and P_SYNC_PARAM89 (`reference/wire.md` 4.4).
    pub(crate) fn sync_param(&mut self, v: VolumeIndex, param: &SyncParam<'_>) -> Handled {
        let Some(net) = self.s.net else {
            return Handled::Fail(LinkError::ProtocolError);
        };
        if let Some(disk) = self.vol_mut(v).disk.as_mut() {
            disk.config.resync_rate_kib = param.resync_rate_kib.clamp(1, 4_194_304);
            if let Some(controller) = param.controller {
                let config = &mut disk.config;
                config.c_plan_ahead_tenths = controller.plan_ahead_tenths.min(300);
                config.c_delay_target_tenths = controller.delay_target_tenths.clamp(1, 100);
                config.c_fill_target = controller.fill_target_sectors.min(1_048_576);
                config.c_max_rate_kib = controller.max_rate_kib.clamp(250, 4_194_304);
            }
            self.order(Order::View(v));
        }
        let connecting = self.vol(v).state.conn == ConnState::WfReportParams;
        let algorithms = [
            (DigestUse::Verify, net.verify_alg, param.verify_alg),
            (DigestUse::Checksums, net.csums_alg, param.csums_alg),
        ];
        for (what, own, peer) in algorithms {
            let Some(peer) = peer else { continue };
            if own.as_bytes() == peer.as_bytes() {
                continue;
            }
            let line = Line::Different {
                option: what.option(),
                own: ShortName::new(&own),
                peer: ShortName::new(&Name::new(peer.as_bytes()).unwrap_or(Name::EMPTY)),
            };
            self.log(v, line);
            if connecting {
                return Handled::Fail(LinkError::StandAlone);
            }
            let Some(name) = Name::new(peer.as_bytes()) else {
                return Handled::Fail(LinkError::ProtocolError);
            };
            self.adopt(what, name);
        }
        self.s.link.load_due()
    }
}
