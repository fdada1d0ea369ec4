//! `axmq store`: what is kept, looked at, copied and brought back by the program itself.

use std::fs;
use std::process::Output;

use mqtt_codec::Version;
use rustix::process::Signal;

use super::client::{Broker, message};
use super::support::{TempDir, program};
use super::{ALWAYS, subscriber};

/// Runs the program at home in this folder.
fn run(home: &TempDir, arguments: &[&str]) -> Output {
    let output = program(home).args(arguments).output();
    output.expect("the program was built")
}

/// Runs what has to work; what it prints.
#[track_caller]
pub(super) fn works(home: &TempDir, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaints}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs what has to fail with this exit code; what it complains of.
#[track_caller]
fn fails(home: &TempDir, arguments: &[&str], code: i32) -> String {
    let output = run(home, arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {output:?}"
    );
    String::from_utf8(output.stderr).expect("text")
}

/// A broker that keeps a session with two messages, a group with one, and a retained message.
fn busy(home: TempDir) -> Broker {
    let broker = Broker::at(home, 2, ALWAYS);
    subscriber(&broker, "a", "t/#", 2).leaves();
    subscriber(&broker, "m", "$share/g/u", 1).leaves();
    let mut publisher = broker.client(Version::V5, "p");
    for (n, topic) in [(1, "t/1"), (2, "t/2"), (3, "u")] {
        publisher.publishes(message(topic, "x", 1, n));
        publisher.hears(&format!("puback #{n}"));
    }
    publisher.publishes(message("r", "kept", 1, 4).retained());
    publisher.hears("puback #4");
    broker
}

/// All that [`busy`] has kept is there.
fn is_whole(broker: &Broker) {
    let mut client = broker.resume(Version::V5, "a", "connack 1");
    client.hears("t/1=x q1 #1");
    client.hears("t/2=x q1 #2");
    let mut member = broker.resume(Version::V5, "m", "connack 1");
    member.hears("u=x q1 #1");
    let mut newcomer = broker.client(Version::V5, "n");
    newcomer.subscribes(&[super::filter("r", 1)], "suback #77 01");
    newcomer.hears("r=kept q1 #1 retain");
}

#[test]
fn a_store_is_looked_at_exported_and_imported() {
    let home = busy(TempDir::new()).end(Signal::TERM);
    let checked = works(&home, &["store", "check"]);
    for line in [
        "session                 2 records",
        "queue                   3 records",
    ] {
        assert!(checked.contains(line), "{checked}");
    }
    assert_eq!(works(&home, &["store", "stats"]), checked);
    works(&home, &["store", "compact"]);
    let exported = works(&home, &["store", "export"]);
    assert!(
        exported.starts_with(r#"{"header":{"export":1,"#),
        "{exported}"
    );
    let file = home.join("all.jsonl");
    fs::write(&file, &exported).expect("there is room");
    let file = file.to_str().expect("plain");
    let refused = fails(&home, &["store", "import", file], 1);
    assert!(refused.contains("there is a store at"), "{refused}");
    let there = home.join("there");
    let there = there.to_str().expect("plain");
    works(&home, &["--data-dir", there, "store", "import", file]);
    let again = works(&home, &["--data-dir", there, "store", "export"]);
    assert_eq!(again, exported, "nothing is lost or changed on the way");
    let moved = [
        ("AXMQ_STORE__DURABILITY", "always"),
        ("AXMQ_BROKER__DATA_DIR", there),
    ];
    let broker = Broker::at(home, 3, &moved);
    is_whole(&broker);
}

#[test]
fn a_running_broker_is_backed_up_and_its_store_is_left_alone() {
    let broker = busy(TempDir::new());
    let home = &broker.home;
    for command in ["check", "stats", "export", "compact"] {
        let refused = fails(home, &["store", command], 1);
        let names = format!("process {}", broker.process.child.id());
        assert!(refused.contains(&names), "{command}: {refused}");
    }
    let said = works(home, &["store", "backup", "copy"]);
    assert!(said.contains("are copied to"), "{said}");
    let refused = fails(home, &["store", "backup", "copy"], 1);
    assert!(refused.contains("there is a store at"), "{refused}");
    // What comes after the backup is not in it.
    let mut publisher = broker.client(Version::V5, "late");
    publisher.publishes(message("t/3", "late", 1, 1));
    publisher.hears("puback #1");
    let home = broker.end(Signal::KILL);
    let copy = home.join("copy");
    let copy = copy.to_str().expect("plain").to_owned();
    works(&home, &["--data-dir", &copy, "store", "check"]);
    let settings = [
        ("AXMQ_STORE__DURABILITY", "always"),
        ("AXMQ_BROKER__DATA_DIR", &*copy),
    ];
    let broker = Broker::at(home, 1, &settings);
    let mut newcomer = broker.client(Version::V5, "n");
    newcomer.subscribes(&[super::filter("r", 1)], "suback #77 01");
    newcomer.hears("r=kept q1 #1 retain");
    let mut client = broker.resume(Version::V5, "a", "connack 1");
    assert!(client.read().starts_with("t/1=x q1 #"));
    assert!(client.read().starts_with("t/2=x q1 #"));
    client.hears_nothing_else();
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing_behind() {
    let home = TempDir::new();
    let refused = fails(&home, &["store", "check"], 1);
    assert!(refused.contains("there is no store at"), "{refused}");
    let refused = fails(&home, &["store", "backup", "copy"], 1);
    assert!(refused.contains("no broker is running"), "{refused}");
    let file = home.join("bad.jsonl");
    let header = concat!(
        r#"{"header":{"export":1,"node":"00000000000000000000000000000001","#,
        r#""crashes":0,"stopped_at_ms":null}}"#
    );
    let bad = format!("{header}\n{{\"group\":{{\"holder\":1}}}}\n");
    fs::write(&file, bad).expect("there is room");
    let file = file.to_str().expect("plain");
    let refused = fails(&home, &["store", "import", file], 1);
    assert!(refused.contains("line 2: missing field"), "{refused}");
    let refused = fails(&home, &["store", "check"], 1);
    assert!(refused.contains("there is no store at"), "{refused}");
    fails(&home, &["store", "import", "missing.jsonl"], 1);
    fails(&home, &["store", "import"], 2);
}
