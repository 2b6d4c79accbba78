//! Images from the network: what a channel offers, its download and its installation; and how an
//! image gets into a channel.

mod client;
mod download;
mod error;
mod install;
mod publish;
#[cfg(test)]
mod tests;
mod trust;
mod version;

pub use client::{ChannelClient, ChannelIndex, ChannelOffer, ChannelPlatform};
pub use error::ChannelError;
pub use install::{PendingImage, UpdateLock, forget_running, is_pending};
pub use publish::{ChannelPublication, PublishedImage, publish};
pub use version::is_newer;

/// The channel that is followed unless told otherwise.
pub const DEFAULT_CHANNEL: &str = "stable";

/// Where channels are published.
pub const DEFAULT_BASE: &str = "https://repo.avocadolinux.org/releases/vm";
