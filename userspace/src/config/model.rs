//! The configuration as values: what the files say, with the inheritance carried out on request.
//!
//! The parser fills this model, `check` complains about it, `resolve` looks at it from one node,
//! `print` turns it back into text. Each value remembers its place in the files.

use std::fmt;

use drbd_format::options::{number_in, Domain, OptionSpec, ParseError};

use super::source::{Place, Sources};

/// Largest volume number.
pub(crate) const VOLUME_MAX: u32 = 65_535;
/// Largest device minor.
pub(crate) const MINOR_MAX: u32 = 1_048_575;

/// One option as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Its entry in the table of options.
    pub(crate) spec: &'static OptionSpec,
    /// The value as written; `yes` or `no` for switches and flags.
    pub(crate) value: String,
    /// Where it stands, name and value.
    pub(crate) place: Place,
    /// Whether it is the older `protocol` statement outside of a `net` section.
    pub(crate) is_legacy: bool,
}

impl Setting {
    /// Returns the name of the option.
    pub(crate) fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Reports whether `self` and `other` set the same option to the same value.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        if self.name() != other.name() {
            return false;
        }
        match self.spec.domain {
            Domain::Number { unit, min, max, .. } => {
                let given = |setting: &Self| number_in(unit, &setting.value);
                let moved = |setting: &Self| given(setting).map(|number| number.clamp(min, max));
                // The kernel moves numbers into their limits and says so.
                given(self) == given(other)
                    || moved(self) == given(other)
                    || given(self) == moved(other)
            }
            Domain::Choice { .. } if self.name() == "protocol" => {
                self.value.eq_ignore_ascii_case(&other.value)
            }
            _ => self.value == other.value,
        }
    }

    /// Reports whether the value is the one that holds without the setting.
    pub(crate) fn is_default(&self) -> bool {
        match self.spec.domain {
            Domain::Number { unit, default, .. } => number_in(unit, &self.value) == Ok(default),
            Domain::Choice { choices, default } => choices
                .iter()
                .any(|&(name, number)| number == default && name.eq_ignore_ascii_case(&self.value)),
            Domain::Switch { default } => self.value == if default { "yes" } else { "no" },
            Domain::Flag => self.value == "no",
            Domain::Minor => self.value == "-1",
            Domain::Text | Domain::Words => self.value.is_empty(),
            Domain::Address | Domain::Argument => false,
        }
    }
}

/// The settings of one section, in the order in which they were written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(pub(crate) Vec<Setting>);

impl Settings {
    /// Returns the setting of the option `name` that counts: the last one.
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.0.iter().rev().find(|setting| setting.name() == name)
    }

    /// Reports whether the option `name` is set.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Reports whether the switch or flag `name` is set to yes.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|setting| setting.value == "yes")
    }

    /// Returns the number that the option `name` is set to, in its own unit.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let setting = self.get(name)?;
        let Domain::Number { unit, .. } = setting.spec.domain else {
            return None;
        };
        number_in(unit, &setting.value).ok()
    }

    /// Reports whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the settings of an outer section that this one does not have.
    ///
    /// Inherited settings come first, in reverse order of their section: this is the order in
    /// which helper commands list them (`reference/userland.md 2.4`).
    pub(crate) fn inherit(&mut self, outer: &Self) {
        for setting in &outer.0 {
            if !self.has(setting.name()) {
                let winner = outer.get(setting.name()).unwrap_or(setting);
                self.0.insert(0, winner.clone());
            }
        }
    }

    /// Leaves one setting of each option, the one that counts.
    pub(crate) fn without_repetitions(&self) -> Self {
        let mut kept: Vec<Setting> = Vec::new();
        for setting in &self.0 {
            match kept.iter_mut().find(|other| other.name() == setting.name()) {
                Some(earlier) => *earlier = setting.clone(),
                None => kept.push(setting.clone()),
            }
        }
        Self(kept)
    }
}

/// A name or path and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    /// The text without quotes.
    pub(crate) text: String,
    /// Where it stands.
    pub(crate) place: Place,
}

/// Device node and minor of a volume.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// Name of the node if one is given, with `/dev/` in front.
    pub(crate) node: Option<String>,
    /// Device minor.
    pub(crate) minor: u32,
    /// The statement.
    pub(crate) place: Place,
}

impl Device {
    /// Returns the path of the device node.
    pub(crate) fn path(&self) -> String {
        self.node
            .clone()
            .unwrap_or_else(|| format!("/dev/drbd{}", self.minor))
    }
}

