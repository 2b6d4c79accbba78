//! What a channel says: the newest version, and where it is for each platform.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use avocado_manifest::{Name, UpdatePolicy, VmImage};
use avocado_tuf::http::{Http, Network, NetworkError};
use avocado_tuf::transport::Transport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::dir::{File, StateDir};
use crate::error;
use crate::image::{self, Image, MANIFEST};

/// How long a channel and a manifest may take, in seconds.
const LIMIT: u64 = 5;
/// The largest of either, in bytes.
const LARGEST: u64 = 1 << 20;
/// How long what a channel said is good enough for a hint.
const FRESH: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// For files: until there is a connection, and until the next bytes.
const CONNECT: Duration = Duration::from_secs(15);
const READ: Duration = Duration::from_secs(30);

/// A channel, as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name.
    pub channel: String,
    /// The newest version.
    pub version: String,
    /// When that was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
    /// Where it is, by platform (`avocado-qemux86-64`).
    pub platforms: BTreeMap<String, Platform>,
    /// The least version of this program that can run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_cli_version: Option<String>,
}

/// Where the image for one platform is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Its manifest.
    pub manifest_url: String,
    /// The directory of its files.
    pub base_url: String,
}

/// A channel for one platform, and the way to it.
#[derive(Debug)]
pub struct Source {
    base: String,
    channel: Name,
    platform: String,
    /// For what is small.
    quick: Http,
    /// For files.
    pub(super) files: Http,
}

/// What a channel offers beside what is installed.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The channel.
    pub index: Index,
    /// The manifest of its image.
    pub manifest: VmImage,
    /// The version that is installed, where one is.
    pub installed: Option<String>,
    /// The roles whose files have to be fetched.
    pub fetch: Vec<String>,
    /// Whether the image brings another `/var` than the one that is there.
    pub new_seed: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) base_url: String,
    current: bool,
}

impl Offer {
    /// Whether there is anything to do.
    pub fn update_available(&self) -> bool {
        !self.current
    }
}

/// What is remembered of a channel.
#[derive(Serialize, Deserialize)]
struct Cached {
    url: String,
    fetched_at: Timestamp,
    index: Index,
}

impl Source {
    /// The channel `<base>/<channel>.json` for `platform`. Nothing is fetched yet.
    ///
    /// # Errors
    /// When the channel's name is none, or the network's settings cannot be used.
    pub fn new(
        base: &str,
        channel: &str,
        platform: &str,
        network: &Network,
    ) -> Result<Self, crate::Error> {
        let channel: Name = channel
            .parse()
            .map_err(|_| Error::Name(channel.chars().take(80).collect()))?;
        let base = base.trim_end_matches('/').to_owned();
        let http = |connect, read| {
            Http::over(network, &[], None, connect, read).map_err(|e: NetworkError| Error::Index {
                url: base.clone(),
                detail: e.to_string(),
            })
        };
        let limit = Duration::from_secs(LIMIT);
        Ok(Source {
            quick: http(limit, limit)?,
            files: http(CONNECT, READ)?,
            base: base.clone(),
            channel,
            platform: platform.to_owned(),
        })
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.channel.as_str()
    }

    /// The channel's URL.
    pub fn url(&self) -> String {
        format!("{}/{}.json", self.base, self.channel)
    }

