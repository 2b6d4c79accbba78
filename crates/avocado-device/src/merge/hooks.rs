//! The commands that extensions ask for.
//!
//! A command of an extension that fails, cannot be started or does not end in time means that the
//! new set does not work: the caller goes back to the one before, if there is one. What only
//! prepares the system as a whole (indexes, users, modules) or asks the service manager for
//! something is reported and passed over: a device with all extensions and a warning is better
//! than one without them. The same goes for commands before an unmerge, which could otherwise keep
//! a broken extension in its place.

use std::path::Path;
use std::time::Duration;

use avocado_events::{Event, Sink};

use super::release::HookCommand;
use super::service_manager::ServiceManager;
use super::state::MergedState;
use super::units;
use crate::error::FailureReason;
use crate::hitl;
use crate::paths::DevicePaths;
use crate::tool;
use avocado_events::chain;

/// These prepare what other commands and services stand on, so they come before all others.
const FIRST: [&str; 4] = ["depmod", "ldconfig", "systemd-sysusers", "systemd-tmpfiles"];

/// A command and the extension, with its version, that asked for it first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hook {
    command: HookCommand,
    extension: String,
}

/// What is to be done after a merge, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct AfterMergePlan {
    first: Vec<Hook>,
    modules: Vec<String>,
    rest: Vec<Hook>,
    start: Vec<String>,
    restart: Vec<String>,
}

