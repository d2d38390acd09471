//! The one table of options: names, limits, defaults, units, attribute numbers.
//!
//! The module takes its defaults and limits from here, the tools their command line and the grammar
//! of the configuration, and both the structures that travel over netlink. Numbers and defaults:
//! `reference/netlink.md` 3.2 to 3.4; names, units and aliases: `reference/userland.md` 1.7.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a value looks for its own domain and has nothing to say about the others"
)]

pub mod arguments;
mod parse;
mod sections;

pub use parse::{number_in, ParseError, Parsed};
pub use sections::{
    DiskConf, NetConf, ResourceOpts, GLOBAL, HANDLERS, IGNORED_DISK_OPTIONS, STARTUP,
};

use crate::netlink::record::{Bytes, Text, Value};
use crate::netlink::tlv::{Field, Kind, NoSpace, TlvError, Writer};
use crate::types::{
    AfterSbPolicy, Fencing, OnCongestion, OnIoError, OnNoData, Protocol, ReadBalancing, RrConflict,
};

/// Part of the configuration that an option belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Section {
    /// Arguments of one command, see [`arguments`].
    Command,
    /// `disk { }`, sent as `DISK_CONF`.
    Disk,
    /// `global { }`, only for the tools.
    Global,
    /// `handlers { }`, only for the tools.
    Handlers,
    /// `net { }`, sent as `NET_CONF`.
    Net,
    /// `options { }`, sent as `RESOURCE_OPTS`.
    Options,
    /// `startup { }`, only for the tools.
    Startup,
}

impl Section {
    /// Returns the keyword of the section.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Disk => "disk",
            Self::Global => "global",
            Self::Handlers => "handlers",
            Self::Net => "net",
            Self::Options => "options",
            Self::Startup => "startup",
        }
    }

    /// Returns the options of the section in the order of their attribute numbers.
    pub const fn options(self) -> &'static [OptionSpec] {
        match self {
            Self::Command => &[],
            Self::Disk => DiskConf::OPTIONS,
            Self::Global => GLOBAL,
            Self::Handlers => HANDLERS,
            Self::Net => NetConf::OPTIONS,
            Self::Options => ResourceOpts::OPTIONS,
            Self::Startup => STARTUP,
        }
    }

    /// Finds an option by its name or one of its older names.
    ///
    /// Negative forms (`no-tcp-cork`) are not found; see [`OptionSpec::negatable`].
    pub fn find(self, name: &str) -> Option<&'static OptionSpec> {
        self.options()
            .iter()
            .filter(|option| option.domain != Domain::Argument)
            .find(|option| option.name == name || option.aliases.contains(&name))
    }
}

/// Finds the option that `name` denotes in the deprecated `syncer { }` section.
pub fn find_in_syncer(name: &str) -> Option<&'static OptionSpec> {
    [Section::Disk, Section::Net, Section::Options]
        .into_iter()
        .filter_map(|section| section.find(name))
        .find(|option| option.in_syncer)
}

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// KiB.
    Kib,
    /// KiB per second.
    KibPerSecond,
    /// Things.
    Plain,
    /// Seconds.
    Seconds,
    /// Sectors of 512 bytes.
    Sectors,
    /// Tenths of a second.
    TenthSeconds,
}

impl Unit {
    /// Returns the bytes in one unit; 1 for everything that is not a size.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Kib | Self::KibPerSecond => 1024,
            Self::Sectors => 512,
            Self::Bytes | Self::Plain | Self::Seconds | Self::TenthSeconds => 1,
        }
    }

    /// Returns the letter behind a number in this unit.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Kib | Self::KibPerSecond => "k",
            Self::Sectors => "s",
            Self::Bytes | Self::Plain | Self::Seconds | Self::TenthSeconds => "",
        }
    }

    /// Returns the words with which `drbdsetup show` explains the number.
    pub const fn words(self) -> Option<&'static str> {
        match self {
            Self::Bytes | Self::Kib | Self::Sectors => Some("bytes"),
            Self::KibPerSecond => Some("bytes/second"),
            Self::Plain => None,
            Self::Seconds => Some("seconds"),
            Self::TenthSeconds => Some("1/10 seconds"),
        }
    }
}

/// Name and number of a choice.
pub type Choice = (&'static str, u32);

/// Which values an option takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Domain {
    /// An endpoint; only on the command line.
    Address,
    /// Not an option but a positional argument of `drbdsetup attach`.
    Argument,
    /// One of these words.
    Choice {
        /// The words, the default among them.
        choices: &'static [Choice],
        /// Number of the default.
        default: u32,
    },
    /// A word that means yes; only on the command line.
    Flag,
    /// The name of a resource or volume, sent as a minor; -1 is none.
    Minor,
    /// A number within limits.
    Number {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// Value if the option is not given.
        default: u64,
        /// What is counted.
        unit: Unit,
    },
    /// Yes or no.
    Switch {
        /// Value if the option is not given.
        default: bool,
    },
    /// Text, empty if the option is not given. Its size, NUL included, is in [`OptionSpec::field`].
    Text,
    /// A shell command or a list of names: understood by the tools alone.
    Words,
}

