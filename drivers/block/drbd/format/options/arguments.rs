//! Options of single commands that are not part of any configuration.

use super::{number, option, Domain, OptionSpec, Section, Unit};
use crate::netlink::info::{
    DetachParms, DisconnectParms, NewCurrentUuidParms, ResizeParms, SetRoleParms, StartVerifyParms,
};
use crate::netlink::tlv::Field;

const fn flag(name: &'static str, field: Field) -> OptionSpec {
    option(name, Domain::Flag).placed(Section::Command, field)
}

const fn count(option: OptionSpec, field: Field) -> OptionSpec {
    option.placed(Section::Command, field)
}

/// Options of `primary`.
pub const PRIMARY: &[OptionSpec] =
    &[flag("force", SetRoleParms::ASSUME_UPTODATE).aliases(&["overwrite-data-of-peer"])];

/// Options of `detach`.
pub const DETACH: &[OptionSpec] = &[flag("force", DetachParms::FORCE_DETACH)];

/// Options of `disconnect`.
pub const DISCONNECT: &[OptionSpec] = &[flag("force", DisconnectParms::FORCE_DISCONNECT)];

/// Options of `resize`.
pub const RESIZE: &[OptionSpec] = &[
    count(
        number("size", 0, 0, 1 << 41, Unit::Sectors),
        ResizeParms::RESIZE_SIZE,
    ),
    flag("assume-peer-has-space", ResizeParms::RESIZE_FORCE),
    flag("assume-clean", ResizeParms::NO_RESYNC),
    count(
        number("al-stripes", 1, 1, 1024, Unit::Plain),
        ResizeParms::AL_STRIPES,
    ),
    count(
        number("al-stripe-size-kB", 32, 4, 16_777_216, Unit::Kib),
        ResizeParms::AL_STRIPE_SIZE,
    ),
];

/// Options of `verify`.
pub const VERIFY: &[OptionSpec] = &[
    count(
        number("start", 0, 0, 1 << 41, Unit::Sectors),
        StartVerifyParms::OV_START_SECTOR,
    ),
    count(
        number("stop", u64::MAX, 0, 1 << 41, Unit::Sectors),
        StartVerifyParms::OV_STOP_SECTOR,
    ),
];

/// Options of `new-current-uuid`.
pub const NEW_CURRENT_UUID: &[OptionSpec] = &[flag("clear-bitmap", NewCurrentUuidParms::CLEAR_BM)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_commands_are_sent_with_their_command() {
        let force = flag("force", SetRoleParms::ASSUME_UPTODATE);
        assert_eq!(
            (force.section, force.domain),
            (Section::Command, Domain::Flag)
        );
        assert_eq!(force.field, SetRoleParms::ASSUME_UPTODATE);
        let size = count(
            number("size", 0, 0, 9, Unit::Sectors),
            ResizeParms::RESIZE_SIZE,
        );
        assert_eq!(
            (size.section, size.field),
            (Section::Command, ResizeParms::RESIZE_SIZE)
        );
    }
}
