use crate::error::ProjectError;
use crate::phases::{LoadOptions, Loaded, ReadProject};

/// Reads avocado.yaml and resolves it for one target, without fetching anything: what is not
/// here of its extensions is among [`crate::Project::sources`].
///
/// # Errors
/// [`ProjectError::Read`] when the file cannot be read; [`ProjectError::Invalid`] with as many
/// mistakes as can be told apart in one go.
pub fn load(options: &LoadOptions<'_>) -> Result<Loaded, ProjectError> {
    let project = ReadProject::read(options)?.find_sources(options)?;
    let fetched = project.fetched();
    project.compose(options, &fetched)?.resolve(options)
}
