//! `avocadoctl runtime metadata`: what other programs keep of a runtime.

use avocado_text::escape;
use clap::Subcommand;
use serde_json::json;

use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::MetadataListReply;

#[derive(Debug, Subcommand)]
pub(crate) enum MetadataCommand {
    /// Keep a text under a key
    Set {
        /// The runtime's id, or the beginning of it
        id: String,
        /// The key
        key: String,
        /// The text
        value: String,
    },
    /// Show what is kept under a key
    Get {
        /// The runtime's id, or the beginning of it
        id: String,
        /// The key
        key: String,
    },
    /// Show all that is kept
    List {
        /// The runtime's id, or the beginning of it
        id: String,
    },
    /// Keep nothing under a key any more
    Delete {
        /// The runtime's id, or the beginning of it
        id: String,
        /// The key
        key: String,
    },
}

pub(super) fn run(command: &MetadataCommand, context: &Context) -> Result<(), Failure> {
    match command {
        MetadataCommand::Set { id, key, value } => set(id, key, Some(value), context),
        MetadataCommand::Delete { id, key } => set(id, key, None, context),
        MetadataCommand::Get { id, key } => {
            check(key)?;
            let found = context.device(AccessMode::Read)?.metadata_of_key(id, key)?;
            context
                .output
                .result(&found, || format!("{}\n", escape(&found.value)))
        }
        MetadataCommand::List { id } => {
            let all = context.device(AccessMode::Read)?.metadata(id)?;
            context.output.result(&all, || text(&all))
        }
    }
}

fn set(id: &str, key: &str, value: Option<&str>, context: &Context) -> Result<(), Failure> {
    check(key)?;
    let progress = &context.progress;
    let result = context
        .device(AccessMode::Write)?
        .set_metadata(id, key, value, progress);
    progress.clear();
    result?;
    context.output.result(&json!({"status": "ok"}), || {
        let done = if value.is_some() { "kept" } else { "gone" };
        format!("{} is {done}.\n", escape(key))
    })
}

fn check(key: &str) -> Result<(), Failure> {
    if key.is_empty() {
        return Err(Failure::Usage("a key must not be empty".to_owned()));
    }
    Ok(())
}

fn text(all: &MetadataListReply) -> String {
    let lines = all.entries.iter();
    let lines = lines.map(|entry| format!("{}={}\n", escape(&entry.key), escape(&entry.value)));
    let text: String = lines.collect();
    if text.is_empty() {
        return "Nothing is kept of this runtime.\n".to_owned();
    }
    text
}
