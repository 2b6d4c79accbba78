//! A Python with the `tuf` package, made once and kept in the cache of the project.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What is installed. A change here makes a new environment.
const PACKAGES: [&str; 2] = ["tuf==7.0.0", "securesystemslib[crypto]==1.4.0"];

pub(crate) struct Python(PathBuf);

impl Python {
    /// The environment; none, and a line that says why, where there is none and cannot be one.
    pub(crate) fn or_skip(test: &str) -> Option<Self> {
        match Python::find() {
            Ok(python) => Some(python),
            Err(why) => {
                avocado_test_support::skip(test, why);
                None
            }
        }
    }

    fn find() -> Result<Self, String> {
        let cache = cache().ok_or("there is no HOME, and so no cache")?;
        let directory = cache.join("python-tuf");
        let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
        fs::create_dir_all(&directory).map_err(failed)?;
        // Tests run in parallel, and so may runs of all tests.
        let lock = File::create(directory.join(".lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;

        let (environment, done) = (directory.join("venv"), directory.join("installed"));
        let python = environment.join("bin/python");
        let wanted = PACKAGES.join("\n");
        if fs::read_to_string(&done).is_ok_and(|text| text == wanted) && works(&python) {
            return Ok(Python(python));
        }
        let _ = fs::remove_file(&done);
        let venv = Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment)
            .output();
        succeeded("python3-venv cannot make an environment", venv)?;
        let install = Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-input"])
            .args(["--disable-pip-version-check", "--retries=1", "--timeout=15"])
            .args(PACKAGES)
            .output();
        succeeded("python-tuf cannot be installed", install)?;
        fs::write(&done, wanted).map_err(failed)?;
        Ok(Python(python))
    }

    /// Runs a script of `tests/python`; what it says on stdout. Panics with all that it said when
    /// it fails.
    pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(&self, script: &str, arguments: &[A]) -> String {
        let output = self.output(script, arguments);
        assert!(output.status.success(), "{script}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn output<A: AsRef<std::ffi::OsStr>>(&self, script: &str, args: &[A]) -> Output {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
        Command::new(&self.0)
            // Nothing of this machine's Python, and nothing left beside the scripts.
            .args(["-I", "-B"])
            .arg(scripts.join(script))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn cache() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let own = given("AVOCADO_CACHE_DIR").map(PathBuf::from);
    own.or_else(|| {
        let base = given("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(given("HOME")?).join(".cache")))?;
        Some(base.join("avocado"))
    })
}

/// The Python it was made from may have been replaced since.
fn works(python: &Path) -> bool {
    let mut command = Command::new(python);
    let import = command.args(["-I", "-c", "import tuf.ngclient, cryptography"]);
    import.output().is_ok_and(|output| output.status.success())
}

fn succeeded(what: &str, result: std::io::Result<Output>) -> Result<(), String> {
    let why = match result {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => said(&output).lines().last().unwrap_or_default().to_owned(),
        Err(e) => e.to_string(),
    };
    Err(format!("{what}: {why}"))
}

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}
