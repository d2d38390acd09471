//! Layouts of the packets in which two nodes tell each other about themselves: versions,
//! protocol and policies, resync settings, generations, sizes.
//!
//! As in [`super::payload`] each struct is a checked value. Facts: `reference/wire.md` 3.3, 4.

use super::command::{Command, Frame};
use super::features::{FeatureFlags, Offer, Terms};
use super::payload::{size_error, Layout, PacketError};
use super::EncodeError;
use crate::bytes::{Reader, Writer};
use crate::types::{AfterSbPolicy, Protocol, Uuid, UuidSet};
use crate::units::SectorCount;

/// `P_PROTOCOL` and `P_PROTOCOL_UPDATE`, from the sender's point of view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProtocolSettings<'a> {
    /// When a write counts as done.
    pub protocol: Protocol,
    /// Policy without a primary.
    pub after_sb_0p: AfterSbPolicy,
    /// Policy with one primary.
    pub after_sb_1p: AfterSbPolicy,
    /// Policy with two primaries.
    pub after_sb_2p: AfterSbPolicy,
    /// The sender wants its own data to be discarded.
    pub discard_my_data: bool,
    /// The sender only wants to know what a connection would lead to.
    pub dry_run: bool,
    /// Both nodes may be primary.
    pub two_primaries: bool,
    /// Data-integrity algorithm of the sender, empty if none.
    pub integrity_alg: &'a str,
}

const CONN_DISCARD_MY_DATA: u32 = 1;
const CONN_DRY_RUN: u32 = 2;

impl<'a> Layout<'a> for ProtocolSettings<'a> {
    fn decode(terms: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let command = frame.command();
        let mut next = || input.u32().ok_or_else(|| size_error(frame));
        let number = |error| PacketError::Number(command, error);
        let protocol = Protocol::from_wire(next()?).map_err(number)?;
        let after_sb_0p = AfterSbPolicy::from_wire(next()?).map_err(number)?;
        let after_sb_1p = AfterSbPolicy::from_wire(next()?).map_err(number)?;
        let after_sb_2p = AfterSbPolicy::from_wire(next()?).map_err(number)?;
        let flags = next()?;
        let two_primaries = match next()? {
            0 => false,
            1 => true,
            found => {
                return Err(PacketError::Value(
                    command,
                    "two_primaries",
                    u64::from(found),
                ))
            }
        };
        let integrity_alg = if terms.version.number() >= 87 {
            name(command, "integrity algorithm", input.rest())?
        } else {
            ""
        };
        Ok(Self {
            protocol,
            after_sb_0p,
            after_sb_1p,
            after_sb_2p,
            discard_my_data: flags & CONN_DISCARD_MY_DATA != 0,
            dry_run: flags & CONN_DRY_RUN != 0,
            two_primaries,
            integrity_alg,
        })
    }

    fn encode(&self, terms: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        let mut flags = 0;
        if self.discard_my_data {
            flags |= CONN_DISCARD_MY_DATA;
        }
        if self.dry_run {
            flags |= CONN_DRY_RUN;
        }
        out.u32(self.protocol.to_wire());
        out.u32(self.after_sb_0p.to_wire());
        out.u32(self.after_sb_1p.to_wire());
        out.u32(self.after_sb_2p.to_wire());
        out.u32(flags);
        out.u32(u32::from(self.two_primaries));
        if terms.version.number() >= 87 {
            return put_name(out, self.integrity_alg);
        }
        if !self.integrity_alg.is_empty() {
            return Err(EncodeError::NotExpressible("a data-integrity algorithm"));
        }
        Ok(())
    }
}

/// Bytes of a name field of fixed size.
const NAME_FIELD_LEN: usize = 64;

/// Returns the name in front of the first NUL. Bytes behind it are ignored.
fn name<'a>(command: Command, what: &'static str, bytes: &'a [u8]) -> Result<&'a str, PacketError> {
    let error = PacketError::Text(command, what);
    let text = core::ffi::CStr::from_bytes_until_nul(bytes).map_err(|_| error)?;
    let text = text.to_str().map_err(|_| error)?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(error);
    }
    Ok(text)
}

/// Writes a name and its NUL.
fn put_name(out: &mut Writer<'_>, name: &str) -> Result<(), EncodeError> {
    if name.len() >= NAME_FIELD_LEN || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(EncodeError::NotExpressible("the name of this algorithm"));
    }
    out.bytes(name.as_bytes());
    out.u8(0);
    Ok(())
}

/// Writes a name into a field of 64 bytes.
fn put_name_field(out: &mut Writer<'_>, name: &str) -> Result<(), EncodeError> {
    put_name(out, name)?;
    out.fill(
        0,
        NAME_FIELD_LEN.saturating_sub(name.len().saturating_add(1)),
    );
    Ok(())
}

