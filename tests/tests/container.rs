//! Builds in containers of podman and docker: the bytes of this host's builds, nothing to do where nothing
//! changed, nothing left behind, and errors that lead on.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use avocado_testbed::docker::DockerService;
use avocado_testbed::sdk_image::SdkImage;
use avocado_testbed::tools::{TestNeed, ToolCall, find, skip_without};
use common::{Sandbox, cannot_build};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

fn cannot_contain(name: &str) -> bool {
    cannot_build(name) || skip_without(name, &[TestNeed::Tool("podman"), TestNeed::Tool("runc")])
}

fn image() -> &'static SdkImage {
    static IMAGE: OnceLock<SdkImage> = OnceLock::new();
    IMAGE.get_or_init(|| SdkImage::ensure().unwrap())
}

/// What makes the containers of a case.
#[derive(Clone, Copy)]
enum Engine<'a> {
    Podman,
    Docker(&'a DockerService),
}

impl Engine<'_> {
    fn name(self) -> &'static str {
        match self {
            Engine::Podman => "podman",
            Engine::Docker(_) => "docker",
        }
    }

    fn call(self, arguments: &[&str]) -> ToolCall {
        match self {
            Engine::Podman => image().podman(arguments),
            Engine::Docker(service) => service.docker(arguments),
        }
    }

    /// The example, which says which image its SDK is in.
    fn sandbox(self) -> Sandbox {
        let mut sandbox = Sandbox::fresh();
        sandbox.project = match self {
            Engine::Podman => {
                let configuration = image().configuration();
                sandbox.project.with_env("CONTAINERS_CONF", configuration)
            }
            Engine::Docker(service) => sandbox.project.with_env("DOCKER_HOST", service.host()),
        };
        state_image(&sandbox, image().name());
        sandbox
    }

    /// Whether there is a container of this process of avocado.
    fn has_container(self, avocado: &Child) -> bool {
        let names = self.call(&["ps", "--all", "--format", "{{.Names}}"]);
        let own = format!("avocado-{}-", avocado.id());
        names.ok().unwrap().stdout.contains(&own)
    }
}

fn state_image(sandbox: &Sandbox, image: &str) {
    let yaml = sandbox.project.read("avocado.yaml").unwrap();
    let stated = yaml
        .lines()
        .find(|line| line.starts_with("  image: "))
        .unwrap();
    let yaml = yaml.replacen(stated, &format!("  image: {image}"), 1);
    sandbox.project.write("avocado.yaml", &yaml).unwrap();
}

#[test]
fn a_container_makes_the_same_bytes_as_the_host_and_has_nothing_to_do_then() {
    if cannot_contain("a_container_makes_the_same_bytes_as_the_host_and_has_nothing_to_do_then") {
        return;
    }
    makes_the_same_bytes(Engine::Podman);
}

fn makes_the_same_bytes(engine: Engine<'_>) {
    let container = engine.name();
    let (here, there) = (engine.sandbox(), engine.sandbox());
    let build = |sandbox: &Sandbox, backend: &str| {
        let arguments = ["build", "--no-var", "--backend", backend];
        sandbox.project.events(&arguments).unwrap()
    };
    let digests = |sandbox: &Sandbox, backend: &str| {
        let made = build(sandbox, backend).artifacts().into_iter();
        // Each project has a key of its own, and a repository is signed with it.
        let made = made.filter(|a| a.kind != "repository");
        made.map(|a| (a.kind, a.name, a.sha256)).collect::<Vec<_>>()
    };
    let on_host = digests(&here, "host");
    assert!(on_host.len() >= 5, "{on_host:?}");
    assert_eq!(digests(&there, container), on_host);
    // Neither does it matter where a project was built before.
    for (sandbox, backend) in [(&there, container), (&there, "host"), (&here, container)] {
        assert_eq!(build(sandbox, backend).complete()["ran"], 0, "{backend}");
    }
}

#[test]
fn scripts_see_in_a_container_what_they_see_on_the_host() {
    if cannot_contain("scripts_see_in_a_container_what_they_see_on_the_host") {
        return;
    }
    scripts_see_what_they_see_on_the_host(Engine::Podman);
}

