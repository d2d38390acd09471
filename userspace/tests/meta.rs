//! drbdmeta on files: bytes, texts, exit codes.
//!
//! Vectors and texts are those of `reference/metadata.md` 9 and `reference/userland.md` 4; the
//! same steps were compared with drbdmeta of drbd-utils 9.22.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MIB: u64 = 1 << 20;
const SUPERBLOCK: usize = 67_104_768;
const LOG: usize = 67_072_000;
const BITMAP: usize = 67_067_904;

/// A directory of its own, removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("drbdmeta-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn device(&self, name: &str, bytes: u64) -> String {
        let path = self.0.join(name);
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, PartialEq)]
struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(words: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_drbd-tools"))
        .arg("drbdmeta")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn meta(device: &str, words: &[&str]) -> Output {
    let mut all = vec!["--force", "-", "v08", device, "internal"];
    all.extend(words);
    run(&all)
}

fn get_gi(device: &str) -> String {
    meta(device, &["get-gi"]).stdout.trim().to_owned()
}

fn read(path: &str) -> Vec<u8> {
    fs::read(Path::new(path)).unwrap()
}

/// Checksum of the activity log, written a second time so that no mistake is made twice.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

/// What a block of the ring holds.
#[derive(Clone, Copy)]
enum Block {
    Initialised,
    Garbage,
    /// Number and the slots that change.
    Update(u32, &'static [(u16, u32)]),
}

/// Lays out a ring whose contexts restate what earlier transactions did.
fn ring(blocks: &[Block]) -> Vec<u8> {
    let mut slots = std::collections::BTreeMap::new();
    // Numbers that are about to wrap are older than those that have wrapped.
    let is_old = |block: &Block| matches!(block, Block::Update(number, _) if number >> 31 == 1);
    let first = blocks.iter().position(is_old).unwrap_or(0);
    let mut bytes = Vec::new();
    for block in blocks.iter().cycle().skip(first).take(blocks.len()) {
        let mut raw = vec![0u8; 4096];
        match block {
            Block::Garbage => raw.fill(0x5a),
            Block::Initialised => {
                raw[..4].copy_from_slice(&[0x69, 0xcb, 0x65, 0xa2]);
                raw[12..14].fill(0xff);
                let sum = crc(&raw);
                assert_eq!(sum, 0x709c_c651);
                raw[8..12].copy_from_slice(&sum.to_be_bytes());
            }
            Block::Update(number, updates) => {
                raw[..4].copy_from_slice(&[0x69, 0xcb, 0x65, 0xa2]);
                raw[4..8].copy_from_slice(&number.to_be_bytes());
                raw[14..16].copy_from_slice(&(updates.len() as u16).to_be_bytes());
                raw[16..18].copy_from_slice(&67u16.to_be_bytes());
                raw[36..].fill(0xff);
                for (slot, extent) in &slots {
                    let at = 420 + 4 * usize::from(*slot);
                    raw[at..at + 4].copy_from_slice(&u32::to_be_bytes(*extent));
                }
                for (i, (slot, extent)) in updates.iter().enumerate() {
                    raw[36 + 2 * i..38 + 2 * i].copy_from_slice(&slot.to_be_bytes());
                    raw[164 + 4 * i..168 + 4 * i].copy_from_slice(&extent.to_be_bytes());
                    slots.insert(*slot, *extent);
                }
                let sum = crc(&raw);
                raw[8..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        bytes.extend(raw);
    }
    bytes.rotate_right(first * 4096);
    bytes
}

/// A device of 64 MiB that lost power: superblock with these flags, and this ring.
fn crashed(scratch: &Scratch, name: &str, flags: u8, blocks: &[Block]) -> String {
    let device = scratch.device(name, 64 * MIB);
    meta(&device, &["create-md"]);
    let mut bytes = read(&device);
    let superblock = &mut bytes[SUPERBLOCK..];
    superblock[..8].copy_from_slice(&130_992u64.to_be_bytes());
    superblock[8..16].copy_from_slice(&0x1122_3344_5566_7789u64.to_be_bytes());
    superblock[59] = flags;
    superblock[63] = 0x6c;
    bytes[LOG..SUPERBLOCK].copy_from_slice(&ring(blocks));
    fs::write(&device, bytes).unwrap();
    device
}

/// Extents that are completely marked.
fn marked(device: &str) -> Vec<usize> {
    let bytes = read(device);
    let bitmap = &bytes[BITMAP..BITMAP + 2048];
    bitmap
        .chunks(128)
        .enumerate()
        .filter(|(_, extent)| extent.iter().all(|byte| *byte == 0xff))
        .map(|(number, _)| number)
        .collect()
}

#[test]
fn create_md_writes_the_bytes_of_the_specification() {
    let scratch = Scratch::new("create");
    let device = scratch.device("a", 64 * MIB);
    let output = meta(&device, &["create-md"]);
    assert_eq!(
        output,
        Output {
            code: 0,
            stdout: "initializing activity log\nWriting meta data...\n\
                     New drbd meta data block successfully created.\n"
                .to_owned(),
            stderr: "NOT initializing bitmap\n".to_owned(),
        }
    );
    let bytes = read(&device);
    let mut wanted = vec![0u8; 4096];
    wanted[15] = 4;
    wanted[0x38..0x60].copy_from_slice(&[
        0, 0, 0, 0x80, 0x83, 0x74, 0x02, 0x6b, 0, 0, 0, 0x50, 0xff, 0xff, 0xff, 0xc0, 0, 0, 1, 1,
        0xff, 0xff, 0xff, 0xb8, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8,
    ]);
    assert_eq!(bytes[SUPERBLOCK..SUPERBLOCK + 4096], wanted);
    assert_eq!(bytes[LOG..SUPERBLOCK], ring(&[Block::Initialised; 8]));
    assert!(bytes[..LOG].iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_system_that_would_be_truncated_is_refused_and_nothing_is_written() {
    let scratch = Scratch::new("refuse");
    let device = scratch.device("big", 2_539_520 * 1024);
    let mut front = vec![0u8; 4096];
    front[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    front[0x404..0x408].copy_from_slice(&634_880u32.to_le_bytes());
    front[0x418] = 2;
    front[0x45c] = 4;
    front[0x460] = 0x40;
    let file = fs::OpenOptions::new().write(true).open(&device).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &front, 0).unwrap();
    let changed = fs::metadata(&device).unwrap().modified().unwrap();
    let output = meta(&device, &["create-md"]);
    assert_eq!((output.code, &*output.stderr), (40, ""));
    assert_eq!(
        output.stdout,
        "md_offset 2600464384
al_offset 2600431616
bm_offset 2600349696

Found ext4 filesystem
     2539520 kB data area apparently used
     2539404 kB left usable by current configuration

Device size would be truncated, which
would corrupt data and result in
'access beyond end of device' errors.
You need to either
   * use external meta data (recommended)
   * shrink that filesystem first
   * zero out the device (destroy the filesystem)
Operation refused.

"
    );
    assert_eq!(fs::metadata(&device).unwrap().modified().unwrap(), changed);
}

#[test]
fn nobody_to_ask_means_no() {
    let scratch = Scratch::new("ask");
    let device = scratch.device("a", 64 * MIB);
    meta(&device, &["create-md"]);
    let before = read(&device);
    // Without --force a file is no device at all; so the question comes from a pipe.
    let output = run(&["-", "v08", &device, "internal", "create-md"]);
    assert_eq!(
        (output.code, output.stderr),
        (20, format!("'{device}' is not a block device!\n"))
    );
    assert_eq!(read(&device), before);
}

#[test]
fn generations_can_be_read_and_set() {
    let scratch = Scratch::new("gi");
    let device = scratch.device("a", 64 * MIB);
    meta(&device, &["create-md"]);
    let zero = "0000000000000000";
    assert_eq!(
        get_gi(&device),
        format!("0000000000000004:{zero}:{zero}:{zero}:0:0:0:0:0:0:0")
    );
    assert_eq!(meta(&device, &["dstate"]).stdout, "Inconsistent\n");
    let output = meta(&device, &["outdate"]);
    assert_eq!(
        (output.code, &*output.stderr),
        (5, "Device is inconsistent.\n")
    );
    assert_eq!(meta(&device, &["set-gi", "1:2:3:4:1:1"]).code, 0);
    assert_eq!(meta(&device, &["dstate"]).stdout, "Consistent\n");
    assert_eq!(meta(&device, &["outdate"]).code, 0);
    assert_eq!(meta(&device, &["dstate"]).stdout, "Outdated\n");
    assert_eq!(meta(&device, &["invalidate"]).code, 0);
    let gi = "0000000000000001:0000000000000002:0000000000000003:0000000000000004:0:0:0:0:1:0:0";
    assert_eq!(get_gi(&device), gi);
    assert_eq!(meta(&device, &["set-gi", "1:2:3:4:7"]).code, 10);
    assert_eq!(
        meta(&device, &["write-dev-uuid", "0102030405060708"]).code,
        0
    );
    assert_eq!(
        meta(&device, &["read-dev-uuid"]).stdout,
        "0102030405060708\n"
    );
}

/// Name, ring, extents that get marked, exit code.
type Vector = (&'static str, [Block; 8], &'static [usize], i32);

fn vectors() -> Vec<Vector> {
    use Block::{Garbage as X, Initialised as I, Update as T};
    let eight = [
        T(8, &[(0, 0)]),
        T(9, &[(1, 1)]),
        T(10, &[(2, 2)]),
        T(11, &[(3, 3)]),
        T(12, &[(4, 4)]),
        T(13, &[(5, 5)]),
        T(14, &[(6, 6)]),
        T(15, &[(7, 7)]),
    ];
    let without = |position: usize| {
        let mut blocks = eight;
        blocks[position] = X;
        blocks
    };
    let wrapped = [
        T(u32::MAX - 1, &[(0, 0)]),
        T(u32::MAX, &[(1, 1)]),
        T(0, &[(2, 2)]),
        T(1, &[(3, 3)]),
    ];
    // The ring position of number 0xfffffffe is 6.
    let wrapped = [wrapped[2], wrapped[3], I, I, I, I, wrapped[0], wrapped[1]];
    vec![
        ("all", eight, &[0, 1, 2, 3, 4, 5, 6, 7], 0),
        ("last torn", without(7), &[0, 1, 2, 3, 4, 5, 6], 0),
        (
            "reused",
            [
                T(8, &[(66, 1)]),
                T(9, &[(66, 2)]),
                T(10, &[(66, 3)]),
                I,
                I,
                I,
                I,
                I,
            ],
            &[3],
            0,
        ),
        (
            "freed",
            [T(8, &[(66, 1)]), T(9, &[(66, u32::MAX)]), I, I, I, I, I, I],
            &[],
            0,
        ),
        ("unused", [I; 8], &[], 0),
        ("first torn", [X, I, I, I, I, I, I, I], &[], 0),
        ("second torn", [I, X, I, I, I, I, I, I], &[], 2),
        ("nothing left", [X; 8], &[], 1),
        ("wrapped", wrapped, &[0, 1, 2, 3], 0),
    ]
}

#[test]
fn replay_marks_what_the_vectors_say() {
    let scratch = Scratch::new("replay");
    for (name, blocks, extents, code) in vectors() {
        let device = crashed(&scratch, name, 0x13, &blocks);
        let before = read(&device);
        let output = meta(&device, &["apply-al"]);
        assert_eq!(output.code, code, "{name}: {}", output.stderr);
        if code != 0 {
            assert_eq!(read(&device), before, "{name}");
            continue;
        }
        assert_eq!(marked(&device), extents, "{name}");
        let after = read(&device);
        assert_eq!(after[SUPERBLOCK + 59], 0x93, "{name}");
        assert_eq!(after[SUPERBLOCK + 63], 0x6b, "{name}");
        assert_eq!(
            after[LOG..SUPERBLOCK],
            ring(&[Block::Initialised; 8]),
            "{name}"
        );
        assert_eq!(meta(&device, &["apply-al"]).code, 0);
        assert_eq!(read(&device), after, "{name}: twice is once");
    }
}

#[test]
fn a_secondary_needs_no_log() {
    let scratch = Scratch::new("secondary");
    let device = crashed(&scratch, "a", 0x11, &[Block::Garbage; 8]);
    let output = meta(&device, &["apply-al"]);
    assert_eq!(output.code, 0);
    assert!(output
        .stderr
        .contains("Error ignored, no need to apply the AL"));
    assert_eq!(marked(&device), []);
    assert_eq!(read(&device)[SUPERBLOCK + 59], 0x91);
}

#[test]
fn unclean_metadata_is_not_dumped() {
    let scratch = Scratch::new("unclean");
    let device = crashed(&scratch, "a", 0x13, &[Block::Initialised; 8]);
    let forced = meta(&device, &["dump-md"]);
    assert!(forced.stdout.contains("This_is_an_unclean_meta_data_dump."));
    let dump = scratch.file("dump", forced.stdout.as_bytes());
    assert_eq!(meta(&device, &["verify-dump", &dump]).code, 10);
}

#[test]
fn a_dump_restores_everything() {
    let scratch = Scratch::new("restore");
    let blocks = [
        Block::Update(5, &[(0, 7), (1, 2), (2, 9)]),
        Block::Initialised,
        Block::Initialised,
    ];
    let blocks: Vec<Block> = blocks.into_iter().chain([Block::Initialised; 5]).collect();
    let device = crashed(&scratch, "a", 0x13, &blocks);
    let output = meta(&device, &["apply-al"]);
    assert_eq!(
        output.stderr,
        "Marked additional 12 MB as out-of-sync based on AL.\n"
    );
    let dump = meta(&device, &["dump-md"]).stdout;
    assert!(dump.contains("# bits-set 3072;"));
    let file = scratch.file("dump", dump.as_bytes());
    assert_eq!(
        meta(&device, &["verify-dump", &file]).stdout,
        "input file parsed ok\n"
    );
    let other = scratch.device("b", 64 * MIB);
    let output = meta(&other, &["restore-md", &file]);
    assert_eq!(
        (output.code, &*output.stdout),
        (0, "Successfully restored meta data\n")
    );
    let again = meta(&other, &["dump-md"]).stdout;
    let body = |text: &str| {
        text.lines()
            .skip(3)
            .filter(|l| !l.contains("al-extents"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(body(&again), body(&dump));
    assert_eq!(marked(&other), marked(&device));
}

#[test]
fn metadata_follows_a_device_that_grew() {
    let scratch = Scratch::new("grow");
    let lib = scratch.0.join("lib");
    let lib = lib.to_str().unwrap();
    let blocks = [Block::Update(0, &[(0, 3)]); 1];
    let blocks: Vec<Block> = blocks.into_iter().chain([Block::Initialised; 7]).collect();
    let device = crashed(&scratch, "a", 0x13, &blocks);
    // A minor whose lock nobody else takes.
    let minor = "1048501";
    let with_minor = |words: &[&str]| {
        let mut all = vec![
            "--force",
            "--var-lib-drbd",
            lib,
            minor,
            "v08",
            &device,
            "internal",
        ];
        all.extend(words);
        run(&all)
    };
    if with_minor(&["check-resize"]).code == 20 {
        eprintln!("skipped: locks of minors need the right to write to /run or /var/lock");
        return;
    }
    let remembered = fs::read_to_string(format!("{lib}/drbd-minor-{minor}.lkbd")).unwrap();
    assert_eq!(remembered, format!("67108864\t{device}\n"));
    fs::OpenOptions::new()
        .write(true)
        .open(&device)
        .unwrap()
        .set_len(65 * MIB)
        .unwrap();
    assert_eq!(with_minor(&["get-gi"]).code, 1);
    let output = with_minor(&["apply-al"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output
        .stdout
        .starts_with("Internal drbd meta data successfully moved.\n"));
    assert!(output
        .stderr
        .contains("Marked additional 4096 KB as out-of-sync based on AL."));
    assert_eq!(with_minor(&["get-gi"]).code, 0);
    assert!(with_minor(&["dump-md"])
        .stdout
        .contains("la-size-sect 130992;"));
    let bytes = read(&device);
    assert!(
        bytes[BITMAP..SUPERBLOCK + 4096]
            .iter()
            .all(|byte| *byte == 0),
        "old area erased"
    );
}

#[test]
fn a_dry_run_changes_nothing_and_claims_nothing() {
    let scratch = Scratch::new("dry");
    let lib = scratch.0.join("lib");
    let lib = lib.to_str().unwrap();
    let device = scratch.device("a", 64 * MIB);
    let minor = "1048502";
    let with_minor = |device: &str, words: &[&str]| {
        let mut all = vec!["--force", "--var-lib-drbd", lib, minor, "v08", device];
        all.extend(words);
        run(&all)
    };
    if with_minor(&device, &["internal", "create-md"]).code == 20 {
        eprintln!("skipped: locks of minors need the right to write to /run or /var/lock");
        return;
    }
    let dump = scratch.file("dump", meta(&device, &["dump-md"]).stdout.as_bytes());
    let file = format!("{lib}/drbd-minor-{minor}.lkbd");
    let remembered = fs::read_to_string(&file).unwrap();
    let unchanged = |device: &str, words: &[&str]| {
        let before = read(device);
        let output = with_minor(device, &[&["--dry-run"], words].concat());
        assert_eq!(output.code, 0, "{words:?}: {}", output.stderr);
        let claims = ["success", "zeroed"].map(|word| output.stdout.contains(word));
        assert_eq!(claims, [false; 2], "{words:?}: {}", output.stdout);
        assert!(read(device) == before, "{words:?} wrote");
        let now = fs::read_to_string(&file).ok();
        assert_eq!(now.as_deref(), Some(&*remembered), "{words:?}");
    };
    unchanged(&device, &["internal", "wipe-md"]);
    unchanged(&device, &["internal", "restore-md", &dump]);
    unchanged(&device, &["internal", "write-dev-uuid", "12"]);
    let other = scratch.device("b", 2 * MIB);
    unchanged(&other, &["flex-external", "create-md"]);
    let grown = fs::OpenOptions::new().write(true).open(&device).unwrap();
    grown.set_len(65 * MIB).unwrap();
    unchanged(&device, &["internal", "create-md"]);
    unchanged(&device, &["internal", "check-resize"]);
    unchanged(&device, &["internal", "apply-al"]);
}

#[test]
fn wiping_needs_something_to_wipe() {
    let scratch = Scratch::new("wipe");
    let device = scratch.device("a", 64 * MIB);
    meta(&device, &["create-md"]);
    assert_eq!(
        meta(&device, &["wipe-md"]).stdout,
        "Wiping meta data...\nDRBD meta data block successfully wiped out.\n"
    );
    let again = meta(&device, &["wipe-md"]);
    let wanted = "There appears to be no drbd meta data to wipe out?\n";
    assert_eq!((again.code, &*again.stderr), (0, wanted));
    let dump = meta(&device, &["dump-md"]);
    assert_eq!(
        (dump.code, &*dump.stderr),
        (1, "No valid meta data found\n")
    );
}

#[test]
fn external_placements_have_their_own_positions() {
    let scratch = Scratch::new("external");
    let device = scratch.device("flex", 2 * MIB);
    let external = |device: &str, index: &str, command: &str| {
        run(&["--force", "-", "v08", device, index, command])
    };
    assert_eq!(external(&device, "flex-external", "create-md").code, 0);
    let dump = external(&device, "flex-external", "dump-md").stdout;
    assert!(
        dump.contains("# md_size_sect 4096\n# md_offset 0\n# al_offset 4096\n# bm_offset 36864\n")
    );
    let device = scratch.device("indexed", 300 * MIB);
    assert_eq!(external(&device, "1", "create-md").code, 0);
    let dump = external(&device, "1", "dump-md").stdout;
    assert!(dump.contains(
        "# md_size_sect 262144\n# md_offset 134217728\n# al_offset 134221824\n\
         # bm_offset 134254592\n"
    ));
    // The slot would reach beyond the end.
    assert_eq!(external(&device, "2", "create-md").code, 10);
}

/// The bits of what does not fit would be lost for good: the log is empty afterwards.
#[test]
fn a_log_is_not_applied_to_a_bitmap_that_is_cut_off() {
    let scratch = Scratch::new("cut");
    let device = scratch.device("flex", MIB);
    let external = |command: &str| run(&["--force", "-", "v08", &device, "flex-external", command]);
    assert_eq!(external("create-md").code, 0);
    let mut bytes = read(&device);
    // 16 GiB: a bitmap of 512 KiB.
    bytes[..8].copy_from_slice(&(32u64 << 20).to_be_bytes());
    bytes[59] = 0x13;
    bytes[63] = 0x6c;
    let mut blocks = [Block::Initialised; 8];
    blocks[0] = Block::Update(0, &[(0, 1), (1, 4095)]);
    bytes[4096..36_864].copy_from_slice(&ring(&blocks));
    let whole = bytes.clone();
    bytes.truncate(256 * 1024);
    fs::write(&device, &bytes).unwrap();
    let output = external("apply-al");
    assert_eq!(output.code, 10);
    assert!(output.stderr.contains("meta data offsets don't make sense"));
    assert_eq!(read(&device), bytes, "nothing is written");
    fs::write(&device, whole).unwrap();
    let output = external("apply-al");
    assert_eq!(
        output.stderr,
        "Marked additional 8192 KB as out-of-sync based on AL.\n"
    );
}

#[test]
fn metadata_of_another_version_is_named() {
    let scratch = Scratch::new("version");
    let device = scratch.device("a", 64 * MIB);
    meta(&device, &["create-md"]);
    let mut bytes = read(&device);
    for (magic, version) in [(0x6a, "v07"), (0x6d, "v09")] {
        bytes[SUPERBLOCK + 63] = magic;
        fs::write(&device, &bytes).unwrap();
        for command in ["apply-al", "dstate", "dump-md"] {
            let output = meta(&device, &[command]);
            let text = format!(
                "Found {version} meta data, only v08 is supported.\nNo valid meta data found\n"
            );
            assert_eq!((output.code, output.stderr), (1, text), "{command}");
        }
    }
}

#[test]
fn metadata_of_another_version_is_not_overwritten_unasked() {
    let scratch = Scratch::new("unasked");
    let device = scratch.device("a", 64 * MIB);
    meta(&device, &["create-md"]);
    let dump = scratch.file("dump", meta(&device, &["dump-md"]).stdout.as_bytes());
    let mut bytes = read(&device);
    bytes[SUPERBLOCK + 63] = 0x6d;
    fs::write(&device, &bytes).unwrap();
    let output = meta(&device, &["restore-md", &dump]);
    assert_eq!(output.code, 0);
    assert!(output
        .stderr
        .contains("\nValid meta-data in place, overwrite?\n"));
}

/// `No valid meta data found` alone sounds like a new disk.
#[test]
fn what_is_wrong_with_damaged_metadata_is_said() {
    let scratch = Scratch::new("damaged");
    let device = scratch.device("a", 64 * MIB);
    meta(&device, &["create-md"]);
    let good = read(&device);
    for (at, byte, line) in [
        (82, 2, "unexpected bm_bytes_per_bit: 512 (expected 4096)"),
        (
            91,
            0,
            "invalid activity log striping: al_stripes=0, al_stripe_size_4k=8",
        ),
        (71, 0xc8, "v08 al_offset: expected -64, found -56"),
    ] {
        let mut bytes = good.clone();
        bytes[SUPERBLOCK + at] = byte;
        fs::write(&device, &bytes).unwrap();
        let output = meta(&device, &["dump-md"]);
        let text = format!("{line}\nNo valid meta data found\n");
        assert_eq!((output.code, output.stderr), (1, text));
    }
}
