//! Who the node is to the control plane, and whom it trusts: `ca.pem`, `node.pem`, `node.key` of the identity folder.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use plane_abi::wire;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};

/// Why an identity folder is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("identity file {file}: {error}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("identity file {file}: {error}")]
    Pem {
        /// Which.
        file: String,
        /// Why.
        error: rustls_pki_types::pem::Error,
    },
    /// The key can be read by others.
    #[error("identity file {file} must not be open to others (mode is {mode:o})")]
    Mode {
        /// Which.
        file: String,
        /// Permission bits.
        mode: u32,
    },
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("identity: {0}")]
    Tls(#[from] rustls::Error),
    /// The certificate is not one that `selvage-control enroll` makes.
    #[error("identity: node.pem names no node")]
    NoName,
}

/// A node's identity.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Identity {
    pub(crate) fn load(folder: &Path) -> Result<Identity, IdentityError> {
        let ca = CertificateDer::from_pem_slice(&read(folder, "ca.pem")?).map_err(|error| pem("ca.pem", error))?;
        let certificate = read(folder, "node.pem")?;
        let certificate = CertificateDer::from_pem_slice(&certificate).map_err(|error| pem("node.pem", error))?;
        let key_file = folder.join("node.key");
        let mode = fs::metadata(&key_file).map_err(|error| io_error("node.key", error))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Mode { file: key_file.display().to_string(), mode });
        }
        let key = PrivateKeyDer::from_pem_slice(&read(folder, "node.key")?).map_err(|error| pem("node.key", error))?;
        let parsed = webpki::EndEntityCert::try_from(&certificate).map_err(|_| IdentityError::NoName)?;
        let name = wire::node_name(parsed.valid_dns_names()).ok_or(IdentityError::NoName)?.to_owned();
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Identity { name, tls: Arc::new(tls) })
    }
}

/// The name that the control plane's certificate must have, whatever its address.
pub(crate) fn control_name() -> ServerName<'static> {
    ServerName::try_from(wire::CONTROL_NAME).expect("the control plane's name is a DNS name")
}

fn read(folder: &Path, file: &str) -> Result<Vec<u8>, IdentityError> {
    fs::read(folder.join(file)).map_err(|error| io_error(file, error))
}

fn io_error(file: &str, error: io::Error) -> IdentityError {
    IdentityError::Io { file: file.to_owned(), error }
}

fn pem(file: &str, error: rustls_pki_types::pem::Error) -> IdentityError {
    IdentityError::Pem { file: file.to_owned(), error }
}
