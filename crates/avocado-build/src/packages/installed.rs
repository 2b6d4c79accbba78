//! What rpm says is installed, and whether it is what the lock says.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use avocado_project::{PackageHeader, PackageHeaders};

use crate::error::BuildError;

/// What rpm is asked of every package: a line for [`parse`].
pub(crate) const QUERY: &str = "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\t\
     %{SHA256HEADER}\\t%{SHA1HEADER}\\t%{SIGMD5}\\n";

/// What rpm writes for what a package does not have.
const NONE: &str = "(none)";

/// rpm's answer to [`QUERY`]. A line that is none is an error: the package behind it would be in
/// the tree and not in the lock.
pub(crate) fn parse(text: &str) -> Result<PackageHeaders, BuildError> {
    let mut packages = BTreeMap::new();
    for line in text.lines() {
        let unreadable = || {
            let line = line.escape_debug();
            BuildError::Invalid(format!("rpm names a package that cannot be: {line}"))
        };
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, epoch, version, arch, sha256, sha1, md5] = fields.as_slice() else {
            return Err(unreadable());
        };
        // The keys that packages were verified with.
        if name == "gpg-pubkey" && arch == NONE {
            continue;
        }
        let header = PackageHeader {
            version: format!("{version}.{arch}"),
            epoch: epoch.parse().map_err(|_| unreadable())?,
            digest: digest(sha256, sha1, md5).ok_or_else(unreadable)?,
        };
        match packages.entry(name.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(header);
            }
            // The lock has one version for a name. Of two, the digest stands for both.
            Entry::Occupied(mut entry) => {
                let (first, second) = in_order(entry.get(), header);
                let digest = format!("{}+{}", first.digest, second.digest);
                entry.insert(PackageHeader { digest, ..second });
            }
        }
    }
    Ok(packages)
}

/// The digest of a package's header, or, for one of an rpm that did not write that yet, what
/// there is in its place.
fn digest(sha256: &str, sha1: &str, md5: &str) -> Option<String> {
    let is_hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    if sha256 != NONE {
        return is_hex(sha256).then(|| format!("sha256:{sha256}"));
    }
    (is_hex(sha1) && is_hex(md5)).then(|| format!("sha1:{sha1}+md5:{md5}"))
}

/// Two packages of one name, in an order that does not hang on which rpm names first.
fn in_order(a: &PackageHeader, b: PackageHeader) -> (PackageHeader, PackageHeader) {
    let key = |header: &PackageHeader| {
        let PackageHeader {
            version,
            epoch,
            digest,
        } = header;
        (*epoch, version.clone(), digest.clone())
    };
    if key(a) <= key(&b) {
        (a.clone(), b)
    } else {
        (b, a.clone())
    }
}

/// That each package which has its locked version also has the locked contents.
pub(crate) fn check(installed: &PackageHeaders, locked: &PackageHeaders) -> Result<(), BuildError> {
    let both = installed
        .iter()
        .filter_map(|(name, found)| Some((name, found, locked.get(name)?)));
    for (name, found, locked) in both {
        if found.version == locked.version && found != locked {
            return Err(BuildError::OtherContents {
                package: name.clone(),
                version: found.version.clone(),
                found: shown(found, locked),
                locked: shown(locked, found),
            });
        }
    }
    Ok(())
}

/// What of a header tells it apart from another.
fn shown(header: &PackageHeader, other: &PackageHeader) -> String {
    if header.epoch == other.epoch {
        header.digest.clone()
    } else {
        format!("{} of epoch {}", header.digest, header.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: &str, epoch: u32, digest: &str) -> PackageHeader {
        PackageHeader {
            version: version.into(),
            epoch,
            digest: digest.into(),
        }
    }

    #[test]
    fn what_rpm_says_of_packages() {
        let text = "a\t0\t1-r0\tx\taa\tbb\tcc\n\
                    b\t2\t1.0~rc1-r0\tnoarch\t(none)\tbb\tcc\n\
                    gpg-pubkey\t0\t1-2\t(none)\t(none)\t(none)\t(none)\n";
        let expected = [
            ("a", header("1-r0.x", 0, "sha256:aa")),
            ("b", header("1.0~rc1-r0.noarch", 2, "sha1:bb+md5:cc")),
        ];
        let expected = expected.map(|(name, header)| (name.to_owned(), header));
        assert_eq!(parse(text).unwrap(), PackageHeaders::from(expected));
    }

    #[test]
    fn two_of_one_name_are_both_in_the_digest() {
        let (a, b) = ("a\t0\t1-r0\tx\taa\t-\t-\n", "a\t0\t2-r0\tx\tbb\t-\t-\n");
        let both = parse(&format!("{a}{b}")).unwrap();
        assert_eq!(both["a"], header("2-r0.x", 0, "sha256:aa+sha256:bb"));
        assert_eq!(parse(&format!("{b}{a}")).unwrap(), both);
    }

    /// Such as one whose version has a line end in it, to look like two.
    #[test]
    fn a_package_that_cannot_be_is_an_error() {
        for line in [
            "a",
            "a\t0\t1",
            "r0\tx\taa\tbb\tcc",
            "a\tx\t1-r0\tx\taa\tbb\tcc",
            "a\t0\t1-r0\tx\t(none)\t(none)\t(none)",
            "a\t0\t1-r0\tx\t../..\tbb\tcc",
            "gpg-pubkey\t0\t1-2\tnoarch\t(none)\t(none)\t(none)",
            "a\t0\t1-r0\tx\taa\tbb\tcc\t\u{1b}[2J",
        ] {
            let said = parse(line).unwrap_err().to_string();
            assert!(said.starts_with("rpm names a package"), "{said}");
            assert!(!said.contains('\u{1b}'));
        }
    }

    #[test]
    fn other_contents_of_a_locked_version_are_refused() {
        let packages = |list: &[(&str, PackageHeader)]| -> PackageHeaders {
            let list = list.iter();
            list.map(|(n, h)| ((*n).to_owned(), h.clone())).collect()
        };
        let locked = packages(&[("a", header("1-r0.x", 0, "sha256:aa"))]);
        for installed in [
            &[][..],
            &[("a", header("1-r0.x", 0, "sha256:aa"))],
            // A version that was asked for by name, and a package that is new.
            &[("a", header("2-r0.x", 0, "sha256:bb"))],
            &[("b", header("1-r0.x", 0, "sha256:bb"))],
        ] {
            check(&packages(installed), &locked).unwrap();
        }
        for (found, said) in [
            (
                header("1-r0.x", 0, "sha256:bb"),
                "package a 1-r0.x is not the one in avocado.lock: its header has sha256:bb, locked \
                 is sha256:aa",
            ),
            (
                header("1-r0.x", 1, "sha256:bb"),
                "package a 1-r0.x is not the one in avocado.lock: its header has sha256:bb of \
                 epoch 1, locked is sha256:aa of epoch 0",
            ),
        ] {
            let error = check(&packages(&[("a", found)]), &locked).unwrap_err();
            assert_eq!(error.to_string(), said);
            let hint = error.hint().unwrap();
            assert!(hint.contains("avocado update"), "{hint}");
        }
    }
}
