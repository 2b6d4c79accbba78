//! A repository that can be made to lie, and a transport that reads it from disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use avocado_http::{ResumeFrom, Transport, TransportError, TransportResponse};
use avocado_manifest::Digest;
use avocado_tuf::{
    ClientLimits, ClientOptions, RemoteRepository, SigningKey, TrustedMetadata, TufClient, TufError,
};
use serde_json::{Value, json};

pub(crate) const NOW: &str = "2025-06-01T00:00:00Z";
pub(crate) const LATER: &str = "2026-06-01T00:00:00Z";
pub(crate) const PAST: &str = "2025-05-31T23:59:59Z";

pub(crate) fn now() -> jiff::Timestamp {
    NOW.parse().unwrap()
}

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32]).unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn sha512(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA512, bytes)
        .as_ref()
        .to_vec()
}

/// A second, independent way to the bytes that are signed; right for ASCII.
pub(crate) fn canonical(value: &Value) -> Vec<u8> {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let map: BTreeMap<_, _> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                json!(map)
            }
            Value::Array(items) => items.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    serde_json::to_vec(&sorted(value)).unwrap()
}

pub(crate) fn tuf_key(key: &SigningKey) -> Value {
    json!({"keytype": "ed25519", "keyval": {"public": hex(key.public().as_bytes())}, "scheme": "ed25519"})
}

pub(crate) fn sign(signed: &Value, keys: &[SigningKey]) -> Vec<u8> {
    let message = canonical(signed);
    let signatures: Vec<_> = keys
        .iter()
        .map(|key| json!({"keyid": key.id(), "sig": hex(&key.sign(&message))}))
        .collect();
    serde_json::to_vec_pretty(&json!({"signatures": signatures, "signed": signed})).unwrap()
}

/// The content of each role as JSON, to be changed at will, and who signs it.
pub(crate) struct Forge {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) signed: BTreeMap<String, Value>,
    pub(crate) signers: BTreeMap<String, Vec<u8>>,
}

impl Forge {
    /// A repository with one delegated role, `app`, that has the target `manifest.json`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys: serde_json::Map<_, _> =
            (1..=4).map(|n| (key(n).id(), tuf_key(&key(n)))).collect();
        let role = |n| json!({"keyids": [key(n).id()], "threshold": 1});
        let header = |kind: &str| json!({"_type": kind, "spec_version": "1.0.31", "version": 1, "expires": LATER});
        let with = |kind: &str, more: Value| {
            let mut value = header(kind);
            let map = value.as_object_mut().unwrap();
            map.extend(more.as_object().unwrap().clone());
            value
        };
        let signed = BTreeMap::from([
            (
                "root".to_owned(),
                with(
                    "root",
                    json!({"consistent_snapshot": true, "keys": keys, "roles": {
                        "root": role(1), "timestamp": role(2), "snapshot": role(3), "targets": role(4),
                    }}),
                ),
            ),
            (
                "timestamp".to_owned(),
                with("timestamp", json!({"meta": {}})),
            ),
            ("snapshot".to_owned(), with("snapshot", json!({"meta": {}}))),
            (
                "targets".to_owned(),
                with(
                    "targets",
                    json!({"targets": {}, "delegations": {
                        "keys": {key(5).id(): tuf_key(&key(5))},
                        "roles": [{"name": "app", "keyids": [key(5).id()], "threshold": 1,
                            "terminating": true, "paths": ["manifest.json", "*.raw"]}],
                    }}),
                ),
            ),
            ("app".to_owned(), with("targets", json!({"targets": {}}))),
        ]);
        let signers = [
            ("root", 1),
            ("timestamp", 2),
            ("snapshot", 3),
            ("targets", 4),
            ("app", 5),
        ]
        .map(|(role, n)| (role.to_owned(), vec![n]));
        for part in ["metadata/delegations", "targets"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        let mut forge = Forge {
            dir,
            signed,
            signers: signers.into(),
        };
        forge.add("app", "manifest.json", b"the manifest");
        forge.publish(&["root", "app", "targets", "snapshot", "timestamp"]);
        forge
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(crate) fn role(&mut self, role: &str) -> &mut Value {
        self.signed.get_mut(role).unwrap()
    }

    pub(crate) fn bump(&mut self, role: &str) {
        let version = &mut self.role(role)["version"];
        *version = json!(version.as_u64().unwrap() + 1);
    }

    /// Adds a target and its file.
    pub(crate) fn add(&mut self, role: &str, name: &str, bytes: &[u8]) {
        let digest = Digest::of(bytes).to_string();
        self.role(role)["targets"][name] =
            json!({"length": bytes.len(), "hashes": {"sha256": digest}});
        let flat = name.replace('/', "_");
        fs::write(self.path(&format!("targets/{digest}.{flat}")), bytes).unwrap();
        fs::write(self.path(&format!("targets/{flat}")), bytes).unwrap();
    }

    pub(crate) fn bytes(&self, role: &str) -> Vec<u8> {
        let keys: Vec<_> = self.signers[role].iter().map(|n| key(*n)).collect();
        sign(&self.signed[role], &keys)
    }

    /// Writes these roles and announces each in the one above it, which has to come after it.
    pub(crate) fn publish(&mut self, roles: &[&str]) {
        for role in roles {
            let bytes = self.bytes(role);
            self.put(role, &bytes);
        }
    }

    pub(crate) fn put(&mut self, role: &str, bytes: &[u8]) {
        let version = self.signed[role]["version"].as_u64().unwrap();
        let mut files = vec![format!("{version}.{role}.json"), format!("{role}.json")];
        if role == "timestamp" {
            files.remove(0);
        }
        for file in files {
            fs::write(self.path(&format!("metadata/{file}")), bytes).unwrap();
        }
        let meta = json!({"version": version, "length": bytes.len(),
            "hashes": {"sha256": Digest::of(bytes).to_string()}});
        match role {
            "root" | "timestamp" => {}
            "snapshot" => self.role("timestamp")["meta"]["snapshot.json"] = meta,
            _ => self.role("snapshot")["meta"][format!("{role}.json")] = meta,
        }
    }

    /// A new version of each role, from the leaves up.
    pub(crate) fn publish_all(&mut self) {
        for role in ["app", "targets", "snapshot", "timestamp"] {
            self.bump(role);
            self.publish(&[role]);
        }
    }

    /// The same, with the delegated role as it is.
    pub(crate) fn publish_top(&mut self) {
        for role in ["targets", "snapshot", "timestamp"] {
            self.bump(role);
            self.publish(&[role]);
        }
    }

    pub(crate) fn device(&self) -> Device {
        Device::new(
            &fs::read(self.path("metadata/1.root.json")).unwrap(),
            self.dir.path(),
        )
    }
}

/// A device: its trusted metadata and a place for downloads.
pub(crate) struct Device {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) anchor: Vec<u8>,
    pub(crate) files: Files,
    pub(crate) relax_legacy: bool,
    pub(crate) start_time: jiff::Timestamp,
    pub(crate) limits: ClientLimits,
}

