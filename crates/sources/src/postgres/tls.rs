//! Encrypted connections: who is believed to be the server, and what ties its certificate to a password (PostgreSQL
//! documentation, "SSL Support" of libpq; RFC 5929, `tls-server-end-point`).
//!
//! It may not know how bytes travel. Certificates and keys come from files; an open encrypted connection goes to `socket`.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
    SupportedCipherSuite,
};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a connection is encrypted, and what is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is not.
    #[default]
    Disable,
    /// Only where the server insists.
    Allow,
    /// Where the server can.
    Prefer,
    /// Always.
    Require,
    /// Always, and the certificate must come from somebody who is trusted.
    VerifyCa,
    /// Always, and the certificate must be the host's.
    VerifyFull,
}

impl Mode {
    /// The word that libpq has for it.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Disable => "disable",
            Mode::Allow => "allow",
            Mode::Prefer => "prefer",
            Mode::Require => "require",
            Mode::VerifyCa => "verify-ca",
            Mode::VerifyFull => "verify-full",
        }
    }
}

/// How a connection is encrypted.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Whether.
    pub mode: Mode,
    /// File with the certificates of those who may vouch for the server, or its own.
    pub roots: Option<PathBuf>,
    /// Files with a certificate of ours, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of ours.
    #[error("{0}")]
    Ours(String),
    /// The server is not believed to be who it should be.
    #[error("{0}")]
    Untrusted(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// One try to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Try {
    /// Without encryption.
    Plain,
    /// Encrypted if the server can.
    Offered,
    /// Encrypted.
    Encrypted,
}

impl Tls {
    /// How to connect, and how to try once more if that is refused.
    pub(super) fn tries(&self) -> (Try, Option<Try>) {
        match self.mode {
            Mode::Disable => (Try::Plain, None),
            Mode::Allow => (Try::Plain, Some(Try::Encrypted)),
            Mode::Prefer => (Try::Offered, Some(Try::Plain)),
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => (Try::Encrypted, None),
        }
    }

    /// What is compared. As with libpq, who names certificates wants them looked at.
    fn check(&self) -> Check {
        match self.mode {
            Mode::VerifyFull => Check::Name,
            Mode::VerifyCa => Check::Chain,
            Mode::Require if self.roots.is_some() => Check::Chain,
            Mode::Disable | Mode::Allow | Mode::Prefer | Mode::Require => Check::Nothing,
        }
    }

    /// Encrypts a connection whose server is ready for it.
    pub(super) fn connect(
        &self,
        host: &str,
        mut socket: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, TlsError> {
        let failed = |e: Error| TlsError::Failed(format!("it cannot be encrypted: {e}"));
        let provider = Arc::new(default_provider());
        let check = self.check();
        let (roots, own) = match (check, &self.roots) {
            (Check::Nothing, _) => (RootCertStore::empty(), Vec::new()),
            (_, None) => {
                return Err(TlsError::Ours(
                    "sslmode asks whose certificate it is, and sslrootcert does not say who is trusted".into(),
                ));
            }
            (_, Some(path)) => trusted(path)?,
        };
        let judge = Judge { check, roots, own, file: self.roots.clone(), provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge));
        let config = match &self.certificate {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificates = certificates(certificate)?;
                let bad = |e: &dyn std::fmt::Display| TlsError::Ours(format!("cannot use {}: {e}", key.display()));
                let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(&e))?;
                config.with_client_auth_cert(certificates, key).map_err(|e| bad(&e))?
            }
        };
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|e| TlsError::Ours(format!("{host:?} cannot be in a certificate: {e}")))?;
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|e| {
                let cause = e.get_ref().and_then(|e| e.downcast_ref::<Error>());
                match cause {
                    Some(Error::InvalidCertificate(why)) => {
                        TlsError::Untrusted(format!("its certificate is not good: {why}"))
                    }
                    Some(Error::General(why)) => TlsError::Untrusted(why.clone()),
                    _ => TlsError::Failed(format!("it cannot be encrypted: {e}")),
                }
            })?;
        }
        Ok(StreamOwned::new(connection, socket))
    }
}

/// What is compared with the certificate of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// That it has the key to it.
    Nothing,
    /// And who vouches for it.
    Chain,
    /// And that it is of this host.
    Name,
}

