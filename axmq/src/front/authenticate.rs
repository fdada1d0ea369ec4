//! A connection whose client has to say who it is: it waits here, with its deadline, while the auth
//! pool works, and through the exchange of an enhanced authentication (MQTT 5.0 section 4.12).

use std::fmt;
use std::sync::Arc;

use mqtt_codec::encode::Auth;
use mqtt_codec::{Packet, ReasonCode, Role, Scan, Version};
use pollio::{Backend, Io, Progress, Token};
use slabmem::Key;

use super::FrontServer;
use super::admit::{Begin, Refusal};
use crate::auth::{Answer, Busy, Enhanced, Mechanism, Turn, Work};
use crate::connack;
use crate::hooks::{Action, Client, ConnectRequest, Decision, Denied};
use crate::message::{ConnectInfo, ToFront};

/// A CONNECT that has been checked and not been answered.
pub(super) struct Pending {
    connect: ConnectInfo,
    request: Arc<ConnectRequest>,
    mechanism: Option<Arc<dyn Mechanism>>,
    turn: Turn,
}

impl Pending {
    /// Whether the client is not listened to, for it is not its turn.
    pub(super) fn is_in_pool(&self) -> bool {
        matches!(self.turn, Turn::Pool)
    }

    pub(super) fn client_id(&self) -> &str {
        &self.connect.client_id
    }

    /// What a client is told whose time is over.
    pub(super) fn too_late(&self) -> Refusal {
        let denied = if self.is_in_pool() {
            Denied::because(ReasonCode::ServerBusy)
        } else {
            Denied::not_authorized()
        };
        Refusal::denied(
            &self.connect,
            &denied.with_text("authentication took too long"),
        )
    }
}

impl<B: Backend> FrontServer<B> {
    /// Puts a connection before the auth pool.
    pub(super) fn begin_authentication(
        &mut self,
        io: &mut Io<'_, B>,
        key: Key,
        connect: ConnectInfo,
        begin: Begin,
    ) {
        let Begin {
            request,
            mechanism,
            work,
        } = begin;
        let pending = Box::new(Pending {
            connect,
            request,
            mechanism,
            turn: Turn::Nobody,
        });
        self.submit(io, key, pending, work);
    }

    fn submit(&mut self, io: &mut Io<'_, B>, key: Key, mut pending: Box<Pending>, work: Work) {
        let sender = self.parts.receiver.sender();
        let request = Arc::clone(&pending.request);
        let submitted = self
            .parts
            .shared
            .hooks
            .pool
            .submit(work, request, move |answer| {
                // At most one for each connection that waits (DECISIONS 2).
                sender.push_unbounded(ToFront::Authenticated(key, Box::new(answer)));
            });
        match submitted {
            Ok(()) => {
                pending.turn = Turn::Pool;
                if let Some(greeting) = self.greetings.get_mut(key) {
                    greeting.pending = Some(pending);
                }
            }
            Err(Busy) => {
                let refusal = Refusal::denied(&pending.connect, &Denied::busy());
                self.refuse(io, key, &refusal);
            }
        }
    }

    /// The pool has an answer. The connection may be gone.
    pub(super) fn on_authenticated(&mut self, io: &mut Io<'_, B>, key: Key, answer: Answer) {
        let Some(greeting) = self.greetings.get_mut(key) else {
            return;
        };
        // One that came too late finds a connection that has been refused.
        let Some(mut pending) = greeting.pending.take_if(|pending| pending.is_in_pool()) else {
            return;
        };
        match answer {
            Answer::Granted(grant, data) => {
                let mut connect = pending.connect;
                connect.grant = Some(Arc::new(grant));
                connect.enhanced = pending
                    .mechanism
                    .map(|mechanism| Box::new(Enhanced { mechanism, data }));
                self.let_in(io, key, connect);
            }
            Answer::Continue(data, exchange) => {
                let Some(mechanism) = &pending.mechanism else {
                    return;
                };
                let challenge = challenge(mechanism.name(), &data);
                let limit = pending.connect.packet_bytes_max;
                if limit != 0 && challenge.len() > limit as usize {
                    // [MQTT-3.1.2-24]
                    let denied = Denied::because(ReasonCode::PacketTooLarge);
                    let refusal = Refusal::denied(&pending.connect, &denied);
                    self.refuse(io, key, &refusal);
                    return;
                }
                pending.turn = Turn::Client(exchange);
                greeting.pending = Some(pending);
                if greeting.send(io, &challenge) {
                    // Whatever came meanwhile made no event that counts.
                    io.make_ready(Token(key.to_bits()));
                } else {
                    self.drop_greeting(key);
                }
            }
            Answer::Denied(denied) => {
                let refusal = Refusal::denied(&pending.connect, &denied);
                self.refuse(io, key, &refusal);
            }
        }
    }

