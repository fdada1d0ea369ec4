//! Whether a CONNECT is let in. No system call, no clock.

use std::fmt;
use std::sync::Arc;

use mqtt_codec::encode::{ConnAck, ConnAckProperties};
use mqtt_codec::{
    Connect, DecodeOptions, Error, Frame, PacketType, PayloadFormat, ReasonCode, Role, Version,
};
use pollio::PeerAddr;
use topicmap::Topic;
use zeroize::Zeroizing;

use super::watch::offence_of_denial;
use crate::auth::{Mechanism, Work};
use crate::config::{ListenerRules, Redirect};
use crate::defence::Offence;
use crate::hooks::{ConnectRequest, Denied, Grant, Hooks};
use crate::message::{ConnectInfo, Will};
use crate::publication::{Parts, Publication};
use crate::shard::Shared;
use crate::sys_topics::is_sys;

/// A CONNECT that is in order, and what its client has to go through before it is let in.
pub(super) struct Admitted {
    pub(super) connect: ConnectInfo,
    pub(super) begin: Option<Begin>,
}

/// How an authentication begins.
pub(super) struct Begin {
    pub(super) request: Arc<ConnectRequest>,
    pub(super) mechanism: Option<Arc<dyn Mechanism>>,
    pub(super) work: Work,
}

/// Why a connection is not let in, and what it is told.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) client_id: Box<str>,
    pub(super) reason: ReasonCode,
    /// The version to answer in; `None` where no answer is due.
    version: Option<Version>,
    /// The largest packet that the client takes; 0 where it has not said, or not legibly.
    packet_bytes_max: u32,
    cause: RefusalCause,
    server_reference: Option<Box<str>>,
    /// What it is held for, if for anything.
    pub(super) offence: Option<Offence>,
}

#[derive(Debug)]
enum RefusalCause {
    Protocol(Error),
    Topic(topicmap::TopicError),
    Rule(&'static str, &'static str),
    Denied(Denied),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            RefusalCause::Protocol(error) => write!(f, "{error}"),
            RefusalCause::Topic(error) => write!(
                f,
                "the will's topic: {error} [{}], at byte {} of the topic",
                error.clause(),
                error.position()
            ),
            RefusalCause::Denied(denied) => write!(f, "{denied}"),
            RefusalCause::Rule(clause, what) => write!(f, "{what} [{clause}]"),
        }
    }
}

impl Refusal {
    /// One that gets no answer: what came was not even a CONNECT.
    pub(super) fn silent(error: Error) -> Self {
        Self {
            offence: Offence::of_reason(error.reason()),
            client_id: Box::default(),
            reason: error.reason(),
            version: None,
            packet_bytes_max: 0,
            cause: RefusalCause::Protocol(error),
            server_reference: None,
        }
    }

    /// A CONNECT that breaks a rule.
    fn rule(
        connect: &Connect<'_>,
        reason: ReasonCode,
        clause: &'static str,
        what: &'static str,
    ) -> Self {
        Self {
            offence: Offence::of_reason(reason),
            client_id: connect.client_id().into(),
            reason,
            version: Some(connect.version()),
            packet_bytes_max: 0,
            cause: RefusalCause::Rule(clause, what),
            server_reference: None,
        }
    }

    /// What came behind CONNECT breaks a rule.
    pub(super) fn breach(
        connect: &ConnectInfo,
        reason: ReasonCode,
        clause: &'static str,
        what: &'static str,
    ) -> Self {
        Self::of(connect, reason, RefusalCause::Rule(clause, what))
    }

    /// What came behind CONNECT cannot be read.
    pub(super) fn protocol(connect: &ConnectInfo, error: Error) -> Self {
        Self::of(connect, error.reason(), RefusalCause::Protocol(error))
    }

