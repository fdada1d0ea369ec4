//! An HTTP service that is asked who clients are: a tiny one in this test, which also hangs and
//! lies.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::support::{PATIENCE, TempDir};
use crate::{Broker, Peer, V5, V311, ask, login, run};

/// Answers by user name; see [`answer`]. Ends with the test.
struct Service {
    address: SocketAddr,
    /// What it was asked, in order.
    asked: Receiver<Value>,
    /// Lets those go that hang: each takes a letter.
    release: Sender<()>,
}

impl Service {
    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it has one");
        let (questions, asked) = channel();
        let (release, released) = channel();
        let released = Arc::new(Mutex::new(released));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let (questions, released) = (questions.clone(), Arc::clone(&released));
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("it is well");
                        serve(StreamOwned::new(connection, stream), &questions, &released);
                    }
                    None => serve(stream, &questions, &released),
                });
            }
        });
        Self {
            address,
            asked,
            release,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/login", self.address)
    }

    fn next(&self) -> Value {
        let asked = self.asked.recv_timeout(PATIENCE);
        asked.expect("the service is asked")
    }

    /// Whether it has been asked anything that nobody has looked at.
    fn was_asked(&self) -> bool {
        self.asked.try_recv().is_ok()
    }
}

/// Serves one connection after the other request.
fn serve(
    stream: impl Read + Write,
    questions: &Sender<Value>,
    released: &Arc<Mutex<Receiver<()>>>,
) {
    let mut stream = BufReader::new(stream);
    // Ends where the client has gone, or does not like the certificate.
    while let Ok(Some(question)) = read_question(&mut stream) {
        let user = question["username"].as_str().unwrap_or("-").to_owned();
        let _ = questions.send(question);
        if user.starts_with("hang") {
            let _ = released.lock().expect("no panic").recv();
        }
        if stream.get_mut().write_all(&answer(&user)).is_err() {
            return;
        }
    }
}

fn read_question(stream: &mut impl BufRead) -> std::io::Result<Option<Value>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    assert_eq!(line, "POST /login HTTP/1.1\r\n");
    let mut len = 0;
    let mut authorization = None;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length: ") {
            len = value.parse().expect("a number");
        }
        if let Some(value) = header.strip_prefix("authorization: ") {
            authorization = Some(value.to_owned());
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    let mut question: Value = serde_json::from_slice(&body).expect("JSON");
    if let Some(value) = authorization {
        question["authorization"] = value.into();
    }
    Ok(Some(question))
}

