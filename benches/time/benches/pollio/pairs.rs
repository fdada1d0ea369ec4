//! Connections whose two ends are both in this process.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::contenders::{self, Contender};

/// Far ends and near ends.
pub struct Pairs(pub Vec<(UnixStream, UnixStream)>);

impl Pairs {
    pub fn new(count: usize) -> Self {
        let pair = |_| {
            let (far, near) = UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            (far, near)
        };
        Self((0..count).map(pair).collect())
    }

    pub fn register<C: Contender>(&self) -> C {
        let mut contender = C::new();
        for (n, (_, near)) in self.0.iter().enumerate() {
            contender.add(near, n as u64);
        }
        // New registrations report that they are writable; none of that is to be left over.
        for _ in 0..2 + self.0.len() / contenders::EVENTS {
            contender.wait(Some(Duration::ZERO), |_| panic!("nothing was sent"));
        }
        contender
    }

    pub fn unregister<C: Contender>(&self, contender: &mut C) {
        for (_, near) in &self.0 {
            contender.forget(near);
        }
    }

    /// Sends a byte to each of `active`, and has the loop read and answer all of them.
    pub fn round<C: Contender>(
        &self,
        contender: &mut C,
        active: impl Iterator<Item = usize> + Clone,
    ) {
        let mut open = 0;
        for n in active.clone() {
            (&self.0[n].0).write_all(&[n as u8]).unwrap();
            open += 1;
        }
        while open > 0 {
            contender.wait(Some(Duration::from_secs(10)), |token| {
                let near = &self.0[token as usize].1;
                let (mut near, mut buf) = (near, [0; 64]);
                // A short read of an edge-triggered source is the last one.
                if matches!(near.read(&mut buf), Ok(1)) {
                    near.write_all(&buf[..1]).unwrap();
                    open -= 1;
                }
            });
        }
        for n in active {
            let mut byte = [0];
            (&self.0[n].0).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [n as u8]);
        }
    }
}
