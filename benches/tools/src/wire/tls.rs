//! TLS, by rustls over buffers: the socket belongs to the caller.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use crate::{args::Parsed, fail::Failure};

/// How TLS is spoken: one configuration for all clients of a process.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the options; `None` if they do not ask for TLS.
    pub(super) fn read(parsed: &Parsed) -> Result<Option<Self>, Failure> {
        let version = parsed.last("ssl-version");
        if !parsed.is("ssl", version.is_some()) {
            return Ok(None);
        }
        let mut provider = ring::default_provider();
        if let Some(list) = parsed.last("ciphers") {
            let name = |suite: &rustls::SupportedCipherSuite| canonical(&suite_name(suite.suite()));
            provider.cipher_suites = chosen("ciphers", list, &provider.cipher_suites, name)?;
        }
        if let Some(list) = parsed.last("keyex-algs") {
            let name = |group: &&dyn rustls::crypto::SupportedKxGroup| {
                canonical(&format!("{:?}", group.name()))
            };
            provider.kx_groups = chosen("keyex-algs", list, &provider.kx_groups, name)?;
        }
        let provider = Arc::new(provider);
        let verifier = Verifier::read(parsed, &provider)?;
        let wrong = |error: rustls::Error| Failure::usage(format!("these TLS options: {error}"));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(version)?)
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (parsed.last("certfile"), parsed.last("keyfile")) {
            (None, None) => builder.with_no_client_auth(),
            (Some(chain), Some(key)) => {
                let own = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| Failure::usage(format!("--keyfile {key}: {error}")))?;
                builder
                    .with_client_auth_cert(certificates("certfile", chain)?, own)
                    .map_err(wrong)?
            }
            _ => return Err(Failure::usage("--certfile and --keyfile go together")),
        };
        // Each client is a device of its own, which has not met the broker before.
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        Ok(Some(Self { config }))
    }

    /// A new connection to a host.
    pub(super) fn connection(&self, host: &str) -> Result<ClientConnection, Failure> {
        let wrong = |error: String| Failure::run(format!("TLS to `{host}`: {error}"));
        let name = ServerName::try_from(host.to_owned()).map_err(|e| wrong(e.to_string()))?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| wrong(error.to_string()))?;
        // The fleet has a limit of its own for what waits.
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}

/// Takes some of `bytes` and appends what they were before encryption.
pub(super) fn receive(
    tls: &mut ClientConnection,
    bytes: &mut &[u8],
    clear: &mut Vec<u8>,
) -> Result<(), String> {
    let wrong = |error: String| format!("TLS: {error}");
    tls.read_tls(bytes).map_err(|e| wrong(e.to_string()))?;
    let state = tls
        .process_new_packets()
        .map_err(|e| wrong(e.to_string()))?;
    let (begin, count) = (clear.len(), state.plaintext_bytes_to_read());
    clear.resize(begin + count, 0);
    tls.reader()
        .read_exact(&mut clear[begin..])
        .map_err(|e| wrong(e.to_string()))
}

/// Encrypts `clear`, and whatever the handshake has to say, into `sealed`.
pub(super) fn send(
    tls: &mut ClientConnection,
    clear: &[u8],
    sealed: &mut Vec<u8>,
) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("TLS: {error}");
    tls.writer().write_all(clear).map_err(wrong)?;
    while tls.wants_write() {
        tls.write_tls(sealed).map_err(wrong)?;
    }
    Ok(())
}

fn versions(name: Option<&str>) -> Result<Vec<&'static SupportedProtocolVersion>, Failure> {
    match name {
        None => Ok(vec![&TLS13, &TLS12]),
        Some("tlsv1.2") => Ok(vec![&TLS12]),
        Some("tlsv1.3" | "tlsv1.3_nocompat") => Ok(vec![&TLS13]),
        Some(other) => Err(Failure::usage(format!(
            "--ssl-version is tlsv1.2 or tlsv1.3, not `{other}`: older ones are broken"
        ))),
    }
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| Failure::usage(format!("--{option} {path}: {error}")))?;
    if found.is_empty() {
        let line = format!("--{option} {path}: there is no certificate in it");
        return Err(Failure::usage(line));
    }
    Ok(found)
}

