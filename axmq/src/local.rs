//! Publish and subscribe from within the program that runs the broker.
//!
//! A [`Handle`] reaches the shards by their mailboxes, like everybody else. What it publishes is
//! bounded by a [`Gate`] a shard: a limit on the bytes that are under way.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvError, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mqtt_codec::QoS;
use pollio::Sender;
use pollio::net::Stream;
use slabmem::Key;
use topicmap::{Filter, FilterError, Topic};

use crate::message::{Local, LocalSubscribe, ToShard};
use crate::properties::{InvalidMessage, Properties};
use crate::publication::{Parts, Publication};
use crate::shard::Shared;

/// The most messages that a [`Subscriber`] can hold.
const CAPACITY_MAX: usize = 1 << 20;
/// What a PUBLISH has beside topic, properties and payload, at most: fixed header, lengths, packet
/// id and expiry.
const OVERHEAD_BYTES: usize = 5 + 2 + 2 + 4 + 5;

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as one that must not wait for a shard.
pub(crate) fn this_thread_is_a_shard() {
    IS_SHARD.set(true);
}

/// A message to be published.
///
/// ```
/// use axmq::{Message, QoS};
///
/// let message = Message::new("plant/1/state", "running")
///     .qos(QoS::AtLeastOnce)
///     .retain(true);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a message goes nowhere until it is published"]
pub struct Message {
    topic: String,
    payload: Vec<u8>,
    properties: Properties,
    qos: QoS,
    retain: bool,
    expiry_s: Option<u32>,
}

impl Message {
    /// A message with QoS 0, which does not wait for clients that are away.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            properties: Properties::default(),
            qos: QoS::AtMostOnce,
            retain: false,
            expiry_s: None,
        }
    }

    /// Sets the quality of service at which it is delivered, at most.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Sets whether it is retained; with an empty payload it removes the retained one.
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Sets the properties.
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// Sets after how many seconds nobody gets it any more.
    pub fn expiry_s(mut self, seconds: u32) -> Self {
        self.expiry_s = Some(seconds);
        self
    }
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// No packet could carry it.
    Invalid(InvalidMessage),
    /// As much as the limit `local_bytes` is under way; here it is back.
    Full(Box<Message>),
    /// The broker has stopped.
    Stopped,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Full(_) => f.write_str("too much is under way"),
            Self::Stopped => f.write_str("the broker has stopped"),
        }
    }
}

impl Error for PublishError {}

/// Why a subscription was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The filter is not legal.
    Filter(FilterError),
    /// Shared subscriptions are for clients.
    Shared,
    /// The shard has no room for another session.
    NoRoom,
    /// A hook that runs on a shard must not wait for one.
    OnShard,
    /// The broker has stopped.
    Stopped,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(error) => write!(f, "the filter is not legal: {error}"),
            Self::Shared => f.write_str("a program has no shared subscriptions"),
            Self::NoRoom => f.write_str("the shard has no room for another session"),
            Self::OnShard => f.write_str("a hook must not wait for a shard"),
            Self::Stopped => f.write_str("the broker has stopped"),
        }
    }
}

impl Error for SubscribeError {}

