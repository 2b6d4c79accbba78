//! What rpm says of the packages of a tree, and of each of their files: one question.

use std::path::Path;

use avocado_backend::Tool;
use avocado_sbom::{InstalledFile, InstalledPackage};

use crate::error::BuildError;
use crate::package_query::copy_database;
use crate::packages::dnf::DATABASE;
use crate::step_context::StepContext;
use crate::trees::{self, Tree};

/// A letter for each thing, and what there is to say of it. Texts are quoted as shells want it: they may
/// have ends of lines in them, and anything else.
const QUERY: &str = "P %{NAME:shescape} %{EPOCHNUM} %{VERSION:shescape} %{RELEASE:shescape} %{ARCH:shescape} \
     %{SHA256HEADER:shescape} %{SOURCERPM:shescape} %{FILEDIGESTALGO}\\n\
     L %{LICENSE:shescape}\\nV %{VENDOR:shescape}\\nU %{URL:shescape}\\nS %{SUMMARY:shescape}\\n\
     [F %{FILEDIGESTS:shescape} %{FILENAMES:shescape}\\n]\
     [R %{REQUIRENAME:shescape}\\n][O %{PROVIDENAME:shescape}\\n]";

/// What rpm writes, without quotes, for what a package does not have; for a list of nothing too, which
/// nothing comes after.
const NONE: &str = "(none)";

/// The number of SHA-256 among the algorithms of OpenPGP.
const SHA256: &str = "8";

/// Where the copy of a tree's database is meanwhile.
const PLACE: &str = "sbom-database";

/// The packages that are installed in a tree. A tree without a database has none.
pub(super) fn read(
    context: &StepContext<'_>,
    root: &Path,
) -> Result<Vec<InstalledPackage>, BuildError> {
    let place = context.layout.work(PLACE);
    let copy = Tree::fresh(&place)?;
    if !copy_database(root, &copy, Path::new(DATABASE))? {
        trees::clear(&place)?;
        return Ok(Vec::new());
    }
    let tool = Tool::new("rpm").arg("--root").arg(&place);
    let tool = tool.arg("--dbpath").arg(format!("/{DATABASE}"));
    let text = tool.args(["-qa", "--qf", QUERY]).read_text(context.sink)?;
    trees::clear(&place)?;
    parse(&text)
}

/// What a query says is not what was asked.
struct OtherAnswer;

/// What a query says, a word after the other.
struct Answer<'a>(&'a str);

/// A word of it.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    None,
    Bare(&'a str),
    Quoted(String),
}

impl<'a> Answer<'a> {
    fn word(&mut self) -> Result<Word<'a>, OtherAnswer> {
        self.0 = self.0.trim_start_matches([' ', '\n']);
        if let Some(rest) = self.0.strip_prefix(NONE) {
            self.0 = rest;
            return Ok(Word::None);
        }
        if let Some(rest) = self.0.strip_prefix('\'') {
            return self.quoted(rest).map(Word::Quoted).ok_or(OtherAnswer);
        }
        let end = self.0.find([' ', '\n']).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        if word.is_empty() {
            return Err(OtherAnswer);
        }
        Ok(Word::Bare(word))
    }

    /// `None` where the quote has no end.
    fn quoted(&mut self, mut rest: &'a str) -> Option<String> {
        let mut text = String::new();
        loop {
            let (plain, after) = rest.split_once('\'')?;
            text += plain;
            let Some(more) = after.strip_prefix("\\''") else {
                self.0 = after;
                return Some(text);
            };
            text.push('\'');
            rest = more;
        }
    }

    fn text(&mut self) -> Result<String, OtherAnswer> {
        match self.word()? {
            Word::Quoted(text) => Ok(text),
            Word::None | Word::Bare(_) => Err(OtherAnswer),
        }
    }

    /// A text that a package need not have. An empty one says nothing, nor does what some builders of
    /// packages write for that.
    fn stated(&mut self) -> Result<Option<String>, OtherAnswer> {
        match self.word()? {
            Word::None => Ok(None),
            Word::Quoted(text) => Ok(Some(text).filter(|text| !text.is_empty() && text != NONE)),
            Word::Bare(_) => Err(OtherAnswer),
        }
    }
}

fn parse(text: &str) -> Result<Vec<InstalledPackage>, BuildError> {
    let mut packages: Vec<ReadPackage> = Vec::new();
    let mut answer = Answer(text);
    while !answer.0.trim_end().is_empty() {
        let at = answer.0;
        if read_next(&mut answer, &mut packages).is_err() {
            let said: String = at.chars().take(200).collect();
            return Err(BuildError::Invalid(format!(
                "rpm says something of a package that cannot be: {}",
                said.escape_debug()
            )));
        }
    }
    // The keys that packages were verified with have no architecture.
    let packages = packages.into_iter().filter(|read| {
        let is_key = read.package.name == "gpg-pubkey" && read.package.arch == NONE;
        !is_key
    });
    Ok(packages.map(|read| read.package).collect())
}

