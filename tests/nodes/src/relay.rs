//! The network between the nodes: a cable that can be captured and cut.
//!
//! Every port is a pair of datagram sockets that carry Ethernet frames. The node inherits one end,
//! two threads of the harness copy frames between the other ends and write them to a pcap file.
//! For measurements the two nodes hold the ends of one single pair and nothing is in between.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    recv, send, socketpair, sockopt, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
};

/// Socket buffers, so that a burst of frames does not stop the sender.
const BUFFER_BYTES: usize = 4 << 20;

/// Frames are kept up to this length; enough for every header and for small payloads.
pub(crate) const SNAP_DEFAULT: usize = 320;

/// The capture ends at this size; a long run must not fill the disk.
const CAPTURE_MAX_BYTES: u64 = 64 << 20;

/// The cable between two nodes.
pub(crate) struct Net {
    ports: [OwnedFd; 2],
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    up: AtomicBool,
    stop: AtomicBool,
    frames: AtomicU64,
    capture: Mutex<Option<Pcap>>,
}

impl Net {
    /// A cable through the harness, captured to `capture`.
    pub(crate) fn relayed(capture: &Path, snap: usize) -> Result<Self> {
        let (port0, inner0) = pair()?;
        let (port1, inner1) = pair()?;
        let shared = Arc::new(Shared {
            up: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            capture: Mutex::new(Some(Pcap::create(capture, snap)?)),
        });
        let inner = [Arc::new(inner0), Arc::new(inner1)];
        let threads = [(0, 1), (1, 0)]
            .map(|(from, to)| {
                let (from, to) = (Arc::clone(&inner[from]), Arc::clone(&inner[to]));
                let shared = Arc::clone(&shared);
                thread::spawn(move || carry(from.as_fd(), to.as_fd(), &shared))
            })
            .into();
        Ok(Self {
            ports: [port0, port1],
            shared,
            threads,
        })
    }

    /// A cable without anything in between: no capture, no cut.
    pub(crate) fn direct() -> Result<Self> {
        let (port0, port1) = pair()?;
        let shared = Arc::new(Shared {
            up: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            capture: Mutex::new(None),
        });
        Ok(Self {
            ports: [port0, port1],
            shared,
            threads: Vec::new(),
        })
    }

    /// The end that node `index` inherits, emptied of frames meant for an earlier boot.
    pub(crate) fn port(&self, index: usize) -> BorrowedFd<'_> {
        let port = self.ports[index].as_fd();
        let mut frame = [0_u8; 64];
        while recv(port, &mut frame, RecvFlags::DONTWAIT | RecvFlags::TRUNC).is_ok() {}
        port
    }

    /// Loses every frame from now on.
    pub(crate) fn cut(&self) {
        self.shared.up.store(false, Ordering::SeqCst);
    }

    /// Carries frames again.
    pub(crate) fn heal(&self) {
        self.shared.up.store(true, Ordering::SeqCst);
    }

    /// Ends the capture: its file is complete afterwards.
    pub(crate) fn finish_capture(&self) {
        self.shared
            .capture
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Frames carried so far.
    #[cfg(test)]
    pub(crate) fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socketpair(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("socketpair")?;
    for end in [&a, &b] {
        sockopt::set_socket_send_buffer_size(end, BUFFER_BYTES).context("SO_SNDBUF")?;
        sockopt::set_socket_recv_buffer_size(end, BUFFER_BYTES).context("SO_RCVBUF")?;
    }
    Ok((a, b))
}

fn ready(fd: BorrowedFd<'_>, flags: PollFlags, limit_ms: u32) -> bool {
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(limit_ms) * 1_000_000,
    };
    matches!(poll(&mut [PollFd::new(&fd, flags)], Some(&limit)), Ok(count) if count > 0)
}

fn carry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, shared: &Shared) {
    let mut frame = vec![0_u8; 1 << 16];
    while !shared.stop.load(Ordering::SeqCst) {
        let length = match recv(from, frame.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            Err(_) => {
                ready(from, PollFlags::IN, 100);
                continue;
            }
        };
        if !shared.up.load(Ordering::SeqCst) {
            continue;
        }
        let frame = &frame[..length];
        if let Some(pcap) = shared
            .capture
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            pcap.write(frame);
        }
        shared.frames.fetch_add(1, Ordering::Relaxed);
        deliver(to, frame, shared);
    }
}

/// Hands a frame over; a port that nobody reads (a dead node) loses it, as a cable would.
fn deliver(to: BorrowedFd<'_>, frame: &[u8], shared: &Shared) {
    for _ in 0..20 {
        match send(to, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::NOBUFS) => {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                ready(to, PollFlags::OUT, 10);
            }
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// A capture file that tcpdump and wireshark read.
struct Pcap {
    file: BufWriter<File>,
    snap: usize,
    left: u64,
}

impl Pcap {
    fn create(path: &Path, snap: usize) -> Result<Self> {
        let mut file = BufWriter::new(File::create(path).context("create the capture")?);
        let mut head = Vec::new();
        head.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
        head.extend_from_slice(&2_u16.to_le_bytes());
        head.extend_from_slice(&4_u16.to_le_bytes());
        head.extend_from_slice(&[0; 8]);
        head.extend_from_slice(&0x0001_0000_u32.to_le_bytes());
        head.extend_from_slice(&1_u32.to_le_bytes());
        file.write_all(&head).context("write the capture")?;
        Ok(Self {
            file,
            snap,
            left: CAPTURE_MAX_BYTES,
        })
    }

    fn write(&mut self, frame: &[u8]) {
        let kept = &frame[..frame.len().min(self.snap)];
        let Some(left) = self.left.checked_sub(kept.len() as u64 + 16) else {
            return;
        };
        self.left = left;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut head = [0_u8; 16];
        let seconds = u32::try_from(now.as_secs()).unwrap_or(0);
        head[0..4].copy_from_slice(&seconds.to_le_bytes());
        head[4..8].copy_from_slice(&now.subsec_micros().to_le_bytes());
        for (place, length) in [(8, kept.len()), (12, frame.len())] {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            head[place..place + 4].copy_from_slice(&length.to_le_bytes());
        }
        let _ = self.file.write_all(&head);
        let _ = self.file.write_all(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(net: &Net, index: usize) -> Option<Vec<u8>> {
        let port = net.ports[index].as_fd();
        let mut frame = vec![0; 2048];
        if !ready(port, PollFlags::IN, 200) {
            return None;
        }
        let (length, _) = recv(port, frame.as_mut_slice(), RecvFlags::DONTWAIT).ok()?;
        frame.truncate(length);
        Some(frame)
    }

    #[test]
    fn a_cut_cable_loses_frames_and_a_healed_one_carries_them() {
        let dir = std::env::temp_dir().join(format!("drbd-relay-{}", std::process::id()));
        let net = Net::relayed(&dir, 16).unwrap();
        let put = |text: &[u8]| send(&net.ports[0], text, SendFlags::empty()).unwrap();
        put(b"one");
        assert_eq!(take(&net, 1).as_deref(), Some(&b"one"[..]));
        net.cut();
        put(b"two");
        assert_eq!(take(&net, 1), None);
        net.heal();
        put(b"three");
        assert_eq!(take(&net, 1).as_deref(), Some(&b"three"[..]));
        assert_eq!(net.frames(), 2);
        drop(net);
        let size = std::fs::metadata(&dir).unwrap().len();
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(size, 24 + 2 * 16 + 3 + 5);
    }
}
