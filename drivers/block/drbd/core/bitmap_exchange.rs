//! Exchange of whole bitmaps, plain and run-length coded (`reference/wire.md` 6.3 to 6.5).
//!
//! Positions are implicit: both sides keep a cursor. Received bits are ORed in.

use core::ops::DerefMut;

use drbd_format::units::{BitCount, BitIndex};
use drbd_format::wire::command::{Command, Frame};
use drbd_format::wire::header::Header;
use drbd_format::wire::vli::{RunWriter, Runs};

use crate::bitmap::{Bitmap, PageState};
use crate::chance::{chance, Unlikely};
use crate::data::{DataPlane, Incoming, Outgoing, Payload, SentToken};
use crate::link::{LinkError, Upcall, VolumeIndex};
use crate::memory::Memory;

/// Bytes of a short packet: some runs of any length have room.
const SHORT: usize = 32;

/// Position of a transfer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Cursor {
    bit: u64,
    word: u64,
}

impl Cursor {
    fn after_words(&mut self, words: u64, bits: u64) {
        self.word += words;
        self.bit = (self.word * 64).min(bits);
    }
}

/// Sending side of a transfer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SendCursor {
    at: Cursor,
    /// Size of the bitmap of which a part has been sent.
    bits: u64,
    /// The last packet was plain and reached the end: an empty one has to follow.
    ended_plain: bool,
    done: bool,
}

/// How far the sending of a bitmap is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum BitmapSend {
    /// Its exchange has come to nothing with a part of it sent. The peer counts on the rest, in
    /// which nothing is set any more.
    Blank {
        /// How far it is.
        cursor: SendCursor,
        /// Then the bitmap goes out for another exchange.
        again: bool,
    },
    /// Waits until no application request is in flight.
    Draining,
    #[default]
    Idle,
    /// Waits for its turn, in the place with this stamp, or is being sent.
    Queued(u64, SendCursor),
}

impl BitmapSend {
    /// A part has been sent.
    pub(crate) fn has_begun(&self) -> bool {
        match self {
            Self::Blank { cursor, .. } | Self::Queued(_, cursor) => cursor.has_begun(),
            Self::Draining | Self::Idle => false,
        }
    }

    /// What is left to do when the exchange comes to nothing. A place in the queue finds nothing
    /// to send.
    pub(crate) fn given_up(self) -> Self {
        match self {
            Self::Queued(_, cursor) | Self::Blank { cursor, .. } if cursor.has_begun() => {
                let again = false;
                Self::Blank { cursor, again }
            }
            Self::Blank { .. } | Self::Draining | Self::Idle | Self::Queued(..) => Self::Idle,
        }
    }
}

/// A bitmap of the peer of which a part has arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BitmapReceive {
    volume: VolumeIndex,
    /// `None`: the disk that it was for is not there, or is another one.
    cursor: Option<ReceiveCursor>,
}

/// What a packet of a bitmap has in it.
pub(crate) enum BitmapPart<'a> {
    /// Plain words.
    Words(&'a [u8]),
    /// Runs.
    Code(&'a [u8]),
}

/// Receiving side of a transfer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReceiveCursor {
    at: Cursor,
}

impl SendCursor {
    /// Tells whether a part has been sent.
    fn has_begun(&self) -> bool {
        self.at != Cursor::default() || self.ended_plain
    }

    /// Puts the next words into `payload` and returns how many bytes. 0 means: the empty packet
    /// that ends the transfer.
    fn next_plain(&mut self, max: usize, payload: &mut [u8], word: impl Fn(u64) -> u64) -> usize {
        let total = BitCount(self.bits).words();
        let words = total.saturating_sub(self.at.word).min((max / 8) as u64);
        for (number, bytes) in (self.at.word..self.at.word + words).zip(payload.chunks_exact_mut(8))
        {
            bytes.copy_from_slice(&word(number).to_le_bytes());
        }
        self.at.after_words(words, self.bits);
        self.ended_plain = self.at.word >= total;
        self.done = words == 0;
        (words * 8) as usize
    }

