//! A repository that is read as a device reads it, and further.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use avocado_events::{Silent, Sink};
use avocado_http::{DirectoryTransport, HttpClient, RepositoryUrl, Transport, TransportError};
use avocado_tuf::client::{NoDestination, check_root_of};
use avocado_tuf::{
    ClientLimits, ClientOptions, PublicKey, RemoteRepository, TargetInfo, TrustedMetadata,
    TufClient, TufError,
};
use tempfile::TempDir;

use crate::failure::{Context as _, Failure, Result};
use crate::session::Session;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RepositoryPlace {
    /// On a server.
    Url(RepositoryUrl),
    /// On this machine.
    Directory(PathBuf),
}

impl RepositoryPlace {
    /// What a user names: a URL, or a directory that is there.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.contains("://") {
            let url = text.parse().map_err(|e| {
                Failure::usage("the URL of the repository cannot be used").because(&e)
            })?;
            return Ok(RepositoryPlace::Url(url));
        }
        let directory = PathBuf::from(text);
        if !directory.join("metadata").is_dir() {
            return Err(Failure::usage(format!(
                "{text} is no repository: it has no directory `metadata`"
            ))
            .hint("name the directory that has `metadata` and `targets` in it, or its URL"));
        }
        let directory = std::path::absolute(&directory)
            .context(|| format!("cannot find {}", directory.display()))?;
        Ok(RepositoryPlace::Directory(directory))
    }

    fn url(&self) -> RepositoryUrl {
        match self {
            RepositoryPlace::Url(url) => url.clone(),
            RepositoryPlace::Directory(directory) => {
                DirectoryTransport::new(directory).url().clone()
            }
        }
    }

    fn transport(&self, session: &Session, limits: &ClientLimits) -> Result<Box<dyn Transport>> {
        Ok(match self {
            RepositoryPlace::Url(url) => {
                let network = session.environment.network(url.as_str());
                let ClientLimits { connect, read, .. } = *limits;
                let client =
                    HttpClient::over(&network, std::slice::from_ref(url), None, connect, read);
                Box::new(client.map_err(|e| Failure::from_error(&e))?)
            }
            RepositoryPlace::Directory(directory) => Box::new(DirectoryTransport::new(directory)),
        })
    }
}

/// A repository whose metadata is verified, down from the trusted keys.
pub(super) struct VerifiedRepository {
    client: TufClient,
    /// What the client remembers; of no use afterwards.
    memory: TempDir,
}

impl VerifiedRepository {
    /// Reads the metadata. The root has to be one that a trusted key signed.
    pub(super) fn open(
        session: &Session,
        place: &RepositoryPlace,
        trusted: &[PublicKey],
    ) -> Result<Self> {
        let limits = ClientLimits::default();
        let url = place.url();
        let transport = place.transport(session, &limits)?;
        let root = root(&*transport, &url, limits.root)?;
        check_root_of(&root, trusted).map_err(|e| {
            Failure::new("no trusted key signed the root of the repository")
                .because(&e)
                .hint("is it another repository, or another key? --key names the one to trust")
        })?;
        let memory = tempfile::tempdir()
            .context(|| "cannot make a directory for the metadata of the repository".into())?;
        let below = |name: &str| {
            let joined = url.join(name);
            match place {
                RepositoryPlace::Url(url) => url.below(name).map_err(|e| {
                    Failure::new(format!("{joined} is no URL of a repository")).because(&e)
                }),
                RepositoryPlace::Directory(directory) => {
                    Ok(RepositoryUrl::of_directory(&directory.join(name)))
                }
            }
        };
        let remote = RemoteRepository {
            metadata_url: below("metadata")?,
            targets_url: below("targets")?,
            auth_token: None,
        };
        let trusted = TrustedMetadata {
            directory: memory.path().join("metadata"),
            root_directory: memory.path().join("root"),
            root,
        };
        let options = ClientOptions {
            start_time: session.environment.now(),
            limits,
            relax_legacy: false,
        };
        let client = TufClient::with_transport(trusted, &remote, options, transport);
        let mut client = client.map_err(|e| not_verified(&e))?;
        client.refresh().map_err(|e| not_verified(&e))?;
        Ok(VerifiedRepository { client, memory })
    }

    /// All that a device would find in it.
    pub(super) fn targets(&mut self) -> Result<Vec<TargetInfo>> {
        self.client.targets().map_err(|e| not_verified(&e))
    }

    /// The content of a target of at most so many bytes.
    pub(super) fn read(&self, target: &TargetInfo, longest: u64) -> Result<Vec<u8>> {
        if target.length > longest {
            return Err(Failure::new(format!(
                "{} has {} bytes, and at most {longest} are read",
                target.name, target.length
            )));
        }
        let place = self.memory.path().join("target");
        let done = self.client.download(target, &place, &Silent);
        done.map_err(|e| not_verified(&e))?;
        fs::read(&place).context(|| format!("cannot read {}", target.name))
    }

    /// Makes sure that the repository has the bytes of a target that its metadata announces.
    pub(super) fn check(&self, target: &TargetInfo, sink: &dyn Sink) -> Result<()> {
        let done = self.client.download_to(target, &mut NoDestination, sink);
        done.map_err(|e| not_verified(&e))
    }
}

/// The newest root, under the name that has no version; other publishers have the first alone.
fn root(transport: &dyn Transport, url: &RepositoryUrl, longest: u64) -> Result<Vec<u8>> {
    let fetch = |name: &str| {
        let answer = transport.get(&url.join(name), None)?;
        let mut bytes = Vec::new();
        let mut body = answer.body.take(longest + 1);
        let read = body.read_to_end(&mut bytes);
        read.map_err(|e| TransportError::Connection(Box::new(e)))?;
        Ok::<_, TransportError>(bytes)
    };
    let bytes = match fetch("metadata/root.json") {
        Err(error) if error.is_absent() => fetch("metadata/1.root.json"),
        bytes => bytes,
    };
    let bytes = bytes.map_err(|e| {
        Failure::new(format!(
            "cannot read the root of the repository {}",
            url.as_str()
        ))
        .because(&e)
        .hint("is there a repository of TUF, with `metadata` and `targets`?")
    })?;
    if bytes.len() as u64 > longest {
        let message = format!("the root of the repository is longer than {longest} bytes");
        return Err(Failure::new(message));
    }
    Ok(bytes)
}

fn not_verified(error: &TufError) -> Failure {
    let hint = match error {
        TufError::Expired { .. } => Some("publish it again: `avocado build`, or `avocado deploy`"),
        TufError::Digest { .. } | TufError::TooLong { .. } => {
            Some("the file in the repository is damaged, or was replaced: publish it again")
        }
        _ => None,
    };
    Failure::from_error(error).maybe_hint(hint)
}
