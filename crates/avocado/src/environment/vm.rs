//! What surrounds the development VM.

use std::path::{Path, PathBuf};

#[cfg(unix)]
use avocado_vm::named::{UserVms, VmName};

use super::Environment;
use crate::failure::{Failure, Result};

impl Environment {
    /// The state directory of a development VM: `AVOCADO_VM_STATE_DIR`, or that of the VM which is `named`
    /// or which `AVOCADO_VM_NAME` names, or `~/.avocado/vm`.
    #[cfg(unix)]
    pub(crate) fn vm_state_dir(&self, named: Option<&VmName>) -> Result<PathBuf> {
        let stated = self.vm_stated_dir()?;
        let by = if named.is_some() {
            "--name"
        } else {
            "AVOCADO_VM_NAME"
        };
        let name = match named {
            Some(name) => Some(name.clone()),
            None => self.vm_name()?,
        };
        match (stated, name) {
            (Some(_), Some(name)) => Err(Failure::usage(format!(
                "{by} says `{}`, and AVOCADO_VM_STATE_DIR names a directory: which VM is meant?",
                name.as_str()
            ))
            .hint("state one of the two")),
            (Some(dir), None) => Ok(dir),
            (None, name) => {
                let name = name.unwrap_or_else(VmName::default_vm);
                Ok(self.user_vms()?.dir(&name).root().to_owned())
            }
        }
    }

    /// `AVOCADO_VM_STATE_DIR`: the state directory of a VM that is anywhere.
    #[cfg(unix)]
    pub(crate) fn vm_stated_dir(&self) -> Result<Option<PathBuf>> {
        self.path("AVOCADO_VM_STATE_DIR")
    }

    /// Which of the user's VMs is meant: that which is `named`, or which `AVOCADO_VM_NAME` names.
    #[cfg(unix)]
    pub(crate) fn chosen_vm(&self, named: Option<&VmName>) -> Result<VmName> {
        Ok(match named {
            Some(name) => name.clone(),
            None => self.vm_name()?.unwrap_or_else(VmName::default_vm),
        })
    }

    /// `AVOCADO_VM_NAME`: which VM is meant.
    #[cfg(unix)]
    fn vm_name(&self) -> Result<Option<VmName>> {
        const NAME: &str = "AVOCADO_VM_NAME";
        let parse = |text: &str| {
            let name = text.parse::<VmName>();
            name.map_err(|error| Failure::usage(format!("{NAME}: {error}")))
        };
        self.text(NAME).map(parse).transpose()
    }

    /// `~/.avocado`, where the user's VMs are.
    #[cfg(unix)]
    pub(crate) fn user_vms(&self) -> Result<UserVms> {
        match self.home() {
            Some(home) => Ok(UserVms::new(home.join(".avocado"))),
            None => Err(Failure::new("there is no place for the VM")
                .hint("set AVOCADO_VM_STATE_DIR or HOME to a directory")),
        }
    }

    /// `~/.avocado/config.yaml`: what the user wants of every VM.
    pub(crate) fn user_config(&self) -> Option<PathBuf> {
        Some(self.home()?.join(".avocado/config.yaml"))
    }

    /// `AVOCADO_VM_DIR`: the image to run.
    pub(crate) fn vm_image(&self) -> Result<Option<PathBuf>> {
        self.path("AVOCADO_VM_DIR")
    }

    /// `AVOCADO_VM_WORKSPACE`: the directory that the guest sees.
    pub(crate) fn vm_workspace(&self) -> Result<Option<PathBuf>> {
        self.path("AVOCADO_VM_WORKSPACE")
    }

    /// `AVOCADO_VM_DTB`: the device tree for the guest.
    pub(crate) fn vm_device_tree(&self) -> Result<Option<PathBuf>> {
        self.path("AVOCADO_VM_DTB")
    }

    /// `AVOCADO_VM_CHANNEL_URL_BASE`: where channels of VM images are.
    pub(crate) fn vm_channel_base(&self) -> Option<&str> {
        self.text("AVOCADO_VM_CHANNEL_URL_BASE")
    }

    /// Whether to look for updates unasked; `AVOCADO_NO_UPDATE_CHECK` forbids it.
    pub(crate) fn checks_for_updates(&self) -> bool {
        !self.is_set("AVOCADO_NO_UPDATE_CHECK")
    }

    /// `AVOCADO_VM_IDLE_HIBERNATE_SECS`: when an idle guest sleeps; 0 is never.
    pub(crate) fn vm_idle_hibernate_secs(&self) -> Result<Option<u64>> {
        const NAME: &str = "AVOCADO_VM_IDLE_HIBERNATE_SECS";
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                let text = text.escape_debug();
                Failure::usage(format!("{NAME} is `{text}`, not a number of seconds"))
            })
        };
        self.text(NAME).map(parse).transpose()
    }

    /// `AVOCADO_DESKTOP_SOCKET`, or where the desktop application listens on this system.
    pub(crate) fn desktop_socket(&self) -> Result<Option<PathBuf>> {
        if let Some(socket) = self.path("AVOCADO_DESKTOP_SOCKET")? {
            return Ok(Some(socket));
        }
        Ok(match std::env::consts::OS {
            "macos" => self
                .home()
                .map(|home| home.join("Library/Application Support/Avocado/avocado.sock")),
            "linux" => self
                .os("XDG_RUNTIME_DIR")
                .map(|dir| Path::new(dir).join("avocado/avocado.sock")),
            _ => None,
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::tests::environment;
    use super::*;

    #[test]
    fn the_vm_lives_at_home_unless_told() {
        let dir = |variables: &[(&str, &str)]| environment(variables).vm_state_dir(None).ok();
        assert_eq!(dir(&[("HOME", "/h")]), Some("/h/.avocado/vm".into()));
        let told = [("HOME", "/h"), ("AVOCADO_VM_STATE_DIR", "/v")];
        assert_eq!(dir(&told), Some("/v".into()));
        assert_eq!(dir(&[("HOME", "")]), None);
        let named = [("HOME", "/h"), ("AVOCADO_VM_NAME", "b")];
        assert_eq!(dir(&named), Some("/h/.avocado/vms/b".into()));
        assert_eq!(dir(&[("HOME", "/h"), ("AVOCADO_VM_NAME", "../b")]), None);
        let name = "c".parse().unwrap();
        let found = environment(&named).vm_state_dir(Some(&name)).ok();
        assert_eq!(found, Some("/h/.avocado/vms/c".into()));
        let found = environment(&named).vm_state_dir(Some(&VmName::default_vm()));
        assert_eq!(found.ok(), Some("/h/.avocado/vm".into()));
        let both = [
            ("HOME", "/h"),
            ("AVOCADO_VM_NAME", "b"),
            ("AVOCADO_VM_STATE_DIR", "/v"),
        ];
        let refused = environment(&both).vm_state_dir(None).unwrap_err();
        assert!(
            refused.message.starts_with("AVOCADO_VM_NAME says `b`"),
            "{refused:?}"
        );
        let refused = environment(&told).vm_state_dir(Some(&name)).unwrap_err();
        assert!(
            refused.message.starts_with("--name says `c`"),
            "{refused:?}"
        );
        let secs = |text| {
            let name = "AVOCADO_VM_IDLE_HIBERNATE_SECS";
            environment(&[(name, text)]).vm_idle_hibernate_secs().ok()
        };
        assert_eq!(secs("0"), Some(Some(0)));
        assert_eq!(secs(""), Some(None));
        assert_eq!((secs("-1"), secs("soon")), (None, None));
    }
}