fn suite_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replace("TLS13_", "TLS_")
}

/// A name without what the spellings of IANA, OpenSSL and rustls differ in.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("TLS_").unwrap_or(&name);
    name.replace("WITH_", "")
        .replace("SECP256R1", "NISTP256")
        .replace("SECP384R1", "NISTP384")
        .replace("SECP521R1", "NISTP521")
        .replace("PSS_RSAE", "PSS")
        .replace(['_', '-'], "")
}

/// Those of `all` that a list with commas names, in the order of the list.
fn chosen<T: Clone>(
    option: &str,
    list: &str,
    all: &[T],
    name: impl Fn(&T) -> String,
) -> Result<Vec<T>, Failure> {
    let pick = |wanted: &str| {
        let wanted_name = canonical(wanted.trim());
        let found = all.iter().find(|item| name(item) == wanted_name);
        found.cloned().ok_or_else(|| {
            let known: Vec<String> = all.iter().map(&name).collect();
            let known = known.join(", ");
            Failure::usage(format!("--{option} does not know `{wanted}`, but {known}"))
        })
    };
    list.split(',').map(pick).collect()
}

/// Verifies the broker against given authorities, or, without any, not at all: a load generator
/// has no secrets.
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    schemes: Vec<SignatureScheme>,
}

impl Verifier {
    fn read(parsed: &Parsed, provider: &Arc<CryptoProvider>) -> Result<Self, Failure> {
        let mut authorities = None;
        if let Some(path) = parsed.last("cacertfile") {
            let wrong = |error: String| Failure::usage(format!("--cacertfile {path}: {error}"));
            let mut roots = RootCertStore::empty();
            for certificate in certificates("cacertfile", path)? {
                roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            }
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            authorities = Some(verifier.build().map_err(|e| wrong(e.to_string()))?);
        }
        let mut schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        if let Some(list) = parsed.last("signature-algs") {
            let name = |scheme: &SignatureScheme| canonical(&format!("{scheme:?}"));
            schemes = chosen("signature-algs", list, &schemes, name)?;
        }
        Ok(Self {
            authorities,
            provider: Arc::clone(provider),
            schemes,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args, target};

    fn read(line: &str) -> Result<Option<Tls>, Failure> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Tls::read(&args::parse(&[target::OPTIONS], &args)?)
    }

    #[test]
    fn names_of_suites_are_known_in_each_spelling() {
        for line in [
            "--ssl --ciphers TLS_AES_256_GCM_SHA384,TLS_CHACHA20_POLY1305_SHA256",
            "--ssl --ciphers ECDHE-RSA-AES128-GCM-SHA256 --ssl-version tlsv1.2",
            "--ssl --ciphers TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 --ssl-version tlsv1.2",
            "--ssl --keyex-algs secp384r1,x25519",
            "--ssl-version tlsv1.3 --signature-algs ecdsa_secp384r1_sha384,rsa_pss_rsae_sha256",
        ] {
            assert!(read(line).unwrap().is_some(), "{line}");
        }
        assert!(read("--cacertfile /no/such/file").unwrap().is_none(), "off");
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (line, word) in [
            ("--ssl --cacertfile /no/such/file", "/no/such/file"),
            ("--ssl --certfile /no/such/file", "--keyfile"),
            ("--ssl --certfile /no/a --keyfile /no/b", "/no/b"),
            ("--ssl --ciphers TLS_RSA_WITH_RC4_128_MD5", "AES128GCM"),
            ("--ssl --keyex-algs secp192r1", "X25519"),
            ("--ssl --signature-algs md5", "RSA"),
            ("--ssl-version tlsv1.1", "tlsv1.2"),
            (
                "--ssl-version tlsv1.3 --ciphers ECDHE-RSA-AES128-GCM-SHA256",
                "TLS",
            ),
        ] {
            let failure = read(line).unwrap_err();
            assert_eq!(failure.code, 2, "{line}");
            assert!(failure.message.contains(word), "{line}: {failure}");
        }
    }
}
