//! The operator's own certificate authority: ECDSA P-256, one key, no intermediates.
//!
//! It vouches for two kinds of certificate: the control plane's (name `wire::CONTROL_NAME`, server only) and a node's
//! (`NAME` + `wire::NODE_SUFFIX`, client only), so that a node can never pass for the control plane. Key and certificate lie
//! together in one file of mode 0600, which comes into being at once and whole.

use std::{
    fmt, fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use plane_abi::{seal, wire};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::{Duration, OffsetDateTime};

const CA_DAYS: i64 = 20 * 365;
const LEAF_DAYS: i64 = 5 * 365;
/// Clocks of nodes may be behind by as much.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Why the authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file.
    #[error("certificate authority: {0}")]
    Io(#[from] io::Error),
    /// A certificate or key that cannot be made or read.
    #[error("certificate authority: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A PEM file that cannot be read.
    #[error("certificate authority: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// TLS cannot be set up with it.
    #[error("certificate authority: {0}")]
    Tls(#[from] rustls::Error),
    /// Client verification cannot be set up with it.
    #[error("certificate authority: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A name that is no node name.
    #[error("{0:?} is no node name: use up to 63 lower-case letters, digits and '-'")]
    NodeName(String),
}

/// The authority.
pub struct Ca {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ca(key redacted)")
    }
}

impl Ca {
    /// Reads the authority from a file, or makes one. Two processes that do so at once get one authority.
    pub fn load_or_create(path: &Path) -> Result<Ca, CaError> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ca::load(path),
        }
        let bundle = new_authority()?;
        match seal::store_private(path, bundle.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ca::load(path),
        }
    }

    fn load(path: &Path) -> Result<Ca, CaError> {
        let mode = fs::metadata(path)?.mode();
        if mode & 0o077 != 0 {
            let message = format!("{}: must not be open to others (mode is {:o})", path.display(), mode & 0o777);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message).into());
        }
        let bundle = fs::read(path)?;
        let certificate = CertificateDer::from_pem_slice(&bundle)?;
        let text = String::from_utf8_lossy(&bundle);
        let certificate_pem = match text.find("-----BEGIN CERTIFICATE-----") {
            Some(start) => text[start..].to_owned(),
            None => return Err(rustls_pki_types::pem::Error::NoItemsFound.into()),
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(&text)?)?;
        Ok(Ca { certificate_pem, certificate, issuer })
    }

    /// The authority's certificate, which nodes trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Key and certificate for a node of that name.
    pub fn issue_node(&self, name: &str) -> Result<NodeIdentity, CaError> {
        if !wire::is_node_name(name) {
            return Err(CaError::NodeName(name.to_owned()));
        }
        let (certificate, key) =
            self.issue(&format!("{name}{}", wire::NODE_SUFFIX), name, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(NodeIdentity {
            ca_pem: self.certificate_pem.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// TLS for the push server: a certificate of its own, made anew, and clients only with one of this authority.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CaError> {
        let (certificate, key) =
            self.issue(wire::CONTROL_NAME, "Selvage control plane", ExtendedKeyUsagePurpose::ServerAuth)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }

    fn issue(
        &self,
        dns_name: &str,
        common_name: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(rcgen::Certificate, KeyPair), CaError> {
        let mut params = CertificateParams::new(vec![dns_name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params.extended_key_usages.push(purpose);
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_DAYS);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(days);
}

/// Key and certificate of a new authority, PEM, in this order.
fn new_authority() -> Result<String, CaError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Selvage authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    valid_for(&mut params, CA_DAYS);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// What a node needs to connect. Debug does not show the key.
#[derive(Clone)]
pub struct NodeIdentity {
    /// Whom it trusts.
    pub ca_pem: String,
    /// Its certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeIdentity(key redacted)")
    }
}

impl NodeIdentity {
    /// Writes `ca.pem`, `node.pem` and `node.key` (mode 0600) into a folder, making it if need be and replacing what is
    /// there.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let put = |name: &str, text: &str, mode: u32| {
            let temporary = folder.join(format!(".{name}.tmp"));
            let _ = fs::remove_file(&temporary);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, folder.join(name))
        };
        put("ca.pem", &self.ca_pem, 0o644)?;
        put("node.key", &self.key_pem, 0o600)?;
        put("node.pem", &self.certificate_pem, 0o644)?;
        fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca.key");
        let first = Ca::load_or_create(&path).expect("made");
        let again = Ca::load_or_create(&path).expect("read");
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        assert!(!first.certificate_pem().contains("PRIVATE"));
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
        assert!(matches!(Ca::load_or_create(&path), Err(CaError::Io(_))));
    }

    #[test]
    fn identity_is_written_with_a_private_key() {
        let folder = tempfile::tempdir().expect("folder");
        let ca = Ca::load_or_create(&folder.path().join("ca.key")).expect("made");
        let out = folder.path().join("node-1");
        for _ in 0..2 {
            ca.issue_node("node-1").expect("issued").write(&out).expect("written");
        }
        assert_eq!(fs::metadata(out.join("node.key")).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&out).expect("folder").count(), 3);
        assert_eq!(format!("{:?}", ca.issue_node("n").expect("issued")), "NodeIdentity(key redacted)");
        for name in ["", "A", "a.b", "-a", "a-", &"a".repeat(64)] {
            assert!(matches!(ca.issue_node(name), Err(CaError::NodeName(_))), "{name:?}");
        }
    }
}
