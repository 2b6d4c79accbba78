use std::io::{self, Read};

use avocado_tuf::transport::{Response, Resume, Transport, TransportError};

use crate::{Cancel, Reason};

/// A transport that stops when it is asked to.
pub(super) struct Stoppable<T> {
    pub(super) inner: T,
    pub(super) cancel: Cancel,
}

impl<T: Transport> Transport for Stoppable<T> {
    fn get(&self, url: &str, resume: Option<&Resume>) -> Result<Response, TransportError> {
        crate::cancel::check(&self.cancel)
            // Of all errors this is the one after which nobody tries again.
            .map_err(|reason: Reason| TransportError::Request(Box::new(reason)))?;
        let response = self.inner.get(url, resume)?;
        Ok(Response {
            body: Box::new(Body {
                inner: response.body,
                cancel: self.cancel.clone(),
            }),
            ..response
        })
    }
}

struct Body {
    inner: Box<dyn Read + Send>,
    cancel: Cancel,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.cancel.is_cancelled() {
            true => Err(io::Error::other(Reason::Cancelled)),
            false => self.inner.read(buffer),
        }
    }
}
