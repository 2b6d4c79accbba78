//! Which delegated role may speak about which target path.

use avocado_manifest::Digest;

use crate::metadata::{DelegatedRole, DelegationScope};

impl DelegatedRole {
    /// Whether the target path is delegated to this role.
    pub(crate) fn covers(&self, path: &str) -> bool {
        match &self.scope {
            DelegationScope::Paths(patterns) => {
                patterns.iter().any(|pattern| matches(pattern, path))
            }
            DelegationScope::HashPrefixes(prefixes) => {
                let digest = Digest::of(path.as_bytes()).to_string();
                prefixes.iter().any(|prefix| digest.starts_with(prefix))
            }
        }
    }
}

/// Shell-style matching segment by segment: `*` is any run of characters and `?` any one
/// character, and neither is ever a `/`. Everything else is literal.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut segments = path.split('/');
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// The usual greedy match that goes back to the last `*` only, so it takes time proportional to
/// the product of both lengths at most.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let segment: Vec<char> = segment.chars().collect();
    let (mut p, mut s) = (0, 0);
    let mut star = None;
    while let Some(&c) = segment.get(s) {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                star = Some((p, s));
            }
            Some(&x) if x == '?' || x == c => {
                p += 1;
                s += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (p, s) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        let cases = [
            ("manifest.json", "manifest.json", true),
            ("manifest.json", "manifest_json", false),
            ("*.raw", "a.raw", true),
            ("*.raw", ".raw", true),
            ("*.raw", "a.raw.x", false),
            ("*.raw", "dir/a.raw", false),
            ("*", "dir/a", false),
            ("*/*", "dir/a", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("foo-?.tgz", "foo-1.tgz", true),
            ("foo-?.tgz", "foo-10.tgz", false),
            ("?", "/", false),
            ("?", "ä", true),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbx", false),
            ("a**", "a", true),
            ("[ab]", "a", false),
            ("[ab]", "[ab]", true),
            ("README.md", "readme.md", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn hash_prefixes() {
        let digest = Digest::of(b"a.raw").to_string();
        let role = |prefix: &str| DelegatedRole {
            scope: DelegationScope::HashPrefixes(vec![prefix.to_owned()]),
            ..DelegatedRole::for_test("x")
        };
        assert!(role(&digest[..2]).covers("a.raw"));
        assert!(role("").covers("a.raw"));
        assert!(!role(&digest[..2]).covers("b.raw"));
    }

    proptest! {
        #[test]
        fn a_literal_matches_itself_and_stars_match_a_segment(path in "[a-z.]{0,9}(/[a-z.]{0,9}){0,3}") {
            prop_assert!(matches(&path, &path));
            let stars: Vec<_> = path.split('/').map(|_| "*").collect();
            prop_assert!(matches(&stars.join("/"), &path));
            let deeper = [stars.as_slice(), &["*"]].concat().join("/");
            prop_assert!(!matches(&deeper, &path));
        }
    }
}
