//! TLS, with certificates of all kinds. Their dates lie far off, so that no clock matters.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use super::Broker;
use super::packets::{DISCONNECT, PING, Packets, connect, connect_as, publish, subscribe};
use super::support::TempDir;
use super::web::{Web, open};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// An authority, and what it has issued.
struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Issued {
    der: rustls::pki_types::CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

fn named(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2999, 1, 1);
    params
}

fn with_serial(serial: u64, common_name: &str) -> CertificateParams {
    let mut params = named(&[], common_name);
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

impl Authority {
    fn new() -> Self {
        let mut params = named(&[], "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    /// A list of what it has revoked.
    fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2001, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("a list");
        list.pem().expect("text")
    }
}

/// Files of a broker: an authority, a certificate for `localhost` and its key.
fn home(authority: &Authority) -> TempDir {
    let home = TempDir::new();
    fs::write(home.join("ca.pem"), authority.0.pem()).expect("writable");
    put(
        &home,
        "server",
        &authority.issue(named(&["localhost"], "server")),
    );
    home
}

fn put(home: &TempDir, name: &str, issued: &Issued) {
    let key = home.join(&format!("{name}.key"));
    fs::write(home.join(&format!("{name}.pem")), &issued.pem).expect("writable");
    fs::write(key, issued.key.serialize_pem()).expect("writable");
}

const SERVER: &str = "tls_certificate = \"server.pem\"\ntls_key = \"server.key\"";

fn config(authority: &Authority, own: Option<&Issued>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("versions")
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::try_from(own.key.serialize_der()).expect("a key");
            let chain = vec![own.der.clone()];
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    Arc::new(config)
}

fn dial(broker: &Broker, config: &Arc<ClientConfig>, name: &'static str) -> Stream {
    let name = ServerName::try_from(name).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
    StreamOwned::new(connection, open(broker.address))
}

/// Connects by MQTT; what comes of it, or what was in the way.
fn try_mqtt(stream: Stream, connect: &[u8]) -> Result<Packets<Stream>, io::Error> {
    let mut packets = Packets::new(stream);
    packets.stream.write_all(connect)?;
    packets.stream.flush()?;
    // A refused certificate of a client shows with TLS 1.3 only now.
    let mut first = [0; 1];
    packets.stream.read_exact(&mut first)?;
    packets.received.extend(first);
    Ok(packets)
}

#[track_caller]
fn mqtt(stream: Stream, connect: &[u8]) -> Packets<Stream> {
    let mut packets = try_mqtt(stream, connect).expect("it lets in");
    assert_eq!(packets.next(), "connack 0x00");
    packets
}

fn send(packets: &mut Packets<Stream>, bytes: &[u8]) {
    packets.stream.write_all(bytes).expect("it is open");
}

#[test]
fn packets_of_all_sizes_go_through_both_versions() {
    let authority = Authority::new();
    let broker = Broker::start_in(home(&authority), SERVER, &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = ClientConfig::clone(&config(&authority, None));
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        let provider = Arc::clone(config.crypto_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("a certificate");
        let only = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = mqtt(dial(&broker, &Arc::new(only), "localhost"), &connect("c"));
        assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
        send(&mut client, &subscribe("t"));
        assert_eq!(client.next(), "suback");
        for len in [0, 1, 16_000, 16_384, 70_000, 1_000_000] {
            send(&mut client, &publish("t", &vec![7; len]));
            let wanted = if len > 40 {
                format!("t: {len} bytes")
            } else {
                format!("t: {}", "\u{7}".repeat(len))
            };
            assert_eq!(client.next(), wanted);
        }
        // Many small ones in one record, and the end in good order.
        send(&mut client, &PING.repeat(5_000));
        for _ in 0..5_000 {
            assert_eq!(client.next(), "pingresp");
        }
        send(&mut client, &DISCONNECT);
        assert_eq!(client.next(), "end", "close_notify, no cut");
    }
}

#[test]
fn a_client_that_reads_late_gets_every_byte_in_order() {
    let authority = Authority::new();
    let keys = format!(
        "{SERVER}\n[limits]\nout_queue_bytes = 100_000_000\nout_queue_soft_bytes = 50_000_000"
    );
    let broker = Broker::start_in(home(&authority), &keys, &[]);
    let config = config(&authority, None);
    let mut late = mqtt(dial(&broker, &config, "localhost"), &connect("late"));
    send(&mut late, &subscribe("t"));
    assert_eq!(late.next(), "suback");
    let mut busy = mqtt(dial(&broker, &config, "localhost"), &connect("busy"));
    for _ in 0..600 {
        send(&mut busy, &publish("t", &[7; 20_000]));
    }
    send(&mut busy, &PING);
    assert_eq!(busy.next(), "pingresp");
    for _ in 0..600 {
        assert_eq!(late.next(), "t: 20000 bytes");
    }
}

#[test]
fn a_web_socket_goes_over_tls() {
    let authority = Authority::new();
    let keys = format!("{SERVER}\nwebsocket = true");
    let broker = Broker::start_in(home(&authority), &keys, &[]);
    let mut config = ClientConfig::clone(&config(&authority, None));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = dial(&broker, &Arc::new(config), "localhost");
    let mut client = Packets::new(Web::over(stream));
    client.stream.send(&connect("c"));
    assert_eq!(client.next(), "connack 0x00");
    client.stream.send(&subscribe("t"));
    assert_eq!(client.next(), "suback");
    client.stream.send(&publish("t", &[7; 200_000]));
    assert_eq!(client.next(), "t: 200000 bytes");
    client.stream.send(&DISCONNECT);
    assert_eq!(client.next(), "end");
}

#[test]
fn a_client_comes_back_by_its_old_session() {
    let authority = Authority::new();
    let broker = Broker::start_in(home(&authority), SERVER, &[]);
    let config = config(&authority, None);
    for wanted in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = mqtt(dial(&broker, &config, "localhost"), &connect("c"));
        // The ticket may come behind the CONNACK.
        send(&mut client, &PING);
        assert_eq!(client.next(), "pingresp");
        assert_eq!(client.stream.conn.handshake_kind(), Some(wanted));
    }
}

#[test]
fn each_name_has_its_certificate() {
    let authority = Authority::new();
    let home = home(&authority);
    put(
        &home,
        "other",
        &authority.issue(named(&["*.example.org"], "other")),
    );
    let keys = "tls_certificate = \"server.pem, other.pem\"\ntls_key = \"server.key, other.key\"";
    let mut broker = Broker::start_in(home, keys, &[]);
    let config = config(&authority, None);
    for name in ["localhost", "a.example.org", "b.example.org"] {
        mqtt(dial(&broker, &config, name), &connect("c"));
    }
    // Another one gets the first, and does not take it.
    let refused = try_mqtt(dial(&broker, &config, "wrong.example.com"), &connect("c"));
    assert!(refused.is_err());
    let line = broker.process.err.wait_for("connection.refused");
    assert!(line.contains("sni wrong.example.com"), "{line}");
    assert!(line.contains("versions 1.3 1.2"), "{line}");
    assert!(line.contains("received fatal alert"), "{line}");
}

#[test]
fn certificates_of_clients_are_looked_at_and_name_the_user() {
    let authority = Authority::new();
    let home = home(&authority);
    fs::write(home.join("crl.pem"), authority.revoke(&[7])).expect("writable");
    let keys = format!(
        "{SERVER}\ntls_client_ca = \"ca.pem\"\ntls_client_crl = \"crl.pem\"\n\
         tls_identity = \"cn\"\n[log]\nlevel = \"debug\""
    );
    let mut broker = Broker::start_in(home, &keys, &[]);
    let good = authority.issue(with_serial(8, "device-8"));
    let config_ = config(&authority, Some(&good));
    let _good = mqtt(dial(&broker, &config_, "localhost"), &connect_as("c", None));
    let output = broker.command(&["clients", "show", "c", "--config", "axmq.toml"]);
    let shown = { output }.output().expect("it was built").stdout;
    let shown = String::from_utf8(shown).expect("text");
    assert!(shown.contains("device-8"), "{shown}");

    let mut expired = with_serial(9, "expired");
    expired.not_after = date_time_ymd(2002, 1, 1);
    let mut early = with_serial(10, "early");
    early.not_before = date_time_ymd(2998, 1, 1);
    let stranger = Authority::new();
    let key = KeyPair::generate().expect("a key");
    let params = named(&[], "self");
    let own = params.self_signed(&key).expect("a certificate");
    let self_signed = Issued {
        der: own.der().clone(),
        pem: own.pem(),
        key,
    };
    for (issued, why) in [
        (Some(authority.issue(with_serial(7, "revoked"))), "Revoked"),
        (Some(authority.issue(expired)), "expired"),
        (Some(authority.issue(early)), "not valid yet"),
        // Another authority of the same name.
        (
            Some(stranger.issue(with_serial(11, "stranger"))),
            "BadSignature",
        ),
        (Some(self_signed), "UnknownIssuer"),
        (None, "peer sent no certificates"),
    ] {
        let refused = dial(&broker, &config(&authority, issued.as_ref()), "localhost");
        assert!(try_mqtt(refused, &connect("x")).is_err(), "{why}");
        let line = broker.process.err.wait_for("connection.refused");
        assert!(line.contains(why), "{why}: {line}");
    }
}

#[test]
fn who_is_connected_by_a_certificate_goes_when_it_is_revoked_where_that_is_wanted() {
    let authority = Authority::new();
    let home = home(&authority);
    let revoke = |home: &TempDir, serials: &[u64]| {
        fs::write(home.join("crl.pem"), authority.revoke(serials)).expect("writable");
    };
    revoke(&home, &[]);
    let keys = |wanted: bool| {
        format!(
            "{SERVER}\ntls_client_ca = \"ca.pem\"\ntls_client_crl = \"crl.pem\"\n\
             tls_client_optional = true\n[auth]\ndisconnect_revoked = {wanted}\n\
             [broker]\ntls_watch_s = 1"
        )
    };
    let mut broker = Broker::start_in(home, &keys(false), &[]);
    let client = |id: &str, own: Option<&Issued>| {
        mqtt(
            dial(&broker, &config(&authority, own), "localhost"),
            &connect(id),
        )
    };
    let ids = ["c1", "c2", "c3", "c4"];
    let serials: [u64; 4] = [1, 2, 3, 4];
    let issued = serials.map(|serial| authority.issue(with_serial(serial, "device")));
    let mut clients: Vec<_> = ids
        .iter()
        .zip(&issued)
        .map(|(id, own)| client(id, Some(own)))
        .collect();
    let mut without = client("none", None);
    let mut stays = |client: &mut Packets<Stream>| {
        send(client, &PING);
        assert_eq!(client.next(), "pingresp");
    };
    // By default who is connected stays.
    revoke(&broker.home, &[1]);
    broker.process.err.wait_for("tls.reloaded");
    clients.iter_mut().for_each(&mut stays);
    // It counts for what has been revoked before that is wanted, too.
    broker.reload(&keys(true));
    assert_eq!(clients.remove(0).next(), "disconnect 0x98");
    clients.iter_mut().for_each(&mut stays);
    // Nobody says that the file has changed.
    revoke(&broker.home, &[1, 2]);
    assert_eq!(clients.remove(0).next(), "disconnect 0x98");
    clients.iter_mut().for_each(&mut stays);
    revoke(&broker.home, &[1, 2, 3]);
    broker.reload(&keys(true));
    assert_eq!(clients.remove(0).next(), "disconnect 0x98");
    clients.iter_mut().for_each(&mut stays);
    // Of another authority now: the last certificate is worth nothing.
    let other = Authority::new();
    fs::write(broker.home.join("ca.pem"), other.0.pem()).expect("writable");
    fs::write(broker.home.join("crl.pem"), other.revoke(&[])).expect("writable");
    broker.reload(&keys(true));
    assert_eq!(clients.remove(0).next(), "disconnect 0x98");
    stays(&mut without);
}

#[test]
fn a_certificate_is_asked_for_where_the_chain_says_so() {
    let authority = Authority::new();
    let listener = format!(
        "{SERVER}\ntls_client_ca = \"ca.pem\"\ntls_client_optional = true\ntls_identity = \"cn\""
    );
    let with_chain = |chain: &str| {
        format!(
            "{listener}\n[auth]\npassword_file = \"users\"\ndisconnect_revoked = true\n\
             chain = [{chain}]"
        )
    };
    let home = home(&authority);
    fs::write(home.join("users"), "").expect("writable");
    let mut broker = Broker::start_in(home, &with_chain("\"certificate\""), &[]);
    let own = authority.issue(named(&[], "device-8"));
    let (with, without) = (config(&authority, Some(&own)), config(&authority, None));
    let refused = try_mqtt(dial(&broker, &without, "localhost"), &connect("n"));
    assert_eq!(refused.expect("it is told").next(), "connack 0x87");
    let mut client = mqtt(dial(&broker, &with, "localhost"), &connect("c"));
    let let_in_by = |broker: &Broker, id| {
        let output = broker.command(&["clients", "show", id, "--config", "axmq.toml"]);
        let shown = { output }.output().expect("it was built").stdout;
        let shown = String::from_utf8(shown).expect("text");
        let line = shown
            .lines()
            .find_map(|line| line.strip_prefix("let in by "));
        line.map(|line| line.trim().to_owned())
    };
    assert_eq!(let_in_by(&broker, "c").as_deref(), Some("certificate"));

    // Where certificates do not count any more, their clients go, and are nobody after that.
    broker.reload(&with_chain("\"password\", \"anonymous\""));
    assert_eq!(client.next(), "disconnect 0x98");
    let _client = mqtt(dial(&broker, &with, "localhost"), &connect("d"));
    assert_eq!(let_in_by(&broker, "d").as_deref(), Some("anonymous"));
}

#[test]
fn a_certificate_may_be_optional() {
    let authority = Authority::new();
    let keys = format!(
        "{SERVER}\ntls_client_ca = \"ca.pem\"\ntls_client_optional = true\ntls_identity = \"cn\""
    );
    let broker = Broker::start_in(home(&authority), &keys, &[]);
    mqtt(
        dial(&broker, &config(&authority, None), "localhost"),
        &connect("c"),
    );
}

#[test]
fn who_speaks_the_wrong_language_is_told_apart_in_the_log() {
    let authority = Authority::new();
    let mut broker = Broker::start_in(home(&authority), SERVER, &[]);
    for (bytes, why) in [
        (connect("c"), "MQTT without TLS on a TLS listener"),
        (
            b"GET / HTTP/1.1\r\n".to_vec(),
            "HTTP without TLS on a TLS listener",
        ),
        (b"\x00\x01\x02".to_vec(), "no TLS on a TLS listener"),
        // A record of a handshake with nonsense in it.
        (b"\x16\x03\x01\x00\x04\xff\xff\xff\xff".to_vec(), "TLS: "),
    ] {
        let mut stream = open(broker.address);
        stream.write_all(&bytes).expect("it is open");
        let line = broker.process.err.wait_for("connection.refused");
        assert!(line.contains(why), "{line}");
        // An alert may come before the end.
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    let mut plain = Broker::start("");
    let stream = dial(&plain, &config(&authority, None), "localhost");
    assert!(try_mqtt(stream, &connect("c")).is_err());
    let line = plain.process.err.wait_for("connection.refused");
    assert!(line.contains("TLS on a listener without TLS"), "{line}");
}

#[test]
fn old_versions_can_be_turned_off() {
    let authority = Authority::new();
    let keys = format!("{SERVER}\ntls_1_2 = false");
    let mut broker = Broker::start_in(home(&authority), &keys, &[]);
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let refused = try_mqtt(dial(&broker, &Arc::new(old), "localhost"), &connect("c"));
    assert!(refused.is_err());
    let line = broker.process.err.wait_for("connection.refused");
    assert!(line.contains("sni localhost, versions 1.2"), "{line}");
}

#[test]
fn certificates_are_taken_over_when_their_files_change_and_nobody_is_cut_off() {
    let authority = Authority::new();
    let keys = format!("{SERVER}\n[broker]\ntls_watch_s = 1");
    let mut broker = Broker::start_in(home(&authority), &keys, &[]);
    broker.process.err.wait_for("tls.certificate");
    let status = broker.command(&["status"]).output().expect("it was built");
    let status = String::from_utf8(status.stdout).expect("text");
    let line = status.lines().find(|line| line.starts_with("certificate "));
    let line = line.expect("the certificate is shown");
    assert!(line.contains("server.pem on 127.0.0.1:0, "), "{line}");
    assert!(line.ends_with(" days left"), "{line}");
    let mut old = mqtt(
        dial(&broker, &config(&authority, None), "localhost"),
        &connect("old"),
    );
    // Half of a pair does not fit, and what was there goes on.
    let next = Authority::new();
    let issued = next.issue(named(&["localhost"], "server"));
    fs::write(broker.home.join("server.pem"), &issued.pem).expect("writable");
    broker.process.err.wait_for("tls.refused");
    mqtt(
        dial(&broker, &config(&authority, None), "localhost"),
        &connect("still"),
    );
    fs::write(broker.home.join("server.key"), issued.key.serialize_pem()).expect("writable");
    broker.process.err.wait_for("tls.reloaded");
    let config = config(&next, None);
    // The front hears of it by message.
    while try_mqtt(dial(&broker, &config, "localhost"), &connect("new")).is_err() {}
    send(&mut old, &PING);
    assert_eq!(old.next(), "pingresp");
}

#[test]
fn a_reload_with_a_wrong_file_changes_nothing() {
    let authority = Authority::new();
    let mut broker = Broker::start_in(home(&authority), SERVER, &[]);
    fs::write(broker.home.join("server.key"), "no key").expect("writable");
    let text = broker.reload(SERVER);
    assert!(text.contains("server.key"), "{text}");
    mqtt(
        dial(&broker, &config(&authority, None), "localhost"),
        &connect("c"),
    );
    let check = ["config", "check", "--config", "axmq.toml"];
    let output = broker.command(&check).output().expect("it was built");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("server.key"), "{said}");
}
