//! A hostile peer: any bytes on both sockets, in every state of the connection.
//!
//! The first two bytes choose a story and how much of it happens before the attack begins; the
//! third whether disk requests wait to be ended, and whether the control worker is slow. Then
//! follow steps: packets with a correct header and arbitrary content, answers to what the node has
//! sent, plain bytes, time, requests of applications, commands, ends of disk requests.
//!
//! Promises: nothing panics; memory stays below what was negotiated; the link goes on or is ended
//! with a line in the log; a peer that falls silent does not keep the node waiting; afterwards
//! nothing is left of it.

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::link::{LinkError, VolumeIndex};
use drbd_core::request::Op;
use drbd_core::time::Duration;
use drbd_format::types::{ConnState, Role};
use drbd_format::wire::command::{Command, Stream};
use drbd_format::wire::features::Terms;
use drbd_format::wire::header::Header;
use drbd_format::wire::packet::decode_front;

use crate::input::Input;
use crate::node::{app_io, trace, Node, SECTORS, VOLUMES};
use crate::story::stories;

/// Steps of one attack, at most.
const STEPS_MAX: usize = 64;
/// Bytes by which a packet is filled up to the length that its header announces.
const FILL_MAX: usize = 16 * 1024;
/// Packets of the node that an answer may refer to.
const REMEMBERED: usize = 8;

/// Attacks a node.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let stories = stories();
    let story = &stories[usize::from(input.byte()) % stories.len()];
    let len = usize::from(input.byte()) % (story.events.len() + 1);
    let mode = input.byte();
    let mut attack = Attack {
        node: story.begin(len),
        seen: Vec::new(),
    };
    attack.node.hold = mode & 1 != 0;
    attack.node.busy = mode & 2 != 0;
    trace(|| format!("--- attack in {}", attack.node.state()));
    for _ in 0..STEPS_MAX {
        if input.rest.is_empty() {
            break;
        }
        attack.step(&mut input);
        attack.look();
    }
    attack.end();
}

struct Attack {
    node: Node,
    /// Fixed parts of what the node has sent.
    seen: Vec<(Command, Vec<u8>)>,
}

