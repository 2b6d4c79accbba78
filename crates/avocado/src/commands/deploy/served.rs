//! What a device has fetched so far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use avocado_events::{Event, Sink, Status};
use avocado_manifest::Manifest;
use avocado_serve::{OnRequest, Request};

use crate::output::text;

/// The stage of its events.
const STAGE: &str = "serve";

/// Counts what the server sends.
#[derive(Clone, Default)]
pub(super) struct Served(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    /// Bytes sent by the number of the request.
    sent: HashMap<u64, u64>,
    /// The file that moved last.
    last: String,
    /// What was shown last.
    shown: Option<u64>,
}

impl Counted {
    fn bytes(&self) -> u64 {
        self.sent.values().sum()
    }
}

impl Served {
    /// What the server is given to report to.
    pub(super) fn listener(&self) -> OnRequest {
        let served = self.clone();
        Arc::new(move |request: &Request| served.count(request))
    }

    fn count(&self, request: &Request) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.sent.insert(request.number, request.sent);
        let file = request.path.rsplit('/').next().unwrap_or_default();
        if counted.last != file {
            counted.last = file.to_owned();
        }
    }

    /// Reports, where anything moved since the last time.
    pub(super) fn report(&self, names: &Names, sink: &dyn Sink) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = counted.bytes();
        if counted.sent.is_empty() || counted.shown == Some(bytes) {
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
        let requests = counted.sent.len() as u64;
        drop(counted);
        if requests > 0 {
            let amount = format!(
                "{} in {}",
                text::bytes(bytes),
                text::count(requests, "request")
            );
            sink.emit(Event::step(STAGE, Status::Success, amount));
        }
        bytes
    }
}

/// The extensions behind the file names of a repository, for people.
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let named = manifest.extensions.iter().filter_map(|ext| {
            let id = ext.image_id.as_ref()?;
            Some((id.file_name(), format!("{} {}", ext.name, ext.version)))
        });
        Names(named.collect())
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
    use avocado_serve::Outcome;

    fn request(number: u64, path: &str, sent: u64) -> Request {
        Request {
            number,
            client: ([127, 0, 0, 1], 1).into(),
            method: "GET".into(),
            path: path.into(),
            range: None,
            authorization: false,
            status: 200,
            sent,
            total: 100,
            outcome: Outcome::Sending,
        }
    }

    #[test]
    fn bytes_add_up_over_requests_and_are_reported_once() {
        let served = Served::default();
        let names = Names(vec![("id.raw".into(), "app 1.0.0".into())]);
        let events = Mutex::new(Vec::new());
        let sink = |event: Event| events.lock().unwrap().push(event);

        served.report(&names, &sink);
        served.count(&request(0, "/metadata/timestamp.json", 40));
        served.report(&names, &sink);
        served.report(&names, &sink);
        served.count(&request(1, "/targets/ff.id.raw", 10));
        served.count(&request(1, "/targets/ff.id.raw", 60));
        served.report(&names, &sink);
        assert_eq!(served.finish(&sink), 100);

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
