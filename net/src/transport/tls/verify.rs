//! Verifiers that judge no certificate, only that the other end has its key.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::transport::certificate;

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

/// Whether `signed` holds the signature of `certificate`'s key over `message`.
fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    tls13: bool,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = algorithms();
    let verified = if tls13 {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    } else {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    };
    match verified {
        // A certificate that is refused for its form, such as version 1, still has a key.
        Err(Error::InvalidCertificate(error)) if error != CertificateError::BadSignature => {}
        verified => return verified,
    }
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let (algorithm, key) = certificate::public_key(certificate).ok_or_else(bad)?;
    let mapped = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let mapped = mapped.map(|(_, algorithms)| *algorithms).unwrap_or_default();
    let fits = mapped.iter().take(if tls13 { 1 } else { usize::MAX });
    let mut fits = fits.filter(|mapped| mapped.public_key_alg_id().as_ref() == algorithm);
    if fits.any(|fit| fit.verify_signature(key, message, signed.signature()).is_ok()) {
        return Ok(HandshakeSignatureValid::assertion());
    }
    Err(bad())
}

/// The part that both verifiers do alike: the two traits share no part that could be written once.
macro_rules! verifies_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_signature(message, certificate, signed, false)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_signature(message, certificate, signed, true)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

/// Asks for a certificate, and takes any whose key the client has.
#[derive(Debug)]
pub(super) struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    verifies_signatures!();
}

/// Takes any server's certificate.
#[derive(Debug)]
pub(super) struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    verifies_signatures!();
}
