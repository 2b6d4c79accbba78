//! Which key signs a runtime.

use std::path::Path;

use avocado_events::{Event, Sink};
use avocado_fs::OpenFileWarning;
use avocado_project::{Project, Runtime};
use avocado_tuf::keyring::Keyring;
use avocado_tuf::writer::WriterError;
use avocado_tuf::{SigningKey, writer};

use crate::error::BuildError;
use crate::layout::Layout;
use crate::options::Options;

/// The key of projects that name none, among the signing keys of a user.
pub const DEVELOPMENT_KEY: &str = "dev-signing-key";

/// The key of one runtime.
pub(crate) struct RuntimeKey {
    pub(crate) key: SigningKey,
    /// The root metadata that its devices trust.
    pub(crate) anchor: String,
}

impl RuntimeKey {
    /// Finds the runtime's key; where the project names none, a development key is used, and
    /// created if need be.
    pub(crate) fn find(
        options: &Options,
        project: &Project,
        layout: &Layout,
        runtime: &Runtime,
        sink: &dyn Sink,
    ) -> Result<Self, BuildError> {
        let repository = layout.repository(&runtime.name);
        let of_owner = owner_key(options, &repository, runtime, sink)?;
        let key = match of_owner {
            Some(key) => key,
            None => signing_key(options, project, runtime, sink)?,
        };
        let anchor = writer::anchor(&repository, &key, options.now)?;
        let anchor = String::from_utf8(anchor)
            .map_err(|e| BuildError::Invalid(format!("the trust anchor is no text: {e}")))?;
        Ok(RuntimeKey { key, anchor })
    }
}

/// The development key of the project's owner, where it is the one that signed what is there: root
/// has another one, and devices trust only the first.
fn owner_key(
    options: &Options,
    repository: &Path,
    runtime: &Runtime,
    sink: &dyn Sink,
) -> Result<Option<SigningKey>, BuildError> {
    let is_published = repository.join("metadata/root.json").exists();
    let (None, Some(directory), true) =
        (&runtime.signing_key, &options.owner_keyring, is_published)
    else {
        return Ok(None);
    };
    let registry = Keyring::new(directory);
    let Some(entry) = registry.find(DEVELOPMENT_KEY)? else {
        return Ok(None);
    };
    let key = registry.load(&entry, &|warning| warn(sink, &warning))?;
    match writer::anchor(repository, &key, options.now) {
        Ok(_) => Ok(Some(key)),
        Err(WriterError::OtherKey { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn warn(sink: &dyn Sink, warning: &OpenFileWarning) {
    sink.emit(Event::warning(warning.to_string()));
}

/// The key that signs `runtime`, created if the project names none and there is none yet.
pub fn signing_key(
    options: &Options,
    project: &Project,
    runtime: &Runtime,
    sink: &dyn Sink,
) -> Result<SigningKey, BuildError> {
    let directory = options.keyring.as_ref().ok_or_else(|| {
        BuildError::Invalid(
            "no place for signing keys: set HOME or AVOCADO_SIGNING_KEYS_DIR".into(),
        )
    })?;
    let registry = Keyring::new(directory);
    let warn = |warning: OpenFileWarning| warn(sink, &warning);
    let Some(wanted) = &runtime.signing_key else {
        let entry = match registry.find(DEVELOPMENT_KEY)? {
            Some(entry) => entry,
            None => {
                let entry = registry.create(DEVELOPMENT_KEY, options.now)?;
                sink.emit(Event::warning(format!(
                    "runtime `{}` names no signing key: created `{DEVELOPMENT_KEY}` in {}, for development only",
                    runtime.name,
                    registry.directory().display()
                )));
                entry
            }
        };
        return Ok(registry.load(&entry, &warn)?);
    };
    let in_project = project.signing_keys.iter().find(|(name, _)| name == wanted);
    let name = in_project.map_or(wanted, |(_, in_registry)| in_registry);
    if let Some(entry) = registry.find(name)? {
        return Ok(registry.load(&entry, &warn)?);
    }
    if let Some(directory) = &options.owner_keyring {
        let registry = Keyring::new(directory);
        if let Some(entry) = registry.find(name)? {
            return Ok(registry.load(&entry, &warn)?);
        }
    }
    Err(BuildError::NoKey {
        runtime: runtime.name.to_string(),
        key: name.clone(),
        registry: directory.clone(),
    })
}