/// Where the metadata of a volume lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum MetaIndex {
    /// On a device of its own, sized by need.
    Flexible,
    /// At the end of the backing device.
    Internal,
    /// On a device of its own, in a slot of 128 MiB.
    Slot(u32),
}

impl fmt::Display for MetaIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flexible => f.write_str("flexible"),
            Self::Internal => f.write_str("internal"),
            Self::Slot(slot) => write!(f, "{slot}"),
        }
    }
}

/// The `meta-disk` statement.
#[derive(Clone, Debug)]
pub(crate) struct MetaDisk {
    /// The device, `internal` if it is the backing device.
    pub(crate) device: String,
    /// Where on the device.
    pub(crate) index: MetaIndex,
    /// The statement.
    pub(crate) place: Place,
}

/// One replicated device.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    /// Number of the volume within its resource.
    pub(crate) number: u32,
    /// Whether the statements stand outside of a `volume` section.
    pub(crate) is_implicit: bool,
    /// The section, or the first statement of an implicit volume.
    pub(crate) place: Place,
    /// Device node and minor.
    pub(crate) device: Option<Device>,
    /// Backing device.
    pub(crate) disk: Option<Name>,
    /// Where the metadata lies.
    pub(crate) meta_disk: Option<MetaDisk>,
    /// Its own `disk { }` options.
    pub(crate) options: Settings,
}

impl Volume {
    /// Makes a volume about which nothing is known yet.
    pub(crate) fn new(number: u32, is_implicit: bool, place: Place) -> Self {
        Self {
            number,
            is_implicit,
            place,
            device: None,
            disk: None,
            meta_disk: None,
            options: Settings::default(),
        }
    }

    /// Takes over what `outer` says and this volume does not.
    fn inherit(&mut self, outer: &Self) {
        if self.device.is_none() {
            self.device.clone_from(&outer.device);
        }
        if self.disk.is_none() {
            self.disk.clone_from(&outer.disk);
        }
        if self.meta_disk.is_none() {
            self.meta_disk.clone_from(&outer.meta_disk);
        }
        self.options.inherit(&outer.options);
    }
}

/// Kind of an address, as the configuration spells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    /// Internet protocol version 4.
    Ipv4,
    /// Internet protocol version 6.
    Ipv6,
    /// Sockets direct protocol over InfiniBand.
    Sdp,
    /// SuperSockets.
    Ssocks,
}

impl Family {
    /// Returns the keyword.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Sdp => "sdp",
            Self::Ssocks => "ssocks",
        }
    }
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// Kind of the address.
    pub(crate) family: Family,
    /// The address without brackets.
    pub(crate) host: String,
    /// Port, never 0.
    pub(crate) port: u16,
    /// Where it stands.
    pub(crate) place: Place,
}

impl Address {
    /// Returns address and port, IPv6 in brackets.
    pub(crate) fn endpoint(&self) -> String {
        match self.family {
            Family::Ipv6 => format!("[{}]:{}", self.host, self.port),
            Family::Ipv4 | Family::Sdp | Family::Ssocks => format!("{}:{}", self.host, self.port),
        }
    }

    /// Returns the spelling of the command line, `ipv4:10.0.0.1:7789`.
    pub(crate) fn argument(&self) -> String {
        format!("{}:{}", self.family.name(), self.endpoint())
    }

    /// Reports whether both name the same endpoint, whatever their spelling.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let is_same_end = self.family == other.family && self.port == other.port;
        is_same_end && self.is_on(&other.host)
    }

    /// Reports whether `host` is the address without the port, whatever their spelling.
    pub(crate) fn is_on(&self, host: &str) -> bool {
        let binary = |host: &str| {
            let host = host.split('%').next().unwrap_or("");
            host.parse::<std::net::IpAddr>().ok()
        };
        match (binary(&self.host), binary(host)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.host == host,
        }
    }
}

/// One line of a plugin section of the proxy.
pub(crate) type ProxyPlugin = Vec<String>;

/// Options of the replication proxy: read and printed, never used.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyOptions {
    /// Names and values.
    pub(crate) options: Vec<(String, String)>,
    /// The lines of the `plugin` section.
    pub(crate) plugins: Vec<ProxyPlugin>,
}

