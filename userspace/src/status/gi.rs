//! Generation identifiers as `get-gi` and `show-gi` print them.
//!
//! The layout is fixed to the blank: `reference/metadata.md` 8.5.

use std::fmt;

/// Flags of the metadata, in the order in which they are printed.
const PRINTED: [u32; 7] = [0x01, 0x10, 0x02, 0x04, 0x08, 0x20, 0x40];

const CONSISTENT: u32 = 0x01;
const PRIMARY: u32 = 0x02;
const CONNECTED: u32 = 0x04;
const FULL_SYNC: u32 = 0x08;
const WAS_UP_TO_DATE: u32 = 0x10;
const PEER_OUTDATED: u32 = 0x20;
const CRASHED_PRIMARY: u32 = 0x40;
const AL_CLEAN: u32 = 0x80;

/// UUIDs and flags of one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Generation {
    /// Current, bitmap, younger and older history.
    pub(crate) uuids: [u64; 4],
    /// Flags of the metadata.
    pub(crate) flags: u32,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [current, bitmap, younger, older] = self.uuids;
        write!(
            f,
            "{current:016X}:{bitmap:016X}:{younger:016X}:{older:016X}"
        )?;
        for flag in PRINTED {
            write!(f, ":{}", u8::from(self.has(flag)))?;
        }
        Ok(())
    }
}

impl Generation {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Returns the drawing of `show-gi`, ending with the line about the metadata.
    pub(crate) fn explained(&self) -> String {
        let either = |flag, yes: &'static str, no| if self.has(flag) { yes } else { no };
        let data = if !self.has(CONSISTENT) {
            "Inconsistent"
        } else {
            either(WAS_UP_TO_DATE, "UpToDate", "Outdated")
        };
        format!(
            "{ABOVE}{self}\n{BELOW}\nflags:{} {}, {}, {data}{}{}\nmeta-data: {}\n",
            either(CRASHED_PRIMARY, " crashed", ""),
            either(PRIMARY, "Primary", "Secondary"),
            either(CONNECTED, "Connected", "StandAlone"),
            either(FULL_SYNC, ", need full sync", ""),
            either(PEER_OUTDATED, ", peer Outdated", ""),
            either(AL_CLEAN, "clean", "need apply-al"),
        )
    }

    /// Returns the generation that `text`, in the form of `get-gi`, makes of this one.
    ///
    /// Empty and missing fields stay as they are.
    pub(crate) fn changed(mut self, text: &str) -> Result<Self, String> {
        let mut fields = text.trim().split(':');
        for uuid in &mut self.uuids {
            match fields.next().map(str::trim) {
                None | Some("") => {}
                Some(word) => {
                    let digits = word.strip_prefix("0x").unwrap_or(word);
                    *uuid = u64::from_str_radix(digits, 16)
                        .map_err(|_| format!("'{word}' is not a generation identifier."))?;
                }
            }
        }
        for flag in PRINTED {
            match fields.next().map(str::trim) {
                None | Some("") => {}
                Some("0") => self.flags &= !flag,
                Some("1") => self.flags |= flag,
                Some(word) => return Err(format!("'{word}' is not 0 or 1.")),
            }
        }
        Ok(self)
    }
}

const ABOVE: &str = "
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       |               |                 +--<  younger history UUID  >-
       |               |                 |         +-<  older history  >-
       V               V                 V         V
";

const BELOW: &str =
    "                                                                    ^ ^ ^ ^ ^ ^ ^
                                      -<  Data consistency flag  >--+ | | | | | |
                             -<  Data was/is currently up-to-date  >--+ | | | | |
                                  -<  Node was/is currently primary  >--+ | | | |
                                  -<  Node was/is currently connected  >--+ | | |
         -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                        -<  The peer's disk was out-dated or inconsistent  >--+ |
      -<  This node was a crashed primary, and has not seen its peer since   >--+
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_the_specification() {
        let generation = Generation {
            uuids: [0xE8F5_7905_DF83_3892, 0x2E38_18F3_E0D3_2B62, 0, 0],
            flags: 0x51,
        };
        let line = "E8F57905DF833892:2E3818F3E0D32B62:0000000000000000:0000000000000000\
                    :1:1:0:0:0:0:1";
        assert_eq!(generation.to_string(), line);
        let zero = Generation {
            uuids: [0; 4],
            flags: 0,
        };
        assert_eq!(zero.changed(line), Ok(generation));
    }

    #[test]
    fn the_drawing_ends_with_words() {
        let text = Generation {
            uuids: [4, 0, 0, 0],
            flags: 0xd3,
        }
        .explained();
        assert!(text.starts_with("\n       +--<  Current"));
        assert!(
            text.ends_with("\n\nflags: crashed Primary, StandAlone, UpToDate\nmeta-data: clean\n")
        );
        let text = Generation {
            uuids: [4, 0, 0, 0],
            flags: 0x2c,
        }
        .explained();
        let wanted = "flags: Secondary, Connected, Inconsistent, need full sync, peer Outdated\n\
                      meta-data: need apply-al\n";
        assert!(text.ends_with(wanted));
    }

    #[test]
    fn empty_fields_keep_their_value() {
        let old = Generation {
            uuids: [1, 2, 3, 4],
            flags: 0x91,
        };
        assert_eq!(old.changed(""), Ok(old));
        let new = old.changed("::AB::0:::1").unwrap();
        assert_eq!(
            new,
            Generation {
                uuids: [1, 2, 0xab, 4],
                flags: 0x94
            }
        );
        assert!(old.changed("1:2:3:4:2").is_err());
        assert!(old.changed("xyz").is_err());
    }
}
