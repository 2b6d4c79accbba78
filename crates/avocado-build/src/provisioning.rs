//! How a device can be provisioned, for those who ask.

use avocado_manifest::Name;
use serde::Serialize;

use crate::error::BuildError;
use crate::options::Options;
use crate::run::look_at;
use crate::stone_files::StoneFiles;

/// A way to provision: a profile of the stone manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvisioningProfile {
    /// The key.
    pub name: String,
    /// Whether it is meant where none is named.
    #[serde(rename = "default")]
    pub is_default: bool,
    /// The script that does it.
    pub script: Option<String>,
}

/// The profiles of the stone manifest of a runtime, by their names: of the manifest as it lies there, whatever a
/// build is doing.
///
/// # Errors
/// Where the runtime has no stone manifest, or it cannot be read.
pub fn provisioning_profiles(
    options: &Options,
    runtime: &Name,
) -> Result<Vec<ProvisioningProfile>, BuildError> {
    look_at(options, |context| {
        let runtime = context.runtime(runtime)?;
        let Some(stone) = StoneFiles::of(context, runtime)? else {
            return Err(BuildError::Invalid(format!(
                "the runtime `{}` states no `stone_manifest`, and the SDK has none for {}: where a package of \
                 `sdk.packages` brings it, run `avocado sdk install` first",
                runtime.name, context.project.target
            )));
        };
        let default = stone.manifest.way_to_provision(None).ok();
        let default = default.and_then(|way| way.profile);
        let profiles = stone.manifest.provision.profiles.iter();
        let listed = profiles.map(|(name, profile)| ProvisioningProfile {
            name: name.clone(),
            is_default: default.as_ref() == Some(name),
            script: profile.script.clone(),
        });
        Ok(listed.collect())
    })
}
