//! A broker with a fault of choice, to see that the tools find it:
//!
//! ```sh
//! cargo run -p axmq-bench --example double -- 1884 drop &
//! axmq-bench fanout -h 127.0.0.1 -p 1884
//! ```

#![forbid(unsafe_code)]

#[path = "../tests/double/mod.rs"]
mod double;

use std::process::ExitCode;

use double::Fault;

const USAGE: &str = "usage: double PORT none|drop|duplicate|reorder|misdeliver|disconnect";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, fault] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let fault = match fault.as_str() {
        "none" => Fault::None,
        "drop" => Fault::Drop,
        "duplicate" => Fault::Duplicate,
        "reorder" => Fault::Reorder,
        "misdeliver" => Fault::Misdeliver,
        "disconnect" => Fault::Disconnect,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match std::net::TcpListener::bind(format!("127.0.0.1:{port}")) {
        Ok(listener) => double::serve_on(&listener, fault),
        Err(error) => {
            eprintln!("port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}
