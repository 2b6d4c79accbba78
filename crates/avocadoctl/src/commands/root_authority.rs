//! `avocadoctl root-authority`: whom the device trusts.

use avocado_device::ForgetLevel;
use avocado_text::{escape, table};
use clap::{Subcommand, ValueEnum};

use super::{Context, UrlParser};
use crate::access::AccessMode;
use crate::failure::Failure;
use crate::interface::RootAuthority;
use crate::output::{WIDTH, minute};

#[derive(Debug, Subcommand)]
pub(crate) enum RootAuthorityCommand {
    /// Forget what was verified of a repository that was set up anew
    #[command(long_about = "\
Forget what was verified of a repository, so that one that you have set up anew at the same address \
is accepted again. The trust anchor, and what has replaced it, is never forgotten. Only root may \
do it.

A repository that goes back looks like an attack, and may be one: forget only when you know why.")]
    Forget {
        /// The repository
        #[arg(long, value_parser = UrlParser)]
        url: String,
        /// What to forget
        #[arg(long, value_enum, default_value_t)]
        what: ForgetWhat,
    },
}

/// How much of what was verified of a repository is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ForgetWhat {
    /// Which roles there were and their versions, but for the timestamp: always safe
    #[default]
    Roles,
    /// All versions: once, anything that has not expired may be offered
    Versions,
    /// The newest known time as well: the clock alone says what has expired
    Time,
}

pub(super) fn run(
    command: Option<&RootAuthorityCommand>,
    context: &Context,
) -> Result<(), Failure> {
    match command {
        None => {
            let authority = context.device(AccessMode::Read)?.root_authority()?;
            context
                .output
                .result(&authority, || text(authority.as_ref()))
        }
        Some(RootAuthorityCommand::Forget { url, what }) => forget(url, *what, context),
    }
}

fn forget(url: &str, what: ForgetWhat, context: &Context) -> Result<(), Failure> {
    let what = match what {
        ForgetWhat::Roles => ForgetLevel::Roles,
        ForgetWhat::Versions => ForgetLevel::Versions,
        ForgetWhat::Time => ForgetLevel::Time,
    };
    let forgotten = context.device(AccessMode::Write)?.forget(url, what)?;
    context.output.result(&forgotten, || {
        if forgotten.known {
            "Forgotten: the repository begins anew.\n".to_owned()
        } else {
            "Nothing was known of that repository.\n".to_owned()
        }
    })
}

/// Whom the device trusts.
fn text(authority: Option<&RootAuthority>) -> String {
    let Some(authority) = authority else {
        return "This device has no trust anchor: it can verify no repository.\n".to_owned();
    };
    let rows = authority.keys.iter().map(|key| {
        let roles: Vec<_> = key.roles.iter().map(|role| plain_role(role)).collect();
        [
            escape(key.key_id.get(..16).unwrap_or(&key.key_id)),
            escape(&key.key_type),
            roles.join(", "),
        ]
    });
    let mut text = format!(
        "Version:  {}\nExpires:  {}\n\n{}",
        authority.version,
        escape(&authority.expires),
        table(["KEY ID", "TYPE", "ROLES"], rows, WIDTH)
    );
    let repositories = authority.repositories.iter().flatten().map(|repository| {
        let version = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        [
            repository.url.as_deref().map_or("-".to_owned(), escape),
            version(repository.root_version),
            version(repository.timestamp_version),
            repository
                .newest_time
                .as_deref()
                .map_or("-".to_owned(), minute),
        ]
    });
    let repositories: Vec<_> = repositories.collect();
    if !repositories.is_empty() {
        let head = ["REPOSITORY", "ROOT", "TIMESTAMP", "NOT BEFORE"];
        text.push_str(&format!("\n{}", table(head, repositories, WIDTH)));
    }
    text
}

/// What a role is for, in a word.
fn plain_role(role: &str) -> String {
    match role {
        "root" => "authority".to_owned(),
        "targets" => "signing".to_owned(),
        "snapshot" => "metadata".to_owned(),
        "timestamp" => "freshness".to_owned(),
        other => escape(other),
    }
}
