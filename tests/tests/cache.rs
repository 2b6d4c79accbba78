//! The cache of a team: what one machine made, another one takes, whatever lies in the cache.

#[path = "cache/authority.rs"]
mod authority;
#[path = "cache/bucket.rs"]
mod bucket;
mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use avocado_manifest::Digest;
use avocado_serve::{FileServer, ServeOptions, UploadOptions};
use avocado_testbed::project::{BuildEvents, TestProject};
use avocado_testbed::tools::{TestNeed, skip_without};
use common::{cannot_build, feed};
use serde_json::Value;
use tempfile::TempDir;

/// Machines that share a project, and nothing else but what a test gives them.
struct Team {
    directory: TempDir,
    /// Of the project, which is under version control.
    lock: PathBuf,
}

impl Team {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lock = common::whole_lock();
        Team { directory, lock }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A machine with a home of its own, and a clone at another path than any other's.
    fn machine(&self, name: &str, cache: &str) -> Machine {
        let home = self.path(name);
        let place = home.join(format!("work/of {name}"));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        common::copy_clone_of("hello", &place);
        fs::copy(&self.lock, place.join("avocado.lock")).unwrap();
        let project = TestProject::new(&place, &feed().url(), &home.join("keys")).unwrap();
        let machine = Machine {
            project: project.with_env("HOME", &home),
        };
        machine.state_cache(cache);
        machine
    }
}

struct Machine {
    project: TestProject,
}

