//! The command line of drbdmeta: `[options] DEVICE v08 META_DEV INDEX COMMAND [args]`.

use crate::meta::create::InitialBitmap;
use crate::meta::last_known::VAR_LIB;
use crate::report::{outln, Failure};
use drbd_format::disk::layout::{Placement, Striping};
use drbd_format::options::{number_in, Unit};

/// Exit code for an option with a bad value or in the wrong place.
const RC_OPTION: u8 = 10;

/// Blocks of the activity log that the tools write, at most.
const AL_BLOCKS_MAX: u64 = 8192;

/// Blocks of the activity log, at least.
const AL_BLOCKS_MIN: u64 = 8;

/// Largest value of `--peer-max-bio-size`.
const PEER_MAX_BIO_BYTES: u64 = 1 << 20;

/// A command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    ApplyAl,
    CheckResize,
    CreateMd,
    Dstate,
    DumpMd,
    GetGi,
    Invalidate,
    Outdate,
    ReadDevUuid,
    RestoreMd,
    SetGi,
    ShowGi,
    VerifyDump,
    WipeMd,
    WriteDevUuid,
}

/// Name, command, whether it writes, whether it is in the overview, its argument.
const COMMANDS: &[(&str, What, bool, bool, &str)] = &[
    ("get-gi", What::GetGi, false, true, ""),
    ("show-gi", What::ShowGi, false, true, ""),
    ("dump-md", What::DumpMd, false, true, ""),
    ("restore-md", What::RestoreMd, true, true, "file"),
    ("verify-dump", What::VerifyDump, false, true, "file"),
    ("apply-al", What::ApplyAl, true, true, ""),
    ("wipe-md", What::WipeMd, true, true, ""),
    ("outdate", What::Outdate, true, true, ""),
    ("invalidate", What::Invalidate, true, true, ""),
    ("dstate", What::Dstate, false, true, ""),
    ("check-resize", What::CheckResize, true, true, ""),
    (
        "create-md",
        What::CreateMd,
        true,
        true,
        "[--peer-max-bio-size {val}] [--al-stripes {val}] [--al-stripe-size-kB {val}]",
    ),
    ("set-gi", What::SetGi, true, false, "gi"),
    ("read-dev-uuid", What::ReadDevUuid, false, false, ""),
    ("write-dev-uuid", What::WriteDevUuid, true, false, "hex"),
];

impl What {
    /// Whether the command writes.
    pub(super) fn modifies(self) -> bool {
        COMMANDS
            .iter()
            .any(|(_, what, modifies, ..)| *what == self && *modifies)
    }
}

/// Everything the user gave.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) device: &'a str,
    pub(super) placement: Placement,
    pub(super) meta_dev: &'a str,
    pub(super) what: What,
    args: Vec<&'a str>,
    pub(super) force: bool,
    pub(super) quiet: bool,
    pub(super) dry_run: bool,
    pub(super) ignore_sanity_checks: bool,
    pub(super) peer_max_bio_bytes: u32,
    pub(super) effective_sectors: u64,
    pub(super) bitmap: InitialBitmap,
    pub(super) var_lib: &'a str,
    al_stripes: Option<u64>,
    al_stripe_kib: Option<u64>,
}

/// Options with a value: long name, letter, the commands that take it (none: all of them).
const VALUED: &[(&str, char, &[What])] = &[
    ("peer-max-bio-size", 'p', &[What::CreateMd]),
    ("al-stripes", 's', &[What::CreateMd, What::RestoreMd]),
    ("al-stripe-size-kB", 'z', &[What::CreateMd, What::RestoreMd]),
    ("effective-size", 'Z', &[What::CreateMd]),
    ("initialize-bitmap", 'b', &[What::CreateMd]),
    ("node-id", 'i', &[What::GetGi, What::ShowGi]),
    ("var-lib-drbd", '\0', &[]),
];

/// Options without a value.
const FLAGS: &[(&str, char)] = &[
    ("force", 'f'),
    ("quiet", 'q'),
    ("verbose", 'v'),
    ("ignore-sanity-checks", '\0'),
    ("dry-run", '\0'),
    ("tentative", '\0'),
    ("help", 'h'),
];

/// Options and positional words, still unchecked.
#[derive(Default)]
struct Split<'a> {
    words: Vec<&'a str>,
    flags: Vec<&'static str>,
    values: Vec<(&'static str, &'a str)>,
}

