// SPDX-License-Identifier: GPL-2.0-only

//! The life of the receiver thread: establish two sockets, serve them, tear down, again.
//!
//! The order of connects and accepts is decided by [`drbd_core::establish`]. The control plane
//! asks for a connection with StartConnect and ends it with exactly one CloseSockets, whoever
//! noticed first that it is over; only after that this thread reports that it is gone.

use super::{
    link::{
        Link,
        LinkThreads, //
    },
    receiver, //
};
use crate::{
    bell::Bell,
    kabi::{
        digest::{
            random_bytes,
            random_u64, //
        },
        listener::Listener,
        log,
        socket::{
            Addr,
            Buffers,
            Recv,
            SendFlags,
            Socket, //
        },
        thread, //
    },
    resource::Resource, //
};
use drbd_core::{
    establish::{
        Establish,
        FirstPacket,
        Placement,
        Step,
        Stream, //
    },
    input::Input,
    link::LinkError,
    query::LinkOptions, //
};
use drbd_format::wire::{
    command::Command,
    features::ProtocolVersion,
    header::Header, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        Arc,
        Mutex, //
    }, //
};

/// Socket priority of the data socket: interactive bulk.
const PRIORITY_DATA: u32 = 4;
/// Socket priority of the meta socket: interactive.
const PRIORITY_META: u32 = 6;

/// Length of the packet that tells what a stream is for.
const FIRST_PACKET_LEN: usize = 8;

/// What the receiver thread works on, shared with those who ask it to stop.
#[pin_data]
pub(crate) struct Connector {
    #[pin]
    bell: Bell,
    /// Somebody wants a connection.
    wanted: Atomic<bool>,
    /// A connection was asked for, and the end of it has not been reported.
    started: Atomic<bool>,
    #[pin]
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    addresses: Option<(Addr, Addr)>,
    listener: Option<Arc<Listener>>,
    link: Option<Arc<Link>>,
}

impl Connector {
    /// Creates a connector without addresses.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            bell <- Bell::new(),
            wanted: Atomic::new(false),
            started: Atomic::new(false),
            current <- new_mutex!(Current::default(), "drbd_connector"),
        })
    }

    /// Sets or forgets the own and the peer's address. May sleep.
    pub(crate) fn set_addresses(&self, addresses: Option<(Addr, Addr)>) {
        self.current.lock().addresses = addresses;
    }

    /// Returns the own and the peer's address. May sleep.
    pub(crate) fn addresses(&self) -> Option<(Addr, Addr)> {
        self.current.lock().addresses
    }

    /// Begins to listen and connect.
    pub(crate) fn start(&self) {
        self.started.store(true, Release);
        self.wanted.store(true, Release);
        self.bell.ring();
    }

    /// Tells whether a start has not been answered yet, and forgets it.
    fn take_start(&self) -> bool {
        self.started.xchg(false, Full)
    }

    /// Ends the connection or the attempt. May sleep.
    pub(crate) fn close(&self) {
        self.wanted.store(false, Release);
        let current = self.current.lock();
        if let Some(listener) = &current.listener {
            listener.abort();
        }
        if let Some(link) = &current.link {
            link.close();
        }
        drop(current);
        self.bell.ring();
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Acquire) && !thread::should_stop()
    }

    /// Sleeps, unless the attempt is given up meanwhile.
    fn pause(&self, timeout_ms: u32) {
        self.bell.wait_timeout(timeout_ms);
    }
}

/// The receiver thread: one connection after the other.
pub(crate) fn run(resource: &Arc<Resource>) {
    let connector = &resource.connector;
    while !thread::should_stop() {
        connector.bell.wait();
        // A start that was taken back at once is answered like any other.
        if !connector.take_start() {
            continue;
        }
        match establish(resource) {
            Ok(Some((link, resolver))) => serve(resource, &link, resolver),
            Ok(None) => resource.handle(Input::ReceiverGone),
            Err(error) => {
                resource.log(log::Level::Warning, fmt!("can not listen: {error:?}"));
                connector.wanted.store(false, Release);
                resource.handle(Input::ConnectFailed);
            }
        }
    }
}

