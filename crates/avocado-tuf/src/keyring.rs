//! The directory that keeps signing keys: `keys.json` names them, `<keyid>.key` holds a seed and
//! `<keyid>.pub` the public key, both in base64.
//!
//! Here a key id is the SHA-256 of the raw public key; TUF metadata uses another one,
//! [`SigningKey::id`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use avocado_fs::{
    Durability, FileLock, LockPlace, OpenFileWarning, PathError, TemporaryName, WriteOptions,
    create_directories, open_to_others, read_if_there, remove_file_if_there,
};
use avocado_manifest::{Digest, Name, NameError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::keys::{KeyError, PublicKey, SigningKey};

const INDEX: &str = "keys.json";
const LOCK: &str = ".lock";
const ALGORITHM: &str = "ed25519";
/// The largest file that is read, in bytes: a registry of many thousand keys.
const LONGEST: u64 = 16 << 20;

/// What went wrong with a key in the registry.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A file could not be read or written.
    #[error("cannot use the signing key registry")]
    Io(#[from] PathError),
    /// `keys.json` is not what it should be.
    #[error("{} is no key registry", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// A new key cannot have this name.
    #[error("a signing key cannot have this name")]
    Name(#[from] NameError),
    /// The name is taken.
    #[error("there is already a signing key `{0}`")]
    Exists(String),
    /// No key has this name or id.
    #[error("there is no signing key `{0}`")]
    Unknown(String),
    /// The key is kept where this program cannot sign with it.
    #[error("the signing key `{name}` is kept at {uri}, which cannot sign TUF metadata")]
    Unsupported {
        /// The key's name.
        name: String,
        /// Where it is kept.
        uri: String,
    },
    /// The file of a listed key is neither where the registry says nor beside the registry.
    #[error(
        "the signing key `{name}` is lost: neither {} nor {} is there; restore it from a copy, or remove \
         the entry and sign with another key, whose repositories devices take once they know it",
        listed.display(), beside.display()
    )]
    Lost {
        /// The key's name.
        name: String,
        /// Where the registry says that it is.
        listed: PathBuf,
        /// Where a registry keeps its keys.
        beside: PathBuf,
    },
    /// The key file does not hold the key that the registry lists.
    #[error("{} does not hold the key that the registry lists", .0.display())]
    WrongKey(PathBuf),
    /// No key could be made.
    #[error("cannot make a signing key")]
    Key(#[from] KeyError),
}

/// A key that the registry lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyringEntry {
    /// The key's name.
    #[serde(skip)]
    pub name: String,
    /// The SHA-256 of the raw public key, in hexadecimal digits.
    #[serde(rename = "keyid")]
    pub key_id: String,
    /// The algorithm; `ed25519` for every key that is made here.
    pub algorithm: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Where it is kept: `file://<directory>/<keyid>`, or a token.
    pub uri: String,
    /// What other programs noted about it.
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct KeyringIndex {
    #[serde(default)]
    keys: BTreeMap<String, KeyringEntry>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A registry of signing keys in one directory.
#[derive(Debug, Clone)]
pub struct Keyring {
    directory: PathBuf,
}

impl Keyring {
    /// The registry in `directory`, an absolute path. Nothing is created before a key is.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Keyring {
            directory: directory.into(),
        }
    }

    /// Where the keys are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a key. The registry never overwrites one.
    pub fn create(&self, name: &str, now: jiff::Timestamp) -> Result<KeyringEntry, KeyringError> {
        let name: Name = name.parse()?;
        create_directories(&self.directory, 0o700)?;
        let _lock = self.lock()?;
        let mut index = self.read()?;
        if index.keys.contains_key(name.as_str()) {
            return Err(KeyringError::Exists(name.into()));
        }

        let seed = SigningKey::random_seed()?;
        let key = SigningKey::from_seed(&seed)?;
        let public = key.public().as_bytes();
        let key_id = Digest::of(public).to_string();
        // The key before its entry: an interruption leaves a stray file, never an entry without
        // its key.
        for (suffix, bytes, mode) in [("key", &seed[..], 0o600), ("pub", public, 0o644)] {
            let name = format!("{key_id}.{suffix}");
            // The index comes last, and with it the names of all.
            self.write(&name, &STANDARD.encode(bytes), mode, Durability::Content)?;
        }
        let entry = KeyringEntry {
            name: name.to_string(),
            uri: format!("file://{}", self.directory.join(&key_id).display()),
            key_id,
            algorithm: ALGORITHM.to_owned(),
            created_at: seconds(now).to_string(),
            other: Map::new(),
        };
        index.keys.insert(name.into(), entry.clone());
        self.store(&index)?;
        Ok(entry)
    }

    /// All keys, by name.
    pub fn list(&self) -> Result<Vec<KeyringEntry>, KeyringError> {
        Ok(self.read()?.keys.into_values().collect())
    }

    /// The key with this name or, where no name is so, with this id.
    pub fn find(&self, name_or_id: &str) -> Result<Option<KeyringEntry>, KeyringError> {
        let mut keys = self.read()?.keys;
        if let Some(entry) = keys.remove(name_or_id) {
            return Ok(Some(entry));
        }
        Ok(keys.into_values().find(|entry| entry.key_id == name_or_id))
    }

    /// Reads the private key of an entry and checks that it is the one listed. `warn` hears where
    /// others can read its file.
    pub fn load(
        &self,
        entry: &KeyringEntry,
        warn: &dyn Fn(OpenFileWarning),
    ) -> Result<SigningKey, KeyringError> {
        if entry.algorithm != ALGORITHM {
            return Err(unsupported(entry));
        }
        let (path, text) = self.read_half(entry, "key")?;
        if let Some(warning) = open_to_others(&path) {
            warn(warning);
        }
        let seed: [u8; 32] = STANDARD
            .decode(text.trim_ascii())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| KeyringError::WrongKey(path.clone()))?;
        let key = SigningKey::from_seed(&seed)?;
        if Digest::of(key.public().as_bytes()).to_string() != entry.key_id {
            return Err(KeyringError::WrongKey(path));
        }
        Ok(key)
    }

    /// The public half of an entry, which needs no permission to sign.
    ///
    /// # Errors
    /// [`KeyringError::Unsupported`] where it is kept elsewhere, [`KeyringError::Lost`],
    /// [`KeyringError::WrongKey`] and [`KeyringError::Io`].
    pub fn public_key(&self, entry: &KeyringEntry) -> Result<PublicKey, KeyringError> {
        let (path, text) = self.read_half(entry, "pub")?;
        let key = PublicKey::from_base64(&String::from_utf8_lossy(&text));
        key.filter(|key| Digest::of(key.as_bytes()).to_string() == entry.key_id)
            .ok_or(KeyringError::WrongKey(path))
    }

    /// The file of the private (`key`) or the public (`pub`) half of an entry, and what is in it.
    fn read_half(
        &self,
        entry: &KeyringEntry,
        half: &str,
    ) -> Result<(PathBuf, Vec<u8>), KeyringError> {
        let stem = entry.uri.strip_prefix("file://");
        let stem = stem.ok_or_else(|| unsupported(entry))?;
        let listed = PathBuf::from(format!("{stem}.{half}"));
        // A registry that was moved as a whole, with its user's home, lists where its keys were.
        let beside = self.directory.join(format!("{}.{half}", entry.key_id));
        for path in [&listed, &beside] {
            if let Some(text) = read_if_there(path, LONGEST)? {
                return Ok((path.clone(), text));
            }
        }
        Err(KeyringError::Lost {
            name: entry.name.clone(),
            listed,
            beside,
        })
    }

    /// Forgets a key, by name or id, and deletes its files where they are in this registry.
    pub fn remove(&self, name_or_id: &str) -> Result<KeyringEntry, KeyringError> {
        let unknown = || KeyringError::Unknown(name_or_id.to_owned());
        let _lock = match self.lock() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            lock => lock?,
        };
        let mut index = self.read()?;
        let entry = self.find(name_or_id)?.ok_or_else(unknown)?;
        index.keys.remove(&entry.name);
        self.store(&index)?;
        let stem = self.directory.join(&entry.key_id);
        let here = entry.uri.strip_prefix("file://").is_some_and(|listed| {
            // A registry that was moved has its keys with it.
            Path::new(listed) == stem || !Path::new(&format!("{listed}.key")).exists()
        });
        // Two names may share one key.
        let shared = index.keys.values().any(|e| e.key_id == entry.key_id);
        if here && !shared {
            for suffix in ["key", "pub"] {
                remove_file_if_there(&stem.with_extension(suffix))?;
            }
        }
        Ok(entry)
    }

    fn lock(&self) -> Result<FileLock, PathError> {
        LockPlace::file(&self.directory.join(LOCK)).lock()
    }

    fn read(&self) -> Result<KeyringIndex, KeyringError> {
        let path = self.directory.join(INDEX);
        let Some(bytes) = read_if_there(&path, LONGEST)? else {
            return Ok(KeyringIndex::default());
        };
        let mut index: KeyringIndex = serde_json::from_slice(&bytes)
            .map_err(|source| KeyringError::Malformed { path, source })?;
        for (name, entry) in &mut index.keys {
            entry.name.clone_from(name);
        }
        Ok(index)
    }

    fn store(&self, index: &KeyringIndex) -> Result<(), KeyringError> {
        let path = self.directory.join(INDEX);
        let mut text = serde_json::to_string_pretty(index)
            .map_err(|source| KeyringError::Malformed { path, source })?;
        text.push('\n');
        Ok(self.write(INDEX, &text, 0o600, Durability::Full)?)
    }

    fn write(
        &self,
        name: &str,
        text: &str,
        mode: u32,
        durability: Durability,
    ) -> Result<(), PathError> {
        WriteOptions::new()
            .mode(mode)
            .temporary(TemporaryName::Shared(".new"))
            .durability(durability)
            .write(&self.directory.join(name), text.as_bytes())
    }
}

