//! Files that go to a server which keeps what it is given.

use std::io::Read;
use std::time::Duration;

use ureq::SendBody;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};

use crate::client::{HttpClient, failure};
use crate::secrets::without_secrets;
use crate::transport::TransportError;

/// The slowest that a server may take a file, in bytes per second, beside the time that it may say
/// nothing.
const SLOWEST: u64 = 64 << 10;

impl HttpClient {
    /// Whether the server has a file at `url`, without fetching it. No redirect is followed.
    ///
    /// # Errors
    /// When no usable answer came.
    pub fn has(&self, url: &str) -> Result<bool, TransportError> {
        self.check()?;
        let mut request = self.routes.head(url);
        if let Some(authorization) = self.authorization_for(url) {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = request.call().map_err(failure);
        match self.status(url, "asked", answer)? {
            200..=299 => Ok(true),
            404 => Ok(false),
            status => Err(self.refused(url, status)),
        }
    }

    /// Has the server keep `length` bytes of `body` at `url`, in the place of what is there. No
    /// redirect is followed. A server that takes less than 64 KiB in a second is given up.
    ///
    /// # Errors
    /// When the server did not take it.
    pub fn put(&self, url: &str, length: u64, mut body: impl Read) -> Result<(), TransportError> {
        self.check()?;
        let mut request = self
            .routes
            .put(url)
            .config()
            .timeout_send_body(Some(self.read + Duration::from_secs(length / SLOWEST)))
            .build()
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, length.to_string());
        if let Some(authorization) = self.authorization_for(url) {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = request
            .send(SendBody::from_reader(&mut body))
            .map_err(failure);
        match self.status(url, "given", answer)? {
            200..=299 => Ok(()),
            status => Err(self.refused(url, status)),
        }
    }

    fn status(
        &self,
        url: &str,
        what: &str,
        answer: Result<ureq::http::Response<ureq::Body>, TransportError>,
    ) -> Result<u16, TransportError> {
        let _span = tracing::info_span!("request", url = %without_secrets(url), what).entered();
        match answer {
            Ok(response) => {
                let status = response.status().as_u16();
                tracing::debug!(status, "answered");
                Ok(status)
            }
            Err(error) => {
                tracing::debug!(%error, "no answer");
                let stopped = self.check().err();
                Err(stopped.unwrap_or_else(|| self.proxied(url, error)))
            }
        }
    }

    fn refused(&self, url: &str, status: u16) -> TransportError {
        let error = match status {
            403 => TransportError::Forbidden(status),
            404 => TransportError::Missing(status),
            _ => TransportError::Status(status),
        };
        self.proxied(url, error)
    }
}
