//! What is wrong with a server's certificate, where that says what to do about it.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// The certificate of a server is not accepted.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of the server is not accepted")]
pub struct ServerCertificateError {
    /// What is wrong with it.
    pub problem: CertificateProblem,
    /// What TLS says.
    #[source]
    source: io::Error,
}

/// What is wrong with a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// No CA that is trusted has signed it.
    UnknownCa,
    /// The server shows the certificate of a CA as its own.
    IsCa,
    /// It is not valid yet, or not any more, by the clock of this machine.
    Time,
    /// It is for other names.
    Name,
    /// Something else.
    Other,
}

impl ServerCertificateError {
    /// The error, if that is what it is about.
    pub(crate) fn of(error: io::Error) -> Result<Self, io::Error> {
        let problem = match error.get_ref().and_then(|e| e.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(why)) => problem(why),
            _ => return Err(error),
        };
        Ok(ServerCertificateError {
            problem,
            source: error,
        })
    }

    /// The one among an error and those that caused it.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ServerCertificateError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

fn problem(why: &CertificateError) -> CertificateProblem {
    match why {
        CertificateError::UnknownIssuer => CertificateProblem::UnknownCa,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => CertificateProblem::Time,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateProblem::Name
        }
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(webpki::Error::CaUsedAsEndEntity) => CertificateProblem::IsCa,
            _ => CertificateProblem::Other,
        },
        _ => CertificateProblem::Other,
    }
}
