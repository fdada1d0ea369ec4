//! Each way to move bytes moves all of them, in order.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

const PAIRS: usize = 3;
/// More than the sockets between two programs hold, so that sends have to wait.
const BYTES: usize = 16 << 20;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(port: u16, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    let number = u32::try_from(number).unwrap();
    stream.write_all(&number.to_be_bytes()).unwrap();
    stream
}

fn moves_all(how: &str, bytes: &[u8]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-uring"));
    command.args([how, "--frame", "0"]).stdout(Stdio::piped());
    let mut relay = Running(command.spawn().unwrap());
    let mut line = String::new();
    let stdout = relay.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let ports: Vec<u16> = line
        .split_ascii_whitespace()
        .map(|port| port.parse().unwrap())
        .collect();
    let [sources, sinks] = ports[..] else {
        panic!("{how} did not start: {line}");
    };
    let pair = |number| {
        let sink = connect(sinks, number);
        (connect(sources, number), sink)
    };
    let mut pairs: Vec<_> = (0..PAIRS).map(pair).collect();
    // What the relay cannot pass on it keeps, so this ends although nobody reads.
    for (number, (source, _)) in pairs.iter_mut().enumerate() {
        source.write_all(&bytes[number..]).unwrap();
        source.shutdown(Shutdown::Write).unwrap();
    }
    for (number, (_, sink)) in pairs.iter_mut().enumerate() {
        let mut got = vec![0; bytes.len() - number];
        sink.read_exact(&mut got).unwrap();
        assert!(got == bytes[number..], "{how}, pair {number}");
    }
}

#[test]
fn every_way_moves_all_bytes_in_order() {
    if let Err(error) = io_uring::IoUring::new(8) {
        println!("skipped: no io_uring here: {error}");
        return;
    }
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at / 251 + at) as u8).collect();
    for how in ["once", "multi", "polled", "ready", "seam"] {
        moves_all(how, &bytes);
    }
}
