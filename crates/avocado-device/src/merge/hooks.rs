//! The commands that extensions ask for. A command that fails, or that cannot even be started, is
//! reported and passed over: by then the overlays are in place, and a device with all extensions
//! and one warning is better than one that stopped half way.

use std::path::Path;

use avocado_events::{Event, Sink};

use super::release::Command;
use super::state::State;
use super::systemd::Manager;
use crate::{Paths, tool};

/// These prepare what other commands and services stand on, so they come before all others.
const FIRST: [&str; 4] = ["depmod", "ldconfig", "systemd-sysusers", "systemd-tmpfiles"];

/// What is to be done after a merge, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct AfterMerge {
    first: Vec<Command>,
    modules: Vec<String>,
    rest: Vec<Command>,
    start: Vec<String>,
    restart: Vec<String>,
}

impl AfterMerge {
    fn new(before: &State, now: &State) -> Self {
        let mut plan = AfterMerge::default();
        for extension in &now.extensions {
            for command in &extension.on_merge {
                let first = FIRST.contains(&program_name(command));
                let list = if first {
                    &mut plan.first
                } else {
                    &mut plan.rest
                };
                once(list, command);
            }
            extension
                .modules
                .iter()
                .for_each(|m| once(&mut plan.modules, m));
            let replaced = before
                .get(&extension.image.name)
                .is_some_and(|old| old.image.sha256 != extension.image.sha256);
            for service in &extension.services {
                let list = if replaced {
                    &mut plan.restart
                } else {
                    &mut plan.start
                };
                once(list, service);
            }
        }
        plan.start.retain(|service| !plan.restart.contains(service));
        plan
    }
}

fn once<T: Clone + PartialEq>(list: &mut Vec<T>, item: &T) {
    if !list.contains(item) {
        list.push(item.clone());
    }
}

fn program_name(command: &Command) -> &str {
    let program = command.first().map(String::as_str).unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default()
}

/// Does what follows a merge: early commands, modules, the manager's reload, the other commands,
/// services. Services whose extension has other bytes now are restarted, the others started.
pub(crate) fn after_merge(paths: &Paths, before: &State, now: &State, sink: &dyn Sink) {
    let plan = AfterMerge::new(before, now);
    run_all(&plan.first, sink);
    for module in &plan.modules {
        let program = paths.tools.modprobe.to_string_lossy().into_owned();
        run_one(&[program, "--".to_owned(), module.clone()], sink);
    }
    let manager = Manager::running(paths);
    if let Some(manager) = &manager {
        warn_if("systemctl daemon-reload", manager.reload(), sink);
    }
    run_all(&plan.rest, sink);
    if let Some(manager) = &manager {
        for (job, services) in [("start", &plan.start), ("restart", &plan.restart)] {
            for service in services {
                // One by one, so that one unknown name does not stop the others.
                warn_if(service, manager.ask(job, &[service]), sink);
            }
        }
    }
}

/// Does what precedes an unmerge, for what goes away or changes: its commands, and the end of
/// services whose extension is not to come back.
pub(crate) fn before_unmerge(paths: &Paths, before: &State, now: &State, sink: &dyn Sink) {
    let mut commands = Vec::new();
    let mut services = Vec::new();
    for extension in before.not_in(now) {
        extension
            .on_unmerge
            .iter()
            .for_each(|c| once(&mut commands, c));
        if now.get(&extension.image.name).is_none() {
            extension
                .services
                .iter()
                .for_each(|s| once(&mut services, s));
        }
    }
    let staying = |s: &String| now.extensions.iter().any(|e| e.services.contains(s));
    services.retain(|service| !staying(service));
    run_all(&commands, sink);
    if let Some(manager) = Manager::running(paths) {
        for service in &services {
            warn_if(service, manager.ask("stop", &[service]), sink);
        }
    }
}

/// Does what follows an unmerge of everything.
pub(crate) fn after_unmerge(paths: &Paths, before: &State, sink: &dyn Sink) {
    let mut commands = before.extensions.iter().flat_map(|e| &e.on_merge);
    if commands.any(|c| program_name(c) == "depmod") {
        run_one(&[paths.tools.depmod.to_string_lossy().into_owned()], sink);
    }
    if let Some(manager) = Manager::running(paths) {
        warn_if("systemctl daemon-reload", manager.reload(), sink);
    }
}

