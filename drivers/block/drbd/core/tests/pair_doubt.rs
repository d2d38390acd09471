//! A disk goes and comes back while it is not known what it is worth: what is on one disk only must
//! not be of the generation of both.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{DiskConfig, NetConfig, ResourceConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::link::VolumeIndex;
use drbd_core::request::Op;
use drbd_format::types::{ConnState, DiskState, Fencing, OnNoData};
use pair::both::{said, Pair, SECTORS};
use pair::node::V;

/// The second volume.
const W: VolumeIndex = VolumeIndex(1);
/// Block that is written, and its first sector.
const BLOCK: usize = 100;
const SECTOR: u64 = 800;

/// A disk that is attached alone is Consistent only.
const DOUBTFUL: DiskConfig = DiskConfig {
    fencing: Fencing::ResourceOnly,
    ..DiskConfig::DEFAULT
};

fn detach(pair: &mut Pair, on_a: bool, force: bool) {
    let volume = V;
    let request = AdminRequest::Detach { volume, force };
    assert_eq!(pair.command(on_a, request), 1);
    pair.run();
}

fn notice_cut(pair: &mut Pair) {
    pair.until("a notices", |pair| {
        pair.a.state().conn < ConnState::Connected
    });
}

/// `a` attaches its disk, whose activity log names the block.
fn attach(pair: &mut Pair) {
    attach_volume(pair, V);
}

fn attach_volume(pair: &mut Pair, volume: VolumeIndex) {
    let page = pair.a.volume(volume).disk.bitmap.entry(0);
    page.or_insert_with(|| vec![0; 4096])[BLOCK / 8] |= 1 << (BLOCK % 8);
    pair.a.attach_volume(volume, DOUBTFUL);
    pair.run();
}

fn assert_equal(pair: &mut Pair) {
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    assert_eq!(pair.a.core.counters(V).out_of_sync_bits, 0);
}

/// The disk that was away has it. When I/O is frozen once more nothing of that goes to the disk.
#[test]
fn a_frozen_write_that_is_given_up_while_the_disk_is_away_is_synced() {
    let mut pair = Pair::synced();
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(true, request), 101);
    pair.cut = true;
    pair.a.write(SECTOR, 4096, 9);
    pair.run();
    detach(&mut pair, true, true);
    notice_cut(&mut pair);
    assert!(pair.a.state().susp_nod && pair.a.ended.is_empty());
    pair.command(true, AdminRequest::ResumeIo { volume: V });
    pair.run();
    assert!(pair.a.ended[0].is_err());
    pair.cut = false;
    while pair.a.state().pdsk != DiskState::UpToDate {
        pair.round_or_time();
    }
    // `b` has not heard that its data are taken.
    pair.break_now();
    pair.cut = true;
    pair.run();
    assert!(pair.a.state().susp_nod);
    attach(&mut pair);
    assert_eq!(pair.a.state().disk, DiskState::Consistent);
    pair.cut = false;
    assert_equal(&mut pair);
}

/// The peer has begun a generation when the disk went, and was fenced and lost its own disk before
/// it could tell. Whoever writes alone now must not count as the older one.
#[test]
fn a_disk_in_doubt_that_turns_out_to_be_the_only_one_begins_a_generation() {
    let mut pair = Pair::synced();
    pair.a.exits.insert("fence-peer", 4);
    pair.b.sends_left = Some(0);
    detach(&mut pair, true, true);
    attach(&mut pair);
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    pair.break_now();
    pair.cut = true;
    pair.run();
    let state = pair.a.state();
    assert_eq!(state.disk, DiskState::Consistent);
    assert_eq!(state.pdsk, DiskState::Outdated);
    pair.b.sends_left = None;
    detach(&mut pair, false, false);
    pair.cut = false;
    pair.until("connected", |pair| {
        pair.a.state().conn == ConnState::Connected
    });
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
    pair.a.write(SECTOR, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.disk.data[BLOCK * 4096], 9);
    assert!(said(&pair.a.log, "Split-Brain detected"));
}

