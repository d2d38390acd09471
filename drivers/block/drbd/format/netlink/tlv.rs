//! Reader and writer for the nested attributes of the netlink family, over plain slices.
//!
//! Kernel and tools share this codec. It neither allocates nor panics, whatever the bytes are. It
//! knows nothing of particular attributes: those are described by [`Field`]s elsewhere.
//!
//! An attribute is a 16-bit length (header included), a 16-bit type word and the payload, all in
//! host byte order and padded to four bytes (`reference/netlink.md` 1.4).

/// Bit of the type word that marks an attribute made of attributes.
pub const NESTED: u16 = 0x8000;

/// Bit of the type word with which a sender demands that the attribute be understood.
pub const MANDATORY: u16 = 0x4000;

/// Bits of the type word that hold the attribute number.
pub const NUMBER_MASK: u16 = 0x3fff;

const HEADER_LEN: usize = 4;

/// What the payload of an attribute holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One byte.
    U8,
    /// An unsigned number of four bytes.
    U32,
    /// A signed number of four bytes.
    S32,
    /// An unsigned number of eight bytes.
    U64,
    /// Text that ends with a NUL; the size in bytes counts the NUL.
    Text(usize),
    /// Bytes without further meaning here, at most this many.
    Binary(usize),
}

/// Description of one attribute inside a top-level attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// Number inside the top-level attribute; 0 is never on the wire.
    pub number: u16,
    /// Name as it is written in the specification, for messages.
    pub name: &'static str,
    /// What the payload holds.
    pub kind: Kind,
    /// Whether requests carry [`MANDATORY`] on it.
    pub mandatory: bool,
}

impl Field {
    /// Describes an attribute that every implementation must understand.
    pub const fn mandatory(number: u16, name: &'static str, kind: Kind) -> Self {
        Self {
            number,
            name,
            kind,
            mandatory: true,
        }
    }

    /// Describes an attribute that older implementations may ignore.
    pub const fn optional(number: u16, name: &'static str, kind: Kind) -> Self {
        Self {
            number,
            name,
            kind,
            mandatory: false,
        }
    }

    fn check(&self, payload: &[u8]) -> Result<(), TlvError> {
        let exact = |len: usize| {
            if payload.len() == len {
                Ok(())
            } else {
                Err(TlvError::Length {
                    field: self.name,
                    found: payload.len(),
                })
            }
        };
        match self.kind {
            Kind::U8 => exact(1),
            Kind::U32 | Kind::S32 => exact(4),
            Kind::U64 => exact(8),
            Kind::Text(size) => match payload.iter().position(|byte| *byte == 0) {
                Some(end) if end < size => Ok(()),
                Some(_) => Err(TlvError::TooLong { field: self.name }),
                None if payload.len() > size => Err(TlvError::TooLong { field: self.name }),
                None => Err(TlvError::NotTerminated { field: self.name }),
            },
            Kind::Binary(size) if payload.len() > size => {
                Err(TlvError::TooLong { field: self.name })
            }
            Kind::Binary(_) => Ok(()),
        }
    }
}

/// Why attributes could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlvError {
    /// A length points outside the message, or bytes are left over after the last attribute.
    Malformed,
    /// A number has another width than its attribute demands.
    Length {
        /// The attribute.
        field: &'static str,
        /// Width found, in bytes.
        found: usize,
    },
    /// A required attribute is absent.
    Missing {
        /// The attribute.
        field: &'static str,
    },
    /// A top-level attribute lacks the mark of a nest.
    NotNested {
        /// Its number.
        number: u16,
    },
    /// A text has no NUL at its end.
    NotTerminated {
        /// The attribute.
        field: &'static str,
    },
    /// A text or binary payload does not fit into its attribute.
    TooLong {
        /// The attribute.
        field: &'static str,
    },
    /// The number is not one of those allowed here.
    Unknown {
        /// Its number, without the flag bits.
        number: u16,
        /// Whether the sender demanded that it be understood.
        mandatory: bool,
    },
    /// The payload is well formed, but its value means nothing.
    Value {
        /// The attribute.
        field: &'static str,
    },
}

