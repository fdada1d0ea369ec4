//! A cursor over the body of a packet that knows how to say what is wrong, and where.

use crate::error::{Error, ErrorKind, Field};
use crate::frame::{Frame, VarInt, read_var_int, var_int_len};
use crate::text::{self, TextError};
use crate::types::{PacketId, PacketType, Version};

/// Reads fields off the front of a packet's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The offset in the packet at which `rest` ends.
    end: usize,
    packet_type: PacketType,
    version: Option<Version>,
}

impl<'a> Reader<'a> {
    /// Starts behind the fixed header.
    #[inline]
    pub(crate) fn new(
        packet: &'a [u8],
        frame: &Frame,
        version: Option<Version>,
    ) -> Result<Self, Error> {
        let body = packet.get(frame.header_len..);
        let Some(rest) = body.filter(|_| packet.len() == frame.total_len) else {
            let (kind, field) = (ErrorKind::Truncated, Field::RemainingLength);
            return Err(Error::new(kind, field, Some(frame.packet_type), version, 1));
        };
        Ok(Self {
            rest,
            end: frame.total_len,
            packet_type: frame.packet_type,
            version,
        })
    }

    /// Starts behind the fixed header of a packet of which only the beginning is there.
    pub(crate) fn part(beginning: &'a [u8], frame: &Frame, version: Version) -> Self {
        Self {
            rest: beginning.get(frame.header_len..).unwrap_or_default(),
            end: beginning.len(),
            packet_type: frame.packet_type,
            version: Some(version),
        }
    }

    /// Holds what follows against that version.
    pub(crate) fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Splits `len` bytes off into a reader of their own.
    #[inline]
    pub(crate) fn section(&mut self, len: usize, field: Field) -> Result<Self, Error> {
        let at = self.offset();
        let rest = self.bytes(len, field)?;
        Ok(Self {
            rest,
            end: at + len,
            ..*self
        })
    }

    /// Skips these bytes if they are next, and tells whether they were.
    #[inline]
    pub(crate) fn skip<const N: usize>(&mut self, bytes: [u8; N]) -> bool {
        match self.rest.split_first_chunk() {
            Some((&first, rest)) if first == bytes => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// The next bytes, which stay where they are; `None` if there are not so many.
    #[inline]
    pub(crate) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        self.rest.first_chunk().copied()
    }

    /// Skips what [`peek`](Self::peek) showed.
    #[inline]
    pub(crate) fn skip_peeked<const N: usize>(&mut self) {
        self.rest = self.rest.get(N..).unwrap_or_default();
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: Field) -> Result<u8, Error> {
        let Some((&byte, rest)) = self.rest.split_first() else {
            return Err(self.error(ErrorKind::Truncated, field));
        };
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: Field) -> Result<u16, Error> {
        let Some((&bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.error(ErrorKind::Truncated, field));
        };
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: Field) -> Result<u32, Error> {
        let Some((&bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.error(ErrorKind::Truncated, field));
        };
        self.rest = rest;
        Ok(u32::from_be_bytes(bytes))
    }

    /// Reads a packet identifier, which is never zero [MQTT-2.2.1-3, MQTT-2.2.1-4].
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, Error> {
        let at = self.offset();
        let id = self.u16(Field::PacketId)?;
        PacketId::new(id).ok_or_else(|| self.error_at(ErrorKind::PacketIdZero, Field::PacketId, at))
    }

    /// Reads a variable byte integer of minimal length [MQTT-1.5.5-1].
    #[inline]
    pub(crate) fn var_int(&mut self, field: Field) -> Result<u32, Error> {
        match read_var_int(self.rest) {
            VarInt::Value { value, len } => {
                if len != var_int_len(value as usize) {
                    return Err(self.error(ErrorKind::VarIntNotMinimal, field));
                }
                self.rest = self.rest.get(len..).unwrap_or_default();
                Ok(value)
            }
            VarInt::Incomplete => Err(self.error(ErrorKind::Truncated, field)),
            VarInt::TooLong => Err(self.error(ErrorKind::VarIntTooLong, field)),
        }
    }

    /// Reads exactly `len` bytes.
    #[inline]
    pub(crate) fn bytes(&mut self, len: usize, field: Field) -> Result<&'a [u8], Error> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.error(ErrorKind::Truncated, field));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads binary data: two bytes of length, then so many bytes.
    #[inline]
    pub(crate) fn binary(&mut self, field: Field) -> Result<&'a [u8], Error> {
        let at = self.offset();
        let bytes = self
            .rest
            .split_first_chunk()
            .and_then(|(&len, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(len))));
        let Some((bytes, rest)) = bytes else {
            return Err(self.error_at(ErrorKind::Truncated, field, at));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads a string: binary data that is UTF-8 without U+0000.
    #[inline]
    pub(crate) fn string(&mut self, field: Field) -> Result<&'a str, Error> {
        let at = self.offset();
        let bytes = self.binary(field)?;
        text::check(bytes).map_err(|error| self.text_error(error, field, at))
    }

    /// Reads a string that is not needed yet: returns its bytes.
    #[inline]
    pub(crate) fn string_bytes(&mut self, field: Field) -> Result<&'a [u8], Error> {
        let at = self.offset();
        let bytes = self.binary(field)?;
        match text::check_only(bytes) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(self.text_error(error, field, at)),
        }
    }

    /// Shows all that is left.
    #[inline]
    pub(crate) const fn peek_remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes all that is left.
    #[inline]
    pub(crate) fn remaining(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Ends reading: nothing may be left.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.error(ErrorKind::TrailingBytes, Field::End))
        }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The offset in the packet of the next byte.
    #[inline]
    pub(crate) const fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    // Errors take the reader by value: were it borrowed, it could not stay in registers.

    #[cold]
    fn text_error(self, error: TextError, field: Field, at: usize) -> Error {
        let kind = match error {
            TextError::NotUtf8 => ErrorKind::StringNotUtf8,
            TextError::HasNul => ErrorKind::StringHasNul,
        };
        self.error_at(kind, field, at + 2)
    }

    #[cold]
    pub(crate) fn error(self, kind: ErrorKind, field: Field) -> Error {
        self.error_at(kind, field, self.offset())
    }

    #[cold]
    pub(crate) fn error_at(self, kind: ErrorKind, field: Field, offset: usize) -> Error {
        Error::new(kind, field, Some(self.packet_type), self.version, offset)
    }
}
