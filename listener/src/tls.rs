//! TLS settings of a port, and where its certificate comes from.
//!
//! Invariant: the `ring` provider is named each time, so that no other crate of the process can
//! change the cryptography by feature unification or a global default.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// What a port does about TLS. Plaintext is accepted on the same port in every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plaintext only.
    Off,
    /// A certificate made at start; official Java and Go clients accept it as they are.
    SelfSigned,
    /// PEM files.
    Files {
        /// The certificate chain, the server's own first.
        certificate: PathBuf,
        /// The private key: PKCS#8, PKCS#1 or SEC1.
        key: PathBuf,
    },
}

impl Tls {
    /// The settings for [`crate::Listener::bind`]; `names` go into a self-signed certificate.
    ///
    /// # Errors
    /// As [`self_signed`] and [`from_pem_files`].
    pub fn server_config(&self, names: &[String]) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        let config = match self {
            Tls::Off => return Ok(None),
            Tls::SelfSigned => self_signed(names)?,
            Tls::Files { certificate, key } => from_pem_files(certificate, key)?,
        };
        Ok(Some(Arc::new(config)))
    }
}

/// Why a certificate can not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable or not PEM.
    #[error("could not read {what} from {path}: {source}")]
    Read {
        /// `the certificate chain` or `the private key`.
        what: &'static str,
        /// The file that was named.
        path: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// The file holds no certificate at all.
    #[error("could not read the certificate chain from {path}: the file holds no certificate")]
    NoCertificate {
        /// The file that was named.
        path: PathBuf,
    },
    /// A self-signed certificate could not be made, for example for a name that is not ASCII.
    #[error("could not make a self-signed certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// Certificate and key do not belong together, or are of a kind rustls does not know.
    #[error("could not use the certificate: {0}")]
    Unusable(#[from] rustls::Error),
}

/// A certificate made up now and valid for `names` (host names and IP addresses).
///
/// It proves nothing to a client that checks: for those, use [`from_pem_files`].
///
/// # Errors
/// [`TlsError::Generate`] when a name can not stand in a certificate.
pub fn self_signed(names: &[String]) -> Result<ServerConfig, TlsError> {
    let (certificate, key) = generate(names)?;
    server_config(vec![certificate], key)
}

/// The certificate chain and private key in two PEM files.
///
/// # Errors
/// [`TlsError`] names the file and the cause.
pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let unreadable = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable("the certificate chain", certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: certificate.to_owned() });
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable("the private key", key))?;
    server_config(chain, key)
}

fn generate(
    names: &[String],
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|cause| rustls::Error::General(cause.to_owned()))?;
    Ok((made.cert.into(), key))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // gRPC clients insist on it.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn a_self_signed_certificate_offers_http2() {
        let config = self_signed(&names()).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = Path::new("/nonexistent/cert.pem");
        let error = from_pem_files(missing, missing).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("could not read the certificate chain from /nonexistent"),
            "{text}"
        );
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let error = from_pem_files(&empty, &empty).unwrap_err();
        assert!(matches!(error, TlsError::NoCertificate { .. }), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = dir.path().join("cert.pem");
        let key = dir.path().join("key.pem");
        let one = rcgen::generate_simple_self_signed(names()).unwrap();
        let other = rcgen::generate_simple_self_signed(names()).unwrap();
        std::fs::write(&certificate, one.cert.pem()).unwrap();
        std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        assert!(matches!(from_pem_files(&certificate, &key), Err(TlsError::Unusable(_))));
    }
}