impl core::fmt::Display for TlvError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Malformed => write!(f, "malformed attribute"),
            Self::Length { field, found } => {
                write!(
                    f,
                    "attribute {field} has an impossible length of {found} bytes"
                )
            }
            Self::Missing { field } => write!(f, "required attribute {field} is missing"),
            Self::NotNested { number } => write!(f, "attribute {number} is not marked as a nest"),
            Self::NotTerminated { field } => write!(f, "text in {field} is not terminated"),
            Self::TooLong { field } => write!(f, "attribute {field} is too long"),
            Self::Unknown {
                number,
                mandatory: true,
            } => {
                write!(
                    f,
                    "attribute {number} is unknown, but the sender insists on it"
                )
            }
            Self::Unknown {
                number,
                mandatory: false,
            } => {
                write!(f, "attribute {number} is unknown")
            }
            Self::Value { field } => write!(f, "attribute {field} has an invalid value"),
        }
    }
}

impl core::error::Error for TlvError {}

/// One attribute as it stands in a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attr<'a> {
    /// Number without the flag bits.
    pub number: u16,
    /// Whether the type word carries [`NESTED`].
    pub nested: bool,
    /// Whether the type word carries [`MANDATORY`].
    pub mandatory: bool,
    /// Payload without padding.
    pub payload: &'a [u8],
}

/// Walks over the attributes of a slice. After an error it ends.
#[derive(Clone, Debug)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// Starts at the front of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn split(bytes: &'a [u8]) -> Option<(Attr<'a>, &'a [u8])> {
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let [l0, l1, t0, t1] = *header;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let word = u16::from_ne_bytes([t0, t1]);
        let payload = bytes.get(HEADER_LEN..len)?;
        // The padding after the last attribute may be missing.
        let rest = bytes.get(padded(len)..).unwrap_or(&[]);
        let attr = Attr {
            number: word & NUMBER_MASK,
            nested: word & NESTED != 0,
            mandatory: word & MANDATORY != 0,
            payload,
        };
        Some((attr, rest))
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Self::split(self.rest) {
            Some((attr, rest)) => {
                self.rest = rest;
                Some(Ok(attr))
            }
            None => {
                self.rest = &[];
                Some(Err(TlvError::Malformed))
            }
        }
    }
}

/// What to do with an attribute that is not described.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unknown {
    /// Ignore it unless the sender insists on it: the way of a tool that reads a newer kernel.
    Ignore,
    /// Refuse it: the way of the kernel module.
    Refuse,
}

/// Attributes of one level, all checked against their descriptions.
#[derive(Clone, Copy, Debug)]
pub struct Nest<'a> {
    bytes: &'a [u8],
}

impl<'a> Nest<'a> {
    /// A nest without attributes.
    pub const EMPTY: Nest<'static> = Nest { bytes: &[] };

    /// Checks the attributes in `bytes` against `fields`.
    ///
    /// # Errors
    ///
    /// The first violation of `reference/netlink.md` 1.5.
    pub fn checked(bytes: &'a [u8], fields: &[Field], unknown: Unknown) -> Result<Self, TlvError> {
        for attr in Attrs::new(bytes) {
            let attr = attr?;
            match fields.iter().find(|field| field.number == attr.number) {
                Some(field) => {
                    if attr.nested && unknown == Unknown::Refuse {
                        return Err(TlvError::Value { field: field.name });
                    }
                    field.check(attr.payload)?;
                }
                None if unknown == Unknown::Ignore && !attr.mandatory => {}
                None => {
                    return Err(TlvError::Unknown {
                        number: attr.number,
                        mandatory: attr.mandatory,
                    })
                }
            }
        }
        Ok(Self { bytes })
    }

    /// Returns the payload of the last attribute with the number of `field`.
    pub fn get(&self, field: &Field) -> Option<&'a [u8]> {
        Attrs::new(self.bytes)
            .map_while(Result::ok)
            .filter(|attr| attr.number == field.number)
            .last()
            .map(|attr| attr.payload)
    }

    /// Whether the attribute is present.
    pub fn has(&self, field: &Field) -> bool {
        self.get(field).is_some()
    }

    /// Whether there is no attribute at all.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads a byte.
    pub fn u8(&self, field: &Field) -> Option<u8> {
        self.get(field)?.first().copied()
    }

    /// Reads an unsigned number of four bytes.
    pub fn u32(&self, field: &Field) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(field)?.try_into().ok()?))
    }

    /// Reads a signed number of four bytes.
    pub fn s32(&self, field: &Field) -> Option<i32> {
        Some(i32::from_ne_bytes(self.get(field)?.try_into().ok()?))
    }

    /// Reads an unsigned number of eight bytes.
    pub fn u64(&self, field: &Field) -> Option<u64> {
        Some(u64::from_ne_bytes(self.get(field)?.try_into().ok()?))
    }

    /// Reads a text, without its NUL.
    pub fn text(&self, field: &Field) -> Option<&'a [u8]> {
        self.get(field).map(text_of)
    }
}