/// The four settings of the resync controller, in the units of the options of the same names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateController {
    /// `c-plan-ahead`, tenths of a second.
    pub plan_ahead_tenths: u32,
    /// `c-delay-target`, tenths of a second.
    pub delay_target_tenths: u32,
    /// `c-fill-target`, sectors.
    pub fill_target_sectors: u32,
    /// `c-max-rate`, KiB/s.
    pub max_rate_kib: u32,
}

/// `P_SYNC_PARAM` and `P_SYNC_PARAM89`.
///
/// A field is `None` when the agreed version does not carry it; on encoding such a field is left
/// out. Values are as the peer sent them: the receiver has to hold them against the limits of the
/// options before it adopts them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncParam<'a> {
    /// `resync-rate`, KiB/s.
    pub resync_rate_kib: u32,
    /// Algorithm of online verify (88), empty if none.
    pub verify_alg: Option<&'a str>,
    /// Algorithm of checksum-based resync (89), empty if none.
    pub csums_alg: Option<&'a str>,
    /// Settings of the controller (95).
    pub controller: Option<RateController>,
}

impl<'a> Layout<'a> for SyncParam<'a> {
    fn decode(terms: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let short = || size_error(frame);
        let (command, version) = (frame.command(), terms.version.number());
        let resync_rate_kib = input.u32().ok_or_else(short)?;
        let mut param = Self {
            resync_rate_kib,
            verify_alg: None,
            csums_alg: None,
            controller: None,
        };
        if version == 88 {
            param.verify_alg = Some(name(command, "verify algorithm", input.rest())?);
        }
        if version >= 89 {
            let verify = input.bytes(NAME_FIELD_LEN).ok_or_else(short)?;
            let csums = input.bytes(NAME_FIELD_LEN).ok_or_else(short)?;
            param.verify_alg = Some(name(command, "verify algorithm", verify)?);
            param.csums_alg = Some(name(command, "checksum algorithm", csums)?);
        }
        if version >= 95 {
            let mut read = || {
                Some(RateController {
                    plan_ahead_tenths: input.u32()?,
                    delay_target_tenths: input.u32()?,
                    fill_target_sectors: input.u32()?,
                    max_rate_kib: input.u32()?,
                })
            };
            param.controller = Some(read().ok_or_else(short)?);
        }
        Ok(param)
    }

    fn encode(&self, terms: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        let version = terms.version.number();
        out.u32(self.resync_rate_kib);
        if version == 88 {
            put_name(out, self.verify_alg.unwrap_or(""))?;
        }
        if version >= 89 {
            put_name_field(out, self.verify_alg.unwrap_or(""))?;
            put_name_field(out, self.csums_alg.unwrap_or(""))?;
        }
        if version >= 95 {
            let missing = EncodeError::NotExpressible("sync settings without a controller");
            let controller = self.controller.ok_or(missing)?;
            out.u32(controller.plan_ahead_tenths);
            out.u32(controller.delay_target_tenths);
            out.u32(controller.fill_target_sectors);
            out.u32(controller.max_rate_kib);
        }
        Ok(())
    }
}

/// Flags of [`Uuids`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UuidFlags(pub u64);

impl UuidFlags {
    /// The sender wants its own data to be discarded.
    pub const DISCARD_MY_DATA: Self = Self(1);
    /// The sender was primary when it crashed.
    pub const CRASHED_PRIMARY: Self = Self(2);
    /// The disk being negotiated is inconsistent.
    pub const INCONSISTENT: Self = Self(4);
    /// Skip the initial sync.
    pub const SKIP_INITIAL_SYNC: Self = Self(8);
}

/// `P_UUIDS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uuids {
    /// The generations of the sender.
    pub set: UuidSet,
    /// Bits set in the bitmap of the sender.
    pub bits_set: u64,
    /// Flags.
    pub flags: UuidFlags,
}

impl<'a> Layout<'a> for Uuids {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            let current = Uuid(input.u64()?);
            let bitmap = Uuid(input.u64()?);
            let history = [Uuid(input.u64()?), Uuid(input.u64()?)];
            let set = UuidSet {
                current,
                bitmap,
                history,
            };
            Some(Self {
                set,
                bits_set: input.u64()?,
                flags: UuidFlags(input.u64()?),
            })
        };
        read().ok_or_else(|| size_error(frame))
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        let [younger, older] = self.set.history;
        for uuid in [self.set.current, self.set.bitmap, younger, older] {
            out.u64(uuid.0);
        }
        out.u64(self.bits_set);
        out.u64(self.flags.0);
        Ok(())
    }
}

/// `P_SYNC_UUID`: the generation that the resync leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncUuid {
    /// The generation.
    pub uuid: Uuid,
}

