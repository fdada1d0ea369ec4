//! Which of several certificates a client gets: the first that is for the name it asked for, and
//! that it can check; else the first of all.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

#[derive(Debug)]
pub(super) struct Resolver(Vec<Arc<CertifiedKey>>);

impl Resolver {
    pub(super) fn new(keys: Vec<CertifiedKey>) -> Self {
        Self(keys.into_iter().map(Arc::new).collect())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let can_check =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name();
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let is_named =
            |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| is_for(key, name));
        let mut fitting = self.0.iter().filter(can_check);
        let named = fitting.clone().find(is_named);
        named
            .or_else(|| fitting.next())
            .or_else(|| self.0.first())
            .map(Arc::clone)
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
