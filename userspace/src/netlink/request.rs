//! The socket: requests and their answers, dumps, events.

use super::message::{DrbdMessage, Request};
use drbd_format::netlink::ids::{EVENTS_GROUP, FAMILY_NAME, FAMILY_VERSION};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_generic::ctrl::nlas::{GenlCtrlAttrs, McastGrpAttrs};
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::GenlMessage;
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::io;
use std::time::{Duration, Instant};

/// How long an answer may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// Size of the family's header, as announced by the controller.
const USER_HEADER_LEN: u32 = 8;

/// Multicast group of the controller itself.
const CONTROLLER_GROUP: u32 = 0x10;

/// Message type of the controller.
const CONTROLLER_TYPE: u16 = 0x10;

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The module is not loaded, or is no DRBD module.
    #[error("Could not connect to 'drbd' generic netlink family")]
    NoFamily,
    /// The module speaks another dialect.
    #[error(
        "API mismatch!\n\tAPI version drbdsetup: {FAMILY_VERSION} kernel: {0}\n\
         \theader size drbdsetup: {USER_HEADER_LEN} kernel: {1}"
    )]
    Mismatch(u32, u32),
    /// The kernel refused the message as such.
    #[error("received netlink error reply: {}", strerror(.0))]
    Refused(io::Error),
    /// No answer in time.
    #[error("no answer from the kernel within {} s", REPLY_TIMEOUT.as_secs())]
    Timeout,
    /// Events were lost because they were not read fast enough.
    #[error("events lost")]
    Overrun,
    /// The module went away.
    #[error("the module was unloaded")]
    Unloaded,
    /// The socket failed.
    #[error("netlink: {}", strerror(.0))]
    Io(#[from] io::Error),
    /// The kernel sent something unreadable.
    #[error("unreadable message from the kernel: {0}")]
    Garbled(String),
}

/// Returns the text of a system error without the number that Rust adds.
pub(crate) fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// What a dump or the stream of events yields.
#[derive(Debug)]
pub(crate) struct Received {
    /// Sequence number of the message.
    pub(crate) sequence: u32,
    /// The message.
    pub(crate) message: DrbdMessage,
}

/// A socket that speaks to the family.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    family: u16,
    events_group: Option<u32>,
    sequence: u32,
    /// Read from the socket but not yet handed out.
    pending: std::collections::VecDeque<Frame>,
    /// Events were lost behind those that still wait to be read.
    has_lost: bool,
}

#[derive(Debug)]
enum Frame {
    Drbd(u32, DrbdMessage),
    Control(u32, GenlCtrl),
    Error(u32, Option<io::Error>),
    Done(u32, i32),
}

