//! The loader of the configuration, from the outside: what it takes, what it refuses and how it
//! says so.

#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use axmq::Config;
use axmq::config::{
    self, Authenticator, CommandLine, Durability, Kind, Loaded, LogLevel, Origin, Sources,
    StoreRule, Value,
};
use proptest::prelude::*;

/// A file that is gone when this is.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: impl AsRef<[u8]>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "config-{}-{}.toml",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, content).expect("the folder for temporary files is writable");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let home = [("HOME", "/home/somebody")];
    home.iter()
        .chain(pairs)
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn load(
    content: &str,
    variables: &[(&str, &str)],
    command_line: CommandLine,
) -> Result<Loaded, String> {
    let sources = Sources {
        file: None,
        environment: environment(variables),
        command_line,
    };
    config::load_text("FILE", content, &sources).map_err(|error| error.to_string())
}

fn load_file(content: &str) -> Result<Loaded, String> {
    load(content, &[], CommandLine::default())
}

fn load_variables(variables: &[(&str, &str)]) -> Result<Loaded, String> {
    load("", variables, CommandLine::default())
}

fn key(section: &str, name: &str) -> &'static config::Key {
    config::keys()
        .find(|key| key.section == section && key.name == name)
        .expect("it is a key")
}

#[track_caller]
fn refused(content: &str, expected: &str) {
    match load_file(content) {
        Ok(_) => panic!("{content:?} is accepted"),
        Err(message) => {
            assert!(
                message.contains(expected),
                "{content:?}\nexpected: {expected}\nfound: {message}"
            );
        }
    }
}

#[test]
fn an_empty_file_gives_the_defaults_and_a_place_for_data() {
    let loaded = load_file("").expect("nothing is wrong with it");
    let mut expected = Config::default();
    expected.broker.data_dir = Some("/home/somebody/.local/state/axmq".into());
    assert_eq!(loaded.config, expected);
    assert_eq!(*loaded.origin(key("limits", "inflight")), Origin::Default);
}

