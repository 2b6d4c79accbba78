//! What the project compiles with the tools of its SDK: the example, what compiles it again, what
//! its scripts are given and what is kept of what they say.

mod common;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use avocado_manifest::Digest;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::{AWKWARD, Sandbox, cannot_compile, ran};
use serde_json::Value;

/// What the program says that is in the image of the example.
fn greeting(sandbox: &Sandbox) -> String {
    let tree = sandbox.directory.path().join("tree");
    let state = sandbox.project.state();
    let image = state.join("output/extensions/greeter-1.0.0.raw");
    let unpack = ToolCall::new("unsquashfs").args(["-f", "-d"]).arg(&tree);
    unpack.arg(image).ok().unwrap();
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let program = ToolCall::new(tree.join("usr/bin/greeter"));
    let said = program.env("LD_LIBRARY_PATH", libraries).ok().unwrap();
    said.stdout
}

#[test]
fn a_program_is_compiled_again_for_what_it_is_made_of_and_for_nothing_else() {
    if cannot_compile("a_program_is_compiled_again_for_what_it_is_made_of_and_for_nothing_else") {
        return;
    }
    let sandbox = Sandbox::example("compiled");
    let project = &sandbox.project;
    let first = "2024/edge/snapshots/20260101T000000Z";
    let earlier = project.clone().with_env("AVOCADO_RELEASEVER", first);
    let compile = ["sdk", "compile"];
    assert_eq!(
        ran(&earlier, &compile),
        [
            "sdk compile greeter",
            "sdk install",
            "sdk install target-sysroot"
        ]
    );
    assert_eq!(ran(&earlier, &compile), [""; 0]);
    let build = ["ext", "image"];
    let steps = ran(&earlier, &build);
    assert!(steps.contains(&"ext image greeter".into()), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("sdk")), "{steps:?}");
    assert_eq!(greeting(&sandbox), "Hello, says libgreeting 1.0.0\n");
    let nothing = earlier.events(&build).unwrap();
    let complete = nothing.complete();
    assert_eq!(
        (&complete["ran"], &complete["processes"]),
        (&0.into(), &0.into())
    );

    // What is compiled against.
    fs::remove_file(project.directory().join("avocado.lock")).unwrap();
    let steps = ran(project, &build);
    for step in [
        "sdk install target-sysroot",
        "sdk compile greeter",
        "ext image greeter",
    ] {
        assert!(steps.contains(&step.into()), "{step}: {steps:?}");
    }
    assert_eq!(greeting(&sandbox), "Hello, says libgreeting 1.1.0\n");

    // A source, and one that another source includes.
    let text = "#define TEXT \"Good day\"\n";
    project.write("greeter/src/text.h", text).unwrap();
    let compiled = [
        "ext build greeter",
        "ext image greeter",
        "sdk compile greeter",
    ];
    assert_eq!(ran(project, &build), compiled);
    assert_eq!(greeting(&sandbox), "Good day, says libgreeting 1.1.0\n");
    assert_eq!(ran(project, &build), [""; 0]);

    // A script, and what might have been a source: what comes out is the same, and that ends it.
    let script = project.read("greeter/compile.sh").unwrap();
    for (file, text) in [
        (
            "greeter/compile.sh",
            script.as_str().to_owned() + "# the end\n",
        ),
        ("greeter/README", "none\n".to_owned()),
    ] {
        project.write(file, &text).unwrap();
        let steps = ran(project, &build);
        assert_eq!(
            steps,
            ["ext build greeter", "sdk compile greeter"],
            "{file}"
        );
        assert_eq!(ran(project, &build), [""; 0], "{file}");
    }
    project
        .write(
            "greeter/compile.sh",
            &script.replace("-O2", "-O2 -DTEXT='\"Other\"'"),
        )
        .unwrap();
    project.write("greeter/src/text.h", "").unwrap();
    assert_eq!(ran(project, &build), compiled);
    assert_eq!(greeting(&sandbox), "Other, says libgreeting 1.1.0\n");

    // The whole runtime, and not once more for it.
    let steps = ran(project, &["build"]);
    assert!(
        !steps.iter().any(|step| step.contains("greeter")),
        "{steps:?}"
    );
    assert_eq!(
        project.events(&["build"]).unwrap().complete()["processes"],
        0
    );
}

