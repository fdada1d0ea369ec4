//! The load generator.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use axmq_bench::{
    doctor,
    emqtt::{self, options::Command},
    fail, report, scenario,
};

const USAGE: &str = "\
Usage: axmq-bench COMMAND [options], axmq-bench COMMAND --help

As emqtt_bench 0.6.1, with its options and lines:
  conn     connect clients and keep them alive
  sub      connect clients that subscribe
  pub      connect clients that publish

What a broker costs, with every message accounted for:
  fanout   publishers and subscribers on one topic
  pairs    pairs of a publisher and a subscriber, with a topic each
  wild     exact, + and # filters on 10,000 topics
  idle     memory of idle connections
  storm    clients that all come and go at once
  floor    the same bytes as fanout or pairs, through a relay that is no broker

  report   all of these, for several brokers in turn, as a page with plots
  doctor   the kernel settings that a million connections need
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &[][..]),
    };
    let result = match command {
        "conn" => emqtt::main(Command::Conn, rest),
        "sub" => emqtt::main(Command::Sub, rest),
        "pub" => emqtt::main(Command::Pub, rest),
        "fanout" => scenario::fanout(rest),
        "pairs" => scenario::pairs(rest),
        "wild" => scenario::wild(rest),
        "idle" => scenario::herd::idle::main(rest),
        "storm" => scenario::herd::storm::main(rest),
        "floor" => scenario::floor(rest),
        "doctor" => doctor::main(rest),
        "report" => report::main(rest),
        "relay" => scenario::relay::main(rest),
        "" | "help" | "--help" => {
            print!("{USAGE}");
            return if command.is_empty() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
        other => Err(fail::Failure::usage(format!(
            "unknown command `{other}`; see --help"
        ))),
    };
    fail::exit("axmq-bench", result)
}
