//! A peer that means harm: connects to a node as its peer would and sends bytes it should not.
//!
//! Part of what it sends is what a real peer once sent (recorded from the C driver), cut short or
//! changed at seeded places, so that it gets past the first checks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::scribble::next_random;

/// First packet of a data socket, as the side that connects sends it.
const DATA_CALLS: &[u8] = include_bytes!("../../golden/recorded/plain/stream01-ms.bin");
/// What the side that was called sends on the data socket: features, options, sizes, UUIDs, state.
const DATA_ANSWERS: &[u8] = include_bytes!("../../golden/recorded/plain/stream02-sm.bin");
/// The socket for acknowledgements, from the side that connects.
const META_CALLS: &[u8] = include_bytes!("../../golden/recorded/plain/stream03-sm.bin");

/// Bytes of the very first packet of a socket.
const INITIAL_BYTES: usize = 8;

/// A node that has not hung up by then is left alone.
const PATIENCE: Duration = Duration::from_millis(700);

/// Connects to `address` twice and misbehaves in a way that `seed` chooses.
pub(crate) fn poke(address: &str, seed: u64) -> Result<()> {
    let mut random = seed;
    let kind = next_random(&mut random) % 5;
    let (data, meta) = match kind {
        0 => (noise(&mut random, 4096), noise(&mut random, 512)),
        1 => (oversized(&mut random), META_CALLS[..INITIAL_BYTES].to_vec()),
        2 => (damaged(&handshake(), &mut random), META_CALLS.to_vec()),
        3 => (
            cut_short(&handshake(), &mut random),
            META_CALLS[..INITIAL_BYTES].to_vec(),
        ),
        _ => {
            let mut data = handshake();
            data.extend_from_slice(&oversized(&mut random)[INITIAL_BYTES..]);
            data.extend_from_slice(&noise(&mut random, 2000));
            (data, damaged(META_CALLS, &mut random))
        }
    };
    println!("kind {kind}: {} and {} bytes", data.len(), meta.len());
    let first = TcpStream::connect(address).context("connect the first socket")?;
    send(&first, &data);
    // A node that has already hung up on the first may refuse the second.
    if let Ok(second) = TcpStream::connect(address) {
        send(&second, &meta);
        let reader = thread::spawn(move || listen(&second));
        listen(&first);
        let _ = reader.join();
    } else {
        listen(&first);
    }
    Ok(())
}

fn send(mut socket: &TcpStream, bytes: &[u8]) {
    let _ = socket.set_write_timeout(Some(PATIENCE));
    let _ = socket.write_all(bytes);
}

fn listen(mut socket: &TcpStream) {
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let mut bytes = [0_u8; 4096];
    while socket.read(&mut bytes).is_ok_and(|count| count > 0) {}
    let _ = socket.shutdown(Shutdown::Both);
}

/// Everything a peer says until both are connected.
fn handshake() -> Vec<u8> {
    let mut bytes = DATA_CALLS[..INITIAL_BYTES].to_vec();
    bytes.extend_from_slice(DATA_ANSWERS);
    bytes
}

fn noise(random: &mut u64, count: u64) -> Vec<u8> {
    let length = next_random(random) % count + 1;
    (0..length)
        .map(|_| next_random(random).to_le_bytes()[0])
        .collect()
}

/// A correct first packet, then one header of each generation with a length that nobody can mean.
fn oversized(random: &mut u64) -> Vec<u8> {
    let mut bytes = DATA_CALLS[..INITIAL_BYTES].to_vec();
    let command = u16::try_from(next_random(random) % 0x40)
        .unwrap_or(0)
        .to_be_bytes();
    let length = [0xffff_ffff_u32, 0x7fff_ffff, 0x8000_0000, 0x0010_0001]
        [usize::try_from(next_random(random) % 4).unwrap_or(0)]
    .to_be_bytes();
    match next_random(random) % 3 {
        0 => {
            bytes.extend_from_slice(&0x8374_0267_u32.to_be_bytes());
            bytes.extend_from_slice(&command);
            bytes.extend_from_slice(&[0xff, 0xff]);
        }
        1 => {
            bytes.extend_from_slice(&0x835a_u16.to_be_bytes());
            bytes.extend_from_slice(&command);
            bytes.extend_from_slice(&length);
        }
        _ => {
            bytes.extend_from_slice(&0x8620_ec20_u32.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&command);
            bytes.extend_from_slice(&length);
            bytes.extend_from_slice(&[0; 4]);
        }
    }
    bytes.extend_from_slice(&noise(random, 8192));
    bytes
}

fn damaged(good: &[u8], random: &mut u64) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=next_random(random) % 4 {
        let span = (bytes.len() - INITIAL_BYTES) as u64;
        let at = INITIAL_BYTES + usize::try_from(next_random(random) % span).unwrap_or(0);
        bytes[at] = next_random(random).to_le_bytes()[0];
    }
    bytes
}

fn cut_short(good: &[u8], random: &mut u64) -> Vec<u8> {
    let length = usize::try_from(next_random(random) % good.len() as u64).unwrap_or(0);
    good[..length].to_vec()
}