    /// Puts runs into `payload` and returns how many bytes, or `None` if plain words are shorter
    /// (or nothing is left).
    fn next_code<W, P>(&mut self, bitmap: &Bitmap<W, P>, payload: &mut [u8]) -> Option<usize>
    where
        W: DerefMut<Target = [u64]>,
        P: DerefMut<Target = [PageState]>,
    {
        let bits = bitmap.bits();
        if self.at.bit >= bits || self.ended_plain {
            return None;
        }
        let mut set = bitmap.is_set(BitIndex(self.at.bit));
        let mut writer = RunWriter::new(payload, set).ok()?;
        let mut bit = self.at.bit;
        while bit < bits {
            let next = if set {
                bitmap.find_next_clear(BitIndex(bit)).0
            } else {
                bitmap
                    .find_next(BitIndex(bit))
                    .map_or(bits, |found| found.0)
            };
            if writer.push(next - bit).is_err() {
                break;
            }
            bit = next;
            set = !set;
        }
        let covered = bit - self.at.bit;
        let len = writer.finish()?;
        if covered < 8 * len as u64 {
            return None;
        }
        self.at.bit = bit;
        self.at.word = bit / 64;
        self.done = bit == bits;
        Some(len)
    }
}

impl ReceiveCursor {
    /// Takes a compressed packet. Answers whether the transfer is complete.
    fn take_code<W, P>(
        &mut self,
        bitmap: &mut Bitmap<W, P>,
        payload: &[u8],
    ) -> Result<bool, LinkError>
    where
        W: DerefMut<Target = [u64]>,
        P: DerefMut<Target = [PageState]>,
    {
        let bits = bitmap.bits();
        let left = bits.saturating_sub(self.at.bit);
        let runs = Runs::new(payload, left).map_err(|_| LinkError::ProtocolError)?;
        for run in runs {
            let run = run.map_err(|_| LinkError::ProtocolError)?;
            let end = self.at.bit.saturating_add(run.len);
            if run.set {
                bitmap.set_bits(self.at.bit, end);
            }
            self.at.bit = end;
        }
        self.at.word = self.at.bit / 64;
        Ok(self.at.bit >= bits)
    }

    /// Takes a plain packet. Answers whether the transfer is complete.
    fn take_plain<W, P>(
        &mut self,
        bitmap: &mut Bitmap<W, P>,
        max: usize,
        payload: &[u8],
    ) -> Result<bool, LinkError>
    where
        W: DerefMut<Target = [u64]>,
        P: DerefMut<Target = [PageState]>,
    {
        let total = BitCount(bitmap.bits()).words();
        let expected = total.saturating_sub(self.at.word).min((max / 8) as u64) * 8;
        if payload.len() as u64 != expected {
            return Err(LinkError::ProtocolError);
        }
        for (number, bytes) in (self.at.word..).zip(payload.chunks_exact(8)) {
            let mut raw = [0; 8];
            raw.copy_from_slice(bytes);
            bitmap.merge_word(number, u64::from_le_bytes(raw));
        }
        self.at.after_words(expected / 8, bitmap.bits());
        Ok(payload.is_empty())
    }
}

impl<M: Memory> DataPlane<M> {
    /// `Order::SendBitmap`: as soon as no application request is in flight and the peer has told
    /// what has become of all of them. New ones wait.
    pub(crate) fn start_bitmap_send(&mut self, volume: VolumeIndex) {
        let Some(place) = self.volumes.get_mut(volume.slot()) else {
            return;
        };
        match &mut place.bitmap_send {
            BitmapSend::Blank { again, .. } => *again = true,
            send => *send = BitmapSend::Draining,
        }
        self.check_idle(volume);
    }

    /// `Order::KeepBitmap`. Otherwise the peer takes it for that of the next exchange.
    pub(crate) fn give_up_bitmap_send(&mut self, volume: VolumeIndex) {
        if let Some(place) = self.volumes.get_mut(volume.slot()) {
            place.bitmap_send = place.bitmap_send.given_up();
        }
        self.wants.submitters = true;
    }

