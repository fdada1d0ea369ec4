//! An epoll reactor: edge-triggered readiness, wakers, mailboxes, listeners and budgets.
//!
//! Take what you need: a [`Poller`] alone, [`net`] with it, or the [`Reactor`], whose loop calls a
//! [`Server`] over a [`Backend`] and so runs the same on [`Epoll`] and in [simulation](sim).
//! Between loops there is the [`mailbox()`].
//!
//! # Examples
//!
//! A server that answers every connection with a greeting, and stops after the first:
//!
//! ```
//! use std::{io::{self, IoSlice, Read}, net::TcpStream};
//! use pollio::{
//!     Backend, Budget, Epoll, Io, Progress, Reactor, ReactorOptions, Readiness, Server, Token,
//!     net::{Accepted, ListenOptions, Listener},
//! };
//!
//! struct Greeter {
//!     listener: Listener,
//!     greeted: usize,
//! }
//!
//! impl Server<Epoll> for Greeter {
//!     fn on_ready(
//!         &mut self,
//!         io: &mut Io<'_, Epoll>,
//!         _: Token,
//!         _: Readiness,
//!         _: &Budget,
//!     ) -> Progress {
//!         while let Ok(Accepted::Stream(stream, _)) = io.accept_next(&self.listener) {
//!             // A new socket has room for a greeting.
//!             let _ = io.write_vectored(&stream, &[IoSlice::new(b"hello")]);
//!             self.greeted += 1;
//!         }
//!         Progress::Done
//!     }
//! }
//!
//! fn main() -> io::Result<()> {
//!     let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), &ListenOptions::default())?;
//!     let mut client = TcpStream::connect(listener.local_addr()?)?;
//!
//!     let mut reactor = Reactor::new(Epoll::new()?, ReactorOptions::default());
//!     reactor.backend().add_listener(&listener, Token(0))?;
//!     let mut greeter = Greeter { listener, greeted: 0 };
//!     reactor.run(&mut greeter, |greeter| greeter.greeted > 0)?;
//!
//!     let mut text = String::new();
//!     client.read_to_string(&mut text)?;
//!     assert_eq!(text, "hello");
//!     Ok(())
//! }
//! ```
//!
//! # Contract
//!
//! ## Draining
//!
//! [`Mode::Edge`] reports a change and then is silent until the next one. After an event the
//! receiver reads until `WouldBlock`, or remembers that it has not: in a [`Server`] by returning
//! [`Progress::More`] or by keeping the token for [`Io::make_ready`]. A read that comes back short
//! also shows that there is nothing left, unless the event said [`Readiness::must_read_to_end`]:
//! then the end or the error lies behind the bytes and no other event tells of it. For writing the
//! same: write first, and count on [`Readiness::is_writable`] only after a write that met
//! `WouldBlock` or took less than it was given.
//!
//! Register a stream once, for [`Interest::BOTH`], when it is opened. Nothing needs to be modified
//! after that.
//!
//! ## Spurious events
//!
//! An event is a hint. A source may be reported although there is nothing to do, a wait may end
//! early without any event (a signal, a wake, a wake that was meant for an earlier wait), and the
//! operation that an event promised may answer `WouldBlock`. Nothing may depend on the contrary.
//! The [simulation](sim) does all of it on purpose.
//!
//! ## Stale tokens
//!
//! A source that is closed or removed while its event already lies in the buffer, or while its
//! token is on the ready list, is still served once. A server that uses a token again must
//! tell the old from the new: put a generation into the upper half of the [`Token`] and compare.
//! When a stream has been handed to another loop, its old loop may see a last event of it, too.
//!
//! ## Ordering
//!
//! Events of one wait come in no order that means anything, but within one source nothing
//! overtakes: bytes, then the end. In a turn, tokens on the ready list come before new events and
//! keep their order. Items of one [`Sender`] arrive in the order in which they were sent. What was
//! written before a [`Waker::wake`] is visible after the wait that it ends.
//!
//! ## Handing over
//!
//! Take the stream out of the one loop ([`Backend::remove_stream`]), send it with whatever was
//! already read, add it to the other. Adding reports what is ready at that time, but knows nothing
//! of bytes that were read before: with those, the new owner puts the token on its ready list.
//!
//! ## Drop
//!
//! Dropping a stream or listener closes it and ends its registration. If another descriptor of the
//! same open file lives on (`try_clone`, a forked process), the registration does too: remove it
//! first. Closing a stream with unread bytes resets the connection, and the peer may lose what was
//! sent last; shut down, read to the end, then drop. A dropped [`Receiver`] drops what is under
//! way; a [`Waker`] outlives its loop harmlessly.
//!
//! # System calls
//!
//! A turn makes one, the wait; reads, writes and accepts come on top. A wake makes one if the loop
//! sleeps and none otherwise. An idle loop makes none: a wait without deadline has no timeout.
//!
//! # Panics
//!
//! Nothing that a peer does makes this crate panic.

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod affinity;
pub mod mailbox;
pub mod net;
pub mod reactor;
pub mod sim;

mod addr;
mod backend;
mod epoll;
mod event;
mod poller;
mod ready;
mod sync;
#[allow(unsafe_code, reason = "system calls that rustix lacks")]
mod sys;
mod waker;

pub use self::{
    addr::PeerAddr,
    backend::Backend,
    epoll::Epoll,
    event::{Events, Interest, Mode, Readiness, Token},
    mailbox::{Full, Mailbox, Receiver, Sender, mailbox},
    poller::Poller,
    reactor::{Budget, Io, Metrics, Progress, Reactor, ReactorOptions, Server, Turn},
    waker::Waker,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