/// Publishes and subscribes from any thread of the program. Clones do the same. Made by
/// [`Running::handle`](crate::Running::handle).
///
/// Messages of one topic keep their order, whatever the handle, as far as the calls have one.
/// Clients get them like those of another client; hooks are not asked.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    shards: Arc<[Sender<ToShard<Stream>>]>,
    turn: Arc<AtomicUsize>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, shards: Vec<Sender<ToShard<Stream>>>) -> Self {
        Self {
            shared,
            shards: shards.into(),
            turn: Arc::default(),
        }
    }

    /// Publishes without waiting. `Ok` says that a shard will route it: from then on the message
    /// is as safe as one that a client has published.
    ///
    /// # Errors
    ///
    /// [`PublishError::Full`] while the broker cannot keep up, and the other variants.
    pub fn try_publish(&self, message: Message) -> Result<(), PublishError> {
        self.publish_if(message, Gate::try_take)
    }

    /// Publishes, and waits while the broker cannot keep up. On a shard's own thread, that is in a
    /// hook, it does not wait.
    ///
    /// # Errors
    ///
    /// As [`try_publish`](Self::try_publish); [`PublishError::Full`] only in a hook.
    pub fn publish(&self, message: Message) -> Result<(), PublishError> {
        if IS_SHARD.get() {
            return self.try_publish(message);
        }
        self.publish_if(message, Gate::take)
    }

    fn publish_if(
        &self,
        message: Message,
        take: impl FnOnce(&Gate, u64) -> Result<(), NotTaken>,
    ) -> Result<(), PublishError> {
        let (shard, publication) = self.prepare(&message).map_err(PublishError::Invalid)?;
        let (Some(gate), Some(sender)) = (self.shared.gates.get(shard), self.shards.get(shard))
        else {
            return Err(PublishError::Stopped);
        };
        match take(gate, publication.cost() as u64) {
            Ok(()) => {
                sender.push_unbounded(ToShard::Local(Local::Publish(
                    publication,
                    message.expiry_s,
                )));
                Ok(())
            }
            Err(NotTaken::Full) => Err(PublishError::Full(Box::new(message))),
            Err(NotTaken::Closed) => Err(PublishError::Stopped),
        }
    }

    /// The message as the shards know it, and the shard that routes it.
    fn prepare(&self, message: &Message) -> Result<(usize, Publication), InvalidMessage> {
        let topic = Topic::parse(&message.topic, &self.shared.topic_limits)
            .map_err(InvalidMessage::Topic)?;
        let properties = message.properties.encode()?;
        let bytes = message.topic.len() + properties.len() + message.payload.len();
        if bytes + OVERHEAD_BYTES > self.shared.limits.packet_bytes as usize {
            return Err(InvalidMessage::TooLarge);
        }
        let parts = Parts {
            topic: &message.topic,
            properties: std::iter::once(&*properties),
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            expires_at_ms: 0,
        };
        let shards = self.shards.len().max(1) as u64;
        let shard = usize::try_from(topic.hash() % shards).unwrap_or(0);
        Ok((shard, Publication::from_parts(parts, None)))
    }

    /// Subscribes: gets the retained messages that match, and whatever is published from now on.
    ///
    /// What a handle published shortly before may be still under way; then it comes too.
    ///
    /// `capacity` is the number of messages, from 1 to 1,048,576, that may wait for the program;
    /// further ones are dropped and counted ([`Subscriber::dropped`]): the broker does not wait.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn subscribe(&self, filter: &str, capacity: usize) -> Result<Subscriber, SubscribeError> {
        if IS_SHARD.get() {
            return Err(SubscribeError::OnShard);
        }
        if filter.starts_with("$share/") {
            return Err(SubscribeError::Shared);
        }
        Filter::parse(filter, &self.shared.topic_limits).map_err(SubscribeError::Filter)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let Some(shard) = self.shards.get(turn % self.shards.len().max(1)) else {
            return Err(SubscribeError::Stopped);
        };
        let (sender, receiver) = mpsc::sync_channel(capacity.clamp(1, CAPACITY_MAX));
        let dropped = Arc::new(AtomicU64::new(0));
        let (reply, answer) = mpsc::channel();
        let outlet = Outlet {
            sender,
            dropped: Arc::clone(&dropped),
        };
        shard.push_unbounded(ToShard::Local(Local::Subscribe(Box::new(LocalSubscribe {
            filter: filter.into(),
            outlet: Arc::new(outlet),
            reply,
        }))));
        let session = answer
            .recv()
            .map_err(|_| SubscribeError::Stopped)?
            .ok_or(SubscribeError::NoRoom)?;
        Ok(Subscriber {
            receiver,
            dropped,
            session,
            shard: shard.clone(),
        })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// A message that a [`Subscriber`] got. Shares its bytes with all who get it.
#[derive(Clone)]
pub struct Received {
    publication: Publication,
    retain: bool,
}

impl Received {
    pub(crate) fn new(publication: Publication, retain: bool) -> Self {
        Self {
            publication,
            retain,
        }
    }

