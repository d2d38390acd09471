//! Addresses of endpoints: as users write them, as the kernel wants them.
//!
//! Forms and families: `reference/netlink.md` 6.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Port if none is given.
const DEFAULT_PORT: u16 = 7788;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_SDP: u16 = 27;

/// Why an address could not be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// The port is no port.
    #[error("port expected but got '{0}'")]
    Port(String),
    /// The host name stands for no address.
    #[error("can not resolve the hostname: gethostbyname({0}): Host name lookup failure")]
    Name(String),
}

/// Reads `[FAMILY:]ADDRESS[:PORT]` and returns a socket address as C lays it out.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, AddressError> {
    let (family, rest) = match text.split_once(':') {
        Some((word @ ("ipv4" | "ipv6" | "sdp" | "ssocks" | "sci"), rest)) => (word, rest),
        _ => ("ipv4", text),
    };
    let (host, port) = split_port(rest)?;
    if family == "ipv6" {
        let SocketAddr::V6(address) = resolve(host, port, true)? else {
            return Err(AddressError::Name(host.to_owned()));
        };
        let mut bytes = Vec::with_capacity(28);
        bytes.extend_from_slice(&AF_INET6.to_ne_bytes());
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend_from_slice(&address.flowinfo().to_ne_bytes());
        bytes.extend_from_slice(&address.ip().octets());
        bytes.extend_from_slice(&address.scope_id().to_ne_bytes());
        return Ok(bytes);
    }
    let number = match family {
        "ipv4" => AF_INET,
        "sdp" => AF_SDP,
        _ => ssocks_family(),
    };
    let IpAddr::V4(address) = resolve(host, port, false)?.ip() else {
        return Err(AddressError::Name(host.to_owned()));
    };
    let mut bytes = Vec::with_capacity(16);
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&address.octets());
    bytes.resize(16, 0);
    Ok(bytes)
}

fn split_port(text: &str) -> Result<(&str, u16), AddressError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    match port {
        None => Ok((host, DEFAULT_PORT)),
        Some(port) => match port.parse() {
            Ok(number) => Ok((host, number)),
            Err(_) => Err(AddressError::Port(port.to_owned())),
        },
    }
}

fn resolve(host: &str, port: u16, v6: bool) -> Result<SocketAddr, AddressError> {
    let failed = || AddressError::Name(host.to_owned());
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    (host, port)
        .to_socket_addrs()
        .map_err(|_| failed())?
        .find(|address| address.is_ipv6() == v6)
        .ok_or_else(failed)
}

/// Family of super sockets; the number belongs to whoever registered it.
fn ssocks_family() -> u16 {
    ["/proc/net/af_ssocks/family", "/proc/net/af_sci/family"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
        .unwrap_or(AF_SDP)
}

/// Shows a socket address as the configuration writes it: `ipv4 10.1.1.1:7788`.
pub(crate) fn show(bytes: &[u8]) -> String {
    let word = |at: usize| bytes.get(at..at + 2).and_then(|word| word.try_into().ok());
    let (Some(family), Some(port)) = (word(0), word(2)) else {
        return "[unknown af]".to_owned();
    };
    let (family, port) = (u16::from_ne_bytes(family), u16::from_be_bytes(port));
    if family == AF_INET6 {
        let octets = bytes
            .get(8..24)
            .and_then(|octets| <[u8; 16]>::try_from(octets).ok());
        let zone = bytes
            .get(24..28)
            .and_then(|zone| <[u8; 4]>::try_from(zone).ok())
            .map_or(0, u32::from_ne_bytes);
        // Without its zone a link-local address is another endpoint to the kernel.
        let zone = match zone {
            0 => String::new(),
            index => format!("%{index}"),
        };
        return match octets {
            Some(octets) => format!("ipv6 [{}{zone}]:{port}", Ipv6Addr::from(octets)),
            None => format!("[unknown af={family}, len={}]", bytes.len()),
        };
    }
    let name = match family {
        AF_INET => "ipv4",
        AF_SDP => "sdp",
        _ if family == ssocks_family() => "ssocks",
        _ => return format!("[unknown af={family}, len={}]", bytes.len()),
    };
    match bytes
        .get(4..8)
        .and_then(|octets| <[u8; 4]>::try_from(octets).ok())
    {
        Some(octets) => format!("{name} {}:{port}", Ipv4Addr::from(octets)),
        None => format!("[unknown af={family}, len={}]", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_a_sockaddr_in_with_the_port_in_network_order() {
        let bytes = parse("10.22.100.212:7789").unwrap();
        let mut wanted = vec![0, 0, 0x1e, 0x6d, 10, 22, 100, 212];
        wanted[..2].copy_from_slice(&2u16.to_ne_bytes());
        wanted.resize(16, 0);
        assert_eq!(bytes, wanted);
        assert_eq!(parse("ipv4:10.22.100.212:7789").unwrap(), wanted);
        assert_eq!(show(&bytes), "ipv4 10.22.100.212:7789");
    }

    #[test]
    fn the_port_may_be_left_out() {
        assert_eq!(show(&parse("1.2.3.4").unwrap()), "ipv4 1.2.3.4:7788");
        assert_eq!(
            show(&parse("ipv6:[fe80::1]").unwrap()),
            "ipv6 [fe80::1]:7788"
        );
    }

    #[test]
    fn ipv6_is_a_sockaddr_in6() {
        let bytes = parse("ipv6:[::1]:7790").unwrap();
        assert_eq!(bytes.len(), 28);
        assert_eq!(bytes[23], 1);
        assert_eq!(show(&bytes), "ipv6 [::1]:7790");
    }

    #[test]
    fn what_is_shown_names_the_same_endpoint() {
        for text in ["ipv6:[fe80::1%1]:7790", "ipv6:[fd00::1]:7790", "1.2.3.4:7"] {
            let bytes = parse(text).unwrap();
            let argument = show(&bytes).replacen(' ', ":", 1);
            assert_eq!(parse(&argument).unwrap(), bytes, "{argument}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse("1.2.3.4:port").is_err());
        assert!(parse("ipv6:1.2.3.4").is_err());
        assert!(parse("no such host.invalid").is_err());
        assert_eq!(show(&[1]), "[unknown af]");
    }
}
