//! `avocadoctl runtime verify`.

use avocado_text::{bytes, escape};

use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::{Problem, Verification};

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let progress = &context.progress;
    // Nothing is changed, but every image has to be readable.
    let result = context.device(AccessMode::Write)?.verify(progress);
    progress.clear();
    let verification = result?;
    if verification.good {
        return context.output.result(&verification, || text(&verification));
    }
    Err(Failure::VerificationFailed {
        message: text(&verification),
        verification,
    })
}

/// What is not as it should be.
fn text(found: &Verification) -> String {
    let read = format!(
        "{} runtimes, {} images, {} read",
        found.runtimes,
        found.images,
        bytes(found.bytes)
    );
    let harmless = ["unreferenced", "os_replaced"];
    let bad = found.problems.iter().map(|p| p.kind.as_str());
    let bad = bad.filter(|kind| !harmless.contains(kind));
    let mut text = match bad.count() {
        0 => format!("Everything is right: {read}.\n"),
        1 => format!("1 thing is wrong: {read}.\n"),
        n => format!("{n} things are wrong: {read}.\n"),
    };
    for problem in &found.problems {
        text.push_str(&format!("{}\n", escape(&line(problem))));
    }
    text
}

fn line(problem: &Problem) -> String {
    let mut line = format!("{}:", problem.kind);
    let mut add = |before: &str, what: &str| line.push_str(&format!("{before}{what}"));
    match (&problem.image, &problem.file) {
        (Some(image), Some(file)) => add(" ", &format!("{image} ({file})")),
        (None, Some(file)) => add(" ", file),
        _ => {}
    }
    let short = |id: &String| id.get(..8).unwrap_or(id).to_owned();
    let runtimes = problem.runtimes.iter().flatten().map(short);
    let runtimes: Vec<_> = runtimes.collect();
    if !runtimes.is_empty() {
        add(" ", &format!("of {}", runtimes.join(", ")));
    }
    if let Some(why) = &problem.why {
        add(" ", why);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use avocado_device::{StoreProblem, VerificationReport};

    #[test]
    fn an_os_that_is_gone_is_wrong_and_one_that_was_replaced_is_told() {
        let runtimes = |id: &str| vec![id.parse().unwrap()];
        let gone = StoreProblem::OsGone {
            runtimes: runtimes("0123456789"),
            why: "no slot has it".into(),
        };
        let replaced = StoreProblem::OsReplaced {
            runtimes: runtimes("abcdefghij"),
        };
        let told = |problems| {
            let mut found = VerificationReport::default();
            found.problems = problems;
            let found = Verification::from(found);
            (found.good, text(&found))
        };
        let read = "0 runtimes, 0 images, 0 B read";
        let of_replaced = "os_replaced: of abcdefgh another OS was written to its slot since; adding the \
                           runtime again brings it";
        assert_eq!(
            told(vec![replaced.clone()]),
            (
                true,
                format!("Everything is right: {read}.\n{of_replaced}\n")
            )
        );
        let of_gone = "os_gone: of 01234567 no slot has it; adding the runtime again brings it";
        assert_eq!(
            told(vec![gone, replaced]),
            (
                false,
                format!("1 thing is wrong: {read}.\n{of_gone}\n{of_replaced}\n")
            )
        );
    }
}