#[test]
fn what_a_failing_script_said_is_whole_in_the_log_that_the_error_names() {
    if cannot_compile("what_a_failing_script_said_is_whole_in_the_log_that_the_error_names") {
        return;
    }
    let sandbox = Sandbox::example("compiled");
    let project = &sandbox.project;
    let source = project.read("greeter/src/main.c").unwrap();
    project
        .write("greeter/src/main.c", "int main(void) { return unknown; }\n")
        .unwrap();
    let script = project.read("greeter/compile.sh").unwrap();
    let script = script.replace(
        "set -eu\n",
        "set -eu\nseq -f 'line %g' 1 5000\nprintf '\\377' >&2\n",
    );
    project.write("greeter/compile.sh", &script).unwrap();
    let said = project.avocado(&["ext", "image", "greeter"]).run().unwrap();
    assert_eq!(said.status.code(), Some(1), "{said}");
    assert!(
        said.stderr.contains("sdk compile greeter: failed"),
        "{said}"
    );
    assert!(said.stderr.contains("unknown"), "{said}");
    let log = project.state().join("logs/sdk-compile-greeter.log");
    assert!(said.stderr.contains(&log.display().to_string()), "{said}");
    let kept = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    for number in [1, 2500, 5000] {
        let line = format!("line {number}");
        assert!(kept.lines().any(|kept| kept == line), "{line}");
    }
    assert!(kept.contains("main.c:1"), "{kept}");
    // It is done over, and what was kept is of the last run.
    project.write("greeter/src/main.c", &source).unwrap();
    project
        .write("greeter/compile.sh", &script.replace("5000", "5"))
        .unwrap();
    assert!(ran(project, &["ext", "image"]).contains(&"sdk compile greeter".into()));
    assert_eq!(greeting(&sandbox), "Hello, says libgreeting 1.1.0\n");
    let kept = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    assert!(
        kept.contains("line 5\n") && !kept.contains("line 6\n"),
        "{kept}"
    );
}

