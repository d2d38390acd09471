//! Everything that is refused is refused in words that say what was found.

use std::string::ToString;

use crate::disk::al_transaction::TransactionError;
use crate::disk::layout::{LayoutError, Striping};
use crate::disk::superblock::SuperblockError;
use crate::disk::WrongBufferSize;
use crate::netlink::tlv::{NoSpace, TlvError};
use crate::options::{OptionError, ParseError, Unit};
use crate::types::UnknownNumber;
use crate::units::SectorCount;
use crate::wire::command::{Command, FrameError, Stream};
use crate::wire::features::{NoCommonVersion, ProtocolVersion};
use crate::wire::header::HeaderError;
use crate::wire::packet::StreamError;
use crate::wire::payload::PacketError;
use crate::wire::vli::RunError;
use crate::wire::EncodeError;

#[test]
fn metadata_is_refused_with_what_was_found() {
    let striping = Striping::new(0, 8).unwrap_err();
    let geometry = "invalid activity log striping: al_stripes=0, al_stripe_size_4k=8";
    let buffer = "metadata block of 12 bytes, expected 4096";
    let create = "Meta data magic not found. Did you \"drbdadm create-md\"?";
    let size = WrongBufferSize(12);
    for (found, wanted) in [
        (size.to_string(), buffer),
        (SuperblockError::Buffer(size).to_string(), buffer),
        (
            SuperblockError::Unclean.to_string(),
            "Found unclean meta data. Did you \"drbdadm apply-al\"?",
        ),
        (
            SuperblockError::Version(7).to_string(),
            "Found old (0.7) meta data magic. Did you \"drbdadm create-md\"?",
        ),
        (SuperblockError::Version(9).to_string(), create),
        (SuperblockError::Magic(1).to_string(), create),
        (
            SuperblockError::BytesPerBit(512).to_string(),
            "unexpected bm_bytes_per_bit: 512 (expected 4096)",
        ),
        (SuperblockError::Striping(striping).to_string(), geometry),
        (
            LayoutError::TooSmall(SectorCount(7)).to_string(),
            "7 sectors are too few for metadata",
        ),
        (
            LayoutError::TooBig(SectorCount(1 << 50)).to_string(),
            "1125899906842624 sectors are too many for metadata",
        ),
        (LayoutError::Striping(striping).to_string(), geometry),
        (TransactionError::Buffer(size).to_string(), buffer),
        (
            TransactionError::TooManyUpdates(65).to_string(),
            "65 slot changes do not fit into one transaction",
        ),
    ] {
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_frame_is_refused_with_what_was_found() {
    let command = Command::UnplugRemote;
    let length = |min, max| FrameError::Length {
        command,
        found: 3,
        min,
        max,
    };
    let wrong = |stream| FrameError::WrongStream(command, stream).to_string();
    for (found, wanted) in [
        (
            FrameError::UnknownCommand(0x77).to_string(),
            "unknown packet 0x77",
        ),
        (
            wrong(Stream::Meta),
            "P_UNPLUG_REMOTE does not belong on the meta socket",
        ),
        (
            wrong(Stream::Data),
            "P_UNPLUG_REMOTE does not belong on the data socket",
        ),
        (
            wrong(Stream::Initial),
            "P_UNPLUG_REMOTE does not belong on the new socket",
        ),
        (
            FrameError::NotAgreed(command).to_string(),
            "P_UNPLUG_REMOTE was not agreed upon",
        ),
        (
            length(8, 8).to_string(),
            "P_UNPLUG_REMOTE has 3 bytes, expected 8",
        ),
        (
            length(8, 9).to_string(),
            "P_UNPLUG_REMOTE has 3 bytes, expected 8 to 9",
        ),
    ] {
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_header_and_a_payload_are_refused_with_what_was_found() {
    let command = Command::Data;
    let truncated = HeaderError::Truncated {
        needed: 16,
        found: 3,
    };
    let number = UnknownNumber {
        what: "role",
        found: 9,
    };
    for (found, wanted) in [
        (truncated.to_string(), "packet header has 3 of 16 bytes"),
        (
            HeaderError::Magic(1).to_string(),
            "wrong packet magic 0x00000001",
        ),
        (
            HeaderError::Padding(5).to_string(),
            "packet header padding is 0x5, not zero",
        ),
        (number.to_string(), "unknown role 9"),
        (
            PacketError::Size(command, 5).to_string(),
            "P_DATA: fixed part of 5 bytes",
        ),
        (
            PacketError::Value(command, "sector", 16).to_string(),
            "P_DATA: bad sector 0x10",
        ),
        (
            PacketError::Number(command, number).to_string(),
            "P_DATA: unknown role 9",
        ),
        (
            PacketError::Text(command, "name").to_string(),
            "P_DATA: name is not a name",
        ),
        (
            StreamError::Header(truncated).to_string(),
            "packet header has 3 of 16 bytes",
        ),
        (
            StreamError::Frame(FrameError::UnknownCommand(1)).to_string(),
            "unknown packet 0x1",
        ),
        (
            StreamError::Packet(PacketError::Size(command, 5)).to_string(),
            "P_DATA: fixed part of 5 bytes",
        ),
        (ProtocolVersion::INITIAL.to_string(), "80"),
    ] {
        assert_eq!(found, wanted);
    }
    let long = HeaderError::TooLong(1 << 30).to_string();
    assert!(
        long.starts_with("packet of 1073741824 bytes is longer than"),
        "{long}"
    );
    let none = NoCommonVersion {
        peer_min: 102,
        peer_max: 110,
    }
    .to_string();
    assert!(none.contains("102") && none.contains("110"), "{none}");
}

#[test]
fn a_bitmap_and_a_packet_that_can_not_be_written_are_refused_in_words() {
    for (found, wanted) in [
        (
            RunError::Empty.to_string(),
            "compressed bitmap without codes",
        ),
        (
            RunError::Encoding(3).to_string(),
            "compressed bitmap in unknown encoding 3",
        ),
        (
            RunError::Truncated.to_string(),
            "compressed bitmap ends within a code",
        ),
        (
            RunError::Beyond { run: 9, left: 4 }.to_string(),
            "run of 9 bits with 4 bits left in the bitmap",
        ),
        (
            EncodeError::NoSpace {
                needed: 9,
                found: 4,
            }
            .to_string(),
            "packet of 9 bytes does not fit into 4 bytes",
        ),
        (
            EncodeError::NotExpressible("a volume").to_string(),
            "the agreed protocol version cannot express a volume",
        ),
    ] {
        assert_eq!(found, wanted);
    }
}

#[test]
fn an_attribute_is_refused_by_its_name() {
    let field = "size";
    let unknown = |mandatory| TlvError::Unknown {
        number: 9,
        mandatory,
    };
    for (found, wanted) in [
        (TlvError::Malformed, "malformed attribute"),
        (
            TlvError::Length { field, found: 3 },
            "attribute size has an impossible length of 3 bytes",
        ),
        (
            TlvError::Missing { field },
            "required attribute size is missing",
        ),
        (
            TlvError::NotNested { number: 9 },
            "attribute 9 is not marked as a nest",
        ),
        (
            TlvError::NotTerminated { field },
            "text in size is not terminated",
        ),
        (TlvError::TooLong { field }, "attribute size is too long"),
        (
            unknown(true),
            "attribute 9 is unknown, but the sender insists on it",
        ),
        (unknown(false), "attribute 9 is unknown"),
        (
            TlvError::Value { field },
            "attribute size has an invalid value",
        ),
    ] {
        assert_eq!(found.to_string(), wanted);
        assert_eq!(OptionError::from(found).to_string(), wanted);
    }
    assert_eq!(NoSpace.to_string(), "message buffer too small");
    let fixed = OptionError::Invariant { field };
    assert_eq!(fixed.to_string(), "size cannot be changed now");
    assert_eq!(fixed.info_text(), "cannot change invariant setting");
}

#[test]
fn a_value_of_an_option_is_refused_in_words() {
    let range = ParseError::OutOfRange {
        found: 9,
        min: 1,
        max: 8,
        unit: Unit::Sectors,
    };
    for (found, wanted) in [
        (ParseError::NotANumber, "is not a valid number"),
        (ParseError::NotAUnit, "is not a valid unit"),
        (range, "=> 9s out of range [1..8]s."),
        (ParseError::Overflow, "out of range"),
        (ParseError::TooLong, "is too long"),
        (
            ParseError::UnknownChoice,
            "is not one of the possible values",
        ),
        (ParseError::NotASwitch, "is not one of the possible values"),
        (ParseError::NoValue, "is not expected here"),
    ] {
        assert_eq!(found.to_string(), wanted);
    }
}
