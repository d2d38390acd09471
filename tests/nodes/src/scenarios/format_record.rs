//! Records what two nodes write to the wire and to the disk, for the golden tests of the formats.
//!
//! Meant for the C driver (`pair=c tools=utils`); with ours it shows the same traffic side by side.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context, Result};

use super::Scenario;
use crate::bed::Bed;
use crate::node::Node;
use crate::pair::{usable_kib, Pair, Plan};
use crate::provision::resource;
use crate::streams::tcp_streams;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "format_record",
    shows: "records packets, superblocks, activity log and bitmap into the scenario's folder",
    run,
};

const DISK_KIB: u64 = 4 * 1024;

/// Every optional part of the protocol that adds bytes of its own.
const RICH_NET: &str = "net { protocol B; cram-hmac-alg sha256; shared-secret geheim; \
     verify-alg sha1; csums-alg md5; data-integrity-alg crc32c; }\n\
     disk { c-plan-ahead 0; resync-rate 50M; }\n";

fn run(bed: &Bed) -> Result<()> {
    record(bed, "plain", "")?;
    record(bed, "rich", RICH_NET)
}

fn record(bed: &Bed, kind: &str, sections: &str) -> Result<()> {
    let plan = Plan {
        disk_kib: [DISK_KIB; 2],
        resource: resource("resftp", sections, &[]),
        snap: 1 << 16,
        ..Plan::default()
    };
    let mut pair = Pair::boot(bed, &format!("format_record_{kind}"), &plan)?;
    pair.run_both("modprobe drbd && drbdadm create-md resftp && drbdadm up resftp")?;
    pair.run_both("drbdadm wait-connect resftp")?;
    save_metadata(&pair.m, "created")?;
    without_first_sync(&pair.m)?;
    pair.s.wait_proc(&["ds:UpToDate/UpToDate"], 10)?;
    pair.m.run("drbdadm primary resftp")?.ok()?;
    traffic(&pair.m)?;
    pair.run_both("drbdadm disconnect resftp")?;
    pair.m.wait_proc(&["cs:StandAlone"], 10)?;
    // Two runs of bits for the bitmap exchange, one of them across a bitmap word.
    write(&pair.m, 200, 3)?;
    write(&pair.m, 510, 4)?;
    save_metadata(&pair.m, "diverged")?;
    pair.run_both("drbdadm connect resftp")?;
    for node in pair.both() {
        node.wait_proc(&["cs:Connected", "ds:UpToDate/UpToDate", "oos:0"], 30)?;
    }
    if kind == "rich" {
        pair.m.run("drbdadm verify resftp")?.ok()?;
        pair.m.wait_proc(&["cs:Connected"], 60)?;
    }
    pair.m
        .run("drbdadm secondary resftp && drbdadm primary resftp")?
        .ok()?;
    write(&pair.m, 8, 1)?;
    pair.m.power_off();
    save_metadata(&pair.m, "crashed")?;
    pair.s
        .run_within("drbdadm down resftp", Duration::from_secs(60))?
        .ok()?;
    save_metadata(&pair.s, "clean")?;
    let Pair { dir, net, .. } = &pair;
    let capture = dir.join("net.pcap");
    net.finish_capture();
    save_streams(&capture, dir)?;
    pair.finish()
}

/// Both nodes agree that their equal garbage is the data.
fn without_first_sync(node: &Node) -> Result<()> {
    node.run("drbdsetup new-current-uuid 0 --clear-bitmap")?
        .ok()?;
    Ok(())
}

fn write(node: &Node, block: u64, count: u64) -> Result<()> {
    node.run(&format!(
        "yes block-{block} | dd of=/dev/drbd0 bs=4k seek={block} count={count} iflag=fullblock \
         oflag=direct conv=fsync"
    ))?
    .ok()?;
    Ok(())
}

/// Writes of one sector, one block, many blocks, a flush, a discard, zeroes, a read.
fn traffic(node: &Node) -> Result<()> {
    node.run("yes sector | dd of=/dev/drbd0 bs=512 seek=7 count=1 iflag=fullblock oflag=direct")?
        .ok()?;
    write(node, 16, 1)?;
    write(node, 32, 9)?;
    node.run("blkdiscard -o 1M -l 64K /dev/drbd0; blkdiscard -z -o 2M -l 64K /dev/drbd0")?;
    node.run("dd if=/dev/drbd0 of=/dev/null bs=4k count=1 iflag=direct")?
        .ok()?;
    Ok(())
}

/// Copies superblock, activity log and bitmap from the disk's file.
fn save_metadata(node: &Node, when: &str) -> Result<()> {
    let mut disk = File::open(node.disk_file(0)).context("open the disk")?;
    let superblock = DISK_KIB * 1024 - 4096;
    let log = superblock - 32 * 1024;
    let bitmap = usable_kib(DISK_KIB) * 1024;
    for (part, from, to) in [
        ("superblock", superblock, superblock + 4096),
        ("al", log, superblock),
        ("bitmap", bitmap, log),
    ] {
        let mut bytes = vec![0; usize::try_from(to - from)?];
        disk.seek(SeekFrom::Start(from))?;
        disk.read_exact(&mut bytes).context("read the metadata")?;
        let name = format!("{part}-{when}.bin");
        let dir = node.spec.dir.parent().context("the scenario's folder")?;
        fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

/// One file per direction of each TCP connection, numbered in the order of their beginning.
fn save_streams(capture: &Path, dir: &Path) -> Result<()> {
    let streams = tcp_streams(capture)?;
    ensure!(!streams.is_empty(), "nothing was captured");
    for (number, (flow, bytes)) in streams.iter().enumerate() {
        if bytes.is_empty() {
            continue;
        }
        let side = |address: u32| if address & 0xff == 212 { 'm' } else { 's' };
        let (from, to) = (side(flow.from.0), side(flow.to.0));
        fs::write(dir.join(format!("stream{number:02}-{from}{to}.bin")), bytes)?;
    }
    Ok(())
}
