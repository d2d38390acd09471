// SPDX-License-Identifier: GPL-2.0-only

//! User-mode helpers: the handlers of the configuration (reference/netlink.md 8).

use crate::{
    admin::events,
    kabi::{
        log,
        params,
        socket::Addr,
        thread::NoIo,
        usermode_helper, //
    },
    resource::{
        Errand,
        Resource, //
    },
    volume::Volume, //
};
use core::fmt::Write;
use drbd_core::{
    action::Handler,
    input::Input,
    link::VolumeIndex, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Address families as the environment names them.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A short text with a NUL at its end.
struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    fn new(text: core::fmt::Arguments<'_>) -> Self {
        let mut line = Self::of(&[]);
        // What does not fit is cut off; all texts here are shorter.
        let _ = line.write_fmt(text);
        line
    }

    /// A text of bytes in any encoding.
    fn of(text: &[u8]) -> Self {
        let mut line = Self {
            bytes: [0; N],
            len: 0,
        };
        line.push(text);
        line
    }

    fn push(&mut self, text: &[u8]) {
        // One byte stays zero.
        let last = N.saturating_sub(1);
        for byte in text {
            if self.len < last {
                if let Some(place) = self.bytes.get_mut(self.len) {
                    *place = *byte;
                    self.len = self.len.saturating_add(1);
                }
            }
        }
    }

    fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

impl<const N: usize> Write for Line<N> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Whom a helper is about, as it was when the helper was called. It may have to wait for others,
/// and volume and connection may be gone when it runs.
pub(crate) struct Subject {
    pub(crate) resource: Arc<Resource>,
    /// `None`: the helper is about the resource.
    pub(crate) volume: Option<Arc<Volume>>,
    /// The own and the peer's address, if there is a network configuration.
    pub(crate) addresses: Option<(Addr, Addr)>,
}

/// Starts a helper on a thread of its own, so that the resource goes on meanwhile. With `answer`,
/// the number of the run, the core is told how it ended. Called in the order of actions. May sleep.
pub(crate) fn run(
    resource: &Arc<Resource>,
    handler: Handler,
    volume: Option<VolumeIndex>,
    answer: Option<u32>,
) {
    let of_resource = handler.concerns_resource();
    let subject = Subject {
        resource: resource.clone(),
        volume: volume
            .filter(|_| !of_resource)
            .and_then(|index| resource.volume(index)),
        addresses: resource.connector.addresses(),
    };
    let errand = Errand::begin(resource);
    let work = move || {
        let _errand = errand;
        // Events take locks that the control thread takes, and only this may end what is frozen.
        let _noio = NoIo::enter();
        let status = call(&subject, handler);
        if let Some(run) = answer {
            subject.resource.handle(Input::HelperDone {
                handler,
                volume,
                run,
                exit: exit_code(status),
            });
        }
    };
    // Handlers of volumes run one after the other, as the state that they are told about does.
    let queue = if of_resource || is_emergency(handler) {
        &resource.urgent_helpers
    } else {
        &resource.helpers
    };
    if queue.spawn(work).is_err() {
        resource.log(
            log::Level::Error,
            fmt!("no memory to run {}", handler.name()),
        );
        if let Some(run) = answer {
            resource.handle(Input::HelperDone {
                handler,
                volume,
                run,
                exit: 0,
            });
        }
    }
}

/// The handler may be there to stop the node, and does not wait for others: what another one does
/// may hang on the disk that fails.
const fn is_emergency(handler: Handler) -> bool {
    matches!(handler, Handler::LocalIoError | Handler::PriOnInconDegr)
}

/// Returns the exit code of a wait status; a helper that could not be run counts as 0.
fn exit_code(status: i32) -> u8 {
    u8::try_from((status.max(0) >> 8) & 0xff).unwrap_or(0)
}

fn call(subject: &Subject, handler: Handler) -> i32 {
    let (resource, device) = (&subject.resource, subject.volume.as_deref());
    let argument = match device {
        Some(volume) => Line::<130>::new(fmt!("minor-{}", volume.minor)),
        None => Line::of(resource.name.as_bytes()),
    };
    let name = Line::<32>::new(fmt!("{}", handler.name()));
    let mut path = [0; params::USERMODE_HELPER_LEN];
    let program = params::usermode_helper(&mut path).unwrap_or(c"/sbin/drbdadm");
    let (family, address) = peer(subject);
    let mut environment = [
        c"HOME=/",
        c"TERM=linux",
        c"PATH=/sbin:/usr/sbin:/bin:/usr/bin",
        c"",
        c"",
    ];
    let mut count = 3;
    if let (Some(family), Some(address)) = (&family, &address) {
        let [.., first, second] = &mut environment;
        *first = family.as_cstr();
        *second = address.as_cstr();
        count = 5;
    }
    let argv = [program, name.as_cstr(), argument.as_cstr()];
    let shown = argument.as_cstr().to_str().unwrap_or("?");
    let program_shown = program.to_str().unwrap_or("?");
    let name_shown = handler.name();
    let text = |level, end: core::fmt::Arguments<'_>| match device {
        Some(volume) => volume.log(
            level,
            fmt!("helper command: {program_shown} {name_shown} {shown}{end}"),
        ),
        None => resource.log(
            level,
            fmt!("helper command: {program_shown} {name_shown} {shown}{end}"),
        ),
    };
    text(log::Level::Info, fmt!(""));
    events::helper(subject, handler.name(), None);
    let environment = environment.get(..count).unwrap_or(&[]);
    let status = usermode_helper::call(&argv, environment).unwrap_or_else(|error| error.to_errno());
    let (exit, raw) = (exit_code(status), status);
    let level = if raw == 0 {
        log::Level::Info
    } else {
        log::Level::Warning
    };
    text(level, fmt!(" exit code {exit} ({raw:#x})"));
    // CAST: The raw wait status travels as an unsigned number.
    events::helper(subject, handler.name(), Some(status as u32));
    status
}

/// Returns the environment lines about the peer.
fn peer(subject: &Subject) -> (Option<Line<24>>, Option<Line<64>>) {
    let Some((_, peer)) = &subject.addresses else {
        return (None, None);
    };
    let family = match peer.family() {
        AF_INET => "ipv4",
        AF_INET6 => "ipv6",
        _ => "ssocks",
    };
    (
        Some(Line::new(fmt!("DRBD_PEER_AF={family}"))),
        Some(Line::new(fmt!("DRBD_PEER_ADDRESS={}", peer.host()))),
    )
}
