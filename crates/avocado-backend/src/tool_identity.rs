//! What a tool is, found out where it is.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};

use avocado_events::Silent;
use avocado_fs::AtPath as _;
use avocado_manifest::Digest;

use crate::{BackendError, Tool, ToolError};

/// Where the program of that name is on a search path.
#[must_use]
pub fn find_tool(search_path: &OsStr, tool: &str) -> Option<PathBuf> {
    find(search_path, tool).map(|(path, _)| path)
}

/// The program of that name that a step would start, which has `search_path` as its PATH.
pub(crate) fn find(search_path: &OsStr, tool: &str) -> Option<(PathBuf, Metadata)> {
    let path = avocado_fs::find_program(tool, std::env::split_paths(search_path))?;
    let metadata = fs::metadata(&path).ok()?;
    Some((path, metadata))
}

/// What the tool at `path` says of itself with these arguments; of one that says nothing, its
/// package and its version; of one that is in no package, the digest of its content. `spawned` is
/// told of each process.
pub(crate) fn ask(
    search_path: &OsStr,
    path: &Path,
    arguments: &[&str],
    spawned: &dyn Fn(),
) -> Result<String, BackendError> {
    let run = |program: &Path, arguments: &[&OsStr]| -> Option<String> {
        spawned();
        // Interrupted, it would say nothing, and be taken and remembered for one that never does.
        let tool = Tool::new(program)
            .out_of_process_group()
            .clear_environment()
            .env("PATH", search_path)
            .env("LC_ALL", "C.UTF-8")
            .args(arguments);
        first_line(tool.read(&Silent))
    };
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    if let Some(version) = run(path, &arguments) {
        return Ok(version);
    }
    let package_manager = |name: &str| find(search_path, name).map(|(path, _)| path);
    // A path is in a package under the name that the package has for it, which a link of the
    // distribution's may hide.
    let real = fs::canonicalize(path).at("find", path)?;
    for file in [path, &real] {
        if let Some(dpkg) = package_manager("dpkg-query")
            && let Some(owner) = run(&dpkg, &["-S".as_ref(), file.as_ref()])
            && let Some((package, _)) = owner.rsplit_once(": ")
        {
            let format = "${Package} ${Version} ${Architecture}\\n";
            let arguments = [
                "-W".as_ref(),
                "-f".as_ref(),
                format.as_ref(),
                package.as_ref(),
            ];
            if let Some(version) = run(&dpkg, &arguments) {
                return Ok(version);
            }
        }
        if let Some(rpm) = package_manager("rpm")
            && let Some(package) = run(&rpm, &["-qf".as_ref(), file.as_ref()])
        {
            return Ok(package);
        }
    }
    let content = File::open(&real).at("open", &real)?;
    let (digest, _) = Digest::of_reader(content).at("read", &real)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{name} {digest}"))
}

/// The same of a tool by its name, in a container.
pub(crate) fn of_container(
    search_path: &OsStr,
    tool: &str,
    arguments: &[String],
) -> Result<Option<String>, BackendError> {
    let Some((path, _)) = find(search_path, tool) else {
        return Ok(None);
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The process that counts is told of each by the tool itself.
    ask(search_path, &path, &arguments, &|| {}).map(Some)
}

fn first_line(output: Result<String, ToolError>) -> Option<String> {
    let output = output.ok()?;
    let line = output.lines().map(str::trim).find(|l| !l.is_empty())?;
    Some(line.to_owned())
}