impl Machine {
    /// Has the project state this cache.
    fn state_cache(&self, cache: &str) {
        let text = self.project.read("avocado.yaml").unwrap();
        let without = text.split("\ncache:").next().unwrap();
        let text = format!("{without}\ncache: {cache}\n");
        self.project.write("avocado.yaml", &text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> BuildEvents {
        self.project.events(arguments).unwrap()
    }

    /// Forgets all that was made here.
    fn forget(&self) {
        fs::remove_dir_all(self.project.directory().join(".avocado")).unwrap();
    }

    fn build(&self, more: &[&str]) -> BuildEvents {
        self.project.events(&[&["build"], more].concat()).unwrap()
    }

    /// The runtime that was built.
    fn manifest(&self) -> String {
        let path = "output/runtimes/dev/manifest.json";
        fs::read_to_string(self.project.state().join(path)).unwrap()
    }

    /// The id of the key that it signs with.
    fn key(&self) -> String {
        let list = ["signing-keys", "list", "--output", "json"];
        let list = self.project.avocado(&list).ok().unwrap();
        let list: Value = serde_json::from_str(&list.stdout).unwrap();
        list[0]["keyid"].as_str().unwrap().to_owned()
    }
}

/// Those of the steps that install something or make an image.
fn shared(steps: Vec<String>) -> Vec<String> {
    let is_shared = |step: &String| step.contains(" install") || step.contains(" image");
    steps.into_iter().filter(is_shared).collect()
}

/// What was told of the cache.
fn told(events: &BuildEvents) -> Vec<String> {
    let text = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
    let all = events.of("warning").map(text);
    all.filter(|text| text.contains("cache")).collect()
}

#[test]
fn a_second_machine_installs_nothing_and_makes_no_image() {
    if cannot_build("a_second_machine_installs_nothing_and_makes_no_image") {
        return;
    }
    let team = Team::new();
    let url = format!("file://{}", team.path("cache").display());
    let first = team.machine("first", &format!("{{url: '{url}'}}"));
    let events = first.build(&[]);
    assert_eq!(told(&events), [""; 0]);
    let steps = shared(events.steps("success"));
    assert!(steps.len() >= 9, "{steps:?}");

    let cache = format!("{{url: '{url}', trusted_keys: [{}]}}", first.key());
    let second = team.machine("second", &cache);
    let events = second.build(&["--explain"]);
    assert_eq!(told(&events), [""; 0]);
    assert_eq!(shared(events.steps("success")), [""; 0]);
    assert_eq!(shared(events.steps("skipped")), steps);
    assert_eq!(events.complete()["from_cache"], steps.len());
    let explained = events
        .of("info")
        .filter(|event| event["message"] == "from the cache");
    assert_eq!(explained.count(), steps.len());
    assert_eq!(second.manifest(), first.manifest());
    // What was taken is as good as what was made.
    assert_eq!(second.build(&[]).steps("success"), [""; 0]);
    second.project.avocado(&["sbom"]).ok().unwrap();
}

/// What takes an install of the SDK, of a rootfs and of an extension, and an image.
const WITH_PACKAGES: [&str; 3] = ["ext", "image", "hello"];
/// What takes nothing but one image.
const ONE_IMAGE: [&str; 3] = ["ext", "image", "hello-config"];

/// One machine gives what it made to a server, another one takes it from there.
fn is_shared_by(team: &Team, url: &str) {
    is_shared_by_cache(team, &format!("url: '{url}'"), &[]);
}

/// The same with what else the project says of the cache, and the variables that say who asks.
fn is_shared_by_cache(team: &Team, cache: &str, who: &[(&str, &str)]) {
    let machine = |name: &str, cache: &str| {
        let mut machine = team.machine(name, cache);
        for (name, value) in who {
            machine.project = machine.project.with_env(name, value);
        }
        machine
    };
    let first = machine("first", &format!("{{{cache}, push: true}}"));
    let events = first.run(&WITH_PACKAGES);
    assert_eq!(told(&events), [""; 0]);
    let steps = shared(events.steps("success"));
    assert!(steps.len() >= 4, "{steps:?}");
    let cache = format!("{{{cache}, trusted_keys: [{}]}}", first.key());
    let second = machine("second", &cache);
    let events = second.run(&WITH_PACKAGES);
    assert_eq!(told(&events), [""; 0]);
    assert_eq!(shared(events.steps("success")), [""; 0]);
    assert_eq!(shared(events.steps("skipped")), steps);
    let image = |machine: &Machine| {
        let path = "output/extensions/hello-1.0.0.raw";
        fs::read(machine.project.state().join(path)).unwrap()
    };
    assert!(image(&second) == image(&first));
}

/// A port of this machine that nothing listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A server of others, which ends with the test.
struct Nginx(Child);

impl Nginx {
    fn start(place: &Path, port: u16) -> Self {
        fs::create_dir_all(place.join("files")).unwrap();
        let place = place.display();
        let text = format!(
            "user root; worker_processes 1; pid {place}/pid; error_log {place}/log;
            events {{}}
            http {{ access_log off; client_body_temp_path {place}/body; server {{
                listen 127.0.0.1:{port};
                location / {{
                    root {place}/files; dav_methods PUT; create_full_put_path on;
                    client_max_body_size 0;
                }}
            }} }}"
        );
        let configuration = format!("{place}/nginx.conf");
        fs::write(&configuration, text).unwrap();
        let mut nginx = Command::new("nginx");
        nginx.args(["-c", &configuration, "-e", "stderr"]);
        nginx.args(["-g", "daemon off;"]).stdin(Stdio::null());
        let server = Nginx(nginx.spawn().unwrap());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "nginx does not listen");
            std::thread::yield_now();
        }
        server
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn nginx_is_a_cache_as_it_is() {
    let name = "nginx_is_a_cache_as_it_is";
    if cannot_build(name) || skip_without(name, &[TestNeed::Tool("nginx")]) {
        return;
    }
    let team = Team::new();
    let port = free_port();
    let _nginx = Nginx::start(&team.path("nginx"), port);
    is_shared_by(&team, &format!("http://127.0.0.1:{port}/of/team"));
}

#[test]
fn avocado_serve_is_a_cache_for_those_who_have_its_token() {
    if cannot_build("avocado_serve_is_a_cache_for_those_who_have_its_token") {
        return;
    }
    let team = Team::new();
    let root = team.path("served");
    fs::create_dir(&root).unwrap();
    let server = FileServer::start(ServeOptions {
        token: Some("s3cret".into()),
        uploads: Some(UploadOptions::default()),
        ..ServeOptions::new(&root)
    });
    let server = server.unwrap();
    let url = format!("http://team:s3cret@{}", server.address());
    is_shared_by(&team, &url);

    // Without the token there is no cache, and that is no failure.
    let stranger = team.machine(
        "stranger",
        &format!("{{url: '{}', push: true}}", server.url()),
    );
    let events = stranger.run(&ONE_IMAGE);
    let said = told(&events);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("401") && !said[0].contains("s3cret"),
        "{said:?}"
    );
    assert_eq!(shared(events.steps("success")), ["ext image hello-config"]);
    drop(server);

    // One that others only read.
    let server = FileServer::start(ServeOptions::new(&root)).unwrap();
    stranger.state_cache(&format!("{{url: '{}', push: true}}", server.url()));
    stranger.forget();
    let events = stranger.run(&WITH_PACKAGES);
    let said = told(&events);
    // What the first one made is of no trusted key; and nothing can be put there.
    let foreign = said
        .iter()
        .filter(|text| text.contains("not among the trusted keys"));
    let refused = said
        .iter()
        .filter(|text| text.contains("does not take results"));
    // The image is of the tree that was installed here, whose database says when.
    assert_eq!((foreign.count(), refused.count()), (3, 1), "{said:?}");
}

/// The only file of a directory of a cache.
fn only_file(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths.remove(0)
}

#[test]
fn whatever_lies_in_the_cache_the_image_is_right() {
    if cannot_build("whatever_lies_in_the_cache_the_image_is_right") {
        return;
    }
    let team = Team::new();
    let place = team.path("cache");
    let url = format!("file://{}", place.display());
    let first = team.machine("first", &format!("{{url: '{url}'}}"));
    first.run(&ONE_IMAGE);
    let image = only_file(&first.project.state().join("output/extensions"));
    let image = fs::read(image).unwrap();
    let (entry_at, blob_at) = (only_file(&place.join("ac")), only_file(&place.join("cas")));
    let (entry, blob) = (fs::read(&entry_at).unwrap(), fs::read(&blob_at).unwrap());
    assert!(blob == image);

    // Another team has the same project, and another key.
    let foreign = team.path("foreign");
    let url_of_foreign = format!("file://{}", foreign.display());
    let other = team.machine("other", &format!("{{url: '{url_of_foreign}'}}"));
    other.run(&ONE_IMAGE);
    let foreign = fs::read(only_file(&foreign.join("ac"))).unwrap();

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&entry).unwrap();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    };
    let mut wrong_blob = blob.clone();
    wrong_blob[2048] ^= 1;
    let mut large = vec![b' '; 5 << 20];
    large[0] = b'{';
    let (blob, entry) = (&blob, &entry);
    let wrong = [
        ("empty", Vec::new(), blob.clone(), "is not whole"),
        (
            "cut off",
            entry[..100].to_vec(),
            blob.clone(),
            "is not whole",
        ),
        (
            "of another format",
            b"{}".to_vec(),
            blob.clone(),
            "is not whole",
        ),
        ("too long", large, blob.clone(), "is longer than"),
        (
            "unsigned",
            changed(&|entry| entry["signatures"] = Value::Array(Vec::new())),
            blob.clone(),
            "is not signed",
        ),
        (
            "foreign",
            foreign,
            blob.clone(),
            "not among the trusted keys",
        ),
        (
            "forged",
            changed(&|entry| {
                entry["signed"]["files"][0]["blob"]["sha256"] =
                    Digest::of(b"forged").to_string().into();
            }),
            blob.clone(),
            "is not over what it says",
        ),
        (
            "of another place",
            changed(&|entry| entry["signed"]["files"][0]["path"] = "../../x".into()),
            blob.clone(),
            "is not over what it says",
        ),
        (
            "a blob that is cut off",
            entry.clone(),
            blob[..100].to_vec(),
            "shorter",
        ),
        (
            "a blob that is too long",
            entry.clone(),
            [&blob[..], b"x"].concat(),
            "longer",
        ),
        ("another blob", entry.clone(), wrong_blob, "digest"),
    ];
    let cache = format!("{{url: '{url}', trusted_keys: [{}]}}", first.key());
    let second = team.machine("second", &cache);
    let image_of_second = || {
        let image = only_file(&second.project.state().join("output/extensions"));
        fs::read(image).unwrap()
    };
    for (name, entry, blob, why) in wrong {
        fs::write(&entry_at, entry).unwrap();
        fs::write(&blob_at, blob).unwrap();
        let events = second.run(&ONE_IMAGE);
        let said = told(&events);
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(said[0].contains(why), "{name}: {said:?}");
        let made = shared(events.steps("success"));
        assert_eq!(made, ["ext image hello-config"], "{name}");
        assert!(image_of_second() == image, "{name}");
        second.forget();
    }
    // What left the cache is simply not there.
    fs::write(&entry_at, entry).unwrap();
    fs::remove_file(&blob_at).unwrap();
    assert_eq!(told(&second.run(&ONE_IMAGE)), [""; 0]);
    second.forget();
    // And what is whole again is taken.
    fs::write(&blob_at, blob).unwrap();
    let events = second.run(&ONE_IMAGE);
    assert_eq!(shared(events.steps("success")), [""; 0]);
    assert!(image_of_second() == image);
    second.forget();
    let events = second.run(&[&ONE_IMAGE[..], &["--no-cache"]].concat());
    assert_eq!(shared(events.steps("success")), ["ext image hello-config"]);
}