#[test]
fn what_a_script_says_is_shown_while_it_runs() {
    if cannot_compile("what_a_script_says_is_shown_while_it_runs") {
        return;
    }
    let sandbox = Sandbox::example("compiled");
    let project = &sandbox.project;
    // It goes on when its first line was seen: else both would wait for ever.
    let pipe = project.directory().join("go");
    ToolCall::new("mkfifo").arg(&pipe).ok().unwrap();
    project
        .write(
            "greeter/compile.sh",
            "echo ready\nread word <go\necho \"got $word\"\n",
        )
        .unwrap();
    let mut command = project.command(&["sdk", "compile", "--output", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    // Opened for both, so that it waits for nobody; a script that is gone ends the test.
    let mut go = File::options().read(true).write(true).open(&pipe).unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = event["message"].as_str().unwrap_or_default();
        if text == "ready" {
            go.write_all(b"on\n").unwrap();
        }
        seen.push(text.to_owned());
    }
    assert!(child.wait().unwrap().success(), "{seen:?}");
    assert!(seen.contains(&"got on".to_owned()), "{seen:?}");
}

#[test]
fn no_name_of_a_path_leaves_its_quotes() {
    if cannot_compile("no_name_of_a_path_leaves_its_quotes") {
        return;
    }
    let sandbox = Sandbox::example_at("compiled", &format!("{AWKWARD}\n2"));
    let project = &sandbox.project;
    let place = project.directory();
    fs::write(place.join(format!("greeter/\n{AWKWARD}")), "").unwrap();
    fs::rename(place.join("greeter"), place.join(AWKWARD)).unwrap();
    let quoted = serde_json::to_string(AWKWARD).unwrap();
    let mut yaml = project.read("avocado.yaml").unwrap();
    for script in ["compile.sh", "clean.sh", "install.sh"] {
        let path = serde_json::to_string(&format!("{AWKWARD}/{script}")).unwrap();
        yaml = yaml.replace(&format!("greeter/{script}"), &path);
    }
    yaml = yaml.replace(
        "    greeter:\n      compile",
        &format!("    {quoted}:\n      compile"),
    );
    yaml = yaml.replace("compile: greeter\n", &format!("compile: {quoted}\n"));
    project.write("avocado.yaml", &yaml).unwrap();
    for (script, mode) in [("compile.sh", 0o755), ("install.sh", 0o644)] {
        let path = format!("{AWKWARD}/{script}");
        let text = project.read(&path).unwrap();
        let text = text.replace("set -eu\n", "set -eu\nwhere=$(dirname \"$0\")\n");
        let text = text.replace(" greeter/", " \"$where\"/");
        project.write(&path, &text).unwrap();
        fs::set_permissions(place.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let steps = ran(project, &["ext", "image"]);
    let step = format!("sdk compile {AWKWARD}");
    assert!(steps.contains(&step), "{steps:?}");
    assert_eq!(greeting(&sandbox), "Hello, says libgreeting 1.1.0\n");
    assert_eq!(ran(project, &["ext", "image"]), [""; 0]);
    assert_eq!(ran(project, &["sdk", "compile", AWKWARD]), [""; 0]);
    let pwned = ToolCall::new("find").arg(sandbox.directory.path());
    let pwned = pwned.args(["-name", "pwned"]).ok().unwrap();
    assert_eq!(pwned.stdout, "");
    // A line of its own is nothing that a script could be called by.
    let yaml = project.read("avocado.yaml").unwrap();
    project
        .write(
            "avocado.yaml",
            &yaml.replace("/compile.sh", "/\\ncompile.sh"),
        )
        .unwrap();
    let said = project.avocado(&["sdk", "compile"]).run().unwrap();
    assert!(said.stderr.contains("avocado.yaml:19:16"), "{said}");
    assert!(said.stderr.contains("control characters"), "{said}");
    project.write("avocado.yaml", &yaml).unwrap();
    // Its failure is told with its log.
    project
        .write(&format!("{AWKWARD}/compile.sh"), "false\n")
        .unwrap();
    let said = project.avocado(&["sdk", "compile"]).run().unwrap();
    assert_eq!(said.status.code(), Some(1), "{said}");
    let logs = fs::read_dir(project.state().join("logs")).unwrap();
    for log in logs.map(|log| log.unwrap().file_name().into_string().unwrap()) {
        assert!(!log.contains(['\n', '$', '*']), "{log}");
    }
}

#[test]
fn the_scripts_of_a_fetched_section_are_those_of_its_own_checkout() {
    if cannot_compile("the_scripts_of_a_fetched_section_are_those_of_its_own_checkout") {
        return;
    }
    let sandbox = Sandbox::example("compiled");
    let project = &sandbox.project;
    // The example as it is becomes what is fetched; a project of other files uses it.
    let place = sandbox.directory.path();
    let far = place.join("far");
    fs::rename(project.directory(), &far).unwrap();
    let git = |arguments: &[&str]| {
        let call = ToolCall::new("git").arg("-C").arg(&far);
        let call = call.args(["-c", "user.name=t", "-c", "user.email=t@t"]);
        call.args(arguments).ok().unwrap();
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "x"]);
    let yaml = format!(
        "default_target: qemux86-64
distro: {{release: '2024', channel: edge}}
sdk: {{packages: {{avocado-sdk-toolchain: '*'}}}}
extensions:
  greeter: {{source: {{type: git, url: 'file://{}', ref: main}}}}
  near: {{source: {{type: path, path: ../near}}}}
runtimes: {{dev: {{extensions: [greeter, near]}}}}
",
        far.display()
    );
    project.write("avocado.yaml", &yaml).unwrap();
    // Of the same names, and wrong.
    project.write("greeter/compile.sh", "exit 7\n").unwrap();
    project.write("greeter/install.sh", "exit 7\n").unwrap();
    let near = place.join("near");
    fs::create_dir_all(near.join("greeter")).unwrap();
    fs::write(
        near.join("avocado.yaml"),
        "sdk: {compile: {near: {compile: greeter/compile.sh}}}
extensions: {near: {version: 1.0.0, packages: {near: {compile: near, install: greeter/install.sh}}}}
",
    )
    .unwrap();
    let script =
        "cat greeter/word >\"$AVOCADO_BUILD_DIR/word\"\npwd >>\"$AVOCADO_BUILD_DIR/word\"\n";
    fs::write(near.join("greeter/compile.sh"), script).unwrap();
    let script =
        "install -D \"$AVOCADO_BUILD_DIR/word\" \"$AVOCADO_BUILD_EXT_SYSROOT/usr/share/word\"\n";
    fs::write(near.join("greeter/install.sh"), script).unwrap();
    fs::write(near.join("greeter/word"), "near\n").unwrap();

    let steps = ran(project, &["ext", "image"]);
    for step in ["sdk compile greeter", "sdk compile near", "ext image near"] {
        assert!(steps.contains(&step.into()), "{step}: {steps:?}");
    }
    assert_eq!(greeting(&sandbox), "Hello, says libgreeting 1.1.0\n");
    let word = project.state().join("extensions/near/usr/share/word");
    assert_eq!(
        fs::read_to_string(&word).unwrap(),
        "near\n/opt/includes/near\n"
    );
    assert_eq!(ran(project, &["ext", "image"]), [""; 0]);

    // What is there counts where it is used.
    fs::write(near.join("greeter/word"), "nearer\n").unwrap();
    assert_eq!(
        ran(project, &["ext", "image"]),
        ["ext build near", "ext image near", "sdk compile near"]
    );
    assert_eq!(
        fs::read_to_string(&word).unwrap(),
        "nearer\n/opt/includes/near\n"
    );
}

#[test]
fn a_runtime_has_the_kernel_and_the_packages_that_the_project_compiles() {
    const NAME: &str = "a_runtime_has_the_kernel_and_the_packages_that_the_project_compiles";
    if cannot_compile(NAME) || skip_without(NAME, &[TestNeed::Tool("fsck.erofs")]) {
        return;
    }
    let sandbox = Sandbox::example("custom-kernel");
    let project = &sandbox.project;
    // One more package, for everything that can have one.
    let package = "tool: {compile: tool, install: tool/install.sh}";
    let yaml = project.read("avocado.yaml").unwrap();
    let yaml = yaml
        .replace(
            "  compile:\n",
            "  compile:\n    tool: {compile: tool/compile.sh}\n",
        )
        .replace(
            "rootfs:\n",
            &format!("rootfs:\n  packages: {{avocado-pkg-rootfs: '*', {package}}}\n"),
        )
        .replace(
            "      avocado-runtime",
            &format!("      {package}\n      avocado-runtime"),
        );
    project.write("avocado.yaml", &yaml).unwrap();
    let compile = "cat tool/text >\"$AVOCADO_BUILD_DIR/tool\"\n";
    project.write("tool/compile.sh", compile).unwrap();
    project.write("tool/text", "one\n").unwrap();
    let install = "root=${AVOCADO_BUILD_EXT_SYSROOT:-$AVOCADO_RUNTIME_BUILD_DIR/tools}
install -D -m 0755 \"$AVOCADO_BUILD_DIR/tool\" \"$root/usr/bin/tool\"\n";
    project.write("tool/install.sh", install).unwrap();

    let built = project.events(&["build"]).unwrap();
    let steps = built.steps("success");
    for step in [
        "sdk compile kernel",
        "sdk compile tool",
        "runtime compile dev",
    ] {
        assert!(steps.contains(&step.into()), "{step}: {steps:?}");
    }
    let state = project.state();
    let kernel = fs::read(state.join("sdk/x86_64/build/kernel/arch/x86/boot/bzImage")).unwrap();
    let release = state.join("sdk/x86_64/build/kernel/include/config/kernel.release");
    let version = fs::read_to_string(release).unwrap();
    let manifest = fs::read(state.join("output/runtimes/dev/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["kernel"]["version"], version.trim());
    let digest = Digest::of(&kernel).to_string();
    assert_eq!(manifest["kernel"]["sha256"], digest.as_str());
    // It is the one that a VM starts, and the feed's is not beside it.
    let image = fs::read(state.join("output/runtimes/dev/vm/Image")).unwrap();
    assert!(image == kernel);
    assert!(!state.join("kernel").exists());
    let lock = project.read("avocado.lock").unwrap();
    let lock: Value = serde_json::from_str(&lock).unwrap();
    let rootfs = &lock["targets"]["qemux86-64"]["rootfs"];
    let rootfs: Vec<&String> = rootfs.as_object().unwrap().keys().collect();
    assert!(
        !rootfs.iter().any(|name| name.starts_with("kernel")),
        "{rootfs:?}"
    );

    let installed = || {
        let tree = sandbox.directory.path().join("rootfs");
        let _ = fs::remove_dir_all(&tree);
        let image = state.join("runtimes/dev/avocado-image-rootfs-qemux86-64.erofs-lz4");
        let unpack = ToolCall::new("fsck.erofs").arg(format!("--extract={}", tree.display()));
        unpack.arg(image).ok().unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let release = read(&tree.join("usr/lib/os-release"));
        let id = release.lines().find(|line| line.contains("OS_BUILD_ID"));
        (
            read(&tree.join("usr/bin/tool")),
            read(&state.join("runtimes/dev/tools/usr/bin/tool")),
            id.unwrap().to_owned(),
        )
    };
    let first = installed();
    assert_eq!((first.0.as_str(), first.1.as_str()), ("one\n", "one\n"));
    let nothing = project.events(&["build"]).unwrap();
    assert_eq!(nothing.complete()["processes"], 0);

    // What is no part of it changes nothing of it, not its id either.
    project.write("README", "none\n").unwrap();
    let steps = ran(project, &["build"]);
    assert!(
        !steps.iter().any(|step| step.contains("repository")),
        "{steps:?}"
    );
    assert_eq!(installed(), first);
    project.write("tool/text", "two\n").unwrap();
    let steps = ran(project, &["build"]);
    assert!(
        steps.contains(&"runtime repository dev".into()),
        "{steps:?}"
    );
    let second = installed();
    assert_eq!((second.0.as_str(), second.1.as_str()), ("two\n", "two\n"));
    assert_ne!(second.2, first.2);

    let out = sandbox.directory.path().join("out");
    let copy = ["kernel", "image", "--out", out.to_str().unwrap()];
    project.avocado(&copy).ok().unwrap();
    assert!(fs::read(out.join("bzImage")).unwrap() == kernel);

    // A script that installs none is told.
    project.write("kernel/install.sh", "true\n").unwrap();
    let said = project.avocado(&["build"]).run().unwrap();
    assert_eq!(said.status.code(), Some(1), "{said}");
    assert!(
        said.stderr.contains("kernel/install.sh") && said.stderr.contains("bzImage"),
        "{said}"
    );
}
