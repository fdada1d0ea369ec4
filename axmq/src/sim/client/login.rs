//! How a client says who it is, at CONNECT and anew: by password, or by SCRAM-SHA-256 (RFC 5802),
//! whose other side is the broker's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use mqtt_codec::encode;
use mqtt_codec::{Auth, ReasonCode, Version};
use sha2::{Digest, Sha256};

use super::Client;
use crate::auth::scram::NAME;
use crate::sim::hooks::{PASSWORD, ROUNDS, SALT, user};
use crate::sim::report::Feature;
use crate::sim::{Check, World};

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Login {
    /// The broker does not ask.
    None,
    Password,
    Scram,
}

/// How far an exchange has come.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub(super) enum Talk {
    /// There is none.
    #[default]
    Nothing,
    /// The first message is out, this, without its header.
    First(String),
    /// The proof is out: this has to come.
    Proof { signature: String, is_right: bool },
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// `client-final-message`, and the server's signature (RFC 5802 section 3).
fn prove(first: &str, challenge: &str, is_right: bool) -> (String, String) {
    let nonce = challenge.split(',').next().unwrap_or_default();
    let without_proof = format!("c=biws,{nonce}");
    let all = format!("{first},{challenge},{without_proof}");
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(PASSWORD.as_bytes(), SALT, ROUNDS, &mut salted);
    let client_key = hmac(&salted, b"Client Key");
    let stored_key: [u8; 32] = Sha256::digest(client_key).into();
    let mut proof = hmac(&stored_key, all.as_bytes());
    for (byte, key) in proof.iter_mut().zip(client_key) {
        *byte ^= key;
    }
    proof[0] ^= u8::from(!is_right);
    let signature = hmac(&hmac(&salted, b"Server Key"), all.as_bytes());
    (
        format!("{without_proof},p={}", BASE64.encode(proof)),
        format!("v={}", BASE64.encode(signature)),
    )
}

impl Client {
    /// The user name and password for CONNECT, and whether they are right.
    pub(super) fn credentials(
        &self,
        w: &mut World,
    ) -> (Option<String>, Option<&'static str>, bool) {
        if self.login != Login::Password {
            return (None, None, true);
        }
        let is_right = w.is_healing || !w.random.one_in(10);
        let password = if is_right { PASSWORD } else { "wrong" };
        (Some(user(self.me)), Some(password), is_right)
    }

    /// The first message of an exchange.
    pub(super) fn first_message(&mut self) -> Option<String> {
        if self.login != Login::Scram {
            return None;
        }
        self.talks += 1;
        let bare = format!("n={},r=client{}x{}", user(self.me), self.me, self.talks);
        self.talk = Talk::First(bare.clone());
        Some(format!("n,,{bare}"))
    }

    /// Authenticates anew, where it is its turn to begin.
    pub(super) fn authenticate_anew(&mut self, w: &mut World) {
        if self.login != Login::Scram || self.talk != Talk::Nothing {
            return;
        }
        if let Some(first) = self.first_message() {
            w.report.note(Feature::AuthAnew);
            // The broker ends the connection where the auth pool has no room.
            self.will_may_come(w);
            self.send_auth(w, ReasonCode::ReAuthenticate, &first);
        }
    }

    fn send_auth(&mut self, w: &World, reason: ReasonCode, data: &str) {
        let packet = encode::Auth {
            reason,
            authentication_method: Some(NAME),
            authentication_data: Some(data.as_bytes()),
            ..encode::Auth::default()
        };
        let bytes = packet.encode_to_vec(Version::V5);
        self.send(w, &bytes, None);
    }

    pub(super) fn on_auth(&mut self, w: &mut World, packet: &Auth<'_>) -> Check {
        check!(
            packet.authentication_method() == Some(NAME),
            "AUTH names another method"
        );
        let data = packet.authentication_data().unwrap_or_default();
        let data = std::str::from_utf8(data).map_err(|_| "AUTH has data that is no text")?;
        match (packet.reason(), std::mem::take(&mut self.talk)) {
            (ReasonCode::ContinueAuthentication, Talk::First(first)) => {
                let is_right = w.is_healing || !w.random.one_in(8);
                let (proof, signature) = prove(&first, data, is_right);
                self.talk = Talk::Proof {
                    signature,
                    is_right,
                };
                self.send_auth(w, ReasonCode::ContinueAuthentication, &proof);
                Ok(())
            }
            (ReasonCode::Success, talk @ Talk::Proof { .. }) => {
                let is_in = self.conn.as_ref().is_some_and(|conn| conn.is_accepted);
                check!(is_in, "AUTH says that the client is in, before CONNACK");
                w.report.note(Feature::AuthenticatedAnew);
                self.check_signature(&talk, Some(data))
            }
            (reason, talk) => Err(format!("AUTH with {reason:?} comes at {talk:?}")),
        }
    }

    /// The last word of the server, which shows that it knows the password too.
    fn check_signature(&self, talk: &Talk, data: Option<&str>) -> Check {
        let Talk::Proof {
            signature,
            is_right,
        } = talk
        else {
            return Err("the client is in without a proof".into());
        };
        check!(*is_right, "the client is in with a wrong proof");
        check!(
            data == Some(signature),
            "the server does not prove that it knows the password"
        );
        Ok(())
    }

    /// CONNACK lets the client in.
    pub(super) fn check_login(&mut self, w: &mut World, data: Option<&[u8]>) -> Check {
        let is_right = self.conn.as_ref().is_some_and(|conn| conn.is_right);
        check!(is_right, "the client is in with a wrong password");
        match self.login {
            Login::None => Ok(()),
            Login::Password => {
                w.report.note(Feature::LoginByPassword);
                Ok(())
            }
            Login::Scram => {
                w.report.note(Feature::LoginByScram);
                let data = data.and_then(|data| std::str::from_utf8(data).ok());
                let talk = std::mem::take(&mut self.talk);
                self.check_signature(&talk, data)
            }
        }
    }

    /// Whether the broker may refuse what the client has said of itself, with this reason.
    pub(super) fn may_be_denied(&self, w: &World, reason: ReasonCode) -> bool {
        let Some(plan) = &w.plan.hooks else {
            return false;
        };
        let is_wrong = self.conn.as_ref().is_some_and(|conn| !conn.is_right)
            || matches!(
                self.talk,
                Talk::Proof {
                    is_right: false,
                    ..
                }
            );
        let begun_ns = self.conn.as_ref().map_or(0, |conn| conn.begun_ns);
        let passed_ms = (w.site.now_ns() - begun_ns) / 1_000_000 + 1;
        let is_late = passed_ms >= u64::from(w.plan.limits.connect_timeout_ms);
        let is_full = plan.jobs_max < w.plan.clients;
        match reason {
            // MQTT 3.x has one word for what may pass.
            ReasonCode::ServerUnavailable => self.version != Version::V5 && (is_full || is_late),
            ReasonCode::BadUserNameOrPassword => self.login == Login::Password && is_wrong,
            ReasonCode::NotAuthorized => is_late || (self.login == Login::Scram && is_wrong),
            ReasonCode::ServerBusy => is_late,
            ReasonCode::QuotaExceeded => is_full,
            _ => false,
        }
    }
}