/// What was warned of where a result was made holds where it is taken, too.
#[test]
fn what_was_warned_of_is_told_wherever_the_result_is_taken() {
    if cannot_build("what_was_warned_of_is_told_wherever_the_result_is_taken") {
        return;
    }
    let team = Team::new();
    let url = format!("file://{}", team.path("cache").display());
    let machine = |name: &str, cache: &str| {
        let machine = team.machine(name, cache);
        let text = machine.project.read("avocado.yaml").unwrap();
        let overlay = "    overlay: overlay/hello-config\n";
        assert!(text.contains(overlay));
        let matchless = format!("{overlay}    var_files: [etc/nothing-of-it/*]\n");
        let text = text.replace(overlay, &matchless);
        machine.project.write("avocado.yaml", &text).unwrap();
        machine
    };
    let warned = |events: &BuildEvents| -> Vec<Value> {
        let of_image = events.of("warning");
        let of_image = of_image.filter(|event| event["stage"] == "ext image hello-config");
        of_image.map(|event| event["message"].clone()).collect()
    };
    let first = machine("first", &format!("{{url: '{url}'}}"));
    let made = first.run(&ONE_IMAGE);
    assert_eq!(warned(&made).len(), 1);
    let cache = format!("{{url: '{url}', trusted_keys: [{}]}}", first.key());
    let second = machine("second", &cache);
    let taken = second.run(&ONE_IMAGE);
    assert_eq!(shared(taken.steps("success")), [""; 0]);
    assert_eq!(warned(&taken), warned(&made));
}

