//! Names of packages that scanners look up.

use crate::bill::PackageComponent;

/// `pkg:rpm/…`, with the architecture, the epoch and the package of the sources.
pub(crate) fn of(package: &PackageComponent) -> String {
    let version = format!("{}-{}", package.version, package.release);
    let mut url = rpm_package_url(&package.name, &version, &package.arch, package.epoch);
    if let Some(source) = &package.source_rpm {
        url += &format!("&upstream={}", escape(source));
    }
    url
}

/// The URL of a package of a feed: of its version and release, its architecture and its epoch.
pub fn rpm_package_url(name: &str, version_release: &str, arch: &str, epoch: u32) -> String {
    let (name, version, arch) = (escape(name), escape(version_release), escape(arch));
    let mut url = format!("pkg:rpm/avocado/{name}@{version}?arch={arch}");
    if epoch != 0 {
        url += &format!("&epoch={epoch}");
    }
    url
}

/// The value of a qualifier of a package's URL.
pub(crate) fn qualifier(url: &str, name: &str) -> Option<String> {
    let (_, qualifiers) = url.split_once('?')?;
    let (qualifiers, _) = qualifiers.split_once('#').unwrap_or((qualifiers, ""));
    let found = qualifiers.split('&').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        (key == name).then_some(value)
    });
    found.map(unescape)
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            byte => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3);
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, escaped) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualifier_is_read_as_it_was_written() {
        let source = "gtk+3.0-1.0^git&x-r0.src.rpm";
        let url = format!("pkg:rpm/avocado/x@1?arch=x&upstream={}", escape(source));
        assert_eq!(qualifier(&url, "upstream").as_deref(), Some(source));
        assert_eq!(qualifier(&url, "arch").as_deref(), Some("x"));
        assert_eq!(qualifier(&url, "epoch"), None);
        assert_eq!(unescape("%"), "%");
        assert_eq!(unescape("%é1"), "%é1");
    }
}
