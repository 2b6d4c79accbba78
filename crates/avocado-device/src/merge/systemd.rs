use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde::Deserialize;

use super::release::ExtensionClass;
use super::swap::{self, NewOverlays};
use crate::config::MutableMode;
use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::tool;

/// One of systemd's two mergers, and the directory in which it looks for what to merge.
#[derive(Debug)]
pub(crate) struct SystemdMerger<'a> {
    pub(crate) class: ExtensionClass,
    program: &'a Path,
    links: &'a Path,
    mutable: MutableMode,
}

impl<'a> SystemdMerger<'a> {
    pub(crate) fn new(class: ExtensionClass, paths: &'a DevicePaths, mutable: MutableMode) -> Self {
        let (program, links) = match class {
            ExtensionClass::Sysext => (&paths.tools.sysext, &paths.extensions),
            ExtensionClass::Confext => (&paths.tools.confext, &paths.confexts),
        };
        SystemdMerger {
            class,
            program,
            links,
            mutable,
        }
    }

    /// Makes our links be exactly these, each to a directory below `mounts`. What others have put
    /// there stays. Returns whether there were any of ours before.
    pub(crate) fn link(
        &self,
        mounts: &Path,
        wanted: &[(&str, &Path)],
    ) -> Result<bool, FailureReason> {
        let mut had = false;
        let entries = match fs::read_dir(self.links) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(FailureReason::file("read", self.links))?),
        };
        for entry in entries.into_iter().flatten() {
            let path = entry
                .map_err(FailureReason::file("read", self.links))?
                .path();
            if !fs::read_link(&path).is_ok_and(|target| target.starts_with(mounts)) {
                continue;
            }
            had = true;
            let kept = wanted.iter().any(|(name, target)| {
                path.file_name() == Some(name.as_ref())
                    && fs::read_link(&path).is_ok_and(|t| t == *target)
            });
            if !kept {
                fs::remove_file(&path).map_err(FailureReason::file("remove", &path))?;
            }
        }
        for (name, target) in wanted {
            fs::create_dir_all(self.links).map_err(FailureReason::file("create", self.links))?;
            let path = self.links.join(name);
            match symlink(target, &path) {
                Err(e)
                    if e.kind() == io::ErrorKind::AlreadyExists
                        && fs::read_link(&path).is_ok_and(|t| t == *target) => {}
                other => other.map_err(FailureReason::file("create", &path))?,
            }
        }
        Ok(had)
    }

    /// Makes the overlays of what is linked now, which nobody else sees, and looks at them with
    /// `check`. None where this system cannot do that.
    pub(crate) fn make<E: From<FailureReason> + Send>(
        &self,
        warn: impl FnOnce(String),
        check: impl FnOnce(&tool::ToolOutput) -> Result<(), E> + Send,
    ) -> Result<Option<NewOverlays>, E> {
        // Changes that are kept have a place of their own, where two overlays must not meet.
        let mutable = if self.keeps_changes() {
            MutableMode::No
        } else {
            self.mutable
        };
        let version = self.version()?;
        if version < MUTABLE && self.mutable != MutableMode::No {
            warn(format!(
                "systemd {version} merges read-only: {} is not available before {MUTABLE}",
                self.mutable
            ));
        }
        let args = arguments(version, mutable);
        swap::end_interrupted(self.class)?;
        let new = swap::make(self.class, || check(&tool::must(self.program, &args)?))?;
        Ok(new.filter(|_| !self.keeps_changes()))
    }

    /// Lets systemd itself merge what is linked now, in the place of what was merged before.
    pub(crate) fn refresh(&self) -> Result<tool::ToolOutput, FailureReason> {
        let args = arguments(self.version()?, self.mutable);
        tool::must(self.program, &args)
    }

    fn keeps_changes(&self) -> bool {
        matches!(self.mutable, MutableMode::Yes | MutableMode::Auto)
    }

    /// The names that are merged now. None are where the program does not exist.
    pub(crate) fn merged(&self) -> Result<BTreeSet<String>, FailureReason> {
        let ended = match tool::must(self.program, &["status", "--json=short", "--no-pager"]) {
            Err(FailureReason::NoTool { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(BTreeSet::new());
            }
            other => other?,
        };
        names(&ended.said).ok_or_else(|| FailureReason::Tool {
            command: format!("{} status", self.program.display()),
            status: "its answer is not understood".to_owned(),
            said: ended.said,
        })
    }

    pub(crate) fn program(&self) -> String {
        self.program.display().to_string()
    }

    fn version(&self) -> Result<u32, FailureReason> {
        let ended = tool::must(self.program, &["--version"])?;
        // `systemd 257 (257.9-1)`; what cannot be read counts as old, and gets no new options.
        let number = ended.said.split_whitespace().nth(1).unwrap_or_default();
        let digits = number.split(|c: char| !c.is_ascii_digit()).next();
        Ok(digits.and_then(|d| d.parse().ok()).unwrap_or(0))
    }
}