#[test]
fn the_later_source_wins() {
    let file = "[broker]\nshards = 2\n[log]\nlevel = \"warn\"\n[limits]\ninflight = 10\n";
    let variables = [("AXMQ_BROKER__SHARDS", "3"), ("AXMQ_LOG__LEVEL", "debug")];
    let command_line = CommandLine {
        shards: Some(4),
        ..CommandLine::default()
    };
    let loaded = load(file, &variables, command_line).expect("nothing is wrong with it");

    assert_eq!(loaded.config.broker.shards, 4);
    assert_eq!(
        *loaded.origin(key("broker", "shards")),
        Origin::CommandLine("--shards")
    );
    assert_eq!(loaded.config.log.level, LogLevel::Debug);
    let from_variable = Origin::Environment("AXMQ_LOG__LEVEL".to_owned());
    assert_eq!(*loaded.origin(key("log", "level")), from_variable);
    assert_eq!(loaded.config.limits.inflight, 10);
    match loaded.origin(key("limits", "inflight")) {
        Origin::File(place) => assert_eq!((place.line, place.column), (6, 12)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn listeners_of_a_later_source_replace_those_before() {
    let file = "[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"[::1]:2\"\n";
    let ports = |loaded: &Loaded| -> Vec<u16> {
        loaded
            .config
            .listeners
            .iter()
            .filter_map(|listener| listener.address.port())
            .collect()
    };

    let loaded = load_file(file).expect("nothing is wrong with it");
    assert_eq!(ports(&loaded), [1, 2]);
    assert!(
        loaded
            .config
            .listeners
            .iter()
            .all(|listener| !listener.optional)
    );

    let variables = [("AXMQ_LISTENER__ADDRESS", "127.0.0.1:3, [::1]:4")];
    let loaded = load(file, &variables, CommandLine::default()).expect("nothing is wrong with it");
    assert_eq!(ports(&loaded), [3, 4]);

    let listen = vec!["127.0.0.1:5".parse().expect("an address")];
    let command_line = CommandLine {
        listen,
        ..CommandLine::default()
    };
    let loaded = load(file, &variables, command_line).expect("nothing is wrong with it");
    assert_eq!(ports(&loaded), [5]);
    assert_eq!(*loaded.listener_origin(0), Origin::CommandLine("--listen"));
}

#[test]
fn every_way_to_write_a_table_is_understood() {
    for content in [
        "[limits]\ninflight = 7",
        "limits = { inflight = 7 }",
        "limits.inflight = 7",
        "[limits]\n\"inflight\" = 0x7",
        "\u{feff}[limits]\r\ninflight = 7 # seven\r\n",
    ] {
        let loaded = load_file(content).unwrap_or_else(|error| panic!("{content:?}: {error}"));
        assert_eq!(loaded.config.limits.inflight, 7, "{content:?}");
    }
    let loaded = load_file("listener = [{ address = \"127.0.0.1:9\" }]").expect("an inline list");
    assert_eq!(loaded.config.listeners.len(), 1);
}

#[test]
fn the_whole_diagnostic_of_a_misspelt_key() {
    assert_eq!(
        load_file("# first\n[limits]\n  packet_byte = 5\n").map(|_| ()),
        Err("FILE:3:3: unknown key `packet_byte` in [limits]\n  \
               3 |   packet_byte = 5\n    \
                 |   ^^^^^^^^^^^ did you mean `packet_bytes`?"
            .to_owned())
    );
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    refused("[limit]\n", "FILE:1:2: unknown section `[limit]`");
    refused("[limit]\n", "did you mean `[limits]`?");
    refused(
        "[weather]\n",
        "known: broker, auth, defence, log, protocol, store, rates, limits, budgets, listener",
    );
    refused("inflight = 5\n", "did you mean `inflight` under [limits]?");
    refused(
        "[log]\nshards = 5\n",
        "FILE:2:1: unknown key `shards` in [log]",
    );
    refused("[log]\nshards = 5\n", "this key belongs under [broker]");
    refused(
        "[[listener]]\nadress = \"127.0.0.1:1\"\n",
        "did you mean `address`?",
    );
    refused("[limits]\n\"a\\u001bb\" = 5\n", "unknown key `a\\u{1b}b`");
}

#[test]
fn values_of_another_type_are_refused_with_their_place() {
    let expected = "FILE:2:12: `limits.inflight` must be a whole number, not ";
    for (value, found) in [
        ("\"5\"", "text"),
        ("5.5", "a number with a fraction"),
        ("true", "true"),
        ("[5]", "a list"),
        ("{ a = 5 }", "a table"),
        ("1979-05-27", "a date"),
    ] {
        refused(
            &format!("[limits]\ninflight = {value}\n"),
            &format!("{expected}{found}"),
        );
    }
    refused(
        "[broker]\nallow_anonymous = 1\n",
        "must be true or false, not a whole number",
    );
    refused(
        "[broker]\ndata_dir = 1\n",
        "must be a path in quotes, not a whole number",
    );
    refused(
        "[log]\nlevel = \"loud\"\n",
        "must be one of \"error\", \"warn\", \"info\"",
    );
    refused("limits = 1\n", "FILE:1:10: `limits` is a section");
    refused(
        "[listener]\naddress = \"127.0.0.1:1\"\n",
        "write [[listener]] with two brackets",
    );
    refused(
        "listener = [5]\n",
        "FILE:1:13: a listener is a table, not a whole number",
    );
    refused("listener = []\n", "FILE:1:12: `listener` must not be empty");
    refused("[[listener]]\n", "FILE:1:1: this listener has no address");
    refused(
        "[[listener]]\naddress = 1883\n",
        "FILE:2:11: `address` must be text",
    );
    refused(
        "[[listener]]\naddress = \":1883\"\n",
        "FILE:2:11: the host is missing",
    );
}

#[test]
fn numbers_outside_their_range_are_refused_at_both_ends() {
    for key in config::keys() {
        let Kind::Number { min, max } = key.kind else {
            continue;
        };
        let below = i128::from(min) - 1;
        let above = i128::from(max) + 1;
        for number in [below, above, i128::MAX, i128::MIN] {
            let content = format!("[{}]\n{} = {number}\n", key.section, key.name);
            refused(&content, &format!("`{}` must be from ", key.path()));
            refused(&content, "FILE:2:");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_in_order() {
    let error = load_file("[log]\nlevel = 1\n[limits]\nb = 1\ninflight = 0\n[[listener]]\nx = 1\n")
        .map(|_| ())
        .expect_err("it is wrong");
    let places: Vec<&str> = error
        .lines()
        .filter(|line| line.starts_with("FILE:"))
        .collect();
    let lines: Vec<&str> = places
        .iter()
        .filter_map(|place| place.split(':').nth(1))
        .collect();
    assert_eq!(lines, ["2", "4", "5", "7", "6"], "{error}");

    let many: String = (0..30).map(|n| format!("x{n} = 1\n")).collect();
    refused(&many, "... and 10 more");
}

#[test]
fn what_is_not_toml_is_refused_with_its_place() {
    refused("[limits\n", "FILE:1:");
    refused("[limits]\ninflight = \n", "FILE:2:");
    refused(
        "[limits]\ninflight = 1\ninflight = 2\n",
        "FILE:3:1: duplicate key",
    );
    refused(&format!("x = {}", "[".repeat(200_000)), "recurs");
    let file = TempFile::new(b"# ok\n# \xff\n");
    let sources = Sources {
        file: Some(file.0.clone()),
        ..Sources::default()
    };
    let error = config::load(&sources).expect_err("it is wrong").to_string();
    assert!(error.contains(":2:3: this is not UTF-8"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    for (path, reason) in [
        ("/nowhere/axmq.toml", "No such file or directory"),
        ("/", "Is a directory"),
        ("/dev/zero", "larger than 1048576 bytes"),
    ] {
        let sources = Sources {
            file: Some(path.into()),
            ..Sources::default()
        };
        let error = config::load(&sources)
            .expect_err("it cannot be read")
            .to_string();
        assert!(error.contains(path) && error.contains(reason), "{error}");
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused_where_they_are_set() {
    refused(
        "[limits]\npacket_bytes = 8_000_000\n",
        "FILE:2:16: `limits.packet_bytes` (8_000_000)",
    );
    refused(
        "[limits]\nsession_queue_bytes = 1024\n",
        "FILE:2:23: `limits.packet_bytes`",
    );
    refused(
        "[limits]\nout_queue_soft_bytes = 5_000_000\n",
        "`limits.out_queue_bytes` (4_194_304)",
    );
    refused(
        "[limits]\npre_connect_bytes = 268_435_460\n",
        "`limits.pre_connect_bytes_total`",
    );
}

#[test]
fn an_address_that_others_can_reach_needs_consent() {
    for address in [
        "0.0.0.0:1883",
        "[::]:1883",
        "192.0.2.1:1883",
        "[::ffff:192.0.2.1]:1883",
    ] {
        let content = format!("[[listener]]\naddress = \"{address}\"\n");
        refused(
            &content,
            &format!("FILE:2:11: {address} can be reached from other machines"),
        );
        refused(&content, "--allow-anonymous");
        refused(&content, "allow_anonymous = true");
        let consents = format!("{content}[broker]\nallow_anonymous = true\n");
        assert!(load_file(&consents).is_ok());
        let command_line = CommandLine {
            allow_anonymous: true,
            ..CommandLine::default()
        };
        assert!(load(&content, &[], command_line).is_ok());
    }
    for address in [
        "127.0.0.1:1883",
        "127.9.9.9:1883",
        "[::1]:1883",
        "[::ffff:127.0.0.1]:1883",
    ] {
        assert!(load_file(&format!("[[listener]]\naddress = \"{address}\"\n")).is_ok());
    }
}

#[test]
fn an_address_must_not_stand_twice_but_port_0_may() {
    let twice = |address: &str| {
        format!("[[listener]]\naddress = \"{address}\"\n[[listener]]\naddress = \"{address}\"\n")
    };
    refused(
        &twice("127.0.0.1:5"),
        "FILE:4:11: the address 127.0.0.1:5 is listened on twice",
    );
    assert!(load_file(&twice("127.0.0.1:0")).is_ok());
}

#[test]
fn variables_are_read_and_refused_like_keys() {
    let loaded = load_variables(&[
        ("AXMQ_LIMITS__PACKET_BYTES", "65_536"),
        ("AXMQ_BROKER__ALLOW_ANONYMOUS", "true"),
        ("AXMQ_BROKER__DATA_DIR", "/data"),
        ("AXMQLIMITS", "not ours"),
        ("OTHER", "not ours"),
    ])
    .expect("nothing is wrong with it");
    assert_eq!(loaded.config.limits.packet_bytes, 65_536);
    assert!(loaded.config.broker.allow_anonymous);
    assert_eq!(loaded.config.broker.data_dir, Some("/data".into()));

    for (name, value, expected) in [
        (
            "AXMQ_LIMITS__PACKET_BYTE",
            "1",
            "did you mean AXMQ_LIMITS__PACKET_BYTES?",
        ),
        (
            "AXMQ_LIMITS_PACKET_BYTES",
            "1",
            "did you mean AXMQ_LIMITS__PACKET_BYTES?",
        ),
        (
            "AXMQ_limits__packet_bytes",
            "1",
            "did you mean AXMQ_LIMITS__PACKET_BYTES?",
        ),
        (
            "AXMQ_LISTENERS__ADDRESS",
            "1",
            "did you mean AXMQ_LISTENER__ADDRESS?",
        ),
        ("AXMQ_", "1", "AXMQ_SECTION__KEY"),
        (
            "AXMQ_LIMITS__INFLIGHT",
            "",
            "must be from 1 to 65_535 messages, not \"\"",
        ),
        ("AXMQ_LIMITS__INFLIGHT", "-1", "must be from 1"),
        ("AXMQ_LIMITS__INFLIGHT", "65536", "must be from 1"),
        (
            "AXMQ_LIMITS__INFLIGHT",
            "99999999999999999999999",
            "must be from 1",
        ),
        (
            "AXMQ_BROKER__ALLOW_ANONYMOUS",
            "yes",
            "must be true or false, not \"yes\"",
        ),
        ("AXMQ_BROKER__DATA_DIR", "", "must not be empty"),
        ("AXMQ_BROKER__DATA_DIR", "~/axmq", "must be a full path"),
        ("AXMQ_LOG__LEVEL", "INFO", "must be one of"),
        (
            "AXMQ_LISTENER__ADDRESS",
            "",
            "environment variable AXMQ_LISTENER__ADDRESS: ",
        ),
        (
            "AXMQ_LISTENER__ADDRESS",
            "0.0.0.0:5",
            "environment variable AXMQ_LISTENER__ADDRESS: 0.0",
        ),
    ] {
        let error = load_variables(&[(name, value)])
            .map(|_| ())
            .expect_err("it is wrong");
        assert!(
            error.contains(name) && error.contains(expected),
            "{name}={value}: {error}"
        );
    }
}

#[test]
fn variables_that_are_not_unicode_are_read_as_far_as_that_makes_sense() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let load = |name: &[u8], value: &[u8]| {
        let mut sources = Sources {
            environment: environment(&[]),
            ..Sources::default()
        };
        let pair = (
            OsStr::from_bytes(name).into(),
            OsStr::from_bytes(value).into(),
        );
        sources.environment.push(pair);
        config::load(&sources)
    };
    let loaded = load(b"AXMQ_BROKER__DATA_DIR", b"/a\xff").expect("a path may have any bytes");
    let path = loaded.config.broker.data_dir.expect("it is set");
    assert_eq!(path.as_os_str().as_bytes(), b"/a\xff");
    assert!(load(b"AXMQ_LIMITS__INFLIGHT", b"1\xff").is_err());
    assert!(load(b"AXMQ_LIMITS__INFLIGHT\xff", b"1").is_err());
    assert!(load(b"OTHER\xff", b"\xff").is_ok());
}

#[test]
fn service_links_of_kubernetes_do_not_keep_the_broker_from_starting() {
    let links = [
        ("AXMQ_SERVICE_HOST", "10.0.0.1"),
        ("AXMQ_SERVICE_PORT", "1883"),
        ("AXMQ_SERVICE_PORT_MQTT", "1883"),
        ("AXMQ_PORT", "tcp://10.0.0.1:1883"),
        ("AXMQ_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
        ("AXMQ_INTERNAL_PORT_1883_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(load_variables(&links).is_ok());
    for key in config::keys() {
        let sample = match key.kind {
            Kind::Words(words) => words.last().map_or("", |word| word),
            _ if key.name == "url" => "http://localhost/x",
            _ => "/x",
        };
        let value = key
            .value(&Config::default())
            .map_or_else(|| sample.to_owned(), |value| value.to_string());
        let value = value.trim_matches('"');
        let loaded = load_variables(&[(&key.variable(), value)]).expect("the default is accepted");
        assert_eq!(*loaded.origin(key), Origin::Environment(key.variable()));
    }
}

#[test]
fn the_data_directory_is_where_the_system_wants_it() {
    for (variables, expected) in [
        (
            vec![("STATE_DIRECTORY", "/a:/b"), ("XDG_STATE_HOME", "/x")],
            "/a",
        ),
        (
            vec![("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "/x")],
            "/x/axmq",
        ),
        (
            vec![("XDG_STATE_HOME", "relative")],
            "/home/somebody/.local/state/axmq",
        ),
        (
            vec![("AXMQ_BROKER__DATA_DIR", "/c"), ("STATE_DIRECTORY", "/a")],
            "/c",
        ),
    ] {
        let loaded = load_variables(&variables).expect("nothing is wrong with it");
        assert_eq!(
            loaded.config.broker.data_dir,
            Some(expected.into()),
            "{variables:?}"
        );
    }
    let error = config::load(&Sources::default())
        .expect_err("there is no place")
        .to_string();
    assert!(error.contains("--data-dir"), "{error}");
    let loaded = load_file("[broker]\ndata_dir = \"here\"\n").expect("relative is accepted");
    assert!(
        loaded
            .config
            .broker
            .data_dir
            .is_some_and(|path| path.is_absolute())
    );
}

#[test]
fn a_name_that_has_no_address_is_refused() {
    // A label has at most 63 characters (RFC 1035, section 2.3.4), so no server is asked.
    let name = "x".repeat(70);
    let content = format!("[[listener]]\naddress = \"{name}.invalid:1\"\n");
    refused(&content, "FILE:2:11: cannot find the address");
}

#[test]
fn what_is_shown_loads_to_the_same_configuration() {
    let mut content = String::from("[[listener]]\naddress = \"127.0.0.1:5\"\n");
    for section in [
        "broker", "defence", "log", "protocol", "rates", "limits", "budgets",
    ] {
        content.push_str(&format!("[{section}]\n"));
        for key in config::keys().filter(|key| key.section == section) {
            let value = match key.kind {
                Kind::Number { max, .. } if key.name.starts_with("pre_connect_bytes") => {
                    (max / 4096).to_string()
                }
                Kind::Number { max, .. } => max.to_string(),
                Kind::Flag => "true".to_owned(),
                Kind::Choice(words) => format!("{:?}", words[0]),
                Kind::Networks => "\"10.0.0.0/8, ::1\"".to_owned(),
                _ => "\"/with \\\" and \\n in it\"".to_owned(),
            };
            content.push_str(&format!("{} = {value}\n", key.name));
        }
    }
    let first = load_file(&content).expect("nothing is wrong with it");
    let shown = first.to_string();
    let second = load_file(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(first.config, second.config);
    assert_ne!(first.config, Config::default());
}

#[test]
fn a_list_of_words_comes_from_a_file_or_a_variable() {
    let file = "[auth]\npassword_file = \"users\"\nchain = [\"anonymous\", \"password\"]\n";
    let loaded = load_file(file).expect("nothing is wrong with it");
    let order = |loaded: &Loaded| loaded.config.auth.order(true);
    use Authenticator::{Anonymous, Certificate, Password};
    assert_eq!(order(&loaded), [Anonymous, Password]);
    let shown = loaded.to_string();
    assert!(
        shown.contains("\nchain = [\"anonymous\", \"password\"]"),
        "{shown}"
    );
    let variables = [("AXMQ_AUTH__CHAIN", "password, anonymous")];
    let loaded = load(file, &variables, CommandLine::default()).expect("it is accepted");
    assert_eq!(order(&loaded), [Password, Anonymous]);
    // Without a list: what is configured.
    let file = "[auth]\npassword_file = \"users\"\n";
    let loaded = load_file(file).expect("nothing is wrong with it");
    assert_eq!(order(&loaded), [Certificate, Password, Anonymous]);
    assert_eq!(loaded.config.auth.order(false), [Certificate, Password]);

    for (chain, expected) in [
        (
            "[\"pasword\"]",
            "FILE:2:9: `auth.chain` must be a list of some of \"certificate\", ",
        ),
        ("[5]", "not one of a whole number"),
        ("\"password\"", "not text"),
        ("[]", "`auth.chain` must be a list"),
        (
            "[\"password\"]",
            "FILE:2:9: `password` in `auth.chain` needs `auth.password_file`",
        ),
        (
            "[\"certificate\"]",
            "`certificate` in `auth.chain` needs a listener with `tls_identity`",
        ),
        (
            "[\"anonymous\", \"anonymous\"]",
            "`anonymous` stands in `auth.chain` twice",
        ),
    ] {
        refused(&format!("[auth]\nchain = {chain}\n"), expected);
    }
    let error = load_variables(&[("AXMQ_AUTH__CHAIN", "password,,")]).expect_err("it is refused");
    assert!(
        error.contains("AXMQ_AUTH__CHAIN: `auth.chain` must be a list"),
        "{error}"
    );
}

#[test]
fn roles_are_read_and_shown_and_their_mistakes_have_a_place() {
    let file = "\
[[auth.role]]
name = \"a \\\"b\\\"\"
users = [\"ann\", \"*\"]
allow = [\"read x/#\", \"y/%u\"]
deny = [\"write x/secret\"]

[[auth.role]]
name = \"empty\"
";
    let loaded = load_file(file).expect("nothing is wrong with it");
    let roles = &loaded.config.auth.roles;
    assert_eq!(roles.len(), 2);
    assert_eq!(roles[0].name, "a \"b\"");
    assert_eq!(roles[0].allow, ["read x/#", "y/%u"]);
    let shown = loaded.to_string();
    assert!(shown.contains("# FILE:7\nusers = []\n"), "{shown}");
    let again = load_file(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(again.config.auth, loaded.config.auth);

    for (lines, expected) in [
        ("name = 5", "FILE:2:8: `name` must be text in quotes"),
        ("users = [\"a\"]", "FILE:1:1: this role has no name"),
        ("name = \"\"", "a role has no name"),
        (
            "name = \"a\"\nalow = []",
            "FILE:3:1: unknown key `alow` in [[auth.role]]\n",
        ),
        (
            "name = \"a\"\nallow = \"x\"",
            "FILE:3:9: `allow` must be a list of texts, not text",
        ),
        (
            "name = \"a\"\nallow = [\"read x\", \"raed y/#\"]",
            "FILE:3:20: unknown access `raed`; did you mean `read`?",
        ),
        (
            "name = \"a\"\ndeny = [\"read\"]",
            "FILE:3:9: there is no topic",
        ),
        (
            "name = \"a\"\ndeny = [\"deny x\"]",
            "FILE:3:9: what is denied stands in the list `deny`",
        ),
        ("name = \"a\"\ndeny = [\"a#\"]", "FILE:3:9: "),
        (
            "name = \"a\"\n[[auth.role]]\nname = \"a\"",
            "there are two roles \"a\"",
        ),
    ] {
        refused(&format!("[[auth.role]]\n{lines}\n"), expected);
    }
    refused("[auth]\nrole = 5\n", "FILE:2:8: `role` is a list");
    refused(
        "[auth]\nrole = [5]\n",
        "FILE:2:9: a role is a table, not a whole",
    );
    refused("[auth]\nrol = []\n", "did you mean `role`?");
}

#[test]
fn rules_of_the_store_are_read_and_shown_and_their_mistakes_have_a_place() {
    let file = "\
[store]
durability = \"none\"

[[store.rule]]
durability = \"always\"
topics = [\"bank/+/orders\", \"alarm/#\"]

[[store.rule]]
durability = \"interval\"
users = [\"ann \\\"b\\\"\"]
";
    let loaded = load_file(file).expect("nothing is wrong with it");
    let rules = &loaded.config.store.rules;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].durability, Durability::Always);
    assert_eq!(rules[0].topics, ["bank/+/orders", "alarm/#"]);
    assert_eq!(rules[1].users, ["ann \"b\""]);
    let shown = loaded.to_string();
    assert!(shown.contains("# FILE:8\ntopics = []\n"), "{shown}");
    let again = load_file(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(again.config.store, loaded.config.store);

    for (lines, expected) in [
        (
            "topics = [\"a\"]",
            "FILE:1:1: this rule says no durability\n",
        ),
        (
            "durability = \"allways\"\ntopics = [\"a\"]",
            "FILE:2:14: `durability` must be one of \"none\", \"interval\", \"always\", not \
             \"allways\"\n",
        ),
        (
            "durability = 1\ntopics = [\"a\"]",
            "FILE:2:14: `durability` must be one of \"none\", \"interval\", \"always\", not a \
             whole",
        ),
        (
            "durability = \"none\"",
            "FILE:1:1: this rule is for nothing: add topics = [...] or users = [...]\n",
        ),
        (
            "durability = \"none\"\ntopics = [\"a\"]\nusers = [\"b\"]",
            "FILE:1:1: this rule is for topics and for users: make two of it\n",
        ),
        (
            "durability = \"none\"\ntopic = [\"a\"]",
            "FILE:3:1: unknown key `topic` in [[store.rule]]\n  3 | topic = [\"a\"]\n    | ^^^^^ \
             did you mean `topics`?",
        ),
        (
            "durability = \"none\"\ntopics = [\"a\", \"b#\"]",
            "FILE:3:16: \"b#\" is no topic filter: ",
        ),
        (
            "durability = \"none\"\ntopics = [\"\"]",
            "FILE:3:11: \"\" is no topic filter: ",
        ),
        (
            "durability = \"none\"\ntopics = [\"$share/g/a\"]",
            "FILE:3:11: a rule is for topics, not for subscriptions: leave `$share/NAME/` out\n",
        ),
        (
            "durability = \"none\"\ntopics = [\"$SYS/#\"]",
            "FILE:3:11: what is under `$SYS/` is the broker's own, and never kept\n",
        ),
        (
            "durability = \"none\"\nusers = [\"\"]",
            "FILE:3:10: a user has a name\n",
        ),
        (
            "durability = \"none\"\nusers = [\"*\"]",
            "FILE:3:10: for everybody there is `durability` of [store] and of a listener\n",
        ),
        (
            "durability = \"none\"\nusers = \"a\"",
            "FILE:3:9: `users` must be a list of texts, not text\n",
        ),
        (
            "durability = \"none\"\nusers = [1]",
            "FILE:3:10: `users` must be a list of texts, not of a whole number\n",
        ),
        (
            "durability = \"none\"\ntopics = [\"a\"]\n[[store.rule]]\ndurability = \"none\"\n\
             topics = [\"b\", \"a\"]",
            "FILE:6:16: \"a\" has a rule already: of two, nobody could say which holds\n",
        ),
        (
            "durability = \"none\"\nusers = [\"a\", \"a\"]",
            "FILE:3:15: \"a\" has a rule already",
        ),
    ] {
        refused(&format!("[[store.rule]]\n{lines}\n"), expected);
    }
    refused("[store]\nrule = 5\n", "FILE:2:8: `rule` is a list");
    refused("[store]\nrules = []\n", "did you mean `rule`?");
    let listener = "[[listener]]\naddress = \"127.0.0.1:1\"\ndurability = ";
    let loaded = load_file(&format!("{listener}\"always\"\n")).expect("it is one");
    assert_eq!(
        loaded.config.listeners[0].rules.durability,
        Some(Durability::Always)
    );
    refused(
        &format!("{listener}\"sometimes\"\n"),
        "FILE:3:14: `durability` must be one of \"\", \"none\", \"interval\", \"always\", not \
         \"sometimes\"\n",
    );

    let mut config = Config::default();
    for topics in [
        vec!["a".to_owned(), "b#".to_owned()],
        vec!["a".to_owned()],
        vec![],
    ] {
        config.store.rules.push(StoreRule {
            topics,
            ..StoreRule::default()
        });
    }
    let found = config.check();
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_configuration_of_ones_own_is_checked_too() {
    assert_eq!(Config::default().check(), []);
    let mut config = Config::default();
    config.limits.inflight = 0;
    config.listeners.clear();
    let messages: Vec<_> = config
        .check()
        .into_iter()
        .map(|found| found.message)
        .collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
}

/// The entry of the document begins with a line that says all there is in the table of keys.
#[test]
fn the_document_has_every_key_with_its_default_and_range() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let document = std::fs::read_to_string(path).expect("the document is there");
    let config = Config::default();
    let sections: BTreeSet<_> = config::keys().map(|key| key.section).collect();
    for section in sections {
        let heading = format!("\n## [{section}]\n");
        let (_, rest) = document.split_once(&heading).expect("there is a heading");
        let text = rest.split("\n## ").next().unwrap_or_default();
        let keys: Vec<_> = config::keys()
            .filter(|key| key.section == section)
            .collect();
        assert_eq!(text.matches("\n- **`").count(), keys.len(), "[{section}]");
        for key in keys {
            let default = key.value(&config).map_or_else(
                || " is not set".to_owned(),
                |value: Value| format!(" = `{value}`"),
            );
            let accepted = match key.kind {
                Kind::Number { min, max } => {
                    format!(" {}, from {} to {}", key.unit, grouped(min), grouped(max))
                }
                Kind::Choice(words) => format!(", one of \"{}\"", words.join("\", \"")),
                Kind::Words(words) => {
                    format!(", a list of some of \"{}\"", words.join("\", \""))
                }
                _ => String::new(),
            };
            let line = format!("\n- **`{}`**{default}{accepted}.\n", key.name);
            assert!(text.contains(&line), "[{section}] lacks the line {line}");
        }
    }
    let (_, listener) = document
        .split_once("\n## [[listener]]\n")
        .expect("there is a heading");
    for listening in config.listeners {
        assert!(listener.contains(&format!("\"{}\"", listening.address)));
    }
}

/// As the configuration itself writes numbers, written anew.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy)
        .collect();
    groups.join("_")
}

#[test]
fn the_example_of_the_document_is_accepted() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let document = std::fs::read_to_string(path).expect("the document is there");
    let (_, rest) = document
        .split_once("```toml\n")
        .expect("there is an example");
    let example = rest.split("```").next().unwrap_or_default();
    let loaded = load_file(example).expect("it is accepted");
    assert_eq!(loaded.config.listeners.len(), 2);
}

/// Text that is nearly a configuration.
fn nearly() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("[limits]"),
        Just("[[listener]]"),
        Just("[listener]"),
        Just("[broker]"),
        Just("[log]"),
        Just("[[store.rule]]"),
        Just("durability = \"none\"\ntopics = [\"a\"]\n"),
        Just("limits."),
        Just("inflight"),
        Just("address"),
        Just("level"),
        Just("data_dir"),
        Just(" = "),
        Just("\n"),
        Just("5"),
        Just("-5"),
        Just("1e400"),
        Just("\"info\""),
        Just("\"127.0.0.1:0\""),
        Just("\"\"\"\n\u{e9}\n\"\"\""),
        Just("{ "),
        Just(" }"),
        Just("["),
        Just("]"),
        Just(", "),
        Just("# \u{4e16}"),
        Just("\\"),
        Just("\r"),
    ];
    proptest::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the file says, the answer is a configuration that is in order, or a reason.
    #[test]
    fn no_file_panics_and_what_is_accepted_is_in_order(content in nearly()) {
        match load_file(&content) {
            Ok(loaded) => prop_assert_eq!(loaded.config.check(), vec![]),
            Err(message) => prop_assert!(!message.is_empty()),
        }
    }

    #[test]
    fn no_bytes_panic(content in proptest::collection::vec(any::<u8>(), 0..64)) {
        let file = TempFile::new(&content);
        let sources = Sources { file: Some(file.0.clone()), ..Sources::default() };
        prop_assert!(config::load(&sources).is_err(), "there is no place for data");
    }
}

#[test]
fn listeners_have_rules_and_the_document_has_each_of_them() {
    let file = "[[listener]]\naddress = \"127.0.0.1:1\"\nmaximum_qos = 1\nretain = false\n\
                mount_point = \"a/\"\n[[listener]]\naddress = \"127.0.0.1:2\"\n";
    let loaded = load_file(file).expect("good rules");
    let rules: Vec<_> = loaded.config.listeners.iter().map(|l| &l.rules).collect();
    assert_eq!((rules[0].maximum_qos, rules[0].retain), (1, false));
    assert_eq!(rules[0].mount_point, "a/");
    assert_eq!(*rules[1], axmq::config::ListenerRules::default());
    let shown = loaded.to_string();
    assert!(shown.contains("maximum_qos = 1\n"), "{shown}");

    let document = include_str!("../../docs/configuration.md");
    let (first, _) = shown.split_once("\n\n").expect("several listeners");
    let names: Vec<_> = first
        .lines()
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(document.contains(&format!("**`{name}`**")), "{name}");
    }

    let listener = |line: &str| format!("[[listener]]\naddress = \"127.0.0.1:1\"\n{line}\n");
    for (line, expected) in [
        (
            "maximum_qos = 3",
            "FILE:3:15: `maximum_qos` must be from 0 to 2, not 3",
        ),
        (
            "retain = 1",
            "FILE:3:10: `retain` must be true or false, not a whole number",
        ),
        ("maximum_qs = 1", "did you mean `maximum_qos`?"),
        (
            "mount_point = \"a/#\"",
            "`mount_point` must be the beginning of topics",
        ),
    ] {
        refused(&listener(line), expected);
    }
}

#[test]
fn a_section_in_a_section_has_its_keys_in_files_and_variables() {
    let file = "[auth.jwt]\nkey_file = \"keys\"\nleeway_s = 5\n[auth]\nscram = false\n";
    let variables = [("AXMQ_AUTH__JWT__ISSUER", "https://issuer.example")];
    let loaded = load(file, &variables, CommandLine::default()).expect("it is accepted");
    let jwt = &loaded.config.auth.jwt;
    assert_eq!(jwt.leeway_s, 5);
    assert_eq!(jwt.issuer.as_deref(), Some("https://issuer.example"));
    let shown = loaded.to_string();
    let again = load_file(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(again.config.auth, loaded.config.auth);
    refused(
        "[auth]\njwt = 5\n",
        "FILE:2:7: `auth.jwt` is a section, not a whole number",
    );
    refused(
        "[auth.jwt]\nleeway_s = 3601\n",
        "`auth.jwt.leeway_s` must be from 0 to 3_600 seconds",
    );
    refused("[\"auth.jwt\"]\n", "FILE:1:2: unknown section `[auth.jwt]`");
    for (url, expected) in [
        (
            "ftp://host/",
            "it has to begin with http:// or https:// and a host",
        ),
        (
            "/path",
            "it has to begin with http:// or https:// and a host",
        ),
        ("http://a b/", "`auth.http.url`: invalid uri character"),
    ] {
        refused(&format!("[auth.http]\nurl = \"{url}\"\n"), expected);
    }
}
