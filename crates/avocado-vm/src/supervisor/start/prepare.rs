//! Everything that a machine needs before QEMU starts.

use std::path::Path;
use std::sync::Arc;

use avocado_events::{Event, chain};
use avocado_qemu::{
    Accelerator, AcceleratorProbe, AcceleratorProbeKey, Architecture, BinaryIdentity, SoftwareTpm,
    device_tree, find_binary, find_swtpm, probe_accelerator,
};

use super::super::context::SupervisorContext;
use super::super::error::SupervisorError;
use super::super::machine_record::{ImageIdentity, MachineRecord};
use super::machine_spec::machine_spec;
use crate::dir::StateFile;
use crate::image::ImageDir;
use crate::{access, disk, files};

/// Everything but QEMU: image, disks, key, accelerator.
pub(super) async fn prepare_machine(
    context: &Arc<SupervisorContext>,
) -> Result<MachineRecord, SupervisorError> {
    let image = load_image(context).await?;
    let (dir, launch) = (&context.dir, &context.launch);
    let architecture: Architecture = image.manifest().architecture.parse()?;
    let binary = match &launch.qemu {
        Some(binary) => binary.clone(),
        None => find_binary(context.search.iter().cloned(), architecture)?,
    };
    let accelerator = match &launch.accelerator {
        Some(name) => name.parse()?,
        None => choose_accelerator(context, &binary, architecture).await?,
    };
    let key = {
        let context = context.clone();
        let image = image.clone();
        blocking(move || {
            let (dir, launch) = (&context.dir, &context.launch);
            disk::prepare_var(dir, &image, launch.var_size, &*context.sink)?;
            dir.write(StateFile::Manifest, image.manifest_bytes())?;
            let path = |path: &Path| path.display().to_string().into_bytes();
            dir.write(StateFile::ArtifactDir, &path(&launch.image))?;
            match &launch.workspace {
                Some(workspace) => dir.write(StateFile::Workspace, &path(workspace))?,
                None => dir.remove(StateFile::Workspace)?,
            }
            access::prepare_key(dir)
        })
        .await?
    };
    // On arm64 a device tree of the user's takes the TPM away: it has a place in QEMU's own only.
    let tpm = match (architecture, &launch.device_tree) {
        (Architecture::Aarch64, Some(_)) => None,
        _ => find_swtpm(context.search.iter().cloned()),
    };
    let tpm = tpm.map(|binary| SoftwareTpm {
        binary,
        directory: dir.file(StateFile::Tpm),
    });
    let parts = (binary, architecture, accelerator, tpm);
    let mut spec = machine_spec(dir, launch, &image, parts, &key)?;
    match device_tree::prepare(
        &spec,
        device_tree::IdleStatesChoice::Automatic,
        &dir.file(StateFile::DeviceTrees),
    )
    .await
    {
        Ok(tree) => spec.device_tree = tree,
        Err(error) => {
            let text = format!("the guest gets no idle states: {}", chain(&error));
            context.sink.emit(Event::warning(text));
        }
    }
    Ok(MachineRecord {
        identity: None,
        qemu: BinaryIdentity::of(&spec.binary)?,
        spec,
        image: ImageIdentity::of(&image),
        launch: launch.clone(),
        tunnel: None,
        ready: false,
        published: Vec::new(),
    })
}

/// The image, verified.
pub(super) async fn load_image(
    context: &Arc<SupervisorContext>,
) -> Result<ImageDir, SupervisorError> {
    let context = context.clone();
    let load = move || {
        let image = ImageDir::load(&context.launch.image)?;
        image.verify(&*context.sink)?;
        Ok(image)
    };
    blocking(load).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::VmError> + Send + 'static,
) -> Result<T, SupervisorError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(SupervisorError::System {
            what: "finish the work",
            source: std::io::Error::other(error),
        }),
    }
}

/// The best accelerator that works, remembered for as long as nothing changes.
async fn choose_accelerator(
    context: &SupervisorContext,
    binary: &Path,
    architecture: Architecture,
) -> Result<Accelerator, SupervisorError> {
    let path = context.dir.file(StateFile::AcceleratorProbe);
    let key = AcceleratorProbeKey::of(binary, architecture)?;
    let kept = files::read(&path).ok().flatten();
    let kept = kept.and_then(|bytes| serde_json::from_slice::<AcceleratorProbe>(&bytes).ok());
    let found = match kept.filter(|probe| probe.key == key) {
        Some(probe) => probe,
        None => {
            let probe = probe_accelerator(binary, architecture, context.dir.root()).await?;
            files::write(&path, &files::to_json(&path, &probe)?)?;
            probe
        }
    };
    if let Some(notice) = found.notice {
        context.sink.emit(Event::info(notice));
    }
    Ok(found.accelerator)
}