/// When an option may change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// At any time, with `disk-options`, `net-options` or `resource-options`.
    Online,
    /// Only by a new attach, or for `size` with `resize`.
    Attach,
    /// Only as an argument of connect; never from the configuration.
    Connect,
}

/// One option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionSpec {
    /// Name in the configuration and, with two dashes, on the command line.
    pub name: &'static str,
    /// Older names.
    pub aliases: &'static [&'static str],
    /// Where it belongs.
    pub section: Section,
    /// How it is sent; number 0 if never.
    pub field: Field,
    /// Which values it takes.
    pub domain: Domain,
    /// When it may change.
    pub change: Change,
    /// Whether drbdadm refuses numbers outside the limits. If not, only the kernel limits them.
    pub checked: bool,
    /// Whether the deprecated `syncer { }` section may hold it.
    pub in_syncer: bool,
    /// Whether the older form with `no-` in front of the name is understood.
    pub negatable: bool,
    /// Whether the value must not be shown to everybody.
    pub sensitive: bool,
}

const UNSENT: Field = Field::optional(0, "unsent", Kind::Binary(0));

const fn option(name: &'static str, domain: Domain) -> OptionSpec {
    OptionSpec {
        name,
        aliases: &[],
        section: Section::Options,
        field: UNSENT,
        domain,
        change: Change::Online,
        checked: false,
        in_syncer: false,
        negatable: false,
        sensitive: false,
    }
}

const fn argument(name: &'static str) -> OptionSpec {
    option(name, Domain::Argument).change(Change::Attach)
}

const fn choice(name: &'static str, choices: &'static [Choice], default: u32) -> OptionSpec {
    option(name, Domain::Choice { choices, default })
}

const fn number(name: &'static str, default: u64, min: u64, max: u64, unit: Unit) -> OptionSpec {
    option(
        name,
        Domain::Number {
            min,
            max,
            default,
            unit,
        },
    )
}

const fn switch(name: &'static str, default: bool) -> OptionSpec {
    option(name, Domain::Switch { default })
}

impl OptionSpec {
    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn change(mut self, change: Change) -> Self {
        self.change = change;
        self
    }

    const fn checked(mut self) -> Self {
        self.checked = true;
        self
    }

    const fn in_syncer(mut self) -> Self {
        self.in_syncer = true;
        self
    }

    const fn negatable(mut self) -> Self {
        self.negatable = true;
        self
    }

    const fn placed(mut self, section: Section, field: Field) -> Self {
        self.section = section;
        self.field = field;
        self
    }

    const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }
}

/// A value of an option structure.
trait OptionValue: Value {
    /// Returns the default that the table states.
    fn default_of(domain: &Domain) -> Self;

    /// Moves a number into its limits.
    fn limit(&mut self, domain: &Domain) {
        let _ = domain;
    }
}

macro_rules! numeric_value {
    ($($type:ty),*) => {$(
        impl OptionValue for $type {
            fn default_of(domain: &Domain) -> Self {
                match *domain {
                    Domain::Number { default, .. } => Self::try_from(default).unwrap_or(Self::MAX),
                    _ => 0,
                }
            }

            fn limit(&mut self, domain: &Domain) {
                if let Domain::Number { min, max, .. } = *domain {
                    let max = Self::try_from(max).unwrap_or(Self::MAX);
                    let min = Self::try_from(min).unwrap_or(Self::MAX);
                    *self = (*self).min(max).max(min);
                }
            }
        }
    )*};
}

numeric_value!(u32, u64);

/// Minors and metadata indices: -1 by default, checked by whoever uses them.
impl OptionValue for i32 {
    fn default_of(_: &Domain) -> Self {
        -1
    }
}

impl OptionValue for bool {
    fn default_of(domain: &Domain) -> Self {
        matches!(domain, Domain::Switch { default: true })
    }
}

