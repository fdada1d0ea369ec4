//! DISCONNECT and AUTH, sections 3.14 and 3.15.

use crate::error::{Error, ErrorKind, Field};
use crate::properties::{Properties, UserProperties};
use crate::property::{PropertyId, set};
use crate::reader::Reader;
use crate::reason::ReasonCode;
use crate::types::{PacketType, Role, Version};
use crate::view::ack::{ack_properties, read_optional_properties, read_reason};

/// A DISCONNECT packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    reason: ReasonCode,
    properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: Version,
        role: Role,
    ) -> Result<Self, Error> {
        let mut view = Self {
            reason: ReasonCode::Success,
            properties: <_>::default(),
        };
        if version.has_properties() && !reader.is_empty() {
            view.reason = read_reason(reader, PacketType::Disconnect, role)?;
            let at = reader.offset();
            view.properties = read_optional_properties(reader, set::DISCONNECT)?;
            let wrong = match role {
                Role::Client => (
                    PropertyId::SessionExpiryInterval,
                    ErrorKind::SessionExpiryFromServer,
                ),
                Role::Server => (PropertyId::ServerReference, ErrorKind::PropertyNotAllowed),
            };
            if view.properties.has(wrong.0) {
                return Err(reader.error_at(wrong.1, Field::Property(wrong.0), at));
            }
        }
        reader.finish()?;
        Ok(view)
    }

    /// Returns the reason code, `Success` before MQTT 5.0.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        self.reason
    }

    property_getters! {
        /// Returns the seconds that the session is to outlive the connection. Only clients send it.
        ///
        /// `None` means what CONNECT said. That a session of 0 seconds cannot be prolonged so is
        /// for the server to check.
        session_expiry_interval: number SessionExpiryInterval;

        /// Returns another server to use. Only servers send it.
        server_reference: text ServerReference;
    }

    ack_properties!();
}

/// An AUTH packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    reason: ReasonCode,
    properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, role: Role) -> Result<Self, Error> {
        let mut view = Self {
            reason: ReasonCode::Success,
            properties: <_>::default(),
        };
        // Only an AUTH of no bytes at all may go without reason and properties, and that means
        // success, which only a server says.
        if reader.is_empty() && role == Role::Client {
            return Ok(view);
        }
        view.reason = read_reason(reader, PacketType::Auth, role)?;
        let at = reader.offset();
        view.properties = Properties::read(reader, set::AUTH, PropertyId::UserProperty.bit())?;
        if !view.properties.has(PropertyId::AuthenticationMethod) {
            let field = Field::Property(PropertyId::AuthenticationMethod);
            return Err(reader.error_at(ErrorKind::AuthMethodMissing, field, at));
        }
        reader.finish()?;
        Ok(view)
    }

    /// Returns the reason code.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        self.reason
    }

    property_getters! {
        /// Returns the name of the authentication. `None` only for an AUTH of no bytes.
        authentication_method: text AuthenticationMethod;

        /// Returns the data of this step.
        authentication_data: binary AuthenticationData;
    }

    ack_properties!();
}
