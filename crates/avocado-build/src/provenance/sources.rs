//! What came from elsewhere, by the names that it has everywhere.

use std::collections::BTreeSet;

use avocado_http::{is_this_machine, without_secrets};
use avocado_project::{ExtensionSource, GitSource, Project, Runtime, SourceKind, TargetLock};
use avocado_provenance::{DigestSet, ResourceDescriptor};

/// Where packages are from that no other feed is named of.
const FEED: &str = "https://repo.avocadolinux.org";

/// What stands for a feed on this machine, which has no address elsewhere: a name (RFC 4151).
const LOCAL_FEED: &str = "tag:avocadolinux.org,2026:local-feed";

/// The frozen state of the feed. A mirror that it was read from is not told: it has the same packages.
pub(super) fn snapshot(lock: &TargetLock) -> Option<ResourceDescriptor> {
    let snapshot = lock.snapshot()?;
    let feed = feed_uri(snapshot.repo_url.as_deref());
    let (release, channel, id) = (&snapshot.release, &snapshot.channel, &snapshot.snapshot);
    Some(ResourceDescriptor {
        name: Some("feed".to_owned()),
        uri: Some(format!("{feed}/{release}/{channel}/snapshots/{id}")),
        ..ResourceDescriptor::default()
    })
}

fn feed_uri(url: Option<&str>) -> String {
    let Some(url) = url else {
        return FEED.to_owned();
    };
    if is_elsewhere(url) {
        without_secrets(url).trim_end_matches('/').to_owned()
    } else {
        LOCAL_FEED.to_owned()
    }
}

/// What of the project came from elsewhere and has a part in the runtime: its extensions, with those
/// that came along, and its sections.
pub(super) fn used<'p>(
    project: &'p Project,
    runtime: &'p Runtime,
) -> impl Iterator<Item = &'p ExtensionSource> {
    let members = runtime.extensions.iter().map(|member| &member.name);
    let members: BTreeSet<_> = members.collect();
    let places = project.extensions.iter();
    let places = places.filter(|extension| members.contains(&extension.name));
    let places: BTreeSet<_> = places.filter_map(|e| e.fetched_to.as_deref()).collect();
    let is_used = move |source: &&ExtensionSource| match &source.section {
        None => {
            let place = source.fetched_to.as_deref();
            members.contains(&source.extension) || place.is_some_and(|p| places.contains(p))
        }
        Some(section) => match section.section.as_str() {
            "rootfs" => runtime.rootfs.as_str() == section.entry,
            "initramfs" => runtime.initramfs.as_str() == section.entry,
            // Which of them the runtime's is, it does not say.
            _ => runtime.kernel.is_some(),
        },
    };
    project.sources.iter().filter(is_used)
}

/// What of the runtime was fetched with git. A repository on this machine has no address elsewhere.
pub(super) fn of_git(
    project: &Project,
    runtime: &Runtime,
    lock: &TargetLock,
) -> Vec<ResourceDescriptor> {
    let sources = used(project, runtime);
    let sources = sources.filter(|source| matches!(source.kind, SourceKind::Git { .. }));
    let described = sources.filter_map(|source| {
        let (git, commit) = lock.last_commit(&source.extension)?;
        Some(ResourceDescriptor {
            name: Some(source.extension.to_string()),
            uri: git_uri(&git),
            digest: DigestSet::other("gitCommit", commit),
            ..ResourceDescriptor::default()
        })
    });
    described.collect()
}

/// A URL of git as SPDX and SLSA write it; none for what is on this machine.
fn git_uri(git: &GitSource) -> Option<String> {
    let url = without_secrets(&git.url);
    let uri = match (url.contains("://"), url.split_once(':')) {
        (true, _) if is_elsewhere(&url) => format!("git+{url}"),
        // ssh's own form.
        (false, Some((host, path))) if !host.contains('/') && !is_this_machine(host) => {
            format!("git+ssh://{host}/{path}")
        }
        _ => return None,
    };
    let reference = git.reference.as_ref();
    Some(reference.map_or(uri.clone(), |reference| format!("{uri}@{reference}")))
}

/// Whether a URL is of another machine, so that it means there what it means here.
fn is_elsewhere(url: &str) -> bool {
    let url = without_secrets(url);
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    !scheme.eq_ignore_ascii_case("file") && !host.is_empty() && !is_this_machine(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_of_git_has_one_name_everywhere_or_none() {
        for (url, reference, uri) in [
            (
                "https://user:secret@example.org/a.git",
                Some("main"),
                Some("git+https://example.org/a.git@main"),
            ),
            (
                "ssh://git@example.org/a.git",
                None,
                Some("git+ssh://example.org/a.git"),
            ),
            (
                "git@example.org:team/a.git",
                None,
                Some("git+ssh://example.org/team/a.git"),
            ),
            ("/home/somebody/a", Some("main"), None),
            ("file:///home/somebody/a", None, None),
            ("ssh://git@localhost:22/home/somebody/a", None, None),
            ("git@localhost:/home/somebody/a", None, None),
        ] {
            let git = GitSource {
                url: url.into(),
                reference: reference.map(Into::into),
            };
            assert_eq!(git_uri(&git).as_deref(), uri, "{url}");
        }
    }

    #[test]
    fn a_feed_on_this_machine_has_no_address() {
        for (url, uri) in [
            (None, FEED),
            (Some("https://feed.example/a/"), "https://feed.example/a"),
            (
                Some("https://me:secret@feed.example:8443/a"),
                "https://feed.example:8443/a",
            ),
            (Some("file:///home/somebody/feed"), LOCAL_FEED),
            (Some("/home/somebody/feed"), LOCAL_FEED),
            (Some("http://localhost:8080/feed"), LOCAL_FEED),
            (Some("http://LocalHost/feed"), LOCAL_FEED),
            (Some("http://127.0.0.1:8080"), LOCAL_FEED),
            (Some("http://[::1]:8080/feed"), LOCAL_FEED),
            (
                Some("http://[fd00::1]:8080/feed"),
                "http://[fd00::1]:8080/feed",
            ),
        ] {
            assert_eq!(feed_uri(url), uri, "{url:?}");
        }
    }
}
