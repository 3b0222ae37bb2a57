//! Who the node is to the control plane, and whom it trusts: `ca.pem`, `node.pem`, `node.key` of the identity folder.
//!
//! The private key is kept as the bytes that it came as, in a [`Secret`], and is a key of ring's only while it signs a handshake,
//! on the stack: what ring and rustls make of a key cannot be put where the host's secrets are.

use std::{fmt, fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use pkey::Secret;
use plane_abi::wire;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::{
    ClientConfig, RootCertStore, SignatureAlgorithm, SignatureScheme,
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey, public_key_to_spki},
};
use rustls_pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, alg_id, pem::PemObject as _,
};
use zeroize::{Zeroize as _, Zeroizing};

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
    /// Certificate and key do not go together, or the certificate is of a kind that is not supported.
    #[error("identity: {0}")]
    Tls(#[from] rustls::Error),
    /// The key is not one that `selvage-control enroll` makes.
    #[error("identity: node.key is no key of ECDSA P-256 in PKCS#8")]
    Key,
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
        let text = Zeroizing::new(read(folder, "node.key")?);
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|error| pem("node.key", error))?;
        let key = PrivateKey::new(der.secret_pkcs8_der());
        der.zeroize();
        let key = key?;
        let parsed = webpki::EndEntityCert::try_from(&certificate).map_err(|_| IdentityError::NoName)?;
        let name = wire::node_name(parsed.valid_dns_names()).ok_or(IdentityError::NoName)?.to_owned();
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let key = CertifiedKey::new(vec![certificate], Arc::new(key));
        key.keys_match()?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        Ok(Identity { name, tls: Arc::new(tls) })
    }
}

/// The node's private key: ECDSA with P-256, of which every signature begins with its bytes.
#[derive(Clone)]
struct PrivateKey {
    pkcs8: Arc<Secret<Pkcs8>>,
    public: Vec<u8>,
}

/// A key of P-256 in PKCS#8 has 67 bytes, or 138 with its public half.
const PKCS8_BYTES_MAX: usize = 256;

#[derive(Clone, Copy)]
struct Pkcs8 {
    bytes: [u8; PKCS8_BYTES_MAX],
    len: usize,
}

impl Pkcs8 {
    fn key_pair(&self) -> Option<EcdsaKeyPair> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.bytes[..self.len], &SystemRandom::new()).ok()
    }
}

impl PrivateKey {
    fn new(der: &[u8]) -> Result<PrivateKey, IdentityError> {
        let mut pkcs8 = Pkcs8 { bytes: [0; PKCS8_BYTES_MAX], len: der.len() };
        pkcs8.bytes.get_mut(..der.len()).ok_or(IdentityError::Key)?.copy_from_slice(der);
        let secret = Secret::new(&pkcs8).map_err(|error| io_error("node.key", error));
        pkcs8.bytes.zeroize();
        let pkcs8 = Arc::new(secret?);
        let public = pkcs8.with(|key| key.key_pair().map(|pair| pair.public_key().as_ref().to_vec()));
        Ok(PrivateKey { pkcs8, public: public.ok_or(IdentityError::Key)? })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl SigningKey for PrivateKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256, &self.public))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signature = self.pkcs8.with(|key| {
            let signature = key.key_pair()?.sign(&SystemRandom::new(), message).ok()?;
            Some(signature.as_ref().to_vec())
        });
        signature.ok_or_else(|| rustls::Error::General("signing failed".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
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

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    #[test]
    fn a_key_signs_from_its_secret_and_prints_nothing() {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).expect("made");
        let key = PrivateKey::new(made.as_ref()).expect("a key");
        let offered = [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];
        let signer = key.choose_scheme(&offered).expect("offered");
        let signature = signer.sign(b"handshake").expect("signed");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.public);
        public.verify(b"handshake", &signature).expect("its signature");
        assert!(key.choose_scheme(&offered[..1]).is_none());
        assert_eq!(format!("{key:?} {signer:?}"), "PrivateKey(redacted) PrivateKey(redacted)");
        for other in [&made.as_ref()[1..], &[0; PKCS8_BYTES_MAX], &[0; PKCS8_BYTES_MAX + 1]] {
            assert!(matches!(PrivateKey::new(other), Err(IdentityError::Key)), "{} bytes", other.len());
        }
    }
}
