//! The device that the example makes, booted, with its agent.

use std::fs;
use std::path::PathBuf;

use avocado_manifest::{Digest, ImageId, Manifest, RuntimeExtension, RuntimeId};
use avocado_testbed::device::{DeviceOptions, TestDevice};
use avocado_testbed::keys::SshKeys;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use tempfile::TempDir;

use super::{Sandbox, cannot_build};

/// Whether the machine cannot build or boot a device; says so.
pub(crate) fn cannot_boot(name: &str) -> bool {
    let needs = [
        TestNeed::Root,
        TestNeed::Tool("systemd-nspawn"),
        TestNeed::Tool("nsenter"),
        TestNeed::Tool("ip"),
        TestNeed::Tool("losetup"),
        TestNeed::Tool("ssh-keygen"),
    ];
    cannot_build(name) || skip_without(name, &needs)
}

pub(crate) struct BuiltDevice {
    pub(crate) device: TestDevice,
    pub(crate) work: TempDir,
    _sandbox: Sandbox,
}

impl BuiltDevice {
    pub(crate) fn boot() -> Self {
        let sandbox = Sandbox::built();
        let artifacts = sandbox.project.events(&["build"]).unwrap().artifacts();
        let rootfs = artifacts.into_iter().find(|a| a.kind == "rootfs").unwrap();
        let var = sandbox.project.state().join("runtimes/dev/var-staging");
        let work = tempfile::tempdir().unwrap();
        let keys = SshKeys::create(work.path()).unwrap();
        let options = DeviceOptions::new(&rootfs.path, &var, work.path(), keys);
        let device = TestDevice::boot(options).unwrap();
        assert_eq!(device.failed_units().unwrap(), "");
        BuiltDevice {
            device,
            work,
            _sandbox: sandbox,
        }
    }

    /// Its store.
    pub(crate) fn base(&self) -> PathBuf {
        self.device.var().join("lib/avocado")
    }

    pub(crate) fn agent(&self, arguments: &[&str]) -> ToolCall {
        let words = [&["avocadoctl"], arguments].concat();
        self.device.enter(&words)
    }

    pub(crate) fn active(&self) -> Manifest {
        let bytes = fs::read(self.base().join("active/manifest.json")).unwrap();
        Manifest::parse(&bytes).unwrap()
    }

    /// Stages a runtime that differs from the active one, and returns its id.
    pub(crate) fn stage(&self, id: &str, change: impl FnOnce(&mut Manifest)) -> RuntimeId {
        let mut manifest = self.active();
        manifest.id = id.parse().unwrap();
        manifest.runtime.version = id.to_owned();
        change(&mut manifest);
        let text = manifest.to_json().unwrap();
        fs::write(self.device.var().join("lib/new.json"), text).unwrap();
        // What a test staged stays, however much it is. The service has another configuration; who names
        // the store does without it.
        let config = "[avocado.gc]\nauto_gc = false\n";
        fs::write(self.device.var().join("lib/keep.conf"), config).unwrap();
        let call = self.device.enter(&[
            "env",
            "AVOCADO_BASE_DIR=/var/lib/avocado",
            "avocadoctl",
            "--config=/var/lib/keep.conf",
            "runtime",
            "add",
            "--manifest=/var/lib/new.json",
        ]);
        call.ok().unwrap();
        manifest.id
    }

    pub(crate) fn activate(&self, id: &RuntimeId) {
        let call = self.agent(&["runtime", "activate", id.as_str()]);
        call.ok().unwrap();
    }

    /// Puts bytes into the pool as an image of an extension.
    pub(crate) fn image(&self, name: &str, bytes: &[u8]) -> RuntimeExtension {
        let sha256 = Digest::of(bytes);
        let image_id = ImageId::from_digest(sha256);
        fs::write(self.base().join("images").join(image_id.file_name()), bytes).unwrap();
        RuntimeExtension {
            name: name.parse().unwrap(),
            version: "1.0".parse().unwrap(),
            image_id: Some(image_id),
            sha256: Some(sha256),
            image_type: None,
            enabled: true,
        }
    }
}
