//! What listeners say of TLS, made ready from the files that they name. Here alone the files are
//! read: at the start, at a reload, and when they have changed.

mod certificate;
mod resolve;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};
use sha2::{Digest as _, Sha256};

use self::certificate::Certificate;
pub(crate) use self::certificate::Identity;
use self::resolve::Resolver;
use crate::auth::FileError;
use crate::config::{Config, Listener, ListenerRules, list};

/// The largest file that is read. Revocation lists are the long ones.
const FILE_BYTES_MAX: u64 = 64 * 1_024 * 1_024;
const WRITABLE_BY_ALL: u32 = 0o002;
const READABLE_BY_ALL: u32 = 0o004;

/// TLS of a listener, as its files have it now.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Looks at the certificates of clients; `None` where none are asked for.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// What of a client's certificate is its user name; `None` where nothing is.
    pub(crate) identity: Option<Identity>,
    /// The certificates with the ends of their validity, in seconds since 1970.
    pub(crate) expiries: Vec<(PathBuf, i64)>,
    /// Of the contents of all files.
    pub(crate) digest: [u8; 32],
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity)
            .field("expiries", &self.expiries)
            .finish_non_exhaustive()
    }
}

/// Reads files, and remembers that it has.
#[derive(Default)]
struct Files(Sha256);

impl Files {
    fn read(&mut self, path: &Path, is_secret: bool) -> Result<Vec<u8>, FileError> {
        let name = path.display();
        let refuse = |what: String| FileError::new(format!("{name}: {what}"));
        let cannot = |error: std::io::Error| refuse(format!("cannot read it: {error}"));
        let mut options = File::options();
        // A pipe without a writer would hold up the start.
        options
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(refuse(format!(
                "not a file of at most {FILE_BYTES_MAX} bytes"
            )));
        }
        if metadata.mode() & WRITABLE_BY_ALL != 0 {
            return Err(refuse(format!(
                "anybody on this machine may write this file; chmod o-w {name}"
            )));
        }
        if is_secret && metadata.mode() & READABLE_BY_ALL != 0 {
            tracing::warn!(
                event = "tls.key_open",
                file = %name,
                "everybody on this machine can read this private key; chmod o-r"
            );
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(cannot)?;
        self.0.update(Sha256::digest(&bytes));
        Ok(bytes)
    }
}

/// Reads the files that the listeners of a configuration name for their TLS.
///
/// # Errors
///
/// What is wrong with them.
pub fn check_tls_files(config: &Config) -> Result<(), FileError> {
    load_all(&config.listeners).map(drop)
}

/// [`load`] for each of these listeners.
///
/// # Errors
///
/// As there, for the first that has any.
pub(crate) fn load_all(listeners: &[Listener]) -> Result<Vec<Option<Arc<Tls>>>, FileError> {
    listeners.iter().map(|one| load(&one.rules)).collect()
}

/// The files that a listener's TLS is made from.
pub(crate) fn files(rules: &ListenerRules) -> impl Iterator<Item = PathBuf> {
    [
        &rules.tls_certificate,
        &rules.tls_key,
        &rules.tls_client_ca,
        &rules.tls_client_crl,
    ]
    .into_iter()
    .flat_map(|paths| list(paths).map(PathBuf::from).collect::<Vec<_>>())
}

/// Makes TLS ready as a listener wants it; `None` where it wants none.
///
/// # Errors
///
/// What is wrong with a file, by its name.
pub(crate) fn load(rules: &ListenerRules) -> Result<Option<Arc<Tls>>, FileError> {
    if rules.tls_certificate.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let mut files = Files::default();
    let mut expiries = Vec::new();
    let keys = own_keys(rules, &provider, &mut files, &mut expiries)?;
    let versions: &[&SupportedProtocolVersion] = if rules.tls_1_2 {
        &[&TLS13, &TLS12]
    } else {
        &[&TLS13]
    };
    let wrong = |error: rustls::Error| FileError::new(format!("TLS: {error}"));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(wrong)?;
    let verifier = verifier(rules, provider, &mut files)?;
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(keys)));
    // What a session needs to be resumed the client keeps, under a key that changes: it costs no
    // memory here, and a reload ends it, so that nobody comes in by what has been revoked.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new().map_err(wrong)?;
    config.send_tls13_tickets = 1;
    let protocol: &[u8] = if rules.websocket {
        b"http/1.1"
    } else {
        b"mqtt"
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Some(Arc::new(Tls {
        config: Arc::new(config),
        verifier,
        identity: Identity::parse(&rules.tls_identity),
        expiries,
        digest: files.0.finalize().into(),
    })))
}

