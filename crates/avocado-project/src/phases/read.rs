use std::path::PathBuf;

use super::options::LoadOptions;
use super::parse;
use super::sourced::SourcedProject;
use super::text_file;
use crate::error::ProjectError;
use crate::report::Report;
use crate::source::FileId;
use crate::yaml::{Node, Value};

/// The first phase: avocado.yaml is YAML that this version can read.
pub struct ReadProject {
    config: PathBuf,
    root: Node,
    report: Report,
}

impl ReadProject {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ProjectError::Read`] when the file cannot be read; [`ProjectError::Invalid`] when it is no
    /// YAML, or when it needs another version of this program.
    pub fn read(options: &LoadOptions<'_>) -> Result<Self, ProjectError> {
        let failed = |source| ProjectError::Read {
            path: options.config.to_owned(),
            source,
        };
        let text = match options.text {
            Some(text) => text.to_owned(),
            None => {
                let text = text_file::read(options.config).map_err(failed)?;
                text.map_err(ProjectError::invalid)?
            }
        };
        let config = std::path::absolute(options.config).map_err(failed)?;
        let mut report = Report::new(options.config, text);
        match parse::parse(FileId::MAIN, options.cli_version, &mut report) {
            Some(root) => Ok(ReadProject {
                config,
                root,
                report,
            }),
            None => Err(ProjectError::invalid(report)),
        }
    }

    /// The names in `supported_targets`, as far as they are known without a target; empty for all.
    pub fn supported_targets(&self) -> Vec<String> {
        let stated = self.root.get("supported_targets").map(|node| &node.value);
        let Some(Value::Sequence(names)) = stated else {
            return Vec::new();
        };
        let names = names.iter().filter_map(Node::as_text);
        let is_name = |name: &&str| !name.contains("{{") && *name != "*";
        names.filter(is_name).map(str::to_owned).collect()
    }

    /// The targets that something of the project differs for, by their `target-<name>:`, in the order
    /// of the file.
    pub(crate) fn override_targets(&self) -> Vec<String> {
        fn collect(node: &Node, targets: &mut Vec<String>) {
            for entry in node.entries().unwrap_or_default() {
                let target = entry.key.text.strip_prefix("target-");
                // A package may be called `target-…`.
                let is_override = entry.value.entries().is_some();
                let target = target.filter(|name| is_override && !name.contains("{{"));
                if let Some(target) = target.map(str::to_owned)
                    && !targets.contains(&target)
                {
                    targets.push(target);
                }
                collect(&entry.value, targets);
            }
        }
        let mut targets = Vec::new();
        collect(&self.root, &mut targets);
        targets
    }

    /// Goes on to the sources of the extensions, for a target.
    ///
    /// # Errors
    /// [`ProjectError::Invalid`] where a template cannot be resolved, or where there is no target.
    pub fn find_sources(self, options: &LoadOptions<'_>) -> Result<SourcedProject, ProjectError> {
        SourcedProject::find(self.config, self.root, self.report, options)
    }
}