/// The peer's disk goes before it has told its UUIDs, and there is nothing to compare: the crash is
/// not overcome by that.
#[test]
fn a_disk_that_goes_before_it_can_be_compared_does_not_count_as_equal() {
    let mut pair = Pair::synced();
    pair.cut = true;
    pair.a.write(SECTOR, 4096, 9);
    pair.run();
    pair.a.crash(77);
    pair.cut = false;
    attach(&mut pair);
    assert_eq!(pair.a.state().disk, DiskState::Consistent);
    let (config, digests) = (NetConfig::DEFAULT, DigestLengths::default());
    pair.a.admin(AdminRequest::Connect { config, digests });
    while pair.b.state().conn != ConnState::WfReportParams {
        pair.round_or_time();
    }
    detach(&mut pair, false, true);
    assert_eq!(pair.a.state().pdsk, DiskState::Diskless);
    pair.b.attach(DiskConfig::DEFAULT);
    assert_equal(&mut pair);
}

/// Two volumes in sync, `a` primary.
fn two_volumes() -> Pair {
    let mut pair = Pair::with_volumes(2, SECTORS);
    for volume in [V, W] {
        pair.a.attach_volume(volume, DiskConfig::DEFAULT);
        pair.b.attach_volume(volume, DiskConfig::DEFAULT);
        pair.run();
    }
    pair.connect(NetConfig::DEFAULT);
    for volume in [V, W] {
        pair.promote(volume);
    }
    pair.until("first sync", Pair::in_sync);
    pair
}

/// The peer has its disk back before the Primary hears that it was away. What is suspended is not
/// all that the peer lacks, although the barrier has been acknowledged.
#[test]
fn a_write_that_the_peer_has_refused_is_synced_although_io_was_suspended_since() {
    let mut pair = two_volumes();
    pair.b.sends_left = Some(0);
    detach(&mut pair, false, true);
    pair.a.write(SECTOR, 4096, 9);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    // Closes the epoch of the write.
    assert!(pair.a.request_on(W, Op::Write, SECTOR, 4096, 9));
    pair.run();
    let volume = V;
    assert_eq!(pair.command(true, AdminRequest::SuspendIo { volume }), 1);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.run();
    pair.break_now();
    pair.b.sends_left = None;
    pair.until("connected", |pair| {
        pair.a.state().conn >= ConnState::Connected
    });
    assert_eq!(pair.command(true, AdminRequest::ResumeIo { volume }), 1);
    assert_equal(&mut pair);
}

/// One volume can not thaw, and what is frozen of the other one is given up with it.
#[test]
fn a_write_that_is_given_up_for_another_volume_is_synced() {
    let mut pair = two_volumes();
    let on_no_data = OnNoData::SuspendIo;
    let config = ResourceConfig { on_no_data };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(true, request), 101);
    let config = DiskConfig {
        fencing: Fencing::ResourceAndStonith,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    pair.cut = true;
    pair.a.volume(W).fail_local = true;
    assert!(pair.a.request_on(W, Op::Write, SECTOR, 4096, 9));
    pair.until("both notice", |pair| {
        pair.a.state().susp_fen && pair.b.state().conn < ConnState::Connected
    });
    assert!(pair.a.state().susp_nod && pair.a.volume(W).ended.is_empty());
    pair.a.volume(W).fail_local = false;
    pair.a.attach_volume(W, DOUBTFUL);
    detach(&mut pair, false, true);
    pair.b.attach(DOUBTFUL);
    pair.run();
    assert_eq!(pair.a.state_of(W).disk, DiskState::Consistent);
    assert_eq!(pair.b.state().disk, DiskState::Consistent);
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert!(said(&pair.a.log, "can not thaw"));
    assert!(pair.a.volume(W).disk.data == pair.b.volume(W).disk.data);
}

