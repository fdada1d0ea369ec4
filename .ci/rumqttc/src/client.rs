//! One client of either protocol version: what it received arrives on a channel.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{QoS, v5};
use tokio::sync::oneshot;

/// How long anything may take that must happen. Generous: it only shows when it fails.
pub const LIMIT: Duration = Duration::from_secs(10);
const LARGE: u32 = 4 << 20;
const REQUESTS: usize = 4096;

pub type Outcome<T = ()> = Result<T, String>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V4,
    V5,
}

/// Where the broker under test is.
#[derive(Clone)]
pub struct Broker {
    pub host: String,
    pub port: u16,
    /// The authority of its certificate, in PEM; `None` is no TLS.
    pub authority: Option<Vec<u8>>,
    /// By WebSocket; `host` is then what rumqttc wants, a URL.
    pub is_web: bool,
}

/// How a client gets in.
fn transport(broker: &Broker) -> rumqttc::Transport {
    match (&broker.authority, broker.is_web) {
        (None, false) => rumqttc::Transport::Tcp,
        (None, true) => rumqttc::Transport::Ws,
        (Some(authority), false) => rumqttc::Transport::tls(authority.clone(), None, None),
        (Some(authority), true) => rumqttc::Transport::wss(authority.clone(), None, None),
    }
}

/// A message as a subscriber saw it.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: v5::mqttbytes::v5::PublishProperties,
}

enum Event {
    Connected {
        session_present: bool,
        assigned: Option<String>,
    },
    Subscribed(Vec<u8>),
    Unsubscribed,
    Acknowledged,
    Message(Message),
    Gone(String),
}

