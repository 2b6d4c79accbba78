//! `avocado init`: a project that builds as it is, or one of the references.

mod reference;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use avocado_manifest::Name;
use clap::Args;
use serde_json::json;

use reference::ReferenceArgs;

use crate::failure::{Context, Failure, Result};
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

/// Where the repository of a project says what it does not carry.
const GITIGNORE: &str = ".gitignore";
/// What the repository of a project must not carry.
const IGNORED: &str = ".avocado/";

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The directory of the project; it is created where it is missing [default: that of --name or
    /// --reference, else the current one]
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// The name of the project, which its directory has: within DIR where that is given
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,

    /// The name of the project's own extension [default: app]
    #[arg(
        long = "extension",
        id = "new_extension",
        value_name = "NAME",
        conflicts_with = "reference"
    )]
    pub(crate) extension: Option<Name>,

    #[command(flatten)]
    pub(crate) reference: ReferenceArgs,
}

impl InitArgs {
    /// Where the project is to be.
    fn directory(&self) -> PathBuf {
        let named = match (&self.dir, &self.name, &self.reference.reference) {
            (_, Some(name), _) | (None, None, Some(name)) => Path::new(name.as_str()),
            _ => Path::new(""),
        };
        match &self.dir {
            Some(dir) if named.as_os_str().is_empty() => dir.clone(),
            Some(dir) => dir.join(named),
            None if named.as_os_str().is_empty() => PathBuf::from("."),
            None => named.to_owned(),
        }
    }
}

/// A file of the new project.
struct ScaffoldFile {
    path: PathBuf,
    text: String,
    mode: u32,
}

pub(super) fn run(session: &Session, args: &InitArgs) -> Result<()> {
    let dir = args.directory();
    match &args.reference.reference {
        Some(name) => reference::run(session, &args.reference, name, &dir),
        None => scaffolded(session, args, &dir),
    }
}

fn scaffolded(session: &Session, args: &InitArgs, dir: &Path) -> Result<()> {
    let target = match &session.global.target {
        Some(target) => target.as_str(),
        None if cfg!(target_arch = "aarch64") => "qemuarm64",
        None => "qemux86-64",
    };
    session.output.start(&WorkStart {
        action: "init",
        target: Some(target),
        runtime: None,
    });
    let extension = args.extension.as_ref().map_or("app", Name::as_str);
    let files = scaffold(target, extension);
    // Everything is looked at before anything is written.
    let taken = ["avocado.yaml", "avocado.yml"].map(|name| dir.join(name));
    for path in &taken {
        if exists(path)? {
            return Err(Failure::new(format!("{} is already there", path.display()))
                .hint("`avocado init` starts new projects; choose another directory"));
        }
    }
    for file in &files {
        check_free(&dir.join(&file.path), file)?;
    }
    let wrote = |path: &Path| {
        session
            .output
            .emit(Event::info(format!("wrote {}", path.display())));
    };
    fs::create_dir_all(dir).context(|| format!("cannot create {}", dir.display()))?;
    let mut names = Vec::new();
    if ignore_state(&dir.join(GITIGNORE))? {
        wrote(&dir.join(GITIGNORE));
        names.push(Path::new(GITIGNORE));
    }
    for file in &files {
        write(dir, file)?;
        wrote(&dir.join(&file.path));
    }

    names.extend(files.iter().map(|file| file.path.as_path()));
    let mut summary = WorkSummary::default();
    summary.fields.insert("path".into(), json!(dir));
    summary.fields.insert("files".into(), json!(names));
    summary.closing = next_steps(dir);
    session.output.complete(summary)
}

/// The files, the configuration last: a run that was interrupted can be repeated.
fn scaffold(target: &str, name: &str) -> [ScaffoldFile; 4] {
    let named = |template: &str| template.replace("@NAME@", name);
    let config = include_str!("template/avocado.yaml")
        .replace("@TARGET@", &yaml_word(target))
        .replace("@NAME@:", &format!("{}:", yaml_word(name)))
        .replace("- @NAME@", &format!("- {}", yaml_word(name)));
    let file = |path: String, text, mode| ScaffoldFile {
        path: path.into(),
        text,
        mode,
    };
    [
        file(
            format!("overlay/usr/bin/{name}"),
            named(include_str!("template/app")),
            0o755,
        ),
        file(
            format!("overlay/etc/{name}.conf"),
            named(include_str!("template/app.conf")),
            0o644,
        ),
        file(
            "avocado.schema.json".into(),
            format!("{}\n", avocado_project::json_schema()),
            0o644,
        ),
        file("avocado.yaml".into(), named(&config), 0o644),
    ]
}

/// A name in YAML: quoted where it would otherwise be read as a number, a truth value or nothing.
fn yaml_word(name: &str) -> String {
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let constants = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if word && !constants.contains(&name.to_ascii_lowercase().as_str()) {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Failure::new(format!("cannot look at {}", path.display())).because(&e)),
    }
}

/// A file that is there already must be the one that would be written.
fn check_free(path: &Path, file: &ScaffoldFile) -> Result<()> {
    if !exists(path)? || fs::read(path).is_ok_and(|there| there == file.text.as_bytes()) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} is already there, with other content",
        path.display()
    ))
    .hint("`avocado init` overwrites nothing; move the file away or choose another directory"))
}

fn write(dir: &Path, file: &ScaffoldFile) -> Result<()> {
    let path = dir.join(&file.path);
    let write = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, file.mode);
        let opened = options.open(&path);
        match opened {
            Ok(mut opened) => opened.write_all(file.text.as_bytes()),
            // Checked before: it is the same.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
    };
    write().context(|| format!("cannot write {}", path.display()))
}

/// Adds the state directory to .gitignore unless it is there. Says whether it was added.
fn ignore_state(path: &Path) -> Result<bool> {
    let there = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Failure::new(format!("cannot read {}", path.display())).because(&e)),
    };
    let same = |line: &str| line.trim().trim_matches('/') == IGNORED.trim_matches('/');
    if there.lines().any(same) {
        return Ok(false);
    }
    let line_break = if there.is_empty() || there.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let append = |mut file: File| writeln!(file, "{line_break}{IGNORED}");
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(append)
        .context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

fn next_steps(dir: &Path) -> String {
    let enter = if dir == Path::new(".") {
        String::new()
    } else {
        format!("  cd {}\n", shell_word(dir))
    };
    format!("\nNext:\n{enter}  avocado install\n  avocado build\n  avocado deploy -d <device>\n")
}

/// The path as a person would have to type it.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+~".contains(c);
    if text.chars().all(safe) && !text.starts_with(['-', '~']) {
        text
    } else {
        avocado_ssh::quote(&text)
    }
}