    /// What the channel says now. It is remembered for [`Source::remembered`].
    pub fn index(&self, dir: &StateDir, now: Timestamp) -> Result<Index, crate::Error> {
        let url = self.url();
        let bytes = self.small(&url)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| Error::Index {
            url: url.clone(),
            detail: e.to_string(),
        })?;
        let cached = Cached {
            url,
            fetched_at: now,
            index,
        };
        if let Ok(text) = serde_json::to_vec(&cached) {
            dir.create()?;
            dir.write(File::ChannelCache, &text)?;
        }
        Ok(cached.index)
    }

    /// What the channel said within the last day, or says now.
    pub fn remembered(&self, dir: &StateDir, now: Timestamp) -> Result<Index, crate::Error> {
        let cached = dir.read(File::ChannelCache)?;
        let cached = cached.and_then(|text| serde_json::from_slice::<Cached>(&text).ok());
        match cached {
            Some(cached)
                if cached.url == self.url()
                    && cached.fetched_at <= now
                    && now.duration_since(cached.fetched_at) < FRESH =>
            {
                Ok(cached.index)
            }
            _ => self.index(dir, now),
        }
    }

    /// Asks the channel for its image and compares that with the installed one.
    pub fn offer(&self, dir: &StateDir, now: Timestamp) -> Result<Offer, crate::Error> {
        let index = self.index(dir, now)?;
        self.check_program(&index)?;
        let platform = index
            .platforms
            .get(&self.platform)
            .ok_or_else(|| Error::Platform {
                channel: self.channel.to_string(),
                platform: self.platform.clone(),
            })?;
        let manifest_url = self.resolve(&platform.manifest_url)?;
        let base_url = self.resolve(&platform.base_url)?;
        let bytes = self.small(&manifest_url)?;
        let manifest = image::parse(&bytes).map_err(|source| crate::Error::Manifest {
            path: manifest_url,
            source,
        })?;
        Ok(compare(dir, index, manifest, bytes, base_url))
    }

    fn check_program(&self, index: &Index) -> Result<(), crate::Error> {
        const HAVE: &str = env!("CARGO_PKG_VERSION");
        let Some(needed) = &index.min_cli_version else {
            return Ok(());
        };
        let version = |text: &str| semver::Version::parse(text.trim_start_matches('v'));
        match (version(needed), version(HAVE)) {
            (Ok(needed), Ok(have)) if needed <= have => Ok(()),
            (Ok(_), _) => Err(Error::Cli {
                version: index.version.clone(),
                needed: needed.clone(),
                have: HAVE,
            }
            .into()),
            (Err(_), _) => Err(Error::Index {
                url: self.url(),
                detail: format!("min_cli_version `{}` is no version", needed.escape_debug()),
            }
            .into()),
        }
    }

    /// A URL of the channel, which may be relative to its base.
    pub(super) fn resolve(&self, url: &str) -> Result<String, Error> {
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("{}/{}", self.base, url.trim_start_matches('/')),
        };
        match self.base.starts_with("https://") && !url.starts_with("https://") {
            true => Err(Error::Downgrade(url)),
            false => Ok(url.trim_end_matches('/').to_owned()),
        }
    }

    /// A small file, soon.
    fn small(&self, url: &str) -> Result<Vec<u8>, Error> {
        let start = Instant::now();
        let response = self.quick.get(url, None).map_err(|source| Error::Fetch {
            url: url.to_owned(),
            source,
        })?;
        let mut body = response.body.take(LARGEST + 1);
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            if start.elapsed() > Duration::from_secs(LIMIT) {
                return Err(Error::Slow {
                    url: url.to_owned(),
                    limit: LIMIT,
                });
            }
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(source) => {
                    return Err(Error::Cut {
                        url: url.to_owned(),
                        done: bytes.len() as u64,
                        source: Some(source),
                    });
                }
            }
        }
        match bytes.len() as u64 > LARGEST {
            true => Err(Error::TooLarge {
                url: url.to_owned(),
                most: LARGEST,
            }),
            false => Ok(bytes),
        }
    }
}

/// What has to be fetched: files with other bytes, files that are not there, and of those that a
/// disk only starts from the ones that are not there.
fn compare(
    dir: &StateDir,
    index: Index,
    manifest: VmImage,
    bytes: Vec<u8>,
    base_url: String,
) -> Offer {
    let install = dir.file(File::Install);
    // An image that cannot be read is as good as none.
    let installed = Image::load(&install).ok();
    let have = |file: &Name| {
        let artifacts = installed
            .iter()
            .flat_map(|i| i.manifest().artifacts.values());
        let mut named = artifacts.filter(|artifact| artifact.file == *file);
        named.next().filter(|_| install.join(file).is_file())
    };
    let mut fetch = Vec::new();
    let mut new_seed = false;
    for (role, artifact) in &manifest.artifacts {
        let found = have(&artifact.file);
        let same = found.is_some_and(|found| found.sha256 == artifact.sha256);
        let keep = match artifact.update_policy {
            UpdatePolicy::Replace => same,
            UpdatePolicy::SeedOnly => {
                new_seed |= installed.is_some() && !same;
                found.is_some()
            }
        };
        if !keep {
            fetch.push(role.clone());
        }
    }
    let current = fetch.is_empty()
        && installed
            .as_ref()
            .is_some_and(|image| image.manifest_bytes() == bytes);
    Offer {
        installed: installed.and_then(|image| image.manifest().version.clone()),
        index,
        manifest,
        fetch,
        new_seed: new_seed && dir.file(File::Var).exists(),
        bytes,
        base_url,
        current,
    }
}

impl Offer {
    /// The name of its directory below `staging`: the version, or where that is no safe name, the
    /// digest of the manifest.
    pub(super) fn staging_name(&self) -> String {
        match self.index.version.parse::<Name>() {
            Ok(name) => name.to_string(),
            Err(_) => avocado_manifest::Digest::of(&self.bytes).to_string(),
        }
    }

    /// Writes the manifest into its staging directory.
    pub(super) fn write_manifest(&self, staging: &std::path::Path) -> Result<(), error::Error> {
        crate::files::write(&staging.join(MANIFEST), &self.bytes)
    }
}
