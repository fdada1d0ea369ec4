//! Decoding allocates nothing, whatever the packet.
#![cfg(feature = "alloc")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;

use mqtt_codec::{HeadScan, Packet, Role, Scan, decode, scan, scan_publish_head};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::strategies::{Sample, any_packet};

/// Counts the allocations of each thread, and leaves the rest to the system.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to `System` unchanged; counting touches a thread-local `Cell`
// that is built without allocating.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with that layout, as `alloc` above shows.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Nowhere;

impl std::fmt::Write for Nowhere {
    fn write_str(&mut self, _text: &str) -> std::fmt::Result {
        Ok(())
    }
}

/// Scans, decodes, and calls every getter and iterator through `Debug`.
fn use_all(bytes: &[u8], sample: &Sample, expect_valid: bool) -> usize {
    let before = COUNT.with(Cell::get);
    for len in [0, 1, bytes.len() / 2, bytes.len()] {
        let there = &bytes[..len];
        let Ok(Scan::Frame(frame)) = scan(there, u32::MAX) else {
            continue;
        };
        match decode(
            &there[..frame.total_len],
            &frame,
            sample.version,
            sample.role,
        ) {
            Ok(view) => {
                write!(Nowhere, "{view:?}").expect("nowhere is never full");
                if let Packet::Publish(publish) = view {
                    assert!(publish.properties().pass_through().byte_len() <= bytes.len());
                    let mut scratch = [0; 2048];
                    let head = publish.forward(&mut scratch).expect("samples are short");
                    let mut out = [0; 4096];
                    assert!(head.encode_head(sample.version, &mut out) > 0);
                }
            }
            Err(error) => {
                assert!(!expect_valid, "{error}");
                write!(Nowhere, "{error}").expect("nowhere is never full");
            }
        }
        let role = Role::Server;
        if let Ok(HeadScan::Head(stream)) =
            scan_publish_head(there, sample.version, role, u32::MAX, 1 << 16)
        {
            assert!(stream.head_len() <= stream.total_len());
        }
    }
    COUNT.with(Cell::get) - before
}

#[test]
fn no_packet_of_any_version_allocates() {
    let mut kinds = [0; 16];
    let mut runner = TestRunner::deterministic();
    let strategy = any_packet();
    for _ in 0..3_000 {
        let tree = strategy.new_tree(&mut runner).expect("no filter rejects");
        let sample = proptest::strategy::ValueTree::current(&tree);
        kinds[usize::from(sample.bytes[0] >> 4)] += 1;
        assert_eq!(use_all(&sample.bytes, &sample, true), 0, "{sample:?}");
        // What is refused does not allocate either.
        let mut broken = sample.bytes.clone();
        for place in 0..broken.len().min(12) {
            broken[place] ^= 0x81;
            assert_eq!(use_all(&broken, &sample, false), 0, "{broken:02x?}");
        }
    }
    assert!(kinds[1..].iter().all(|&count| count > 0), "{kinds:?}");
}

/// A counter that counts nothing would show nothing.
#[test]
fn the_counter_counts() {
    let before = COUNT.with(Cell::get);
    drop(std::hint::black_box(Box::new(7)));
    assert!(COUNT.with(Cell::get) > before);
}
