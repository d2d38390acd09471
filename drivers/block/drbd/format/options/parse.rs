//! Reads the value of an option as users write it.

use super::{Domain, OptionSpec, Unit};
use crate::netlink::tlv::{Kind, NoSpace, Writer};

/// A value as it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed<'a> {
    /// A number in the option's own unit, or the number of a choice.
    Number(u64),
    /// Minor of a volume, -1 for none.
    Minor(i32),
    /// Yes or no.
    Switch(bool),
    /// Text.
    Text(&'a str),
}

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParseError {
    /// Not a number.
    NotANumber,
    /// The letters behind the number are no unit.
    NotAUnit,
    /// The number, in the unit of the option, is outside its limits.
    OutOfRange {
        /// The number.
        found: u64,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// Unit of the three.
        unit: Unit,
    },
    /// The number is beyond everything that can be sent.
    Overflow,
    /// Text that does not fit.
    TooLong,
    /// Not one of the choices.
    UnknownChoice,
    /// Neither yes nor no.
    NotASwitch,
    /// The option takes no value of this form.
    NoValue,
}

impl core::fmt::Display for ParseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::NotANumber => write!(f, "is not a valid number"),
            Self::NotAUnit => write!(f, "is not a valid unit"),
            Self::OutOfRange {
                found,
                min,
                max,
                unit,
            } => {
                let unit = unit.letter();
                write!(f, "=> {found}{unit} out of range [{min}..{max}]{unit}.")
            }
            Self::Overflow => write!(f, "out of range"),
            Self::TooLong => write!(f, "is too long"),
            Self::UnknownChoice | Self::NotASwitch => {
                write!(f, "is not one of the possible values")
            }
            Self::NoValue => write!(f, "is not expected here"),
        }
    }
}

/// Reads a number with an optional suffix and converts it to `unit`, rounding up.
///
/// `k`, `m`, `g` in either case are powers of 1024 bytes, `s` is 512 bytes; without a suffix the
/// number is in `unit` already.
///
/// # Errors
///
/// [`ParseError::NotANumber`], [`ParseError::NotAUnit`] or [`ParseError::Overflow`].
pub fn number_in(unit: Unit, text: &str) -> Result<u64, ParseError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, suffix) = text
        .split_at_checked(digits)
        .ok_or(ParseError::NotANumber)?;
    if digits.is_empty() {
        return Err(ParseError::NotANumber);
    }
    let value: u64 = digits.parse().map_err(|_| ParseError::Overflow)?;
    let factor = match suffix {
        "" => return Ok(value),
        "s" => 512,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(ParseError::NotAUnit),
    };
    let bytes = value.checked_mul(factor).ok_or(ParseError::Overflow)?;
    Ok(bytes.div_ceil(unit.bytes()))
}

