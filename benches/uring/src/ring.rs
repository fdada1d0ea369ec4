//! Streams on an io_uring, with buffers that the kernel may use at any time.
//!
//! Ground rules: a request names memory, and the kernel uses it until the request's last completion
//! has been seen. So that memory is never freed: slots are only added, and [`Ring`] leaks them and
//! its pool when it is dropped. While a request has a buffer, nobody here touches it: `inbound` is
//! the kernel's while `receiving`, `sending` while `busy`, and a buffer of the pool from `give`
//! until the completion that names it. Descriptors are registered by the place of their slot and
//! stay open as long as it.

#![allow(
    unsafe_code,
    reason = "requests and the ring of buffers are memory shared with the kernel"
)]

use std::{
    alloc::{Layout, alloc_zeroed, handle_alloc_error},
    io::{self, ErrorKind},
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{BufRingEntry, Fixed},
};

/// Requests that fit between two system calls; more are submitted in between.
const REQUESTS: u32 = 4096;
const COMPLETIONS: u32 = 4 * REQUESTS;
/// Descriptors that fit.
const SLOTS: u32 = 8192;
/// Of a slot for one-shot receives, and of each in the pool.
const BUFFER_BYTES: usize = 2048;
const POOL_BUFFERS: u16 = 1024;
const POOL: u16 = 0;
/// Do not try before the socket is ready (`IORING_RECVSEND_POLL_FIRST`).
const POLL_FIRST: u16 = 1;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const WATCH: u64 = 3 << 32;
const PLACE: u64 = RECEIVE - 1;

/// How the ring works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Completions are worked off by this thread when it asks for them.
    Deferred,
    /// A thread of the kernel takes requests, on this processor, and spins for so long.
    Polled { cpu: u32, idle_ms: u32 },
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A listener's connection, or that it gives no more.
    Accepted(usize, io::Result<OwnedFd>),
    /// A slot's bytes; none at the end of the stream. `true`: more will come without a request.
    Received(usize, io::Result<Bytes>, bool),
    /// A slot can be read. `true`: this will be said again without a request.
    Readable(usize, bool),
    /// A slot's bytes have been sent, all of them or not.
    Sent(usize, bool),
}

/// Bytes that have been received, to be looked at with [`Ring::bytes`] and given back.
#[derive(Debug)]
pub struct Bytes {
    count: usize,
    buffer: Option<u16>,
}

struct Slot {
    stream: OwnedFd,
    inbound: Box<[u8]>,
    receiving: bool,
    sending: Vec<u8>,
    busy: bool,
}

pub struct Ring {
    uring: ManuallyDrop<IoUring>,
    listeners: Vec<OwnedFd>,
    slots: ManuallyDrop<Vec<Slot>>,
    pool: Pool,
}

