//! Turns a captured cable back into what each TCP socket said.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};

/// Which bytes went from where to where.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Flow {
    /// Sender: address and port.
    pub(crate) from: (u32, u16),
    /// Receiver: address and port.
    pub(crate) to: (u32, u16),
}

/// Reads a capture made with whole frames and returns the bytes of every flow, in the order in
/// which the flows began. Bytes after a gap are dropped.
pub(crate) fn tcp_streams(capture: &Path) -> Result<Vec<(Flow, Vec<u8>)>> {
    let bytes = fs::read(capture).context("read the capture")?;
    let mut order: Vec<Flow> = Vec::new();
    let mut flows: BTreeMap<Flow, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    let mut starts: BTreeMap<Flow, u32> = BTreeMap::new();
    let mut rest = bytes.get(24..).context("not a capture")?;
    while let Some((head, after)) = rest.split_at_checked(16) {
        let kept = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let full = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
        ensure!(kept == full, "the capture was made with a snap length");
        let Some((frame, after)) = after.split_at_checked(kept) else {
            break;
        };
        rest = after;
        let Some((flow, sequence, syn, payload)) = tcp_segment(frame) else {
            continue;
        };
        if syn {
            starts.insert(flow, sequence.wrapping_add(1));
            order.push(flow);
        } else if let Some(&start) = starts.get(&flow) {
            if !payload.is_empty() {
                let offset = sequence.wrapping_sub(start);
                flows
                    .entry(flow)
                    .or_default()
                    .entry(offset)
                    .or_insert_with(|| payload.to_vec());
            }
        }
    }
    Ok(order
        .into_iter()
        .map(|flow| (flow, flows.get(&flow).map(join).unwrap_or_default()))
        .collect())
}

fn join(segments: &BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for (&offset, segment) in segments {
        // A resent segment may begin before the end of what is there.
        match out.len().checked_sub(offset as usize) {
            Some(known) if known < segment.len() => out.extend_from_slice(&segment[known..]),
            Some(_) => {}
            None => break,
        }
    }
    out
}

fn tcp_segment(frame: &[u8]) -> Option<(Flow, u32, bool, &[u8])> {
    let ip = frame.get(14..)?;
    if frame.get(12..14)? != [8, 0] || ip.get(9)? != &6 {
        return None;
    }
    let word = |at: usize, bytes: &[u8]| -> Option<u32> {
        Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let half = |at: usize, bytes: &[u8]| -> Option<u16> {
        Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
    };
    let header = usize::from(ip.first()? & 15) * 4;
    let total = usize::from(half(2, ip)?);
    let tcp = ip.get(header..total)?;
    let flow = Flow {
        from: (word(12, ip)?, half(0, tcp)?),
        to: (word(16, ip)?, half(2, tcp)?),
    };
    let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    Some((flow, word(4, tcp)?, tcp.get(13)? & 2 != 0, payload))
}

#[cfg(test)]
mod tests {
    use super::join;
    use std::collections::BTreeMap;

    #[test]
    fn resent_bytes_are_counted_once_and_a_gap_ends_the_stream() {
        let segments = BTreeMap::from([
            (0, b"abc".to_vec()),
            (2, b"cde".to_vec()),
            (5, b"f".to_vec()),
            (9, b"lost".to_vec()),
        ]);
        assert_eq!(join(&segments), b"abcdef");
    }
}