impl Attack {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=4 => self.packet(false, input),
            5..=6 => self.packet(true, input),
            7 => self.answer(input),
            8 => {
                let meta = input.byte() & 1 != 0;
                let len = usize::from(input.byte());
                let bytes = input.bytes(len);
                self.node.arrive(meta, bytes);
            }
            9 => {
                let millis = [1, 10, 100, 600, 3_000, 20_000, 100_000, 0];
                let millis = millis[usize::from(input.byte() % 8)];
                self.node.pass(Duration::from_millis(millis));
            }
            10..=11 => self.application(input),
            12..=13 => {
                let (which, ok) = (usize::from(input.byte()), input.byte() & 3 != 0);
                if which >= 0xc0 || !self.node.end_one_job(which, ok) {
                    self.node.act();
                }
            }
            14 => self.command(input),
            _ => self.link(input),
        }
        trace(|| "settle".to_string());
        self.node.settle();
        trace(|| format!("    {}", self.node.state()));
    }

    fn link(&mut self, input: &mut Input<'_>) {
        if self.node.linked {
            self.node.lose_link(match input.byte() % 4 {
                0 => LinkError::BrokenPipe,
                1 => LinkError::NetworkFailure,
                2 => LinkError::Timeout,
                _ => LinkError::ProtocolError,
            });
        } else if self.node.wanted {
            self.node.sockets_up();
        }
    }

    /// Notes what the node has sent, and that it says why it hangs up.
    fn look(&mut self) {
        let terms = *self.node.core.data.terms();
        for sent in std::mem::take(&mut self.node.outbox) {
            trace(|| format!("-> {:02x?}", &sent.bytes[..sent.bytes.len().min(40)]));
            let stream = if sent.meta {
                Stream::Meta
            } else {
                Stream::Data
            };
            // What was sent before the version was agreed upon is of no use any more.
            let Ok(Some(found)) = decode_front(&terms, stream, &sent.bytes) else {
                continue;
            };
            if self.seen.len() == REMEMBERED {
                self.seen.remove(0);
            }
            let from = terms.version.header_len();
            self.seen
                .push((found.frame.command(), sent.bytes[from..].to_vec()));
        }
    }

    /// A packet whose header is right as far as the input wants it to be.
    fn packet(&mut self, meta: bool, input: &mut Input<'_>) {
        let command = Command::ALL[usize::from(input.byte()) % Command::ALL.len()];
        let how = input.byte();
        let terms = *self.node.core.data.terms();
        let (min, max) = command.payload_limits(&terms);
        let payload_len = match how >> 4 & 7 {
            0..=3 => min,
            4 => max,
            5 => min + u32::from(input.byte()) * 512,
            6 => min + u32::from(input.byte()),
            _ => u32::from(input.u16()) << 16 | u32::from(input.u16()),
        };
        let given = input.bytes(usize::from(how & 15) * 4);
        let volume = u16::from(how >> 7);
        self.send(meta, &terms, command, volume, payload_len, given);
    }

    /// Something that refers to a packet of the node: its block, its id, its number.
    fn answer(&mut self, input: &mut Input<'_>) {
        let (which, command, how) = (input.byte(), input.byte(), input.byte());
        if self.seen.is_empty() {
            return;
        }
        let (asked, question) = &self.seen[usize::from(which) % self.seen.len()];
        let command = match answer_to(*asked) {
            Some(fits) if command & 0x80 == 0 => fits[usize::from(command) % fits.len()],
            _ => Command::ALL[usize::from(command) % Command::ALL.len()],
        };
        let kept = match asked {
            Command::Barrier => 4,
            _ => 20,
        };
        let mut given: Vec<u8> = question.iter().take(kept).copied().collect();
        let terms = *self.node.core.data.terms();
        let (min, _) = command.payload_limits(&terms);
        let size = question.get(16..20).map_or(0, |size| {
            u32::from_be_bytes([size[0], size[1], size[2], size[3]])
        });
        let payload_len = match command {
            Command::DataReply | Command::RsDataReply => {
                given.truncate(16);
                min - 512 + size.min(1 << 21)
            }
            Command::OvReply => min - 1 + 16,
            _ => min,
        };
        given.extend_from_slice(input.bytes(usize::from(how & 15)));
        let meta = command.payload_limits(&terms).1 <= 24 && is_meta(command);
        self.send(meta, &terms, command, 0, payload_len, &given);
    }

    fn send(
        &mut self,
        meta: bool,
        terms: &Terms,
        command: Command,
        volume: u16,
        payload_len: u32,
        given: &[u8],
    ) {
        let header = Header {
            volume: if terms.version.has_volumes() {
                volume
            } else {
                0
            },
            command: command.to_wire(),
            payload_len,
        };
        let mut bytes = vec![0; terms.version.header_len()];
        if header.encode(terms.version, &mut bytes).is_err() {
            return;
        }
        bytes.extend_from_slice(given);
        let whole = (payload_len as usize).min(FILL_MAX) + terms.version.header_len();
        bytes.resize(whole, 0);
        trace(|| format!("<- {command} {payload_len} {given:02x?}"));
        self.node.arrive(meta, &bytes);
    }

    fn application(&mut self, input: &mut Input<'_>) {
        let ops = [
            Op::Read,
            Op::Write,
            Op::Write,
            Op::Discard,
            Op::Flush,
            Op::WriteZeroes,
        ];
        let op = ops[usize::from(input.byte()) % ops.len()];
        let blocks = u32::from(input.byte() % 32) + 1;
        let len = if op == Op::Flush { 0 } else { blocks * 4096 };
        let last = SECTORS - u64::from(blocks) * 8;
        let mut io = app_io(op, u64::from(input.u16()) * 8 % last, len);
        io.fua = blocks % 4 == 3;
        io.preflush = blocks % 8 == 5;
        trace(|| format!("{io:?}"));
        self.node.submit(&io);
    }

    fn command(&mut self, input: &mut Input<'_>) {
        let (which, how) = (input.byte(), input.byte());
        let volume = VolumeIndex(how >> 7);
        let force = how & 1 != 0;
        let role = if how & 2 == 0 {
            Role::Primary
        } else {
            Role::Secondary
        };
        let request = match which % 14 {
            0 => AdminRequest::Disconnect { force },
            1 => AdminRequest::Detach { volume, force },
            2 => return self.node.attach(volume, DiskConfig::DEFAULT),
            3 => AdminRequest::Invalidate { volume },
            4 => AdminRequest::InvalidateRemote { volume },
            5 => AdminRequest::PauseSync { volume },
            6 => AdminRequest::ResumeSync { volume },
            7 => AdminRequest::SetRole {
                volume,
                role,
                force,
            },
            8 => AdminRequest::Outdate { volume },
            9 => AdminRequest::SuspendIo { volume },
            10 => AdminRequest::ResumeIo { volume },
            11 => AdminRequest::Verify {
                volume,
                start: (how & 4 != 0).then(|| u64::from(how) * 64),
                stop: u64::MAX,
            },
            12 => AdminRequest::NewCurrentUuid {
                volume,
                clear_bitmap: force,
            },
            _ => AdminRequest::Resize {
                volume,
                size_sectors: u64::from(how & 0x70) * 100,
                force,
                assume_clean: how & 2 != 0,
                max_capacity_sectors: SECTORS,
            },
        };
        trace(|| format!("{request:?}"));
        self.node.admin(&request);
    }

    /// Everything under way ends; then the peer is silent, and the node must notice.
    fn end(mut self) {
        trace(|| "--- the end".to_string());
        let node = &mut self.node;
        node.hold = false;
        node.busy = false;
        loop {
            while node.end_one_job(0, true) {}
            node.settle();
            if !node.end_one_job(0, true) {
                break;
            }
        }
        let mut waited = 0;
        while node.linked {
            node.pass(Duration::from_secs(5));
            node.settle();
            waited += 5;
            assert!(
                waited < 600,
                "a silent peer keeps the node in {}",
                node.state()
            );
        }
        // Without a peer and with nobody who forbids it, what is left comes to its end.
        node.admin(&AdminRequest::Disconnect { force: true });
        node.settle();
        assert_eq!(node.state().conn, ConnState::StandAlone);
        for volume in (0..VOLUMES).map(VolumeIndex) {
            node.admin(&AdminRequest::ResumeIo { volume });
            node.settle();
        }
        for _ in 0..3 {
            node.pass(Duration::from_secs(60));
            node.settle();
        }
        node.check_nothing_left();
    }
}

