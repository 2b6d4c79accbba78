//! The scriptlets of installed packages, as rpm answers them.

use std::str::Chars;

use super::{PackageScriptlets, Scriptlet, ScriptletKind};
use crate::error::BuildError;

/// What rpm is asked of every package: text for [`parse`]. Values are between quotes as a shell has
/// them, for they may have anything in them.
pub(crate) const QUERY: &str = concat!(
    "%{NAME:shescape} %{DBINSTANCE}",
    "%|PRETRANSPROG?{ pretrans %|PRETRANSFLAGS?{%{PRETRANSFLAGS}}:{0}|[ %{PRETRANSPROG:shescape}] ; ",
    "%|PRETRANS?{%{PRETRANS:shescape}}:{''}|}|",
    "%|PREINPROG?{ pre %|PREINFLAGS?{%{PREINFLAGS}}:{0}|[ %{PREINPROG:shescape}] ; ",
    "%|PREIN?{%{PREIN:shescape}}:{''}|}|",
    "%|POSTINPROG?{ post %|POSTINFLAGS?{%{POSTINFLAGS}}:{0}|[ %{POSTINPROG:shescape}] ; ",
    "%|POSTIN?{%{POSTIN:shescape}}:{''}|}|",
    "%|POSTTRANSPROG?{ posttrans %|POSTTRANSFLAGS?{%{POSTTRANSFLAGS}}:{0}|[ %{POSTTRANSPROG:shescape}] ; ",
    "%|POSTTRANS?{%{POSTTRANS:shescape}}:{''}|}|",
    "%|TRIGGERNAME?{ trigger}|%|FILETRIGGERNAME?{ trigger}|%|TRANSFILETRIGGERNAME?{ trigger}|\\n",
);

/// Of a scriptlet's flags: that rpm expands macros in it, or fills it in as it would a query.
const FILLED_IN: u64 = 0b11;

/// rpm's answer to [`QUERY`]: the packages that have scriptlets, in the order in which they were
/// installed.
pub(crate) fn parse(text: &str) -> Result<Vec<PackageScriptlets>, BuildError> {
    let mut words = Words(text.chars());
    let mut packages = Vec::new();
    while let Some(word) = words.next()? {
        let Word::Quoted(package) = word else {
            return Err(strange());
        };
        let order = number(words.next()?)?;
        let mut scriptlets = Vec::new();
        loop {
            let kind = match words.next()? {
                Some(Word::LineEnd) | None => break,
                Some(Word::Plain(kind)) => kind,
                Some(Word::Quoted(_)) => return Err(strange()),
            };
            scriptlets.push(scriptlet(&package, &kind, &mut words)?);
        }
        // A package may have triggers of several kinds.
        scriptlets.dedup();
        if !scriptlets.is_empty() {
            packages.push(PackageScriptlets {
                package,
                order,
                scriptlets,
            });
        }
    }
    packages.sort_by_key(|package| package.order);
    Ok(packages)
}

fn scriptlet(package: &str, kind: &str, words: &mut Words<'_>) -> Result<Scriptlet, BuildError> {
    let kind = match kind {
        "pretrans" => ScriptletKind::Pretrans,
        "pre" => ScriptletKind::Pre,
        "post" => ScriptletKind::Post,
        "posttrans" => ScriptletKind::Posttrans,
        "trigger" => {
            return Ok(Scriptlet {
                kind: ScriptletKind::Trigger,
                program: Vec::new(),
                text: String::new(),
                has_macros: false,
            });
        }
        _ => return Err(strange()),
    };
    let flags = number(words.next()?)?;
    let mut program = Vec::new();
    loop {
        match words.next()? {
            Some(Word::Quoted(word)) => program.push(word),
            Some(Word::Plain(end)) if end == ";" => break,
            _ => return Err(strange()),
        }
    }
    let Some(Word::Quoted(text)) = words.next()? else {
        return Err(strange());
    };
    // What was no text is not what the package has any more.
    if text.contains(char::REPLACEMENT_CHARACTER) {
        let what = format!("{} of package {package} is not UTF-8", kind.as_str());
        return Err(BuildError::Invalid(what));
    }
    Ok(Scriptlet {
        kind,
        program,
        text,
        has_macros: flags & FILLED_IN != 0,
    })
}

fn strange() -> BuildError {
    BuildError::Invalid("rpm names a scriptlet that cannot be".to_owned())
}

fn number(word: Option<Word>) -> Result<u64, BuildError> {
    match word {
        Some(Word::Plain(word)) => word.parse().map_err(|_| strange()),
        _ => Err(strange()),
    }
}

enum Word {
    Quoted(String),
    Plain(String),
    LineEnd,
}

struct Words<'a>(Chars<'a>);

impl Words<'_> {
    fn next(&mut self) -> Result<Option<Word>, BuildError> {
        let mut plain = String::new();
        loop {
            let before = self.0.clone();
            match self.0.next() {
                None if plain.is_empty() => return Ok(None),
                Some(' ') if plain.is_empty() => {}
                Some('\n') if plain.is_empty() => return Ok(Some(Word::LineEnd)),
                Some('\'') if plain.is_empty() => return self.quoted().map(Some),
                None | Some(' ' | '\n' | '\'') => {
                    self.0 = before;
                    return Ok(Some(Word::Plain(plain)));
                }
                Some(other) => plain.push(other),
            }
        }
    }

    /// Up to the quote that ends it. One that is part of it is written `'\''`.
    fn quoted(&mut self) -> Result<Word, BuildError> {
        let mut text = String::new();
        loop {
            match self.0.next().ok_or_else(strange)? {
                '\'' => match self.0.as_str().strip_prefix("\\''") {
                    Some(rest) => {
                        text.push('\'');
                        self.0 = rest.chars();
                    }
                    None => return Ok(Word::Quoted(text)),
                },
                other => text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scriptlets_are_read_in_the_order_of_the_transaction() {
        let text = "'b' 12 post 0 '/bin/sh' '-e' ; 'a='\\''1'\\''\n\n  ; b\n' trigger trigger\n\
                    'none' 3\n\
                    'a' 2 pre 1 '/bin/sh' ; ''\n";
        let packages = parse(text).unwrap();
        let names: Vec<&str> = packages.iter().map(|p| p.package.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(packages[0].scriptlets[0].has_macros);
        let [post, trigger] = &packages[1].scriptlets[..] else {
            panic!("{packages:?}");
        };
        assert_eq!(post.program, ["/bin/sh", "-e"]);
        assert_eq!(post.text, "a='1'\n\n  ; b\n");
        assert_eq!(trigger.kind, ScriptletKind::Trigger);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_no_answer_of_rpm_is_an_error() {
        for text in [
            "a 1\n",
            "'a'\n",
            "'a' x\n",
            "'a' 1 what\n",
            "'a' 1 pre 0 '/bin/sh' 'text'\n",
            "'a' 1 pre 0 '/bin/sh' ; 'text",
            "'a' 1 pre 0 '/bin/sh' ; '\u{fffd}'\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