fn split<'a>(args: &[&'a str]) -> Result<Split<'a>, Failure> {
    let mut out = Split::default();
    let mut args = args.iter().copied();
    let missing = |name: &str| Failure::local(format!("option '--{name}' requires an argument"));
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.words.extend(args.by_ref());
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            if let Some((flag, _)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
                out.flags.push(flag);
            } else if let Some((name, ..)) = VALUED.iter().find(|(known, ..)| *known == name) {
                let value = value.or_else(|| args.next()).ok_or_else(|| missing(name))?;
                out.values.push((name, value));
            } else {
                return Err(Failure::local(format!("unrecognized option '--{name}'")));
            }
        } else if arg.len() > 1 && arg.starts_with('-') {
            let letters = &arg[1..];
            for (at, letter) in letters.char_indices() {
                if let Some((flag, _)) = FLAGS.iter().find(|(_, known)| *known == letter) {
                    out.flags.push(flag);
                    continue;
                }
                let Some((name, ..)) = VALUED.iter().find(|(_, known, _)| *known == letter) else {
                    return Err(Failure::local(format!("invalid option -- '{letter}'")));
                };
                let rest = &letters[at + letter.len_utf8()..];
                let value = if rest.is_empty() {
                    args.next()
                } else {
                    Some(rest)
                };
                out.values.push((name, value.ok_or_else(|| missing(name))?));
                break;
            }
        } else {
            out.words.push(arg);
        }
    }
    Ok(out)
}

impl<'a> Call<'a> {
    /// Reads the words behind the program's name; `None` asks for the overview.
    pub(super) fn parse(args: &[&'a str]) -> Result<Option<Self>, Failure> {
        let split = split(args)?;
        if split.words.len() < 4 || split.flags.contains(&"help") {
            return Ok(None);
        }
        let (device, format) = (split.words[0], split.words[1]);
        match format {
            "v08" => {}
            "v06" | "v07" | "v09" => {
                let text = format!("Format '{format}' is not supported, only 'v08' is.");
                return Err(Failure::local(text));
            }
            _ => return Err(Failure::local(format!("Unknown format '{format}'."))),
        }
        let (meta_dev, index) = (split.words[2], split.words[3]);
        let placement = placement_of(index)
            .ok_or_else(|| Failure::local(format!("'{index}' is not a valid index number.")))?;
        let Some(name) = split.words.get(4) else {
            return Err(Failure::local("command missing"));
        };
        let Some((_, what, ..)) = COMMANDS.iter().find(|(known, ..)| known == name) else {
            return Err(Failure::local(format!("Unknown command '{name}'.")));
        };
        let has = |flag: &str| split.flags.contains(&flag);
        let mut call = Self {
            device,
            placement,
            meta_dev,
            what: *what,
            args: split.words[5..].to_vec(),
            force: has("force"),
            quiet: has("quiet"),
            dry_run: has("dry-run") || has("tentative"),
            ignore_sanity_checks: has("ignore-sanity-checks"),
            peer_max_bio_bytes: 0,
            effective_sectors: 0,
            bitmap: InitialBitmap::default(),
            var_lib: VAR_LIB,
            al_stripes: None,
            al_stripe_kib: None,
        };
        for (name, value) in &split.values {
            call.take(name, value)?;
        }
        call.striping()?;
        Ok(Some(call))
    }

    fn take(&mut self, name: &str, value: &'a str) -> Result<(), Failure> {
        let bad = |text: String| Failure::new(RC_OPTION, text);
        let known = VALUED.iter().find(|(known, ..)| *known == name);
        let commands = known.map_or(&[][..], |(_, _, commands)| commands);
        if !commands.is_empty() && !commands.contains(&self.what) {
            return Err(bad(match name {
                "al-stripes" | "al-stripe-size-kB" => {
                    "The --al-stripe* options are only allowed with create-md and restore-md"
                        .to_owned()
                }
                _ => format!("The --{name} option is not allowed with this command"),
            }));
        }
        let number = |unit| {
            number_in(unit, value).map_err(|error| bad(format!("--{name}: {value} {error}")))
        };
        match name {
            "peer-max-bio-size" => {
                let bytes = number(Unit::Bytes)?;
                self.peer_max_bio_bytes = u32::try_from(bytes)
                    .ok()
                    .filter(|_| bytes <= PEER_MAX_BIO_BYTES)
                    .ok_or_else(|| bad("peer-max-bio-size out of range (0...1M)".to_owned()))?;
            }
            "al-stripes" => self.al_stripes = Some(number(Unit::Plain)?),
            "al-stripe-size-kB" => self.al_stripe_kib = Some(number(Unit::Kib)?),
            "effective-size" => self.effective_sectors = number(Unit::Sectors)?,
            "initialize-bitmap" => {
                self.bitmap = match value {
                    "skip" => InitialBitmap::Skip,
                    "automatic" | "zeroout" | "pwrite" => InitialBitmap::Zero,
                    "set-all" => InitialBitmap::Set,
                    _ => return Err(bad(format!("--initialize-bitmap: invalid mode '{value}'"))),
                };
            }
            "node-id" if number(Unit::Plain)? != 0 => {
                return Err(bad("There is only the node id 0.".to_owned()));
            }
            "var-lib-drbd" => self.var_lib = value,
            _ => {}
        }
        Ok(())
    }

    /// Returns the geometry of the activity log, if the user wants another than usual.
    pub(super) fn striping(&self) -> Result<Option<Striping>, Failure> {
        if self.al_stripes.is_none() && self.al_stripe_kib.is_none() {
            return Ok(None);
        }
        let stripes = self.al_stripes.unwrap_or(1);
        let stripe_blocks = self.al_stripe_kib.unwrap_or(32) / 4;
        let blocks = stripes.saturating_mul(stripe_blocks);
        let invalid = |what: &str| {
            Failure::new(
                RC_OPTION,
                format!("invalid (too {what}) al-stripe* settings"),
            )
        };
        if blocks < AL_BLOCKS_MIN {
            return Err(invalid("small"));
        }
        if blocks > AL_BLOCKS_MAX {
            return Err(invalid("large"));
        }
        let number = |value| u32::try_from(value).map_err(|_| invalid("large"));
        Striping::new(number(stripes)?, number(stripe_blocks)?)
            .map(Some)
            .map_err(|error| Failure::new(RC_OPTION, error.to_string()))
    }

    /// Returns the argument of the command.
    pub(super) fn argument(&self) -> Result<&'a str, Failure> {
        self.args
            .first()
            .copied()
            .ok_or_else(|| Failure::new(RC_OPTION, "Required Argument missing"))
    }
}