/// A package, as far as it is read.
struct ReadPackage {
    package: InstalledPackage,
    /// Whether the digests of its files are of SHA-256.
    has_sha256: bool,
}

fn read_next(answer: &mut Answer<'_>, packages: &mut Vec<ReadPackage>) -> Result<(), OtherAnswer> {
    let kind = match answer.word()? {
        // A list of nothing.
        Word::None => return Ok(()),
        Word::Bare(kind) => kind,
        Word::Quoted(_) => return Err(OtherAnswer),
    };
    if kind == "P" {
        let name = answer.text()?;
        let Word::Bare(epoch) = answer.word()? else {
            return Err(OtherAnswer);
        };
        let package = InstalledPackage {
            name,
            epoch: epoch.parse().map_err(|_| OtherAnswer)?,
            version: answer.text()?,
            release: answer.text()?,
            arch: answer.stated()?.unwrap_or_else(|| NONE.to_owned()),
            header_sha256: answer.stated()?,
            source_rpm: answer.stated()?,
            ..InstalledPackage::default()
        };
        packages.push(ReadPackage {
            package,
            has_sha256: answer.word()? == Word::Bare(SHA256),
        });
        return Ok(());
    }
    let ReadPackage {
        package,
        has_sha256,
    } = packages.last_mut().ok_or(OtherAnswer)?;
    match kind {
        "L" => package.licence = answer.stated()?,
        "V" => package.vendor = answer.stated()?,
        "U" => package.url = answer.stated()?,
        "S" => package.summary = answer.stated()?,
        "F" => {
            let digest = answer.stated()?;
            package.files.push(InstalledFile {
                sha256: digest.filter(|_| *has_sha256),
                path: answer.text()?,
            });
        }
        "R" => package.requires.push(answer.text()?),
        "O" => package.provides.push(answer.text()?),
        _ => return Err(OtherAnswer),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rpm_says_of_packages_and_their_files() {
        let text = "P 'a' 0 '1' 'r0' 'x' 'aa' 'a-1-r0.src.rpm' 8\n\
                    L 'MIT'\nV (none)\nU ''\nS 'It'\\''s\na\ttext '\n\
                    F '11' '/usr/bin/a b'\nF '' '/usr/lib'\nF '12' '/a\nS (none)'\nR 'libc'\nO 'a'\n\
                    P 'empty' 1 '2' 'r1' 'noarch' (none) (none) (none)\n\
                    L 'MIT'\nV '(none)'\nU (none)\nS (none)\n(none)(none)O 'empty'\n\
                    P 'old' 1 '2' 'r1' 'noarch' (none) (none) 1\n\
                    F 'md5' '/x'\n(none)\
                    P 'gpg-pubkey' 0 '1' '2' (none) (none) (none) (none)\nU ''\n";
        let packages = parse(text).unwrap();
        let names: Vec<&str> = packages.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a", "empty", "old"]);
        let a = &packages[0];
        assert_eq!(
            (a.licence.as_deref(), &a.vendor, &a.url),
            (Some("MIT"), &None, &None)
        );
        assert_eq!(a.summary.as_deref(), Some("It's\na\ttext "));
        let files: Vec<_> = a
            .files
            .iter()
            .map(|f| (f.path.as_str(), f.sha256.as_deref()))
            .collect();
        let expected = [
            ("/usr/bin/a b", Some("11")),
            ("/usr/lib", None),
            ("/a\nS (none)", Some("12")),
        ];
        assert_eq!(files, expected);
        assert_eq!((a.requires.len(), a.provides.len()), (1, 1));
        assert_eq!(
            (packages[1].files.len(), packages[1].provides.len()),
            (0, 1)
        );
        assert_eq!(packages[1].vendor, None);
        // Of another algorithm: nothing to compare with.
        assert_eq!(packages[2].files[0].sha256, None);
        for text in [
            "x",
            "'x'",
            "F '1' '/x'",
            "P 'a' x '1' 'r0' 'x' 'aa' '-' 8",
            "P 'a' 0 '1' 'r0' 'x' 'aa' '-",
            "P 'a'",
            "P 'a' 0 '1' 'r0' 'x' 'aa' '-' 8\nZ 'x'",
            "P 'a' 0 '1' 'r0' 'x' 'aa' '-' 8\nF '1' (none)",
        ] {
            parse(text).unwrap_err();
        }
    }
}
