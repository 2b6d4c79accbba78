//! The files by which the feed describes its repositories to dnf. They name hosts as they like, and
//! who asks the feed is the feed's alone to know: they are given to dnf with that in the sections of
//! the feed's own URLs.

use std::fs;
use std::path::Path;

use crate::error::{At as _, BuildError};
use crate::packages::repository::{AccessCredentials, write_secret};

/// Copies the files of repositories in `from`, each with who asks where that is for the feed at `url`.
pub(super) fn write(
    from: &Path,
    to: &Path,
    url: &str,
    who: &AccessCredentials,
) -> Result<(), BuildError> {
    fs::create_dir(to).at("create", to)?;
    for entry in fs::read_dir(from).into_iter().flatten() {
        let path = entry.at("read", from)?.path();
        let is_description = path
            .extension()
            .is_some_and(|extension| extension == "repo");
        let Some(name) = path.file_name().filter(|_| is_description) else {
            continue;
        };
        let text = fs::read_to_string(&path).at("read", &path)?;
        write_secret(&to.join(name), &with_credentials(&text, url, who))?;
    }
    Ok(())
}

/// A description with who asks in the sections that name no host but that of the feed.
pub(super) fn with_credentials(text: &str, url: &str, who: &AccessCredentials) -> String {
    let names: Vec<&str> = text.lines().filter_map(section_name).collect();
    // dnf makes one of those with the same name.
    let is_whole = |section: &str| {
        let name = section.lines().next().and_then(section_name);
        let same = names.iter().filter(|other| Some(**other) == name);
        same.count() == 1
    };
    let mut written = String::new();
    let mut section = String::new();
    for line in text.split_inclusive('\n').chain(["["]) {
        if !line.starts_with('[') {
            section += line;
            continue;
        }
        written += &section;
        if is_whole(&section) && is_of_feed(&section, url) {
            if !section.ends_with('\n') {
                written.push('\n');
            }
            written += &who.of_one();
        }
        section = line.to_owned();
    }
    written
}

/// The name that a line begins a section with.
fn section_name(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?;
    Some(name.split(']').next().unwrap_or(name).trim())
}

/// Keys of a section that say nothing of which server is asked, and how.
const HARMLESS_KEYS: [&str; 15] = [
    "cost",
    "enabled",
    "enabled_metadata",
    "exclude",
    "excludepkgs",
    "gpgcheck",
    "includepkgs",
    "metadata_expire",
    "module_hotfixes",
    "name",
    "priority",
    "repo_gpgcheck",
    "retries",
    "skip_if_unavailable",
    "type",
];

/// Whether a section leads to the feed, and nowhere else: where keys are does as much as the URL of
/// the packages. With any other key it may: a proxy is told who asks, and the servers of a list of
/// mirrors are anybody's.
fn is_of_feed(section: &str, url: &str) -> bool {
    let section = section
        .replace("${repo_url}", url)
        .replace("$repo_url", url);
    let (Some(feed), Some(entries)) = (origin(url), entries(&section)) else {
        return false;
    };
    let is_of_feed = |one: &str| origin(one).as_ref() == Some(&feed);
    let mut leads_there = false;
    for (key, value) in entries {
        let mut urls = value
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|one| !one.is_empty());
        let is_harmless = match key {
            "baseurl" => {
                leads_there |= !value.trim().is_empty();
                urls.all(is_of_feed)
            }
            "gpgkey" => urls.all(|one| one.starts_with("file://") || is_of_feed(one)),
            key => HARMLESS_KEYS.contains(&key),
        };
        if !is_harmless {
            return false;
        }
    }
    leads_there
}

/// The keys and values of a section, as dnf reads them; `None` where it would not.
fn entries(section: &str) -> Option<Vec<(&str, String)>> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    for line in section.lines().skip(1) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            // It goes on with the value before.
            let (_, value) = entries.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (key, value) = line.split_once('=')?;
            entries.push((key.trim_end(), value.to_owned()));
        }
    }
    Some(entries)
}

