//! What is kept of what is copied into a tree: permission bits, hard links, times, kinds of files.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// How the permission bits of copied files come about, and what else of them is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CopyModes {
    /// As they are: files of packages, and what is made of them. Their hard links and times
    /// stay.
    Keep,
    /// As they would be in a checkout with umask 022. A version control system stores no more
    /// than the executable bit, so the rest would let the umask of the user who cloned the project
    /// into an image. Where avocado.yaml itself (whose mode this is) can be read by group or
    /// others and a file cannot, the project's author meant that, and it stays so.
    Checkout(u32),
}

/// The mode of avocado.yaml; see [`CopyModes::Checkout`].
pub(crate) fn checkout_mode(config: &Path) -> u32 {
    fs::metadata(config).map_or(0o644, |found| found.mode())
}

impl CopyModes {
    /// Whether the files are those of a project, as version control keeps them.
    pub(super) fn is_checkout(self) -> bool {
        matches!(self, CopyModes::Checkout(_))
    }

    /// Whether two names of one file stay that. Of the project's files each becomes one of its own:
    /// version control keeps no links, and a clone shall give what its author has.
    pub(super) fn keeps_hard_links(self) -> bool {
        !self.is_checkout()
    }

    /// Whether files keep the time of their last change, which differs between two clones.
    pub(super) fn keeps_times(self) -> bool {
        !self.is_checkout()
    }

    pub(crate) fn of(self, metadata: &Metadata) -> u32 {
        let mode = metadata.mode() & 0o7777;
        match self {
            CopyModes::Keep => mode,
            CopyModes::Checkout(witness) => {
                let full = mode & 0o7700 | (mode & 0o500) >> 3 | (mode & 0o500) >> 6;
                let meant = [0o070, 0o007]
                    .into_iter()
                    .filter(|class| witness & class & 0o444 != 0 && mode & class & 0o444 == 0);
                meant.fold(full, |full, class| full & !class | mode & class & 0o111)
            }
        }
    }
}

#[cfg(test)]
pub(super) fn set_mode(path: &std::path::Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(modes: CopyModes, mode: u32) -> u32 {
        let file = tempfile::NamedTempFile::new().unwrap();
        set_mode(file.path(), mode).unwrap();
        modes.of(&fs::metadata(file.path()).unwrap())
    }

    #[test]
    fn the_umask_of_a_checkout_does_not_matter() {
        for (under_022, under_077, under_002) in [(0o644, 0o600, 0o664), (0o755, 0o700, 0o775)] {
            assert_eq!(mode(CopyModes::Checkout(0o644), under_022), under_022);
            assert_eq!(mode(CopyModes::Checkout(0o600), under_077), under_022);
            assert_eq!(mode(CopyModes::Checkout(0o664), under_002), under_022);
        }
    }

    #[test]
    fn what_was_meant_stays() {
        assert_eq!(mode(CopyModes::Checkout(0o644), 0o600), 0o600);
        assert_eq!(mode(CopyModes::Checkout(0o644), 0o640), 0o640);
        assert_eq!(mode(CopyModes::Checkout(0o644), 0o440), 0o440);
        assert_eq!(mode(CopyModes::Checkout(0o644), 0o4755), 0o4755);
        assert_eq!(mode(CopyModes::Checkout(0o644), 0o4711), 0o4711);
        assert_eq!(mode(CopyModes::Checkout(0o644), 0o2750), 0o2750);
    }
}
