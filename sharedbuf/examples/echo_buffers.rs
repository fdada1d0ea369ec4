//! An echo server's buffers: lines go from the read block to the write queue without a copy where
//! they are long.
//!
//! Run with `cargo run -p sharedbuf --example echo_buffers`, then `nc 127.0.0.1 <port>`; with an
//! argument it echoes its own text once and ends.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

use sharedbuf::{Class, ReadBlock, WriteQueue};

const BLOCK_BYTES: usize = 4096;

fn flush(queue: &mut WriteQueue, socket: &mut TcpStream) -> io::Result<()> {
    while !queue.is_empty() {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = queue.fill_io_slices(&mut slices);
        match socket.write_vectored(&slices[..filled]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => queue.advance(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn serve(mut socket: TcpStream) -> io::Result<()> {
    let mut block = ReadBlock::with_capacity(BLOCK_BYTES);
    let mut queue = WriteQueue::new();
    let mut done = 0;
    loop {
        if block.spare_len() == 0 {
            // What is not decoded yet moves to the front of a block that nobody else holds.
            let mut next = ReadBlock::with_capacity(BLOCK_BYTES);
            if done > 0 {
                next.extend_from_slice(&block.filled()[done..]);
            } else {
                queue.push_slice(block.share(0..BLOCK_BYTES), Class::Message);
            }
            (block, done) = (next, 0);
        }
        let count = socket.read(block.spare_mut())?;
        block.advance(count);
        while let Some(end) = block.filled()[done..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            queue.push_slice(block.share(done..done + end + 1), Class::Message);
            done += end + 1;
        }
        if count == 0 {
            queue.push_slice(block.share(done..block.len()), Class::Message);
            return flush(&mut queue, &mut socket);
        }
        flush(&mut queue, &mut socket)?;
        if done == block.len() && block.reset() {
            done = 0;
        }
    }
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut out = io::stdout().lock();
    writeln!(out, "echoing lines on {address}")?;
    let Some(text) = std::env::args().nth(1) else {
        loop {
            let (socket, peer) = listener.accept()?;
            if let Err(error) = serve(socket) {
                writeln!(out, "{peer}: {error}")?;
            }
        }
    };
    let mut client = TcpStream::connect(address)?;
    client.write_all(text.as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    serve(listener.accept()?.0)?;
    let mut echo = String::new();
    client.read_to_string(&mut echo)?;
    writeln!(out, "{echo}")
}