impl Channel {
    /// Opens a socket and looks the family up.
    pub(crate) fn open() -> Result<Self, ChannelError> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        if let Some(size) = std::env::var("DRBD_GENL_RCVBUF_SZ")
            .ok()
            .and_then(|v| v.parse().ok())
        {
            let size: u32 = size;
            socket.set_rx_buf_sz(size)?;
        }
        let sequence = std::process::id();
        let pending = std::collections::VecDeque::new();
        let mut channel = Self {
            socket,
            family: 0,
            events_group: None,
            sequence,
            pending,
            has_lost: false,
        };
        channel.resolve()?;
        Ok(channel)
    }

    fn resolve(&mut self) -> Result<(), ChannelError> {
        let lookup = GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY_NAME.to_owned())],
        };
        let sequence = self.next_sequence();
        let mut message = NetlinkMessage::from(GenlMessage::from_payload(lookup));
        message.header.flags = NLM_F_REQUEST;
        message.header.sequence_number = sequence;
        message.finalize();
        self.send(&message)?;
        let deadline = Some(Instant::now() + REPLY_TIMEOUT);
        loop {
            match self.next_frame(deadline)? {
                Frame::Control(seq, answer) if seq == sequence => return self.adopt(&answer),
                Frame::Error(seq, Some(_)) if seq == sequence => {
                    return Err(ChannelError::NoFamily)
                }
                _ => {}
            }
        }
    }

    fn adopt(&mut self, answer: &GenlCtrl) -> Result<(), ChannelError> {
        let (mut version, mut header_len) = (0, 0);
        for nla in &answer.nlas {
            match nla {
                GenlCtrlAttrs::FamilyId(id) => self.family = *id,
                GenlCtrlAttrs::Version(number) => version = *number,
                GenlCtrlAttrs::HdrSize(len) => header_len = *len,
                GenlCtrlAttrs::McastGroups(groups) => {
                    self.events_group = groups.iter().find_map(|group| events_id(group));
                }
                _ => {}
            }
        }
        if self.family == 0 {
            return Err(ChannelError::NoFamily);
        }
        if version != u32::from(FAMILY_VERSION) || header_len != USER_HEADER_LEN {
            return Err(ChannelError::Mismatch(version, header_len));
        }
        Ok(())
    }

    /// Sends a command and waits for its answer.
    ///
    /// Not on a channel that has subscribed: events that come before the answer would be gone, and
    /// the answer is lost when they have filled the socket.
    pub(crate) fn command(&mut self, request: Request) -> Result<DrbdMessage, ChannelError> {
        self.command_until(request, None)
    }

    /// Sends a command and waits for its answer, but not beyond `deadline`.
    pub(crate) fn command_until(
        &mut self,
        request: Request,
        deadline: Option<Instant>,
    ) -> Result<DrbdMessage, ChannelError> {
        let sequence = self.send_request(request, NLM_F_REQUEST)?;
        let longest = Instant::now() + REPLY_TIMEOUT;
        let deadline = Some(deadline.map_or(longest, |deadline| deadline.min(longest)));
        loop {
            match self.next_frame(deadline)? {
                Frame::Drbd(seq, message) if seq == sequence => return Ok(message),
                Frame::Error(seq, Some(error)) if seq == sequence => {
                    return Err(ChannelError::Refused(error))
                }
                _ => {}
            }
        }
    }

    /// Sends a dump request and returns everything the kernel answers.
    pub(crate) fn dump(&mut self, request: Request) -> Result<Vec<Received>, ChannelError> {
        let mut dump = self.start_dump(request)?;
        let mut received = Vec::new();
        while let Some(element) = self.next_of_dump(&mut dump)? {
            received.push(element);
        }
        Ok(received)
    }

    /// Sends a dump request whose elements [`Self::next_of_dump`] hands out.
    pub(crate) fn start_dump(&mut self, request: Request) -> Result<Dump, ChannelError> {
        let sequence = self.send_request(request, NLM_F_REQUEST | NLM_F_DUMP | NLM_F_ACK)?;
        Ok(Dump { sequence })
    }

    /// Returns the next element of a dump, `None` at its end.
    pub(crate) fn next_of_dump(
        &mut self,
        dump: &mut Dump,
    ) -> Result<Option<Received>, ChannelError> {
        let deadline = Some(Instant::now() + REPLY_TIMEOUT);
        loop {
            match self.next_frame(deadline)? {
                Frame::Drbd(sequence, message) if sequence == dump.sequence => {
                    return Ok(Some(Received { sequence, message }))
                }
                Frame::Done(sequence, code) if sequence == dump.sequence => {
                    return match code {
                        0.. => Ok(None),
                        _ => Err(ChannelError::Refused(io::Error::from_raw_os_error(-code))),
                    }
                }
                Frame::Error(sequence, Some(error)) if sequence == dump.sequence => {
                    return Err(ChannelError::Refused(error))
                }
                _ => {}
            }
        }
    }

    /// Joins the group of events.
    pub(crate) fn subscribe(&mut self) -> Result<(), ChannelError> {
        let group = self.events_group.ok_or(ChannelError::NoFamily)?;
        self.socket.add_membership(group)?;
        self.socket.add_membership(CONTROLLER_GROUP)?;
        Ok(())
    }

    /// Returns the next event, `None` if there is none until `deadline`.
    ///
    /// Elements of a dump that is under way count as events; its end is passed over.
    pub(crate) fn next_event(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Received>, ChannelError> {
        loop {
            match self.next_frame(deadline) {
                Ok(Frame::Drbd(sequence, message)) => {
                    return Ok(Some(Received { sequence, message }))
                }
                Ok(Frame::Control(_, control)) if self.is_farewell(&control) => {
                    return Err(ChannelError::Unloaded)
                }
                Ok(_) => {}
                Err(ChannelError::Timeout) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn is_farewell(&self, control: &GenlCtrl) -> bool {
        matches!(
            control.cmd,
            GenlCtrlCmd::DelFamily | GenlCtrlCmd::DelMcastGrp
        ) && control
            .nlas
            .iter()
            .any(|nla| matches!(nla, GenlCtrlAttrs::FamilyId(family) if *family == self.family))
    }

    fn send_request(&mut self, request: Request, flags: u16) -> Result<u32, ChannelError> {
        let sequence = self.next_sequence();
        let mut payload = GenlMessage::from_payload(request.into_message());
        payload.set_resolved_family_id(self.family);
        let mut message = NetlinkMessage::from(payload);
        // An acknowledgement of a dump would only repeat its end.
        message.header.flags = flags & !(NLM_F_ACK * u16::from(flags & NLM_F_DUMP != 0));
        message.header.sequence_number = sequence;
        message.finalize();
        self.send(&message)?;
        Ok(sequence)
    }

    fn send<T: netlink_packet_core::NetlinkSerializable>(
        &self,
        message: &NetlinkMessage<T>,
    ) -> Result<(), ChannelError> {
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    fn next_frame(&mut self, deadline: Option<Instant>) -> Result<Frame, ChannelError> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Ok(frame);
            }
            // While unread events are left the kernel drops new ones without another word. So the
            // loss is reported behind them: who asks then misses nothing.
            let now = self.has_lost.then(Instant::now);
            match self.wait_readable(now.or(deadline)) {
                Err(ChannelError::Timeout) if self.has_lost => {
                    self.has_lost = false;
                    return Err(ChannelError::Overrun);
                }
                other => other?,
            }
            let (bytes, sender) = match self.socket.recv_from_full() {
                Ok(datagram) => datagram,
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                    self.has_lost = true;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if sender.port_number() == 0 {
                self.unpack(&bytes)?;
            }
        }
    }

    fn wait_readable(&self, deadline: Option<Instant>) -> Result<(), ChannelError> {
        loop {
            let timeout = deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                Timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Err(ChannelError::Timeout),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(ChannelError::Io(error.into())),
            }
        }
    }

    /// Splits a datagram, which may hold several messages.
    fn unpack(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        let mut rest = bytes;
        while rest.len() >= NLMSG_HDRLEN {
            let (len, kind) = length_and_type(rest);
            let Some(one) = rest.get(..len).filter(|one| one.len() >= NLMSG_HDRLEN) else {
                return Err(ChannelError::Garbled(format!(
                    "length {len} of {}",
                    rest.len()
                )));
            };
            if let Some(frame) = self.frame_of(one, kind)? {
                self.pending.push_back(frame);
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        Ok(())
    }

    fn frame_of(&self, bytes: &[u8], kind: u16) -> Result<Option<Frame>, ChannelError> {
        let garbled =
            |error: netlink_packet_core::DecodeError| ChannelError::Garbled(error.to_string());
        if kind == CONTROLLER_TYPE {
            let Ok(message) = NetlinkMessage::<GenlMessage<GenlCtrl>>::deserialize(bytes) else {
                return Ok(None);
            };
            let sequence = message.header.sequence_number;
            return Ok(match message.payload {
                NetlinkPayload::InnerMessage(control) => {
                    Some(Frame::Control(sequence, control.payload))
                }
                _ => None,
            });
        }
        if kind >= NLMSG_MIN_TYPE && kind != self.family {
            return Ok(None);
        }
        let message =
            NetlinkMessage::<GenlMessage<DrbdMessage>>::deserialize(bytes).map_err(garbled)?;
        let sequence = message.header.sequence_number;
        Ok(match message.payload {
            NetlinkPayload::InnerMessage(drbd) => Some(Frame::Drbd(sequence, drbd.payload)),
            NetlinkPayload::Done(done) => Some(Frame::Done(sequence, done.code)),
            NetlinkPayload::Error(error) => {
                Some(Frame::Error(sequence, error.code.map(|_| error.to_io())))
            }
            _ => None,
        })
    }
}

/// A dump that is under way.
#[derive(Debug)]
pub(crate) struct Dump {
    sequence: u32,
}

const NLMSG_HDRLEN: usize = 16;
const NLMSG_MIN_TYPE: u16 = 0x10;
const ENOBUFS: i32 = 105;

fn length_and_type(bytes: &[u8]) -> (usize, u16) {
    let len = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (
        usize::try_from(len).unwrap_or(usize::MAX),
        u16::from_ne_bytes([bytes[4], bytes[5]]),
    )
}

fn events_id(group: &[McastGrpAttrs]) -> Option<u32> {
    let named = |attr: &McastGrpAttrs| matches!(attr, McastGrpAttrs::Name(n) if n == EVENTS_GROUP);
    let id = |attr: &McastGrpAttrs| match attr {
        McastGrpAttrs::Id(id) => Some(*id),
        McastGrpAttrs::Name(_) => None,
    };
    group
        .iter()
        .any(named)
        .then(|| group.iter().find_map(id))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sockets of users, on which anybody may send to a group.
    const NETLINK_USERSOCK: isize = 2;
    const GROUP: u32 = 7;

    /// A channel whose events come from the other socket.
    fn pair() -> Option<(Channel, Socket)> {
        let mut socket = Socket::new(NETLINK_USERSOCK).ok()?;
        socket.bind_auto().ok()?;
        socket.add_membership(GROUP).ok()?;
        socket.set_rx_buf_sz(4096u32).ok()?;
        let channel = Channel {
            socket,
            family: 0x20,
            events_group: Some(GROUP),
            sequence: 1,
            pending: std::collections::VecDeque::new(),
            has_lost: false,
        };
        let mut sender = Socket::new(NETLINK_USERSOCK).ok()?;
        sender.bind_auto().ok()?;
        Some((channel, sender))
    }

    #[test]
    fn a_loss_is_reported_when_nothing_more_can_be_lost_unheard() {
        let Some((mut channel, sender)) = pair() else {
            eprintln!("skipped: groups of netlink need the right to join them");
            return;
        };
        let to_group = SocketAddr::new(0, 1 << (GROUP - 1));
        let fill = || (0..64).for_each(|_| drop(sender.send_to(&[0; 512], &to_group, 0)));
        let soon = || Some(Instant::now() + Duration::from_secs(5));
        for _ in 0..2 {
            fill();
            let event = channel.next_event(soon());
            assert!(matches!(event, Err(ChannelError::Overrun)), "{event:?}");
            // Nothing is left unread: the next event gets through, or its loss is heard of.
            let rest = channel.wait_readable(Some(Instant::now()));
            assert!(matches!(rest, Err(ChannelError::Timeout)), "{rest:?}");
        }
    }
}