/// The certificates of a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |e: &dyn std::fmt::Display| TlsError::Ours(format!("cannot use {}: {e}", path.display()));
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))?.collect();
    let read = read.map_err(|e| bad(&e))?;
    if read.is_empty() { Err(bad(&"there is no certificate in it")) } else { Ok(read) }
}

/// Whoever may vouch for a server, and the same certificates as they are.
fn trusted(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let own = certificates(path)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(own.iter().cloned());
    Ok((roots, own))
}

/// Decides whether a server is who it should be.
#[derive(Debug)]
struct Judge {
    check: Check,
    roots: RootCertStore,
    /// A server's own certificate may be among those that are trusted: that is how most of them are made.
    own: Vec<CertificateDer<'static>>,
    file: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if !self.own.contains(end_entity) {
            let known = self.provider.signature_verification_algorithms.all;
            let signed = verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, known);
            signed.map_err(|e| {
                let file = self.file.as_deref().unwrap_or(Path::new("sslrootcert")).display();
                Error::General(format!("nobody in {file} vouches for its certificate ({})", told(&e)))
            })?;
        }
        if self.check == Check::Name {
            verify_server_name(&parsed, server_name).map_err(|e| {
                let name = server_name.to_str();
                Error::General(format!("its certificate is not that of {name} ({})", told(&e)))
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn told(e: &Error) -> String {
    match e {
        Error::InvalidCertificate(why) => why.to_string(),
        other => other.to_string(),
    }
}

/// What ties a log-in to the certificate of the server: its digest, by the function that it is signed with. None for those
/// that nobody has agreed on, or that are not known here.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // RSA with MD5, SHA-1 and SHA-256, ECDSA with SHA-1 and SHA-256; what is weaker than SHA-256 counts as SHA-256.
    const SHA_256: [&[u8]; 5] = [
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
    ];
    const SHA_384: [&[u8]; 2] =
        [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]];
    let (parts, _) = value(certificate, 0x30)?;
    let (_, behind) = value(parts, 0x30)?;
    let (algorithm, _) = value(behind, 0x30)?;
    let (name, _) = value(algorithm, 0x06)?;
    let suite = match name {
        name if SHA_256.contains(&name) => cipher_suite::TLS13_AES_128_GCM_SHA256,
        name if SHA_384.contains(&name) => cipher_suite::TLS13_AES_256_GCM_SHA384,
        _ => return None,
    };
    let SupportedCipherSuite::Tls13(suite) = suite else { return None };
    Some(suite.common.hash_provider.hash(certificate).as_ref().to_vec())
}

/// The first value of some DER, which must be of this kind, and what is behind it.
fn value(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    if head[0] != kind {
        return None;
    }
    let (len, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (len.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_certificate_is_taken_as_it_is_signed() {
        let sequence = |parts: &[Vec<u8>]| {
            let body = parts.concat();
            [vec![0x30, 0x82], (body.len() as u16).to_be_bytes().to_vec(), body].concat()
        };
        let certificate = |oid: &[u8]| {
            let algorithm = sequence(&[vec![0x06, oid.len() as u8], oid.to_vec(), vec![0x05, 0]]);
            sequence(&[sequence(&[vec![7; 300]]), algorithm, vec![0x03, 1, 0]])
        };
        let digest = |oid: &[u8]| end_point(&certificate(oid)).map(|digest| digest.len());
        assert_eq!(digest(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b]), Some(32));
        assert_eq!(digest(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]), Some(48));
        assert_eq!(digest(&[0x2b, 0x65, 0x70]), None, "nobody says which digest goes with ed25519");
    }

    #[test]
    fn hostile_certificates_have_no_digest() {
        for der in
            [&b""[..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 2, 0x30, 9], &[0x31, 0], &[0x30, 0x80]]
        {
            assert_eq!(end_point(der), None, "{der:?}");
        }
    }

    #[test]
    fn who_names_certificates_has_them_looked_at() {
        let check =
            |mode, roots: Option<&str>| Tls { mode, roots: roots.map(PathBuf::from), certificate: None }.check();
        assert_eq!(check(Mode::Prefer, Some("ca.pem")), Check::Nothing);
        assert_eq!(check(Mode::Require, None), Check::Nothing);
        assert_eq!(check(Mode::Require, Some("ca.pem")), Check::Chain);
        assert_eq!(check(Mode::VerifyCa, None), Check::Chain);
        assert_eq!(check(Mode::VerifyFull, Some("ca.pem")), Check::Name);
    }
}
