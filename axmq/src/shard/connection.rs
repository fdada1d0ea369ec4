//! A connection, as its shard knows it: the compact, hot part of a client.

use std::sync::Arc;

use mqtt_codec::Version;
use pollio::PeerAddr;
use sharedbuf::{ReadBlock, WriteQueue};
use slabmem::Key;
use timerwheel::TimerKey;

use super::Authentication;
use super::aliases::AliasesOut;
use super::rate::Meter;
use crate::config::ListenerRules;
use crate::events::Cause;
use crate::hooks::Grant;
use crate::listener::Seat;
use crate::message::Shown;
use crate::transport::{Fault, Layers};

/// How far a connection has come. The only legal moves are forward; a connection has one owner, so
/// this is a plain enum (DECISIONS 6). What comes before is the front's business.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Connected = 0,
    /// The session is gone; what is left to say is flushed and input is thrown away.
    Closing,
    /// Its write side is shut; the peer has a last moment to read (DECISIONS 8).
    Draining,
}

/// How far a connection has come, and whether anything lies between its socket and MQTT: one byte,
/// so that "connected, and plain" is one comparison for what every message touches.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) struct Stage(u8);

impl Stage {
    const LAYERED: u8 = 0x80;

    /// The stage of a new connection.
    pub(crate) const fn new(is_layered: bool) -> Self {
        Self(if is_layered { Self::LAYERED } else { 0 })
    }

    const fn is_connected(self) -> bool {
        self.0 & !Self::LAYERED == State::Connected as u8
    }
}

/// Bits of [`Connection::flags`].
pub(crate) mod flag {
    /// On the dirty list.
    pub(crate) const DIRTY: u8 = 1;
    /// The last write met a full socket buffer: nothing is written until it says it has room.
    pub(crate) const BLOCKED: u8 = 1 << 1;
    /// Has published: its reading is what back-pressure stops.
    pub(crate) const PUBLISHER: u8 = 1 << 2;
    /// Reading is stopped, by back-pressure.
    pub(crate) const PAUSED: u8 = 1 << 3;
    /// Its out-queue is above the soft mark and presses on its publishers (DECISIONS 22).
    pub(crate) const PRESSED: u8 = 1 << 4;
    /// It makes no progress: it no longer presses, its QoS 0 messages are dropped.
    pub(crate) const STALLED: u8 = 1 << 5;
    /// Some bytes went out since the last look.
    pub(crate) const PROGRESS: u8 = 1 << 6;
    /// The peer has hung up: reading goes on to the very end, since no further edge will come.
    pub(crate) const HUNG_UP: u8 = 1 << 7;
}

/// What only some clients have: by a wish in a CONNECT of 5.0, by authentication, by listener.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Largest packet the client takes [MQTT-3.1.2-24]; 0 is no limit.
    pub(crate) packet_bytes_max: u32,
    /// Topic aliases that the client has set, by number less one.
    pub(crate) aliases: Vec<Option<Box<str>>>,
    /// Bytes of the topics that they stand for.
    pub(crate) alias_bytes: u32,
    /// Those that the broker has set, where the client takes any.
    pub(crate) aliases_out: Option<Box<AliasesOut>>,
    /// The client wants no reason strings [MQTT-3.1.2-29].
    pub(crate) is_terse: bool,
    /// What authentication came to.
    pub(crate) grant: Option<Arc<Grant>>,
    /// What its listener lets it do, where that is not everything.
    pub(crate) rules: Option<Arc<ListenerRules>>,
    /// Its place among the connections of its listener, where those are counted.
    pub(crate) seat: Option<Seat>,
    pub(crate) authentication: Option<Box<Authentication>>,
    /// What it has published, where that is bounded.
    pub(crate) meter: Option<Box<Meter>>,
    /// The end of the grant, where it has one; in the exact wheel.
    pub(crate) grant_timer: Option<TimerKey>,
    /// What lies between its socket and MQTT, where anything does.
    pub(crate) layers: Option<Box<Layers>>,
}

