//! Images from the network: what a channel offers, its download, and its installation.

mod download;
mod index;
mod install;

use avocado_tuf::transport::TransportError;

pub use index::{Index, Offer, Platform, Source};
pub use install::{Pending, Turn, forget_running, is_pending};

/// The channel that is followed unless told otherwise.
pub const DEFAULT_CHANNEL: &str = "stable";

/// Where channels are published.
pub const DEFAULT_BASE: &str = "https://repo.avocadolinux.org/releases/vm";

/// What failed between a channel and the installed image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// The user asked to stop. What was downloaded stays for the next time.
    #[error("interrupted")]
    Cancelled,
}

impl Error {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Fetch {
                source: TransportError::Missing(_),
                ..
            } => Some(
                "there may be no such channel (--channel, or `vm.channel` of \
                 ~/.avocado/config.yaml) or no such base URL (AVOCADO_VM_CHANNEL_URL_BASE)",
            ),
            Error::Fetch { .. } | Error::Cut { .. } | Error::Slow { .. } => {
                Some("check the network, and run `avocado vm update` again: it goes on from here")
            }
            Error::Cli { .. } => Some("update avocado first"),
            Error::Platform { .. } | Error::Name(_) => {
                Some("--channel or `vm.channel` of ~/.avocado/config.yaml name another channel")
            }
            Error::Busy => Some("wait for it to end"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