impl Device {
    pub(crate) fn new(anchor: &[u8], repository: &Path) -> Self {
        Device {
            dir: tempfile::tempdir().unwrap(),
            anchor: anchor.to_vec(),
            files: Files {
                root: repository.to_owned(),
                log: Arc::default(),
                allow_dots: false,
            },
            relax_legacy: false,
            start_time: now(),
            limits: ClientLimits {
                pause: Duration::ZERO,
                attempts: 3,
                ..ClientLimits::default()
            },
        }
    }

    pub(crate) fn client(&self) -> Result<TufClient, TufError> {
        let remote = RemoteRepository {
            metadata_url: "http://disk/metadata".parse().unwrap(),
            targets_url: "http://disk/targets/".parse().unwrap(),
            auth_token: None,
        };
        let transport = Box::new(self.files.clone());
        TufClient::with_transport(self.trusted(), &remote, self.options(), transport)
    }

    pub(crate) fn trusted(&self) -> TrustedMetadata {
        TrustedMetadata {
            directory: self.dir.path().join("trusted"),
            root_directory: self.dir.path().join("trusted"),
            root: self.anchor.clone(),
        }
    }

    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions {
            start_time: self.start_time,
            limits: self.limits.clone(),
            relax_legacy: self.relax_legacy,
        }
    }

    /// Refreshes, looks a target up and downloads it.
    pub(crate) fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>, TufError> {
        let mut client = self.client()?;
        client.refresh()?;
        let Some(info) = client.target(name)? else {
            return Ok(None);
        };
        client.download(&info, &self.partial(), &avocado_events::Silent)?;
        Ok(Some(fs::read(self.partial()).unwrap()))
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.dir.path().join("partial")
    }

    /// What is trusted: file name and content.
    pub(crate) fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        tree(&self.dir.path().join("trusted"))
    }
}

/// The files of one directory.
pub(crate) fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Serves `http://disk/<path>` from a directory and remembers what was asked for.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) root: PathBuf,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    /// Whether two dots in a row may be part of a name.
    pub(crate) allow_dots: bool,
}

impl Files {
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Transport for Files {
    fn get(
        &self,
        url: &str,
        resume: Option<&ResumeFrom>,
    ) -> Result<TransportResponse, TransportError> {
        let path = url.strip_prefix("http://disk/").unwrap();
        assert!(self.allow_dots || !path.contains(".."), "{path}");
        self.log.lock().unwrap().push(path.to_owned());
        let mut file =
            File::open(self.root.join(path)).map_err(|_| TransportError::Missing(404))?;
        let offset = resume.map_or(0, |r| r.offset);
        file.seek(SeekFrom::Start(offset)).unwrap();
        Ok(TransportResponse {
            offset,
            length: None,
            validator: None,
            body: Box::new(file.take(u64::MAX)),
        })
    }
}
