//! Questions to who sits at the terminal.

use std::io::{BufRead as _, Write as _};

use crate::failure::{Context, Result};

/// Asks the user a question; none where there is no answer.
pub(super) fn ask(question: &str) -> Result<Option<String>> {
    let mut stderr = std::io::stderr().lock();
    let asked = stderr
        .write_all(question.as_bytes())
        .and_then(|()| stderr.flush());
    asked.context(|| "cannot ask".into())?;
    drop(stderr);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.context(|| "cannot read the answer".into())? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim().to_owned()))
}