/// Runs one link from its first packet to its last.
fn serve(resource: &Arc<Resource>, link: &Arc<Link>, resolver: bool) {
    let connector = &resource.connector;
    connector.current.lock().link = Some(link.clone());
    let mut random = [0; 64];
    random_bytes(&mut random);
    resource.handle(Input::SocketsUp {
        resolver,
        random: &random,
    });
    match LinkThreads::start(resource, link) {
        Ok(threads) => {
            let error = receiver::run(resource, link);
            lost(resource, link, error);
            // The control plane has heard of the loss and answers with CloseSockets.
            while connector.is_wanted() {
                connector.bell.wait();
            }
            drop(threads);
        }
        // The loss has been reported.
        Err(_) => {
            while connector.is_wanted() {
                connector.bell.wait();
            }
        }
    }
    connector.current.lock().link = None;
    resource.handle(Input::ReceiverGone);
}

/// Reports the loss of a link, once.
pub(super) fn lost(resource: &Resource, link: &Link, error: LinkError) {
    if !link.is_closing() {
        link.take_back();
        resource.handle(Input::LinkLost(error));
    }
    link.close();
}

/// The sockets of one attempt.
#[derive(Default)]
struct Slots {
    data: Option<Socket>,
    meta: Option<Socket>,
}

impl Slots {
    fn slot(&mut self, stream: Stream) -> &mut Option<Socket> {
        match stream {
            Stream::Data => &mut self.data,
            Stream::Meta => &mut self.meta,
        }
    }

    /// Looks at both sockets and closes what is dead.
    fn probe(&mut self) -> (bool, bool) {
        (alive(&mut self.data), alive(&mut self.meta))
    }
}

fn alive(slot: &mut Option<Socket>) -> bool {
    let lives = slot.as_ref().is_some_and(|socket| {
        let mut byte = [0];
        match socket.recv(&mut byte, Recv::Peek) {
            Ok(len) => len > 0,
            Err(error) => error == EAGAIN,
        }
    });
    if !lives {
        *slot = None;
    }
    lives
}

/// Returns the link and whether this node resolves conflicts; `None` if nobody wants it any more.
///
/// # Errors
///
/// The own address cannot be listened on.
fn establish(resource: &Arc<Resource>) -> Result<Option<(Arc<Link>, bool)>> {
    let connector = &resource.connector;
    let options = resource.with(|inner, _| inner.core.link_options());
    let (local, peer) = connector.addresses().ok_or(ENOTCONN)?;
    let listener = Arc::new(Listener::new(&local, buffers(&options))?, GFP_KERNEL)?;
    connector.current.lock().listener = Some(listener.clone());
    let result = negotiate(connector, &listener, &local, &peer, &options);
    connector.current.lock().listener = None;
    result
}

fn negotiate(
    connector: &Connector,
    listener: &Listener,
    local: &Addr,
    peer: &Addr,
    options: &LinkOptions,
) -> Result<Option<(Arc<Link>, bool)>> {
    let mut machine = Establish::new();
    let mut slots = Slots::default();
    loop {
        // A signal from the end of an earlier connection would break every call from here on; it
        // may come late, but not after this start, as the same thread asks for both. One that is
        // meant for us comes after the wish was taken back, so it is not lost.
        thread::flush_signals();
        if !connector.is_wanted() {
            return Ok(None);
        }
        let step = match machine.next(random_u64() & 1 == 1) {
            Step::Connect => {
                connect(&mut machine, &mut slots, local, peer, options);
                None
            }
            Step::Probe => {
                connector.pause(options.check_timeout_ms);
                let (data, meta) = slots.probe();
                machine.probed(data, meta)
            }
            Step::Accept { shorter } => {
                accept(&mut machine, &mut slots, listener, options, shorter);
                None
            }
            step @ Step::Established { .. } => Some(step),
        };
        if let Some(Step::Established { resolver }) = step {
            return finish(slots, options).map(|link| Some((link, resolver)));
        }
    }
}

