//! Numbers of the netlink family: commands, top-level attributes, the family's own header.

use super::tlv::{Attr, Attrs, Field, Kind, Nest, TlvError, Unknown};

/// Name of the generic netlink family.
pub const FAMILY_NAME: &str = "drbd";

/// Version of the family; tools refuse to work with any other.
pub const FAMILY_VERSION: u8 = 1;

/// Name of the multicast group that carries all events.
pub const EVENTS_GROUP: &str = "events";

/// `minor` of messages that are not about a minor.
pub const NO_MINOR: u32 = 0xffff_ffff;

/// Largest minor number.
pub const MINOR_MAX: u32 = (1 << 20) - 1;

/// Largest volume number.
pub const VOLUME_MAX: u32 = 65534;

/// Flag of a request: start from the defaults instead of the values in effect.
pub const SET_DEFAULTS: u32 = 1;

/// The family's header, behind the one of generic netlink.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UserHeader {
    /// The minor that the message is about, or [`NO_MINOR`].
    pub minor: u32,
    /// Flags of a request, a [`RetCode`](super::codes::RetCode) in an answer.
    pub word: u32,
}

impl UserHeader {
    /// Size in bytes.
    pub const LEN: usize = 8;

    /// Splits the header from the attributes.
    ///
    /// # Errors
    ///
    /// [`TlvError::Malformed`] if there are fewer than eight bytes.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), TlvError> {
        let (raw, rest) = bytes
            .split_first_chunk::<{ Self::LEN }>()
            .ok_or(TlvError::Malformed)?;
        let [a, b, c, d, e, f, g, h] = *raw;
        let header = Self {
            minor: u32::from_ne_bytes([a, b, c, d]),
            word: u32::from_ne_bytes([e, f, g, h]),
        };
        Ok((header, rest))
    }

    /// Encodes the header.
    pub const fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c, d] = self.minor.to_ne_bytes();
        let [e, f, g, h] = self.word.to_ne_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// Numbers of the top-level attributes.
pub mod tla {
    /// Readable text of an answer.
    pub const CFG_REPLY: u16 = 1;
    /// Which object the message is about.
    pub const CFG_CONTEXT: u16 = 2;
    /// Options of the backing disk.
    pub const DISK_CONF: u16 = 3;
    /// Options of the resource.
    pub const RESOURCE_OPTS: u16 = 4;
    /// Options of the connection.
    pub const NET_CONF: u16 = 5;
    /// Arguments of a role change.
    pub const SET_ROLE_PARMS: u16 = 6;
    /// Arguments of a resize.
    pub const RESIZE_PARMS: u16 = 7;
    /// Status of a volume.
    pub const STATE_INFO: u16 = 8;
    /// Range of a verify run.
    pub const START_OV_PARMS: u16 = 9;
    /// Arguments of new-current-uuid.
    pub const NEW_C_UUID_PARMS: u16 = 10;
    /// Which startup timeout applies.
    pub const TIMEOUT_PARMS: u16 = 11;
    /// Arguments of a disconnect.
    pub const DISCONNECT_PARMS: u16 = 12;
    /// Arguments of a detach.
    pub const DETACH_PARMS: u16 = 13;
    /// State of a resource.
    pub const RESOURCE_INFO: u16 = 15;
    /// State of a volume.
    pub const DEVICE_INFO: u16 = 16;
    /// State of a connection.
    pub const CONNECTION_INFO: u16 = 17;
    /// State of a volume at the peer.
    pub const PEER_DEVICE_INFO: u16 = 18;
    /// Counters of a resource.
    pub const RESOURCE_STATISTICS: u16 = 19;
    /// Counters of a volume.
    pub const DEVICE_STATISTICS: u16 = 20;
    /// Counters of a connection.
    pub const CONNECTION_STATISTICS: u16 = 21;
    /// Counters of a volume at the peer.
    pub const PEER_DEVICE_STATISTICS: u16 = 22;
    /// What kind of event this is.
    pub const NOTIFICATION_HEADER: u16 = 23;
    /// Call of a handler.
    pub const HELPER: u16 = 24;
}

/// The text in [`tla::CFG_REPLY`].
pub const INFO_TEXT: Field = Field::mandatory(1, "info_text", Kind::Text(usize::MAX));