/// The first volume sends its bitmap before the second one has been compared, and what is frozen is
/// given up only then. What a peer that has lost its power had in its cache is not on its disk.
#[test]
fn a_write_kept_over_a_lost_connection_is_in_the_bitmap_that_goes_before_it_is_given_up() {
    let mut pair = two_volumes();
    let volume = V;
    for (on_a, volume) in [(true, V), (true, W), (false, V), (false, W)] {
        let config = DiskConfig {
            fencing: Fencing::ResourceAndStonith,
            ..DiskConfig::DEFAULT
        };
        let request = AdminRequest::DiskOptions { volume, config };
        assert_eq!(pair.command(on_a, request), 101);
    }
    assert_eq!(
        pair.command(false, AdminRequest::Disconnect { force: false }),
        101
    );
    pair.command(true, AdminRequest::ResumeIo { volume });
    pair.a.write(80, 4096, 8);
    pair.run();
    assert_eq!(pair.command(true, AdminRequest::PauseSync { volume }), 101);
    let (config, digests) = (NetConfig::DEFAULT, DigestLengths::default());
    pair.b.admin(AdminRequest::Connect { config, digests });
    pair.until("paused", |pair| {
        pair.a.state().conn == ConnState::PausedSyncS
    });
    let before = pair.b.disk.data[BLOCK * 4096];
    pair.a.write(SECTOR, 4096, 9);
    while pair.round() {}
    assert_eq!(pair.a.ended, [Ok(()); 2]);
    pair.cut = true;
    pair.until("both notice", |pair| {
        pair.a.state().susp_fen && pair.b.state().conn < ConnState::Connected
    });
    assert!(!pair.a.core.bit_is_set(V, BLOCK as u64));
    pair.b.disk.data[BLOCK * 4096..][..4096].fill(before);
    pair.cut = false;
    while pair.a.state().conn != ConnState::WfBitMapS {
        pair.b.sends_left = Some(1);
        pair.round_or_time();
    }
    pair.b.sends_left = Some(0);
    pair.run();
    assert_eq!(pair.a.state_of(W).conn, ConnState::WfReportParams);
    pair.b.sends_left = None;
    pair.run();
    assert_eq!(pair.command(true, AdminRequest::ResumeSync { volume }), 101);
    assert_equal(&mut pair);
}

/// `b` begins a generation for the diskless Primary, and its disk goes before that is on it. `a`
/// goes on with its own disk, which `b` was about to sync, and has to say so.
fn left_without_opinion() -> Pair {
    let mut pair = Pair::synced();
    pair.b.hold_metadata = true;
    let before = pair.b.disk.superblock.clone();
    detach(&mut pair, true, false);
    pair.a.attach(DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::Negotiating);
    assert_eq!(pair.b.state().conn, ConnState::WfBitMapS);
    let (volume, force) = (V, true);
    pair.b.admin(AdminRequest::Detach { volume, force });
    // What the disk had not finished never gets on it.
    pair.b.disk.superblock = before;
    pair
}

/// Run 215378 of pairs with two volumes.
#[test]
fn a_node_that_has_lost_its_disk_hears_that_the_peer_goes_on_with_the_one_in_doubt() {
    let mut pair = left_without_opinion();
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
    assert_eq!(pair.b.state().pdsk, DiskState::UpToDate);
    pair.a.write(SECTOR, 4096, 9);
    pair.b.release_metadata();
    pair.b.attach(DiskConfig::DEFAULT);
    assert_equal(&mut pair);
}

/// The C driver does not say so.
#[test]
fn a_disk_is_attached_beside_one_in_doubt_with_which_the_peer_goes_on() {
    const HEADER: usize = 16;
    const STATE: [u8; 2] = [0, 0x0e];
    let mut pair = left_without_opinion();
    for _ in 0..20 {
        pair.b.step();
        pair.a.data_in.append(&mut pair.b.data_out);
        pair.a.meta_in.append(&mut pair.b.meta_out);
        pair.a.step();
        let mut out = pair.a.data_out.split_off(0);
        while out.len() >= HEADER {
            let packet: Vec<u8> = out.drain(..HEADER + usize::from(out[11])).collect();
            if packet[6..8] != STATE {
                pair.b.data_in.extend(packet);
            }
        }
    }
    pair.run();
    assert_eq!(pair.a.state().disk, DiskState::UpToDate);
    assert_eq!(pair.b.state().pdsk, DiskState::Consistent);
    pair.b.release_metadata();
    pair.b.attach(DiskConfig::DEFAULT);
    assert_equal(&mut pair);
}

