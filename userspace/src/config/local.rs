//! Which node this is: its name and the addresses of its interfaces.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::model::{Address, Family};

/// The node from whose point of view the configuration is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// The name that the `on` sections use.
    pub(crate) name: String,
    ipv4: Vec<(Ipv4Addr, u8)>,
    ipv6: Vec<Ipv6Addr>,
}

impl Node {
    /// Describes the machine this runs on, under the name `name`.
    pub(crate) fn this(name: String) -> Self {
        let routes = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        let links = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        Self {
            name,
            ipv4: local_routes(&routes),
            ipv6: interface_addresses(&links),
        }
    }

    /// Reports whether an interface of this node has the address.
    ///
    /// Families other than the internet protocols are taken on trust.
    pub(crate) fn has(&self, address: &Address) -> bool {
        let host = address.host.split('%').next().unwrap_or("");
        match address.family {
            Family::Ipv4 => host.parse().is_ok_and(|wanted: Ipv4Addr| {
                self.ipv4
                    .iter()
                    .any(|&(network, prefix)| contains(network, prefix, wanted))
            }),
            Family::Ipv6 => host.parse().is_ok_and(|wanted| self.ipv6.contains(&wanted)),
            Family::Sdp | Family::Ssocks => true,
        }
    }
}

fn contains(network: Ipv4Addr, prefix: u8, wanted: Ipv4Addr) -> bool {
    let host_bits = 32_u32.saturating_sub(u32::from(prefix));
    let cut = |address: Ipv4Addr| u32::from(address).checked_shr(host_bits).unwrap_or(0);
    cut(network) == cut(wanted)
}

/// Finds the addresses that the kernel's routing table calls local: that of each interface is one
/// host, and all of 127.0.0.0/8 is at home everywhere. Other networks that are delivered here, as
/// with a transparent proxy, may be the whole world.
fn local_routes(table: &str) -> Vec<(Ipv4Addr, u8)> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if let Some(route) = line.strip_suffix(" host LOCAL") {
            let prefix = route
                .strip_prefix('/')
                .and_then(|prefix| prefix.parse().ok());
            let route = leaf.zip(prefix);
            found.extend(route.filter(|(network, prefix)| *prefix == 32 || network.is_loopback()));
        }
    }
    found
}

/// Reads the kernel's list of IPv6 addresses: 32 hexadecimal digits at the start of each line.
fn interface_addresses(list: &str) -> Vec<Ipv6Addr> {
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    list.lines()
        .filter_map(first)
        .filter(|digits| digits.len() == 32)
        .filter_map(|digits| u128::from_str_radix(&digits, 16).ok())
        .map(Ipv6Addr::from)
        .collect()
}

impl Node {
    /// Makes a node with one address, without asking the system.
    pub(crate) fn pretended(name: &str, address: &str) -> Self {
        Self {
            name: name.to_owned(),
            ipv4: address.parse().map(|ip| (ip, 32)).into_iter().collect(),
            ipv6: Vec::new(),
        }
    }
}

#[cfg(test)]
impl Node {
    /// Makes a node for tests; it has every address of `addresses`.
    pub(crate) fn for_test(name: &str, addresses: &[&str]) -> Self {
        let ipv4 = addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .map(|a| (a, 32));
        let ipv6 = addresses.iter().filter_map(|text| text.parse().ok());
        Self {
            name: name.to_owned(),
            ipv4: ipv4.collect(),
            ipv6: ipv6.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Place;

    fn address(family: Family, host: &str) -> Address {
        Address {
            family,
            host: host.into(),
            port: 7789,
            place: Place::default(),
        }
    }

    #[test]
    fn local_addresses_come_from_the_routing_table() {
        let table =
            "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n \
                     Local:\n |-- 127.0.0.0\n  /8 host LOCAL\n |-- 127.0.0.1\n /32 host LOCAL\n \
                     |-- 192.0.2.2\n   /32 host LOCAL\n |-- 192.0.2.255\n  /32 link BROADCAST\n\
                     Id 100:\n |-- 0.0.0.0\n  /0 host LOCAL\n |-- 198.51.100.0\n  \
                     /24 host LOCAL\n";
        let node = Node {
            name: "a".into(),
            ipv4: local_routes(table),
            ipv6: Vec::new(),
        };
        for (host, is_local) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("192.0.2.2", true),
            ("192.0.2.3", false),
            ("192.0.2.255", false),
            ("0.0.0.0", false),
            // What is only delivered here, as for a transparent proxy, no interface has.
            ("203.0.113.9", false),
            ("198.51.100.9", false),
        ] {
            assert_eq!(node.has(&address(Family::Ipv4, host)), is_local, "{host}");
        }
        assert!(node.has(&address(Family::Sdp, "10.0.0.1")), "not checked");
    }

    #[test]
    fn the_zone_of_an_ipv6_address_does_not_matter() {
        let list = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\nnonsense\n";
        let node = Node {
            name: "a".into(),
            ipv4: Vec::new(),
            ipv6: interface_addresses(list),
        };
        assert!(node.has(&address(Family::Ipv6, "fe80::fc:ff:fe00:1%eth0")));
        assert!(!node.has(&address(Family::Ipv6, "::1")));
    }
}