    /// The topic name.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.publication.view().topic()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.publication.view().payload()
    }

    /// The quality of service at which it was published.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.publication.view().qos()
    }

    /// Whether it was there before the subscription.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// The properties, decoded. Allocates.
    #[must_use]
    pub fn properties(&self) -> Properties {
        Properties::decode(self.publication.view().properties())
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("topic", &self.topic())
            .field("payload_len", &self.payload().len())
            .field("qos", &self.qos())
            .field("retain", &self.retain)
            .finish()
    }
}

/// A subscription of the program's own. Dropping it ends it.
pub struct Subscriber {
    receiver: mpsc::Receiver<Received>,
    dropped: Arc<AtomicU64>,
    session: Key,
    shard: Sender<ToShard<Stream>>,
}

impl Subscriber {
    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// When the broker has stopped and nothing is left.
    pub fn recv(&self) -> Result<Received, RecvError> {
        self.receiver.recv()
    }

    /// Waits for the next message, but no longer than `patience`.
    ///
    /// # Errors
    ///
    /// When the time is over, and as [`recv`](Self::recv).
    pub fn recv_timeout(&self, patience: Duration) -> Result<Received, RecvTimeoutError> {
        self.receiver.recv_timeout(patience)
    }

    /// Takes the next message if there is one.
    ///
    /// # Errors
    ///
    /// When there is none now, and as [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Received, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Messages that were dropped because as many waited as may.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shard
            .push_unbounded(ToShard::Local(Local::Unsubscribe(self.session)));
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

/// Where a shard puts the messages of one [`Subscriber`].
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) sender: SyncSender<Received>,
    pub(crate) dropped: Arc<AtomicU64>,
}

impl Outlet {
    /// Puts a message in, or counts it as dropped; `false` then.
    pub(crate) fn put(&self, received: Received) -> bool {
        let is_in = self.sender.try_send(received).is_ok();
        if !is_in {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_in
    }
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum NotTaken {
    Full,
    Closed,
}

/// Bounds the bytes that the program has under way to one shard.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<Passed>,
    changed: Condvar,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Passed {
    bytes: u64,
    is_closed: bool,
}

impl Gate {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Passed> {
        // No code of others runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message that is larger than the limit passes when it is alone.
    fn has_room(&self, state: &Passed, bytes: u64) -> bool {
        state.bytes == 0 || state.bytes + bytes <= self.bytes_max
    }

    fn try_take(&self, bytes: u64) -> Result<(), NotTaken> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(NotTaken::Closed);
        }
        if !self.has_room(&state, bytes) {
            return Err(NotTaken::Full);
        }
        state.bytes += bytes;
        Ok(())
    }

    fn take(&self, bytes: u64) -> Result<(), NotTaken> {
        let state = self.lock();
        let mut state = self
            .changed
            .wait_while(state, |state| {
                !state.is_closed && !self.has_room(state, bytes)
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return Err(NotTaken::Closed);
        }
        state.bytes += bytes;
        Ok(())
    }

    /// So many bytes have been routed.
    pub(crate) fn give_back(&self, bytes: u64) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        drop(state);
        self.changed.notify_all();
    }

    /// The shard has ended.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_through_up_to_its_limit_and_a_large_one_alone() {
        let gate = Gate::new(10);
        assert_eq!(gate.try_take(25), Ok(()));
        assert_eq!(gate.try_take(1), Err(NotTaken::Full));
        gate.give_back(25);
        assert_eq!(gate.try_take(4), Ok(()));
        assert_eq!(gate.try_take(6), Ok(()));
        assert_eq!(gate.try_take(1), Err(NotTaken::Full));
        gate.close();
        assert_eq!(gate.try_take(1), Err(NotTaken::Closed));
        assert_eq!(gate.take(1), Err(NotTaken::Closed));
    }

    #[test]
    fn who_waits_at_a_gate_goes_on_when_there_is_room_or_none_ever() {
        let gate = Arc::new(Gate::new(10));
        gate.try_take(10).expect("it is empty");
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || gate.take(10))
            })
            .collect();
        gate.give_back(10);
        gate.close();
        for thread in waiting {
            // One got through or both were turned away: that is the threads' race.
            let result = thread.join().expect("no panic");
            assert_ne!(result, Err(NotTaken::Full));
        }
    }
}