    /// Hands a client over, if it can be told so and its will may be published.
    pub(super) fn let_in(&mut self, io: &mut Io<'_, B>, key: Key, connect: ConnectInfo) {
        let answer = connack::success(&connect, &self.parts.shared, false);
        let refusal = if connack::fits(&answer, &connect) {
            let judged = self.judge_will(key, &connect);
            judged.err().map(|denied| {
                let mut refusal = Refusal::denied(&connect, &denied);
                // It has logged in.
                refusal.offence = None;
                refusal
            })
        } else {
            Some(Refusal::breach(
                &connect,
                ReasonCode::PacketTooLarge,
                "MQTT-3.1.2-24",
                "the client does not take a packet as long as CONNACK",
            ))
        };
        match refusal {
            None => {
                if let Some(connect) = self.hold_back(key, connect) {
                    self.hand_over(io, key, connect);
                }
            }
            Some(refusal) => self.refuse(io, key, &refusal),
        }
    }

    /// A will that its client may not publish refuses the connection: later there is nobody to
    /// tell.
    fn judge_will(&self, key: Key, connect: &ConnectInfo) -> Result<(), Denied> {
        let (Some(will), Some(greeting)) = (&connect.will, self.greetings.get(key)) else {
            return Ok(());
        };
        let client = Client {
            id: &connect.client_id,
            peer: greeting.peer,
            version: connect.version,
            grant: connect.grant.as_deref(),
        };
        let view = will.publication.view();
        let action = Action::Publish {
            topic: view.topic(),
            qos: view.qos(),
            retain: view.retain(),
            is_will: true,
        };
        match self.parts.shared.hooks.decide(&client, &action) {
            Ok(Decision::Allow) => Ok(()),
            Ok(_) => Err(Denied::not_authorized().with_text("not authorized to publish the will")),
            Err(_) => Err(Denied::failed()),
        }
    }

    /// Looks for the packet that an exchange waits for; `None` where more has to be read.
    pub(super) fn examine_exchange(&mut self, io: &mut Io<'_, B>, key: Key) -> Option<Progress> {
        let greeting = self.greetings.get_mut(key)?;
        let pending = greeting.pending.as_deref()?;
        let limits = &self.parts.shared.limits;
        let limit = limits.pre_connect_bytes.min(limits.packet_bytes);
        let frame = match mqtt_codec::scan(&greeting.bytes, limit) {
            Ok(Scan::Incomplete { .. }) => return None,
            Ok(Scan::Frame(frame)) => frame,
            Err(error) => {
                let refusal = Refusal::protocol(&pending.connect, error);
                self.refuse(io, key, &refusal);
                return Some(Progress::More);
            }
        };
        let packet = greeting.bytes.get(..frame.total_len).unwrap_or_default();
        let mechanism = pending.mechanism.as_ref().map_or("", |it| it.name());
        let data = match mqtt_codec::decode(packet, &frame, Version::V5, Role::Server) {
            Ok(Packet::Auth(auth)) if auth.authentication_method() != Some(mechanism) => {
                Err(Some(Refusal::breach(
                    &pending.connect,
                    ReasonCode::BadAuthenticationMethod,
                    "MQTT-4.12.0-5",
                    "AUTH names another method than CONNECT",
                )))
            }
            Ok(Packet::Auth(auth)) if auth.reason() != ReasonCode::ContinueAuthentication => {
                Err(Some(Refusal::breach(
                    &pending.connect,
                    ReasonCode::ProtocolError,
                    "MQTT-4.12.0-3",
                    "the answer to AUTH is AUTH with reason 0x18",
                )))
            }
            Ok(Packet::Auth(auth)) => Ok(auth.authentication_data().unwrap_or_default().to_vec()),
            Ok(Packet::Disconnect(_)) => Err(None),
            Ok(_) => Err(Some(Refusal::breach(
                &pending.connect,
                ReasonCode::ProtocolError,
                "MQTT-3.1.2-30",
                "before CONNACK a client that authenticates sends AUTH or DISCONNECT",
            ))),
            Err(error) => Err(Some(Refusal::protocol(&pending.connect, error))),
        };
        match data {
            Ok(data) => {
                greeting.bytes.drain(..frame.total_len);
                self.greeting_bytes -= frame.total_len as u64;
                let mut pending = greeting.pending.take()?;
                if let Turn::Client(exchange) = std::mem::replace(&mut pending.turn, Turn::Nobody) {
                    self.submit(io, key, pending, Work::Step(exchange, data));
                }
            }
            Err(Some(refusal)) => self.refuse(io, key, &refusal),
            Err(None) => self.left(key, "the client disconnected"),
        }
        Some(Progress::More)
    }
}

/// AUTH that asks for more [MQTT-4.12.0-2].
fn challenge(method: &str, data: &[u8]) -> Vec<u8> {
    let packet = Auth {
        reason: ReasonCode::ContinueAuthentication,
        authentication_method: Some(method),
        authentication_data: (!data.is_empty()).then_some(data),
        ..Auth::default()
    };
    packet.encode_to_vec(Version::V5)
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("request", &self.request)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}