    /// Authentication came to nothing.
    pub(super) fn denied(connect: &ConnectInfo, denied: &Denied) -> Self {
        let reason = denied.reason();
        let fits = reason.is_error() && reason.is_allowed_in(PacketType::ConnAck, Role::Client);
        let reason = if fits {
            reason
        } else {
            ReasonCode::UnspecifiedError
        };
        let offence = offence_of_denial(reason);
        Self {
            offence,
            ..Self::of(connect, reason, RefusalCause::Denied(denied.clone()))
        }
    }

    /// The client is banned, and has come all the same.
    pub(super) fn banned(connect: &ConnectInfo) -> Self {
        let what = "the client is banned at this address";
        let cause = RefusalCause::Rule("MQTT 5.0 section 3.2.2.2", what);
        Self {
            offence: Some(Offence::Fruitless),
            ..Self::of(connect, ReasonCode::Banned, cause)
        }
    }

    fn of(connect: &ConnectInfo, reason: ReasonCode, cause: RefusalCause) -> Self {
        Self {
            offence: Offence::of_reason(reason),
            client_id: connect.client_id.clone(),
            reason,
            version: Some(connect.version),
            packet_bytes_max: connect.packet_bytes_max,
            server_reference: None,
            cause,
        }
    }

    /// The CONNACK that says so, or nothing.
    pub(super) fn connack(&self) -> Vec<u8> {
        let Some(version) = self.version else {
            return Vec::new();
        };
        let text = self.to_string();
        let mut packet = ConnAck {
            session_present: false,
            reason: self.reason,
            properties: ConnAckProperties {
                reason_string: Some(&text),
                server_reference: self.server_reference.as_deref(),
                ..ConnAckProperties::default()
            },
        };
        let bytes_max = match self.packet_bytes_max {
            0 => usize::MAX,
            bytes_max => bytes_max as usize,
        };
        // The words must not make it larger than the client takes [MQTT-3.2.2-19], and if it is so
        // without them, it is not sent [MQTT-3.1.2-24].
        if packet.encoded_len(version) > bytes_max {
            packet.properties.reason_string = None;
        }
        if packet.encoded_len(version) > bytes_max {
            return Vec::new();
        }
        packet.encode_to_vec(version)
    }
}

/// Whether what has come so far can become a CONNECT: the first packet has to be one
/// [MQTT-3.1.0-1], and a stranger is not listened to until it is complete.
pub(super) fn first_bytes(bytes: &[u8]) -> Result<(), Refusal> {
    let what = match bytes {
        // A handshake record, which would be taken for a CONNECT with wrong flags.
        [0x16, 3, ..] => "byte 0: TLS on a listener without TLS",
        [first, ..] if first >> 4 != PacketType::Connect as u8 => {
            "byte 0: the first packet is not CONNECT"
        }
        _ => return Ok(()),
    };
    Err(Refusal {
        offence: Some(Offence::Malformed),
        client_id: Box::default(),
        reason: ReasonCode::ProtocolError,
        version: None,
        packet_bytes_max: 0,
        cause: RefusalCause::Rule("MQTT-3.1.0-1", what),
        server_reference: None,
    })
}

/// What is known of a client by the door through which it has come.
pub(super) struct ByDoor<'a> {
    pub(super) rules: Option<&'a Arc<ListenerRules>>,
    pub(super) user: CertifiedUser,
}

/// Whether a client's certificate says which user it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CertifiedUser {
    /// It has none, or nobody wants to know.
    None,
    Named(String),
    /// It should, and does not.
    Illegible,
}

/// Checks a complete first packet.
pub(super) fn check(
    bytes: &[u8],
    frame: &Frame,
    peer: PeerAddr,
    shared: &Shared,
    door: &ByDoor<'_>,
) -> Result<Admitted, Refusal> {
    first_bytes(bytes)?;
    let packet = bytes.get(..frame.total_len).unwrap_or_default();
    let packet =
        mqtt_codec::decode_connect(packet, frame, &DecodeOptions::STRICT).map_err(malformed)?;
    admit(&packet, peer, shared, door).map_err(|refusal| Refusal {
        packet_bytes_max: packet.properties().maximum_packet_size().unwrap_or(0),
        ..refusal
    })
}

