//! Where a text of a project says what is secret.

use std::ops::Range;

/// What stands in the place of a password where the user alone is the secret.
const NO_PASSWORDS: [&str; 2] = ["", "x-oauth-basic"];

/// What is secret in the URLs of a text, in order: the password before the host, and a user without
/// one, which is a token; not with ssh, where a user says who one is. Whether it is written there or
/// referred to, [`is_literal`] tells.
pub(crate) fn of_urls(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        // In the password of the URL before it.
        if found.last().is_some_and(|last| start < last.end) {
            continue;
        }
        let Some((who, _host)) = authority(&text[start..]).rsplit_once('@') else {
            continue;
        };
        let is_ssh = text[..at].ends_with("ssh");
        let secret = match who.split_once(':') {
            Some((user, password)) if !NO_PASSWORDS.contains(&password) => {
                user.len() + 1..who.len()
            }
            _ if is_ssh => continue,
            Some((token, _)) => 0..token.len(),
            None => 0..who.len(),
        };
        if !secret.is_empty() {
            found.push(start + secret.start..start + secret.end);
        }
    }
    found
}

/// Whether something of a secret is written, and not only referred to.
pub(crate) fn is_literal(secret: &str) -> bool {
    let mut rest = secret;
    while let Some((before, opened)) = rest.split_once("{{") {
        let Some((_reference, after)) = opened.split_once("}}") else {
            return true;
        };
        if !before.trim().is_empty() {
            return true;
        }
        rest = after;
    }
    !rest.trim().is_empty()
}

/// The expressions in a text, without their braces.
pub(crate) fn references(text: &str) -> impl Iterator<Item = &str> {
    let opened = text.split("{{").skip(1);
    opened.filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
}

/// What is before the path of a URL. References in it may hold what else would end it.
fn authority(rest: &str) -> &str {
    let is_end = |c: char| c.is_whitespace() || "/?#\"".contains(c);
    let mut end = 0;
    loop {
        let behind = &rest[end..];
        let stop = behind.find(is_end).unwrap_or(behind.len());
        let open = behind[..stop].find("{{");
        let close = open.and_then(|open| Some(open + behind[open..].find("}}")? + 2));
        match close {
            Some(close) => end += close,
            None => return &rest[..end + stop],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_urls() {
        for (text, expected) in [
            ("https://me:s3cret@host/x", &["s3cret"][..]),
            ("https://me:s3c@ret@host", &["s3c@ret"]),
            ("https://me:s3,c're}t@host/x", &["s3,c're}t"]),
            ("https://t0ken@host/x", &["t0ken"]),
            ("https://t0ken:@host/x", &["t0ken"]),
            ("https://t0ken:x-oauth-basic@host/x", &["t0ken"]),
            ("ssh://git@host/x git+ssh://git@host ssh://git:@host", &[]),
            ("ssh://git:s3cret@host/x", &["s3cret"]),
            ("git@host:x/y.git", &[]),
            (
                "https://host:8080/a@b https://host?a@b https://host#a:b@c",
                &[],
            ),
            ("https://@host https://:@host", &[]),
            ("https://{{ env.ME }}:s3cret@host/x", &["s3cret"]),
            ("https://me:{{ env.P }}@host", &["{{ env.P }}"]),
            ("https://{{ env.T }}@host/a@b", &["{{ env.T }}"]),
            ("https://a:b@c https://d@e", &["b", "d"]),
            ("{url: https://host, user: me@x}", &[]),
            ("url: \"https://host\",\"me@x\"", &[]),
            ("https://{{ me@x", &[]),
        ] {
            let found = of_urls(text);
            let found: Vec<&str> = found.into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_is_only_referred_to_is_not_literal() {
        for (secret, expected) in [
            ("{{ env.P }}", false),
            (" {{ env.P }}{{ env.Q }} ", false),
            ("", false),
            ("s3cret", true),
            ("{{ env.P }}s3cret", true),
            ("s3cret{{ env.P }}", true),
            ("{{ env.P", true),
        ] {
            assert_eq!(is_literal(secret), expected, "{secret}");
        }
        let all: Vec<&str> = references("a{{ b }}c{{d}}{{ e").collect();
        assert_eq!(all, ["b", "d"]);
    }
}
