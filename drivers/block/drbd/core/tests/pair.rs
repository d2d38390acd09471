//! Two resources back to back, with everything between attach and down.
//!
//! The shell of `pair/node.rs` is the simplest one possible: it does what it is told, at once. What
//! is shown here is that the decisions of the two planes and of the two nodes fit together.

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::NetConfig;
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::time::{Duration, Instant};
use drbd_format::types::{ConnState, DiskState, Role};
use pair::both::{shape, Pair, SECTORS};
use pair::node::V;

/// Attach, connect, promote by force, first sync, write.
fn first_half() -> Pair {
    let mut pair = Pair::new();
    pair.attach();
    assert_eq!(pair.a.answers.last().unwrap().1, 101, "{:#?}", pair.a.log);
    assert_eq!(
        shape(&mut pair.a),
        "cs:StandAlone ro:Secondary/Unknown ds:Inconsistent/DUnknown r-----"
    );
    assert_eq!(pair.a.capacity, SECTORS);

    pair.connect(NetConfig::DEFAULT);
    let both = "cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent r-----";
    assert_eq!(shape(&mut pair.a), both, "{:#?}", pair.a.log);
    assert_eq!(shape(&mut pair.b), both, "{:#?}", pair.b.log);

    assert_eq!(pair.role(true, Role::Primary, false), -2);
    assert_eq!(pair.role(true, Role::Primary, true), 1);
    pair.until("first sync", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    assert_eq!(pair.b.disk.data[0], 0x11);
    assert!(!pair.a.read_only);
    assert_eq!(
        shape(&mut pair.a),
        "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r-----"
    );
    assert_eq!(
        shape(&mut pair.b),
        "cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate r-----"
    );

    pair.a.write(64, 8192, 0x33);
    pair.run();
    assert_eq!(pair.a.ended, [Ok(())]);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    pair
}

#[test]
fn the_lab_runs_from_fresh_disks_to_down() {
    let mut pair = first_half();
    assert_eq!(
        pair.role(false, Role::Primary, false),
        -1,
        "a is still primary"
    );
    assert_eq!(pair.role(true, Role::Secondary, false), 1);
    assert!(pair.a.read_only);
    assert_eq!(pair.role(false, Role::Primary, false), 1);
    assert_eq!(
        shape(&mut pair.a),
        "cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate r-----"
    );
    pair.b.write(128, 4096, 0x44);
    pair.run();
    // The barrier goes when no other write comes along.
    pair.pass(Duration::from_millis(10));
    assert_eq!(pair.a.disk.data, pair.b.disk.data);

    assert_eq!(
        pair.command(true, AdminRequest::Disconnect { force: false }),
        101
    );
    assert_eq!(pair.a.state().conn, ConnState::StandAlone);
    assert_eq!(
        pair.b.state().conn,
        ConnState::WfConnection,
        "{:#?}",
        pair.b.log
    );
    pair.b.write(8000, 4096, 0x55);
    pair.run();
    assert_ne!(pair.a.disk.data, pair.b.disk.data);

    let digests = DigestLengths::default();
    let config = NetConfig::DEFAULT;
    assert_eq!(
        pair.command(true, AdminRequest::Connect { config, digests }),
        1
    );
    pair.until("resync after reconnect", Pair::in_sync);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
    let moved = pair.b.core.counters(V).sent_sectors;
    assert_eq!(moved, 8, "one block and not the whole device");
    take_down(&mut pair);
}

fn take_down(pair: &mut Pair) {
    assert_eq!(pair.role(false, Role::Secondary, false), 1);
    for on_a in [true, false] {
        let disconnect = AdminRequest::Disconnect { force: false };
        assert_eq!(pair.command(on_a, disconnect), 101);
        let detach = AdminRequest::Detach {
            volume: V,
            force: false,
        };
        assert_eq!(pair.command(on_a, detach), 1);
        assert_eq!(pair.node(on_a).state().disk, DiskState::Diskless);
        assert_eq!(
            pair.command(on_a, AdminRequest::DelVolume { volume: V }),
            101
        );
    }
}

#[test]
fn a_synced_pair_stays_connected_while_nothing_happens() {
    let mut pair = Pair::synced();
    for _ in 0..100 {
        pair.pass(Duration::from_secs(1));
        assert!(pair.in_sync(), "{:#?}", pair.a.log);
    }
    assert!(pair.a.now > Instant(100_000_000_000));
}
