//! Volumes that are taken away and made anew while the nodes are connected.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::DiskConfig;
use drbd_core::input::AdminRequest;
use drbd_core::link::VolumeNumber;
use drbd_core::time::Duration;
use pair::both::{said, Pair};
use pair::node::V;

const DETACH: AdminRequest = AdminRequest::Detach {
    volume: V,
    force: false,
};
const DEL: AdminRequest = AdminRequest::DelVolume { volume: V };
const NEW: AdminRequest = AdminRequest::NewVolume {
    volume: V,
    number: VolumeNumber(0),
};

/// Lets both nodes work. What `a` says takes its time.
fn hold_answers(pair: &mut Pair, held: &mut Vec<u8>) {
    for _ in 0..40 {
        pair.round();
        held.extend(pair.b.data_in.drain(..));
    }
}

/// The node that has the volume already does not tell its generations: the handshake is about a
/// volume without a disk. The old data counted as good.
#[test]
fn a_disk_that_is_attached_before_its_new_volume_is_connected_is_compared() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(false, DETACH), 1);
    assert_eq!(pair.command(false, DEL), 101);
    pair.a.write(80, 4096, 0x71);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    let mut held = Vec::new();
    pair.b.admin(NEW);
    hold_answers(&mut pair, &mut held);
    pair.b.attach(DiskConfig::DEFAULT);
    hold_answers(&mut pair, &mut held);
    assert_eq!(pair.b.answers.last().unwrap().1, 101);
    pair.b.data_in.extend(held);
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.disk.data == pair.b.disk.data);
    let text = "has not been compared with ours";
    assert!(said(&pair.b.log, text), "{:#?}", pair.b.log);
    pair.pass(Duration::from_secs(2));
    assert!(pair.in_sync());
}