impl OptionSpec {
    /// Reads a value as it stands in the configuration or on the command line.
    ///
    /// Limits are not looked at: see [`Self::check`]. Minors must be numbers here; whoever knows
    /// the resources translates their names before.
    ///
    /// # Errors
    ///
    /// The value does not have the form that the option demands.
    pub fn parse<'a>(&self, text: &'a str) -> Result<Parsed<'a>, ParseError> {
        match self.domain {
            Domain::Number { unit, .. } => {
                let value = number_in(unit, text)?;
                if self.field.kind == Kind::U32 && u32::try_from(value).is_err() {
                    return Err(ParseError::Overflow);
                }
                Ok(Parsed::Number(value))
            }
            Domain::Choice { choices, .. } => choices
                .iter()
                .find(|(name, _)| *name == text || self.ignores_case() && caseless(name, text))
                .map(|(_, number)| Parsed::Number(u64::from(*number)))
                .ok_or(ParseError::UnknownChoice),
            Domain::Switch { .. } | Domain::Flag => match text {
                "yes" => Ok(Parsed::Switch(true)),
                "no" => Ok(Parsed::Switch(false)),
                _ => Err(ParseError::NotASwitch),
            },
            Domain::Minor => {
                let minor = text.parse().map_err(|_| ParseError::NotANumber)?;
                Ok(Parsed::Minor(minor))
            }
            Domain::Text => match self.field.kind {
                Kind::Text(size) if text.len() >= size || text.contains('\0') => {
                    Err(ParseError::TooLong)
                }
                _ => Ok(Parsed::Text(text)),
            },
            Domain::Words => Ok(Parsed::Text(text)),
            Domain::Address | Domain::Argument => Err(ParseError::NoValue),
        }
    }

    /// Refuses a number outside the limits.
    ///
    /// # Errors
    ///
    /// [`ParseError::OutOfRange`].
    pub const fn check(&self, value: Parsed<'_>) -> Result<(), ParseError> {
        match (self.domain, value) {
            (Domain::Number { min, max, unit, .. }, Parsed::Number(found))
                if found < min || found > max =>
            {
                Err(ParseError::OutOfRange {
                    found,
                    min,
                    max,
                    unit,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether the value is the one in effect when the option is not given.
    pub fn is_default(&self, value: Parsed<'_>) -> bool {
        match (self.domain, value) {
            (Domain::Number { default, .. }, Parsed::Number(value)) => default == value,
            (Domain::Choice { default, .. }, Parsed::Number(value)) => u64::from(default) == value,
            (Domain::Switch { default }, Parsed::Switch(value)) => default == value,
            (Domain::Flag, Parsed::Switch(value)) => !value,
            (Domain::Minor, Parsed::Minor(value)) => value == -1,
            (Domain::Text, Parsed::Text(value)) => value.is_empty(),
            _ => false,
        }
    }

    /// Writes the attribute of the option.
    ///
    /// # Errors
    ///
    /// [`NoSpace`], also for a value that does not fit the option.
    pub fn write(&self, writer: &mut Writer<'_>, value: Parsed<'_>) -> Result<(), NoSpace> {
        match (self.field.kind, value) {
            (Kind::U64, Parsed::Number(value)) => writer.u64(&self.field, value),
            (Kind::U32, Parsed::Number(value)) => {
                writer.u32(&self.field, u32::try_from(value).map_err(|_| NoSpace)?)
            }
            (Kind::U8, Parsed::Switch(value)) if self.domain == Domain::Flag => {
                writer.flag(&self.field, value)
            }
            (Kind::U8, Parsed::Switch(value)) => writer.u8(&self.field, u8::from(value)),
            (Kind::S32, Parsed::Minor(value)) => writer.s32(&self.field, value),
            (Kind::Text(_), Parsed::Text(value)) => writer.text(&self.field, value.as_bytes()),
            _ => Err(NoSpace),
        }
    }

    fn ignores_case(&self) -> bool {
        self.name == "protocol"
    }
}

fn caseless(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::super::Section;
    use super::*;

    #[test]
    fn sizes_are_converted_rounding_up() {
        for (unit, text, value) in [
            (Unit::KibPerSecond, "10M", 10240),
            (Unit::KibPerSecond, "1s", 1),
            (Unit::KibPerSecond, "3s", 2),
            (Unit::KibPerSecond, "33", 33),
            (Unit::Sectors, "1k", 2),
            (Unit::Sectors, "1G", 2097152),
            (Unit::Sectors, "7", 7),
            (Unit::Bytes, "512K", 524288),
            (Unit::Plain, "8k", 8192),
        ] {
            assert_eq!(number_in(unit, text), Ok(value), "{text}");
        }
        assert_eq!(number_in(Unit::Plain, "x"), Err(ParseError::NotANumber));
        assert_eq!(number_in(Unit::Plain, "-1"), Err(ParseError::NotANumber));
        assert_eq!(number_in(Unit::Plain, "1T"), Err(ParseError::NotAUnit));
        assert_eq!(number_in(Unit::Plain, "1kB"), Err(ParseError::NotAUnit));
        let huge = "18446744073709551615G";
        assert_eq!(number_in(Unit::Plain, huge), Err(ParseError::Overflow));
    }

    #[test]
    fn limits_are_reported_with_their_unit() {
        let rate = Section::Disk.find("resync-rate").unwrap();
        let value = rate.parse("8G").unwrap();
        let error = rate.check(value).unwrap_err();
        assert_eq!(error.to_string(), "=> 8388608k out of range [1..4194304]k.");
        assert!(rate.check(rate.parse("10M").unwrap()).is_ok());
    }

    #[test]
    fn protocols_may_be_written_in_lower_case_and_nothing_else() {
        let protocol = Section::Net.find("protocol").unwrap();
        assert_eq!(protocol.parse("c"), Ok(Parsed::Number(3)));
        assert_eq!(protocol.parse("D"), Err(ParseError::UnknownChoice));
        let fencing = Section::Disk.find("fencing").unwrap();
        assert_eq!(fencing.parse("Dont-care"), Err(ParseError::UnknownChoice));
    }

    #[test]
    fn a_value_of_the_wrong_form_is_refused() {
        let find = |section: Section, name| section.find(name).unwrap();
        let after = find(Section::Disk, "resync-after");
        assert_eq!(after.parse("7"), Ok(Parsed::Minor(7)));
        assert_eq!(after.parse("r0"), Err(ParseError::NotANumber));
        let cork = find(Section::Net, "tcp-cork");
        assert_eq!(cork.parse("maybe"), Err(ParseError::NotASwitch));
        let rate = find(Section::Disk, "resync-rate");
        assert_eq!(rate.parse("99999G"), Err(ParseError::Overflow));
        assert_eq!(
            rate.parse("99999999999999999999"),
            Err(ParseError::Overflow)
        );
        let secret = find(Section::Net, "shared-secret");
        assert_eq!(secret.parse(&"x".repeat(64)), Err(ParseError::TooLong));
        assert_eq!(secret.parse("a\0b"), Err(ParseError::TooLong));
        let address = find(Section::Net, "alternate-address");
        assert_eq!(address.parse("ipv4 1.2.3.4:7"), Err(ParseError::NoValue));
        let handler = find(Section::Handlers, "split-brain");
        assert_eq!(handler.parse("/bin/x y"), Ok(Parsed::Text("/bin/x y")));
    }

    #[test]
    fn a_value_counts_as_default_if_leaving_it_out_means_the_same() {
        for (section, name, default, other) in [
            (
                Section::Net,
                "ko-count",
                Parsed::Number(7),
                Parsed::Number(8),
            ),
            (
                Section::Net,
                "protocol",
                Parsed::Number(3),
                Parsed::Number(1),
            ),
            (
                Section::Net,
                "tcp-cork",
                Parsed::Switch(true),
                Parsed::Switch(false),
            ),
            (
                Section::Net,
                "discard-my-data",
                Parsed::Switch(false),
                Parsed::Switch(true),
            ),
            (
                Section::Disk,
                "resync-after",
                Parsed::Minor(-1),
                Parsed::Minor(0),
            ),
            (
                Section::Net,
                "verify-alg",
                Parsed::Text(""),
                Parsed::Text("sha1"),
            ),
        ] {
            let option = section.find(name).unwrap();
            assert!(option.is_default(default), "{name}");
            assert!(!option.is_default(other), "{name}");
        }
        let handler = Section::Handlers.find("split-brain").unwrap();
        assert!(!handler.is_default(Parsed::Text("")));
    }

    #[test]
    fn a_value_that_does_not_fit_its_option_is_not_written() {
        let mut buf = [0; 64];
        let mut writer = Writer::request(&mut buf);
        let after = Section::Disk.find("resync-after").unwrap();
        after.write(&mut writer, Parsed::Minor(3)).unwrap();
        let size = Section::Disk.find("size").unwrap();
        size.write(&mut writer, Parsed::Number(1 << 40)).unwrap();
        let len = writer.len();
        assert!(after.write(&mut writer, Parsed::Switch(true)).is_err());
        let rate = Section::Disk.find("resync-rate").unwrap();
        assert!(rate.write(&mut writer, Parsed::Number(1 << 40)).is_err());
        assert_eq!(writer.len(), len);
    }
}
