//! Buffers, slices and blocks through the public API.
#![cfg(not(loom))]

use std::collections::HashSet;

use sharedbuf::{ReadBlock, SharedBuf, SharedSlice};

static_assertions::assert_impl_all!(SharedBuf: Send, Sync, Clone);
static_assertions::assert_impl_all!(SharedSlice: Send, Sync, Clone, Default);
static_assertions::assert_impl_all!(ReadBlock: Send, Sync);
static_assertions::assert_not_impl_any!(ReadBlock: Clone);
static_assertions::assert_eq_size!(SharedBuf, Option<SharedBuf>, usize);
#[cfg(target_pointer_width = "64")]
static_assertions::assert_eq_size!(SharedSlice, Option<SharedSlice>, [u8; 16]);

#[test]
fn a_buffer_is_the_same_however_it_was_made() {
    let mut roomy = Vec::with_capacity(100);
    roomy.extend_from_slice(b"content");
    let all = [
        SharedBuf::copy_from(b"content"),
        SharedBuf::from(roomy),
        SharedBuf::from(Box::<[u8]>::from(&b"content"[..])),
    ];
    for buf in &all {
        assert_eq!(
            (buf.len(), buf.is_empty(), &**buf),
            (7, false, &b"content"[..])
        );
    }
    assert_eq!(HashSet::from(all).len(), 1);
    assert!(SharedBuf::copy_from(b"").is_empty());
    assert!(SharedBuf::from(Vec::new()).is_empty());
}

#[test]
fn a_vector_is_taken_over_without_a_copy() {
    let bytes = vec![1; 100];
    let address = bytes.as_ptr();
    let buf = SharedBuf::from(bytes);
    assert_eq!(buf.as_ptr(), address);
    assert_eq!(buf.slice(10..).as_ptr(), address.wrapping_add(10));
}

#[test]
fn views_count_as_handles() {
    let buf = SharedBuf::copy_from(b"abcdef");
    assert!(buf.is_unique());
    let view = buf.slice(2..4);
    assert!(!buf.is_unique());
    assert_eq!((&*view, view.buffer_len()), (&b"cd"[..], 6));
    drop(view);
    assert!(buf.is_unique());
    let nothing = buf.slice(3..3);
    assert!(buf.is_unique());
    assert_eq!((nothing.len(), nothing.buffer_len()), (0, 0));
}

#[test]
fn handles_that_are_left_are_appended_to_a_vector() {
    let buf = SharedBuf::copy_from(b"abc");
    let mut held = vec![SharedBuf::copy_from(b"x")];
    let mut many = buf.retain_n(5);
    drop(many.next());
    many.append_to(&mut held);
    assert_eq!(held.len(), 5);
    assert!(
        held[1..]
            .iter()
            .all(|handle| handle.as_ptr() == buf.as_ptr())
    );
    buf.retain_n(0).append_to(&mut held);
    assert_eq!(held.len(), 5);
    assert!(!buf.is_unique());
    drop(held);
    assert!(buf.is_unique());
}

#[test]
fn handles_taken_together_are_given_back_together() {
    let buf = SharedBuf::copy_from(b"abc");
    let mut many = buf.retain_n(1000);
    assert_eq!(many.len(), 1000);
    let drawn: Vec<_> = many.by_ref().take(3).collect();
    drop(many);
    assert!(!buf.is_unique());
    drop(drawn);
    assert!(buf.is_unique());
    drop(buf.retain_n(0));

    let mut many = buf.retain_n(2);
    drop(buf);
    let last = many.next().unwrap();
    drop(many);
    assert!(last.is_unique());

    let slice = last.slice(1..);
    let views: Vec<_> = slice.retain_n(5).collect();
    assert!(views.len() == 5 && views.iter().all(|view| **view == *b"bc"));
    assert_eq!(
        SharedSlice::new()
            .retain_n(4)
            .map(|view| view.len())
            .sum::<usize>(),
        0
    );
    assert_eq!(SharedSlice::new().retain_n(4).count(), 4);
}

#[test]
fn a_slice_lets_go_with_its_last_byte() {
    let buf = SharedBuf::copy_from(b"abcdef");
    let mut slice = buf.clone().into_slice();
    slice.advance(4);
    assert_eq!(&*slice, b"ef");
    slice.advance(2);
    assert!(buf.is_unique());

    let mut slice = buf.slice(..);
    let front = slice.split_to(6);
    assert!(slice.is_empty() && front.len() == 6);
    let mut front = front;
    let back = front.split_off(0);
    assert!(front.is_empty() && back.len() == 6);
    drop(back);
    assert!(buf.is_unique());
}

