//! `dump-md`: metadata as text.
//!
//! The form is fixed: `reference/metadata.md` 8.7.

use super::store::{bytes, Found, Store};
use crate::report::{utc, Failure};
use drbd_format::disk::bitmap::words_from_disk;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Words of the bitmap on one line.
const PER_LINE: usize = 4;

/// Words between two comments that tell the position.
const PER_COMMENT: usize = 32;

/// KiB of data that one word covers.
const KIB_PER_WORD: usize = 256;

/// What the header of a dump says about itself.
pub(crate) struct Origin<'a> {
    /// Name of the node.
    pub(crate) host: &'a str,
    /// Command line.
    pub(crate) command: &'a str,
    /// Comment lines in front of the positions, each ending with a newline.
    pub(crate) remark: &'a str,
    /// Whether the activity log was not applied.
    pub(crate) is_unclean: bool,
}

/// Returns the dump.
pub(crate) fn dump(store: &Store, found: &Found, origin: &Origin<'_>) -> Result<String, Failure> {
    let (layout, superblock) = (&found.layout, &found.superblock);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (date, time) = utc(now);
    let mut text = format!(
        "# DRBD meta data dump\n# {date} {time} +0000 [{now}]\n# {}> {}\n#\n\n",
        origin.host, origin.command
    );
    text.push_str("version \"v08\";\n\n");
    if origin.is_unclean {
        text.push_str("This_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.\n");
        text.push_str("# You should \"apply-al\" first, if you plan to restore this.\n\n");
    }
    text.push_str(origin.remark);
    let uuids = &superblock.uuids;
    let [younger, older] = uuids.history;
    let usable = layout.usable(store.sectors());
    let mut la_size = superblock.la_size.0;
    let mut note = String::new();
    if la_size > usable.0 && store.placement.is_internal() {
        note = format!(
            "# la-size-sect was too big ({la_size}), truncated ({})!\n",
            usable.0
        );
        la_size = usable.0;
    }
    let _ = write!(
        text,
        "# md_size_sect {}\n# md_offset {}\n# al_offset {}\n# bm_offset {}\n\n\
         uuid {{\n    0x{}; 0x{}; 0x{}; 0x{};\n    flags 0x{:08X};\n}}\n\
         # al-extents {};\n{note}la-size-sect {la_size};\nbm-byte-per-bit 4096;\n\
         device-uuid 0x{:016X};\nla-peer-max-bio-size {};\nal-stripes {};\n\
         al-stripe-size-4k {};\n",
        superblock.md_size_sect,
        bytes(layout.superblock().0),
        bytes(layout.activity_log().0),
        bytes(layout.bitmap().0),
        uuids.current,
        uuids.bitmap,
        younger,
        older,
        superblock.flags.0,
        superblock.al_nr_extents,
        superblock.device_uuid,
        superblock.la_peer_max_bio_bytes,
        superblock.striping.stripes(),
        superblock.striping.stripe_blocks(),
    );
    let len = usize::try_from(store.bitmap_len(found)).unwrap_or(0);
    let content = store.device.read(bytes(layout.bitmap().0), len)?;
    let mut words = vec![0; content.len() / 8];
    words_from_disk(&content, &mut words);
    bitmap(&mut text, &words);
    Ok(text)
}

fn bitmap(text: &mut String, words: &[u64]) {
    let _ = writeln!(text, "# bm-bytes {};\nbm {{", words.len() * 8);
    let mut at = 0;
    let mut bits = 0u64;
    while at < words.len() {
        if at % PER_COMMENT == 0 {
            let _ = writeln!(text, "   # at {}kB", at * KIB_PER_WORD);
        }
        let word = words[at];
        // The run of an uneven word is not counted: it would be, again, at each of its lines.
        let is_even = word >> 32 == word & 0xffff_ffff;
        let same = words[at..]
            .iter()
            .take_while(|other| is_even && **other == word);
        let run = same.count() / PER_LINE * PER_LINE;
        let taken = if run > PER_LINE {
            let _ = writeln!(text, "    {run} times 0x{word:016X};");
            run
        } else {
            let line = &words[at..words.len().min(at + PER_LINE)];
            let line: String = line.iter().map(|word| format!(" 0x{word:016X};")).collect();
            let _ = writeln!(text, "   {line}");
            PER_LINE
        };
        let end = words.len().min(at + taken);
        bits += words[at..end]
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum::<u64>();
        at = end;
    }
    let _ = writeln!(text, "}}\n# bits-set {bits};");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// The bitmap of 16 GiB of which each second 128 KiB are out of sync.
    #[test]
    fn a_regular_bitmap_is_dumped_as_fast_as_any() {
        let words = vec![0xffff_ffff; 1 << 16];
        let start = Instant::now();
        let mut text = String::new();
        bitmap(&mut text, &words);
        assert!(text.ends_with("}\n# bits-set 2097152;\n"));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn the_bitmap_is_that_of_the_specification() {
        let mut words = vec![0; 512];
        words[32..48].fill(u64::MAX);
        let mut text = String::new();
        bitmap(&mut text, &words);
        assert_eq!(
            text,
            "# bm-bytes 4096;
bm {
   # at 0kB
    32 times 0x0000000000000000;
   # at 8192kB
    16 times 0xFFFFFFFFFFFFFFFF;
    464 times 0x0000000000000000;
}
# bits-set 1024;
"
        );
    }
}
