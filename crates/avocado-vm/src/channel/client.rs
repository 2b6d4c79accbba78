//! What a channel says: the newest version, and where it is for each platform.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use avocado_http::Transport;
use avocado_http::{
    HttpClient, NetworkSettings, NetworkSettingsError, RepositoryUrl, crosses_network_in_clear,
    without_secrets,
};
use avocado_manifest::{Name, UpdatePolicy, VmImage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ChannelError;
use super::trust::ChannelTrust;
use super::version::is_newer;
use crate::dir::{StateDir, StateFile};
use crate::error::VmError;
use crate::files;
use crate::image::{self, ImageDir, MANIFEST};

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
pub struct ChannelIndex {
    /// Its name.
    pub channel: String,
    /// The newest version.
    pub version: String,
    /// When that was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
    /// Where it is, by platform (`avocado-qemux86-64`).
    pub platforms: BTreeMap<String, ChannelPlatform>,
    /// The least version of this program that can run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_cli_version: Option<String>,
    /// Whether it is signed: a TUF repository at `<base>/<channel>/<platform>` has the manifest as
    /// its target. Once that was so it has to be, whatever is said here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed: bool,
}

/// Where the image for one platform is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPlatform {
    /// Its manifest.
    pub manifest_url: String,
    /// The directory of its files.
    pub base_url: String,
    /// Its version; where that is not said, the channel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl ChannelIndex {
    /// The version for a platform, if there is an image for it.
    pub fn version_for(&self, platform: &str) -> Option<&str> {
        let platform = self.platforms.get(platform)?;
        Some(platform.version.as_deref().unwrap_or(&self.version))
    }
}

/// A channel for one platform, and the way to it.
#[derive(Debug)]
pub struct ChannelClient {
    base: RepositoryUrl,
    /// Of the signatures.
    repository: RepositoryUrl,
    channel: Name,
    platform: String,
    network: NetworkSettings,
    /// The root that the user names.
    root: Option<Vec<u8>>,
    /// For what is small.
    quick: HttpClient,
    /// For files.
    pub(super) files: HttpClient,
}

/// What a channel offers beside what is installed.
#[derive(Debug, Clone)]
pub struct ChannelOffer {
    /// The channel.
    pub index: ChannelIndex,
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

impl ChannelOffer {
    /// Whether there is anything newer than what is installed.
    pub fn update_available(&self) -> bool {
        self.differs() && !self.is_older()
    }

    /// Whether it is another image than the one that is installed.
    pub fn differs(&self) -> bool {
        !self.current
    }

    /// The version that it would install.
    pub fn version(&self) -> &str {
        let stated = self.manifest.version.as_deref();
        stated.unwrap_or(&self.index.version)
    }

    /// Whether it would take the place of a newer version.
    pub fn is_older(&self) -> bool {
        let installed = self.installed.as_deref();
        installed.is_some_and(|installed| is_newer(installed, self.version()))
    }

