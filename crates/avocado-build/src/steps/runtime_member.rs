//! An extension as a part of a runtime.

use std::path::{Path, PathBuf};

use avocado_manifest::Name;
use serde::{Deserialize, Serialize};

use super::PACKAGE_STATE;
use super::extension_image::ExtensionImageOutput;
use crate::error::BuildError;
use crate::layout::Layout;
use crate::trees::merged::{self, MergeLayer};
use crate::trees::{self, Tree};

/// An extension in its runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RuntimeMember {
    pub(super) name: Name,
    pub(super) version: Name,
    pub(super) enabled: bool,
    pub(super) sysext: bool,
    pub(super) confext: bool,
    pub(super) enable_services: Vec<String>,
    pub(super) image: ExtensionImageOutput,
}

impl RuntimeMember {
    fn layer(&self, tree: Tree) -> MergeLayer<'_> {
        let state = PACKAGE_STATE.iter().map(PathBuf::from);
        MergeLayer {
            name: self.name.as_str(),
            tree,
            sysext: self.sysext,
            confext: self.confext,
            left_out: state.chain(self.image.var_paths.clone()).collect(),
            enable_services: &self.enable_services,
        }
    }
}

/// What there is to tell of a runtime's extensions, merged over its rootfs. One that would hide a
/// part of that on which everything hangs is refused.
pub(super) fn findings(
    layout: &Layout,
    rootfs: &Path,
    members: &[RuntimeMember],
) -> Result<Vec<String>, BuildError> {
    let mut findings = Vec::new();
    let mut layers = Vec::new();
    for member in members {
        let tree = layout.extension(&member.name);
        for part in trees::hidden_parts(rootfs, &tree)? {
            let told = format!("extension `{}` {}", member.name, part.describe());
            if part.is_vital() {
                return Err(BuildError::Invalid(told));
            }
            findings.push(told);
        }
        // What is not merged hides nothing.
        if member.enabled {
            layers.push(member.layer(Tree::open(&tree)?));
        }
    }
    findings.extend(merged::findings(&Tree::open(rootfs)?, &layers)?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_var_files_and_the_database_of_an_extension_are_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        let rootfs = Tree::fresh(&directory.path().join("rootfs")).unwrap();
        let digest = avocado_manifest::Digest::of(b"");
        let member = |name: &str, enabled: bool| -> RuntimeMember {
            let tree = Tree::fresh(&layout.extension(&name.parse().unwrap())).unwrap();
            for file in ["var/lib/rpm/db", "var/lib/app/seed", "srv/www", "usr/bin/x"] {
                tree.write(file, name, 0o644).unwrap();
            }
            let image = json!({
                "image": {"sha256": digest, "size": 0},
                "var_paths": ["var/lib/app"],
                "var_content": digest,
            });
            let member = json!({
                "name": name, "version": "1", "enabled": enabled, "sysext": true, "confext": false,
                "enable_services": [], "image": image,
            });
            serde_json::from_value(member).unwrap()
        };
        let members = [member("a", true), member("b", false)];
        assert_eq!(
            findings(&layout, rootfs.path(), &members).unwrap(),
            [
                "extension `a` has what no device will show: /srv/www (nothing is merged but /usr, \
              /opt and /etc)"
            ]
        );
    }
}
