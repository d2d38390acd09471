//! The grammar of a dump (`reference/metadata.md` 8.7).

use drbd_format::units::SectorCount;

/// Content of a dump.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Dump {
    /// Current, bitmap, younger and older history.
    pub(crate) uuids: [u64; 4],
    /// Flags of the superblock.
    pub(crate) flags: u32,
    /// Last agreed size in sectors.
    pub(crate) la_size_sect: u64,
    /// Identity of the metadata.
    pub(crate) device_uuid: u64,
    /// Largest request of the peer in bytes.
    pub(crate) la_peer_max_bio_bytes: u32,
    /// Stripes of the activity log.
    pub(crate) al_stripes: u32,
    /// Blocks of 4 KiB in a stripe.
    pub(crate) al_stripe_blocks: u32,
    /// Words of the bitmap, each with the number of times it is repeated.
    pub(crate) bitmap: Vec<(u64, u64)>,
}

/// Most words that a bitmap can have: one PiB of data.
const WORDS_MAX: u64 = 1 << 32;

/// Words in a sector of the bitmap.
const WORDS_PER_SECTOR: u64 = 64;

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    ///
    /// A sentence that names the line.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut input = Input {
            rest: text,
            line: 1,
        };
        let mut dump = Self::default();
        input.word("version")?;
        let version = input.token()?;
        if version != "\"v08\"" {
            let found = version.trim_matches('"');
            return Err(format!("dump is '{found}' you requested 'v08'."));
        }
        input.word(";")?;
        input.word("uuid")?;
        input.word("{")?;
        for uuid in &mut dump.uuids {
            *uuid = input.hex(16)?;
            input.word(";")?;
        }
        input.word("flags")?;
        dump.flags = u32::try_from(input.hex(8)?).unwrap_or_default();
        input.word(";")?;
        input.word("}")?;
        dump.la_size_sect = input.setting("la-size-sect")?;
        let per_bit = input.setting("bm-byte-per-bit")?;
        if per_bit != 4096 {
            return Err(format!(
                "Parse error in line {}: bm-byte-per-bit {per_bit}",
                input.line
            ));
        }
        input.word("device-uuid")?;
        dump.device_uuid = input.hex(16)?;
        input.word(";")?;
        dump.la_peer_max_bio_bytes = input.small("la-peer-max-bio-size")?;
        dump.al_stripes = input.small("al-stripes")?;
        dump.al_stripe_blocks = input.small("al-stripe-size-4k")?;
        dump.bitmap = input.bitmap()?;
        input.check_words(&dump)?;
        match input.next_token() {
            None => Ok(dump),
            Some(more) => Err(input.expected("end of file", &more)),
        }
    }
}