/// Returns the bytes in front of the first NUL.
pub(crate) fn text_of(payload: &[u8]) -> &[u8] {
    payload.split(|byte| *byte == 0).next().unwrap_or(&[])
}

/// The buffer is too small for what was to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoSpace;

impl core::fmt::Display for NoSpace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "message buffer too small")
    }
}

impl core::error::Error for NoSpace {}

/// Appends attributes to a slice. What does not fit leaves no trace.
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
    mark_mandatory: bool,
}

impl<'b> Writer<'b> {
    /// Writes a request: attributes carry [`MANDATORY`] where their description says so.
    pub fn request(buf: &'b mut [u8]) -> Self {
        Self {
            buf,
            len: 0,
            mark_mandatory: true,
        }
    }

    /// Writes a reply or an event: attributes carry no flag except [`NESTED`].
    pub fn reply(buf: &'b mut [u8]) -> Self {
        Self {
            buf,
            len: 0,
            mark_mandatory: false,
        }
    }

    /// Returns the number of bytes written so far, a multiple of four.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns what was written so far.
    pub fn written(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or(&[])
    }

    /// Writes a byte.
    ///
    /// # Errors
    ///
    /// [`NoSpace`], and nothing was written. The same holds for all functions of this type.
    pub fn u8(&mut self, field: &Field, value: u8) -> Result<(), NoSpace> {
        self.put(field, &[value])
    }

    /// Writes an unsigned number of four bytes.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    pub fn u32(&mut self, field: &Field, value: u32) -> Result<(), NoSpace> {
        self.put(field, &value.to_ne_bytes())
    }

    /// Writes a signed number of four bytes.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    pub fn s32(&mut self, field: &Field, value: i32) -> Result<(), NoSpace> {
        self.put(field, &value.to_ne_bytes())
    }

    /// Writes an unsigned number of eight bytes.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    pub fn u64(&mut self, field: &Field, value: u64) -> Result<(), NoSpace> {
        self.put(field, &value.to_ne_bytes())
    }

    /// Writes a flag: a byte 1 if it is set, otherwise nothing.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    pub fn flag(&mut self, field: &Field, set: bool) -> Result<(), NoSpace> {
        if set {
            self.u8(field, 1)
        } else {
            Ok(())
        }
    }

    /// Writes a text up to its first NUL, and a NUL.
    ///
    /// # Errors
    ///
    /// [`NoSpace`], also if the text is longer than the attribute allows.
    pub fn text(&mut self, field: &Field, text: &[u8]) -> Result<(), NoSpace> {
        let text = text_of(text);
        if let Kind::Text(size) = field.kind {
            if text.len() >= size {
                return Err(NoSpace);
            }
        }
        self.append(self.word(field), &[text, &[0]])
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    pub fn put(&mut self, field: &Field, payload: &[u8]) -> Result<(), NoSpace> {
        self.append(self.word(field), &[payload])
    }

    /// Copies an attribute byte by byte, with the type word it came with.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    pub fn echo(&mut self, attr: &Attr<'_>) -> Result<(), NoSpace> {
        let nested = if attr.nested { NESTED } else { 0 };
        let mandatory = if attr.mandatory { MANDATORY } else { 0 };
        self.append(attr.number | nested | mandatory, &[attr.payload])
    }

    /// Writes a top-level attribute whose content `fill` writes. If `fill` fails, all is undone.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    pub fn nest(
        &mut self,
        number: u16,
        fill: impl FnOnce(&mut Self) -> Result<(), NoSpace>,
    ) -> Result<(), NoSpace> {
        let start = self.len;
        let filled = self
            .append(number | NESTED, &[])
            .and_then(|()| fill(self))
            .and_then(|()| self.close(start));
        if filled.is_err() {
            self.len = start;
        }
        filled
    }

    fn close(&mut self, start: usize) -> Result<(), NoSpace> {
        let len = self.len.checked_sub(start).ok_or(NoSpace)?;
        let len = u16::try_from(len).map_err(|_| NoSpace)?;
        let place = self
            .buf
            .get_mut(start..)
            .and_then(|buf| buf.first_chunk_mut::<2>());
        *place.ok_or(NoSpace)? = len.to_ne_bytes();
        Ok(())
    }

    fn word(&self, field: &Field) -> u16 {
        if field.mandatory && self.mark_mandatory {
            field.number | MANDATORY
        } else {
            field.number
        }
    }

    fn append(&mut self, word: u16, parts: &[&[u8]]) -> Result<(), NoSpace> {
        let payload_len: usize = parts.iter().map(|part| part.len()).sum();
        let len = payload_len.checked_add(HEADER_LEN).ok_or(NoSpace)?;
        let len_word = u16::try_from(len).map_err(|_| NoSpace)?;
        let end = self.len.checked_add(padded(len)).ok_or(NoSpace)?;
        let place = self.buf.get_mut(self.len..end).ok_or(NoSpace)?;
        let header = [&len_word.to_ne_bytes()[..], &word.to_ne_bytes()[..]];
        let zeros = [0u8; 3];
        let bytes = header
            .into_iter()
            .chain(parts.iter().copied())
            .chain([&zeros[..]])
            .flatten();
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.len = end;
        Ok(())
    }
}

