//! Every interleaving of handles that are cloned and dropped by several threads.
//!
//! The buffer is allocated through loom, which reports a double free and a leak, and the release
//! checks that all other uses of the count happened before it.
#![cfg(loom)]

use loom::thread;
use sharedbuf::{ReadBlock, SharedBuf};

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(run);
}

#[test]
fn the_last_of_two_drops_frees() {
    model(|| {
        let buf = SharedBuf::copy_from(b"abc");
        let other = buf.clone();
        let thread = thread::spawn(move || {
            assert_eq!(&*other, b"abc");
            drop(other);
        });
        assert_eq!(&*buf, b"abc");
        drop(buf);
        thread.join().unwrap();
    });
}

#[test]
fn a_clone_races_with_drops() {
    model(|| {
        let buf = SharedBuf::copy_from(b"abc");
        let (first, second) = (buf.clone(), buf.clone());
        let a = thread::spawn(move || {
            let again = first.clone();
            drop(first);
            assert_eq!(&again[1..], b"bc");
        });
        let b = thread::spawn(move || drop(second));
        drop(buf);
        a.join().unwrap();
        b.join().unwrap();
    });
}

#[test]
fn unused_counts_are_given_back_at_once() {
    model(|| {
        let buf = SharedBuf::copy_from(b"abc");
        let mut many = buf.retain_n(3);
        let one = many.next().unwrap();
        let thread = thread::spawn(move || drop(one));
        drop(buf);
        drop(many);
        thread.join().unwrap();
    });
}

#[test]
fn a_block_is_reused_only_after_the_last_slice_is_gone() {
    model(|| {
        let mut block = ReadBlock::with_capacity(4);
        block.extend_from_slice(b"abcd");
        let slice = block.share(1..3);
        let thread = thread::spawn(move || {
            let again = slice.clone();
            drop(slice);
            assert_eq!(&*again, b"bc");
        });
        if block.reset() {
            block.extend_from_slice(b"xy");
        }
        drop(block);
        thread.join().unwrap();
    });
}