/// Checks a legible CONNECT.
fn admit(
    packet: &Connect<'_>,
    peer: PeerAddr,
    shared: &Shared,
    door: &ByDoor<'_>,
) -> Result<Admitted, Refusal> {
    redirect(packet, shared)?;
    if let Some(rules) = door.rules {
        obey(packet, rules)?;
    }
    let mut connect = info(packet, shared, door)?;
    if door.user == CertifiedUser::Illegible {
        let denied = Denied::not_authorized().with_text("the certificate names no user");
        return Err(Refusal::denied(&connect, &denied));
    }
    let begin = begin(packet, &connect, peer, &shared.hooks, door)?;
    if let (None, CertifiedUser::Named(user)) = (&begin, &door.user) {
        connect.grant = Some(Arc::new(Grant::certified(user)));
    }
    Ok(Admitted { connect, begin })
}

/// How the client has to authenticate, if it has to.
fn begin(
    packet: &Connect<'_>,
    connect: &ConnectInfo,
    peer: PeerAddr,
    hooks: &Hooks,
    door: &ByDoor<'_>,
) -> Result<Option<Begin>, Refusal> {
    let properties = packet.properties();
    let (mechanism, work) = if let Some(name) = properties.authentication_method() {
        let mechanism = hooks.mechanism(name).ok_or_else(|| {
            Refusal::rule(
                packet,
                ReasonCode::BadAuthenticationMethod,
                "MQTT-4.12.0-1",
                "there is no such authentication method",
            )
        })?;
        let data = properties.authentication_data().unwrap_or_default();
        let work = Work::Begin(Arc::clone(mechanism), data.to_vec());
        (Some(Arc::clone(mechanism)), work)
    } else if let Some(hook) = &hooks.authenticate {
        (None, Work::Password(Arc::clone(hook)))
    } else if let Some(guard) = &hooks.chain {
        (None, Work::Chain(guard.walk()))
    } else if let CertifiedUser::Named(_) = door.user {
        // Who shows the certificate of a user is that user: it has been verified by the door.
        return Ok(None);
    } else if hooks.authenticates() {
        let denied = Denied::not_authorized().with_text("an authentication method is needed");
        return Err(Refusal::denied(connect, &denied));
    } else {
        return Ok(None);
    };
    let certified_user = match &door.user {
        CertifiedUser::Named(user) => Some(user.as_str().into()),
        _ => None,
    };
    let request = Arc::new(ConnectRequest {
        certified_user,
        client_id: connect.client_id.clone(),
        username: packet.username().map(Into::into),
        password: packet
            .password()
            .map(|password| Zeroizing::new(password.into())),
        peer,
        version: connect.version,
    });
    Ok(Some(Begin {
        request,
        mechanism,
        work,
    }))
}

