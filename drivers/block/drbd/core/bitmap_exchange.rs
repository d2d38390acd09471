//! Exchange of whole bitmaps, plain and run-length coded (`reference/wire.md` 6.3 to 6.5).
//!
//! Positions are implicit: both sides keep a cursor. Received bits are ORed in.

use core::ops::DerefMut;

use drbd_format::units::{BitCount, BitIndex};
use drbd_format::wire::command::Command;
use drbd_format::wire::header::Header;
use drbd_format::wire::vli::{RunWriter, Runs};

use crate::bitmap::{Bitmap, PageState};
use crate::data::{BitmapSend, DataPlane, Incoming, Outgoing, Payload, SentToken};
use crate::link::{LinkError, Upcall, VolumeIndex};
use crate::memory::Memory;

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
    /// The last packet was plain and reached the end: an empty one has to follow.
    ended_plain: bool,
    done: bool,
}

/// Receiving side of a transfer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReceiveCursor {
    at: Cursor,
}

impl SendCursor {
    /// Puts the next words into `payload` and returns how many bytes. 0 means: the empty packet
    /// that ends the transfer.
    fn next_plain<W, P>(&mut self, bitmap: &Bitmap<W, P>, max: usize, payload: &mut [u8]) -> usize
    where
        W: DerefMut<Target = [u64]>,
        P: DerefMut<Target = [PageState]>,
    {
        let total = BitCount(bitmap.bits()).words();
        let words = total.saturating_sub(self.at.word).min((max / 8) as u64);
        for (number, bytes) in (self.at.word..total)
            .zip(payload.chunks_exact_mut(8))
            .take(max / 8)
        {
            bytes.copy_from_slice(&bitmap.word(number).to_le_bytes());
        }
        self.at.after_words(words, bitmap.bits());
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
        place.bitmap_send = BitmapSend::Draining;
        self.check_idle(volume);
    }

    /// Encodes the next part of a bitmap. Nothing else goes out before its last packet.
    pub(crate) fn next_bitmap_packet(
        &mut self,
        volume: VolumeIndex,
        buf: &mut [u8],
    ) -> Option<Outgoing> {
        let max = self.terms.version.bitmap_payload_max() as usize;
        let place = &mut self.volumes[volume.slot()];
        let number = place.number.map_or(0, |number| number.0);
        let (BitmapSend::Queued(cursor), Some(disk)) = (&mut place.bitmap_send, &place.disk) else {
            // Given up meanwhile.
            self.pop_control(volume.slot());
            return None;
        };
        let header_len = self.terms.version.header_len();
        let payload = buf.get_mut(header_len..header_len + max)?;
        let compress = self.link.use_rle && Command::CompressedBitmap.may_be_sent(&self.terms);
        let code = if compress {
            cursor.next_code(&disk.bitmap, payload)
        } else {
            None
        };
        let (command, len) = match code {
            Some(len) => (Command::CompressedBitmap, len),
            None => (
                Command::Bitmap,
                cursor.next_plain(&disk.bitmap, max, payload),
            ),
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
            self.volumes[volume.slot()].bitmap_send = BitmapSend::Idle;
            self.wants.submitters = true;
            self.upcall(Upcall::BitmapSent(volume));
        }
        Some(Outgoing {
            len: header_len + len,
            payload: Payload::None,
            digest: false,
            more: !done || self.has_more(),
            copy: false,
            token: SentToken::Nothing,
        })
    }

    /// P_BITMAP.
    pub(crate) fn bitmap_words(
        &mut self,
        volume: VolumeIndex,
        payload: &[u8],
    ) -> Result<Incoming, LinkError> {
        let max = self.terms.version.bitmap_payload_max() as usize;
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &mut place.disk else {
            return Err(LinkError::ProtocolError);
        };
        let cursor = place
            .bitmap_receive
            .get_or_insert_with(ReceiveCursor::default);
        if cursor.take_plain(&mut disk.bitmap, max, payload)? {
            place.bitmap_receive = None;
            self.upcall(Upcall::BitmapReceived(volume));
        }
        Ok(Incoming::Done)
    }

    /// P_COMPRESSED_BITMAP.
    pub(crate) fn bitmap_code(
        &mut self,
        volume: VolumeIndex,
        payload: &[u8],
    ) -> Result<Incoming, LinkError> {
        let place = &mut self.volumes[volume.slot()];
        let Some(disk) = &mut place.disk else {
            return Err(LinkError::ProtocolError);
        };
        let cursor = place
            .bitmap_receive
            .get_or_insert_with(ReceiveCursor::default);
        if cursor.take_code(&mut disk.bitmap, payload)? {
            place.bitmap_receive = None;
            self.upcall(Upcall::BitmapReceived(volume));
        }
        Ok(Incoming::Done)
    }
}