/// The first version of systemd that has `--mutable=`.
const MUTABLE: u32 = 256;

fn arguments(version: u32, mutable: MutableMode) -> Vec<String> {
    let mut args = vec!["refresh".to_owned()];
    // We reload the manager ourselves, once for both classes.
    if version >= 255 {
        args.push("--no-reload".to_owned());
    }
    if version >= MUTABLE {
        args.push(format!("--mutable={mutable}"));
    }
    args
}

/// Reads `[{"hierarchy":"/usr","extensions":["a"],"since":1},{"hierarchy":"/opt","extensions":"none"}]`.
fn names(json: &str) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Hierarchy {
        extensions: Extensions,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Extensions {
        Some(Vec<String>),
        /// `"none"`, or null.
        None(serde::de::IgnoredAny),
    }
    // Warnings may come before the answer, which is the last line.
    let line = json.lines().rfind(|l| l.starts_with('['))?;
    let hierarchies: Vec<Hierarchy> = serde_json::from_str(line).ok()?;
    let mut names = BTreeSet::new();
    for hierarchy in hierarchies {
        if let Extensions::Some(some) = hierarchy.extensions {
            names.extend(some);
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_systemd_are_understood() {
        let all = |json: &str| names(json).map(|n| n.into_iter().collect::<Vec<_>>().join(" "));
        let json = r#"[{"hierarchy":"/opt","extensions":"none","since":null},{"hierarchy":"/usr","extensions":["00-b-1","01-a-1"],"since":1}]"#;
        assert_eq!(all(json).unwrap(), "00-b-1 01-a-1");
        assert_eq!(all(&format!("a warning\n{json}")).unwrap(), "00-b-1 01-a-1");
        assert_eq!(
            all(r#"[{"hierarchy":"/etc","extensions":null}]"#).unwrap(),
            ""
        );
        assert_eq!(all("[]").unwrap(), "");
        assert_eq!(all(""), None);
        assert_eq!(all("[1]"), None);
    }

    #[test]
    fn links_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path());
        paths.extensions = dir.path().join("links");
        let merger = SystemdMerger::new(ExtensionClass::Sysext, &paths, MutableMode::No);
        let mounts = dir.path().join("mounts");
        let (a, b) = (mounts.join("a"), mounts.join("b"));
        assert!(!merger.link(&mounts, &[("01-a", &a), ("00-b", &b)]).unwrap());
        symlink("/elsewhere", paths.extensions.join("foreign")).unwrap();
        fs::create_dir(paths.extensions.join("directory")).unwrap();

        assert!(merger.link(&mounts, &[("00-a", &a)]).unwrap());
        let names = crate::store::files::names(&paths.extensions).unwrap();
        assert_eq!(names, ["00-a", "directory", "foreign"]);
        assert!(merger.link(&mounts, &[]).unwrap());
        assert!(!merger.link(&mounts, &[]).unwrap());
        assert!(merger.link(&mounts, &[("foreign", &a)]).is_err());
    }
}
