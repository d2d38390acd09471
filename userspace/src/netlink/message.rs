//! One message of the family: command, header, attributes.

use drbd_format::netlink::codes::RetCode;
use drbd_format::netlink::ids::{
    tla, Command, Message, UserHeader, FAMILY_VERSION, INFO_TEXT, NO_MINOR,
};
use drbd_format::netlink::record::{Bytes, Text};
use drbd_format::netlink::tlv::{Attrs, Field, NoSpace, TlvError, Unknown, Writer};
use drbd_format::netlink::{info, tlv};
use netlink_packet_core::{DecodeError, Emitable, ParseableParametrized};
use netlink_packet_generic::{GenlFamily, GenlHeader};

/// A message as it is sent and received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DrbdMessage {
    /// Number of the command.
    pub(crate) command: u8,
    /// The family's own header.
    pub(crate) header: UserHeader,
    /// All top-level attributes, not yet checked.
    pub(crate) attrs: Vec<u8>,
}

impl DrbdMessage {
    /// Returns the answer of the kernel.
    pub(crate) fn ret_code(&self) -> RetCode {
        RetCode(i32::from_ne_bytes(self.header.word.to_ne_bytes()))
    }

    /// Returns the minor, if the message is about one.
    pub(crate) fn minor(&self) -> Option<u32> {
        (self.header.minor != NO_MINOR).then_some(self.header.minor)
    }

    /// Returns the attributes for reading.
    pub(crate) fn read(&self) -> Result<Message<'_>, TlvError> {
        Message::answer(&self.attrs)
    }

    /// Returns the texts that the kernel adds to its answer.
    pub(crate) fn info_texts(&self) -> Vec<String> {
        let Some(attr) = self
            .read()
            .ok()
            .and_then(|message| message.raw(tla::CFG_REPLY))
        else {
            return Vec::new();
        };
        Attrs::new(attr.payload)
            .map_while(Result::ok)
            .filter(|attr| attr.number == INFO_TEXT.number)
            .map(|attr| {
                let text = attr.payload.split(|byte| *byte == 0).next().unwrap_or(&[]);
                String::from_utf8_lossy(text).into_owned()
            })
            .collect()
    }

    /// Returns the context of the message.
    pub(crate) fn context(&self) -> Option<info::Context> {
        info::Context::find(&self.read().ok()?).ok()?
    }

    /// Whether a top-level attribute is present.
    pub(crate) fn has(&self, number: u16) -> bool {
        self.read()
            .is_ok_and(|message| message.raw(number).is_some())
    }

    /// Returns a nest whose attributes are checked against `fields`.
    pub(crate) fn nest(&self, number: u16, fields: &[Field]) -> Option<tlv::Nest<'_>> {
        let message = Message::answer(&self.attrs).ok()?;
        let attr = message.raw(number)?;
        tlv::Nest::checked(attr.payload, fields, Unknown::Ignore).ok()
    }
}

impl GenlFamily for DrbdMessage {
    fn family_name() -> &'static str {
        drbd_format::netlink::ids::FAMILY_NAME
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        FAMILY_VERSION
    }
}

impl Emitable for DrbdMessage {
    fn buffer_len(&self) -> usize {
        UserHeader::LEN + self.attrs.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        let (header, attrs) = buffer.split_at_mut(UserHeader::LEN);
        header.copy_from_slice(&self.header.encode());
        attrs[..self.attrs.len()].copy_from_slice(&self.attrs);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for DrbdMessage {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        let (user, attrs) = UserHeader::decode(bytes)
            .map_err(|_| DecodeError::from("message of the family drbd without its header"))?;
        Ok(Self {
            command: header.cmd,
            header: user,
            attrs: attrs.to_vec(),
        })
    }
}

/// A request that is being put together.
#[derive(Debug)]
pub(crate) struct Request {
    command: Command,
    minor: u32,
    flags: u32,
    attrs: Vec<u8>,
}

impl Request {
    /// Starts a request that is about no object yet.
    pub(crate) fn new(command: Command) -> Self {
        Self {
            command,
            minor: NO_MINOR,
            flags: 0,
            attrs: Vec::new(),
        }
    }

    /// Makes it about a minor.
    pub(crate) fn minor(mut self, minor: u32) -> Self {
        self.minor = minor;
        self
    }

    /// Sets flags of the request, such as "set defaults".
    pub(crate) fn flags(mut self, flags: u32) -> Self {
        self.flags |= flags;
        self
    }

    /// Makes it about a resource, and perhaps a volume and a connection of it.
    pub(crate) fn context(
        self,
        resource: Option<&str>,
        volume: Option<u32>,
        endpoints: Option<(&[u8], &[u8])>,
    ) -> Result<Self, NoSpace> {
        let context = info::Context {
            volume,
            resource_name: resource
                .map(|name| Text::new(name.as_bytes()).ok_or(NoSpace))
                .transpose()?,
            my_addr: endpoints.and_then(|(my, _)| Bytes::new(my)),
            peer_addr: endpoints.and_then(|(_, peer)| Bytes::new(peer)),
        };
        self.write(|writer| context.emit(writer))
    }

    /// Adds a top-level attribute.
    pub(crate) fn nest(
        self,
        number: u16,
        fill: impl FnOnce(&mut Writer<'_>) -> Result<(), NoSpace>,
    ) -> Result<Self, NoSpace> {
        self.write(|writer| writer.nest(number, fill))
    }

    fn write(
        mut self,
        fill: impl FnOnce(&mut Writer<'_>) -> Result<(), NoSpace>,
    ) -> Result<Self, NoSpace> {
        let mut buf = [0; 8192];
        let mut writer = Writer::request(&mut buf);
        fill(&mut writer)?;
        self.attrs.extend_from_slice(writer.written());
        Ok(self)
    }

    /// Finishes the request.
    pub(crate) fn into_message(self) -> DrbdMessage {
        DrbdMessage {
            command: self.command.number(),
            header: UserHeader {
                minor: self.minor,
                word: self.flags,
            },
            attrs: self.attrs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drbd_format::options::{NetConf, Section};

    #[test]
    fn a_request_has_context_then_payload() {
        let protocol = Section::Net.find("protocol").unwrap();
        let request = Request::new(Command::Connect)
            .context(Some("r0"), None, Some((&[2, 0], &[2, 1])))
            .unwrap()
            .nest(tla::NET_CONF, |w| {
                protocol.write(w, protocol.parse("A").unwrap())
            })
            .unwrap()
            .into_message();
        assert_eq!(
            request.header,
            UserHeader {
                minor: NO_MINOR,
                word: 0
            }
        );
        let context = request.context().unwrap();
        assert_eq!(context.resource_name, Text::new(b"r0"));
        assert_eq!(context.my_addr, Bytes::new(&[2, 0]));
        let net = NetConf::find(&request.read().unwrap()).unwrap().unwrap();
        assert_eq!(net.wire_protocol.name(), "A");
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut bytes);
        let header = GenlHeader {
            cmd: 10,
            version: 1,
        };
        assert_eq!(
            DrbdMessage::parse_with_param(&bytes, header).unwrap(),
            request
        );
    }

    #[test]
    fn texts_of_the_kernel_are_found() {
        let message = Request::new(Command::Down)
            .nest(tla::CFG_REPLY, |w| {
                w.text(&INFO_TEXT, b"first")?;
                w.text(&INFO_TEXT, b"second")
            })
            .unwrap()
            .into_message();
        assert_eq!(message.info_texts(), ["first", "second"]);
        assert!(Request::new(Command::Down)
            .into_message()
            .info_texts()
            .is_empty());
    }
}