/// What is not good is put there again by the next one that makes it and may give it: else no machine
/// would ever take it from there.
#[test]
fn what_is_not_good_in_the_cache_is_put_there_again() {
    if cannot_build("what_is_not_good_in_the_cache_is_put_there_again") {
        return;
    }
    let team = Team::new();
    let place = team.path("cache");
    let url = format!("file://{}", place.display());
    let first = team.machine("first", &format!("{{url: '{url}'}}"));
    first.run(&ONE_IMAGE);
    let cache = format!("{{url: '{url}', trusted_keys: [{}]}}", first.key());
    let second = team.machine("second", &cache);
    let (entry, blob) = (only_file(&place.join("ac")), only_file(&place.join("cas")));
    let whole = fs::read(&blob).unwrap();
    let mut another = whole.clone();
    another[2048] ^= 1;
    let cases: [(&str, &dyn Fn()); 5] = [
        ("a blob that left", &|| fs::remove_file(&blob).unwrap()),
        ("a blob that is cut off", &|| {
            fs::write(&blob, &whole[..100]).unwrap();
        }),
        ("another blob", &|| fs::write(&blob, &another).unwrap()),
        ("an entry that is cut off", &|| {
            fs::write(&entry, "{").unwrap()
        }),
        ("an entry that is no file", &|| {
            fs::remove_file(&entry).unwrap();
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mknodat(rustix::fs::CWD, &entry, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
    ];
    for (name, spoil) in cases {
        spoil();
        first.forget();
        let made = shared(first.run(&ONE_IMAGE).steps("success"));
        assert_eq!(made, ["ext image hello-config"], "{name}");
        let events = second.run(&ONE_IMAGE);
        assert_eq!(told(&events), [""; 0], "{name}");
        assert_eq!(shared(events.steps("success")), [""; 0], "{name}");
        assert!(fs::read(&blob).unwrap() == whole, "{name}");
        second.forget();
    }
}

#[test]
fn a_cache_that_does_not_answer_costs_one_time_out() {
    if cannot_build("a_cache_that_does_not_answer_costs_one_time_out") {
        return;
    }
    let team = Team::new();
    // It accepts, reads and says nothing.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            kept.push(stream);
        }
    });
    let cache = format!("{{url: 'http://{address}', push: true}}");
    let machine = team.machine("first", &cache);
    let project = machine
        .project
        .clone()
        .with_env("AVOCADO_PARALLEL_TASKS", "1");
    let events = project.events(&WITH_PACKAGES).unwrap();
    let said = told(&events);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("left out for the rest of this run"),
        "{said:?}"
    );
    assert!(shared(events.steps("success")).len() >= 4);
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    // Where nothing listens, the same at once; and one that is there again is asked again.
    machine.state_cache(&format!(
        "{{url: 'http://127.0.0.1:{}', push: true}}",
        free_port()
    ));
    machine.forget();
    let said = told(&machine.run(&ONE_IMAGE));
    assert_eq!(said.len(), 1, "{said:?}");
    // A host without an answer is no reason to ask it where nothing is to be requested.
    machine.forget();
    assert_eq!(
        told(&machine.run(&[&ONE_IMAGE[..], &["--frozen"]].concat())),
        [""; 0]
    );
}