/// Bytes of a packet that has not come in whole.
#[derive(Debug)]
pub(crate) enum Partial {
    /// The start of a small packet, or whole packets that the budget left over.
    Small(Vec<u8>),
    /// A large packet is read straight into a block of its own (DESIGN 4, step 1).
    Large(ReadBlock),
}

/// See the module. What every packet touches comes first, so that it shares a cache line.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Connection<S> {
    pub(crate) out: WriteQueue,
    pub(crate) session: Key,
    pub(crate) partial: Option<Box<Partial>>,
    pub(crate) extras: Option<Box<Extras>>,
    /// Keep-alive in the coarse wheel while connected, the end of lingering in the exact one after.
    pub(crate) timer: Option<TimerKey>,
    pub(crate) stream: S,
    pub(crate) keep_alive_s: u16,
    pub(crate) receive_maximum: u16,
    pub(crate) flags: u8,
    pub(crate) stage: Stage,
    pub(crate) version: Version,
    /// Input that may still be thrown away while closing, in units of 4 KiB.
    pub(crate) discard_left: u8,
    pub(crate) peer: PeerAddr,
}

const _: () = assert!(size_of::<Connection<std::os::fd::OwnedFd>>() <= 72);

impl<S> Connection<S> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    pub(crate) fn clear(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    pub(crate) fn state(&self) -> State {
        match self.stage.0 & !Stage::LAYERED {
            0 => State::Connected,
            1 => State::Closing,
            _ => State::Draining,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stage.is_connected()
    }

    /// Whether it is connected with nothing between its socket and MQTT.
    pub(crate) fn is_plainly_connected(&self) -> bool {
        self.stage == Stage::new(false)
    }

    pub(crate) fn is_layered(&self) -> bool {
        self.stage.0 & Stage::LAYERED != 0
    }

    /// Its layers, where it has any, beside the socket under them.
    pub(crate) fn layers(&mut self) -> Option<(&mut Layers, &S)> {
        let layers = self.extras.as_deref_mut()?.layers.as_deref_mut()?;
        Some((layers, &self.stream))
    }

    /// The certificates that its client has shown, where it has shown any.
    pub(crate) fn shown(&self, connection: Key) -> Option<Shown> {
        let layers = self.extras.as_deref()?.layers.as_deref()?;
        let certificates = layers.certificates();
        (!certificates.is_empty()).then(|| Shown {
            connection,
            listener: layers.listener(),
            certificates: certificates.to_vec(),
        })
    }

    /// Whether a client that leaves by itself is still to be answered: its layers end with a word
    /// from each side.
    pub(crate) fn owes_goodbye(&mut self, cause: &Cause) -> bool {
        let Some((layers, _)) = self.layers() else {
            return false;
        };
        matches!(cause, Cause::ClientDisconnected(_)) || layers.end() == Some(&Fault::Ended)
    }

    /// Moves forward.
    pub(crate) fn advance(&mut self, to: State) {
        assert!(
            to > self.state(),
            "a connection never goes back from {:?} to {to:?}",
            self.state()
        );
        self.stage = Stage(self.stage.0 & Stage::LAYERED | to as u8);
    }

    /// Milliseconds of silence after which the client is taken for dead, one and a half times its
    /// keep alive [MQTT-3.1.2-22]; `None` where it asked for none.
    pub(crate) fn silence_max_ms(&self) -> Option<u64> {
        (self.keep_alive_s != 0).then(|| u64::from(self.keep_alive_s) * 1_500)
    }

    pub(crate) fn packet_bytes_max(&self) -> usize {
        match self
            .extras
            .as_deref()
            .map_or(0, |extras| extras.packet_bytes_max)
        {
            0 => usize::MAX,
            limit => limit as usize,
        }
    }

    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.extras.as_deref()?.grant.as_deref()
    }

    pub(crate) fn is_terse(&self) -> bool {
        self.extras.as_deref().is_some_and(|extras| extras.is_terse)
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn what_every_packet_touches_shares_a_cache_line() {
        assert!(memoffset::span_of!(Connection<OwnedFd>, ..peer).end <= 64);
    }
}