fn buffers(options: &LinkOptions) -> Buffers {
    Buffers {
        send_bytes: options.sndbuf_bytes,
        receive_bytes: options.rcvbuf_bytes,
    }
}

fn connect(
    machine: &mut Establish,
    slots: &mut Slots,
    local: &Addr,
    peer: &Addr,
    options: &LinkOptions,
) {
    let socket = Socket::connect(local, peer, buffers(options), options.connect_int_ms).ok();
    match (machine.connected(socket.is_some()), socket) {
        (Placement::Keep(stream), Some(socket)) => {
            // A failure shows when the socket is probed.
            let _ = send_first_packet(&socket, stream);
            *slots.slot(stream) = Some(socket);
        }
        (Placement::Keep(_) | Placement::Close, _) => {}
    }
}

fn accept(
    machine: &mut Establish,
    slots: &mut Slots,
    listener: &Listener,
    options: &LinkOptions,
    shorter: bool,
) {
    let seventh = options.connect_int_ms / 7;
    let wait_ms = if shorter {
        options.connect_int_ms.saturating_sub(seventh)
    } else {
        options.connect_int_ms.saturating_add(seventh)
    };
    let socket = listener.accept(wait_ms).ok();
    let first = match &socket {
        None => FirstPacket::Nobody,
        Some(socket) => first_packet(socket, options),
    };
    let (data, meta) = slots.probe();
    match (machine.accepted(first, data, meta), socket) {
        (Placement::Keep(stream), Some(socket)) => *slots.slot(stream) = Some(socket),
        (Placement::Keep(_) | Placement::Close, _) => {}
    }
}

fn send_first_packet(socket: &Socket, stream: Stream) -> Result<usize> {
    let command = match stream {
        Stream::Data => Command::InitialData,
        Stream::Meta => Command::InitialMeta,
    };
    let first = Header {
        volume: 0,
        command: command.to_wire(),
        payload_len: 0,
    };
    let mut bytes = [0; FIRST_PACKET_LEN];
    first
        .encode(ProtocolVersion::INITIAL, &mut bytes)
        .map_err(|_| EINVAL)?;
    socket.send(&bytes, SendFlags::default())
}

fn first_packet(socket: &Socket, options: &LinkOptions) -> FirstPacket {
    socket.set_recv_timeout_ms(Some(options.ping_timeout_ms.saturating_mul(4)));
    let mut bytes = [0; FIRST_PACKET_LEN];
    match socket.recv(&mut bytes, Recv::Exact) {
        Ok(FIRST_PACKET_LEN) => {}
        Ok(_) | Err(_) => return FirstPacket::Unusable,
    }
    let command = Header::decode(ProtocolVersion::INITIAL, &bytes)
        .ok()
        .and_then(|header| Command::from_wire(header.command).ok());
    match command {
        Some(Command::InitialData) => FirstPacket::Initial(Stream::Data),
        Some(Command::InitialMeta) => FirstPacket::Initial(Stream::Meta),
        Some(_) | None => FirstPacket::Unusable,
    }
}

/// Sets both sockets up for their work.
fn finish(slots: Slots, options: &LinkOptions) -> Result<Arc<Link>> {
    let (Some(data), Some(meta)) = (slots.data, slots.meta) else {
        return Err(ENOTCONN);
    };
    for (socket, priority) in [(&data, PRIORITY_DATA), (&meta, PRIORITY_META)] {
        socket.set_nodelay();
        socket.set_priority(priority);
        socket.set_recv_timeout_ms(None);
        socket.set_send_timeout_ms(Some(options.timeout_ms));
    }
    Link::new(data, meta)
}
