//! No allocation after warm-up: counted by an allocator, alone in its process.
//!
//! Ground rules of the unsafe code: the allocator passes every call on to the system's, unchanged,
//! and keeps its promises by doing nothing else but count.

#![cfg(not(loom))]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{IoSlice, Write},
    net::TcpStream,
};

use pollio::{
    Backend, Budget, Epoll, Interest, Io, Mode, Progress, Reactor, ReactorOptions, Readiness,
    Receiver, Server, Token, mailbox,
    net::{ListenOptions, Listener, Stream},
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: All calls go to the system's allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: The caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: The caller's promises are passed on; `alloc` took the memory from there.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAUSED: Token = Token(77);

/// Reads and writes back, hands batches to itself, and keeps tokens on the ready list.
struct Busy {
    stream: Stream,
    inbox: Receiver<u64>,
    items: Vec<u64>,
    outgoing: Vec<u64>,
    received: usize,
}

impl Server<Epoll> for Busy {
    fn on_ready(
        &mut self,
        io: &mut Io<'_, Epoll>,
        token: Token,
        _: Readiness,
        _: &Budget,
    ) -> Progress {
        if token != PAUSED {
            let mut buf = [0; 64];
            if let Ok(count) = io.read(&self.stream, &mut buf) {
                self.received += count;
                let halves = buf[..count].split_at(count / 2);
                let slices = [IoSlice::new(halves.0), IoSlice::new(halves.1)];
                io.write_vectored(&self.stream, &slices).unwrap();
            }
            for n in 0..40 {
                io.make_ready(Token(1000 + n));
            }
        }
        if token.0.is_multiple_of(3) {
            Progress::More
        } else {
            Progress::Done
        }
    }

    fn on_messages(&mut self, _: &mut Io<'_, Epoll>) {
        self.inbox.drain_into(&mut self.items);
        self.items.clear();
        let sender = self.inbox.sender();
        for _ in 0..3 {
            self.outgoing.extend(0..100);
            sender.try_push_all(&mut self.outgoing).unwrap();
        }
        sender.push_unbounded(1);
    }
}

#[test]
fn turns_and_batches_do_not_allocate() {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(&any, &ListenOptions::default()).unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut reactor = Reactor::new(Epoll::new().unwrap(), ReactorOptions::default());
    reactor
        .backend()
        .add_stream(&stream, Token(1), Interest::BOTH, Mode::Edge)
        .unwrap();
    reactor.make_ready(PAUSED);
    let (_, inbox) = mailbox(1000, reactor.waker());
    let mut server = Busy {
        stream,
        inbox,
        items: Vec::new(),
        outgoing: Vec::new(),
        received: 0,
    };
    let mut run = |turns: usize| {
        for _ in 0..turns {
            peer.write_all(b"ping").unwrap();
            reactor.turn(&mut server).unwrap();
        }
    };
    run(100);
    let before = ALLOCATIONS.with(Cell::get);
    run(1000);
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert!(server.received > 4000);
}
