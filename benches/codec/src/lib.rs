//! The contenders, and workloads that they share.
//!
//! A contender decodes one whole packet. [`Answer`] is what all of them must agree on before any
//! is measured.

pub mod rivals;
pub mod samples;

/// What a decoder says a packet is, as far as every contender can tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The topic of a PUBLISH, the client identifier of a CONNECT, the last filter of a SUBSCRIBE.
    pub name: String,
    /// The bytes of the payload, the keep-alive time, the number of filters.
    pub size: usize,
    /// The packet identifier, zero if there is none.
    pub packet_id: u16,
    /// The number of user properties of a PUBLISH.
    pub user_properties: usize,
}

impl Answer {
    /// Puts an answer together.
    pub fn new(name: &str, size: usize, packet_id: u16, user_properties: usize) -> Self {
        Self {
            name: name.to_owned(),
            size,
            packet_id,
            user_properties,
        }
    }
}
