//! `avocado vm publish`.

use std::path::PathBuf;

use avocado_events::{Event, Sink};
use avocado_fs::OpenFileWarning;
use avocado_tuf::writer::RoleSigners;
use avocado_tuf::{Keyring, SigningKey};
use avocado_vm::channel::{self, ChannelPublication, DEFAULT_CHANNEL};
use clap::Args;
use serde_json::json;

use super::{failure, launch};
use crate::failure::{Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// Directory of channels, for a web server
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Directory of the image: manifest.json and the files that it names [default:
    /// AVOCADO_VM_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) vm_source: Option<PathBuf>,

    /// The channel
    #[arg(long, default_value = DEFAULT_CHANNEL)]
    pub(crate) channel: String,

    /// The key that signs: its name or id in `avocado signing-keys list`
    #[arg(long, value_name = "NAME")]
    pub(crate) key: String,
}

pub(super) fn run(session: &Session, args: &PublishArgs) -> Result<()> {
    let image = launch::load_named_image(session, args.vm_source.as_deref())?;
    let key = key(session, &args.key)?;
    let publication = ChannelPublication {
        directory: &args.directory,
        channel: &args.channel,
        image: &image,
        signers: RoleSigners::one(&key),
        now: session.environment.now(),
    };
    let published = channel::publish(&publication, &*session.output).map_err(failure)?;
    let (channel, version) = (&published.index.channel, &published.index.version);
    let root = published.root.display().to_string();
    let mut summary = WorkSummary::default();
    summary.fields.insert("channel".into(), json!(channel));
    summary.fields.insert("version".into(), json!(version));
    summary.fields.insert("root".into(), json!(root));
    summary.closing = format!(
        "channel {channel} has version {version}; `vm.channel_root` of its users can name a copy of \
         {root}"
    );
    session.output.complete(summary)
}

fn key(session: &Session, wanted: &str) -> Result<SigningKey> {
    let keyring = Keyring::new(session.environment.signing_keys()?);
    let warn = |warning: OpenFileWarning| session.output.emit(Event::warning(warning.to_string()));
    let entry = keyring.find(wanted).map_err(|e| Failure::from_error(&e))?;
    let entry = entry.ok_or_else(|| {
        let what = format!(
            "there is no key `{}` in {}",
            wanted.escape_debug(),
            keyring.directory().display()
        );
        Failure::new(what).hint("`avocado signing-keys create NAME` makes one")
    })?;
    keyring
        .load(&entry, &warn)
        .map_err(|e| Failure::from_error(&e))
}