#[test]
fn debug_does_not_flood() {
    let text = format!("{:?}", SharedBuf::from(vec![b'x'; 1_000_000]));
    assert!(text.len() < 100, "{text}");
    assert_eq!(
        format!("{:?}", SharedSlice::copy_from(b"a\n")),
        "SharedSlice(2 bytes, b\"a\\n\")"
    );
}

#[test]
#[should_panic(expected = "is inside")]
fn a_range_past_the_end_panics() {
    let _ = SharedBuf::copy_from(b"abc").slice(2..4);
}

#[test]
#[should_panic(expected = "is inside")]
fn a_reversed_range_panics() {
    let (start, end) = (2, 1);
    let _ = SharedSlice::copy_from(b"abc").slice(start..end);
}

#[test]
#[should_panic(expected = "inside the slice")]
fn advance_past_the_end_panics() {
    SharedSlice::copy_from(b"abc").advance(4);
}

#[test]
fn a_block_is_filled_while_parts_are_shared() {
    let mut block = ReadBlock::with_capacity(8);
    assert!(block.is_empty() && block.spare_mut().iter().all(|byte| *byte == 0));
    block.extend_from_slice(b"abc");
    let part = block.share(1..3);
    block.spare_mut()[..2].copy_from_slice(b"de");
    block.advance(2);
    assert_eq!((block.filled(), &*part), (&b"abcde"[..], &b"bc"[..]));
    assert_eq!(
        (block.len(), block.spare_len(), block.capacity()),
        (5, 3, 8)
    );
    assert!(block.is_shared() && !block.reset());
    assert_eq!(block.len(), 5);
    drop(part);
    let nothing = block.share(5..5);
    assert!(block.reset() && nothing.is_empty());
    assert_eq!((block.len(), block.spare_mut().len()), (0, 8));
}

#[test]
fn slices_outlive_their_block() {
    let mut block = ReadBlock::with_capacity(8);
    block.extend_from_slice(b"abcdef");
    let part = block.share(0..3);
    let rest = block.freeze();
    assert_eq!(
        (&*part, &*rest, rest.buffer_len()),
        (&b"abc"[..], &b"abcdef"[..], 8)
    );
    assert!(ReadBlock::with_capacity(8).freeze().is_empty());
    assert_eq!(ReadBlock::with_capacity(0).spare_len(), 0);
}

#[test]
#[should_panic(expected = "filled part")]
fn what_is_not_filled_is_not_shared() {
    let mut block = ReadBlock::with_capacity(8);
    block.advance(4);
    let _ = block.share(2..5);
}

#[test]
#[should_panic(expected = "inside the block")]
fn filling_past_the_end_panics() {
    ReadBlock::with_capacity(8).advance(9);
}

#[test]
fn threads_drop_what_others_made() {
    let buf = SharedBuf::copy_from(&[9; 4096]);
    std::thread::scope(|scope| {
        for handle in buf.retain_n(4) {
            scope.spawn(move || {
                for _ in 0..if cfg!(miri) { 20 } else { 200 } {
                    let view = handle.slice(100..200);
                    assert!(
                        view.retain_n(3)
                            .all(|view| view.iter().all(|byte| *byte == 9))
                    );
                }
            });
        }
    });
    assert!(buf.is_unique());
}

#[cfg(feature = "bytes")]
#[test]
fn bytes_go_both_ways_without_a_copy() {
    use bytes::{Buf, Bytes};

    let bytes = Bytes::from(vec![5; 64]);
    let address = bytes.as_ptr();
    let buf = SharedBuf::from(bytes);
    assert_eq!(buf.as_ptr(), address);
    let mut slice = SharedSlice::from(Bytes::from(buf.slice(4..)));
    assert_eq!(
        (slice.as_ptr(), slice.remaining()),
        (address.wrapping_add(4), 60)
    );
    assert_eq!(slice.get_u16(), 0x0505);
    assert_eq!(slice.copy_to_bytes(8).as_ptr(), address.wrapping_add(6));
    assert_eq!(Bytes::from(buf).len(), 64);
    assert!(SharedSlice::from(Bytes::new()).is_empty());
}