fn scripts_see_what_they_see_on_the_host(engine: Engine<'_>) {
    let sandbox = engine.sandbox();
    sandbox
        .project
        .write(
            "avocado.yaml",
            &format!(
                "default_target: qemux86-64\ndistro: {{release: '2024', channel: edge}}\n\
                 sdk: {{image: '{}', container_args: ['--env=OF_THE_USER=1']}}\n\
                 extensions:\n  app:\n    version: 1.0.0\n    types: [sysext]\n    overlay: overlay\n    \
                 post_build: look\n",
                image().name()
            ),
        )
        .unwrap();
    sandbox.project.write("overlay/usr/share/a/b", "b").unwrap();
    let look = "#!/bin/sh\nset -eu\nplace=$AVOCADO_BUILD_EXT_SYSROOT/usr/share/a\n\
                test \"$AVOCADO_TARGET\" = qemux86-64\ntest \"$OF_THE_USER\" = 1\n\
                test -z \"${HOSTNAME-}${container-}\"\n\
                test -f /opt/src/overlay/usr/share/a/b\ntest ! -e \"$KEYS\"\n\
                test -n \"$(ls /opt/_avocado)\"\nid -u >\"$place/user\"\n\
                cat /etc/debian_version >\"$place/system\"\n";
    let keys = sandbox.directory.path().join("keys").display().to_string();
    let look = look.replace("$KEYS", &keys);
    sandbox.project.write("look", &look).unwrap();
    let script = sandbox.project.directory().join("look");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let output = sandbox
        .project
        .avocado(&["ext", "build", "app", "--backend", engine.name()])
        .run()
        .unwrap();
    assert!(output.status.success(), "{output}");
    let place = sandbox.project.state().join("extensions/app/usr/share/a");
    assert_eq!(fs::read_to_string(place.join("user")).unwrap(), "0\n");
    assert!(place.join("system").exists());
}

#[test]
fn nothing_of_a_container_outlives_avocado() {
    if cannot_contain("nothing_of_a_container_outlives_avocado") {
        return;
    }
    nothing_outlives_avocado(Engine::Podman);
}

fn nothing_outlives_avocado(engine: Engine<'_>) {
    for signal in [Signal::TERM, Signal::KILL] {
        let sandbox = engine.sandbox();
        let project = &sandbox.project;
        project
            .write(
                "avocado.yaml",
                &format!(
                    "default_target: qemux86-64\ndistro: {{release: '2024', channel: edge}}\n\
                     sdk: {{image: '{}'}}\nextensions:\n  app:\n    version: 1.0.0\n    \
                     types: [sysext]\n    post_build: wait\n",
                    image().name()
                ),
            )
            .unwrap();
        let wait = "#!/bin/sh\n: >/opt/src/began\nexec sleep 86399\n";
        project.write("wait", wait).unwrap();
        let script = project.directory().join("wait");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = project
            .command(&["ext", "build", "app", "--backend", engine.name()])
            .spawn()
            .unwrap();
        let began = project.directory().join("began");
        until("the script begins", || began.exists());
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        // Where it was asked to stop it has seen to that itself.
        if signal == Signal::TERM {
            assert!(!engine.has_container(&child));
        } else {
            until("the container is gone", || !engine.has_container(&child));
        }
    }
}

#[test]
fn a_command_of_the_users_has_its_streams_its_signals_and_its_status() {
    let name = "a_command_of_the_users_has_its_streams_its_signals_and_its_status";
    if cannot_contain(name) || skip_without(name, &[TestNeed::Tool("script")]) {
        return;
    }
    a_command_has_its_streams_its_signals_and_its_status(Engine::Podman);
}

