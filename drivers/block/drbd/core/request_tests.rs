//! What may be told to applications, for every order of events.

use super::*;

fn write(protocol: Protocol, local: bool, remote: Remote) -> Request {
    let data = matches!(remote, Remote::Data);
    Request {
        op: Op::Write,
        len_bytes: 4096,
        protocol,
        local: if local { Local::InFlight } else { Local::None },
        remote,
        transport: if remote == Remote::None {
            Transport::Idle
        } else {
            Transport::Queued
        },
        answer: if data { Answer::Pending } else { Answer::None },
        barrier: if data {
            Barrier::Pending
        } else {
            Barrier::None
        },
        admitted: true,
        ..Request::default()
    }
}

const EVENTS: [Event; 13] = [
    Event::AbortLocal,
    Event::BarrierAcked,
    Event::ConnectionLost,
    Event::HandedOver,
    Event::LocalDone { ok: true },
    Event::LocalDone { ok: false },
    Event::NegAcked,
    Event::RecvAcked,
    Event::SendCancelled,
    Event::Superseded,
    Event::Thaw,
    Event::WriteAcked { in_sync: false },
    Event::WriteAcked { in_sync: true },
];

/// What an observer knows from the outside.
#[derive(Clone, Default)]
struct Observer {
    sent: bool,
    acked: bool,
    completions: u32,
    destroyed: bool,
}

fn step(request: &mut Request, seen: &mut Observer, event: Event, suspended: bool) {
    if seen.destroyed {
        return;
    }
    let local_ok = request.local;
    let effects = request.apply(event, suspended);
    match event {
        Event::HandedOver => seen.sent = true,
        Event::RecvAcked | Event::WriteAcked { .. } | Event::Superseded => seen.acked = true,
        // The peer has it for sure.
        Event::BarrierAcked => seen.sent = true,
        _ => {}
    }
    if let Some(completion) = effects.complete {
        seen.completions += 1;
        assert!(!suspended, "told while suspended");
        assert!(
            request.remote == Remote::OutOfSync
                || !matches!(request.transport, Transport::Queued | Transport::Sending),
            "the socket still needs the payload"
        );
        assert!(
            !matches!(request.local, Local::InFlight),
            "the disk still needs the payload"
        );
        if completion == Completion::Ok {
            let stale = request.stale_disk && request.remote == Remote::Data;
            let proof = (matches!(request.local, Local::Done { ok: true }) && !stale)
                || match request.protocol {
                    Protocol::A => seen.sent || seen.acked,
                    Protocol::B | Protocol::C => seen.acked,
                }
                || matches!(event, Event::BarrierAcked);
            assert!(proof, "success without proof: {local_ok:?} {request:?}");
        }
    }
    assert!(seen.completions <= 1, "completed twice");
    if effects.destroy {
        assert_eq!(seen.completions, 1, "destroyed before it was completed");
        assert!(!matches!(request.barrier, Barrier::Pending));
        seen.destroyed = true;
    }
}

fn walk(request: &Request, seen: &Observer, depth: u32, suspended: bool) {
    if depth == 0 || seen.destroyed {
        return;
    }
    for event in EVENTS {
        let (mut request, mut seen) = (request.clone(), seen.clone());
        step(&mut request, &mut seen, event, suspended);
        walk(&request, &seen, depth - 1, suspended);
    }
}

/// 13^5 sequences for each protocol and kind of write.
#[test]
fn no_sequence_of_events_completes_twice_or_too_early() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        for local in [true, false] {
            for remote in [Remote::Data, Remote::OutOfSync, Remote::None] {
                if !local && remote != Remote::Data {
                    continue;
                }
                for (suspended, stale) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let mut request = write(protocol, local, remote);
                    request.stale_disk = stale;
                    walk(&request, &Observer::default(), 5, suspended);
                }
            }
        }
    }
}

/// Whatever happened: once the disk is done, the sender reported and the connection is gone,
/// the request ends.
#[test]
fn connection_loss_ends_every_request() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        for a in EVENTS {
            for b in EVENTS {
                for suspended in [false, true] {
                    let mut request = write(protocol, true, Remote::Data);
                    let mut seen = Observer::default();
                    step(&mut request, &mut seen, a, suspended);
                    step(&mut request, &mut seen, b, suspended);
                    step(&mut request, &mut seen, Event::ConnectionLost, false);
                    step(&mut request, &mut seen, Event::SendCancelled, false);
                    step(
                        &mut request,
                        &mut seen,
                        Event::LocalDone { ok: true },
                        false,
                    );
                    assert!(seen.destroyed, "{a:?} {b:?} {request:?}");
                }
            }
        }
    }
}

#[test]
fn each_protocol_waits_for_its_own_proof() {
    for (protocol, proof) in [
        (Protocol::A, Event::HandedOver),
        (Protocol::B, Event::RecvAcked),
        (Protocol::C, Event::WriteAcked { in_sync: false }),
    ] {
        let mut request = write(protocol, true, Remote::Data);
        request.transport = Transport::Sending;
        let local = request.apply(Event::LocalDone { ok: true }, false);
        assert_eq!(local, Effects::default());
        if protocol != Protocol::A {
            assert_eq!(request.apply(Event::HandedOver, false), Effects::default());
        }
        let done = request.apply(proof, false);
        assert_eq!(done.complete, Some(Completion::Ok), "{protocol:?}");
        assert!(!done.destroy, "held until the barrier ack");
        let end = request.apply(Event::BarrierAcked, false);
        assert!(end.destroy && end.complete.is_none());
        assert!(request.is_everywhere());
    }
}

