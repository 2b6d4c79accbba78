//! Files of Debian's packages, without installing them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::HarnessError;
use crate::error::file;
use crate::tools::ToolCall;

/// How long the downloads may take, about 70 MB.
const DOWNLOAD: Duration = Duration::from_secs(300);

/// Whether a file is this module, packed or not.
pub(crate) fn is_module(name: &str, module: &str) -> bool {
    let name = name.strip_suffix(".xz").unwrap_or(name);
    let name = name.strip_suffix(".ko");
    name.is_some_and(|name| name.ends_with(&format!("/{module}")))
}

pub(crate) fn find<'a>(
    files: &'a [PathBuf],
    what: &str,
    is: impl Fn(&str) -> bool,
) -> Result<&'a Path, HarnessError> {
    let found = files.iter().find(|path| is(&path.to_string_lossy()));
    let found = found.map(PathBuf::as_path);
    found.ok_or_else(|| file("find", what)(ErrorKind::NotFound))
}

pub(crate) fn keep(path: &Path, at: &Path) -> Result<(), HarnessError> {
    fs::rename(path, at).map_err(file("move", path))
}

/// apt with lists of its own, for any architecture: the system's stay as they are.
pub(crate) struct Apt<'a> {
    work: &'a Path,
    architecture: &'static str,
}

impl<'a> Apt<'a> {
    pub(crate) fn new(work: &'a Path, architecture: &'static str) -> Result<Self, HarnessError> {
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = work.join(name);
            fs::create_dir_all(&path).map_err(file("make", path))?;
        }
        let apt = Apt { work, architecture };
        // A source that has nothing for this may be unreachable: only the downloads have to succeed.
        apt.call("apt-get").args(["-q", "update"]).run()?;
        Ok(apt)
    }

    pub(crate) fn call(&self, program: &str) -> ToolCall {
        let place = |name: &str| self.work.join(name).display().to_string();
        let options = [
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures::={}", self.architecture),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            format!("Dir::State::lists={}", place("lists")),
            format!("Dir::Cache={}", place("cache")),
        ];
        let call = ToolCall::new(program).directory(self.work).limit(DOWNLOAD);
        options
            .iter()
            .fold(call, |call, option| call.args(["-o", option]))
    }

    /// What is installed where a package is that names no more than another one.
    pub(crate) fn newest_kernel(&self, package: &str) -> Result<String, HarnessError> {
        let depends = self.call("apt-cache").args(["depends", package]).ok()?;
        let mut names = depends.stdout.lines();
        let kernel = names.find_map(|line| {
            let name = line.trim().strip_prefix("Depends: ")?;
            name.starts_with("linux-image-").then(|| name.to_owned())
        });
        Ok(kernel.unwrap_or_else(|| package.to_owned()))
    }

    /// Loads a package and takes some of its files. Gives their paths.
    pub(crate) fn unpack(
        &self,
        package: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<PathBuf>, HarnessError> {
        let place = self.work.join(package);
        fs::create_dir(&place).map_err(file("make", &place))?;
        let download = self.call("apt-get").directory(&place);
        download.args(["-q", "download", package]).ok()?;
        let archive = only(&place, package)?;
        let call = ToolCall::new("ar").args(["x", "--output"]).arg(&place);
        call.arg(archive).ok()?;
        let data = only(&place, "data.tar")?;
        let tar = |action| ToolCall::new("tar").arg(action).arg(&data).limit(DOWNLOAD);
        let listed = tar("-tf").ok()?.stdout;
        let wanted: Vec<_> = listed.lines().filter(|name| wanted(name)).collect();
        let call = tar("-xf").arg("-C").arg(&place).args(["-T", "-"]);
        call.input(wanted.join("\n")).ok()?;
        Ok(wanted.iter().map(|name| place.join(name)).collect())
    }
}

/// The file whose name starts so.
fn only(directory: &Path, start: &str) -> Result<PathBuf, HarnessError> {
    let entries = fs::read_dir(directory).map_err(file("read", directory))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    let name = names.find(|name| name.to_string_lossy().starts_with(start));
    let name = name.ok_or_else(|| file("find", directory.join(start))(ErrorKind::NotFound))?;
    Ok(directory.join(name))
}