impl<const N: usize> OptionValue for Text<N> {
    fn default_of(_: &Domain) -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> OptionValue for Option<Bytes<N>> {
    fn default_of(_: &Domain) -> Self {
        None
    }
}

macro_rules! choice_value {
    ($($type:ident, $choices:ident, $default:ident;)*) => {$(
        #[allow(
            clippy::arithmetic_side_effects,
            clippy::indexing_slicing,
            reason = "evaluated while compiling"
        )]
        const $choices: &[Choice] = &{
            let mut choices = [("", 0); $type::ALL.len()];
            let mut i = 0;
            while i < choices.len() {
                choices[i] = ($type::ALL[i].name(), $type::ALL[i].to_wire());
                i += 1;
            }
            choices
        };

        impl Value for $type {
            const KIND: Kind = Kind::U32;

            fn read(payload: &[u8]) -> Option<Self> {
                $type::from_wire(u32::read(payload)?).ok()
            }

            fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace> {
                writer.u32(field, self.to_wire())
            }
        }

        impl OptionValue for $type {
            fn default_of(domain: &Domain) -> Self {
                match *domain {
                    Domain::Choice { default, .. } => {
                        $type::from_wire(default).unwrap_or($type::$default)
                    }
                    _ => $type::$default,
                }
            }
        }
    )*};
}

choice_value! {
    AfterSbPolicy, AFTER_SB_POLICIES, Disconnect;
    Fencing, FENCING_POLICIES, DontCare;
    OnCongestion, ON_CONGESTION_POLICIES, Block;
    OnIoError, ON_IO_ERROR_POLICIES, Detach;
    OnNoData, ON_NO_DATA_POLICIES, IoError;
    Protocol, PROTOCOLS, C;
    ReadBalancing, READ_BALANCING_POLICIES, PreferLocal;
    RrConflict, RR_CONFLICT_POLICIES, Disconnect;
}

/// Why options were not taken over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OptionError {
    /// The option cannot change now.
    Invariant {
        /// Its attribute.
        field: &'static str,
    },
    /// The attributes cannot be read.
    Tlv(TlvError),
}

impl OptionError {
    /// Returns the text that the kernel adds to its answer (`reference/netlink.md` 2.2).
    pub const fn info_text(&self) -> &'static str {
        match self {
            Self::Invariant { .. } => "cannot change invariant setting",
            Self::Tlv(TlvError::Missing { .. }) => "required attribute missing",
            Self::Tlv(_) => "invalid attribute value",
        }
    }
}

impl core::fmt::Display for OptionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Invariant { field } => write!(f, "{field} cannot be changed now"),
            Self::Tlv(error) => error.fmt(f),
        }
    }
}

impl From<TlvError> for OptionError {
    fn from(error: TlvError) -> Self {
        Self::Tlv(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_what_its_description_says() {
        let limits = number("pace", 5, 1, 9, Unit::Kib);
        let described = limits
            .aliases(&["speed"])
            .change(Change::Attach)
            .checked()
            .in_syncer()
            .negatable()
            .sensitive()
            .placed(Section::Net, Field::optional(7, "pace", Kind::U32));
        assert_eq!(
            (described.name, described.aliases),
            ("pace", &["speed"][..])
        );
        assert_eq!(described.section, Section::Net);
        assert_eq!(described.change, Change::Attach);
        assert!(described.checked && described.in_syncer);
        assert!(described.negatable && described.sensitive);
        assert_eq!(described.field.number, 7);
        assert!(matches!(
            described.domain,
            Domain::Number {
                min: 1,
                max: 9,
                default: 5,
                ..
            }
        ));
        let plain = option("plain", Domain::Words);
        assert!(!plain.checked && !plain.in_syncer && !plain.negatable && !plain.sensitive);
        assert_eq!(argument("path").change, Change::Attach);
        let word = choice("word", &[("a", 1)], 1).domain;
        assert!(matches!(word, Domain::Choice { default: 1, .. }));
        assert_eq!(switch("on", true).domain, Domain::Switch { default: true });
    }

    #[test]
    fn every_section_has_its_keyword_and_its_options() {
        for (section, name, option) in [
            (Section::Disk, "disk", "on-io-error"),
            (Section::Global, "global", "usage-count"),
            (Section::Handlers, "handlers", "split-brain"),
            (Section::Net, "net", "protocol"),
            (Section::Options, "options", "cpu-mask"),
            (Section::Startup, "startup", "wfc-timeout"),
        ] {
            assert_eq!(section.name(), name);
            assert_eq!(
                section.find(option).map(|found| found.section),
                Some(section)
            );
        }
        assert_eq!(Section::Command.name(), "command");
        assert!(Section::Command.options().is_empty());
    }

    #[test]
    fn a_unit_has_a_size_a_letter_and_words() {
        for (unit, bytes, letter, words) in [
            (Unit::Bytes, 1, "", Some("bytes")),
            (Unit::Kib, 1024, "k", Some("bytes")),
            (Unit::KibPerSecond, 1024, "k", Some("bytes/second")),
            (Unit::Plain, 1, "", None),
            (Unit::Seconds, 1, "", Some("seconds")),
            (Unit::Sectors, 512, "s", Some("bytes")),
            (Unit::TenthSeconds, 1, "", Some("1/10 seconds")),
        ] {
            assert_eq!(
                (unit.bytes(), unit.letter(), unit.words()),
                (bytes, letter, words)
            );
        }
    }
}