/// Who looks at the certificates of clients, where they are asked for any.
fn verifier(
    rules: &ListenerRules,
    provider: Arc<CryptoProvider>,
    files: &mut Files,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, FileError> {
    if rules.tls_client_ca.is_empty() {
        return Ok(None);
    }
    let roots = Arc::new(roots(rules, files)?);
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .with_crls(revocations(rules, files)?);
    if rules.tls_client_optional {
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier.build().map_err(|error| {
        let (ca, crl) = (&rules.tls_client_ca, &rules.tls_client_crl);
        FileError::new(format!("{ca}, {crl}: {error}"))
    })?;
    Ok(Some(verifier))
}

fn own_keys(
    rules: &ListenerRules,
    provider: &CryptoProvider,
    files: &mut Files,
    expiries: &mut Vec<(PathBuf, i64)>,
) -> Result<Vec<CertifiedKey>, FileError> {
    let mut keys = list(&rules.tls_key);
    let mut found = Vec::new();
    for path in list(&rules.tls_certificate) {
        let chain = certificates(path, &files.read(Path::new(path), false)?)?;
        let first = chain.first().and_then(|first| Certificate::read(first));
        let Some(first) = first else {
            return Err(FileError::new(format!("{path}: the certificate is none")));
        };
        expiries.push((path.into(), first.not_after));
        // Without a name of its own the key stands in the same file.
        let key_path = keys.next().unwrap_or(path);
        let pem = zeroize::Zeroizing::new(files.read(Path::new(key_path), true)?);
        let key = PrivateKeyDer::from_pem_slice(&pem);
        let key = key.map_err(|error| FileError::new(format!("{key_path}: {error}")))?;
        let key = CertifiedKey::from_der(chain, key, provider);
        found
            .push(key.map_err(|error| FileError::new(format!("{path} with {key_path}: {error}")))?);
    }
    Ok(found)
}

fn certificates(path: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(FileError::new(format!("{path}: there is no certificate"))),
        Err(error) => Err(FileError::new(format!("{path}: {error}"))),
    }
}

fn roots(rules: &ListenerRules, files: &mut Files) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for path in list(&rules.tls_client_ca) {
        for certificate in certificates(path, &files.read(Path::new(path), false)?)? {
            let added = roots.add(certificate);
            added.map_err(|error| FileError::new(format!("{path}: {error}")))?;
        }
    }
    Ok(roots)
}

fn revocations(
    rules: &ListenerRules,
    files: &mut Files,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let mut found = Vec::new();
    for path in list(&rules.tls_client_crl) {
        let pem = files.read(Path::new(path), false)?;
        let before = found.len();
        for revocations in CertificateRevocationListDer::pem_slice_iter(&pem) {
            found.push(revocations.map_err(|error| FileError::new(format!("{path}: {error}")))?);
        }
        if found.len() == before {
            let what = format!("{path}: there is no revocation list");
            return Err(FileError::new(what));
        }
    }
    Ok(found)
}

/// Whole days from now to the end of a validity, both in seconds since 1970; negative behind it.
pub(crate) fn days_left(not_after_s: i64, now_s: i64) -> i64 {
    not_after_s.saturating_sub(now_s).div_euclid(86_400)
}

impl Tls {
    /// Whether clients are asked for a certificate.
    pub(crate) fn asks_clients(&self) -> bool {
        self.verifier.is_some()
    }

    /// Whether a client that shows these certificates, its own first, would be taken now. Checks
    /// all signatures again: nothing for a thread that others wait for.
    pub(crate) fn takes(&self, certificates: &[CertificateDer<'static>]) -> bool {
        let (Some(verifier), Some((own, others))) = (&self.verifier, certificates.split_first())
        else {
            return false;
        };
        let taken = verifier.verify_client_cert(own, others, UnixTime::now());
        taken.is_ok()
    }

    /// Says in the log until when the certificates are valid.
    pub(crate) fn log(&self, address: &dyn fmt::Display, now_s: i64) {
        const SOON_DAYS: i64 = 14;
        for (path, not_after) in &self.expiries {
            let days = days_left(*not_after, now_s);
            let file = path.display();
            if days < 0 {
                tracing::error!(event = "tls.certificate", listener = %address, %file, days,
                    "this certificate has expired");
            } else if days < SOON_DAYS {
                tracing::warn!(event = "tls.certificate", listener = %address, %file, days,
                    "this certificate expires soon");
            } else {
                tracing::info!(event = "tls.certificate", listener = %address, %file, days);
            }
        }
    }
}