/// How a request names the object it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selector {
    /// By the addresses in the context.
    Connection,
    /// By the minor in the header.
    Minor,
    /// Not at all.
    None,
    /// By the name in the context.
    Resource,
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $selector:ident, [$($tla:ident),*];)*) => {
        /// Commands, dumps and events of the family.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Command {
            $($(#[$doc])* $name = $number,)*
        }

        impl Command {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the command with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns how a request selects its object.
            pub const fn selector(self) -> Selector {
                match self {
                    $(Self::$name => Selector::$selector,)*
                }
            }

            /// Returns the top-level attributes that a request may carry.
            pub const fn allowed(self) -> &'static [u16] {
                match self {
                    $(Self::$name => &[$(tla::$tla),*],)*
                }
            }
        }
    };
}

commands! {
    /// Event: status of a volume (`SIB` broadcast).
    Event = 1, None, [];
    /// Status of one volume, or dump of all.
    GetStatus = 2, Minor, [CFG_CONTEXT];
    /// Adds a volume.
    NewMinor = 5, Resource, [CFG_CONTEXT];
    /// Removes a volume.
    DelMinor = 6, Minor, [CFG_CONTEXT];
    /// Adds a resource.
    NewResource = 7, None, [CFG_CONTEXT, RESOURCE_OPTS];
    /// Removes a resource.
    DelResource = 8, Resource, [CFG_CONTEXT];
    /// Changes the options of a resource.
    ResourceOpts = 9, Resource, [CFG_CONTEXT, RESOURCE_OPTS];
    /// Configures the connection and starts to connect.
    Connect = 10, Resource, [CFG_CONTEXT, NET_CONF];
    /// Ends the connection.
    Disconnect = 11, Connection, [CFG_CONTEXT, DISCONNECT_PARMS];
    /// Attaches a backing disk.
    Attach = 12, Minor, [CFG_CONTEXT, DISK_CONF];
    /// Changes the size of the device.
    Resize = 13, Minor, [CFG_CONTEXT, RESIZE_PARMS];
    /// Promotes.
    Primary = 14, Minor, [CFG_CONTEXT, SET_ROLE_PARMS];
    /// Demotes.
    Secondary = 15, Minor, [CFG_CONTEXT, SET_ROLE_PARMS];
    /// Starts a new data generation.
    NewCurrentUuid = 16, Minor, [CFG_CONTEXT, NEW_C_UUID_PARMS];
    /// Starts an online verify run. The C driver refuses a context here.
    StartVerify = 17, Minor, [START_OV_PARMS];
    /// Detaches the backing disk.
    Detach = 18, Minor, [CFG_CONTEXT, DETACH_PARMS];
    /// Declares the local data out of sync.
    Invalidate = 19, Minor, [CFG_CONTEXT];
    /// Declares the data of the peer out of sync.
    InvalidatePeer = 20, Minor, [CFG_CONTEXT];
    /// Pauses the resync.
    PauseSync = 21, Minor, [CFG_CONTEXT];
    /// Ends a pause of the resync.
    ResumeSync = 22, Minor, [CFG_CONTEXT];
    /// Suspends application requests.
    SuspendIo = 23, Minor, [CFG_CONTEXT];
    /// Ends a suspension of application requests.
    ResumeIo = 24, Minor, [CFG_CONTEXT];
    /// Marks the local data as outdated.
    Outdate = 25, Minor, [CFG_CONTEXT];
    /// Asks which startup timeout applies.
    GetTimeoutType = 26, Minor, [CFG_CONTEXT];
    /// Takes a resource down entirely.
    Down = 27, Resource, [CFG_CONTEXT];
    /// Changes the options of a disk.
    ChangeDiskOpts = 28, Minor, [CFG_CONTEXT, DISK_CONF];
    /// Changes the options of a connection.
    ChangeNetOpts = 29, Connection, [CFG_CONTEXT, NET_CONF];
    /// Dump of resources.
    GetResources = 30, None, [CFG_CONTEXT, RESOURCE_INFO, RESOURCE_STATISTICS];
    /// Dump of volumes.
    GetDevices = 31, None, [CFG_CONTEXT, DEVICE_INFO, DEVICE_STATISTICS];
    /// Dump of connections.
    GetConnections = 32, None, [CFG_CONTEXT, CONNECTION_INFO, CONNECTION_STATISTICS];
    /// Dump of volumes at the peers.
    GetPeerDevices = 33, None, [CFG_CONTEXT, PEER_DEVICE_INFO, PEER_DEVICE_STATISTICS];
    /// Event about a resource.
    ResourceState = 34, None, [];
    /// Event about a volume.
    DeviceState = 35, None, [];
    /// Event about a connection.
    ConnectionState = 36, None, [];
    /// Event about a volume at the peer.
    PeerDeviceState = 37, None, [];
    /// Dump of everything in the form of events.
    GetInitialState = 38, None, [CFG_CONTEXT];
    /// Event: call of a handler.
    Helper = 40, None, [];
    /// End of the dump of everything.
    InitialStateDone = 41, None, [];
}