fn info(connect: &Connect<'_>, shared: &Shared, door: &ByDoor<'_>) -> Result<ConnectInfo, Refusal> {
    let rules = door.rules;
    let by_user = rules.is_some_and(|rules| rules.username_as_client_id);
    let user = match &door.user {
        CertifiedUser::Named(user) => Some(user.as_str()),
        _ => connect.username(),
    };
    let (client_id, client_id_assigned) = client_id(connect, shared, by_user.then_some(user))?;
    let mount = rules.map_or("", |rules| &rules.mount_point);
    let will = will(connect, shared, mount)?;
    let limits = &shared.limits;
    let session_expiry_max_s = rules
        .map_or(u32::MAX, |rules| rules.session_expiry_max_s)
        .min(limits.session_expiry_max_s);
    let (session_expiry_s, session_expiry_imposed) = match connect.version() {
        Version::V5 => {
            let wanted = connect.properties().session_expiry_interval().unwrap_or(0);
            let granted = wanted.min(session_expiry_max_s);
            (granted, granted != wanted)
        }
        _ if connect.clean_start() => (0, false),
        _ => (limits.session_expiry_v3_s.min(session_expiry_max_s), false),
    };
    let keep_alive_max_s = rules
        .map_or(u32::MAX, |rules| rules.keep_alive_max_s)
        .min(limits.keep_alive_max_s);
    let keep_alive_max_s = u16::try_from(keep_alive_max_s).unwrap_or(u16::MAX);
    let exceeds = connect.keep_alive() == 0 || connect.keep_alive() > keep_alive_max_s;
    // 3.x has no way to be told; it holds all the same.
    let keep_alive_imposed = keep_alive_max_s != u16::MAX && exceeds;
    Ok(ConnectInfo {
        version: connect.version(),
        client_id,
        client_id_assigned,
        clean_start: connect.clean_start(),
        keep_alive_s: if keep_alive_imposed {
            keep_alive_max_s
        } else {
            connect.keep_alive()
        },
        keep_alive_imposed,
        session_expiry_s,
        session_expiry_imposed,
        receive_maximum: connect.properties().receive_maximum().unwrap_or(u16::MAX),
        packet_bytes_max: connect.properties().maximum_packet_size().unwrap_or(0),
        topic_alias_max: connect.properties().topic_alias_maximum().unwrap_or(0),
        wants_response_information: connect.properties().request_response_information(),
        wants_problem_information: connect.properties().request_problem_information(),
        will,
        grant: None,
        rules: rules.cloned(),
        enhanced: None,
    })
}

/// What the client's listener asks of a CONNECT.
fn obey(connect: &Connect<'_>, rules: &ListenerRules) -> Result<(), Refusal> {
    let refuse = |reason, clause, what| Err(Refusal::rule(connect, reason, clause, what));
    let is_served = match connect.version() {
        Version::V31 => rules.mqtt_3_1,
        Version::V311 => rules.mqtt_3_1_1,
        Version::V5 => rules.mqtt_5_0,
    };
    if !is_served {
        return refuse(
            ReasonCode::UnsupportedProtocolVersion,
            "MQTT-3.1.2-2",
            "the listener does not serve this version of MQTT",
        );
    }
    if connect.client_id().is_empty() && !rules.empty_client_ids && !rules.username_as_client_id {
        return refuse(
            ReasonCode::ClientIdentifierNotValid,
            "MQTT-3.1.3-8",
            "the listener wants a client id",
        );
    }
    let Some(will) = connect.will() else {
        return Ok(());
    };
    if will.qos as u8 > rules.maximum_qos {
        return refuse(
            ReasonCode::QoSNotSupported,
            "MQTT-3.2.2-12",
            "a will above the maximum QoS of the listener",
        );
    }
    if will.retain && !rules.retain {
        return refuse(
            ReasonCode::RetainNotSupported,
            "MQTT-3.2.2-13",
            "a will with RETAIN, which the listener does not offer",
        );
    }
    Ok(())
}

/// A CONNECT that cannot be read, or may not be let in. Its version may still be known well enough
/// to answer.
fn malformed(error: Error) -> Refusal {
    let version = match (error.reason(), error.version()) {
        // A version that is not served gets the answer that 3.1.1 prescribes [MQTT-3.1.2-2].
        (ReasonCode::UnsupportedProtocolVersion, _) => Some(Version::V311),
        (ReasonCode::ClientIdentifierNotValid, version) => version,
        // 3.x has no return code for other faults: the connection just ends [MQTT-4.8.0-1].
        (_, Some(Version::V5)) => Some(Version::V5),
        _ => None,
    };
    Refusal {
        version,
        ..Refusal::silent(error)
    }
}

