//! The files by which the feed describes its repositories to dnf. They name hosts as they like, and
//! who asks the feed is the feed's alone to know: they are given to dnf with that in the sections of
//! the feed's own URLs.

use std::fs;
use std::path::Path;

use crate::error::{At as _, Error};
use crate::packages::repository::{AccessCredentials, write_secret};

/// Copies the files of repositories in `from`, each with who asks where that is for the feed at `url`.
pub(super) fn write(
    from: &Path,
    to: &Path,
    url: &str,
    who: &AccessCredentials,
) -> Result<(), Error> {
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
    let mut written = String::new();
    let mut section = String::new();
    for line in text.split_inclusive('\n').chain(["["]) {
        if !line.starts_with('[') {
            section += line;
            continue;
        }
        written += &section;
        if section.starts_with('[') && is_of_feed(&section, url) {
            if !section.ends_with('\n') {
                written.push('\n');
            }
            written += &who.of_one();
        }
        section = line.to_owned();
    }
    written
}

/// Whether a section leads to the feed, and nowhere else: a list of mirrors, or where keys are, does
/// as much as the URL of the packages.
fn is_of_feed(section: &str, url: &str) -> bool {
    let section = section
        .replace("${repo_url}", url)
        .replace("$repo_url", url);
    let Some(feed) = origin(url) else {
        return false;
    };
    let mut urls = 0;
    let mut at = 0;
    while let Some(found) = section[at..].find("://") {
        let colon = at + found;
        let scheme = section[..colon].rfind(|c: char| !c.is_ascii_alphanumeric());
        let start = scheme.map_or(0, |before| before + 1);
        let rest = &section[start..];
        let end = rest.find(|c: char| c.is_whitespace() || c == ',');
        let one = &rest[..end.unwrap_or(rest.len())];
        let is_local = one.starts_with("file://");
        if !is_local && origin(one) != Some(feed.clone()) {
            return false;
        }
        urls += usize::from(!is_local);
        at = colon + 3;
    }
    let says = |key: &str| {
        let mut lines = section.lines();
        lines.any(|line| line.trim_start().starts_with(key))
    };
    // The servers of such a list are anybody's.
    urls > 0 && !says("mirrorlist") && !says("metalink")
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