impl Command {
    /// Returns the number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the highest number of a top-level attribute in a request, 0 if there is none.
    pub fn max_tla(self) -> u16 {
        self.allowed().iter().copied().max().unwrap_or(0)
    }

    /// Whether a request needs the capability to administer the network.
    pub const fn is_privileged(self) -> bool {
        let number = self.number();
        number >= Self::NewMinor.number() && number <= Self::ChangeNetOpts.number()
    }
}

/// The top-level attributes of a message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    unknown: Unknown,
}

impl<'a> Message<'a> {
    /// Reads the attributes of a request as the kernel does: only those that `command` allows,
    /// all marked as nests.
    ///
    /// # Errors
    ///
    /// The first violation of `reference/netlink.md` 1.5, to be answered with `EINVAL`.
    pub fn request(command: Command, bytes: &'a [u8]) -> Result<Self, TlvError> {
        for attr in Attrs::new(bytes) {
            let attr = attr?;
            if !command.allowed().contains(&attr.number) {
                return Err(TlvError::Unknown {
                    number: attr.number,
                    mandatory: attr.mandatory,
                });
            }
            if !attr.nested {
                return Err(TlvError::NotNested {
                    number: attr.number,
                });
            }
        }
        Ok(Self {
            bytes,
            unknown: Unknown::Refuse,
        })
    }

    /// Reads the attributes of an answer or event as tools do: what is not known is skipped.
    ///
    /// # Errors
    ///
    /// [`TlvError::Malformed`].
    pub fn answer(bytes: &'a [u8]) -> Result<Self, TlvError> {
        for attr in Attrs::new(bytes) {
            attr?;
        }
        Ok(Self {
            bytes,
            unknown: Unknown::Ignore,
        })
    }

    /// Returns the attribute as it stands in the message, to be echoed.
    pub fn raw(&self, number: u16) -> Option<Attr<'a>> {
        Attrs::new(self.bytes)
            .map_while(Result::ok)
            .filter(|attr| attr.number == number)
            .last()
    }

    /// Returns the content of a top-level attribute, checked against `fields`; `None` if absent.
    ///
    /// # Errors
    ///
    /// The first violation of `reference/netlink.md` 1.5.
    pub fn nest(&self, number: u16, fields: &[Field]) -> Result<Option<Nest<'a>>, TlvError> {
        self.raw(number)
            .map(|attr| Nest::checked(attr.payload, fields, self.unknown))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tlv::Writer;
    use super::*;

    #[test]
    fn numbers_are_those_of_the_specification() {
        for command in Command::ALL {
            assert_eq!(Command::from_number(command.number()), Some(*command));
        }
        assert_eq!(Command::from_number(0), None);
        assert_eq!(Command::from_number(39), None);
        assert_eq!(Command::from_number(42), None);
        assert_eq!(Command::ChangeNetOpts.max_tla(), 5);
        assert_eq!(Command::StartVerify.allowed(), [9]);
        assert!(!Command::GetStatus.is_privileged());
        assert!(Command::NewResource.is_privileged());
        assert!(!Command::GetResources.is_privileged());
    }

    #[test]
    fn the_header_is_minor_then_word() {
        let header = UserHeader {
            minor: 5,
            word: SET_DEFAULTS,
        };
        let bytes = header.encode();
        assert_eq!(UserHeader::decode(&bytes), Ok((header, &[][..])));
        for cut in 0..UserHeader::LEN {
            assert_eq!(UserHeader::decode(&bytes[..cut]), Err(TlvError::Malformed));
        }
    }

    #[test]
    fn a_request_with_a_foreign_attribute_is_refused() {
        let mut buf = [0; 32];
        let mut writer = Writer::request(&mut buf);
        writer.nest(tla::CFG_CONTEXT, |_| Ok(())).unwrap();
        assert!(Message::request(Command::Down, writer.written()).is_ok());
        assert!(Message::request(Command::StartVerify, writer.written()).is_err());
        let plain = [4, 0, 2, 0];
        assert_eq!(
            Message::request(Command::Down, &plain).unwrap_err(),
            TlvError::NotNested { number: 2 }
        );
    }

    #[test]
    fn a_command_says_what_it_is_about() {
        for (command, selector) in [
            (Command::NewMinor, Selector::Resource),
            (Command::Attach, Selector::Minor),
            (Command::Connect, Selector::Resource),
            (Command::Disconnect, Selector::Connection),
        ] {
            assert_eq!(command.selector(), selector, "{command:?}");
        }
        for command in Command::ALL {
            let _ = command.selector();
        }
    }
}