/// Sends clients to another server, where that is configured.
fn redirect(connect: &Connect<'_>, shared: &Shared) -> Result<(), Refusal> {
    let (reason, what) = match shared.protocol.redirect {
        Redirect::No => return Ok(()),
        Redirect::UseAnother => (ReasonCode::UseAnotherServer, "use another server"),
        Redirect::Moved => (ReasonCode::ServerMoved, "the server has moved"),
    };
    let mut refusal = Refusal::rule(connect, reason, "MQTT 5.0 section 4.11", what);
    refusal.server_reference = shared.protocol.server_reference.as_deref().map(Into::into);
    Err(refusal)
}

fn client_id(
    connect: &Connect<'_>,
    shared: &Shared,
    by_user: Option<Option<&str>>,
) -> Result<(Box<str>, bool), Refusal> {
    if let Some(user) = by_user {
        return match user.filter(|name| !name.is_empty()) {
            // A 5.0 client that left its id empty is told which one it has [MQTT-3.2.2-16].
            Some(name) => Ok((name.into(), connect.client_id().is_empty())),
            None => Err(Refusal::rule(
                connect,
                ReasonCode::ClientIdentifierNotValid,
                "MQTT-3.1.3-8",
                "the listener takes the user name for the client id, and there is none",
            )),
        };
    }
    if !connect.client_id().is_empty() {
        return Ok((connect.client_id().into(), false));
    }
    let may_be_empty = match connect.version() {
        Version::V31 => false,
        Version::V311 => connect.clean_start(),
        Version::V5 => true,
    };
    if !may_be_empty {
        return Err(Refusal {
            offence: None,
            client_id: Box::default(),
            reason: ReasonCode::ClientIdentifierNotValid,
            version: Some(connect.version()),
            packet_bytes_max: 0,
            server_reference: None,
            cause: RefusalCause::Rule(
                "MQTT-3.1.3-8",
                "an empty client id is only for clean sessions, and not for MQTT 3.1",
            ),
        });
    }
    Ok((shared.assign_client_id(), true))
}

fn will(connect: &Connect<'_>, shared: &Shared, mount: &str) -> Result<Option<Box<Will>>, Refusal> {
    let Some(will) = connect.will() else {
        return Ok(None);
    };
    // No topic at all stays none, to be refused as that.
    let mount = if will.topic.is_empty() { "" } else { mount };
    let topic = format!("{mount}{}", will.topic);
    if is_sys(&topic) {
        return Err(Refusal::rule(
            connect,
            ReasonCode::NotAuthorized,
            "MQTT-4.7.2-1",
            "a will under $SYS/, which is the broker's",
        ));
    }
    if let Err(error) = Topic::parse(&topic, &shared.topic_limits) {
        return Err(Refusal {
            offence: None,
            client_id: connect.client_id().into(),
            reason: ReasonCode::TopicNameInvalid,
            version: Some(connect.version()),
            packet_bytes_max: 0,
            cause: RefusalCause::Topic(error),
            server_reference: None,
        });
    }
    let properties = will.properties;
    let limit = shared.limits.user_properties as usize;
    if properties.user_properties().nth(limit).is_some() {
        let what = "the will has more user properties than limits.user_properties";
        let reason = ReasonCode::QuotaExceeded;
        return Err(Refusal::rule(connect, reason, "MQTT-3.1.3.2.8", what));
    }
    let is_text = properties.payload_format_indicator() == Some(PayloadFormat::Utf8);
    if shared.protocol.check_payload_format && is_text && str::from_utf8(will.payload).is_err() {
        let what = "the will's payload says that it is UTF-8 and is not";
        let reason = ReasonCode::PayloadFormatInvalid;
        return Err(Refusal::rule(connect, reason, "MQTT-3.1.3.2.3", what));
    }
    let parts = Parts {
        topic: &topic,
        properties: properties.pass_through(),
        payload: will.payload,
        qos: will.qos,
        retain: will.retain,
        expires_at_ms: 0,
    };
    Ok(Some(Box::new(Will {
        publication: Publication::from_parts(parts, None),
        expiry_s: properties.message_expiry_interval(),
        delay_s: properties.delay_interval(),
        due_at_ms: 0,
        author: None,
    })))
}
