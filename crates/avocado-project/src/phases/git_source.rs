//! What may be asked of git: nothing that it takes for an option, or for a program to run.

use std::path::Path;

use crate::raw::Text;
use crate::report::Report;
use crate::text::quoted;

/// How a repository may be reached.
const SCHEMES: [&str; 4] = ["https", "ssh", "git", "file"];

/// The URL of a repository; a path of this machine becomes absolute.
pub(super) fn url(text: &Text, src_dir: &Path, report: &mut Report) -> Option<String> {
    match checked_url(&text.value, src_dir) {
        Ok(url) => Some(url),
        Err(why) => {
            let message = format!("{} cannot be fetched from: {why}", quoted(text));
            report
                .error(text.span, message)
                .hint("write for example `https://example.org/extension.git`");
            None
        }
    }
}

fn checked_url(url: &str, src_dir: &Path) -> Result<String, &'static str> {
    if url.is_empty() {
        return Err("it is empty");
    }
    if url.starts_with('-') {
        return Err("git would take it for an option");
    }
    if url.chars().any(|c| c.is_control() || c == ' ') {
        return Err("no URL has spaces or control characters");
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        return match scheme {
            "http" => Err("anybody on the way could change what comes over plain http; use https"),
            _ if !SCHEMES.contains(&scheme) => Err("it is neither https, ssh, git nor file"),
            _ if host.starts_with('-') => Err("its host would be taken for an option"),
            _ => Ok(url.to_owned()),
        };
    }
    // `host:path` is ssh's own form; `helper::address` names a program to run.
    match url.split_once(':') {
        Some((_, rest)) if rest.starts_with(':') => Err("it is neither https, ssh, git nor file"),
        Some((host, _)) if !host.contains('/') => {
            let machine = host.rsplit('@').next().unwrap_or_default();
            if machine.is_empty() || machine.starts_with('-') || host.starts_with('-') {
                return Err("its host would be taken for an option");
            }
            Ok(url.to_owned())
        }
        _ => {
            let path = src_dir.join(url);
            let path = std::path::absolute(&path).unwrap_or(path);
            Ok(path.display().to_string())
        }
    }
}

/// The branch, tag or commit.
pub(super) fn reference(text: Text, report: &mut Report) -> Option<String> {
    // What git itself allows of a name, and no more: among others `+`, `:` and `^` mean something
    // else to it.
    let is_plain = |c: char| c.is_alphanumeric() || "._/+@-#=,%!".contains(c);
    let reference = &text.value;
    let wrong = reference.is_empty()
        || reference.starts_with(['-', '+', '/', '@'])
        || reference.ends_with(['/', '.'])
        || reference.contains("..")
        || !reference.chars().all(is_plain);
    if wrong {
        let message = format!("{} is not a branch, a tag or a commit", quoted(&text));
        report.error(text.span, message);
        return None;
    }
    Some(text.value)
}

/// Makes sure that the paths to check out are none that git takes for something else.
pub(super) fn check_pattern(patterns: &[Text], report: &mut Report) {
    for text in patterns {
        let wrong = text.is_empty()
            || text.starts_with('-')
            || text.chars().any(char::is_control)
            || text.split('/').any(|part| part == "..");
        if wrong {
            let message = format!("{} is not a path of the repository", quoted(text));
            report.error(text.span, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_git_fetches_itself_is_a_url() {
        let at = Path::new("/src");
        for (url, expected) in [
            ("https://example.org/a.git", "https://example.org/a.git"),
            ("https://user@example.org/a", "https://user@example.org/a"),
            ("ssh://git@example.org:22/a", "ssh://git@example.org:22/a"),
            ("git@example.org:a/b.git", "git@example.org:a/b.git"),
            ("git://example.org/a", "git://example.org/a"),
            ("file:///a/b", "file:///a/b"),
            ("../near", "/src/../near"),
            ("./a:b", "/src/a:b"),
            ("/abs", "/abs"),
        ] {
            assert_eq!(checked_url(url, at).as_deref(), Ok(expected), "{url}");
        }
        for url in [
            "",
            "-upload-pack=touch /tmp/x",
            "--upload-pack=x",
            "ext::sh -c touch",
            "ext::sh",
            "fd::17",
            "ext::https://example.org",
            "http://example.org/a",
            "ftp://example.org/a",
            "ssh://-oProxyCommand=x/a",
            "ssh://git@-oProxyCommand=x/a",
            "-oProxyCommand=x:a",
            "git@-oProxyCommand=x:a",
            "https://example.org/a\nb",
        ] {
            assert!(checked_url(url, at).is_err(), "{url}");
        }
    }
}