impl<'a> Layout<'a> for SyncUuid {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let uuid = Uuid(input.u64().ok_or_else(|| size_error(frame))?);
        Ok(Self { uuid })
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.uuid.0);
        Ok(())
    }
}

/// The part of `P_SIZES` that describes the request queue of the sender. Nobody acts on it
/// (`reference/wire.md` 3.3), so nothing in it is checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueueLimits {
    /// Bytes.
    pub physical_block_size: u32,
    /// Bytes.
    pub logical_block_size: u32,
    /// Bytes.
    pub alignment_offset: u32,
    /// Bytes.
    pub io_min: u32,
    /// Bytes.
    pub io_opt: u32,
    /// The sender's device can discard.
    pub discard_enabled: bool,
    /// Discarded blocks read as zeroes.
    pub discard_zeroes_data: bool,
    /// Always sent as 0 (`reference/wire.md` A.2).
    pub write_same_capable: bool,
}

/// `P_SIZES`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// Usable size of the sender's disk, 0 if it has none. Its bytes fit 64 bits.
    pub disk: SectorCount,
    /// Size limit set by the user, 0 if none. Its bytes fit 64 bits.
    pub user: SectorCount,
    /// Size of the device; 0 asks for an answer. Its bytes fit 64 bits.
    pub current: SectorCount,
    /// Largest request in bytes, at least 512.
    pub max_bio_bytes: u32,
    /// Always 0.
    pub queue_order_type: u16,
    /// Flags.
    pub flags: SizeFlags,
    /// Only with feature WSAME.
    pub queue: Option<QueueLimits>,
}

/// Flags of [`Sizes`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SizeFlags(pub u16);

impl SizeFlags {
    /// The user forced the size.
    pub const FORCED: Self = Self(1);
    /// Do not resync the space that was added.
    pub const NO_RESYNC: Self = Self(2);
}

impl<'a> Layout<'a> for Sizes {
    fn decode(terms: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            Some(Self {
                disk: SectorCount(input.u64()?),
                user: SectorCount(input.u64()?),
                current: SectorCount(input.u64()?),
                max_bio_bytes: input.u32()?,
                queue_order_type: input.u16()?,
                flags: SizeFlags(input.u16()?),
                queue: None,
            })
        };
        let mut sizes = read().ok_or_else(|| size_error(frame))?;
        for size in [sizes.disk, sizes.user, sizes.current] {
            if size.bytes().is_none() {
                return Err(PacketError::Value(frame.command(), "size", size.0));
            }
        }
        if sizes.max_bio_bytes < 512 {
            let found = u64::from(sizes.max_bio_bytes);
            return Err(PacketError::Value(frame.command(), "request limit", found));
        }
        if terms.features.contains(FeatureFlags::WSAME) {
            let mut read = || {
                Some(QueueLimits {
                    physical_block_size: input.u32()?,
                    logical_block_size: input.u32()?,
                    alignment_offset: input.u32()?,
                    io_min: input.u32()?,
                    io_opt: input.u32()?,
                    discard_enabled: input.u8()? != 0,
                    discard_zeroes_data: input.u8()? != 0,
                    write_same_capable: input.u8()? != 0,
                })
            };
            sizes.queue = Some(read().ok_or_else(|| size_error(frame))?);
        }
        Ok(sizes)
    }

    fn encode(&self, terms: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.disk.0);
        out.u64(self.user.0);
        out.u64(self.current.0);
        out.u32(self.max_bio_bytes);
        out.u16(self.queue_order_type);
        out.u16(self.flags.0);
        if terms.features.contains(FeatureFlags::WSAME) {
            let queue = self.queue.unwrap_or_default();
            out.u32(queue.physical_block_size);
            out.u32(queue.logical_block_size);
            out.u32(queue.alignment_offset);
            out.u32(queue.io_min);
            out.u32(queue.io_opt);
            out.u8(u8::from(queue.discard_enabled));
            out.u8(u8::from(queue.discard_zeroes_data));
            out.u8(u8::from(queue.write_same_capable));
            out.u8(0);
        }
        Ok(())
    }
}

impl<'a> Layout<'a> for Offer {
    fn decode(_: &Terms, frame: &Frame, mut input: Reader<'a>) -> Result<Self, PacketError> {
        let mut read = || {
            let min = input.u32()?;
            let flags = FeatureFlags(input.u32()?);
            let max = input.u32()?;
            Some(Self { min, max, flags })
        };
        read().ok_or_else(|| size_error(frame))
    }

    fn encode(&self, _: &Terms, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.min);
        out.u32(self.flags.0);
        out.u32(self.max);
        // Padding and reserved words.
        out.fill(0, 60);
        Ok(())
    }
}