struct Input<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Input<'_> {
    /// Returns the next token, `None` at the end.
    fn next_token(&mut self) -> Option<String> {
        loop {
            let (first, rest) = self.rest.split_first()?;
            match first {
                b'\n' => {
                    self.line += 1;
                    self.rest = rest;
                }
                b' ' | b'\t' | b'\r' => self.rest = rest,
                b'#' => {
                    let end = rest
                        .iter()
                        .position(|byte| *byte == b'\n')
                        .unwrap_or(rest.len());
                    self.rest = &rest[end..];
                }
                _ => break,
            }
        }
        let len = match self.rest[0] {
            b'{' | b'}' | b';' => 1,
            b'"' => match self.rest[1..]
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\n'))
            {
                Some(end) => end + 2,
                None => self.rest.len(),
            },
            _ => self
                .rest
                .iter()
                .position(|byte| byte.is_ascii_whitespace() || b"{};\"#".contains(byte))
                .unwrap_or(self.rest.len()),
        };
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(String::from_utf8_lossy(token).into_owned())
    }

    fn token(&mut self) -> Result<String, String> {
        self.next_token()
            .ok_or_else(|| self.expected("more", "end of file"))
    }

    fn expected(&self, what: &str, found: &str) -> String {
        format!(
            "Parse error in line {}: {what} expected, but got '{found}'",
            self.line
        )
    }

    fn word(&mut self, wanted: &str) -> Result<(), String> {
        match self.next_token() {
            Some(token) if token == wanted => Ok(()),
            Some(token) => Err(self.expected(wanted, &token)),
            None => Err(self.expected(wanted, "end of file")),
        }
    }

    fn hex(&mut self, digits: usize) -> Result<u64, String> {
        let token = self.token()?;
        self.hex_in(&token, digits)
    }

    fn hex_in(&self, token: &str, digits: usize) -> Result<u64, String> {
        token
            .strip_prefix("0x")
            .filter(|number| number.len() == digits)
            .and_then(|number| u64::from_str_radix(number, 16).ok())
            .ok_or_else(|| self.expected(&format!("number of {digits} hex digits"), token))
    }

    fn setting(&mut self, name: &str) -> Result<u64, String> {
        self.word(name)?;
        let token = self.token()?;
        let value = token.parse().map_err(|_| self.expected("number", &token))?;
        self.word(";")?;
        Ok(value)
    }

    fn small(&mut self, name: &str) -> Result<u32, String> {
        let value = self.setting(name)?;
        u32::try_from(value).map_err(|_| self.expected("smaller number", &value.to_string()))
    }

    /// Where lines are lost, all bits behind them would be those of other blocks. A dump has whole
    /// sectors of bitmap, four words a line.
    fn check_words(&self, dump: &Dump) -> Result<(), String> {
        let words: u64 = dump.bitmap.iter().map(|(count, _)| count).sum();
        let needed = SectorCount(dump.la_size_sect).bits().words();
        let needed = needed.next_multiple_of(WORDS_PER_SECTOR);
        if words >= needed && words % WORDS_PER_SECTOR == 0 {
            return Ok(());
        }
        let what = format!("bitmap of {needed} words, or whole sectors more,");
        Err(self.expected(&what, &words.to_string()))
    }

    fn bitmap(&mut self) -> Result<Vec<(u64, u64)>, String> {
        self.word("bm")?;
        self.word("{")?;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut total = 0u64;
        loop {
            let token = self.token()?;
            let (count, word) = if token == "}" {
                return Ok(runs);
            } else if token.starts_with("0x") {
                (1, self.hex_in(&token, 16)?)
            } else {
                let count: u64 = token.parse().map_err(|_| self.expected("word", &token))?;
                self.word("times")?;
                (count, self.hex(16)?)
            };
            self.word(";")?;
            total = total.saturating_add(count);
            if total > WORDS_MAX {
                return Err(format!(
                    "Parse error in line {}: bitmap too large",
                    self.line
                ));
            }
            match runs.last_mut() {
                Some((known, last)) if *last == word => *known += count,
                _ => runs.push((count, word)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "# DRBD meta data dump\n\nversion \"v08\";\n\n# md_size_sect 80\n\n\
        uuid {\n 0x1122334455667788; 0x0102030405060708; 0x0000000000000004; \
        0x0000000000000000;\n flags 0x00000091;\n}\n# al-extents 67;\nla-size-sect 25088;\n\
        bm-byte-per-bit 4096;\ndevice-uuid 0xAABBCCDDEEFF0011;\nla-peer-max-bio-size 4096;\n\
        al-stripes 1;\nal-stripe-size-4k 8;\nbm {\n   # at 0kB\n    32 times \
        0x0000000000000000;\n    16 times 0xFFFFFFFFFFFFFFFF;\n   0x0000000000000001;\n    \
        15 times 0x0000000000000000;\n}\n";

    #[test]
    fn a_dump_is_read_completely() {
        let dump = Dump::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(dump.uuids[0], 0x1122_3344_5566_7788);
        assert_eq!(dump.flags, 0x91);
        assert_eq!(dump.la_size_sect, 25_088);
        assert_eq!(dump.bitmap, [(32, 0), (16, u64::MAX), (1, 1), (15, 0)]);
    }

    #[test]
    fn every_truncation_is_refused_with_its_line() {
        for cut in 0..SAMPLE.len() - 2 {
            let error = Dump::parse(&SAMPLE.as_bytes()[..cut]).unwrap_err();
            assert!(
                error.contains("line") || error.contains("you requested"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_dump_that_lost_lines_of_its_bitmap_is_refused() {
        for (line, left) in [
            ("    32 times 0x0000000000000000;\n", ""),
            ("0x0000000000000001;", ""),
            ("    15 times", "    14 times"),
            ("    32 times", "    36 times"),
        ] {
            let damaged = SAMPLE.replace(line, left);
            let error = Dump::parse(damaged.as_bytes()).unwrap_err();
            assert!(error.contains("bitmap of 64 words"), "{error}");
        }
        let more = SAMPLE.replace("32 times", "480 times");
        assert!(
            Dump::parse(more.as_bytes()).is_ok(),
            "it covers whole pages"
        );
    }

    #[test]
    fn what_is_not_a_dump_of_this_version_is_refused() {
        let other = SAMPLE.replace("v08", "v09");
        let error = Dump::parse(other.as_bytes()).unwrap_err();
        assert_eq!(error, "dump is 'v09' you requested 'v08'.");
        let more = format!("{SAMPLE}more");
        assert!(Dump::parse(more.as_bytes()).is_err());
        let unclean = SAMPLE.replace("uuid {", "This_is_an_unclean_meta_data_dump. uuid {");
        assert!(Dump::parse(unclean.as_bytes())
            .unwrap_err()
            .contains("line 7: uuid expected"));
        let huge = SAMPLE.replace("32 times", "99999999999 times");
        assert!(Dump::parse(huge.as_bytes())
            .unwrap_err()
            .contains("too large"));
    }
}