const fn padded(len: usize) -> usize {
    len.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTE: Field = Field::mandatory(1, "byte", Kind::U8);
    const WORD: Field = Field::optional(2, "word", Kind::U32);
    const LONG: Field = Field::mandatory(3, "long", Kind::U64);
    const TEXT: Field = Field::mandatory(4, "text", Kind::Text(8));
    const BLOB: Field = Field::optional(5, "blob", Kind::Binary(6));
    const FIELDS: &[Field] = &[BYTE, WORD, LONG, TEXT, BLOB];

    fn sample(buf: &mut [u8]) -> usize {
        let mut writer = Writer::request(buf);
        writer.u8(&BYTE, 7).unwrap();
        writer.u32(&WORD, 0x0102_0304).unwrap();
        writer.u64(&LONG, u64::MAX - 1).unwrap();
        writer.text(&TEXT, b"seven77").unwrap();
        writer.put(&BLOB, &[9, 8, 7]).unwrap();
        writer.len()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut buf = [0xff; 128];
        let len = sample(&mut buf);
        let nest = Nest::checked(&buf[..len], FIELDS, Unknown::Refuse).unwrap();
        assert_eq!(nest.u8(&BYTE), Some(7));
        assert_eq!(nest.u32(&WORD), Some(0x0102_0304));
        assert_eq!(nest.u64(&LONG), Some(u64::MAX - 1));
        assert_eq!(nest.text(&TEXT), Some(&b"seven77"[..]));
        assert_eq!(nest.get(&BLOB), Some(&[9, 8, 7][..]));
    }

    #[test]
    fn bytes_are_those_of_netlink() {
        let mut buf = [0xff; 64];
        let mut writer = Writer::request(&mut buf);
        writer.nest(6, |writer| writer.u8(&BYTE, 1)).unwrap();
        #[cfg(target_endian = "little")]
        assert_eq!(
            writer.written(),
            [12, 0, 6, 0x80, 5, 0, 1, 0x40, 1, 0, 0, 0]
        );
        let mut writer = Writer::reply(&mut buf);
        writer.u8(&BYTE, 1).unwrap();
        #[cfg(target_endian = "little")]
        assert_eq!(writer.written(), [5, 0, 1, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn no_truncation_is_misread() {
        let mut buf = [0; 128];
        let len = sample(&mut buf);
        for cut in 0..len {
            if let Ok(nest) = Nest::checked(&buf[..cut], FIELDS, Unknown::Refuse) {
                for field in FIELDS {
                    let whole = Nest::checked(&buf[..len], FIELDS, Unknown::Refuse).unwrap();
                    if let Some(payload) = nest.get(field) {
                        assert_eq!(Some(payload), whole.get(field), "cut at {cut}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_buffer_is_left_as_it_was() {
        for size in 0..24 {
            let mut buf = [0; 24];
            let mut writer = Writer::reply(&mut buf[..size]);
            writer.u32(&WORD, 1).ok();
            let before = writer.len();
            let result = writer.nest(3, |writer| {
                writer.u8(&BYTE, 1)?;
                writer.u8(&BYTE, 2)
            });
            assert_eq!(result.is_err(), size < 8 + 20, "size {size}");
            assert!(result.is_ok() || writer.len() == before);
        }
    }

    #[test]
    fn mandatory_unknown_attributes_are_never_ignored() {
        let mut buf = [0; 64];
        for (mandatory, mode, accepted) in [
            (true, Unknown::Ignore, false),
            (false, Unknown::Ignore, true),
            (true, Unknown::Refuse, false),
            (false, Unknown::Refuse, false),
        ] {
            let stranger = Field {
                number: 99,
                name: "stranger",
                kind: Kind::U8,
                mandatory,
            };
            let mut writer = Writer::request(&mut buf);
            writer.u8(&stranger, 1).unwrap();
            let result = Nest::checked(writer.written(), FIELDS, mode);
            assert_eq!(result.is_ok(), accepted);
            if let Err(error) = result {
                assert_eq!(
                    error,
                    TlvError::Unknown {
                        number: 99,
                        mandatory
                    }
                );
            }
        }
    }

    #[test]
    fn wrong_payloads_are_refused_by_name() {
        let mut buf = [0; 64];
        for (field, payload) in [
            (BYTE, &b"12"[..]),
            (WORD, b"123"),
            (LONG, b"1234"),
            (TEXT, b"no nul"),
            (TEXT, b"8 chars!\0"),
            (BLOB, b"1234567"),
        ] {
            let mut writer = Writer::request(&mut buf);
            writer.put(&field, payload).unwrap();
            let error = Nest::checked(writer.written(), FIELDS, Unknown::Refuse).unwrap_err();
            assert!(error.to_string().contains(field.name), "{error}");
        }
        assert_eq!(
            Writer::request(&mut buf).text(&TEXT, b"8 chars!"),
            Err(NoSpace)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_stumble(bytes: Vec<u8>) {
            for unknown in [Unknown::Ignore, Unknown::Refuse] {
                if let Ok(nest) = Nest::checked(&bytes, FIELDS, unknown) {
                    for field in FIELDS {
                        let payload = nest.get(field);
                        assert!(payload.is_none_or(|payload| field.check(payload).is_ok()));
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for lie in [0u16, 3, 9, 0xffff] {
            let [a, b] = lie.to_ne_bytes();
            let bytes = [a, b, 1, 0, 0, 0, 0, 0];
            assert!(
                Nest::checked(&bytes, FIELDS, Unknown::Ignore).is_err(),
                "{lie}"
            );
        }
    }

    #[test]
    fn a_signed_number_and_a_copied_attribute_are_read_back() {
        let level = Field::mandatory(6, "level", Kind::S32);
        let old = Field::optional(7, "old", Kind::S32);
        assert!(level.mandatory && !old.mandatory);
        let mut buf = [0; 64];
        let mut writer = Writer::request(&mut buf);
        assert!(writer.is_empty());
        writer.s32(&level, -3).unwrap();
        writer.flag(&BYTE, true).unwrap();
        writer.flag(&WORD, false).unwrap();
        assert!(!writer.is_empty());
        let mut copy = [0; 64];
        let mut echo = Writer::reply(&mut copy);
        for attr in Attrs::new(writer.written()) {
            echo.echo(&attr.unwrap()).unwrap();
        }
        assert_eq!(echo.written(), writer.written());
        let nest = Nest::checked(echo.written(), &[level, BYTE], Unknown::Refuse).unwrap();
        assert_eq!((nest.s32(&level), nest.u8(&BYTE)), (Some(-3), Some(1)));
        assert!(!nest.is_empty() && Nest::EMPTY.is_empty());
        assert!(!nest.has(&WORD));
    }

    #[test]
    fn a_text_longer_than_its_attribute_is_neither_written_nor_read() {
        let mut buf = [0; 64];
        let mut writer = Writer::request(&mut buf);
        assert_eq!(writer.text(&TEXT, b"eight888"), Err(NoSpace));
        assert!(writer.is_empty());
        let wide = Field::mandatory(4, "text", Kind::Text(32));
        writer.text(&wide, b"eight888").unwrap();
        let error = Nest::checked(writer.written(), FIELDS, Unknown::Refuse).unwrap_err();
        assert_eq!(error, TlvError::TooLong { field: "text" });
        let open = |bytes: &[u8]| {
            let mut buf = [0; 64];
            let mut writer = Writer::request(&mut buf);
            writer.put(&TEXT, bytes).unwrap();
            Nest::checked(writer.written(), FIELDS, Unknown::Refuse).map(|_| ())
        };
        assert_eq!(open(b"abc"), Err(TlvError::NotTerminated { field: "text" }));
        assert_eq!(open(b"123456789"), Err(TlvError::TooLong { field: "text" }));
    }
}