/// What may answer a packet.
fn answer_to(asked: Command) -> Option<&'static [Command]> {
    Some(match asked {
        Command::Data | Command::Trim | Command::Zeroes => &[
            Command::WriteAck,
            Command::RecvAck,
            Command::NegAck,
            Command::Superseded,
            Command::RetryWrite,
            Command::RsWriteAck,
        ],
        Command::Barrier => &[Command::BarrierAck],
        Command::DataRequest => &[Command::DataReply, Command::NegDReply],
        Command::RsDataRequest | Command::RsThinReq | Command::CsumRsRequest => &[
            Command::RsDataReply,
            Command::RsDeallocated,
            Command::NegRsDReply,
            Command::RsIsInSync,
            Command::RsCancel,
        ],
        Command::RsDataReply | Command::RsDeallocated => {
            &[Command::RsWriteAck, Command::NegAck, Command::WriteAck]
        }
        Command::OvRequest => &[Command::OvReply, Command::NegRsDReply, Command::RsCancel],
        Command::OvReply => &[Command::OvResult],
        Command::StateChgReq => &[Command::StateChgReply],
        Command::ConnStChgReq => &[Command::ConnStChgReply],
        Command::Ping => &[Command::PingAck],
        _ => return None,
    })
}

/// Tells whether the packet belongs on the meta socket.
fn is_meta(command: Command) -> bool {
    use Command::{
        BarrierAck, ConnStChgReply, NegAck, NegDReply, NegRsDReply, OvResult, Ping, PingAck,
        RecvAck, RetryWrite, RsCancel, RsIsInSync, RsWriteAck, StateChgReply, Superseded, WriteAck,
    };
    matches!(
        command,
        BarrierAck
            | ConnStChgReply
            | NegAck
            | NegDReply
            | NegRsDReply
            | OvResult
            | Ping
            | PingAck
            | RecvAck
            | RetryWrite
            | RsCancel
            | RsIsInSync
            | RsWriteAck
            | StateChgReply
            | Superseded
            | WriteAck
    )
}
