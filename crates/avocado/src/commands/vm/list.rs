//! `avocado vm list`.

use std::path::PathBuf;

use avocado_vm::dir::{StateDir, StateFile};
use avocado_vm::image::{ImageDir, MANIFEST};
use avocado_vm::named;
use avocado_vm::status::{VmPorts, VmState};
use serde::Serialize;

use super::{failure, machine};
use crate::failure::Result;
use crate::session::Session;

/// The version of the document.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct VmList {
    version: u32,
    vms: Vec<ListedVm>,
}

#[derive(Debug, Serialize)]
struct ListedVm {
    /// None where `AVOCADO_VM_STATE_DIR` names it.
    name: Option<String>,
    /// None where nothing could say.
    state: Option<VmState>,
    ports: VmPorts,
    image_version: Option<String>,
    platform: Option<String>,
    disk_bytes: Option<u64>,
    state_dir: PathBuf,
    problem: Option<String>,
}

pub(super) fn run(session: &Session) -> Result<()> {
    let mut vms = Vec::new();
    if let Some(dir) = session.environment.vm_stated_dir()? {
        vms.push(listed(None, &StateDir::new(dir)));
    }
    if let Ok(home) = session.environment.user_vms() {
        for (name, dir) in home.all().map_err(failure)? {
            vms.push(listed(Some(name.as_str().to_owned()), &dir));
        }
    }
    let list = VmList {
        version: VERSION,
        vms,
    };
    session.output.answer(&list, || human(&list))
}

/// One that cannot be looked at is told with the others.
fn listed(name: Option<String>, dir: &StateDir) -> ListedVm {
    let status = machine::look(dir);
    let disk = named::disk_use(dir);
    let problem = match (&status, &disk) {
        (Err(failure), _) => Some(failure.message.clone()),
        (Ok(status), Ok(_)) => status.problem.clone(),
        (Ok(status), Err(error)) => status.problem.clone().or(Some(error.to_string())),
    };
    let status = status.ok();
    // Of one that does not run: the image of its last start.
    let image = || ImageDir::load(&last_image(dir)?).ok();
    let image = match &status {
        Some(status) if status.platform.is_some() => None,
        _ => image(),
    };
    let of_image = image.as_ref().map(ImageDir::manifest);
    ListedVm {
        name,
        state: status.as_ref().map(|status| status.state),
        ports: (status.as_ref()).map_or_else(VmPorts::default, |status| status.ports.clone()),
        image_version: (status
            .as_ref()
            .and_then(|status| status.image_version.clone()))
        .or_else(|| of_image.and_then(|image| image.version.clone())),
        platform: (status.as_ref().and_then(|status| status.platform.clone()))
            .or_else(|| of_image.map(|image| image.platform.to_string())),
        disk_bytes: disk.ok(),
        state_dir: dir.root().to_owned(),
        problem,
    }
}

/// The directory of the image of the last start, or else the one that is installed.
fn last_image(dir: &StateDir) -> Option<PathBuf> {
    let last = dir.read_line(StateFile::ArtifactDir).map(PathBuf::from);
    let installed = || Some(dir.file(StateFile::Install));
    last.or_else(installed)
        .filter(|image| image.join(MANIFEST).exists())
}

fn human(list: &VmList) -> String {
    if list.vms.is_empty() {
        return "there is no VM; `avocado vm start` makes one\n".to_owned();
    }
    let rows = list.vms.iter().map(|vm| {
        let name = match &vm.name {
            Some(name) => name.clone(),
            None => vm.state_dir.display().to_string(),
        };
        let state = vm.state.map_or("unknown", super::status::word);
        let port = |port: Option<u16>| port.map(|port| port.to_string()).unwrap_or_default();
        [
            name,
            state.to_owned(),
            port(vm.ports.ssh),
            port(vm.ports.infra_ssh),
            vm.image_version.clone().unwrap_or_default(),
            vm.disk_bytes.map(avocado_text::bytes).unwrap_or_default(),
        ]
    });
    let mut text = avocado_text::table(
        ["name", "state", "ssh", "infra", "image", "disk"],
        rows,
        None,
    );
    for vm in &list.vms {
        if let Some(problem) = &vm.problem {
            let name = vm.name.as_deref().unwrap_or_default();
            text.push_str(&format!("{name}: {}\n", avocado_text::escape(problem)));
        }
    }
    text
}
