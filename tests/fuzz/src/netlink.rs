//! Hostile attributes on the netlink socket.
//!
//! Promises: whatever the bytes are, a request is refused or understood; what is understood is
//! written and read back as the same; options end up inside their limits.

use drbd_format::netlink::ids::{Command, Message, UserHeader};
use drbd_format::netlink::info::{
    ConnectionInfo, ConnectionStatistics, Context, DetachParms, DeviceInfo, DeviceStatistics,
    DisconnectParms, HelperInfo, NewCurrentUuidParms, NotificationHeader, PeerDeviceInfo,
    PeerDeviceStatistics, ResizeParms, ResourceInfo, ResourceStatistics, SetRoleParms,
    StartVerifyParms, StateInfo, TimeoutParms,
};
use drbd_format::netlink::tlv::{Attrs, Unknown, Writer};
use drbd_format::options::{DiskConf, NetConf, ResourceOpts};

use crate::input::Input;

/// Reads a structure; what was read must survive being written.
macro_rules! find {
    ($message:expr, $($record:ident),+) => {$(
        if let Ok(Some(found)) = $record::find(&$message) {
            let mut buf = [0; 4096];
            let mut writer = Writer::request(&mut buf);
            assert!(found.emit(&mut writer).is_ok(), "too little space");
            let again = Message::answer(writer.written()).expect("well-formed");
            assert_eq!($record::find(&again), Ok(Some(found)));
        }
    )+};
}

/// Reads and applies the options of a section.
macro_rules! options {
    ($message:expr, $($record:ident),+) => {$(
        if let Ok(Some(nest)) = $message.nest($record::TLA, $record::FIELDS) {
            let mut options = $record::default();
            let _ = $record::refuse_invariants(&nest);
            if options.apply(&nest).is_ok() {
                let limited = options;
                assert!(options.apply(&nest).is_ok());
                assert_eq!(options, limited, "limits settle at once");
            }
        }
    )+};
}

/// Reads a message.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let number = input.byte();
    let raw = input.byte() & 1 == 0;
    let built;
    let bytes = if raw {
        input.rest
    } else {
        built = build(&mut input);
        &built
    };
    if let Ok((header, rest)) = UserHeader::decode(bytes) {
        assert_eq!(
            header.encode().as_slice(),
            &bytes[..bytes.len() - rest.len()]
        );
    }
    let commands = Command::ALL;
    let command = commands[usize::from(number) % commands.len()];
    let request = Message::request(command, bytes);
    if let Err(error) = &request {
        assert_ne!(error.to_string(), "");
    }
    for message in [request, Message::answer(bytes)].into_iter().flatten() {
        look(&message);
    }
    walk(bytes, 0);
}

fn look(message: &Message<'_>) {
    find!(
        message,
        Context,
        SetRoleParms,
        ResizeParms,
        StartVerifyParms,
        NewCurrentUuidParms,
        TimeoutParms,
        DisconnectParms,
        DetachParms,
        StateInfo,
        ResourceInfo,
        DeviceInfo,
        ConnectionInfo,
        PeerDeviceInfo,
        ResourceStatistics,
        DeviceStatistics,
        ConnectionStatistics,
        PeerDeviceStatistics,
        NotificationHeader,
        HelperInfo,
        DiskConf,
        ResourceOpts,
        NetConf
    );
    options!(message, DiskConf, ResourceOpts, NetConf);
    if let Ok(Some(nest)) = message.nest(DiskConf::TLA, DiskConf::FIELDS) {
        let _ = DiskConf::for_attach(&nest);
    }
}

/// Goes through attributes in attributes as far as they go.
fn walk(bytes: &[u8], depth: u32) {
    for attr in Attrs::new(bytes) {
        let Ok(attr) = attr else { return };
        let _ = drbd_format::netlink::tlv::Nest::checked(
            attr.payload,
            NetConf::FIELDS,
            Unknown::Ignore,
        );
        if attr.nested && depth < 4 {
            walk(attr.payload, depth + 1);
        }
    }
}

/// Well-formed attributes with arbitrary numbers and content: random bytes seldom are.
fn build(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.rest.is_empty() && bytes.len() < 2048 {
        let number = u16::from(input.byte() % 40);
        let mut nest = Vec::new();
        for _ in 0..input.byte() % 16 {
            let kind = input.byte();
            let flag = if kind & 0x80 == 0 { 0x4000 } else { 0 };
            let len = match input.byte() {
                how @ 0..=0x7f => [1, 4, 8, 4][usize::from(how % 4)],
                how => usize::from(how & 0x7f),
            };
            let mut payload = input.bytes(len).to_vec();
            payload.resize(len, 0);
            put(&mut nest, u16::from(kind & 0x3f) | flag, &payload);
        }
        put(&mut bytes, number | 0x8000, &nest);
    }
    bytes
}

fn put(to: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let len = u16::try_from(payload.len() + 4).unwrap_or(4);
    to.extend_from_slice(&len.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(payload);
    to.resize(to.len().next_multiple_of(4), 0);
}
