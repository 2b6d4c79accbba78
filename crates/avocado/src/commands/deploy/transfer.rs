//! What a device has fetched so far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use avocado_events::{Event, Sink, StepStatus};
use avocado_manifest::Manifest;
use avocado_serve::{OnRequest, RequestOutcome, ServedRequest};

/// The stage of its events.
const STAGE: &str = "serve";
/// The status of an answer to those without the token.
const UNAUTHORIZED: u16 = 401;

/// Counts what the server sends.
#[derive(Clone, Default)]
pub(super) struct TransferProgress(Arc<Mutex<TransferCounts>>);

#[derive(Default)]
struct TransferCounts {
    /// How many requests there were.
    requests: u64,
    /// Bytes of answers that have ended.
    ended: u64,
    /// Bytes sent of each other answer, by the number of its request.
    sending: HashMap<u64, u64>,
    /// The file that moved last.
    last: String,
    /// What was shown last.
    shown: Option<u64>,
}

impl TransferCounts {
    fn bytes(&self) -> u64 {
        self.sending
            .values()
            .fold(self.ended, |sum, n| sum.saturating_add(*n))
    }
}

impl TransferProgress {
    /// What the server is given to report to.
    pub(super) fn listener(&self) -> OnRequest {
        let progress = self.clone();
        Arc::new(move |request: &ServedRequest| progress.count(request))
    }

    fn count(&self, request: &ServedRequest) {
        // Those who have no token are not the device.
        if request.status == UNAUTHORIZED {
            return;
        }
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted
            .sending
            .insert(request.number, request.sent)
            .is_none()
        {
            counted.requests += 1;
        }
        if request.outcome != RequestOutcome::Sending {
            counted.sending.remove(&request.number);
            counted.ended = counted.ended.saturating_add(request.sent);
        }
        let file = request.path.rsplit('/').next().unwrap_or_default();
        if counted.last != file {
            counted.last = file.to_owned();
        }
    }

    /// Reports, where anything moved since the last time.
    pub(super) fn report(&self, names: &ImageNames, sink: &dyn Sink) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = counted.bytes();
        if counted.requests == 0 || counted.shown == Some(bytes) {
            return;
        }
        counted.shown = Some(bytes);
        let event = Event::bytes(STAGE, names.of(&counted.last), bytes, None);
        drop(counted);
        sink.emit(event);
    }

    /// Reports the end. The result is the number of bytes that were sent.
    pub(super) fn finish(&self, sink: &dyn Sink) -> u64 {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = counted.bytes();
        let requests = counted.requests;
        drop(counted);
        if requests > 0 {
            let amount = format!(
                "{} in {}",
                avocado_text::bytes(bytes),
                avocado_text::count(requests, "request")
            );
            sink.emit(Event::step(STAGE, StepStatus::Success, amount));
        }
        bytes
    }
}

/// The extensions behind the file names of a repository, for people.
pub(super) struct ImageNames(Vec<(String, String)>);

impl ImageNames {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let named = manifest.extensions.iter().filter_map(|ext| {
            let id = ext.image_id.as_ref()?;
            Some((id.file_name(), format!("{} {}", ext.name, ext.version)))
        });
        ImageNames(named.collect())
    }

    /// `<digest>.<image id>.raw` is the extension of that image; other files keep their name.
    fn of(&self, file: &str) -> String {
        let found = self
            .0
            .iter()
            .find(|(image, _)| file.ends_with(image.as_str()));
        found.map_or_else(|| file.to_owned(), |(_, name)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn request(number: u64, path: &str, sent: u64) -> ServedRequest {
        ServedRequest {
            number,
            client: ([127, 0, 0, 1], 1).into(),
            method: "GET".into(),
            path: path.into(),
            range: None,
            status: 200,
            sent,
            total: 100,
            outcome: RequestOutcome::Sending,
        }
    }

    #[test]
    fn bytes_add_up_over_requests_and_are_reported_once() {
        let progress = TransferProgress::default();
        let names = ImageNames(vec![("id.raw".into(), "app 1.0.0".into())]);
        let events = Mutex::new(Vec::new());
        let sink = |event: Event| events.lock().unwrap().push(event);

        progress.report(&names, &sink);
        progress.count(&request(0, "/metadata/timestamp.json", 40));
        progress.report(&names, &sink);
        progress.report(&names, &sink);
        progress.count(&request(1, "/targets/ff.id.raw", 10));
        progress.count(&request(1, "/targets/ff.id.raw", 60));
        progress.report(&names, &sink);
        let ended = |number, path, sent| ServedRequest {
            outcome: RequestOutcome::Complete,
            ..request(number, path, sent)
        };
        progress.count(&ended(0, "/metadata/timestamp.json", 40));
        progress.count(&ServedRequest {
            status: 401,
            ..request(2, "/metadata/root.json", 13)
        });
        assert_eq!(progress.0.lock().unwrap().sending.len(), 1);
        assert_eq!(progress.finish(&sink), 100);

        let seen = events.into_inner().unwrap();
        let seen: Vec<(String, Option<u64>)> = seen
            .into_iter()
            .map(|e| (e.item + &e.message, e.done))
            .collect();
        assert_eq!(
            seen,
            [
                ("timestamp.json".to_owned(), Some(40)),
                ("app 1.0.0".to_owned(), Some(100)),
                ("100 B in 2 requests".to_owned(), None),
            ]
        );
    }
}