/// The first volume waits for the peer to be fenced, the second one has no data.
fn frozen_for_two_reasons() -> Pair {
    let mut pair = two_volumes();
    let on_no_data = OnNoData::SuspendIo;
    let config = ResourceConfig { on_no_data };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(true, request), 101);
    let config = DiskConfig {
        fencing: Fencing::ResourceAndStonith,
        ..DiskConfig::DEFAULT
    };
    pair.set_disk_options(true, config);
    pair.a.hold_helpers = true;
    pair.a.exits.insert("fence-peer", 4);
    pair
}

/// The disk of the second volume is back, and in doubt, when the peer has been fenced.
fn fence_beside_doubt(pair: &mut Pair) {
    both_notice(pair);
    assert!(pair.a.state().susp_nod);
    attach_volume(pair, W);
    assert_eq!(pair.a.state_of(W).disk, DiskState::Consistent);
    fence(pair);
}

fn both_notice(pair: &mut Pair) {
    pair.until("both notice", |pair| {
        pair.a.state().susp_fen && pair.b.state().conn < ConnState::Connected
    });
}

/// The peer has been fenced; the second volume has no data still.
fn fence(pair: &mut Pair) {
    pair.a.hold_helpers = false;
    pair.a.end_helper();
    pair.run();
    assert!(!pair.a.state().susp_fen && pair.a.state().susp_nod);
}

/// Applications are done with a write, and then the peer is out of reach. Returns with what the
/// block was filled before.
fn ends_before_the_cut(pair: &mut Pair) -> u8 {
    let before = pair.b.volume(W).disk.data[BLOCK * 4096];
    assert!(pair.a.request_on(W, Op::Write, SECTOR, 4096, 9));
    while pair.round() {}
    assert_eq!(pair.a.volume(W).ended, [Ok(())]);
    pair.cut = true;
    before
}

/// Applications are done with a write whose barrier nobody has acknowledged, the peer is gone and
/// so is the own disk. Returns with what the block was filled before.
fn kept_without_a_disk() -> (Pair, u8) {
    let mut pair = frozen_for_two_reasons();
    let before = ends_before_the_cut(&mut pair);
    let (volume, force) = (W, true);
    pair.a.admin(AdminRequest::Detach { volume, force });
    (pair, before)
}

#[test]
fn a_write_that_is_given_up_as_another_volume_is_fenced_is_synced() {
    let mut pair = frozen_for_two_reasons();
    pair.cut = true;
    pair.a.volume(W).fail_local = true;
    assert!(pair.a.request_on(W, Op::Write, SECTOR, 4096, 9));
    pair.until("frozen", |pair| pair.a.state().susp_nod);
    pair.a.volume(W).fail_local = false;
    fence_beside_doubt(&mut pair);
    assert!(pair.a.volume(W).ended.is_empty());
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert_eq!(pair.a.volume(W).ended, [Ok(())]);
    assert!(pair.a.volume(W).disk.data == pair.b.volume(W).disk.data);
}

/// The application is done with it, and the peer loses what its disk has in its cache.
#[test]
fn a_write_that_was_kept_while_another_volume_was_fenced_is_synced() {
    let (mut pair, before) = kept_without_a_disk();
    pair.run();
    fence_beside_doubt(&mut pair);
    pair.b.volume(W).disk.data[BLOCK * 4096..][..4096].fill(before);
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.volume(W).disk.data == pair.b.volume(W).disk.data);
}