/// Scheme, host and port of a URL that says nothing of a user and leaves nothing of them to a variable.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#', '\\']).next()?;
    if host.is_empty() || host.contains(['@', '$', '%']) {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let standard = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (host, port) = match host.rsplit_once(':') {
        // The colons of an address are within brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (host, standard),
    };
    Some((scheme, host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_the_feed_is_told_to_nobody_else() {
        let who = AccessCredentials {
            username: "me".into(),
            password: "secret".into(),
        };
        let feed = "https://feed.example/a";
        for (urls, is_told) in [
            ("baseurl=${repo_url}/$releasever/target/t", true),
            ("baseurl=$repo_url/$releasever/target/t", true),
            ("baseurl = https://feed.example/other", true),
            ("baseurl=https://FEED.example:443/x", true),
            ("baseurl=${repo_url}/x\n  ${repo_url}/y", true),
            ("baseurl=${repo_url}/x\ngpgkey=file:///k", true),
            ("baseurl=http://feed.example/x", false),
            ("baseurl=https://feed.example:444/x", false),
            ("baseurl=https://feed.example.evil/x", false),
            ("baseurl=https://feed.example@evil/x", false),
            ("baseurl=https://evil/https://feed.example/", false),
            ("baseurl=https://evil\\@feed.example/", false),
            ("baseurl=https://$host/", false),
            ("baseurl=${repo_url}.evil/x", true),
            ("baseurl=${repo_url}/x, https://evil/x", false),
            ("baseurl=${repo_url}/x\n  https://evil/y", false),
            ("baseurl=${repo_url}/x\ngpgkey=https://evil/k", false),
            ("mirrorlist=${repo_url}/mirrors", false),
            ("metalink=${repo_url}/mirrors\nbaseurl=${repo_url}", false),
            ("baseurl=file:///somewhere", false),
            ("baseurl=ftp://feed.example/x", false),
            ("enabled=1", false),
            ("baseurl=", false),
            ("baseurl=${repo_url}/x evil/y", false),
            ("baseurl=${repo_url}/x\nproxy=evil:3128", false),
            ("baseurl=${repo_url}/x\nproxy = http://evil:3128", false),
            ("baseurl=${repo_url}/x\nsslverify=0", false),
            ("baseurl=${repo_url}/x\nwhat is this", false),
            ("baseurl=${repo_url}/x\n[a]\nproxy=evil:3128", false),
            // A character of more bytes than one before a scheme.
            ("name=“https://x”\nbaseurl=${repo_url}/x", true),
            ("name=é://\nbaseurl=${repo_url}/x", true),
            ("baseurl=“${repo_url}”", false),
            // A comment says nothing.
            (
                "; see https://docs/\n#mirrorlist=m\nbaseurl=${repo_url}/x",
                true,
            ),
            ("#baseurl=${repo_url}/x", false),
            ("#baseurl=${repo_url}/x\nbaseurl=file:///x", false),
            // What is indented goes on with a value.
            ("baseurl=${repo_url}/x\n # https://evil/", false),
        ] {
            let text = format!("# all\n[a]\nname=a\n{urls}\n\n[b]\nbaseurl=https://b/\n");
            let written = with_credentials(&text, feed, &who);
            let expected = if is_told {
                text.replace("\n\n[b]", "\n\nusername=me\npassword=secret\n[b]")
            } else {
                text
            };
            assert_eq!(written, expected, "{urls}");
        }
        let feed = "https://feed.example";
        // What follows is a part of the host.
        for urls in [
            "${repo_url}.evil/x",
            "${repo_url}@evil/x",
            "${repo_url}:1/x",
            "$repo_url",
        ] {
            let text = format!("[a]\nbaseurl={urls}");
            let written = with_credentials(&text, feed, &who);
            assert_eq!(written.contains("secret"), urls == "$repo_url", "{urls}");
        }
    }
}