impl ProxyOptions {
    /// Reports whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.options.is_empty() && self.plugins.is_empty()
    }

    /// Adds what an outer section says and this one does not.
    fn inherit(&mut self, outer: &Self) {
        for (name, value) in &outer.options {
            if !self.options.iter().any(|(own, _)| own == name) {
                self.options.insert(0, (name.clone(), value.clone()));
            }
        }
        if self.plugins.is_empty() {
            self.plugins.clone_from(&outer.plugins);
        }
    }
}

/// The `proxy on` section of a host.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    /// Names of the proxy hosts.
    pub(crate) hosts: Vec<Name>,
    /// Address towards the node: where the node connects to instead of its peer.
    pub(crate) inside: Option<Address>,
    /// Address towards the other proxy.
    pub(crate) outside: Option<Address>,
    /// Options of this proxy.
    pub(crate) options: ProxyOptions,
}

/// How a host section says which host it is about.
#[derive(Clone, Debug)]
pub(crate) enum HostKind {
    /// By its address.
    Floating,
    /// By host name.
    On(Vec<Name>),
    /// It is where the named lower resource is primary.
    Stacked(Name),
}

/// One `on`, `floating` or `stacked-on-top-of` section.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Which host.
    pub(crate) kind: HostKind,
    /// The first line of the section.
    pub(crate) place: Place,
    /// The volumes, after [`Resource::inherit_volumes`] in ascending order.
    pub(crate) volumes: Vec<Volume>,
    /// The endpoint of this host.
    pub(crate) address: Option<Address>,
    /// A second link, not used by this generation.
    pub(crate) alternate: Option<Address>,
    /// Resource options written here: printed, not applied.
    pub(crate) options: Settings,
    /// The replication proxy of this host.
    pub(crate) proxy: Option<Proxy>,
}

impl Host {
    /// Returns the names in the heading, or the address of a floating host.
    pub(crate) fn label(&self) -> String {
        match &self.kind {
            HostKind::On(names) => join(names),
            HostKind::Stacked(lower) => lower.text.clone(),
            HostKind::Floating => {
                let address = self.address.as_ref();
                address.map_or_else(String::new, |address| {
                    format!("{} {}", address.family.name(), address.endpoint())
                })
            }
        }
    }

    /// Returns the host names of an `on` section.
    pub(crate) fn names(&self) -> &[Name] {
        match &self.kind {
            HostKind::On(names) => names,
            HostKind::Floating | HostKind::Stacked(_) => &[],
        }
    }
}

/// Joins names with blanks.
pub(crate) fn join(names: &[Name]) -> String {
    let texts: Vec<&str> = names.iter().map(|name| name.text.as_str()).collect();
    texts.join(" ")
}

/// The `startup` section.
#[derive(Clone, Debug, Default)]
pub(crate) struct Startup {
    /// Timeouts and `wait-after-sb`.
    pub(crate) settings: Settings,
    /// Hosts that become primary with the service, or `both`.
    pub(crate) become_primary_on: Vec<Name>,
    /// Whether the timeouts hold for stacked resources too.
    pub(crate) stacked_timeouts: bool,
}

impl Startup {
    /// Reports whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.become_primary_on.is_empty() && !self.stacked_timeouts
    }
}

/// What `common` and `resource` have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sections {
    /// `disk { }`.
    pub(crate) disk: Settings,
    /// `handlers { }`.
    pub(crate) handlers: Settings,
    /// `net { }` and the older `protocol` statement.
    pub(crate) net: Settings,
    /// `options { }`.
    pub(crate) options: Settings,
    /// `proxy { }`.
    pub(crate) proxy: ProxyOptions,
    /// `startup { }`.
    pub(crate) startup: Startup,
}

impl Sections {
    /// Takes over what `common` says and these sections do not.
    fn inherit(&mut self, common: &Self) {
        self.disk.inherit(&common.disk);
        self.handlers.inherit(&common.handlers);
        self.net.inherit(&common.net_with_legacy_first());
        self.options.inherit(&common.options);
        self.proxy.inherit(&common.proxy);
        self.startup.settings.inherit(&common.startup.settings);
        if self.startup.become_primary_on.is_empty() {
            self.startup
                .become_primary_on
                .clone_from(&common.startup.become_primary_on);
        }
        self.startup.stacked_timeouts |= common.startup.stacked_timeouts;
    }

    /// Returns the net settings with one `protocol`: if the older statement and `net { protocol }`
    /// both stand in `common`, the first one counts (`reference/userland.md 1.4`).
    fn net_with_legacy_first(&self) -> Settings {
        let mut net = self.net.clone();
        let is_protocol = |setting: &Setting| setting.name() == "protocol";
        if net
            .0
            .iter()
            .any(|setting| is_protocol(setting) && setting.is_legacy)
        {
            let mut is_first = true;
            net.0
                .retain(|setting| !is_protocol(setting) || std::mem::replace(&mut is_first, false));
        }
        net
    }
}

