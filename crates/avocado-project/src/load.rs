use crate::error::ProjectError;
use crate::phases::{LoadOptions, Loaded, ReadProject};

/// Reads avocado.yaml and resolves it for one target, without fetching anything: what is not
/// here of its extensions is among [`crate::Project::sources`].
///
/// # Errors
/// [`ProjectError::Read`] when the file cannot be read; [`ProjectError::Invalid`] with as many
/// mistakes as can be told apart in one go.
pub fn load(options: &LoadOptions<'_>) -> Result<Loaded, ProjectError> {
    resolve(ReadProject::read(options)?, options)
}

/// The same for every target that the project is for: first the one that is meant, then the others of
/// `supported_targets`; where these are all, the others that it has a `target-<name>:` for.
///
/// # Errors
/// As [`load`], and [`ProjectError::ForTarget`] where the project is wrong for another target.
pub fn load_for_every_target(options: &LoadOptions<'_>) -> Result<Vec<Loaded>, ProjectError> {
    let read = ReadProject::read(options)?;
    let named = read.override_targets();
    let first = resolve(read, options)?;
    let targets = match &first.project.supported_targets[..] {
        [] => named,
        supported => supported.to_vec(),
    };
    let meant = first.project.target.to_string();
    let mut all = vec![first];
    for target in targets.iter().filter(|target| **target != meant) {
        let options = LoadOptions {
            target: Some(target),
            ..*options
        };
        let loaded = load(&options).map_err(|why| ProjectError::ForTarget {
            target: target.clone(),
            why: Box::new(why),
        })?;
        all.push(loaded);
    }
    Ok(all)
}

fn resolve(read: ReadProject, options: &LoadOptions<'_>) -> Result<Loaded, ProjectError> {
    let project = read.find_sources(options)?;
    let fetched = project.fetched();
    project.compose(options, &fetched)?.resolve(options)
}
