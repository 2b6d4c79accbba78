//! The order of an image's versions.

use std::cmp::Ordering;

use rpm_version::rpm_evr_compare;

/// Whether version `a` is newer than `b`, as packages are ordered: whatever a publisher calls
/// versions, one of two that differ is the newer.
pub fn is_newer(a: &str, b: &str) -> bool {
    rpm_evr_compare(a, b) == Ordering::Greater
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_an_order() {
        for (newer, older) in [
            ("2.0", "1.0"),
            ("1.10", "1.9"),
            ("1.0.1", "1.0"),
            ("2026.11.2", "2026.2.11"),
            ("1.0", "1.0~rc1"),
        ] {
            assert!(is_newer(newer, older), "{newer} {older}");
            assert!(!is_newer(older, newer), "{newer} {older}");
        }
        assert!(!is_newer("1.0", "1.0"));
    }
}
