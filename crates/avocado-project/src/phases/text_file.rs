use std::io;
use std::path::Path;

use crate::error::ProjectError;
use crate::report::Report;
use crate::source::{FileId, Span, line};
use crate::yaml;

/// The text of an avocado.yaml, to edit it.
///
/// # Errors
/// [`ProjectError::Read`] when the file cannot be read, [`ProjectError::Invalid`] when it is no text.
pub fn read_text(path: &Path) -> Result<String, ProjectError> {
    let text = read(path).map_err(|source| ProjectError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.map_err(ProjectError::invalid)
}

/// Reads the text of an avocado.yaml. A file that is no text is told as a diagnostic about it.
pub(super) fn read(path: &Path) -> io::Result<Result<String, Report>> {
    let bytes = match avocado_fs::read_at_most(path, yaml::MAX_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let mut report = Report::new(path, "");
            let mib = yaml::MAX_BYTES >> 20;
            report.error(None, format!("the file is larger than {mib} MiB"));
            return Ok(Err(report));
        }
        Err(error) => return Err(error.source),
    };
    Ok(String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let good = error.as_bytes().get(..good).unwrap_or_default();
        not_utf8(path, &String::from_utf8_lossy(good))
    }))
}

/// `good` is the text before the first byte that is not UTF-8.
fn not_utf8(path: &Path, good: &str) -> Report {
    let (line, column) = line::place(good, good.len());
    let span = Span {
        file: FileId::MAIN,
        line,
        column,
        start: good.len(),
        end: good.len(),
    };
    let mut report = Report::new(path, good);
    report.error(span, "the file is not UTF-8 here");
    report
}
