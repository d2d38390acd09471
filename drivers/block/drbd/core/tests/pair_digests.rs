//! Algorithms of digests that change while the nodes are connected (`reference/wire.md` 4.3, 4.4).

mod pair {
    pub(crate) mod both;
    pub(crate) mod node;
}

use drbd_core::config::{Name, NetConfig};
use drbd_core::input::{AdminRequest, DigestLengths};
use drbd_core::request::Op;
use drbd_format::types::ConnState;
use pair::both::{said, Pair};
use pair::node::{digest_len, V};

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// net-options with these algorithms for data, verify and checksums.
fn choose(integrity: &str, verify: &str, csums: &str) -> AdminRequest {
    let config = NetConfig {
        integrity_alg: name(integrity),
        verify_alg: name(verify),
        csums_alg: name(csums),
        ..NetConfig::DEFAULT
    };
    let len = |text| digest_len(&name(text)).unwrap_or(0);
    let digests = DigestLengths {
        hmac: 0,
        integrity: len(integrity),
        verify: len(verify),
        csums: len(csums),
    };
    AdminRequest::NetOptions { config, digests }
}

fn assert_connected(pair: &mut Pair) {
    assert!(pair.in_sync(), "a {} b {}", pair.a.state(), pair.b.state());
    for (log, end) in [&pair.a.log, &pair.b.log].into_iter().zip(["a", "b"]) {
        for lost in ["ProtocolError", "NetworkFailure", "BrokenPipe", "TearDown"] {
            assert!(!said(log, &format!("-> {lost}")), "{end}: {log:#?}");
        }
    }
}

/// Data that were queued before the packet that tells the peer, and data behind it. The peer goes
/// on with its own algorithm.
#[test]
fn another_integrity_algorithm_counts_behind_the_packet_that_tells_it() {
    let mut pair = Pair::synced();
    let mut sector = 0;
    for (on_a, alg) in [
        (true, "sha1"),
        (true, "md5"),
        (false, "crc32c"),
        (true, "crc32c"),
        (true, ""),
        (false, "sha1"),
        (false, ""),
    ] {
        pair.a.sends_left = Some(0);
        pair.b.sends_left = Some(0);
        assert!(pair.a.request(Op::Write, sector, 4096, 0x31));
        while pair.round() {}
        pair.node(on_a).admin(choose(alg, "", ""));
        while pair.round() {}
        assert!(pair.a.request(Op::Write, sector + 80, 4096, 0x32));
        while pair.round() {}
        pair.a.sends_left = None;
        pair.b.sends_left = None;
        pair.run();
        assert!(pair.a.request(Op::Write, sector + 160, 4096, 0x33));
        pair.run();
        assert_connected(&mut pair);
        assert_eq!(pair.a.disk.data, pair.b.disk.data);
        sector += 240;
    }
}

/// Two changes may be under way at once: each packet says what is configured when it is sent.
#[test]
fn an_algorithm_may_be_changed_twice_before_the_peer_hears_of_it() {
    let mut pair = Pair::synced();
    pair.a.sends_left = Some(0);
    for (number, alg) in ["sha1", "", "md5"].into_iter().enumerate() {
        let sector = 80 * number as u64;
        assert!(pair.a.request(Op::Write, sector, 4096, 0x41));
        pair.a.admin(choose(alg, "", ""));
        while pair.round() {}
    }
    pair.a.sends_left = None;
    pair.run();
    assert_connected(&mut pair);
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

/// What the peer has chosen holds for one connection: the next one begins with what both have.
#[test]
fn an_algorithm_that_the_peer_has_not_heard_of_is_told_with_the_next_connection() {
    let mut pair = Pair::synced();
    pair.a.sends_left = Some(0);
    pair.a.admin(choose("sha1", "", ""));
    while pair.round() {}
    pair.break_now();
    pair.b.admin(choose("sha1", "", ""));
    pair.a.sends_left = None;
    pair.until("in sync", Pair::in_sync);
    assert!(pair.a.request(Op::Write, 80, 4096, 0x51));
    pair.run();
    assert!(pair.in_sync());
    assert_eq!(pair.a.disk.data, pair.b.disk.data);
}

#[test]
fn the_algorithms_of_verify_and_checksums_are_adopted() {
    let mut pair = Pair::synced();
    assert_eq!(pair.command(true, choose("", "crc32c", "sha1")), 101);
    pair.run();
    let net = pair.b.core.net_config().unwrap();
    assert_eq!(net.verify_alg, name("crc32c"));
    assert_eq!(net.csums_alg, name("sha1"));
    let link = pair.b.core.link_view();
    assert_eq!((link.verify_len, link.csums_len), (4, 20));
    let verify = AdminRequest::Verify {
        volume: V,
        start: None,
        stop: u64::MAX,
    };
    assert_eq!(pair.command(false, verify), 1);
    pair.until("verified", |pair| {
        pair.b.state().conn == ConnState::Connected && said(&pair.b.log, "Online verify done")
    });
    assert_eq!(pair.command(true, choose("", "", "")), 101);
    pair.run();
    assert!(pair.b.core.net_config().unwrap().verify_alg.is_empty());
    assert_connected(&mut pair);
}

#[test]
fn an_algorithm_that_is_not_there_ends_the_connection() {
    for request in [
        choose("whirlpool", "", ""),
        choose("", "whirlpool", ""),
        choose("", "", "whirlpool"),
        choose("", "crc32c", "whirlpool"),
    ] {
        let mut pair = Pair::synced();
        assert_eq!(pair.command(true, request), 101);
        pair.until("b is alone", |pair| {
            pair.b.state().conn == ConnState::StandAlone
        });
    }
}

/// `reference/wire.md` A.1: the C driver expects a digest with zeroes, and none is sent.
#[test]
fn zeroes_are_not_offered_while_data_are_sent_with_a_digest() {
    let mut pair = Pair::synced_with_two_volumes();
    for (alg, offered) in [("", true), ("md5", false), ("sha1", false), ("", true)] {
        assert_eq!(pair.command(true, choose(alg, "", "")), 101);
        pair.run();
        for volume in pair.a.indices() {
            let most = pair.a.volume(volume).most[1];
            assert_eq!(most != 0, offered, "{alg} {volume:?}");
        }
        assert_connected(&mut pair);
    }
}
