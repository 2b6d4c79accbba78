use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use avocado_backend::Tool;
use avocado_events::Silent;

use super::super::compiled_package::CompiledPackage;
use super::*;
use crate::failure_kind::FailureKind;
use crate::layout::Layout;

/// What no path should need to be quoted for.
const AWKWARD: &str = "it's a \"$(touch pwned)\" \n $HOME; ";

/// A project and its state.
struct Place {
    directory: tempfile::TempDir,
    layout: Layout,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let layout = Layout::new(&state, &"t".parse().unwrap());
        fs::create_dir_all(layout.sdk()).unwrap();
        let place = Place { directory, layout };
        fs::create_dir_all(place.files().on_host).unwrap();
        place
    }

    fn files(&self) -> FilesOfProject {
        let place = self.directory.path().join(AWKWARD);
        FilesOfProject {
            on_host: place.clone(),
            in_step: place,
            is_foreign: false,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.files().on_host.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn set_up(&self, text: &str) {
        let sdk = self.layout.sdk();
        fs::write(sdk.join("environment-setup"), text).unwrap();
    }

    fn compile(&self, section: &str, script: &str) -> Result<Digest, BuildError> {
        self.compile_with("tools", section, script)
    }

    fn compile_with(&self, tools: &str, section: &str, script: &str) -> Result<Digest, BuildError> {
        let request = CompileRequest {
            section: section.to_owned(),
            script: Some(Hook::new(&self.files(), Path::new(script))?),
            with: Digest::of(tools.as_bytes()),
        };
        Ok(request.work(&self.context())?.built)
    }

    fn context(&self) -> StepContext<'static> {
        StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: self.layout.clone(),
            host_layout: Layout::new(Path::new("/seen"), &"t".parse().unwrap()),
            epoch: 7,
            modes: CopyModes::Keep,
            sink: &Silent,
            loop_mounts: None,
        }
    }
}

#[test]
fn a_program_is_compiled_and_installed() {
    let name = "a_program_is_compiled_and_installed";
    for tool in ["gcc", "make"] {
        if Tool::new(tool).arg("--version").run(&Silent).is_err() {
            avocado_test_support::skip(name, "gcc and make are not here");
            return;
        }
    }
    let place = Place::new();
    // Of more than one word, as for a compiler cache.
    place.set_up("export CC='/usr/bin/env\tgcc'\n");
    place.write("src/main.c", "int main(void) { return ANSWER; }\n");
    place.write(
        "src/Makefile",
        "$(OUT): main.c\n\t$(CC) -DANSWER=$(ANSWER) -o $@ $<\n",
    );
    place.write(
        "compile.sh",
        "set -eu\ncd src\nmake CC=\"$CC\" ANSWER=\"$SOURCE_DATE_EPOCH\" OUT=\"$AVOCADO_BUILD_DIR/answer\"\n",
    );
    let first = place.compile("app", "compile.sh").unwrap();
    assert_eq!(place.compile("app", "compile.sh").unwrap(), first);

    place.write(
        "install.sh",
        "install -D \"$AVOCADO_BUILD_DIR/answer\" \"$AVOCADO_BUILD_EXT_SYSROOT/usr/bin/answer\"\n",
    );
    let sysroot = place.directory.path().join("sysroot");
    let package = serde_json::json!({
        "name": "app",
        "section": "app",
        "install": Hook::new(&place.files(), Path::new("install.sh")).unwrap(),
    });
    let package: CompiledPackage = serde_json::from_value(package).unwrap();
    let variables = [("AVOCADO_BUILD_EXT_SYSROOT", sysroot.as_os_str())];
    let context = place.context();
    package.install(&context, "ext build", &variables).unwrap();
    let status = std::process::Command::new(sysroot.join("usr/bin/answer")).status();
    assert_eq!(status.unwrap().code(), Some(7));

    // Another source, another program.
    let source = "int main(void) { return ANSWER + 1; }\n";
    place.write("src/main.c", source);
    let main = place.files().on_host.join("src/main.c");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let file = fs::File::options().write(true).open(main).unwrap();
    file.set_modified(later).unwrap();
    assert_ne!(place.compile("app", "compile.sh").unwrap(), first);
}

#[test]
fn what_other_tools_left_is_not_compiled_on() {
    let place = Place::new();
    let script =
        "cd \"$AVOCADO_BUILD_DIR\"\necho >>lines\nwc -l <lines\ntest $(wc -l <lines) -lt 3\n";
    place.write("compile.sh", script);
    let lines = || {
        let file = place.layout.compile("app").join("lines");
        fs::read_to_string(file).unwrap().len()
    };
    place.compile("app", "compile.sh").unwrap();
    place.compile("app", "compile.sh").unwrap();
    assert_eq!(lines(), 2);
    place.compile("app", "compile.sh").unwrap_err();
    // Neither a failure nor another section changes what it was made with.
    place.compile_with("new", "other", "compile.sh").unwrap();
    assert_eq!(lines(), 3);
    place.compile_with("new", "app", "compile.sh").unwrap();
    assert_eq!(lines(), 1);
}

#[test]
fn what_a_script_said_is_kept_and_named() {
    let place = Place::new();
    place.write("compile.sh", "seq 1 500\nprintf '\\377\\n' >&2\nexit 3\n");
    let error = place.compile("the app/1", "compile.sh").unwrap_err();
    let said = error.to_string();
    let log = "/seen/t/logs/sdk-compile-the-app%2F1.log";
    let expected = format!("the script `compile.sh` failed; all that it said is in {log}");
    assert_eq!(said, expected);
    let log = place.layout.log("sdk compile the app/1");
    let kept = fs::read(log).unwrap();
    let lines = kept.split_inclusive(|b| *b == b'\n');
    assert_eq!(lines.clone().count(), 501);
    assert!(lines.clone().any(|line| line == b"1\n"));
    assert!(lines.clone().any(|line| line == b"\xff\n"));
}

#[test]
fn no_name_leaves_its_quotes() {
    for setup in [None, Some("export FROM_SDK=1\n")] {
        let place = Place::new();
        if let Some(text) = setup {
            place.set_up(text);
        }
        let shell = "#!/bin/sh\ntest \"${FROM_SDK:-}\" = \"$(cat from-sdk)\" || exit 1\nprintf %s \"$0\" >\"$AVOCADO_BUILD_DIR/name\"\n";
        place.write("from-sdk", if setup.is_some() { "1" } else { "" });
        for (script, mode) in [
            (format!("dir {AWKWARD}/-e {AWKWARD}.sh"), 0o755),
            (format!("{AWKWARD}'.sh"), 0o644),
        ] {
            place.write(&script, shell);
            let path = place.files().on_host.join(&script);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let section = AWKWARD;
            place.compile(section, &script).unwrap();
            let name = place.layout.compile(section).join("name");
            assert_eq!(Path::new(&fs::read_to_string(name).unwrap()), path);
        }
        assert!(!place.files().on_host.join("pwned").exists());
    }
}

#[test]
fn a_script_without_its_interpreter_is_told_as_such() {
    let place = Place::new();
    place.set_up("");
    place.write("compile", "#! /no/such/interpreter -x\n");
    let path = place.files().on_host.join("compile");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = place.compile("app", "compile").unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::InterpreterMissing));
}
