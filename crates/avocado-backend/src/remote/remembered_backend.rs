//! What another machine said of its tools in the last run there, for who only looks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use avocado_events::{Cancel, Sink};
use avocado_ssh::SshAddress;
use serde::{Deserialize, Serialize};

use crate::{Backend, BackendError, Capabilities, Job, Processor, ToolQuery, remembered};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// Of one machine: the last one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct MachineTools {
    format: u32,
    /// As the user named it.
    machine: String,
    /// By name; nothing for a tool that it does not have.
    tools: BTreeMap<String, Option<String>>,
    /// By processor.
    emulators: BTreeMap<String, Option<String>>,
}

impl MachineTools {
    /// What is known of that machine.
    pub(super) fn read(file: &Path, machine: &str) -> Self {
        let known: Self = remembered::read(file).unwrap_or_default();
        if known.format == FORMAT && known.machine == machine {
            return known;
        }
        MachineTools {
            format: FORMAT,
            machine: machine.to_owned(),
            ..MachineTools::default()
        }
    }

    pub(super) fn keep_tool(&mut self, file: &Path, tool: &str, said: Option<&str>) {
        self.tools.insert(tool.to_owned(), said.map(str::to_owned));
        remembered::write(file, self);
    }

    pub(super) fn keep_emulator(&mut self, file: &Path, processor: Processor, said: Option<&str>) {
        let said = said.map(str::to_owned);
        self.emulators.insert(processor.to_string(), said);
        remembered::write(file, self);
    }
}

/// Another machine as the last run there left it, without a connection to it. A tool of which it did not
/// say what it is, is said to be another one than before.
#[derive(Debug)]
pub struct RememberedBackend {
    machine: String,
    known: MachineTools,
}

impl RememberedBackend {
    /// The machine at `address`, as the file `identities` has it.
    #[must_use]
    pub fn new(address: &SshAddress, identities: PathBuf) -> Self {
        let machine = address.to_string();
        let known = MachineTools::read(&identities, &machine);
        RememberedBackend { machine, known }
    }

    fn unknown(&self, what: &str) -> String {
        format!("{what} of {}, which was not asked yet", self.machine)
    }
}

impl Backend for RememberedBackend {
    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn run(&self, job: &Job, _: &Cancel, _: &dyn Sink) -> Result<serde_json::Value, BackendError> {
        Err(BackendError::Remote {
            host: self.machine.clone(),
            action: format!("run `{}`", job.stage),
            said: ": nothing connects to it for a look".to_owned(),
        })
    }

    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError> {
        let known = self.known.tools.get(query.tool).cloned();
        Ok(known.unwrap_or_else(|| Some(self.unknown(query.tool))))
    }

    fn emulator_identity(&self, processor: Processor) -> Result<Option<String>, BackendError> {
        let known = self.known.emulators.get(processor.as_str()).cloned();
        Ok(known.unwrap_or_else(|| Some(self.unknown("an emulator"))))
    }

    fn processes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_said_is_known_of_it_and_of_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tools.json");
        let query = ToolQuery {
            tool: "mkthing",
            arguments: &["--version"],
        };
        let said = |address: &str| {
            let backend = RememberedBackend::new(&address.parse().unwrap(), file.clone());
            assert_eq!(backend.processes(), 0);
            let emulator = backend.emulator_identity(Processor::Aarch64).unwrap();
            (backend.tool_identity(&query).unwrap(), emulator)
        };
        let (tool, emulator) = said("me@a");
        assert!(tool.unwrap().contains("not asked") && emulator.unwrap().contains("not asked"));
        let mut known = MachineTools::read(&file, "me@a");
        known.keep_tool(&file, "mkthing", Some("mkthing 1"));
        known.keep_emulator(&file, Processor::Aarch64, None);
        assert_eq!(said("me@a"), (Some("mkthing 1".to_owned()), None));
        assert!(said("me@b").0.unwrap().contains("me@b"));
    }
}
