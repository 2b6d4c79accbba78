//! Which field of an extension-release file does not fit the operating system. systemd tells that in
//! no form that a program could read, so its comparison (extension-release(5)) is made again here,
//! to say it.

use std::fmt;

use avocado_manifest::release_file;

/// A field of an extension-release file that does not fit the operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseMisfit {
    /// The extension, with its version.
    pub extension: String,
    /// The field, such as `VERSION_ID`.
    pub field: &'static str,
    /// What the extension has there. Empty: nothing.
    pub wanted: String,
    /// What the operating system has. Empty: nothing.
    pub running: String,
}

impl fmt::Display for ReleaseMisfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (extension, field) = (&self.extension, self.field);
        match self.wanted.as_str() {
            "" => write!(f, "{extension} has no {field}")?,
            wanted => write!(f, "{extension} is for {field}={wanted}")?,
        }
        match self.running.as_str() {
            "" => write!(f, ", and this operating system has none"),
            running => write!(f, ", and this operating system has {running}"),
        }
    }
}

/// The first field, in the order of systemd, in which an extension does not fit.
pub(super) fn find(
    level_key: &'static str,
    name: &str,
    release: &str,
    os: &str,
) -> Option<ReleaseMisfit> {
    let wants = |key| release_file::value(release, key).unwrap_or_default();
    let has = |key| release_file::value(os, key).unwrap_or_default();
    let differs = |field: &'static str, wanted: &str, running: &str| {
        Some(ReleaseMisfit {
            extension: name.to_owned(),
            field,
            wanted: wanted.to_owned(),
            running: running.to_owned(),
        })
    };
    let (architecture, ours) = (wants("ARCHITECTURE"), machine());
    if !matches!(architecture, "" | "_any") && architecture != ours {
        return differs("ARCHITECTURE", architecture, ours);
    }
    let (id, running) = (wants("ID"), has("ID"));
    if id == "_any" {
        return None;
    }
    let like = has("ID_LIKE");
    if id.is_empty() || (id != running && !like.split_whitespace().any(|like| like == id)) {
        return differs("ID", id, running);
    }
    for (field, both) in [(level_key, true), ("VERSION_ID", false)] {
        let (wanted, running) = (wants(field), has(field));
        if both && (wanted.is_empty() || running.is_empty()) {
            continue;
        }
        // An operating system without a version is every version.
        let fits = wanted == running || (!both && running.is_empty());
        return (!fits).then(|| differs(field, wanted, running)).flatten();
    }
    None
}

/// This machine, by systemd's name for it.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64-le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_that_does_not_fit_is_named() {
        let os = "ID=avocado\nID_LIKE=\"poky debian\"\nVERSION_ID=2\nSYSEXT_LEVEL=7\n";
        let of = |release: &str, os: &str| {
            let misfit = find("SYSEXT_LEVEL", "app-1", release, os);
            misfit.map(|misfit| misfit.to_string())
        };
        for fits in [
            "ID=_any",
            "ID=avocado\nVERSION_ID=2",
            "ID=debian\nVERSION_ID=2",
            "ID=avocado\nVERSION_ID=1\nSYSEXT_LEVEL=7",
            "ID=_any\nARCHITECTURE=_any",
        ] {
            assert_eq!(of(fits, os), None, "{fits}");
        }
        for (release, why) in [
            (
                "ID=avocado\nVERSION_ID=1",
                "app-1 is for VERSION_ID=1, and this operating system has 2",
            ),
            (
                "ID=avocado",
                "app-1 has no VERSION_ID, and this operating system has 2",
            ),
            (
                "ID=avocado\nVERSION_ID=2\nSYSEXT_LEVEL=6",
                "app-1 is for SYSEXT_LEVEL=6, and this operating system has 7",
            ),
            (
                "ID=fedora\nVERSION_ID=2",
                "app-1 is for ID=fedora, and this operating system has avocado",
            ),
            (
                "VERSION_ID=2",
                "app-1 has no ID, and this operating system has avocado",
            ),
        ] {
            assert_eq!(of(release, os).unwrap(), why);
        }
        let other = format!("ID=_any\nARCHITECTURE=not-{}", machine());
        assert!(of(&other, os).unwrap().contains("ARCHITECTURE"));
        // Without a version of its own the system takes each.
        assert_eq!(of("ID=avocado\nVERSION_ID=1", "ID=avocado"), None);
        assert_eq!(
            of("ID=avocado", "").unwrap(),
            "app-1 is for ID=avocado, and this operating system has none"
        );
    }
}