    /// Encodes the next part of a bitmap that has the place with this stamp in the queue. Nothing
    /// else goes out before its last packet.
    pub(crate) fn next_bitmap_packet(
        &mut self,
        volume: VolumeIndex,
        stamp: u64,
        buf: &mut [u8],
    ) -> Option<Outgoing> {
        let max = self.terms.version.bitmap_payload_max() as usize;
        let place = &mut self.volumes[volume.slot()];
        let number = place.number.map_or(0, |number| number.0);
        let (cursor, bitmap) = match (&mut place.bitmap_send, &place.disk) {
            (BitmapSend::Blank { cursor, .. }, _) => (cursor, None),
            (BitmapSend::Queued(at, cursor), Some(disk)) if *at == stamp => {
                cursor.bits = disk.bitmap.bits();
                (cursor, Some(&disk.bitmap))
            }
            _ => {
                // Given up meanwhile.
                self.pop_control(volume.slot());
                return None;
            }
        };
        let header_len = self.terms.version.header_len();
        let payload = buf.get_mut(header_len..header_len + max)?;
        let compress = self.link.use_rle && Command::CompressedBitmap.may_be_sent(&self.terms);
        let code = match bitmap {
            Some(bitmap) if compress && !chance(Unlikely::PlainBitmap) => {
                let len = if chance(Unlikely::ShortCode) {
                    SHORT
                } else {
                    payload.len()
                };
                cursor.next_code(bitmap, payload.get_mut(..len)?)
            }
            _ => None,
        };
        let word = |number| bitmap.map_or(0, |bitmap| bitmap.word(number));
        let (command, len) = match code {
            Some(len) => (Command::CompressedBitmap, len),
            None => (Command::Bitmap, cursor.next_plain(max, payload, word)),
        };
        let done = cursor.done;
        let header = Header {
            volume: number,
            command: command.to_wire(),
            payload_len: u32::try_from(len).ok()?,
        };
        header
            .encode(self.terms.version, buf.get_mut(..header_len)?)
            .ok()?;
        if done {
            self.pop_control(volume.slot());
            self.bitmap_is_sent(volume);
        }
        Some(Outgoing {
            len: header_len + len,
            payload: Payload::None,
            digest: false,
            algorithm: None,
            copy: false,
            token: SentToken::Nothing,
        })
    }

    fn bitmap_is_sent(&mut self, volume: VolumeIndex) {
        let place = &mut self.volumes[volume.slot()];
        match place.bitmap_send {
            BitmapSend::Blank { again: true, .. } => {
                place.bitmap_send = BitmapSend::Draining;
                self.check_idle(volume);
                return;
            }
            BitmapSend::Queued(..) => self.upcall(Upcall::BitmapSent(volume)),
            BitmapSend::Blank { .. } | BitmapSend::Draining | BitmapSend::Idle => {}
        }
        self.volumes[volume.slot()].bitmap_send = BitmapSend::Idle;
        self.wants.submitters = true;
    }

    /// Nothing else may come between the packets of a bitmap (`reference/wire.md` 6.3): the rest
    /// of it would be waited for for ever.
    pub(crate) fn interrupts_bitmap(&mut self, frame: &Frame) -> bool {
        let Some(receive) = self.bitmap_receive else {
            return false;
        };
        let is_part = matches!(frame.command(), Command::Bitmap | Command::CompressedBitmap);
        if is_part && self.volume_index(frame.volume()) == Some(receive.volume) {
            return false;
        }
        self.bitmap_receive = None;
        let interrupts = receive.cursor.is_some();
        if interrupts {
            self.upcall(Upcall::LinkFailed(LinkError::ProtocolError));
        }
        interrupts
    }

    /// The disk goes for which the rest of a bitmap is to come.
    pub(crate) fn skip_bitmap(&mut self, volume: VolumeIndex) {
        if let Some(receive) = &mut self.bitmap_receive {
            if receive.volume == volume {
                receive.cursor = None;
            }
        }
    }