#[cfg(feature = "slabmem")]
#[test]
fn buffers_return_to_their_pool_from_any_thread() {
    use slabmem::{Pool, PoolError};

    let mut pool = Pool::new(4 << 20);
    let buf = SharedBuf::copy_in(&mut pool, b"abcdef").unwrap();
    let view = buf.slice(2..4);
    drop(buf);
    std::thread::spawn(move || assert_eq!(&*view, b"cd"))
        .join()
        .unwrap();
    pool.collect();
    assert_eq!((pool.stats().live, pool.stats().cached), (0, 1));
    assert!(SharedBuf::copy_in(&mut pool, b"").unwrap().is_empty());

    let mut block = ReadBlock::in_pool(&mut pool, 1000).unwrap();
    assert_eq!(block.capacity() + sharedbuf::POOL_OVERHEAD_BYTES, 2048);
    block.spare_mut().fill(b'x');
    block.advance(1500);
    let part = block.share(100..200);
    assert!(!block.reset());
    drop(pool);
    drop(block);
    assert!(part.iter().all(|byte| *byte == b'x') && part.buffer_len() > 1900);

    let mut none = Pool::new(0);
    assert_eq!(
        SharedBuf::copy_in(&mut none, b"abc").unwrap_err(),
        PoolError::Full
    );
    assert_eq!(
        ReadBlock::in_pool(&mut none, usize::MAX).unwrap_err(),
        PoolError::TooLarge
    );
}

#[test]
fn a_vector_comes_back_as_it_went_in() {
    let mut bytes = Vec::with_capacity(100);
    bytes.extend_from_slice(b"hello");
    let (place, capacity) = (bytes.as_ptr(), bytes.capacity());
    let buf = SharedBuf::from(bytes);
    let clone = buf.clone();
    // Shared: a copy.
    let copy = Vec::from(buf);
    assert_ne!(copy.as_ptr(), place);
    assert_eq!(copy, b"hello");
    let back = Vec::from(clone);
    assert_eq!((back.as_ptr(), back.capacity()), (place, capacity));
    assert_eq!(back, b"hello");

    let boxed: Box<[u8]> = Box::from(&b"box"[..]);
    let place = boxed.as_ptr();
    let boxed = Box::<[u8]>::from(SharedBuf::from(boxed));
    assert_eq!((boxed.as_ptr(), &*boxed), (place, &b"box"[..]));

    let copied_in = SharedBuf::copy_from(b"inline").try_into_vec().unwrap_err();
    assert_eq!(Vec::from(copied_in), b"inline");
    assert_eq!(Vec::from(SharedBuf::from(Vec::new())), b"");
}

#[cfg(feature = "slabmem")]
#[test]
fn blocks_of_a_queue_come_from_the_pool_and_go_home() {
    use sharedbuf::{BlockCache, Class, WriteQueue};

    let mut cache = BlockCache::with_pool(1, slabmem::Pool::new(16 << 20));
    let mut queue = WriteQueue::new();
    // 512 bytes, 2 KiB, 8 KiB and then some of 16 KiB (of a thousand frames six), one of them in
    // reserve at most.
    let (frames, blocks) = if cfg!(miri) {
        (200, 4..=5)
    } else {
        (1_000, 8..=10)
    };
    for number in 0..frames {
        queue.prepare(&mut cache);
        queue.push_with(100, Class::Message, |place| place.fill(number as u8));
    }
    let live = |cache: &mut BlockCache| {
        let pool = cache.pool_mut().unwrap();
        pool.collect();
        pool.stats().live
    };
    let taken = live(&mut cache);
    assert!(blocks.contains(&taken), "{taken} blocks");
    let mut sent = Vec::new();
    while !queue.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 3];
        let filled = queue.fill_io_slices(&mut slices);
        let before = sent.len();
        for slice in &slices[..filled] {
            sent.extend_from_slice(slice);
        }
        queue.advance_into(sent.len() - before, &mut cache);
    }
    let all: Vec<_> = (0..frames).map(|number| [number as u8; 100]).collect();
    assert!(sent == all.concat());
    // The last block waits in the cache for the next queue.
    assert_eq!(live(&mut cache), 1);
    cache.trim(0);
    assert_eq!(live(&mut cache), 0);
}