fn placement_of(word: &str) -> Option<Placement> {
    match word {
        "internal" | "flex-internal" => Some(Placement::Internal),
        "flex-external" => Some(Placement::FlexibleExternal),
        number => number
            .parse::<u8>()
            .ok()
            .map(|slot| Placement::Indexed(slot.into())),
    }
}

/// Prints the overview.
pub(super) fn usage(program: &str) {
    outln!("\nUSAGE: {program} [--force] DEVICE FORMAT [FORMAT ARGS...] COMMAND [CMD ARGS...]\n");
    outln!("FORMATS:\n  v08 device index\n\nCOMMANDS:");
    for (name, _, _, is_listed, argument) in COMMANDS {
        if *is_listed {
            outln!("  {name} {argument}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &'static str) -> Result<Option<Call<'static>>, Failure> {
        Call::parse(&line.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn options_may_stand_anywhere() {
        for line in [
            "--force 0 v08 /dev/a internal create-md --al-stripes 3 --al-stripe-size-kB=16",
            "0 v08 -f /dev/a flex-internal -s3 -z 16 create-md",
        ] {
            let call = parse(line).unwrap().unwrap();
            assert!(call.force && call.what == What::CreateMd, "{line}");
            assert_eq!(call.striping().unwrap(), Striping::new(3, 4).ok());
        }
    }

    #[test]
    fn what_is_wrong_has_the_codes_of_the_specification() {
        for (line, code, text) in [
            ("- v05 a internal create-md", 20, "Unknown format 'v05'."),
            (
                "- v08 a bogus create-md",
                20,
                "'bogus' is not a valid index number.",
            ),
            (
                "- v08 a 256 create-md",
                20,
                "'256' is not a valid index number.",
            ),
            ("- v08 a internal bogus", 20, "Unknown command 'bogus'."),
            ("- v08 a internal", 20, "command missing"),
            (
                "- v08 a internal create-md --al-stripes 9000",
                10,
                "invalid (too large) al-stripe* settings",
            ),
            (
                "- v08 a internal create-md --al-stripe-size-kB 4",
                10,
                "invalid (too small) al-stripe* settings",
            ),
            (
                "- v08 a internal dump-md --al-stripes 2",
                10,
                "The --al-stripe* options are only allowed with create-md and restore-md",
            ),
        ] {
            let failure = parse(line).unwrap_err();
            assert_eq!((failure.code, &*failure.text), (code, text), "{line}");
        }
        assert!(parse("- v08 a").unwrap().is_none());
    }
}