/// How to connect.
#[derive(Clone, Default)]
pub struct Options {
    pub client_id: String,
    pub keep: bool,
    pub will: Option<(String, &'static str, u8)>,
    pub will_delay: Option<u32>,
    pub session_expiry: Option<u32>,
    pub max_packet_size: Option<u32>,
}

enum Handle {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// A connected client, driven by a thread of its own.
pub struct Client {
    handle: Handle,
    events: Receiver<Event>,
    inbox: Vec<Message>,
    acknowledged: usize,
    gone: Option<String>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub session_present: bool,
    pub assigned: Option<String>,
}

pub fn qos4(level: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

pub fn qos5(level: u8) -> v5::mqttbytes::QoS {
    use v5::mqttbytes::QoS;
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

fn options4(broker: &Broker, options: &Options) -> rumqttc::MqttOptions {
    let mut set = rumqttc::MqttOptions::new(&options.client_id, &broker.host, broker.port);
    set.set_transport(transport(broker));
    set.set_clean_session(!options.keep);
    set.set_max_packet_size(LARGE as usize, LARGE as usize);
    if let Some((topic, payload, qos)) = &options.will {
        set.set_last_will(rumqttc::LastWill::new(topic, *payload, qos4(*qos), false));
    }
    set
}

fn options5(broker: &Broker, options: &Options) -> v5::MqttOptions {
    use v5::mqttbytes::v5::{LastWill, LastWillProperties};
    let mut set = v5::MqttOptions::new(&options.client_id, &broker.host, broker.port);
    set.set_transport(transport(broker));
    set.set_clean_start(!options.keep);
    set.set_session_expiry_interval(options.session_expiry.or(options.keep.then_some(3600)));
    set.set_max_packet_size(options.max_packet_size.or(Some(LARGE)));
    if let Some((topic, payload, qos)) = &options.will {
        let properties = options.will_delay.map(|delay| LastWillProperties {
            delay_interval: Some(delay),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        });
        set.set_last_will(LastWill::new(
            topic,
            *payload,
            qos5(*qos),
            false,
            properties,
        ));
    }
    set
}

fn event4(event: rumqttc::Event) -> Option<Event> {
    use rumqttc::{Packet, SubscribeReasonCode};
    let rumqttc::Event::Incoming(packet) = event else {
        return None;
    };
    Some(match packet {
        Packet::ConnAck(ack) => Event::Connected {
            session_present: ack.session_present,
            assigned: None,
        },
        Packet::SubAck(ack) => {
            let code = |code: &SubscribeReasonCode| match code {
                SubscribeReasonCode::Success(qos) => *qos as u8,
                SubscribeReasonCode::Failure => 0x80,
            };
            Event::Subscribed(ack.return_codes.iter().map(code).collect())
        }
        Packet::UnsubAck(_) => Event::Unsubscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Event::Acknowledged,
        Packet::Publish(publish) => Event::Message(Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties: Default::default(),
        }),
        _ => return None,
    })
}

fn event5(event: v5::Event) -> Option<Event> {
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
    let v5::Event::Incoming(packet) = event else {
        return None;
    };
    Some(match packet {
        Packet::ConnAck(ack) => Event::Connected {
            session_present: ack.session_present,
            assigned: ack
                .properties
                .and_then(|set| set.assigned_client_identifier),
        },
        Packet::SubAck(ack) => {
            let code = |code: &SubscribeReasonCode| match code {
                SubscribeReasonCode::Success(qos) => *qos as u8,
                _ => 0x80,
            };
            Event::Subscribed(ack.return_codes.iter().map(code).collect())
        }
        Packet::UnsubAck(_) => Event::Unsubscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Event::Acknowledged,
        Packet::Publish(publish) => Event::Message(Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties: publish.properties.unwrap_or_default(),
        }),
        Packet::Disconnect(packet) => Event::Gone(format!("{:?}", packet.reason_code)),
        _ => return None,
    })
}

/// Polls an event loop until it fails or is killed; then dropping it closes the socket.
macro_rules! pump {
    ($eventloop:ident, $translate:ident, $events:ident, $killed:ident) => {{
        loop {
            let polled = tokio::select! {
                polled = $eventloop.poll() => polled,
                _ = &mut $killed => return,
            };
            let (event, ended) = match polled {
                Ok(event) => ($translate(event), false),
                Err(error) => (Some(Event::Gone(error.to_string())), true),
            };
            if event.is_some_and(|event| $events.send(event).is_err()) || ended {
                return;
            }
        }
    }};
}

enum Loop {
    V4(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

async fn drive(eventloop: Loop, events: Sender<Event>, mut killed: oneshot::Receiver<()>) {
    match eventloop {
        Loop::V4(mut eventloop) => pump!(eventloop, event4, events, killed),
        Loop::V5(mut eventloop) => pump!(eventloop, event5, events, killed),
    }
}

impl Client {
    /// Connects and waits for the CONNACK.
    pub fn connect(broker: &Broker, version: Version, options: &Options) -> Outcome<Self> {
        let (handle, eventloop) = match version {
            Version::V4 => {
                let (client, eventloop) =
                    rumqttc::AsyncClient::new(options4(broker, options), REQUESTS);
                (Handle::V4(client), Loop::V4(Box::new(eventloop)))
            }
            Version::V5 => {
                let (client, eventloop) = v5::AsyncClient::new(options5(broker, options), REQUESTS);
                (Handle::V5(client), Loop::V5(Box::new(eventloop)))
            }
        };
        let (sender, events) = channel();
        let (kill, killed) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let thread = std::thread::spawn(move || runtime.block_on(drive(eventloop, sender, killed)));
        let mut client = Self {
            handle,
            events,
            inbox: Vec::new(),
            acknowledged: 0,
            gone: None,
            kill: Some(kill),
            thread: Some(thread),
            session_present: false,
            assigned: None,
        };
        let connected = client.wait("CONNACK", |event| match event {
            Event::Connected {
                session_present,
                assigned,
            } => Some((*session_present, assigned.clone())),
            _ => None,
        })?;
        (client.session_present, client.assigned) = connected;
        Ok(client)
    }

    /// Takes in events until `wanted` finds its own; messages and acknowledgements are kept.
    fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> Outcome<T> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(why) = &self.gone {
                return Err(format!("disconnected ({why}) while waiting for {what}"));
            }
            let left = end.saturating_duration_since(Instant::now());
            let event = match self.events.recv_timeout(left) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Err(format!("no {what}")),
                Err(RecvTimeoutError::Disconnected) => Event::Gone("thread ended".into()),
            };
            let found = wanted(&event);
            match event {
                Event::Message(message) => self.inbox.push(message),
                Event::Acknowledged => self.acknowledged += 1,
                Event::Gone(why) => self.gone = Some(why),
                _ => {}
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Subscribes with one filter and returns the code of the SUBACK.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome<u8> {
        let sent = match &self.handle {
            Handle::V4(client) => client
                .try_subscribe(filter, qos4(qos))
                .map_err(|error| error.to_string()),
            Handle::V5(client) => client
                .try_subscribe(filter, qos5(qos))
                .map_err(|error| error.to_string()),
        };
        sent?;
        self.suback()
    }

    /// Subscribes with the options of MQTT 5.0.
    pub fn subscribe5(
        &mut self,
        filter: v5::mqttbytes::v5::Filter,
        id: Option<usize>,
    ) -> Outcome<u8> {
        let Handle::V5(client) = &self.handle else {
            return Err("not a 5.0 client".into());
        };
        let sent = match id {
            Some(id) => client.try_subscribe_many_with_properties(
                [filter],
                v5::mqttbytes::v5::SubscribeProperties {
                    id: Some(id),
                    user_properties: Vec::new(),
                },
            ),
            None => client.try_subscribe_many([filter]),
        };
        sent.map_err(|error| error.to_string())?;
        self.suback()
    }

    fn suback(&mut self) -> Outcome<u8> {
        self.wait("SUBACK", |event| match event {
            Event::Subscribed(codes) => codes.first().copied(),
            _ => None,
        })
    }

    pub fn unsubscribe(&mut self, filter: &str) -> Outcome {
        let sent = match &self.handle {
            Handle::V4(client) => client
                .try_unsubscribe(filter)
                .map_err(|error| error.to_string()),
            Handle::V5(client) => client
                .try_unsubscribe(filter)
                .map_err(|error| error.to_string()),
        };
        sent?;
        self.wait("UNSUBACK", |event| {
            matches!(event, Event::Unsubscribed).then_some(())
        })
    }

    /// Publishes all, and waits for the acknowledgements, if there are to be some.
    pub fn publish(&mut self, topic: &str, payloads: &[Vec<u8>], qos: u8, retain: bool) -> Outcome {
        for payload in payloads {
            let sent = match &self.handle {
                Handle::V4(client) => client
                    .try_publish(topic, qos4(qos), retain, payload.clone())
                    .map_err(|error| error.to_string()),
                Handle::V5(client) => client
                    .try_publish(topic, qos5(qos), retain, payload.clone())
                    .map_err(|error| error.to_string()),
            };
            sent?;
        }
        self.acknowledged(if qos == 0 { 0 } else { payloads.len() })
    }

    /// Publishes with the properties of MQTT 5.0.
    pub fn publish5(
        &mut self,
        topic: &str,
        payload: &[u8],
        properties: v5::mqttbytes::v5::PublishProperties,
    ) -> Outcome {
        let Handle::V5(client) = &self.handle else {
            return Err("not a 5.0 client".into());
        };
        client
            .try_publish_with_properties(topic, qos5(1), false, payload.to_vec(), properties)
            .map_err(|error| error.to_string())?;
        self.acknowledged(1)
    }

    fn acknowledged(&mut self, count: usize) -> Outcome {
        while self.acknowledged < count {
            let what = format!("acknowledgement {} of {count}", self.acknowledged + 1);
            self.wait(&what, |event| {
                matches!(event, Event::Acknowledged).then_some(())
            })?;
        }
        self.acknowledged -= count;
        Ok(())
    }

    /// The next messages in order.
    pub fn take(&mut self, count: usize) -> Outcome<Vec<Message>> {
        while self.inbox.len() < count {
            let what = format!("message {} of {count}", self.inbox.len() + 1);
            self.wait(&what, |event| {
                matches!(event, Event::Message(_)).then_some(())
            })?;
        }
        Ok(self.inbox.drain(..count).collect())
    }

    pub fn take_one(&mut self) -> Outcome<Message> {
        Ok(self.take(1)?.remove(0))
    }

    /// All messages before the first with this payload.
    pub fn take_until(&mut self, payload: &[u8]) -> Outcome<Vec<Message>> {
        let mut taken = Vec::new();
        loop {
            let message = self.take_one()?;
            if message.payload == payload {
                return Ok(taken);
            }
            taken.push(message);
        }
    }

    /// Waits until the connection is lost and returns why.
    pub fn wait_gone(&mut self) -> Outcome<String> {
        if self.gone.is_none() {
            self.wait("end of the connection", |event| {
                matches!(event, Event::Gone(_)).then_some(())
            })?;
        }
        Ok(self.gone.clone().unwrap_or_default())
    }

    /// Disconnects in order.
    pub fn stop(mut self) -> Outcome {
        let sent = match &self.handle {
            Handle::V4(client) => client.try_disconnect().map_err(|error| error.to_string()),
            Handle::V5(client) => client.try_disconnect().map_err(|error| error.to_string()),
        };
        sent?;
        self.wait_gone().map(|_| ())
    }

    /// Loses the connection without DISCONNECT.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(kill) = self.kill.take() {
            // The thread may have ended before.
            let _ = kill.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}
