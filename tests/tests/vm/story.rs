//! The long story of one VM, chapter by chapter.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use avocado_testbed::project::BuildEvents;
use avocado_testbed::vm::TestVm;
use avocado_testbed::vm::docker::DockerEngine;
use avocado_testbed::vm::notify::NotifyHints;
use avocado_testbed::vm::session::GuestSession;
use serde_json::Value;

use crate::harness::{Hold, SOON, free_port, image, lock_qemu};
use crate::{ending, released, sleeping, working};

/// The guest falls asleep after so many seconds without activity.
pub(crate) const IDLE: u64 = 3;

/// A VM whose guest sleeps soon.
pub(crate) struct Story {
    pub(crate) vm: TestVm,
    pub(crate) hints: NotifyHints,
    pub(crate) image: String,
    pub(crate) infra_port: String,
    pub(crate) workspace: PathBuf,
    pub(crate) engine: DockerEngine,
}

impl Story {
    pub(crate) fn new(image: &Path) -> Self {
        let vm = TestVm::new().unwrap();
        let socket = vm.scratch().join("desktop.sock");
        let hints = NotifyHints::listen(&socket).unwrap();
        let vm = vm.with_env("AVOCADO_DESKTOP_SOCKET", socket);
        let workspace = vm.scratch().join("workspace");
        fs::create_dir(&workspace).unwrap();
        let engine = DockerEngine::new(vm.file("docker.sock"));
        let story = Story {
            vm,
            hints,
            image: image.display().to_string(),
            infra_port: free_port(),
            workspace,
            engine,
        };
        story.configure("idle.hibernate_after_secs", &IDLE.to_string());
        story
    }

    pub(crate) fn configure(&self, key: &str, value: &str) {
        self.vm.vm(&["config", "set", key, value]).ok().unwrap();
    }

    pub(crate) fn start(&self) -> BuildEvents {
        let workspace = self.workspace.display().to_string();
        let options = [
            ["--vm-source", &self.image],
            ["--workspace", &workspace],
            ["--infra-port", &self.infra_port],
            ["--memory-mib", "768"],
            ["--cpus", "2"],
            ["--var-size", "2G"],
        ];
        let mut arguments = options.concat();
        arguments.push("--docker-socket-stream");
        self.vm.start(&arguments).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        self.vm.status().unwrap()
    }

    pub(crate) fn asleep(&self) -> Value {
        self.vm.wait_for("hibernated", SOON).unwrap()
    }

    /// A shell that does not count, in a guest that is awake.
    pub(crate) fn visit(&self) -> (Hold, GuestSession) {
        let hold = Hold::new(&self.vm);
        (hold, self.vm.session("infra_ssh").unwrap())
    }

    pub(crate) fn release(&self) -> Value {
        let answer = self.vm.ask("release").unwrap();
        assert!(
            answer.get("result").is_some(),
            "{answer}\n{}",
            self.vm.log("supervisor.log")
        );
        self.vm.wait_for("released", SOON).unwrap()
    }
}

/// Says where the story is.
fn chapter(name: &str) {
    static START: Mutex<Option<Instant>> = Mutex::new(None);
    let mut start = START.lock().unwrap_or_else(PoisonError::into_inner);
    let start = start.get_or_insert_with(Instant::now);
    println!("{:7.1} s  {name}", start.elapsed().as_secs_f64());
}

#[test]
fn a_guest_sleeps_and_wakes_and_nothing_is_lost() {
    let name = "a_guest_sleeps_and_wakes_and_nothing_is_lost";
    let Some(image) = image(name) else { return };
    let _lock = lock_qemu();
    let story = Story::new(&image);

    chapter("the first start");
    working::start(&story);
    chapter("commands");
    working::shell(&story);
    chapter("containers");
    let container = working::containers(&story);
    chapter("the workspace");
    working::workspace(&story);
    chapter("asleep");
    let (hold, mut session) = story.visit();
    drop(hold);
    sleeping::sleep(&story);
    chapter("awake again");
    sleeping::wake(&story, &mut session);
    chapter("the supervisor is killed");
    sleeping::adopted(&story, &mut session);
    drop(session);
    chapter("the memory is released");
    let synced = released::released(&story, &container);
    chapter("saved memory that does not fit");
    released::refused(&story, &synced);
    chapter("containers keep awake, if asked");
    sleeping::kept_awake(&story, &container);
    chapter("QEMU is killed");
    ending::ended(&story);
    chapter("a guest that does not stop, and one that does");
    ending::stubborn(&story);
    chapter("stopped");
    ending::stopped(&story);
    chapter("stopped while it starts");
    ending::stopped_early(&story);
    chapter("reset");
    ending::reset(&story);
    chapter("a power cut after the first boot");
    ending::cut_off(&story);
    chapter("the end");
}

pub(crate) fn warnings(events: &BuildEvents) -> Vec<String> {
    let text = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
    events.of("warning").map(text).collect()
}
