//! Sizes around 2 and 4 GiB, where numbers of 32 bits end. Files are sparse: nothing but their
//! ends is on disk.

use std::fs::{self, File};
use std::path::PathBuf;

use avocado_events::Silent;
use avocado_http::TransportError;
use avocado_manifest::{Digest, DigestHasher};
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_tuf::{RemoteRepository, TargetInfo, TufClient, TufError};
use serde_json::json;

use crate::support::{Device, Forge};

const GIB: u64 = 1 << 30;
const SIZES: [u64; 6] = [
    2 * GIB - 1,
    2 * GIB,
    2 * GIB + 1,
    4 * GIB - 1,
    4 * GIB,
    4 * GIB + 1,
];

fn sparse(path: PathBuf, length: u64) {
    File::create(path).unwrap().set_len(length).unwrap();
}

/// The digests of that many zero bytes, for growing lengths.
fn zeros(lengths: &[u64]) -> Vec<Digest> {
    let buffer = vec![0; 1 << 20];
    let mut hasher = DigestHasher::default();
    let mut done = 0;
    let mut digests = Vec::new();
    for length in lengths {
        while done < *length {
            let n = buffer.len().min((length - done) as usize);
            hasher.update(&buffer[..n]);
            done += n as u64;
        }
        digests.push(hasher.clone().finish());
    }
    digests
}

/// A repository with one target that is said to have this length and digest.
struct Site {
    forge: Forge,
    server: TestServer,
    device: Device,
}

impl Site {
    fn new(length: u64, digest: Digest) -> Self {
        let mut forge = Forge::new();
        forge.role("app")["targets"]["big.raw"] =
            json!({"length": length, "hashes": {"sha256": digest.to_string()}});
        forge.publish_all();
        let mut device = forge.device();
        device.limits.attempts = 1;
        Site {
            server: TestServer::start(avocado_serve::ServeOptions::new(forge.dir.path())).unwrap(),
            device,
            forge,
        }
    }

    fn file(&self, digest: Digest) -> PathBuf {
        self.forge.path(&format!("targets/{digest}.big.raw"))
    }

    fn client(&self) -> (TufClient, TargetInfo) {
        let remote = RemoteRepository {
            metadata_url: format!("{}/metadata", self.server.url()).parse().unwrap(),
            targets_url: format!("{}/targets", self.server.url()).parse().unwrap(),
            auth_token: None,
        };
        let device = &self.device;
        let mut client = TufClient::open(device.trusted(), remote, device.options()).unwrap();
        let info = client.target("big.raw").unwrap().unwrap();
        (client, info)
    }

    fn download(&self) -> Result<(), TufError> {
        let (client, info) = self.client();
        client.download(&info, &self.device.partial(), &Silent)
    }
}

#[test]
fn one_byte_more_or_less_is_another_length() {
    let digest = Digest::of(b"never read");
    for size in SIZES {
        let site = Site::new(size, digest);
        sparse(site.file(digest), size + 1);
        assert!(
            matches!(site.download(), Err(TufError::TooLong { limit, .. }) if limit == size),
            "{size}"
        );
        assert!(!site.device.partial().exists());
        // Told by the length, long before anything is read.
        let (_, info) = site.client();
        for other in [size - 1, size + 1, size + (1 << 32)] {
            sparse(site.device.partial(), other);
            assert!(!info.describes(&site.device.partial()).unwrap(), "{size}");
        }
    }
}

/// The two largest stand for all: hashing takes its time.
#[test]
fn offsets_have_64_bits() {
    let sizes = [2 * GIB + 1, 4 * GIB + 1];
    for (size, digest) in sizes.into_iter().zip(zeros(&sizes)) {
        let mut site = Site::new(size, digest);
        // In memory, where holes cost nothing to read.
        if let Ok(dir) = tempfile::tempdir_in("/dev/shm") {
            site.device.dir = dir;
        }
        sparse(site.file(digest), size);
        // Five bytes of it are missing: their offset is what is asked for.
        site.server
            .faults()
            .add(FaultRule::new(Fault::Cut(1), "*.raw").first(1));
        site.download().unwrap_err();
        let partial = File::options().write(true).open(site.device.partial());
        partial.unwrap().set_len(size - 5).unwrap();

        site.download().unwrap();
        let request = site.server.requests().pop().unwrap();
        let range = format!("bytes={}-", size - 5);
        assert_eq!(request.range.as_deref(), Some(range.as_str()));
        assert_eq!((request.status, request.total), (206, 5), "{size}");
        let length = fs::metadata(site.device.partial()).unwrap().len();
        assert_eq!(length, size);
    }
}

#[test]
fn a_length_is_never_taken_for_its_lower_half() {
    let digest = Digest::of(b"short");
    for more in [2 * GIB, 4 * GIB, 1 << 63] {
        // Stated with more, sent without: it never ends well, though the digest is right.
        let site = Site::new(5 + more, digest);
        fs::write(site.file(digest), "short").unwrap();
        let error = site.download().unwrap_err();
        assert!(
            matches!(
                &error,
                TufError::Fetch {
                    source: TransportError::Connection(_),
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(fs::read(site.device.partial()).unwrap(), b"short");
    }
    for more in [2 * GIB, 4 * GIB] {
        // The other way round not even one byte of it is written.
        let site = Site::new(5, digest);
        sparse(site.file(digest), 5 + more);
        assert!(matches!(
            site.download(),
            Err(TufError::TooLong { limit: 5, .. })
        ));
        assert!(!site.device.partial().exists());
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    for length in ["18446744073709551616", "-1", "1e3", "4294967296.5", "\"5\""] {
        let mut forge = Forge::new();
        forge.role("app")["targets"]["manifest.json"]["length"] = json!("LENGTH");
        forge.publish_all();
        let path = forge.path("metadata/2.app.json");
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("\"LENGTH\"", length);
        forge.put("app", text.as_bytes());
        forge.publish_top();
        let device = forge.device();
        let error = device.fetch("manifest.json").unwrap_err();
        assert!(
            matches!(&error, TufError::Metadata { role, .. } if role == "app"),
            "{error:?}"
        );
        assert!(!device.partial().exists());
    }
}