/// As above, but the disk comes back when nothing is kept any more.
#[test]
fn a_write_that_was_kept_until_another_volume_was_fenced_is_synced() {
    let (mut pair, before) = kept_without_a_disk();
    both_notice(&mut pair);
    fence(&mut pair);
    attach_volume(&mut pair, W);
    assert_eq!(pair.a.state_of(W).disk, DiskState::Consistent);
    pair.b.volume(W).disk.data[BLOCK * 4096..][..4096].fill(before);
    pair.cut = false;
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.volume(W).disk.data == pair.b.volume(W).disk.data);
}

/// The application is done with it, the disk goes, and the peer loses its power.
#[test]
fn a_write_without_a_barrier_ack_is_synced_although_the_disk_was_away() {
    let mut pair = Pair::synced();
    let config = ResourceConfig {
        on_no_data: OnNoData::SuspendIo,
    };
    let request = AdminRequest::ResourceOptions { config };
    assert_eq!(pair.command(true, request), 101);
    let before = pair.b.disk.data[BLOCK * 4096];
    pair.a.write(SECTOR, 4096, 9);
    while pair.round() {}
    assert_eq!(pair.a.ended, [Ok(())]);
    pair.cut = true;
    detach(&mut pair, true, true);
    notice_cut(&mut pair);
    assert!(pair.a.state().susp_nod);
    attach(&mut pair);
    assert_eq!(pair.a.state().disk, DiskState::Consistent);
    pair.b.disk.data[BLOCK * 4096..][..4096].fill(before);
    pair.cut = false;
    assert_equal(&mut pair);
}

/// Only the first volume has to be fenced. The disk of the second one does not tell that the peer
/// has lost its power.
#[test]
fn a_write_without_a_barrier_ack_is_synced_although_another_volume_is_frozen() {
    let mut pair = frozen_for_two_reasons();
    // Nobody fences the peer.
    pair.a.hold_helpers = false;
    pair.a.exits.clear();
    let before = ends_before_the_cut(&mut pair);
    pair.until("a notices", |pair| pair.a.state().susp_fen);
    pair.b.crash(77);
    pair.b.volume(W).disk.data[BLOCK * 4096..][..4096].fill(before);
    pair.run();
    pair.b.attach_volume(W, DiskConfig::DEFAULT);
    pair.run();
    let (config, digests) = (NetConfig::DEFAULT, DigestLengths::default());
    pair.b.admin(AdminRequest::Connect { config, digests });
    pair.cut = false;
    pair.until("thawed", |pair| !pair.a.state().susp_fen);
    pair.b.attach(DiskConfig::DEFAULT);
    pair.until("equal", Pair::in_sync);
    assert!(pair.a.volume(W).disk.data == pair.b.volume(W).disk.data);
}

/// Run 520386 of pairs with two volumes. The peer has begun a generation for the diskless Primary,
/// which does not hear of that. What the helper says of the node need not be true of each disk.
#[test]
fn a_disk_that_is_attached_beside_one_called_inconsistent_begins_a_generation() {
    let mut pair = two_volumes();
    let (volume, config) = (V, DOUBTFUL);
    let request = AdminRequest::DiskOptions { volume, config };
    assert_eq!(pair.command(true, request), 101);
    pair.a.exits.insert("fence-peer", 3);
    pair.b.sends_left = Some(0);
    let (volume, force) = (W, true);
    assert_eq!(
        pair.command(true, AdminRequest::Detach { volume, force }),
        1
    );
    pair.run();
    pair.break_now();
    pair.cut = true;
    pair.run();
    pair.b.sends_left = None;
    assert_eq!(pair.a.state_of(W).pdsk, DiskState::Inconsistent);
    pair.a.attach_volume(W, DiskConfig::DEFAULT);
    pair.run();
    assert_eq!(pair.a.state_of(W).disk, DiskState::UpToDate);
    assert!(pair.a.request_on(W, Op::Write, SECTOR, 4096, 9));
    pair.run();
    assert_eq!(pair.a.volume(W).ended, [Ok(())]);
    pair.cut = false;
    pair.until("refused", |pair| {
        pair.a.state().conn == ConnState::StandAlone || pair.b.state().conn == ConnState::StandAlone
    });
    assert!(said(&pair.a.log, "Split-Brain detected"));
}
