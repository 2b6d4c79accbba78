//! How much memory a server without any key can take: the client of a device that has little.
//!
//! One test, because what it measures is the whole process.
#![allow(missing_docs)]
// A global allocator is unsafe to write. This one hands everything on to the system's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use avocado_http::{ResumeFrom, Transport, TransportError, TransportResponse};
use avocado_manifest::canonical_json;
use avocado_tuf::{
    ClientLimits, ClientOptions, RemoteRepository, SigningKey, TrustedMetadata, TufClient,
    TufError, writer,
};
use serde_json::{Value, json};

/// A device has 12 MiB for all; 4 MiB are taken before anything is fetched.
const MOST: usize = 7 << 20;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.dealloc(at, layout) }
    }

    // What grows is not there twice: large blocks are moved by remapping, and a page that nobody
    // wrote to is none.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        NOW.fetch_sub(layout.size(), SeqCst);
        PEAK.fetch_max(NOW.fetch_add(size, SeqCst) + size, SeqCst);
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(SeqCst);
    PEAK.store(before, SeqCst);
    let result = work();
    (PEAK.load(SeqCst) - before, result)
}

/// A text that is made while it is read: what comes first, what comes again and again, the end.
#[derive(Clone)]
struct Pattern {
    head: &'static str,
    unit: fn(usize) -> String,
    tail: &'static str,
    length: usize,
}

struct PatternReader {
    pattern: Pattern,
    made: usize,
    units: usize,
    pending: Vec<u8>,
    ended: bool,
}

impl Read for PatternReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.pending.is_empty() && !self.ended {
            let Pattern {
                head,
                unit,
                tail,
                length,
            } = self.pattern;
            let mut next = head.to_owned();
            if self.made > 0 {
                // Many at a time, because it has to be quick.
                next = (self.units..self.units + 500).map(unit).collect();
                self.units += 500;
            }
            if self.made + next.len() + tail.len() > length {
                self.pending = tail.as_bytes().to_vec();
                self.ended = true;
            } else {
                self.made += next.len();
                self.pending = next.into_bytes();
            }
        }
        let n = buffer.len().min(self.pending.len());
        for (to, from) in buffer.iter_mut().zip(self.pending.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }
}

/// Serves files from memory, and one that is made up.
struct Hostile {
    files: BTreeMap<&'static str, Vec<u8>>,
    place: &'static str,
    pattern: Pattern,
}

impl Transport for Hostile {
    fn get(
        &self,
        url: &str,
        _resume: Option<&ResumeFrom>,
    ) -> Result<TransportResponse, TransportError> {
        let name = url.rsplit('/').next().unwrap();
        let body: Box<dyn Read + Send> = if name == self.place {
            Box::new(PatternReader {
                pattern: self.pattern.clone(),
                made: 0,
                units: 0,
                pending: Vec::new(),
                ended: false,
            })
        } else {
            let bytes = self.files.get(name).ok_or(TransportError::Missing(404))?;
            Box::new(std::io::Cursor::new(bytes.clone()))
        };
        Ok(TransportResponse {
            offset: 0,
            length: None,
            validator: None,
            body,
        })
    }
}

fn signed(key: &SigningKey, content: Value) -> Vec<u8> {
    let signature = key.sign(&canonical_json(&content).unwrap());
    let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
    let all = json!({"signatures": [{"keyid": key.id(), "sig": hex}], "signed": content});
    serde_json::to_vec(&all).unwrap()
}

#[test]
fn a_server_without_keys_takes_little_memory() {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let now: jiff::Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let root = writer::root(&key, now).unwrap();
    let header = |kind: &str| {
        json!({"_type": kind, "spec_version": "1.0.31", "version": 1,
            "expires": "2026-12-01T00:00:00Z"})
    };
    // As most publishers do it: versions alone, no lengths and no digests.
    let mut timestamp = header("timestamp");
    timestamp["meta"] = json!({"snapshot.json": {"version": 1}});
    let mut snapshot = header("snapshot");
    snapshot["meta"] = json!({"targets.json": {"version": 1}});
    let files = BTreeMap::from([
        ("timestamp.json", signed(&key, timestamp)),
        ("1.snapshot.json", signed(&key, snapshot)),
    ]);

    type Shape = (&'static str, fn(usize) -> String, &'static str);
    const OPEN: &str = r#"{"signatures":[],"signed":"#;
    let shapes: [(&str, Shape); 8] = [
        (
            "maps of one",
            (
                r#"{"signatures":[],"signed":[{"":0}"#,
                |_| r#",{"":0}"#.into(),
                "]}",
            ),
        ),
        (
            "lists of none",
            (r#"{"signatures":[],"signed":[[]"#, |_| ",[]".into(), "]}"),
        ),
        (
            "numbers",
            (r#"{"signatures":[],"signed":[0"#, |_| ",0".into(), "]}"),
        ),
        (
            "one name",
            (
                r#"{"signatures":[],"signed":{"":0"#,
                |_| r#","":0"#.into(),
                "}}",
            ),
        ),
        (
            "names",
            (
                r#"{"signatures":[],"signed":{"":0"#,
                |n| format!(r#","{n:x}":0"#),
                "}}",
            ),
        ),
        (
            "beside it",
            (
                r#"{"signatures":[],"signed":{},"x":[0"#,
                |_| ",{}".into(),
                "]}",
            ),
        ),
        (
            "signatures",
            (
                r#"{"signed":{},"signatures":[{"keyid":"","sig":""}"#,
                |n| format!(r#",{{"keyid":"{n:x}","sig":""}}"#),
                "]}",
            ),
        ),
        ("no end of it", (OPEN, |_| "[".into(), "")),
    ];
    for (place, length) in [
        ("2.root.json", 1 << 20),
        ("1.targets.json", 2 << 20),
        // What is longer is refused before it is all there.
        ("1.snapshot.json", 4 << 20),
    ] {
        // They differ where there is most of them.
        let some = if place == "1.targets.json" { 8 } else { 2 };
        for (name, (head, unit, tail)) in shapes.into_iter().take(some) {
            let transport = Hostile {
                files: files.clone(),
                place,
                pattern: Pattern {
                    head,
                    unit,
                    tail,
                    length,
                },
            };
            let device = tempfile::tempdir().unwrap();
            let trusted = TrustedMetadata {
                directory: device.path().join("trusted"),
                root_directory: device.path().join("trusted-root"),
                root: root.clone(),
            };
            let remote = RemoteRepository {
                metadata_url: "http://a/metadata".parse().unwrap(),
                targets_url: "http://a/targets".parse().unwrap(),
                auth_token: None,
            };
            let options = ClientOptions {
                start_time: now,
                limits: ClientLimits::default(),
                relax_legacy: true,
            };
            let (peak, result) = peak_of(|| {
                let transport = Box::new(transport);
                TufClient::with_transport(trusted, &remote, options, transport)?.refresh()
            });
            let error = result.unwrap_err();
            assert!(
                matches!(error, TufError::Metadata { .. } | TufError::TooLong { .. }),
                "{place}, {name}: {error:?}"
            );
            assert!(peak <= MOST, "{place} of {length}, {name}: {peak} bytes");
        }
    }
}