    /// Refuses to go back to an older version, unless that is the one that is `wanted`.
    ///
    /// # Errors
    /// [`ChannelError::Older`], and [`ChannelError::OtherVersion`] where `wanted` is another one.
    pub fn check_version(&self, wanted: Option<&str>) -> Result<(), VmError> {
        let offered = self.version().to_owned();
        match (wanted, &self.installed) {
            (Some(wanted), _) if wanted != offered => Err(ChannelError::OtherVersion {
                offered,
                wanted: wanted.to_owned(),
            }
            .into()),
            (None, Some(installed)) if self.differs() && self.is_older() => {
                Err(ChannelError::Older {
                    offered,
                    installed: installed.clone(),
                }
                .into())
            }
            _ => Ok(()),
        }
    }
}

/// What is remembered of a channel.
#[derive(Serialize, Deserialize)]
struct RememberedIndex {
    url: String,
    fetched_at: Timestamp,
    index: ChannelIndex,
}

impl ChannelClient {
    /// The channel `<base>/<channel>.json` for `platform`. Nothing is fetched yet.
    ///
    /// # Errors
    /// When the base is no URL that files can be below, the channel's name is none, or the network's
    /// settings cannot be used.
    pub fn new(
        base: &str,
        channel: &str,
        platform: &str,
        network: &NetworkSettings,
    ) -> Result<Self, VmError> {
        let channel: Name = channel
            .parse()
            .map_err(|_| ChannelError::Name(channel.chars().take(80).collect()))?;
        let no_base = |source| ChannelError::Base {
            url: without_secrets(base),
            source,
        };
        let base: RepositoryUrl = base.parse().map_err(no_base)?;
        let repository = base.below(&format!("{channel}/{platform}"));
        let repository = repository.map_err(no_base)?;
        let http = |connect, read| {
            HttpClient::over(network, &[], None, connect, read).map_err(
                |e: NetworkSettingsError| ChannelError::Index {
                    url: base.to_string(),
                    detail: e.to_string(),
                },
            )
        };
        let limit = Duration::from_secs(LIMIT);
        Ok(ChannelClient {
            quick: http(limit, limit)?,
            files: http(CONNECT, READ)?,
            base: base.clone(),
            repository,
            channel,
            platform: platform.to_owned(),
            network: network.clone(),
            root: None,
        })
    }

    /// The same channel, which has to be signed under this root.
    #[must_use]
    pub fn signed_under(mut self, root: Vec<u8>) -> Self {
        self.root = Some(root);
        self
    }

    fn trust(&self, dir: &StateDir) -> ChannelTrust {
        ChannelTrust::of(dir, &self.repository, self.root.as_deref())
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.channel.as_str()
    }

    /// The platform.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// The channel's URL.
    pub fn url(&self) -> String {
        self.base.join(&format!("{}.json", self.channel))
    }

    /// What the channel says now. It is remembered for [`ChannelClient::remembered`].
    pub fn index(&self, dir: &StateDir, now: Timestamp) -> Result<ChannelIndex, VmError> {
        let url = self.url();
        if crosses_network_in_clear(&url) && self.trust(dir).anchor()?.is_none() {
            return Err(ChannelError::Clear(url).into());
        }
        let bytes = self.small(&url)?;
        let index: ChannelIndex =
            serde_json::from_slice(&bytes).map_err(|e| ChannelError::Index {
                url: url.clone(),
                detail: e.to_string(),
            })?;
        let cached = RememberedIndex {
            url,
            fetched_at: now,
            index,
        };
        if let Ok(text) = serde_json::to_vec(&cached) {
            dir.create()?;
            dir.write(StateFile::ChannelCache, &text)?;
        }
        Ok(cached.index)
    }

