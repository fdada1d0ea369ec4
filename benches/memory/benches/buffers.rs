//! Handles of one buffer for many receivers, the queues that hold them, and the write.

use std::hint::black_box;
use std::io::{IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use sharedbuf::{BlockCache, Class, GATHER_BYTES_MIN, SharedBuf, SharedSlice, WriteQueue};

/// Hands a buffer to `n` receivers and takes it back; what is timed is both.
fn fan_out<H>(criterion: &mut Criterion, name: &str, n: usize, mut hand: impl FnMut(&mut Vec<H>))
where
    H: AsRef<[u8]>,
{
    let mut held = Vec::with_capacity(n);
    hand(&mut held);
    assert!(held.len() == n && held.iter().all(|handle| handle.as_ref() == [7; 280]));
    held.clear();
    criterion.bench_function(&format!("sharedbuf/fan-out/{n}/{name}"), |bench| {
        bench.iter(|| {
            hand(&mut held);
            black_box(&mut held).clear();
        });
    });
}

/// Only the taking of the handles.
fn take_only(criterion: &mut Criterion) {
    let buf = SharedBuf::copy_from(&[7; 280]);
    criterion.bench_function("sharedbuf/take-and-return/1000/retain_n", |bench| {
        bench.iter(|| drop(black_box(buf.retain_n(1000))));
    });
    let mut held = Vec::with_capacity(1000);
    criterion.bench_function("sharedbuf/take/1000/retain_n", |bench| {
        bench.iter_custom(|turns| {
            let mut time = Duration::ZERO;
            for _ in 0..turns {
                let start = Instant::now();
                buf.retain_n(1000).append_to(&mut held);
                time += start.elapsed();
                black_box(&mut held).clear();
            }
            time
        });
    });
}

struct Thin(triomphe::ThinArc<(), u8>);

impl AsRef<[u8]> for Thin {
    fn as_ref(&self) -> &[u8] {
        &self.0.slice
    }
}

struct Text(arcstr::ArcStr);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn handles(criterion: &mut Criterion) {
    let image = [7_u8; 280];
    for n in [1, 100, 10_000] {
        let buf = SharedBuf::copy_from(&image);
        fan_out(criterion, "retain_n", n, |held| {
            buf.retain_n(n).append_to(held);
        });
        fan_out(criterion, "clone", n, |held| {
            held.extend((0..n).map(|_| buf.clone()))
        });
        let bytes = Bytes::copy_from_slice(&image);
        fan_out(criterion, "bytes", n, |held| {
            held.extend((0..n).map(|_| bytes.clone()))
        });
        let arc: Arc<[u8]> = Arc::from(image);
        fan_out(criterion, "arc", n, |held| {
            held.extend((0..n).map(|_| arc.clone()))
        });
        let thin = triomphe::ThinArc::from_header_and_slice((), &image);
        fan_out(criterion, "triomphe", n, |held| {
            held.extend((0..n).map(|_| Thin(thin.clone())))
        });
        let text = arcstr::ArcStr::from(String::from_utf8(image.to_vec()).unwrap());
        fan_out(criterion, "arcstr", n, |held| {
            held.extend((0..n).map(|_| Text(text.clone())))
        });
    }
    take_only(criterion);
}

/// A frame for each of 1,000 empty queues, which are then written and empty again.
fn queues(criterion: &mut Criterion) {
    for len in [28, 280, 1000] {
        let frame = vec![7_u8; len];
        let mut queues: Vec<WriteQueue> = (0..1000).map(|_| WriteQueue::new()).collect();
        let mut cache = BlockCache::new(1024);
        criterion.bench_function(&format!("sharedbuf/push-1000/{len}/cached"), |bench| {
            bench.iter(|| {
                for queue in &mut queues {
                    queue.prepare(&mut cache);
                    queue.push_copy(&frame, Class::Droppable);
                }
                for queue in &mut queues {
                    queue.advance_into(len, &mut cache);
                }
            });
        });
        criterion.bench_function(&format!("sharedbuf/push-1000/{len}/uncached"), |bench| {
            bench.iter(|| {
                for queue in &mut queues {
                    queue.push_copy(&frame, Class::Droppable);
                }
                for queue in &mut queues {
                    queue.advance(len);
                }
            });
        });
        let mut vecs: Vec<Vec<u8>> = (0..1000).map(|_| Vec::new()).collect();
        criterion.bench_function(&format!("sharedbuf/push-1000/{len}/vec-kept"), |bench| {
            bench.iter(|| {
                for vec in &mut vecs {
                    vec.extend_from_slice(&frame);
                }
                for vec in &mut vecs {
                    black_box(vec).clear();
                }
            });
        });
        let mut lists: Vec<std::collections::VecDeque<Bytes>> = Vec::new();
        lists.resize_with(1000, Default::default);
        let bytes = Bytes::copy_from_slice(&frame);
        criterion.bench_function(&format!("sharedbuf/push-1000/{len}/bytes-deque"), |bench| {
            bench.iter(|| {
                for list in &mut lists {
                    list.push_back(bytes.clone());
                }
                for list in &mut lists {
                    drop(black_box(list).pop_front());
                }
            });
        });
    }
}

/// One payload to 64 sockets, eight frames each, by copy or by reference, with the write.
fn gather(criterion: &mut Criterion) {
    let mut pairs: Vec<(UnixStream, UnixStream)> =
        (0..64).map(|_| UnixStream::pair().unwrap()).collect();
    let mut sink = vec![0; 1 << 16];
    for len in [128, 256, 512, 1024, 2048, 4096] {
        let payload = SharedSlice::from(vec![7; len]);
        for referenced in [false, true] {
            let name = if referenced { "reference" } else { "copy" };
            let mut cache = BlockCache::new(64);
            criterion.bench_function(&format!("sharedbuf/gather/{len}/{name}"), |bench| {
                bench.iter_custom(|turns| {
                    let mut time = Duration::ZERO;
                    for _ in 0..turns {
                        let start = Instant::now();
                        for (out, _) in &mut pairs {
                            write_frames(out, &payload, referenced, &mut cache);
                        }
                        time += start.elapsed();
                        for (_, input) in &mut pairs {
                            let mut left = 8 * (len + 24);
                            while left > 0 {
                                left -= input.read(&mut sink).unwrap();
                            }
                        }
                    }
                    time
                });
            });
        }
    }
    println!("slices are referenced from {GATHER_BYTES_MIN} bytes on");
}

fn write_frames(
    out: &mut UnixStream,
    payload: &SharedSlice,
    referenced: bool,
    cache: &mut BlockCache,
) {
    // Below the threshold the queue would copy; the vector is then what it would offer.
    let heads = [[1_u8; 24]; 8];
    if referenced {
        let many: Vec<SharedSlice> = payload.retain_n(8).collect();
        let mut slices = [IoSlice::new(&[]); 16];
        for (i, (head, handle)) in heads.iter().zip(&many).enumerate() {
            slices[2 * i] = IoSlice::new(head);
            slices[2 * i + 1] = IoSlice::new(handle);
        }
        let written = out.write_vectored(&slices).unwrap();
        assert_eq!(written, 8 * (24 + payload.len()));
        return;
    }
    let mut queue = WriteQueue::new();
    queue.prepare(cache);
    for head in &heads {
        queue.push_with(24 + payload.len(), Class::Droppable, |place| {
            place[..24].copy_from_slice(head);
            place[24..].copy_from_slice(payload);
        });
    }
    let mut slices = [IoSlice::new(&[]); 16];
    let filled = queue.fill_io_slices(&mut slices);
    let written = out.write_vectored(&slices[..filled]).unwrap();
    queue.advance_into(written, cache);
    assert!(queue.is_empty());
}

fn all(criterion: &mut Criterion) {
    handles(criterion);
    queues(criterion);
    gather(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(500))
        .sample_size(15);
    targets = all
}
criterion_main!(benches);
