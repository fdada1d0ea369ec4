//! TLS and WebSocket, against a test double: traffic is counted as exactly as over plain TCP, and
//! what does not fit is one line.

mod double;
#[path = "double/layers.rs"]
mod layers;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
};

use double::Fault;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

/// An authority, a server's and a client's certificate, and their files for the programs.
struct Authority {
    folder: PathBuf,
    server: Arc<ServerConfig>,
}

impl Authority {
    fn new(name: &str, asks_clients: bool) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names).unwrap();
            (params.signed_by(&key, &ca).unwrap(), key)
        };
        let (server, key) = issue(&["localhost", "127.0.0.1"]);
        let (client, client_key) = issue(&["client"]);
        let folder = format!("axmq-layers-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in [
            ("ca.pem", ca.pem()),
            ("client.pem", client.pem()),
            ("client.key", client_key.serialize_pem()),
        ] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_clients {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = builder.with_single_cert(vec![server.der().clone()], key);
        Self {
            folder,
            server: Arc::new(server.unwrap()),
        }
    }

    /// `--NAME FILE` for each pair.
    fn options(&self, files: &[(&str, &str)]) -> String {
        let option =
            |(name, file): &(&str, &str)| format!(" --{name} {}", self.folder.join(file).display());
        files.iter().map(option).collect()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn bench(arguments: &str, addr: SocketAddr) -> Output {
    let mut words = arguments.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_axmq-bench"))
        .arg(words.next().unwrap())
        .args(["-h", "127.0.0.1", "-p", &addr.port().to_string()])
        .args(words)
        .output()
        .unwrap()
}

fn succeeds(arguments: &str, addr: SocketAddr) -> String {
    let output = bench(arguments, addr);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(arguments: &str, addr: SocketAddr) -> String {
    let output = bench(arguments, addr);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{arguments}: {errors}");
    errors
}

const TRAFFIC: &str = "fanout --pubs 2 --subs 3 --messages 2000 --window 64 -q 1";
const PUBLISH: &str = "pub -c 3 -i 0 -I 1 -L 60 -t a/%i -q 1 -s 70000";

#[test]
fn all_layers_carry_every_message() {
    let authority = Authority::new("carry", false);
    let verified = authority.options(&[("cacertfile", "ca.pem")]);
    // A broker each: the double does not forget those who have gone.
    let plain = || double::start(Fault::None);
    let tls = |broker| layers::tls(broker, Arc::clone(&authority.server));
    for (addr, options) in [
        (layers::web_socket(plain()), "--ws".to_owned()),
        (tls(plain()), "-S".to_owned()),
        (tls(plain()), format!("--ssl-version tlsv1.2 {verified}")),
        (
            tls(layers::web_socket(plain())),
            format!("--ssl --ws {verified}"),
        ),
    ] {
        let text = succeeds(&format!("{TRAFFIC} {options}"), addr);
        let whole = "in the whole run 6000 of 6000: nothing lost";
        assert!(text.contains(whole), "{options}: {text}");
        let text = succeeds(&format!("{PUBLISH} {options}"), addr);
        assert!(text.contains(" pub_succ total=60 "), "{options}: {text}");
    }
}

#[test]
fn a_fault_is_seen_through_the_layers() {
    let socket = layers::web_socket(double::start(Fault::Duplicate));
    let output = bench(&format!("{} --ws", TRAFFIC.replace("-q 1", "-q 2")), socket);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    let repeated = 6_000 / double::EVERY;
    assert!(
        errors.contains(&format!("{repeated} duplicated")),
        "{errors}"
    );
}

#[test]
fn a_broker_that_asks_for_certificates_gets_them() {
    let authority = Authority::new("client", true);
    let broker = double::start(Fault::None);
    let addr = layers::tls(broker, Arc::clone(&authority.server));
    let own = authority.options(&[
        ("cacertfile", "ca.pem"),
        ("certfile", "client.pem"),
        ("keyfile", "client.key"),
    ]);
    succeeds(&format!("{PUBLISH} --ssl {own}"), addr);
    let errors = fails(&format!("{PUBLISH} --ssl"), addr);
    assert!(
        errors.contains("TLS") || errors.contains("closed"),
        "{errors}"
    );
}

#[test]
fn what_does_not_fit_is_one_line() {
    let (one, other) = (Authority::new("one", false), Authority::new("other", false));
    let broker = double::start(Fault::None);
    let tls = layers::tls(broker, Arc::clone(&one.server));
    let wrong = other.options(&[("cacertfile", "ca.pem")]);
    let errors = fails(&format!("conn -c 2 --ssl {wrong}"), tls);
    assert!(
        errors.contains("TLS") && errors.contains("certificate"),
        "{errors}"
    );
    let errors = fails(&format!("{TRAFFIC} --ssl {wrong}"), tls);
    assert!(
        errors.contains("TLS") && errors.contains("no result"),
        "{errors}"
    );
    // Something else listens there.
    let errors = fails("conn -c 2 --ws", greeter(""));
    assert!(errors.contains("closed"), "{errors}");
    let errors = fails("conn -c 2 --ws", greeter("HTTP/1.1 404 Not Found\r\n\r\n"));
    assert!(errors.contains("404"), "{errors}");
    let errors = fails(
        "conn -c 2 --ssl",
        greeter("HTTP/1.1 400 Bad Request\r\n\r\n"),
    );
    assert!(errors.contains("TLS"), "{errors}");
}

/// A peer that says `text`, whatever it hears, and closes.
fn greeter(text: &'static str) -> SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // What it hears first; it need not be whole.
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(text.as_bytes());
        }
    });
    addr
}
