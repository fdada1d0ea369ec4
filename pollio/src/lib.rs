//! An epoll reactor: edge-triggered readiness, wakers, mailboxes, listeners and budgets.

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
