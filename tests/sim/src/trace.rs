//! Names for the trace.

use drbd_format::wire::command::Command;
use drbd_format::wire::features::ProtocolVersion;
use drbd_format::wire::header::Header;

fn header(bytes: &[u8], header_len: usize) -> Option<Header> {
    let version = match header_len {
        16 => 100,
        _ => 86,
    };
    let version = ProtocolVersion::new(version)?;
    Header::decode(version, bytes.get(..header_len)?).ok()
}

/// Names the packet that begins with these bytes.
pub fn command(bytes: &[u8], header_len: usize) -> String {
    match header(bytes, header_len).or_else(|| header(bytes, 8)) {
        Some(header) => match Command::from_wire(header.command) {
            Ok(command) => format!("{command:?}/{} len {}", header.volume, header.payload_len),
            Err(_) => format!("command {:#x}", header.command),
        },
        None => format!("{} bytes", bytes.len()),
    }
}

/// Names all packets in these bytes of the meta socket.
pub fn acks(bytes: &[u8]) -> String {
    let mut names = Vec::new();
    let mut rest = bytes;
    while let Some(found) = header(rest, 16) {
        names.push(command(rest, 16));
        let Some(behind) = rest.get(16 + found.payload_len as usize..) else {
            break;
        };
        rest = behind;
    }
    format!("acks {}", names.join(", "))
}