impl Ring {
    pub fn new(setup: Setup) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_single_issuer();
        match setup {
            Setup::Deferred => builder.setup_defer_taskrun().setup_coop_taskrun(),
            Setup::Polled { cpu, idle_ms } => builder.setup_sqpoll(idle_ms).setup_sqpoll_cpu(cpu),
        };
        let uring: IoUring = builder.build(REQUESTS)?;
        uring.submitter().register_files_sparse(SLOTS)?;
        let pool = Pool::new(&uring)?;
        Ok(Self {
            uring: ManuallyDrop::new(uring),
            listeners: Vec::new(),
            slots: ManuallyDrop::new(Vec::new()),
            pool,
        })
    }

    /// Accepts from a listener from now on. Listeners come before slots.
    pub fn listen(&mut self, listener: OwnedFd) -> io::Result<()> {
        let at = self.listeners.len();
        let fds = [listener.as_raw_fd()];
        self.uring
            .submitter()
            .register_files_update(at as u32, &fds)?;
        self.listeners.push(listener);
        let entry = opcode::AcceptMulti::new(Fixed(at as u32)).flags(libc::SOCK_NONBLOCK);
        self.push(&entry.build(), ACCEPT, at)
    }

    /// Takes a stream and tells its slot.
    pub fn add(&mut self, stream: OwnedFd) -> io::Result<usize> {
        let at = self.slots.len();
        let fds = [stream.as_raw_fd()];
        let file = self.file(at).0;
        self.uring.submitter().register_files_update(file, &fds)?;
        self.slots.push(Slot {
            stream,
            inbound: vec![0; BUFFER_BYTES].into_boxed_slice(),
            receiving: false,
            sending: Vec::new(),
            busy: false,
        });
        Ok(at)
    }

    /// A slot's stream.
    pub fn stream(&self, at: usize) -> impl AsFd {
        self.slots[at].stream.as_fd()
    }

    /// Whether a request to send has not been answered yet.
    pub fn is_sending(&self, at: usize) -> bool {
        self.slots[at].busy
    }

    /// Receives once.
    pub fn receive(&mut self, at: usize) -> io::Result<()> {
        let file = self.file(at);
        let slot = &mut self.slots[at];
        assert!(!slot.receiving);
        slot.receiving = true;
        let (start, len) = (slot.inbound.as_mut_ptr(), slot.inbound.len() as u32);
        let entry = opcode::Recv::new(file, start, len).ioprio(POLL_FIRST);
        self.push(&entry.build(), RECEIVE, at)
    }

    /// Receives again and again, into buffers of the pool.
    pub fn receive_all(&mut self, at: usize) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(self.file(at), POOL).build();
        self.push(&entry, RECEIVE, at)
    }

    /// Says each time when there is something new to read.
    pub fn watch(&mut self, at: usize) -> io::Result<()> {
        let events = libc::POLLIN as u32 | libc::EPOLLET as u32;
        let entry = opcode::PollAdd::new(self.file(at), events).multi(true);
        self.push(&entry.build(), WATCH, at)
    }

    /// What has been received.
    pub fn bytes(&self, at: usize, bytes: &Bytes) -> &[u8] {
        if let Some(number) = bytes.buffer {
            return self.pool.buffer(number, bytes.count);
        }
        let slot = &self.slots[at];
        assert!(!slot.receiving);
        &slot.inbound[..bytes.count]
    }

    /// Gives back what has been received.
    pub fn give_back(&mut self, bytes: Bytes) {
        if let Some(number) = bytes.buffer {
            self.pool.give(number);
        }
    }

    /// Requests that all of `bytes` is sent and takes them, unless an earlier request has not been
    /// answered yet. [`Event::Sent`] is the answer.
    pub fn send(&mut self, at: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let file = self.file(at);
        let slot = &mut self.slots[at];
        if slot.busy || bytes.is_empty() {
            return Ok(());
        }
        slot.busy = true;
        slot.sending.clear();
        std::mem::swap(bytes, &mut slot.sending);
        let (start, len) = (slot.sending.as_ptr(), slot.sending.len() as u32);
        let entry =
            opcode::Send::new(file, start, len).flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(&entry.build(), SEND, at)
    }

    /// Submits what was requested and waits for an event, in one system call.
    pub fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.pool.publish();
        match self.uring.submit_and_wait(1) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Completions have to be taken before more is submitted.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            result => drop(result?),
        }
        for completion in self.uring.completion() {
            let at = (completion.user_data() & PLACE) as usize;
            let (count, flags) = (completion.result(), completion.flags());
            let more = cqueue::more(flags);
            let result = match usize::try_from(count) {
                Ok(count) => Ok(count),
                Err(_) => Err(io::Error::from_raw_os_error(-count)),
            };
            match completion.user_data() & !PLACE {
                ACCEPT => {
                    // SAFETY: an accept that succeeded gives a new descriptor, and gives it once.
                    let own = |_| unsafe { OwnedFd::from_raw_fd(count) };
                    events.push(Event::Accepted(at, result.map(own)));
                }
                RECEIVE => {
                    self.slots[at].receiving = false;
                    let buffer = cqueue::buffer_select(flags);
                    let bytes = result.map(|count| Bytes { count, buffer });
                    events.push(Event::Received(at, bytes, more));
                }
                WATCH => events.push(Event::Readable(at, more)),
                _ => {
                    let slot = &mut self.slots[at];
                    slot.busy = false;
                    let whole = result.is_ok_and(|count| count == slot.sending.len());
                    events.push(Event::Sent(at, whole));
                }
            }
        }
        Ok(())
    }

    fn file(&self, slot: usize) -> Fixed {
        Fixed((self.listeners.len() + slot) as u32)
    }

    fn push(&mut self, entry: &squeue::Entry, kind: u64, at: usize) -> io::Result<()> {
        let entry = entry.clone().user_data(kind | at as u64);
        loop {
            // SAFETY: the buffers that a request names are never freed, and not touched before its
            // completion (see the ground rules).
            let pushed = unsafe { self.uring.submission().push(&entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.uring.submit()?;
        }
    }
}

/// Buffers that the kernel takes from by itself.
struct Pool {
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    tail: u16,
}

impl Pool {
    fn new(uring: &IoUring) -> io::Result<Self> {
        let zeroed = |bytes: usize| {
            let layout = Layout::from_size_align(bytes, 4096).expect("a size below isize::MAX");
            // SAFETY: the size is not zero.
            let start = unsafe { alloc_zeroed(layout) };
            if start.is_null() {
                handle_alloc_error(layout);
            }
            start
        };
        let count = usize::from(POOL_BUFFERS);
        let mut pool = Self {
            entries: zeroed(count * size_of::<BufRingEntry>()).cast(),
            bytes: zeroed(count * BUFFER_BYTES),
            tail: 0,
        };
        // SAFETY: the memory is aligned to a page, has room for all entries, and is never freed.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                pool.entries as u64,
                POOL_BUFFERS,
                POOL,
                0,
            )?;
        }
        (0..POOL_BUFFERS).for_each(|number| pool.give(number));
        pool.publish();
        Ok(pool)
    }

    fn start(&self, number: u16) -> *mut u8 {
        assert!(number < POOL_BUFFERS);
        self.bytes.wrapping_add(usize::from(number) * BUFFER_BYTES)
    }

    fn buffer(&self, number: u16, count: usize) -> &[u8] {
        let start = self.start(number);
        assert!(count <= BUFFER_BYTES);
        // SAFETY: it lies within the pool, was zeroed at first, and is ours from the completion
        // that named it until it is given back.
        unsafe { std::slice::from_raw_parts(start, count) }
    }

    fn give(&mut self, number: u16) {
        let at = usize::from(self.tail % POOL_BUFFERS);
        // SAFETY: it lies within the ring, and the kernel does not read it before the tail is
        // published; entries are zeroed memory at first, which is a valid entry.
        let entry = unsafe { &mut *self.entries.wrapping_add(at) };
        entry.set_addr(self.start(number) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given.
    fn publish(&self) {
        // SAFETY: this is the first entry of the ring, initialised since `new`.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: aligned, valid for as long as the pool, and only read by the kernel. The release
        // pairs with the kernel's acquiring load of it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
