//! Structures made of attributes: one description yields the type, its reader and its writer.

use super::tlv::{text_of, Field, Kind, NoSpace, Writer};

/// A value that travels as one attribute.
pub trait Value: Copy {
    /// What the payload holds.
    const KIND: Kind;

    /// Reads a payload that fits [`Self::KIND`]; `None` if it means nothing.
    fn read(payload: &[u8]) -> Option<Self>;

    /// Writes the attribute; an absent value writes nothing.
    ///
    /// # Errors
    ///
    /// [`NoSpace`].
    fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace>;
}

macro_rules! number {
    ($type:ty, $kind:ident, $write:ident) => {
        impl Value for $type {
            const KIND: Kind = Kind::$kind;

            fn read(payload: &[u8]) -> Option<Self> {
                Some(Self::from_ne_bytes(payload.try_into().ok()?))
            }

            fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace> {
                writer.$write(field, *self)
            }
        }
    };
}

number!(u8, U8, u8);
number!(u32, U32, u32);
number!(i32, S32, s32);
number!(u64, U64, u64);

impl Value for bool {
    const KIND: Kind = Kind::U8;

    fn read(payload: &[u8]) -> Option<Self> {
        Some(*payload.first()? != 0)
    }

    fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace> {
        writer.u8(field, u8::from(*self))
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(payload: &[u8]) -> Option<Self> {
        T::read(payload).map(Some)
    }

    fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace> {
        match self {
            Some(value) => value.write(writer, field),
            None => Ok(()),
        }
    }
}

/// Generation UUIDs: current, bitmap, younger and older history.
impl Value for [u64; 4] {
    const KIND: Kind = Kind::Binary(32);

    fn read(payload: &[u8]) -> Option<Self> {
        let mut uuids = [0; 4];
        if payload.len() != 32 {
            return None;
        }
        for (uuid, chunk) in uuids.iter_mut().zip(payload.chunks_exact(8)) {
            *uuid = u64::from_ne_bytes(chunk.try_into().ok()?);
        }
        Some(uuids)
    }

    fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace> {
        let mut bytes = [0; 32];
        for (place, uuid) in bytes.chunks_exact_mut(8).zip(self) {
            place.copy_from_slice(&uuid.to_ne_bytes());
        }
        writer.put(field, &bytes)
    }
}

/// Text of fewer than `N` bytes, kept with a NUL behind it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// The empty text.
    pub const EMPTY: Self = Self { bytes: [0; N] };

    /// Makes a text of `text`; `None` if it is too long or contains a NUL.
    pub fn new(text: &[u8]) -> Option<Self> {
        if text.len() >= N || text.contains(&0) {
            return None;
        }
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { bytes })
    }

    /// Returns the text without its NUL.
    pub fn as_bytes(&self) -> &[u8] {
        text_of(&self.bytes)
    }

    /// Returns the text, or `None` if it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.as_bytes()).ok()
    }

    /// Returns the text with one NUL at its end, as C wants it.
    pub fn as_bytes_with_nul(&self) -> &[u8] {
        let len = self.as_bytes().len();
        self.bytes.get(..=len).unwrap_or(&[0])
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> core::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl<const N: usize> Value for Text<N> {
    const KIND: Kind = Kind::Text(N);

    fn read(payload: &[u8]) -> Option<Self> {
        Self::new(text_of(payload))
    }

    fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace> {
        writer.text(field, self.as_bytes())
    }
}

/// At most `N` bytes.
#[derive(Clone, Copy)]
pub struct Bytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Bytes<N> {
    /// No bytes.
    pub const EMPTY: Self = Self {
        bytes: [0; N],
        len: 0,
    };

    /// Copies `source`; `None` if it is too long.
    pub fn new(source: &[u8]) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Self {
            bytes,
            len: source.len(),
        })
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> PartialEq for Bytes<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for Bytes<N> {}

impl<const N: usize> core::fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_bytes().fmt(f)
    }
}

impl<const N: usize> Value for Bytes<N> {
    const KIND: Kind = Kind::Binary(N);

    fn read(payload: &[u8]) -> Option<Self> {
        Self::new(payload)
    }

    fn write(&self, writer: &mut Writer<'_>, field: &Field) -> Result<(), NoSpace> {
        writer.put(field, self.as_bytes())
    }
}

/// Describes a structure: constant of the field, its number, how it is marked, name, type.
macro_rules! record {
    (
        $(#[$doc:meta])*
        struct $name:ident = $tla:ident {
            $($(#[$field_doc:meta])*
            $const:ident = $nr:literal $mark:ident $field:ident: $type:ty;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// Number of the top-level attribute.
            pub const TLA: u16 = $crate::netlink::ids::tla::$tla;

            $(
                #[doc = concat!("Attribute of `", stringify!($field), "`.")]
                pub const $const: $crate::netlink::tlv::Field = $crate::netlink::tlv::Field::$mark(
                    $nr,
                    stringify!($field),
                    <$type as $crate::netlink::record::Value>::KIND,
                );
            )*

            /// All attributes, in the order of their numbers.
            pub const FIELDS: &'static [$crate::netlink::tlv::Field] = &[$(Self::$const),*];

            /// Takes over every value that is present in `nest`.
            ///
            /// # Errors
            ///
            /// A value that means nothing; values in front of it have been taken over.
            pub fn overlay(
                &mut self,
                nest: &$crate::netlink::tlv::Nest<'_>,
            ) -> Result<(), $crate::netlink::tlv::TlvError> {
                use $crate::netlink::{record::Value, tlv::TlvError};
                $(
                    if let Some(payload) = nest.get(&Self::$const) {
                        self.$field = Value::read(payload)
                            .ok_or(TlvError::Value { field: stringify!($field) })?;
                    }
                )*
                Ok(())
            }

            /// Reads the structure from `message` on top of the default values; `None` if the
            /// message does not contain it.
            ///
            /// # Errors
            ///
            /// The first violation of `reference/netlink.md` 1.5.
            pub fn find(
                message: &$crate::netlink::ids::Message<'_>,
            ) -> Result<Option<Self>, $crate::netlink::tlv::TlvError> {
                let Some(nest) = message.nest(Self::TLA, Self::FIELDS)? else {
                    return Ok(None);
                };
                let mut value = Self::default();
                value.overlay(&nest)?;
                Ok(Some(value))
            }

            /// Writes the top-level attribute with all values in it.
            ///
            /// # Errors
            ///
            /// Too little space; nothing was written.
            pub fn emit(
                &self,
                writer: &mut $crate::netlink::tlv::Writer<'_>,
            ) -> Result<(), $crate::netlink::tlv::NoSpace> {
                use $crate::netlink::record::Value;
                writer.nest(Self::TLA, |writer| {
                    $(self.$field.write(writer, &Self::$const)?;)*
                    Ok(())
                })
            }
        }
    };
}

pub(crate) use record;