fn a_command_has_its_streams_its_signals_and_its_status(engine: Engine<'_>) {
    let sandbox = engine.sandbox();
    let project = &sandbox.project;
    let install = project.avocado(&["sdk", "install", "--backend", engine.name()]);
    install.ok().unwrap();
    let command = |script| ["sdk", "run", "--backend", engine.name(), "sh", "-c", script];

    let script = "cat; pwd; id -u; echo said >&2; exit 7";
    let output = project.avocado(&command(script)).input("heard\n").run();
    let output = output.unwrap();
    assert_eq!(output.stdout, "heard\n/opt/src\n0\n", "{output}");
    assert_eq!(output.stderr, "said\n", "{output}");
    assert_eq!(output.status.code(), Some(7), "{output}");

    let script = "test -t 0 && test -t 1 && test -t 2 && trap 'exit 5' INT && kill -INT $$";
    let output = common::at_terminal(project, &command(script));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{said}");

    // Without one it is told what avocado's group is told.
    let begin = || {
        let script = "trap 'exit 6' INT; : >began; while :; do sleep 0.1; done";
        let mut waiting = common::interruptible(&project.command(&command(script)));
        let child = waiting.process_group(0).spawn().unwrap();
        let began = project.directory().join("began");
        until("the command begins", || began.exists());
        fs::remove_file(began).unwrap();
        child
    };
    // An engine that has only just begun passes nothing on: it ends, and avocado was interrupted.
    let interrupted = || {
        let mut child = begin();
        kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
        let status = child.wait().unwrap();
        assert!(!engine.has_container(&child));
        status.code()
    };
    let mut codes = (0..100).map(|_| interrupted());
    assert_eq!(codes.find(|code| *code != Some(130)), Some(Some(6)));

    // One that waits for its turn is no command yet.
    let mut first = begin();
    let mut second = common::interruptible(&project.command(&command("exit 4")));
    let mut second = second.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("wait"), "{line}");
    kill_process(Pid::from_child(&second), Signal::INT).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(130));

    // What ends avocado ends the command.
    kill_process(Pid::from_child(&first), Signal::TERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert!(!engine.has_container(&first));

    let mut child = begin();
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    until("the container is gone", || !engine.has_container(&child));

    // And where the engine's client is gone there is nothing to wait for.
    let mut child = begin();
    let clients = ToolCall::new("pgrep").args(["-P", &child.id().to_string(), engine.name()]);
    let client = clients.ok().unwrap().stdout.trim().parse().unwrap();
    kill_process(Pid::from_raw(client).unwrap(), Signal::KILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!engine.has_container(&child));
}

/// Waits for what comes sooner or later, on a busy machine too.
fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !is() {
        assert!(Instant::now() < deadline, "{what}: did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn docker_makes_containers_as_podman_does() {
    let name = "docker_makes_containers_as_podman_does";
    let tools = ["dockerd", "docker", "script"].map(TestNeed::Tool);
    if cannot_contain(name) || skip_without(name, &tools) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("store");
    let service = DockerService::start(&store, &place.path().join("work")).unwrap();
    let archive = image().archive().to_str().unwrap();
    let import = service.docker(&["import", archive, image().name()]);
    import.ok().unwrap();
    let engine = Engine::Docker(&service);
    makes_the_same_bytes(engine);
    scripts_see_what_they_see_on_the_host(engine);
    nothing_outlives_avocado(engine);
    a_command_has_its_streams_its_signals_and_its_status(engine);
}

#[test]
fn what_is_wrong_with_containers_leads_to_the_host() {
    if cannot_contain("what_is_wrong_with_containers_leads_to_the_host") {
        return;
    }
    let sandbox = Engine::Podman.sandbox();
    let project = &sandbox.project;
    // What is there of this machine, but for engines.
    let programs = sandbox.directory.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let docker = programs.join("docker");
    fs::write(
        &docker,
        "#!/bin/sh\necho 'cannot connect to the daemon' >&2\nexit 1\n",
    )
    .unwrap();
    let run_with = |path: &std::path::Path, backend| {
        let project = project.clone().with_env("PATH", path);
        let output = project
            .avocado(&["build", "--backend", backend])
            .run()
            .unwrap();
        assert!(!output.status.success(), "{output}");
        output.stderr
    };
    let run = |path: &std::path::Path| run_with(path, "container");
    let shown = run(&programs);
    assert!(
        shown.contains("neither podman nor docker is on PATH"),
        "{shown}"
    );
    assert!(shown.contains("--backend host"), "{shown}");

    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let shown = run_with(&programs, "podman");
    assert!(shown.contains("podman is not on PATH"), "{shown}");
    assert!(shown.contains("--backend host"), "{shown}");
    let shown = run(&programs);
    assert!(shown.contains("docker cannot reach its service"), "{shown}");
    assert!(shown.contains("cannot connect to the daemon"), "{shown}");
    assert!(shown.contains("--backend host"), "{shown}");

    state_image(&sandbox, "localhost/no-such-image:at-all");
    let podman = find("podman").unwrap();
    let shown = run(podman.parent().unwrap());
    assert!(
        shown.contains("podman cannot pull the image `localhost/no-such-image:at-all`"),
        "{shown}"
    );
    assert!(shown.contains("--backend host"), "{shown}");
}