    /// What the channel said within the last day, or says now.
    pub fn remembered(&self, dir: &StateDir, now: Timestamp) -> Result<ChannelIndex, VmError> {
        let cached = dir.read(StateFile::ChannelCache)?;
        let cached = cached.and_then(|text| serde_json::from_slice::<RememberedIndex>(&text).ok());
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
    pub fn offer(&self, dir: &StateDir, now: Timestamp) -> Result<ChannelOffer, VmError> {
        let index = self.index(dir, now)?;
        self.check_program(&index)?;
        let platform =
            index
                .platforms
                .get(&self.platform)
                .ok_or_else(|| ChannelError::Platform {
                    channel: self.channel.to_string(),
                    platform: self.platform.clone(),
                })?;
        let manifest_url = self.resolve(&platform.manifest_url)?;
        let base_url = self.resolve(&platform.base_url)?;
        let bytes = self.small(&manifest_url)?;
        let trust = self.trust(dir);
        let anchor = match trust.anchor()? {
            None if index.signed => Some(self.small(&trust.first_root_url())?),
            anchor => anchor,
        };
        if let Some(anchor) = &anchor {
            let mut signed = trust.open(anchor, &self.network, now)?;
            signed.check(&manifest_url, &bytes)?;
            trust.remember(anchor)?;
        }
        let manifest = image::parse(&bytes).map_err(|source| VmError::Manifest {
            path: manifest_url,
            source,
        })?;
        Ok(compare(dir, index, manifest, bytes, base_url))
    }

    fn check_program(&self, index: &ChannelIndex) -> Result<(), VmError> {
        const HAVE: &str = env!("CARGO_PKG_VERSION");
        let Some(needed) = &index.min_cli_version else {
            return Ok(());
        };
        let version = |text: &str| semver::Version::parse(text.trim_start_matches('v'));
        match (version(needed), version(HAVE)) {
            (Ok(needed), Ok(have)) if needed <= have => Ok(()),
            (Ok(_), _) => Err(ChannelError::Cli {
                version: index.version.clone(),
                needed: needed.clone(),
                have: HAVE,
            }
            .into()),
            (Err(_), _) => Err(ChannelError::Index {
                url: self.url(),
                detail: format!("min_cli_version `{}` is no version", needed.escape_debug()),
            }
            .into()),
        }
    }

    /// A URL of the channel, which may be relative to its base.
    pub(super) fn resolve(&self, url: &str) -> Result<String, ChannelError> {
        let url = if url.contains("://") {
            url.to_owned()
        } else {
            self.base.join(url)
        };
        let base = self.base.as_str();
        let newly_clear = crosses_network_in_clear(&url) && !crosses_network_in_clear(base);
        if newly_clear || (base.starts_with("https://") && !url.starts_with("https://")) {
            return Err(ChannelError::Downgrade(url));
        }
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// A small file, soon.
    fn small(&self, url: &str) -> Result<Vec<u8>, ChannelError> {
        let start = Instant::now();
        let response = self
            .quick
            .get(url, None)
            .map_err(|source| ChannelError::Fetch {
                url: url.to_owned(),
                source,
            })?;
        let mut body = response.body.take(LARGEST + 1);
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            if start.elapsed() > Duration::from_secs(LIMIT) {
                return Err(ChannelError::Slow {
                    url: url.to_owned(),
                    limit: LIMIT,
                });
            }
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(source) => {
                    return Err(ChannelError::Cut {
                        url: url.to_owned(),
                        done: bytes.len() as u64,
                        source: Some(source),
                    });
                }
            }
        }
        if bytes.len() as u64 > LARGEST {
            return Err(ChannelError::TooLarge {
                url: url.to_owned(),
                most: LARGEST,
            });
        }
        Ok(bytes)
    }
}

/// What has to be fetched: files with other bytes, files that are not there, and of those that a
/// disk only starts from the ones that are not there.
fn compare(
    dir: &StateDir,
    index: ChannelIndex,
    manifest: VmImage,
    bytes: Vec<u8>,
    base_url: String,
) -> ChannelOffer {
    let install = dir.file(StateFile::Install);
    // An image that cannot be read is as good as none.
    let installed = ImageDir::load(&install).ok();
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
    ChannelOffer {
        installed: installed.and_then(|image| image.manifest().version.clone()),
        index,
        manifest,
        fetch,
        new_seed: new_seed && dir.file(StateFile::Var).exists(),
        bytes,
        base_url,
        current,
    }
}

impl ChannelOffer {
    /// The name of its directory below `staging`: the version, or where that is no safe name, the
    /// digest of the manifest.
    pub(super) fn staging_name(&self) -> String {
        match self.version().parse::<Name>() {
            Ok(name) => name.to_string(),
            Err(_) => avocado_manifest::Digest::of(&self.bytes).to_string(),
        }
    }

    /// Writes the manifest into its staging directory.
    pub(super) fn write_manifest(&self, staging: &std::path::Path) -> Result<(), VmError> {
        files::write(&staging.join(MANIFEST), &self.bytes)
    }
}