    /// P_BITMAP or P_COMPRESSED_BITMAP. Of a bitmap for a disk that has gone nothing is needed.
    pub(crate) fn bitmap_part(
        &mut self,
        volume: VolumeIndex,
        part: &BitmapPart<'_>,
    ) -> Result<Incoming, LinkError> {
        let max = self.terms.version.bitmap_payload_max() as usize;
        let disk = self.volumes[volume.slot()].disk.as_mut();
        let attached = disk.filter(|disk| disk.attached);
        let cursor = match self.bitmap_receive {
            Some(receive) => receive.cursor,
            None => Some(ReceiveCursor::default()),
        };
        let (Some(disk), Some(mut cursor)) = (attached, cursor) else {
            let cursor = None;
            self.bitmap_receive = Some(BitmapReceive { volume, cursor });
            return Ok(Incoming::Done);
        };
        let complete = match *part {
            BitmapPart::Words(words) => cursor.take_plain(&mut disk.bitmap, max, words)?,
            BitmapPart::Code(code) => cursor.take_code(&mut disk.bitmap, code)?,
        };
        let cursor = Some(cursor);
        self.bitmap_receive = (!complete).then_some(BitmapReceive { volume, cursor });
        if complete {
            self.upcall(Upcall::BitmapReceived(volume));
        }
        Ok(Incoming::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drbd_format::units::SectorCount;
    use std::vec;
    use std::vec::Vec;

    type TestBitmap = Bitmap<Vec<u64>, Vec<PageState>>;

    const MAX: usize = 4064;

    fn bitmap(bits: u64, set: impl Fn(u64) -> bool) -> TestBitmap {
        let count = BitCount(bits);
        let words = vec![0; count.words() as usize];
        let mut bitmap = Bitmap::new(words, vec![PageState::default(); count.pages() as usize]);
        assert!(bitmap.set_capacity(SectorCount(bits * 8)));
        for bit in (0..bits).filter(|&bit| set(bit)) {
            bitmap.set_bits(bit, bit + 1);
        }
        bitmap
    }

    /// Carries it over and answers how many packets were plain, and how many coded.
    fn exchange(from: &TestBitmap, may_code: bool) -> (usize, usize) {
        let bits = from.bits();
        let mut to = bitmap(bits, |_| false);
        let mut send = SendCursor {
            bits,
            ..SendCursor::default()
        };
        let mut receive = ReceiveCursor::default();
        let mut buf = vec![0; MAX];
        let mut packets = (0, 0);
        loop {
            let code = if may_code {
                send.next_code(from, &mut buf)
            } else {
                None
            };
            let complete = if let Some(len) = code {
                packets.1 += 1;
                receive.take_code(&mut to, &buf[..len])
            } else {
                packets.0 += 1;
                let len = send.next_plain(MAX, &mut buf, |word| from.word(word));
                receive.take_plain(&mut to, MAX, &buf[..len])
            };
            assert_eq!(send.at, receive.at, "both know where they are");
            assert_eq!(complete, Ok(send.done));
            if send.done {
                break;
            }
        }
        assert_eq!(to.weight(), from.weight());
        assert!((0..BitCount(bits).words()).all(|word| to.word(word) == from.word(word)));
        packets
    }

    /// `reference/wire.md` 6.3 to 6.5. A plain packet has 508 words, 32,512 bits.
    #[test]
    fn bitmaps_of_many_packets_arrive_in_the_shortest_form() {
        for bits in [100_003, 97_536, 64] {
            let plain = BitCount(bits).words().div_ceil(508) as usize + 1;
            for (what, set, coded) in [
                ("empty", (|_| false) as fn(u64) -> bool, (0, 1)),
                ("full", |_| true, (0, 1)),
                ("noise", |bit| bit % 3 == 0, (plain, 0)),
            ] {
                let from = bitmap(bits, set);
                assert_eq!(exchange(&from, false), (plain, 0), "{what} {bits}");
                assert_eq!(exchange(&from, true), coded, "{what} {bits}");
            }
        }
    }

    #[test]
    fn plain_words_and_runs_follow_each_other() {
        // What is behind the noise is worth a code, and what is before it.
        let noise = |bit: u64| bit % 2 == 0;
        let front = bitmap(200_000, |bit| bit < 33_000 && noise(bit));
        assert_eq!(exchange(&front, true), (1, 1));
        let back = bitmap(200_000, |bit| bit > 150_000 && noise(bit));
        let (plain, coded) = exchange(&back, true);
        assert!(plain > 1 && coded > 0, "{plain} {coded}");
        let islands = bitmap(300_000, |bit| bit % 100_000 < 40_000 && noise(bit));
        let (plain, coded) = exchange(&islands, true);
        assert!(plain > 2 && coded > 1, "{plain} {coded}");
    }
}
