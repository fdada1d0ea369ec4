//! Where encoders write: a slice, a `BufMut`, or a counter that only learns the length.

use crate::encode::EncodeError;
use crate::frame::{VAR_INT_MAX, var_int_len};
use crate::property::PropertyId;

/// Takes the bytes of a packet in order.
///
/// Lengths are counted by the same code that writes, so that the two cannot differ.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// Notes that the packet cannot be encoded. Only the counter minds.
    fn fail(&mut self, _error: EncodeError) {}

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Puts a variable byte integer in as few bytes as it needs [MQTT-1.5.5-1].
    ///
    /// # Panics
    ///
    /// If the value is above 268,435,455 and this is not the counter.
    #[inline]
    fn put_var_int(&mut self, value: usize) {
        assert!(
            value <= VAR_INT_MAX as usize,
            "the packet or identifier is too large: see `check`"
        );
        let mut rest = value;
        while rest >= 0x80 {
            self.put_u8((rest & 0x7F) as u8 | 0x80);
            rest >>= 7;
        }
        self.put_u8(rest as u8);
    }

    /// Puts binary data or a string with its length of two bytes.
    ///
    /// # Panics
    ///
    /// If there are more than 65,535 bytes and this is not the counter.
    #[inline]
    fn put_binary(&mut self, bytes: &[u8]) {
        let len = u16::try_from(bytes.len());
        self.put_u16(len.expect("a string or binary field is too long: see `check`"));
        self.put(bytes);
    }

    /// Puts a string. U+0000 makes the packet one that nobody accepts.
    #[inline]
    fn put_text(&mut self, text: &str) {
        self.put_binary(text.as_bytes());
    }

    fn property_u8(&mut self, id: PropertyId, value: Option<u8>) {
        if let Some(value) = value {
            self.put_u8(id as u8);
            self.put_u8(value);
        }
    }

    fn property_u16(&mut self, id: PropertyId, value: Option<u16>) {
        if let Some(value) = value {
            self.put_u8(id as u8);
            self.put_u16(value);
        }
    }

    fn property_u32(&mut self, id: PropertyId, value: Option<u32>) {
        if let Some(value) = value {
            self.put_u8(id as u8);
            self.put_u32(value);
        }
    }

    fn property_var_int(&mut self, id: PropertyId, value: u32) {
        if value == 0 || value > VAR_INT_MAX {
            self.fail(EncodeError::ValueOutOfRange);
        }
        self.put_u8(id as u8);
        self.put_var_int(value as usize);
    }

    fn property_binary(&mut self, id: PropertyId, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put_u8(id as u8);
            self.put_binary(value);
        }
    }

    fn property_text(&mut self, id: PropertyId, value: Option<&str>) {
        if let Some(value) = value {
            self.put_u8(id as u8);
            self.put_text(value);
        }
    }

    fn user_properties(&mut self, pairs: &[(&str, &str)]) {
        for (name, value) in pairs {
            self.put_u8(PropertyId::UserProperty as u8);
            self.put_text(name);
            self.put_text(value);
        }
    }

    /// Puts a number that may not be zero.
    fn non_zero<T: PartialEq + From<u8>>(&mut self, value: Option<T>) -> Option<T> {
        if value == Some(T::from(0)) {
            self.fail(EncodeError::ValueOutOfRange);
        }
        value
    }
}

/// Writes to a slice.
pub(crate) struct SliceSink<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> SliceSink<'a> {
    #[inline]
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

impl Sink for SliceSink<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.out[self.len] = value;
        self.len += 1;
    }
}

/// Writes to any `BufMut`.
#[cfg(feature = "bytes")]
pub(crate) struct BufSink<'a, B: ?Sized>(pub(crate) &'a mut B);

#[cfg(feature = "bytes")]
impl<B: bytes::BufMut + ?Sized> Sink for BufSink<'_, B> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }
}

/// Writes to a `Vec`.
#[cfg(feature = "alloc")]
impl Sink for alloc::vec::Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes nothing, counts the bytes, and remembers the first thing that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    pub(crate) len: usize,
    pub(crate) error: Option<EncodeError>,
}

impl Sink for Counter {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
    }

    #[inline]
    fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    #[inline]
    fn put_var_int(&mut self, value: usize) {
        self.len = self.len.saturating_add(var_int_len(value));
        if value > VAR_INT_MAX as usize {
            self.fail(EncodeError::PacketTooLong);
        }
    }

    #[inline]
    fn put_binary(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(2).saturating_add(bytes.len());
        if bytes.len() > usize::from(u16::MAX) {
            self.fail(EncodeError::FieldTooLong);
        }
    }

    #[inline]
    fn put_text(&mut self, text: &str) {
        self.put_binary(text.as_bytes());
    }
}

/// Puts properties behind their length, or nothing before MQTT 5.0.
#[inline]
pub(crate) fn put_properties<S: Sink>(
    out: &mut S,
    version: crate::Version,
    write: &impl PropertyList,
) {
    if !version.has_properties() {
        return;
    }
    let mut counter = Counter::default();
    write.put(&mut counter);
    out.put_var_int(counter.len);
    write.put(out);
}

/// Something that puts properties, the same whenever it is asked.
pub(crate) trait PropertyList {
    fn put<S: Sink>(&self, out: &mut S);
}
