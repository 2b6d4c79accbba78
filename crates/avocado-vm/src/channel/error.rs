//! What fails between a channel and the installed image.

use std::path::PathBuf;

use avocado_http::{RepositoryUrlError, TransportError};
use avocado_tuf::TufError;
use avocado_tuf::writer::WriterError;

/// What failed between a channel and the installed image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A URL gave no answer, or none that helps.
    #[error("cannot fetch {url}")]
    Fetch {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// A download broke off again and again.
    #[error("the download of {url} broke off after {done} bytes")]
    Cut {
        /// The URL.
        url: String,
        /// How many bytes are here; the next try goes on after them.
        done: u64,
        /// Why it broke off the last time.
        #[source]
        source: Option<std::io::Error>,
    },
    /// What a URL answered is too large.
    #[error("{url} has more than {most} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The most that was expected.
        most: u64,
    },
    /// An answer took too long.
    #[error("{url} took longer than {limit} s")]
    Slow {
        /// The URL.
        url: String,
        /// The limit in seconds.
        limit: u64,
    },
    /// The file of a channel is not what it should be.
    #[error("{url} does not describe a channel: {detail}")]
    Index {
        /// The URL.
        url: String,
        /// What is wrong.
        detail: String,
    },
    /// The name of a channel.
    #[error("`{}` is no name of a channel", .0.escape_debug())]
    Name(String),
    /// There is nothing for this platform.
    #[error("channel {channel} has no image for {platform}")]
    Platform {
        /// The channel.
        channel: String,
        /// The platform.
        platform: String,
    },
    /// The image needs a later program.
    #[error("version {version} of the image needs avocado {needed} or later; this is {have}")]
    Cli {
        /// The version of the image.
        version: String,
        /// The least version of this program.
        needed: String,
        /// The version of this program.
        have: &'static str,
    },
    /// The channel is fetched securely, and what it names is not.
    #[error("{0} is not secure, although its channel is")]
    Downgrade(String),
    /// Anybody on the way could replace the image.
    #[error("the channel {0} is plain http, and nothing says who may sign it")]
    Clear(String),
    /// Where channels would be is no URL.
    #[error("{url} cannot be where channels are")]
    Base {
        /// The URL, without user and password.
        url: String,
        /// What is wrong with it.
        #[source]
        source: RepositoryUrlError,
    },
    /// The signatures of the channel are not those that are trusted.
    #[error("the signatures of the channel at {repository} are not trusted")]
    Untrusted {
        /// The repository of the channel.
        repository: String,
        /// Why.
        #[source]
        source: Box<TufError>,
    },
    /// The channel is signed, and this is not what was signed.
    #[error("{url} is not what the publisher of the channel signed")]
    NotSigned {
        /// The URL.
        url: String,
    },
    /// The channel would go back.
    #[error(
        "the channel has version {offered} of the image, and {installed}, which is newer, is installed"
    )]
    Older {
        /// The version of the channel.
        offered: String,
        /// The version that is there.
        installed: String,
    },
    /// Another version was asked for than the channel has.
    #[error("the channel has version {offered} of the image, not {wanted}")]
    OtherVersion {
        /// The version of the channel.
        offered: String,
        /// The version that was asked for.
        wanted: String,
    },
    /// What was downloaded is not what the manifest promises.
    #[error("{url} is damaged: its SHA-256 is {found}, not {expected}")]
    Damaged {
        /// The URL.
        url: String,
        /// What the manifest says.
        expected: String,
        /// What came.
        found: String,
    },
    /// Another update is at work.
    #[error("another `avocado vm update` is at work")]
    Busy,
    /// An image that says no version cannot be told from others.
    #[error("the image in {} says no version", .0.display())]
    NoVersion(PathBuf),
    /// What was published under a version stays.
    #[error("{} has other contents: a version is published once", .0.display())]
    Published(PathBuf),
    /// A channel is signed as a whole.
    #[error("{} has an image for {platform} that is not signed", path.display())]
    Unsigned {
        /// The file of the channel.
        path: PathBuf,
        /// The platform.
        platform: String,
    },
    /// An image could not be signed.
    #[error("cannot sign {}", repository.display())]
    Signing {
        /// The repository of the channel.
        repository: PathBuf,
        /// Why.
        #[source]
        source: Box<WriterError>,
    },
    /// The user asked to stop. What was downloaded stays for the next time.
    #[error("interrupted")]
    Cancelled,
}

impl ChannelError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            ChannelError::Fetch {
                source: TransportError::Missing(_),
                ..
            } => Some(
                "there may be no such channel (--channel, or `vm.channel` of \
                 ~/.avocado/config.yaml) or no such base URL (AVOCADO_VM_CHANNEL_URL_BASE)",
            ),
            ChannelError::Fetch { .. } | ChannelError::Cut { .. } | ChannelError::Slow { .. } => {
                Some("check the network, and run `avocado vm update` again: it goes on from here")
            }
            ChannelError::Clear(_) => Some(
                "use https, or name the root of the channel's signatures in `vm.channel_root` of \
                 ~/.avocado/config.yaml",
            ),
            ChannelError::NotSigned { .. } => Some(
                "its publisher may be publishing at this moment: try again in a minute. Nothing is \
                 installed from there until it is signed",
            ),
            ChannelError::Untrusted { .. } => Some(
                "nothing is installed from there until its publisher has signed it again; \
                 `channel-trust` of the VM's state directory holds the trusted keys",
            ),
            ChannelError::Signing { source, .. }
                if matches!(**source, WriterError::OtherKey { .. }) =>
            {
                Some(
                    "publish with the key that the channel began with (--key): who follows it \
                     trusts no other",
                )
            }
            ChannelError::Base { .. } => Some("AVOCADO_VM_CHANNEL_URL_BASE names that URL"),
            ChannelError::Older { .. } => {
                Some("`avocado vm update --to VERSION` installs that version all the same")
            }
            ChannelError::Cli { .. } => Some("update avocado first"),
            ChannelError::Platform { .. } | ChannelError::Name(_) => {
                Some("--channel or `vm.channel` of ~/.avocado/config.yaml name another channel")
            }
            ChannelError::Busy => Some("wait for it to end"),
            ChannelError::NoVersion(_) => {
                Some("give the runtime a `version` in avocado.yaml, and build it again")
            }
            ChannelError::Published(_) => {
                Some("give the runtime another `version` in avocado.yaml, and build it again")
            }
            ChannelError::Unsigned { .. } => Some(
                "begin a channel of another name (--channel), or publish into an empty directory",
            ),
            _ => None,
        }
    }
}