#[test]
fn a_write_that_lost_its_connection_is_not_everywhere() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        let mut request = write(protocol, true, Remote::Data);
        for event in [
            Event::HandedOver,
            Event::RecvAcked,
            Event::WriteAcked { in_sync: false },
            Event::LocalDone { ok: true },
        ] {
            let _ = request.apply(event, false);
        }
        assert!(request.completed && request.is_everywhere());
        let effects = request.apply(Event::ConnectionLost, false);
        assert!(effects.destroy);
        assert!(!request.is_everywhere(), "the barrier was not acknowledged");
    }
}

/// The resync overwrites what only its target has.
#[test]
fn a_write_that_only_a_stale_disk_has_fails() {
    use DiskState::{Failed, Inconsistent, UpToDate};
    for (disks, expected) in [
        ([UpToDate, UpToDate], Completion::Ok),
        ([UpToDate, Failed], Completion::Failed),
        ([Inconsistent, UpToDate], Completion::Ok),
        ([Inconsistent, Inconsistent], Completion::Failed),
        ([Inconsistent, Failed], Completion::Failed),
        ([UpToDate, Inconsistent], Completion::Failed),
    ] {
        for loss in [Event::ConnectionLost, Event::NegAcked] {
            let mut request = write(Protocol::C, true, Remote::Data);
            request.note_disks(disks[0], UpToDate);
            let _ = request.apply(Event::HandedOver, false);
            let _ = request.apply(Event::LocalDone { ok: true }, false);
            request.note_disks(disks[1], UpToDate);
            let effects = request.apply(loss, false);
            assert_eq!(effects.complete, Some(expected), "{disks:?} {loss:?}");
        }
    }
}

#[test]
fn a_write_that_only_a_stale_peer_has_fails() {
    use DiskState::{Diskless, Failed, Inconsistent, UpToDate};
    for (local, disk, pdsk, expected) in [
        (true, Failed, UpToDate, Completion::Ok),
        (true, Failed, Inconsistent, Completion::Failed),
        (false, Diskless, UpToDate, Completion::Ok),
        (false, Diskless, Failed, Completion::Failed),
    ] {
        let mut request = write(Protocol::C, local, Remote::Data);
        request.note_disks(UpToDate, pdsk);
        let _ = request.apply(Event::HandedOver, false);
        let _ = request.apply(Event::LocalDone { ok: false }, false);
        request.note_disks(disk, pdsk);
        let effects = request.apply(Event::WriteAcked { in_sync: false }, false);
        assert_eq!(
            effects.complete,
            Some(expected),
            "{local} {disk:?} {pdsk:?}"
        );
    }
}

#[test]
fn a_refused_write_is_not_everywhere_even_after_its_barrier() {
    for protocol in [Protocol::A, Protocol::B, Protocol::C] {
        let mut request = write(protocol, true, Remote::Data);
        let _ = request.apply(Event::LocalDone { ok: true }, false);
        let _ = request.apply(Event::HandedOver, false);
        if protocol == Protocol::B {
            let _ = request.apply(Event::RecvAcked, false);
        }
        let _ = request.apply(Event::NegAcked, false);
        assert!(request.completed);
        assert!(request.apply(Event::BarrierAcked, false).destroy);
        assert!(!request.is_everywhere());
    }
}

#[test]
fn a_failed_read_is_tried_again_and_a_failed_read_ahead_is_not() {
    for (read_ahead, expected) in [(false, Completion::Reissue), (true, Completion::Failed)] {
        let mut request = Request {
            local: Local::InFlight,
            read_ahead,
            ..Request::default()
        };
        let effects = request.apply(Event::LocalDone { ok: false }, false);
        assert_eq!(effects.complete, Some(expected));
        assert!(effects.destroy);
    }
}

/// The disk that hangs may still write to its pages: the peer's data must not go there before.
#[test]
fn an_aborted_read_goes_elsewhere_only_when_the_disk_has_let_go_of_its_pages() {
    for (ok, expected) in [(false, Completion::Reissue), (true, Completion::Ok)] {
        let mut request = Request {
            local: Local::InFlight,
            ..Request::default()
        };
        assert_eq!(request.apply(Event::AbortLocal, false).complete, None);
        let effects = request.apply(Event::LocalDone { ok }, false);
        assert_eq!(effects.complete, Some(expected));
        assert!(effects.destroy);
    }
}

#[test]
fn an_aborted_clone_keeps_its_slot_until_it_comes_back() {
    let mut request = write(Protocol::C, true, Remote::None);
    let effects = request.apply(Event::AbortLocal, false);
    assert_eq!(effects.complete, Some(Completion::Failed));
    assert!(!effects.destroy);
    assert!(request.apply(Event::LocalDone { ok: false }, false).destroy);
}