/// One resource.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Its name.
    pub(crate) name: Name,
    /// The `resource` keyword.
    pub(crate) place: Place,
    /// Host sections in the order of the file.
    pub(crate) hosts: Vec<Host>,
    /// Volumes written at the level of the resource.
    pub(crate) volumes: Vec<Volume>,
    /// Options.
    pub(crate) sections: Sections,
    /// Host sections `_this_host` and `_remote_host`, only in the output of `drbdsetup show`.
    pub(crate) running: Running,
}

/// The two pseudo host sections of `drbdsetup show`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    /// `_this_host { }`.
    pub(crate) here: Option<Box<Host>>,
    /// `_remote_host { }`.
    pub(crate) there: Option<Box<Host>>,
}

impl Resource {
    /// Gives every host section the volumes written at the level of the resource, and puts the
    /// volumes into ascending order.
    pub(crate) fn inherit_volumes(&mut self) {
        for host in &mut self.hosts {
            let is_stacked = matches!(host.kind, HostKind::Stacked(_));
            for outer in &self.volumes {
                let mut outer = outer.clone();
                if is_stacked {
                    // Backing device and metadata are those of the lower resource.
                    outer = Volume {
                        disk: None,
                        meta_disk: None,
                        ..outer
                    };
                }
                match host
                    .volumes
                    .iter_mut()
                    .find(|own| own.number == outer.number)
                {
                    Some(own) => own.inherit(&outer),
                    None => host.volumes.push(Volume {
                        place: host.place,
                        ..outer
                    }),
                }
            }
            host.volumes.sort_by_key(|volume| volume.number);
        }
    }

    /// Takes over from `common`, and passes disk options down to the volumes.
    pub(crate) fn expand(&mut self, common: Option<&Sections>) {
        if let Some(common) = common {
            self.sections.inherit(common);
        }
        for host in &mut self.hosts {
            if let Some(proxy) = &mut host.proxy {
                proxy.options.inherit(&self.sections.proxy);
            }
            for volume in &mut host.volumes {
                volume.options = volume.options.without_repetitions();
                volume.options.inherit(&self.sections.disk);
                if let Some(device) = &mut volume.device {
                    device
                        .node
                        .get_or_insert_with(|| format!("/dev/drbd{}", device.minor));
                }
            }
        }
    }
}

/// The `global` section.
#[derive(Clone, Debug, Default)]
pub(crate) struct Global {
    /// All settings, flags with the value `yes`.
    pub(crate) settings: Settings,
}

impl Global {
    /// Returns a number with its default: `minor-count`, `dialog-refresh`, `cmd-timeout-…`.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.settings.number(name).unwrap_or_else(|| {
            let spec = drbd_format::options::Section::Global.find(name);
            match spec.map(|spec| spec.domain) {
                Some(Domain::Number { default, .. }) => default,
                _ => 0,
            }
        })
    }

    /// Reports whether the flag `name` is set.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.settings.is_on(name)
    }
}

/// Everything the files say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// The texts.
    pub(crate) sources: Sources,
    /// `global { }`.
    pub(crate) global: Global,
    /// `common { }`.
    pub(crate) common: Option<Sections>,
    /// The resources in the order of the files.
    pub(crate) resources: Vec<Resource>,
}

impl Config {
    /// Returns the resource with this name.
    pub(crate) fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|resource| resource.name.text == name)
    }

    /// Returns the configuration with all inheritance carried out.
    pub(crate) fn expanded(&self) -> Self {
        let mut expanded = self.clone();
        for resource in &mut expanded.resources {
            resource.expand(self.common.as_ref());
        }
        expanded
    }
}

/// Says in the words of `reference/userland.md 1.9` why a value was refused.
pub(crate) fn refusal(name: &str, value: &str, error: ParseError) -> String {
    match error {
        ParseError::OutOfRange { .. } => format!("{name} {value} {error}"),
        ParseError::NotANumber | ParseError::NotAUnit => format!("{value} {error}"),
        ParseError::Overflow => format!("{value}: {error}"),
        ParseError::TooLong
        | ParseError::NotASwitch
        | ParseError::UnknownChoice
        | ParseError::NoValue => {
            format!("{name}: '{value}' {error}")
        }
    }
}
