//! The architectures that a build is about.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use avocado_backend::Processor;

use crate::error::BuildError;
use crate::trees::Tree;

/// The longest name of an architecture that anybody uses has a quarter of this.
const LONGEST: usize = 64;

/// The architectures of packages that fit a tree, the best first, as dnf's variable `arch` has
/// them: names of letters, digits and `_` with `:` between. dnf puts them into the URLs that it
/// asks for, so no other text may get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Architectures(Vec<String>);

/// A text is no list of architectures. It is not repeated: nobody knows what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no list of architectures, which are letters, digits and `_` with `:` between them")]
pub(crate) struct ArchitecturesError;

impl Architectures {
    /// Those of the packages of an SDK whose tools are for this processor.
    pub(crate) fn of_sdk(processor: Processor) -> Self {
        let host = format!("{processor}_avocadosdk");
        let others = ["all_avocadosdk", "avocado_nativesdk", "noarch"];
        let names = std::iter::once(host).chain(others.map(ToOwned::to_owned));
        Architectures(names.collect())
    }

    /// That of a package for which none is stated.
    pub(crate) fn best(&self) -> &str {
        self.0.first().map_or("noarch", String::as_str)
    }

    /// The processor whose programs are in such packages, where it is one that this machine may know.
    pub(crate) fn processor(&self) -> Option<Processor> {
        let mut names = self.0.iter();
        names.find_map(|name| Processor::ALL.into_iter().find(|p| p.as_str() == name))
    }

    /// Those that the target's repository configuration states.
    pub(crate) fn of_target(target_repoconf: &Path) -> Result<Self, BuildError> {
        const FILE: &str = "etc/dnf/vars/arch";
        let configuration = Tree::open(target_repoconf)?;
        let path = configuration.shown(FILE);
        let text = configuration.read(FILE)?.ok_or_else(|| {
            BuildError::Invalid(format!(
                "the target's configuration lacks {}",
                path.display()
            ))
        })?;
        let parsed = text.parse();
        parsed.map_err(|e: ArchitecturesError| {
            BuildError::Invalid(format!("{} cannot be used: {e}", path.display()))
        })
    }
}

impl FromStr for Architectures {
    type Err = ArchitecturesError;

    fn from_str(text: &str) -> Result<Self, ArchitecturesError> {
        let names = text.trim().split(':').map(|name| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let usable = !name.is_empty() && name.len() <= LONGEST && name.chars().all(allowed);
            usable.then(|| name.to_owned()).ok_or(ArchitecturesError)
        });
        names.collect::<Result<_, _>>().map(Architectures)
    }
}

impl fmt::Display for Architectures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_architectures_become_part_of_a_url() {
        for good in ["core2_64:noarch", "x86_64", "all:any:noarch\n"] {
            let parsed: Architectures = good.parse().unwrap();
            assert_eq!(parsed.to_string(), good.trim());
        }
        let of_board: Architectures = "avocado_board:cortexa57:aarch64:noarch".parse().unwrap();
        assert_eq!(of_board.processor(), Some(Processor::Aarch64));
        let unknown: Architectures = "riscv64:noarch".parse().unwrap();
        assert_eq!(unknown.processor(), None);
        for bad in [
            "",
            ":",
            "a::b",
            "a b",
            "a/b",
            "../x",
            "$repo_url",
            "a\nb",
            "{\"private\":\"key\"}",
            &"a".repeat(65),
        ] {
            assert_eq!(
                bad.parse::<Architectures>(),
                Err(ArchitecturesError),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_link_to_a_file_of_the_host_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let vars = directory.path().join("conf/etc/dnf/vars");
        std::fs::create_dir_all(&vars).unwrap();
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::os::unix::fs::symlink(&secret, vars.join("arch")).unwrap();
        let error = Architectures::of_target(&directory.path().join("conf")).unwrap_err();
        assert!(matches!(error, BuildError::Tree { .. }), "{error}");
    }
}
