//! The programs as a shell sees them: lines and exit codes.

mod double;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Output, Stdio},
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
        ("conn -c 9 --quic true".to_owned(), 2, "--quic"),
        (
            "conn -c 9 --ssl --cacertfile /no/such/file".to_owned(),
            2,
            "/no/such/file",
        ),
        (format!("conn -c 3 --ssl {refused}"), 1, "refused"),
        (format!("conn -c 3 --ws {refused}"), 1, "refused"),
        ("conn --no-such-option".to_owned(), 2, "unknown option"),
        ("sub -c 1".to_owned(), 2, "-t"),
        ("fanout --size 8".to_owned(), 2, "--size"),
        ("idle --from 1 --to 2".to_owned(), 2, "--pid"),
        ("floor -q 1".to_owned(), 2, "--qos"),
        (
            "floor --relay /no/such/program".to_owned(),
            1,
            "the relay: No such file",
        ),
        (
            "fanout --subs 999999 -h 127.0.0.1".to_owned(),
            1,
            "ulimit -n",
        ),
        (
            "conn -c 999999 -h 192.0.2.1 -p 1883".to_owned(),
            1,
            "source addresses",
        ),
        (
            "conn -c 999999 --processes 1 -h 127.0.0.1".to_owned(),
            1,
            "ulimit -n",
        ),
        (
            format!("pub -c 2 -t a --ifaddr 192.0.2.7 {refused}"),
            1,
            "--ifaddr",
        ),
        (
            "report --broker unheard-of".to_owned(),
            2,
            "mosquitto, rumqttd",
        ),
        (
            "report --broker mine=/no/such/program.{port}".to_owned(),
            1,
            "--broker mine=",
        ),
        ("doctor --aply".to_owned(), 2, "unknown option"),
        ("fanout --messages 0".to_owned(), 2, "--messages"),
        ("nonsense".to_owned(), 2, "--help"),
    ] {
        let output = bench(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments}: {text}");
        assert!(text.contains(word), "{arguments}: {text}");
        // conn, sub and pub show their progress; a scenario has a result or none.
        let shows = ["conn", "sub", "pub"]
            .iter()
            .any(|c| arguments.starts_with(c));
        assert!(
            shows || output.stdout.is_empty(),
            "{arguments}: a partial result"
        );
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
fn a_flood_goes_on_where_the_socket_was_full() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let flood =
        format!("pub -h 127.0.0.1 -p {port} -c 1 -t a -I 0 -s 1000 -L 100000 --log_to console");
    let mut program = Command::new(env!("CARGO_BIN_EXE_axmq-bench"))
        .args(flood.split_whitespace())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut broker, _) = listener.accept().unwrap();
    let mut buf = vec![0; 1 << 16];
    assert!(broker.read(&mut buf).unwrap() > 0);
    broker.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
    // Nothing is read for a second of its own clock; the socket is full within milliseconds.
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let shown = lines.find(|line| line.as_ref().unwrap().contains("pub total="));
    assert!(shown.is_some_and(|line| !line.unwrap().contains("=100000 ")));
    let mut bytes = 0;
    loop {
        match broker.read(&mut buf).unwrap() {
            0 => break,
            n => bytes += n,
        }
    }
    assert!(bytes > 100_000 * 1_000, "{bytes}");
    assert!(program.wait().unwrap().success());
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
            "fanout -h 127.0.0.1 -p {port} --subs 2 --window 8 --messages 300 --json"
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
    let other = format!("--relay={} relay", env!("CARGO_BIN_EXE_axmq-bench"));
    for (arguments, relay) in [
        ("--pubs 3 --subs 2", None),
        ("--pairs 20", None),
        ("--pairs 20", Some(other)),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_axmq-bench"))
            .arg("floor")
            .args(arguments.split_whitespace())
            .args(["--messages", "3000"])
            .args(relay)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("nothing lost")
        );
    }
}

/// The other programs: a line, an exit code, and nothing on standard output.
#[test]
fn prober_and_collectors_say_what_is_wrong() {
    let probe = env!("CARGO_BIN_EXE_axmq-probe");
    let collect = env!("CARGO_BIN_EXE_axmq-collect");
    let nobody = format!("-h 127.0.0.1 -n 3 -i 1 -p {}", closed_port());
    for (program, arguments, code, word) in [
        (probe, nobody.as_str(), 1, "refused"),
        (probe, "-h no.such.host.invalid", 1, "unknown host"),
        (probe, "-n 0", 2, "-n"),
        (collect, "", 2, "broker"),
        (collect, "broker --interface no0", 1, "INTERFACE is one of"),
        (collect, "broker --pid 999999999", 1, "/proc/999999999"),
        (collect, "broker --pid 1,2", 2, "one process"),
        (collect, "rates /no/such/raw.csv", 1, "/no/such/raw.csv"),
        (collect, "summary", 2, "raw.csv"),
    ] {
        let words = arguments.split_whitespace();
        let output = Command::new(program).args(words).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments}: {text}");
        assert!(text.contains(word), "{arguments}: {text}");
        assert!(output.stdout.is_empty(), "{arguments}: a partial result");
    }
}

/// The environment of the paper's scripts, and the files that come of it.
#[test]
fn a_collector_takes_the_environment_of_the_original() {
    let collect = env!("CARGO_BIN_EXE_axmq-collect");
    let folder = std::env::temp_dir().join(format!("axmq-collect-{}", std::process::id()));
    let output = Command::new(collect)
        .args(["broker", "--out"])
        .arg(&folder)
        .envs([
            ("EXP_TAG", "A-axmq-Baseline"),
            ("DURATION_SEC", "0.2"),
            ("INTERVAL_SEC", "0.05"),
            ("INTERFACE", "lo"),
            ("PORT", "1883"),
            ("PID", &std::process::id().to_string()),
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let run = String::from_utf8(output.stdout).unwrap();
    let run = std::path::Path::new(run.trim());
    let name = run.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("broker-A-axmq-Baseline-2"), "{name}");
    let raw = std::fs::read_to_string(run.join("raw.csv")).unwrap();
    let mut lines = raw.lines();
    assert_eq!(
        lines.next(),
        Some(
            "time_utc,iface,rx_bytes,rx_packets,tx_bytes,tx_packets,ctxt,intr,softirq_net_rx,\
             softirq_net_tx,tcp_insegs,tcp_outsegs,tcp_retranssegs,tcp_estab,proc_rss_kb,\
             proc_vsz_kb"
        )
    );
    assert_eq!(lines.count(), 5, "0, 0.05, .. 0.2 s");
    let meta = std::fs::read_to_string(run.join("meta.txt")).unwrap();
    assert!(
        meta.contains("interface=lo") && meta.contains("net.ipv4.tcp_rmem = "),
        "{meta}"
    );
    let rates = Command::new(collect)
        .arg("rates")
        .arg(run.join("raw.csv"))
        .output()
        .unwrap();
    assert!(rates.status.success());
    let rates = std::fs::read_to_string(run.join("rates.csv")).unwrap();
    assert!(
        rates.starts_with("time_utc,iface,rx_bytes_per_s,"),
        "{rates}"
    );
    assert_eq!(rates.lines().count(), 5, "{rates}");
    std::fs::remove_dir_all(&folder).unwrap();
}
