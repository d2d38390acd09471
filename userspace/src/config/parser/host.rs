//! Host sections, volumes and addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use drbd_format::options::Section;

use super::cursor::Cursor;
use super::top::Parser;
use crate::config::lexer::Kind;
use crate::config::model::{
    Address, Device, Family, Host, HostKind, MetaDisk, MetaIndex, Name, Proxy, ProxyOptions,
    Resource, Settings, Volume, MINOR_MAX, VOLUME_MAX,
};
use crate::config::source::{Diagnostic, Place};

/// What a host section accepts, in the words that scripts know.
const IN_HOST: &str = "disk | device | address | meta-disk | flexible-meta-disk";
/// What a stacked host section accepts.
const IN_STACKED: &str = "device | address | proxy";
/// What a volume accepts.
const IN_VOLUME: &str = "device | disk | meta-disk | flex-meta-disk | }";
/// How the name of a device node begins that does not contain the minor.
const FREE_NAME: &str = "/dev/drbd_";
/// How an address begins.
const ADDRESS: &str = "ssocks | sdp | ipv4 | ipv6 | <ipv4 address> ";

impl Parser<'_> {
    /// Reads `on`, `floating` or `stacked-on-top-of` with its body.
    pub(super) fn host(
        &mut self,
        cursor: &mut Cursor,
        resource: &mut Resource,
    ) -> Result<(), Diagnostic> {
        let place = cursor.here();
        let keyword = cursor.take().map(|token| token.text).unwrap_or_default();
        let mut host = new_host(HostKind::Floating, place);
        match keyword.as_str() {
            "on" => {
                let mut names = vec![cursor.name()?];
                while !cursor.at('{') {
                    names.push(cursor.name()?);
                }
                for name in &names {
                    let key = format!("{}: on {}", resource.name.text, name.text);
                    self.claim("host section", key, place)?;
                }
                host.kind = HostKind::On(names);
            }
            "floating" => host.address = Some(address(cursor)?),
            _ => {
                let lower = cursor.name()?;
                let key = format!("stacked:{}", lower.text);
                self.claim("stacked-on-top-of", key, place)?;
                host.kind = HostKind::Stacked(lower);
            }
        }
        host.place = place.to(cursor.before());
        let is_floating = matches!(host.kind, HostKind::Floating);
        if is_floating && !cursor.at('{') {
            if !cursor.take_mark(';') {
                return Err(cursor.unexpected("{ | ;"));
            }
        } else {
            self.host_body(cursor, &resource.name.text, &mut host)?;
        }
        if host.address.is_none() {
            return Err(missing(&resource.name.text, &host, "address"));
        }
        resource.hosts.push(host);
        Ok(())
    }

    /// Reads `_this_host` or `_remote_host`, in which every statement may be missing.
    pub(super) fn pseudo_host(
        &mut self,
        cursor: &mut Cursor,
        resource: &mut Resource,
    ) -> Result<(), Diagnostic> {
        let place = cursor.here();
        let keyword = cursor.take().map(|token| token.text).unwrap_or_default();
        let name = Name {
            text: keyword.clone(),
            place,
        };
        let mut host = new_host(HostKind::On(vec![name]), place);
        self.host_body(cursor, &resource.name.text, &mut host)?;
        host.volumes.sort_by_key(|volume| volume.number);
        let slot = match keyword.as_str() {
            "_this_host" => &mut resource.running.here,
            _ => &mut resource.running.there,
        };
        *slot = Some(Box::new(host));
        Ok(())
    }

    fn host_body(
        &mut self,
        cursor: &mut Cursor,
        resource: &str,
        host: &mut Host,
    ) -> Result<(), Diagnostic> {
        let scope = format!("{resource}:{}", host.label());
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            self.host_statement(cursor, &scope, host)?;
        }
        Ok(())
    }

    fn host_statement(
        &mut self,
        cursor: &mut Cursor,
        scope: &str,
        host: &mut Host,
    ) -> Result<(), Diagnostic> {
        let place = cursor.here();
        let is_stacked = matches!(host.kind, HostKind::Stacked(_));
        let word = cursor.peek_word().unwrap_or_default().to_owned();
        match word.as_str() {
            "address" if matches!(host.kind, HostKind::Floating) => {
                let sentence = "address statement not allowed for floating {} host sections";
                return Err(Diagnostic::error(
                    place,
                    sentence.into(),
                    "not allowed here",
                ));
            }
            "address" => {
                cursor.take();
                self.claim("address statement", format!("{scope}:address"), place)?;
                host.address = Some(self.address_statement(cursor, place)?);
            }
            "alternate-link-address" => {
                cursor.take();
                self.claim(
                    "alt-address statement",
                    format!("{scope}:alt-address"),
                    place,
                )?;
                host.alternate = Some(self.address_statement(cursor, place)?);
            }
            "proxy" => host.proxy = Some(self.proxy_on(cursor, scope)?),
            "options" if !is_stacked => {
                cursor.take();
                self.options(cursor, Section::Options, &mut host.options)?;
            }
            "disk" if !is_stacked && follows_brace(cursor) => {
                cursor.take();
                let volume = implicit(&mut host.volumes, place);
                self.options(cursor, Section::Disk, &mut volume.options)?;
            }
            "disk" | "meta-disk" | "flexible-meta-disk" if is_stacked => {
                return Err(cursor.unexpected(IN_STACKED));
            }
            _ if self.volume_statement(cursor, scope, &mut host.volumes)? => {}
            _ if cursor.at_end() => return Err(cursor.unexpected("}")),
            _ => return Err(cursor.unexpected(if is_stacked { IN_STACKED } else { IN_HOST })),
        }
        Ok(())
    }

    fn address_statement(
        &mut self,
        cursor: &mut Cursor,
        place: Place,
    ) -> Result<Address, Diagnostic> {
        let mut found = address(cursor)?;
        found.place = place.to(found.place);
        cursor.expect(';')?;
        Ok(found)
    }

    fn proxy_on(&mut self, cursor: &mut Cursor, scope: &str) -> Result<Proxy, Diagnostic> {
        let place = cursor.here();
        cursor.take();
        self.claim("proxy section", format!("{scope}:proxy"), place)?;
        if !cursor.take_word("on") {
            return Err(cursor.unexpected("on"));
        }
        let mut hosts = vec![cursor.name()?];
        while !cursor.at('{') {
            hosts.push(cursor.name()?);
        }
        let options = ProxyOptions::default();
        let mut proxy = Proxy {
            hosts,
            inside: None,
            outside: None,
            options,
        };
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            let start = cursor.here();
            if cursor.take_word("inside") {
                proxy.inside = Some(self.address_statement(cursor, start)?);
            } else if cursor.take_word("outside") {
                proxy.outside = Some(self.address_statement(cursor, start)?);
            } else if cursor.take_word("options") {
                self.proxy_options(cursor, &mut proxy.options)?;
            } else {
                return Err(cursor.unexpected("inside | outside"));
            }
        }
        Ok(proxy)
    }

    /// Reads one statement about the implicit volume of `volumes`, or a whole `volume` section.
    ///
    /// Returns false and takes nothing if something else comes next.
    pub(super) fn volume_statement(
        &mut self,
        cursor: &mut Cursor,
        scope: &str,
        volumes: &mut Vec<Volume>,
    ) -> Result<bool, Diagnostic> {
        let place = cursor.here();
        match cursor.peek_word() {
            Some("volume") => {
                cursor.take();
                let volume = self.volume(cursor, scope, place)?;
                match volumes.iter().find(|other| other.number == volume.number) {
                    Some(_) if !self.is_running() => {
                        let sentence = format!("volume {} is described twice", volume.number);
                        let twice = Diagnostic::error(place, sentence, "ignored: the first counts");
                        self.warnings.push(twice.warning());
                    }
                    _ => volumes.push(volume),
                }
                Ok(true)
            }
            Some("device" | "meta-disk" | "flexible-meta-disk") => {
                let volume = implicit(volumes, place);
                self.statement_of_volume(cursor, scope, volume)?;
                Ok(true)
            }
            Some("disk") if !follows_brace(cursor) => {
                let volume = implicit(volumes, place);
                self.statement_of_volume(cursor, scope, volume)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn volume(
        &mut self,
        cursor: &mut Cursor,
        scope: &str,
        place: Place,
    ) -> Result<Volume, Diagnostic> {
        let (number, at) = cursor.number()?;
        if number > VOLUME_MAX {
            let sentence = format!("volume {number} => {number} out of range [0..{VOLUME_MAX}].");
            return Err(Diagnostic::error(at, sentence, "out of range"));
        }
        let mut volume = Volume::new(number, false, place.to(at));
        let scope = format!("{scope}:{number}");
        cursor.expect('{')?;
        while !cursor.take_mark('}') {
            match cursor.peek_word() {
                Some("disk") if follows_brace(cursor) => {
                    cursor.take();
                    self.options(cursor, Section::Disk, &mut volume.options)?;
                }
                Some("device" | "disk" | "meta-disk" | "flexible-meta-disk") => {
                    self.statement_of_volume(cursor, &scope, &mut volume)?;
                }
                _ if cursor.at_end() => return Err(cursor.unexpected("}")),
                _ => return Err(cursor.unexpected(IN_VOLUME)),
            }
        }
        Ok(volume)
    }

    fn statement_of_volume(
        &mut self,
        cursor: &mut Cursor,
        scope: &str,
        volume: &mut Volume,
    ) -> Result<(), Diagnostic> {
        let place = cursor.here();
        let keyword = cursor.take().map(|token| token.text).unwrap_or_default();
        match keyword.as_str() {
            "device" => {
                self.claim("device statement", format!("{scope}:device"), place)?;
                let device = device(cursor, place)?;
                if device
                    .node
                    .as_deref()
                    .is_some_and(|node| node.starts_with(FREE_NAME))
                {
                    let sentence = "device nodes with names of their own are no longer created";
                    let remark = format!(
                        "use /dev/drbd{} or a link in /dev/drbd/by-res",
                        device.minor
                    );
                    let note = Diagnostic::error(device.place, sentence.into(), &remark);
                    self.warnings.push(note.warning());
                }
                volume.device = Some(device);
            }
            "disk" => {
                self.claim("disk statement", format!("{scope}:disk"), place)?;
                let name = cursor.name()?;
                volume.disk = Some(Name {
                    place: place.to(name.place),
                    text: name.text,
                });
            }
            _ => {
                self.claim("meta-disk statement", format!("{scope}:meta-disk"), place)?;
                let is_flexible = keyword == "flexible-meta-disk";
                volume.meta_disk = Some(meta_disk(cursor, place, is_flexible)?);
            }
        }
        cursor.expect(';')
    }
}

/// Says that a statement is missing in a host section.
pub(crate) fn missing(resource: &str, host: &Host, keyword: &str) -> Diagnostic {
    let label = match (&host.kind, &host.address) {
        (HostKind::Floating, Some(address)) => address.endpoint(),
        _ => host.label(),
    };
    let sentence =
        format!("in resource {resource}, on {label} {{ ... }}: '{keyword}' keyword missing.");
    Diagnostic::error(
        host.place,
        sentence,
        &format!("no '{keyword}' for this host"),
    )
}

fn new_host(kind: HostKind, place: Place) -> Host {
    Host {
        kind,
        place,
        volumes: Vec::new(),
        address: None,
        alternate: None,
        options: Settings::default(),
        proxy: None,
    }
}

/// Returns volume 0 of those who do not write `volume`.
fn implicit(volumes: &mut Vec<Volume>, place: Place) -> &mut Volume {
    let found = volumes.iter().position(|volume| volume.is_implicit);
    let at = found.unwrap_or_else(|| {
        volumes.push(Volume::new(0, true, place));
        volumes.len() - 1
    });
    &mut volumes[at]
}

/// Tells the section `disk { }` from the statement `disk NAME;`.
fn follows_brace(cursor: &Cursor) -> bool {
    cursor
        .second()
        .is_some_and(|token| token.kind == Kind::Punctuation('{'))
}

/// Reads what follows the keyword `device`.
fn device(cursor: &mut Cursor, place: Place) -> Result<Device, Diagnostic> {
    let node = if cursor.peek_word() == Some("minor") {
        None
    } else {
        Some(cursor.name()?)
    };
    let explicit = if cursor.take_word("minor") {
        let (minor, at) = cursor.number()?;
        if minor > MINOR_MAX {
            let sentence = format!("minor {minor} => {minor} out of range [0..{MINOR_MAX}].");
            return Err(Diagnostic::error(at, sentence, "out of range"));
        }
        Some(minor)
    } else {
        None
    };
    if !cursor.at(';') {
        return Err(cursor.unexpected("minor | ;"));
    }
    let place = place.to(cursor.before());
    let path = node
        .as_ref()
        .map(|node| match node.text.strip_prefix("/dev/") {
            Some(_) => node.text.clone(),
            None => format!("/dev/{}", node.text),
        });
    let minor = minor_of(path.as_deref(), explicit, place)?;
    Ok(Device {
        node: path,
        minor,
        place,
    })
}

/// Finds the minor in the name of the node or next to it; both must agree.
fn minor_of(path: Option<&str>, explicit: Option<u32>, place: Place) -> Result<u32, Diagnostic> {
    const UNDERSCORE: &str = "\tmind the '_'! (/dev/ is optional, but drbd_ is required)";
    let error = |sentence: String, remark: &str| Err(Diagnostic::error(place, sentence, remark));
    let Some(path) = path else {
        return match explicit {
            Some(minor) => Ok(minor),
            None => error(
                "no minor given nor device name contains a minor number".into(),
                "which?",
            ),
        };
    };
    let Some(rest) = path.strip_prefix("/dev/drbd") else {
        let sentence = "device name must start with /dev/drbd\n\t(/dev/ is optional, but drbd is \
                        required)";
        return error(sentence.into(), "not a name of a replicated device");
    };
    let in_name = rest.parse().ok().filter(|&minor| minor <= MINOR_MAX);
    match (in_name, explicit) {
        (Some(named), Some(minor)) if named == minor => Ok(minor),
        (_, Some(minor)) if rest.starts_with('_') => Ok(minor),
        (Some(_), Some(minor)) => error(
            format!(
                "explicit minor number must match with device name\n\tTry \"device \
                 /dev/drbd{minor} minor {minor};\",\n\tor leave off either device name or explicit \
                 minor.\n\tArbitrary device names must start with /dev/drbd_\n{UNDERSCORE}"
            ),
            "name and number disagree",
        ),
        (None, Some(_)) => error(
            format!("arbitrary device name must start with /dev/drbd_\n{UNDERSCORE}"),
            "not a valid device name",
        ),
        (Some(named), None) => Ok(named),
        (None, None) => error(
            "no minor given nor device name contains a minor number".into(),
            "add 'minor N'",
        ),
    }
}

/// Reads what follows the keyword `meta-disk` or `flexible-meta-disk`.
fn meta_disk(cursor: &mut Cursor, place: Place, is_flexible: bool) -> Result<MetaDisk, Diagnostic> {
    let device = cursor.name()?;
    let mut index = MetaIndex::Flexible;
    if device.text == "internal" {
        index = MetaIndex::Internal;
    } else if !is_flexible && cursor.take_mark('[') {
        let (slot, _) = cursor.number()?;
        index = MetaIndex::Slot(slot);
        cursor.expect(']')?;
    }
    Ok(MetaDisk {
        device: device.text,
        index,
        place: place.to(cursor.before()),
    })
}

/// Reads an address with its port.
pub(super) fn address(cursor: &mut Cursor) -> Result<Address, Diagnostic> {
    let start = cursor.here();
    let family = match cursor.peek_word() {
        Some("ipv4") => Some(Family::Ipv4),
        Some("ipv6") => Some(Family::Ipv6),
        Some("sdp") => Some(Family::Sdp),
        Some("ssocks" | "sci") => Some(Family::Ssocks),
        _ => None,
    };
    if family.is_some() {
        cursor.take();
    } else if !is_ipv4(cursor) {
        return Err(not_an_address(cursor));
    }
    let family = family.unwrap_or(Family::Ipv4);
    let host = match family {
        Family::Ipv6 => bracketed(cursor)?,
        Family::Ipv4 | Family::Sdp | Family::Ssocks => {
            if !is_ipv4(cursor) {
                return Err(cursor.unexpected("an IPv4 address"));
            }
            let place = cursor.here();
            let host = cursor.take().map(|token| token.text).unwrap_or_default();
            if host.parse::<Ipv4Addr>().is_err() {
                let sentence = format!("'{host}' is not a valid IPv4 address");
                return Err(Diagnostic::error(
                    place,
                    sentence,
                    "each group must be 0..255",
                ));
            }
            host
        }
    };
    cursor.expect(':')?;
    let (number, at) = cursor.number()?;
    let port = u16::try_from(number)
        .ok()
        .filter(|&port| port > 0)
        .ok_or_else(|| {
            let sentence = format!("port {number} => {number} out of range [1..65535].");
            Diagnostic::error(at, sentence, "out of range")
        })?;
    Ok(Address {
        family,
        host,
        port,
        place: start.to(at),
    })
}

fn is_ipv4(cursor: &Cursor) -> bool {
    cursor.peek().is_some_and(|token| token.kind == Kind::Ipv4)
}

fn not_an_address(cursor: &Cursor) -> Diagnostic {
    let error = cursor.unexpected(ADDRESS);
    match cursor.peek_word() {
        Some("ssdp") => error.hint("the families are ipv4, ipv6, sdp and ssocks".into()),
        Some(_) => error.hint("host names are not accepted here, write the address".into()),
        None => error,
    }
}

/// Reads an IPv6 address in brackets.
fn bracketed(cursor: &mut Cursor) -> Result<String, Diagnostic> {
    cursor.expect('[')?;
    let start = cursor.here();
    let mut host = String::new();
    while !cursor.at(']') && !cursor.at(';') {
        match cursor.take() {
            Some(token) => host.push_str(&token.text),
            None => break,
        }
    }
    let place = start.to(cursor.before());
    let bare = host.split('%').next().unwrap_or("");
    if bare.parse::<Ipv6Addr>().is_err() {
        let sentence = format!("Parse error: 'an IPv6 address' expected,\n\tbut got '{host}'");
        return Err(Diagnostic::error(place, sentence, "not an IPv6 address"));
    }
    cursor.expect(']')?;
    Ok(host)
}
