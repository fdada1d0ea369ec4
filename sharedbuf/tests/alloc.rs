//! What allocates and what does not, by an allocator that counts.
//!
//! Ground rules: the allocator passes every call on to the system's unchanged, so its contract is
//! the system allocator's; the counters belong to one thread each.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;

use sharedbuf::{BlockCache, Class, ReadBlock, Recipe, SharedBuf, SharedSlice, WriteQueue};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn note(calls: usize, bytes: isize) {
    CALLS.with(|cell| cell.set(cell.get() + calls));
    LIVE.with(|cell| cell.set(cell.get() + bytes));
}

// SAFETY: Every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as isize);
        // SAFETY: The caller keeps the contract of the same call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(0, -(layout.size() as isize));
        // SAFETY: The caller keeps the contract of the same call.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations during `run`.
fn calls(run: impl FnOnce()) -> usize {
    let before = CALLS.get();
    run();
    CALLS.get() - before
}

/// The heap that `run` leaves taken.
fn taken<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    let made = run();
    (
        made,
        usize::try_from(LIVE.get() - before).expect("no less than before"),
    )
}

#[test]
fn the_handles_of_a_buffer_share_what_it_takes() {
    let mut roomy = Vec::with_capacity(1_000);
    roomy.extend_from_slice(&[1; 600]);
    let (slice, of_vec) = taken(|| SharedSlice::from(roomy));
    // The vector was there before.
    assert_eq!(slice.heap_share(), of_vec + 1_000);
    let (copied, of_copy) = taken(|| SharedSlice::copy_from(&[2; 600]));
    assert_eq!(copied.heap_share(), of_copy);
    let part = copied.slice(10..20);
    assert_eq!(copied.heap_share() + part.heap_share(), of_copy);
    assert_eq!(copied.slice(0..0).heap_share(), 0);
    let (block, of_block) = taken(|| ReadBlock::with_capacity(5_000));
    assert_eq!(block.heap_share(), of_block);
}

#[test]
fn a_queue_says_what_it_takes() {
    let (payload, of_payload) = taken(|| SharedSlice::copy_from(&[7; 2_000]));
    let mut cache = BlockCache::new(4);
    let (mut queue, of_queue) = taken(|| {
        let mut queue = WriteQueue::new();
        for _ in 0..if cfg!(miri) { 100 } else { 300 } {
            fill(&mut queue, &payload);
        }
        queue
    });
    // The payload's handle here has a share too, and each of many shares is rounded down.
    let all = queue.heap_bytes() + payload.heap_share();
    assert!(
        (of_queue + of_payload - 2_000..=of_queue + of_payload).contains(&all),
        "{all} of {of_queue} and {of_payload}"
    );
    drop(payload);
    let (bytes, before) = (queue.bytes(), LIVE.get());
    queue.advance_into(bytes, &mut cache);
    assert_eq!(queue.heap_bytes(), 0);
    let gone = usize::try_from(before - LIVE.get()).expect("no more than before");
    assert_eq!(of_queue + of_payload - gone, cache.heap_bytes());
}

fn fill(queue: &mut WriteQueue, payload: &SharedSlice) {
    queue.push_copy(&[1; 30], Class::Control);
    queue.push_with(50, Class::Droppable, |place| place.fill(2));
    queue.push_slice(payload.clone(), Class::Droppable);
    queue.push_parts(&[3; 20], payload.clone(), Class::Message);
    queue.push_pieces(
        &[&[3; 20], &[4; 2]],
        &payload.slice(..100),
        Class::Droppable,
    );
    let head = payload.slice(..40);
    let recipe = Recipe {
        head,
        patch: [0; 2],
        own: &[5; 9],
        tail: payload.clone(),
    };
    queue.push_recipe(recipe, Class::Droppable);
}

#[test]
fn an_empty_queue_has_no_heap() {
    let payload = SharedSlice::from(vec![7; 2000]);
    let before = LIVE.get();
    let mut queue = WriteQueue::new();
    assert_eq!(calls(|| queue = WriteQueue::new()), 0);
    fill(&mut queue, &payload);
    assert!(LIVE.get() > before);
    queue.advance(queue.bytes());
    assert_eq!(LIVE.get(), before);

    fill(&mut queue, &payload);
    queue.clear();
    assert_eq!(LIVE.get(), before);

    queue.push_slice(payload.clone(), Class::Droppable);
    assert!(queue.drop_oldest().is_some());
    assert_eq!(LIVE.get(), before);
}

#[test]
fn a_queue_that_never_runs_empty_stops_allocating() {
    let payload = SharedSlice::from(vec![7; 2000]);
    let mut queue = WriteQueue::new();
    let mut turn = || {
        fill(&mut queue, &payload);
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = queue.fill_io_slices(&mut slices);
        let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        queue.advance(offered.min(queue.bytes() - 100));
        while queue.bytes() > 30_000 {
            queue.drop_oldest();
        }
    };
    let turns = if cfg!(miri) { 50 } else { 500 };
    (0..turns).for_each(|_| turn());
    assert_eq!(calls(|| (0..turns).for_each(|_| turn())), 0);
}

#[test]
fn with_a_cache_a_burst_does_not_allocate() {
    let payload = SharedSlice::from(vec![7; 2000]);
    let mut cache = BlockCache::new(8);
    let mut queues: Vec<_> = (0..if cfg!(miri) { 10 } else { 100 })
        .map(|_| WriteQueue::new())
        .collect();
    let mut turn = || {
        for queue in &mut queues {
            queue.prepare(&mut cache);
            fill(queue, &payload);
            queue.advance(100);
            queue.advance_into(queue.bytes(), &mut cache);
        }
    };
    turn();
    turn();
    assert_eq!(calls(turn), 0);
    assert_eq!(cache.len(), 1);
}

#[test]
fn handles_do_not_allocate() {
    let buf = SharedBuf::from(vec![7; 2000]);
    let mut block = ReadBlock::with_capacity(1000);
    let run = || {
        drop((buf.clone(), buf.slice(3..9), buf.retain_n(50)));
        block.extend_from_slice(&buf[..500]);
        drop(block.share(10..400));
        assert!(block.reset());
    };
    assert_eq!(calls(run), 0);
    assert_eq!(calls(|| drop(SharedBuf::copy_from(&[1; 100]))), 1);
    assert_eq!(calls(|| drop(SharedSlice::copy_from(&[]))), 0);
    assert_eq!(calls(|| drop(ReadBlock::with_capacity(100).freeze())), 1);
    let bytes = vec![1; 100];
    assert_eq!(calls(|| drop(SharedBuf::from(bytes))), 1);
}

#[test]
fn a_burst_is_few_entries() {
    let mut queue = WriteQueue::new();
    // Also where the queue does not run empty between: small blocks do not come back.
    for turn in 0..if cfg!(miri) { 5 } else { 20 } {
        while queue.bytes() < 60_000 {
            queue.push_copy(&[turn; 280], Class::Droppable);
        }
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = queue.fill_io_slices(&mut slices);
        assert!(filled <= if turn == 0 { 8 } else { 6 }, "{filled} entries");
        queue.advance(queue.bytes() - 300);
    }
}
