//! The programs as a shell sees them: lines and exit codes.

mod double;

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use double::Fault;

fn bench(arguments: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_axmq-bench");
    Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn port(fault: Fault) -> u16 {
    double::start(fault).port()
}

/// A port that refuses connections.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn what_is_wrong_is_one_line_and_an_exit_code() {
    let refused = format!("-h 127.0.0.1 -p {}", closed_port());
    for (arguments, code, word) in [
        (format!("conn -c 3 {refused}"), 1, "refused"),
        (format!("pub -c 3 -t a {refused}"), 1, "refused"),
        (format!("fanout {refused}"), 1, "refused"),
        (
            format!("storm --pid {} {refused}", std::process::id()),
            1,
            "refused",
        ),
        (
            "sub -t a -h no.such.host.invalid".to_owned(),
            1,
            "unknown host",
        ),
        ("conn -c 9 --ws --log_to null".to_owned(), 2, "--ws"),
        ("conn --no-such-option".to_owned(), 2, "unknown option"),
        ("sub -c 1".to_owned(), 2, "-t"),
        ("fanout --size 8".to_owned(), 2, "--size"),
        ("idle --from 1 --to 2".to_owned(), 2, "--pid"),
        ("floor -q 1".to_owned(), 2, "--qos"),
        (
            "fanout --subs 999999 -h 127.0.0.1".to_owned(),
            1,
            "ulimit -n",
        ),
        ("nonsense".to_owned(), 2, "--help"),
    ] {
        let output = bench(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments}: {text}");
        assert!(text.contains(word), "{arguments}: {text}");
    }
}

#[test]
fn a_limit_is_kept_and_ends_the_run() {
    for (qos, version) in [(0, 4), (1, 5), (2, 3)] {
        let port = port(Fault::None);
        let output = bench(&format!(
            "pub -h 127.0.0.1 -p {port} -c 4 -i 0 -I 1 -L 50 -t a/%i -q {qos} -V {version} \
             --shortids"
        ));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(text.starts_with("Start with "), "{text}");
        assert!(text.contains(" pub total=50 rate="), "{text}");
        assert!(text.ends_with("publish complete\n"), "{text}");
        let acknowledged = text.contains(" pub_succ total=50 rate=");
        assert_eq!(acknowledged, qos > 0, "{text}");
    }
}

#[test]
fn several_processes_are_one_run() {
    let port = port(Fault::None);
    let output = bench(&format!(
        "pub -h 127.0.0.1 -p {port} -c 6 -i 0 -I 1 -L 60 -t a/%i -q 1 --processes 3"
    ));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(" pub_succ total=60 rate="), "{text}");
    assert!(text.contains(" connect_succ total="), "{text}");
    assert!(text.ends_with("publish complete\n"), "{text}");
}

#[test]
fn a_broken_promise_is_exit_code_3() {
    for (fault, word) in [
        (Fault::Drop, "lost"),
        (Fault::Duplicate, "duplicated"),
        (Fault::Reorder, "reordered"),
    ] {
        let port = port(fault);
        let output = bench(&format!(
            "fanout -h 127.0.0.1 -p {port} --subs 2 --window 8 --warmup 0 --duration 0.2 --json"
        ));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(word), "{text}");
        let json = String::from_utf8(output.stdout).unwrap();
        assert!(
            json.starts_with("{\"scenario\": \"fanout 1 -> 2\""),
            "{json}"
        );
    }
}

#[test]
fn the_floor_loses_nothing() {
    for arguments in ["--pubs 3 --subs 2", "--pairs 20"] {
        let output = bench(&format!("floor {arguments} --warmup 0 --duration 0.2"));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("nothing lost")
        );
    }
}