/// What is answered about a user.
fn answer(user: &str) -> Vec<u8> {
    let ok = |body: &str| {
        let len = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}").into_bytes()
    };
    match user {
        "deny" => ok(r#"{"result":"deny"}"#),
        "root" => ok(r#"{"result":"allow","is_superuser":true}"#),
        "limited" => ok(r#"{"result":"allow","acl":{"pub":["dev/%u/#"]},"expire_at":4102444800}"#),
        "expired" => ok(r#"{"result":"allow","expire_at":1000000000}"#),
        "bob" | "-" => ok(r#"{"result":"ignore"}"#),
        "garbage" => b"\x00\xFFnot http\r\n\r\n".to_vec(),
        "nonsense" => ok("{\"result\":"),
        "huge" => ok(&format!("{}{{\"result\":\"allow\"}}", " ".repeat(1 << 20))),
        "status" => {
            b"HTTP/1.1 500 No\r\nContent-Length: 20\r\n\r\n{\"result\":\"allow\"}  ".to_vec()
        }
        "redirect" => {
            b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        "forbidden" => b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok(r#"{"result":"allow"}"#),
    }
}

/// A broker that asks `url`, with a user bob, whose password is his name, and these lines of
/// `[auth.http]`.
fn broker(url: &str, lines: &str, more: &str) -> Broker {
    let home = TempDir::new();
    let batch = ["passwd", "batch", "users", "--hash", "scram-sha-256"];
    ask(&home, &batch, "bob:bob\n");
    let authority = include_str!("authority.pem");
    fs::write(home.join("authority.pem"), authority).expect("it is writable");
    let lines = format!(
        "[auth]\nchain = [\"http\", \"password\", \"anonymous\"]\npassword_file = \"users\"\n\
         [auth.http]\nurl = \"{url}\"\n{lines}\n{more}"
    );
    Broker::start(home, &lines)
}

#[test]
fn the_service_lets_in_refuses_passes_on_and_gives_rights() {
    let service = Service::start(None);
    let broker = broker(&service.url(), "breaker_failures = 1000", "");
    let answer = |version, user, password| broker.login(version, user, password);
    assert_eq!(answer(V5, Some("ann"), Some("s3cret")), 0);
    let expected = json!({
        "clientid": "client", "username": "ann", "password": "s3cret",
        "password_base64": null, "peerhost": "127.0.0.1", "protocol": "mqtt",
    });
    assert_eq!(service.next(), expected);
    assert_eq!(answer(V5, Some("deny"), Some("x")), 0x86);
    assert_eq!(answer(V311, Some("deny"), Some("x")), 4);
    assert_eq!(answer(V5, Some("forbidden"), Some("x")), 0x86);
    assert_eq!(answer(V5, Some("expired"), Some("x")), 0x87);
    // It passes on bob, whom the password file knows, and who claims nothing.
    assert_eq!(answer(V5, Some("bob"), Some("bob")), 0);
    assert_eq!(answer(V5, Some("bob"), Some("x")), 0x86);
    assert_eq!(answer(V5, None, None), 0);
    // What is no answer lets nobody in.
    for user in ["garbage", "nonsense", "huge", "status", "redirect"] {
        assert_eq!(answer(V5, Some(user), Some("x")), 0x88, "{user}");
        assert_eq!(answer(V311, Some(user), Some("x")), 3, "{user}");
    }

    let client = |id, user| {
        let connect = login(id, Some(user), Some("x"));
        Peer::connected(broker.address, V5, &connect)
    };
    let mut limited = client("l", "limited");
    assert_eq!(limited.publish("dev/limited/x"), 0);
    assert_eq!(limited.publish("dev/other/x"), 0x87);
    assert_eq!(client("r", "root").publish("dev/other/x"), 0);
    let shown = ask(&broker.home, &["clients", "show", "l"], "");
    assert!(shown.contains("\nlet in by       http\n"), "{shown}");
    let log = broker.end();
    assert!(!log.contains("s3cret"), "no password is logged:\n{log}");
}

#[test]
fn an_answer_is_remembered_until_a_reload() {
    let service = Service::start(None);
    let broker = broker(
        &service.url(),
        "cache_deny_s = 3600\ncache_allow_s = 3600",
        "",
    );
    let login = |user, password| broker.login(V5, Some(user), Some(password));
    for _ in 0..3 {
        assert_eq!(login("ann", "x"), 0);
        assert_eq!(login("deny", "x"), 0x86);
    }
    for _ in 0..2 {
        service.next();
    }
    assert!(!service.was_asked());
    assert_eq!(login("ann", "y"), 0, "another password is another question");
    assert_eq!(service.next()["password"], "y");
    ask(&broker.home, &["reload"], "");
    assert_eq!(login("ann", "x"), 0);
    assert_eq!(service.next()["password"], "x");
    let status = ask(&broker.home, &["status"], "");
    for (name, value) in [("requests", 4), ("remembered", 4), ("failures", 0)] {
        let line = format!("  auth_http_{name:<18} {value}\n");
        assert!(status.contains(&line), "{line}{status}");
    }
}

#[test]
fn a_service_that_hangs_holds_up_nobody_else_and_its_queue_is_bounded() {
    let service = Service::start(None);
    let lines = "timeout_ms = 60000\nthreads = 1";
    let more = "[broker]\nauth_threads = 1\n[limits]\nauth_queue = 2\nconnect_timeout_ms = 60000\n";
    let broker = broker(&service.url(), lines, more);
    let ask_for = |version, user: &str| {
        let connect = login(user, Some(user), Some("x"));
        Peer::connect(broker.address, version, &connect)
    };
    // One is asked about, two wait, and for further ones there is no room.
    let mut first = ask_for(V5, "hang-1");
    assert_eq!(service.next()["username"], "hang-1");
    let (sender, codes) = channel();
    for user in ["hang-2", "hang-3", "hang-4", "hang-5"] {
        let (mut peer, sender) = (ask_for(V5, user), sender.clone());
        std::thread::spawn(move || sender.send(peer.connack()));
    }
    let next_code = || codes.recv_timeout(PATIENCE).expect("it is answered");
    assert_eq!([next_code(), next_code()], [0x97; 2]);
    assert_eq!(ask_for(V311, "hang-6").connack(), 3, "no room either");
    // Meanwhile nobody else waits: passwords where they come before the service.
    let moved = fs::read_to_string(broker.home.join("axmq.toml")).expect("it is there");
    let moved = moved.replace("\"http\", \"password\"", "\"password\", \"http\"");
    fs::write(broker.home.join("axmq.toml"), moved).expect("it is writable");
    ask(&broker.home, &["reload"], "");
    assert_eq!(broker.login(V5, Some("bob"), Some("bob")), 0);
    assert_eq!(broker.login(V5, Some("bob"), Some("x")), 0x86);
    for _ in 0..3 {
        service.release.send(()).expect("it listens");
    }
    assert_eq!(first.connack(), 0);
    assert_eq!([next_code(), next_code()], [0; 2]);
}

#[test]
fn a_service_that_is_slow_or_gone_is_left_alone_after_a_while() {
    let service = Service::start(None);
    let lines = "timeout_ms = 200\nbreaker_failures = 2\nbreaker_ms = 3600000";
    let broker = broker(&service.url(), lines, "");
    for _ in 0..2 {
        assert_eq!(broker.login(V5, Some("hang"), Some("x")), 0x88, "in time");
        assert_eq!(service.next()["username"], "hang");
    }
    // It is not asked any more, also not about those that it would answer.
    assert_eq!(broker.login(V5, Some("ann"), Some("x")), 0x88);
    assert_eq!(broker.login(V311, Some("ann"), Some("x")), 3);
    assert!(!service.was_asked());
    // One that is not there.
    let free = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let gone = free.local_addr().expect("it has one");
    drop(free);
    let lines = fs::read_to_string(broker.home.join("axmq.toml")).expect("it is there");
    let lines = lines.replace(&service.address.to_string(), &gone.to_string());
    fs::write(broker.home.join("axmq.toml"), lines).expect("it is writable");
    ask(&broker.home, &["reload"], "");
    assert_eq!(broker.login(V5, Some("ann"), Some("x")), 0x88);
    let log = broker.end();
    let expected = "after 2 failures in a row it is left alone";
    assert_eq!(log.matches(expected).count(), 1, "{log}");
}

/// With a certificate of the authority in `authority.pem`, good until 2100.
fn tls() -> Arc<ServerConfig> {
    let pem = include_bytes!("service.pem");
    let certificate = CertificateDer::from_pem_slice(pem).expect("it is there");
    let key = PrivateKeyDer::from_pem_slice(pem).expect("it is there");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config
        .with_safe_default_protocol_versions()
        .expect("they are");
    let config = config.with_no_client_auth();
    Arc::new(
        config
            .with_single_cert(vec![certificate], key)
            .expect("a pair"),
    )
}

#[test]
fn over_tls_the_service_has_to_show_a_certificate_that_is_trusted() {
    let service = Service::start(Some(tls()));
    let url = format!("https://localhost:{}/login", service.address.port());
    let trusting = broker(&url, "ca_file = \"authority.pem\"", "");
    assert_eq!(trusting.login(V5, Some("ann"), Some("s3cret")), 0);
    assert_eq!(service.next()["password"], "s3cret");
    // Not one of those that the web trusts: it is told nothing.
    let careful = broker(&url, "", "");
    assert_eq!(careful.login(V5, Some("ann"), Some("s3cret")), 0x88);
    assert!(!service.was_asked());
}

/// Makes `headers` at the home of a broker, which nobody else may read.
fn write_headers(home: &TempDir, text: &str) {
    let path = home.join("headers");
    fs::write(&path, text).expect("it is writable");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
}

#[test]
fn headers_of_a_file_go_along_and_are_not_logged() {
    let service = Service::start(None);
    let broker = broker(&service.url(), "breaker_failures = 1000", "");
    assert_eq!(broker.login(V5, Some("ann"), Some("x")), 0);
    assert_eq!(service.next()["authorization"], Value::Null);
    write_headers(
        &broker.home,
        "Authorization: Bearer s3cret\r\n\nX-Other: x\n",
    );
    let file = broker.home.join("axmq.toml");
    let without = fs::read_to_string(&file).expect("it is there");
    let with = without.replace("[auth.http]\n", "[auth.http]\nheader_file = \"headers\"\n");
    fs::write(&file, with).expect("it is writable");
    ask(&broker.home, &["reload"], "");
    assert_eq!(broker.login(V5, Some("ann"), Some("x")), 0);
    assert_eq!(service.next()["authorization"], "bearer s3cret");
    // A failure is logged, and not what was asked.
    assert_eq!(broker.login(V5, Some("garbage"), Some("x")), 0x88);
    assert_eq!(service.next()["authorization"], "bearer s3cret");
    write_headers(&broker.home, "Authorization: Bearer n3w\n");
    let changes = ask(&broker.home, &["reload"], "");
    let expected = "the content of auth.http.header_file: 2 headers -> 1 headers";
    assert!(changes.contains(expected), "{changes}");
    assert_eq!(broker.login(V5, Some("ann"), Some("x")), 0);
    assert_eq!(service.next()["authorization"], "bearer n3w");
    // Nothing of a reload is taken over where the file is wrong, and it is not shown.
    write_headers(&broker.home, "n3w\n");
    let (out, err, code) = run(&broker.home, &["reload"], "");
    assert_ne!(code, Some(0), "{out}");
    let expected = "auth.http.header_file: headers:1: a header is `NAME: VALUE`";
    assert!(err.contains(expected) && !err.contains("n3w"), "{err}");
    fs::write(&file, without).expect("it is writable");
    ask(&broker.home, &["reload"], "");
    assert_eq!(broker.login(V5, Some("ann"), Some("x")), 0);
    assert_eq!(service.next()["authorization"], Value::Null, "it is gone");
    let log = broker.end();
    assert!(
        log.contains("the content of auth.http.header_file"),
        "{log}"
    );
    for secret in ["s3cret", "n3w"] {
        assert!(!log.contains(secret), "no header is logged:\n{log}");
    }
}

#[test]
fn a_file_of_headers_that_is_wrong_ends_the_start_with_its_key() {
    let home = TempDir::new();
    let lines = "[auth.http]\nurl = \"http://127.0.0.1:1/\"\nheader_file = \"headers\"\n";
    fs::write(home.join("axmq.toml"), lines).expect("it is writable");
    let check = || {
        let (_, err, code) = run(&home, &["--config", "axmq.toml", "config", "check"], "");
        assert_eq!(code, Some(3), "{err}");
        assert!(
            err.contains("auth.http.header_file: ") && !err.contains("s3cret"),
            "{err}"
        );
        err
    };
    assert!(check().contains("cannot read headers: "), "it is not there");
    write_headers(&home, "X-Key: x\nX-Key: s3cret\rX-More: x\n");
    assert!(check().contains("headers:2: a header may have no control"));
    write_headers(&home, "\n");
    assert!(check().contains("there is no header in this file"));
    write_headers(&home, &"X-Key: s3cret\n".repeat(17));
    assert!(check().contains("more than 16 headers"));
    write_headers(&home, "X-Key: s3cret\n");
    let open = Permissions::from_mode(0o644);
    fs::set_permissions(home.join("headers"), open).expect("it is ours");
    assert!(check().contains("everybody on this machine can read this secret"));
}

#[test]
fn who_came_by_a_service_goes_with_it_where_that_is_wanted() {
    let (service, other) = (Service::start(None), Service::start(None));
    let broker = broker(&service.url(), "", "");
    let file = broker.home.join("axmq.toml");
    let lines = fs::read_to_string(&file).expect("it is there");
    let lines = lines.replace("[auth]\n", "[auth]\ndisconnect_revoked = true\n");
    fs::write(&file, &lines).expect("it is writable");
    ask(&broker.home, &["reload"], "");
    let connect = login("a", Some("ann"), Some("x"));
    let mut ann = Peer::connected(broker.address, V5, &connect);
    let connect = login("b", Some("bob"), Some("bob"));
    let mut bob = Peer::connected(broker.address, V5, &connect);
    fs::write(&file, lines.replace(&service.url(), &other.url())).expect("it is writable");
    ask(&broker.home, &["reload"], "");
    assert_eq!(ann.disconnect(), 0x98);
    assert_eq!(bob.subscribe("a"), 0, "he came by his password");
}