fn run_all(commands: &[Command], sink: &dyn Sink) {
    commands.iter().for_each(|command| run_one(command, sink));
}

fn run_one(command: &[String], sink: &dyn Sink) {
    let Some((program, args)) = command.split_first() else {
        return;
    };
    let name = command.join(" ");
    sink.emit(Event::info(format!("running `{name}`")));
    match tool::must(Path::new(program), args) {
        Ok(ended) => {
            for line in ended.said.lines() {
                sink.emit(Event::output(name.as_str(), line));
            }
        }
        Err(reason) => warn_if(&name, Err(reason), sink),
    }
}

fn warn_if(name: &str, result: Result<(), crate::Reason>, sink: &dyn Sink) {
    if let Err(reason) = result {
        let cause = std::error::Error::source(&reason);
        let cause = cause.map(|c| format!(": {c}")).unwrap_or_default();
        sink.emit(Event {
            item: name.to_owned(),
            ..Event::warning(format!("{reason}{cause}"))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::state::{Image, Merged};
    use avocado_manifest::Digest;
    use std::sync::Mutex;

    fn extension(name: &str, bytes: &str, on_merge: &[&str], services: &[&str]) -> Merged {
        let command = |c: &&str| c.split(' ').map(str::to_owned).collect();
        Merged {
            image: Image {
                name: name.parse().unwrap(),
                version: "1".parse().unwrap(),
                image_id: None,
                file: name.into(),
                sha256: Digest::of(bytes.as_bytes()),
            },
            link: String::new(),
            sysext: true,
            confext: false,
            on_merge: on_merge.iter().map(command).collect(),
            on_unmerge: Vec::new(),
            modules: vec!["m".to_owned()],
            services: services.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    fn state(extensions: &[Merged]) -> State {
        State {
            runtime: None,
            extensions: extensions.to_vec(),
        }
    }

    #[test]
    fn order_is_that_of_the_manifest_with_the_early_ones_first() {
        let now = state(&[
            extension(
                "z",
                "1",
                &["b 1", "/usr/sbin/depmod -a", "a"],
                &["z.service"],
            ),
            extension("a", "1", &["a", "systemd-tmpfiles --create", "b 2"], &[]),
        ]);
        let plan = AfterMerge::new(&State::default(), &now);
        let words = |l: &[Command]| l.iter().map(|c| c.join(" ")).collect::<Vec<_>>();
        assert_eq!(
            words(&plan.first),
            ["/usr/sbin/depmod -a", "systemd-tmpfiles --create"]
        );
        assert_eq!(words(&plan.rest), ["b 1", "a", "b 2"]);
        assert_eq!(plan.modules, ["m"]);
        assert_eq!(plan.start, ["z.service"]);
    }

    #[test]
    fn services_of_a_changed_extension_are_restarted() {
        let before = state(&[
            extension("changed", "1", &[], &["c"]),
            extension("same", "1", &[], &["s"]),
            extension("gone", "1", &[], &["g"]),
        ]);
        let now = state(&[
            extension("changed", "2", &[], &["c", "both"]),
            extension("same", "1", &[], &["s", "both"]),
            extension("new", "1", &[], &["n"]),
        ]);
        let plan = AfterMerge::new(&before, &now);
        assert_eq!(plan.restart, ["c", "both"]);
        assert_eq!(plan.start, ["s", "n"]);
        let names: Vec<_> = before.not_in(&now).map(|e| e.image.name.as_str()).collect();
        assert_eq!(names, ["changed", "gone"]);
    }

    #[test]
    fn a_failing_command_is_a_warning_and_the_next_one_runs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made");
        let seen = Mutex::new(Vec::new());
        let sink = |e: Event| {
            if e.kind == avocado_events::Kind::Warning {
                seen.lock().unwrap().push(e.item);
            }
        };
        let touch = format!("touch {}", file.display());
        let now = state(&[extension(
            "a",
            "1",
            &["false", "/nonexistent x", &touch],
            &[],
        )]);
        let mut paths = Paths::new(dir.path());
        paths.systemd = dir.path().join("no-systemd");
        paths.tools.modprobe = "true".into();
        after_merge(&paths, &State::default(), &now, &sink);
        assert!(file.exists());
        assert_eq!(*seen.lock().unwrap(), ["false", "/nonexistent x"]);
    }
}