impl AfterMergePlan {
    fn new(before: &MergedState, now: &MergedState) -> Self {
        let mut plan = AfterMergePlan::default();
        for extension in &now.extensions {
            for command in &extension.on_merge {
                let first = FIRST.contains(&program_name(command));
                let list = if first {
                    &mut plan.first
                } else {
                    &mut plan.rest
                };
                if !list.iter().any(|hook| hook.command == *command) {
                    list.push(Hook {
                        command: command.clone(),
                        extension: extension.image.full_name(),
                    });
                }
            }
            extension
                .modules
                .iter()
                .for_each(|m| once(&mut plan.modules, m));
            let replaced = before
                .get(&extension.image.name)
                .is_some_and(|old| !old.image.has_bytes_of(&extension.image));
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

fn strs(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

fn once<T: Clone + PartialEq>(list: &mut Vec<T>, item: &T) {
    if !list.contains(item) {
        list.push(item.clone());
    }
}

fn program_name(command: &HookCommand) -> &str {
    let program = command.first().map(String::as_str).unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default()
}

/// Runs the commands.
#[derive(Clone, Copy)]
pub(crate) struct Hooks<'a> {
    pub(crate) paths: &'a DevicePaths,
    /// How long each may take.
    pub(crate) limit: Duration,
    pub(crate) sink: &'a dyn Sink,
}

impl Hooks<'_> {
    /// Does what follows a merge: early commands, modules, the manager's reload, the other
    /// commands, services. Services whose extension has other bytes now are restarted, the others
    /// started. The error is the first command of an extension that failed: the last thing that is
    /// done when that is `fatal`, and otherwise reported as well.
    pub(crate) fn after_merge(
        &self,
        before: &MergedState,
        now: &MergedState,
        fatal: bool,
    ) -> Result<(), FailureReason> {
        let plan = AfterMergePlan::new(before, now);
        let mut failed = Ok(());
        for hook in &plan.first {
            self.report(&hook.command.join(" "), self.run(&hook.command));
        }
        for module in &plan.modules {
            let program = self.paths.tools.modprobe.to_string_lossy().into_owned();
            let command = [program, "--".to_owned(), module.clone()];
            self.report(&command.join(" "), self.run(&command));
        }
        let manager = ServiceManager::running(self.paths);
        if let Some(manager) = &manager {
            self.bind(now);
            self.report("systemctl daemon-reload", manager.reload());
            for (job, unit) in units::readers(before, now) {
                self.report(unit, manager.ask(job, &[unit]));
            }
        }
        for Hook { command, extension } in &plan.rest {
            let result = self.run(command);
            // Older builds load modules like this.
            if program_name(command) == "modprobe" || result.is_ok() {
                self.report(&command.join(" "), result);
                continue;
            }
            let failure = result.map_err(|reason| FailureReason::Hook {
                extension: extension.clone(),
                source: Box::new(reason),
            });
            if fatal {
                return failure;
            }
            if failed.is_ok() {
                failed = failure;
            } else {
                self.report(&command.join(" "), failure);
            }
        }
        if let Some(manager) = &manager {
            for (job, services) in [("start", &plan.start), ("restart", &plan.restart)] {
                for service in services {
                    // One by one, so that one unknown name does not stop the others.
                    self.report(service, manager.ask(job, &[service]));
                }
            }
            let wanted = units::wanted(manager, &units::fresh(before, now));
            let started = wanted.and_then(|wanted| manager.ask("start", &strs(&wanted)));
            self.report("units of extensions", started);
        }
        failed
    }

    /// Does what precedes an unmerge, for what goes away or changes: its commands, and the end of
    /// services and units whose extension is not to come back. With `wait` they have ended then; who
    /// is part of a shutdown must not wait for others that are.
    pub(crate) fn before_unmerge(&self, before: &MergedState, now: &MergedState, wait: bool) {
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
        for command in &commands {
            self.report(&command.join(" "), self.run(command));
        }
        if let Some(manager) = ServiceManager::running(self.paths) {
            for service in &services {
                self.report(service, manager.ask("stop", &[service]));
            }
            let gone = units::gone(before, now);
            let stopped = if wait {
                manager.stop(&strs(&gone), self.limit)
            } else {
                manager.ask("stop", &strs(&gone))
            };
            self.report("units of extensions", stopped);
        }
    }

    /// Does what follows an unmerge of everything.
    pub(crate) fn after_unmerge(&self, before: &MergedState) {
        let mut commands = before.extensions.iter().flat_map(|e| &e.on_merge);
        if commands.any(|c| program_name(c) == "depmod") {
            let command = [self.paths.tools.depmod.to_string_lossy().into_owned()];
            self.report(&command.join(" "), self.run(&command));
        }
        if let Some(manager) = ServiceManager::running(self.paths) {
            self.bind(&MergedState::default());
            self.report("systemctl daemon-reload", manager.reload());
        }
    }

    /// Lets the services of what is merged from servers, and no others, end with their mounts.
    fn bind(&self, now: &MergedState) {
        for reason in hitl::bind_services(self.paths, now) {
            self.report("services of servers", Err(reason));
        }
    }

    /// Says what went wrong and was passed over.
    pub(crate) fn report(&self, name: &str, result: Result<(), FailureReason>) {
        if let Err(reason) = result {
            self.sink.emit(Event {
                item: name.to_owned(),
                ..Event::warning(chain(&reason))
            });
        }
    }

    fn run(&self, command: &[String]) -> Result<(), FailureReason> {
        let Some((program, args)) = command.split_first() else {
            return Ok(());
        };
        let name = command.join(" ");
        self.sink.emit(Event::info(format!("running `{name}`")));
        let ended = tool::must_within(Path::new(program), args, self.limit)?;
        for line in ended.said.lines() {
            self.sink.emit(Event::output(name.as_str(), line));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::state::{LayerImage, MergedExtension};
    use avocado_manifest::Digest;
    use std::sync::Mutex;

    fn extension(name: &str, bytes: &str, on_merge: &[&str], services: &[&str]) -> MergedExtension {
        let command = |c: &&str| c.split(' ').map(str::to_owned).collect();
        MergedExtension {
            image: LayerImage {
                name: name.parse().unwrap(),
                version: Some("1".parse().unwrap()),
                image_id: None,
                file: name.into(),
                sha256: Some(Digest::of(bytes.as_bytes())),
                hitl: None,
            },
            link: String::new(),
            sysext: true,
            confext: false,
            on_merge: on_merge.iter().map(command).collect(),
            on_unmerge: Vec::new(),
            modules: vec!["m".to_owned()],
            services: services.iter().map(|s| (*s).to_owned()).collect(),
            systemd: Default::default(),
        }
    }

    fn state(extensions: &[MergedExtension]) -> MergedState {
        MergedState {
            runtime: None,
            extensions: extensions.to_vec(),
            degraded: None,
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
        let plan = AfterMergePlan::new(&MergedState::default(), &now);
        let words = |l: &[Hook]| l.iter().map(|h| h.command.join(" ")).collect::<Vec<_>>();
        assert_eq!(
            words(&plan.first),
            ["/usr/sbin/depmod -a", "systemd-tmpfiles --create"]
        );
        assert_eq!(words(&plan.rest), ["b 1", "a", "b 2"]);
        let asked: Vec<_> = plan.rest.iter().map(|h| h.extension.as_str()).collect();
        assert_eq!(asked, ["z-1", "z-1", "a-1"], "each by the first that asked");
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
        let plan = AfterMergePlan::new(&before, &now);
        assert_eq!(plan.restart, ["c", "both"]);
        assert_eq!(plan.start, ["s", "n"]);
        let names: Vec<_> = before.not_in(&now).map(|e| e.image.name.as_str()).collect();
        assert_eq!(names, ["changed", "gone"]);
    }

    #[test]
    fn a_failing_command_is_told_and_ends_it_only_if_it_should() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made");
        let seen = Mutex::new(Vec::new());
        let sink = |e: Event| {
            if e.kind == avocado_events::EventKind::Warning {
                seen.lock().unwrap().push(e.item);
            }
        };
        let touch = format!("touch {}", file.display());
        let commands = [
            "modprobe x",
            "false",
            "/nonexistent x",
            "sleep 1000",
            &touch,
        ];
        let now = state(&[extension("a", "1", &commands, &[])]);
        let mut paths = DevicePaths::new(dir.path());
        paths.systemd = dir.path().join("no-systemd");
        paths.tools.modprobe = "false".into();
        let hooks = Hooks {
            paths: &paths,
            limit: Duration::from_millis(200),
            sink: &sink,
        };
        for fatal in [true, false] {
            let result = hooks.after_merge(&MergedState::default(), &now, fatal);
            let Err(FailureReason::Hook { extension, source }) = result else {
                panic!("{result:?}");
            };
            assert_eq!(extension, "a-1");
            assert!(source.to_string().starts_with("false failed"), "{source}");
            assert_eq!(file.exists(), !fatal);
        }
        let seen = seen.lock().unwrap();
        let modules = ["false -- m", "modprobe x"];
        assert_eq!(seen[..2], modules);
        assert_eq!(seen[2..4], modules);
        assert_eq!(seen[4..], ["/nonexistent x", "sleep 1000"]);
    }
}