fn unsupported(entry: &KeyringEntry) -> KeyringError {
    KeyringError::Unsupported {
        name: entry.name.clone(),
        uri: entry.uri.clone(),
    }
}

/// `at` without its fraction of a second.
pub(crate) fn seconds(at: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn now() -> jiff::Timestamp {
        "2025-01-02T03:04:05.678Z".parse().unwrap()
    }

    #[test]
    fn a_key_lives_from_create_to_remove() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("avocado/signing-keys");
        let ring = Keyring::new(&home);
        assert_eq!(ring.list().unwrap(), []);
        assert_eq!(ring.find("dev").unwrap(), None);

        let entry = ring.create("dev", now()).unwrap();
        assert_eq!(entry.created_at, "2025-01-02T03:04:05Z");
        assert_eq!(
            entry.uri,
            format!("file://{}/{}", home.display(), entry.key_id)
        );
        assert_eq!(ring.list().unwrap(), std::slice::from_ref(&entry));
        assert_eq!(ring.find("dev").unwrap(), Some(entry.clone()));
        assert_eq!(ring.find(&entry.key_id).unwrap(), Some(entry.clone()));

        let key = ring.load(&entry, &|_| {}).unwrap();
        assert!(key.public().verify(b"m", &key.sign(b"m")));
        assert_eq!(&ring.public_key(&entry).unwrap(), key.public());
        let mode = |p: PathBuf| fs::metadata(p).unwrap().mode() & 0o777;
        assert_eq!(mode(home.clone()), 0o700);
        assert_eq!(mode(home.join(format!("{}.key", entry.key_id))), 0o600);

        assert_eq!(ring.remove(&entry.key_id).unwrap(), entry);
        assert_eq!(ring.list().unwrap(), []);
        let left = fs::read_dir(&home).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".lock", "keys.json"]);
        assert_eq!(mode(home.join(".lock")), 0o600);
    }

    #[test]
    fn a_registry_may_be_moved_with_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let entry = Keyring::new(&old).create("dev", now()).unwrap();
        fs::rename(&old, &new).unwrap();
        let ring = Keyring::new(&new);
        assert_eq!(ring.list().unwrap(), std::slice::from_ref(&entry));
        let key = ring.load(&entry, &|_| {}).unwrap();
        assert_eq!(
            Digest::of(key.public().as_bytes()).to_string(),
            entry.key_id
        );
        assert_eq!(&ring.public_key(&entry).unwrap(), key.public());
        let file = new.join(format!("{}.key", entry.key_id));
        let another = SigningKey::random_seed().unwrap();
        fs::write(&file, STANDARD.encode(another)).unwrap();
        assert!(matches!(
            ring.load(&entry, &|_| {}),
            Err(KeyringError::WrongKey(path)) if path == file
        ));
        fs::remove_file(&file).unwrap();
        let lost = ring.load(&entry, &|_| {}).unwrap_err();
        assert!(matches!(&lost, KeyringError::Lost { name, .. } if name == "dev"));
        ring.remove("dev").unwrap();
        assert!(!new.join(format!("{}.pub", entry.key_id)).exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_told() {
        use std::cell::RefCell;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let ring = Keyring::new(dir.path());
        let entry = ring.create("dev", now()).unwrap();
        let warnings = RefCell::new(Vec::new());
        let warn = |warning: OpenFileWarning| warnings.borrow_mut().push(warning);
        ring.load(&entry, &warn).unwrap();
        assert_eq!(*warnings.borrow(), []);
        let path = dir.path().join(format!("{}.key", entry.key_id));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        ring.load(&entry, &warn).unwrap();
        assert_eq!(*warnings.borrow(), [OpenFileWarning { path, mode: 0o666 }]);
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Keyring::new(dir.path());
        let first = ring.create("dev", now()).unwrap();
        assert!(matches!(
            ring.create("dev", now()),
            Err(KeyringError::Exists(_))
        ));
        assert_eq!(ring.list().unwrap(), [first]);
    }

    #[test]
    fn what_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Keyring::new(dir.path());
        for name in ["", "../x", "a/b", "-a"] {
            assert!(matches!(
                ring.create(name, now()),
                Err(KeyringError::Name(_))
            ));
        }
        assert!(matches!(ring.remove("dev"), Err(KeyringError::Unknown(_))));
        let missing = Keyring::new(dir.path().join("none"));
        assert!(matches!(
            missing.remove("dev"),
            Err(KeyringError::Unknown(_))
        ));

        let entry = ring.create("dev", now()).unwrap();
        let token = KeyringEntry {
            uri: "pkcs11:object=x".into(),
            ..entry.clone()
        };
        assert!(matches!(
            ring.load(&token, &|_| {}),
            Err(KeyringError::Unsupported { .. })
        ));
        let other = ring.create("other", now()).unwrap();
        let swapped = KeyringEntry {
            uri: other.uri,
            ..entry
        };
        assert!(matches!(
            ring.load(&swapped, &|_| {}),
            Err(KeyringError::WrongKey(_))
        ));
        fs::write(dir.path().join(INDEX), "{").unwrap();
        assert!(matches!(ring.list(), Err(KeyringError::Malformed { .. })));
    }

    #[test]
    fn what_others_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Keyring::new(dir.path());
        let text = r#"{"version":3,"keys":{"hsm":{"keyid":"aa","algorithm":"ecdsa","created_at":"x","uri":"pkcs11:x","slot":7}}}"#;
        fs::write(dir.path().join(INDEX), text).unwrap();
        ring.create("dev", now()).unwrap();
        let kept: Value =
            serde_json::from_slice(&fs::read(dir.path().join(INDEX)).unwrap()).unwrap();
        assert_eq!(kept["version"], 3);
        assert_eq!(kept["keys"]["hsm"]["slot"], 7);
    }
}
