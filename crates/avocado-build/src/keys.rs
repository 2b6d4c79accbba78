//! Which key signs a runtime.

use avocado_events::{Event, Sink};
use avocado_project::{Project, Runtime};
use avocado_tuf::keyring::Keyring;
use avocado_tuf::{SigningKey, writer};

use crate::layout::Layout;
use crate::{Error, Options};

/// The key of projects that name none.
const DEVELOPMENT_KEY: &str = "dev-signing-key";

/// The key of one runtime.
pub(crate) struct RuntimeKey {
    pub(crate) key: SigningKey,
    /// The root metadata that its devices trust.
    pub(crate) anchor: Vec<u8>,
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
    ) -> Result<Self, Error> {
        let key = signing_key(options, project, runtime, sink)?;
        let repository = layout.repository(&runtime.name);
        let anchor = writer::anchor(&repository, &key, options.now)?;
        Ok(RuntimeKey { key, anchor })
    }
}

/// The key that signs `runtime`, created if the project names none and there is none yet.
pub fn signing_key(
    options: &Options,
    project: &Project,
    runtime: &Runtime,
    sink: &dyn Sink,
) -> Result<SigningKey, Error> {
    let directory = options.keyring.as_ref().ok_or_else(|| {
        Error::Invalid("no place for signing keys: set HOME or AVOCADO_SIGNING_KEYS_DIR".into())
    })?;
    let registry = Keyring::new(directory);
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
        return Ok(registry.load(&entry)?);
    };
    let in_project = project.signing_keys.iter().find(|(name, _)| name == wanted);
    let name = in_project.map_or(wanted, |(_, in_registry)| in_registry);
    let entry = registry.find(name)?.ok_or_else(|| Error::NoKey {
        runtime: runtime.name.to_string(),
        key: name.clone(),
        registry: directory.clone(),
    })?;
    Ok(registry.load(&entry)?)
}
