//! The child's side: what runs when our program is started as `avocado step`.

use std::process::ExitCode;

use avocado_backend::WorkerStart;
use avocado_backend::worker::Workplace;
use serde_json::Value;

use crate::bill::ImageReadingRequest;
use crate::cache::{PackRequest, PlaceRequest};
use crate::error::BuildError;
use crate::layout::Layout;
use crate::moving::{PackStateRequest, UnpackStateRequest};
use crate::package_query::{InstalledRequest, PackageQueryRequest};
use crate::rebuild::CompareImagesRequest;
use crate::scriptlets::ScriptletsRequest;
use crate::sdk_command::SdkCommand;
use crate::step_context::StepContext;
use crate::step_request::{StepMessage, StepRequest};
use crate::steps::compile::{CleanRequest, CompileRequest};
use crate::steps::container_store::ContainerStoreRequest;
use crate::steps::disk_image::{DiskImageRequest, ProvisionProgramRequest};
use crate::steps::extension_build::ExtensionBuildRequest;
use crate::steps::extension_image::ExtensionImageRequest;
use crate::steps::install::{FinishInstallRequest, InstallRequest, PublishRequest};
use crate::steps::os_bundle::OsBundleRequest;
use crate::steps::os_image::OsImageRequest;
use crate::steps::runtime_build::RuntimeBuildRequest;
use crate::steps::runtime_compile::RuntimeCompileRequest;
use crate::steps::section_package::SectionPackageRequest;
use crate::steps::var_image::VarImageRequest;
use crate::trees::CopyModes;

/// The whole of the hidden `avocado step`: reads a step as JSON on standard input, does it, and
/// writes events and the result as NDJSON to standard output, unless `start` says otherwise.
pub fn step_main(start: WorkerStart) -> ExitCode {
    avocado_backend::worker::main(start, work)
}

fn work(message: StepMessage<Value>, workplace: Workplace<'_>) -> Result<Value, BuildError> {
    let context = StepContext {
        layout: Layout::in_step(&message.target).with_sdk_for(message.sdk_processor),
        host_layout: Layout::new(&message.state, &message.target)
            .with_sdk_for(message.sdk_processor),
        target: message.target,
        epoch: message.source_date_epoch,
        modes: CopyModes::Checkout(message.checkout_mode),
        search_path: workplace.search_path,
        sink: workplace.sink,
        loop_mounts: workplace.loop_mounts.as_ref(),
    };
    if let (SdkCommand::KIND, Some(terminal)) = (message.kind.as_str(), workplace.terminal) {
        let status = understood::<SdkCommand>(message.request)?.work_at(&context, terminal)?;
        return Ok(status.into());
    }
    let work = match message.kind.as_str() {
        InstallRequest::KIND => work_on::<InstallRequest>,
        FinishInstallRequest::KIND => work_on::<FinishInstallRequest>,
        PackageQueryRequest::KIND => work_on::<PackageQueryRequest>,
        ScriptletsRequest::KIND => work_on::<ScriptletsRequest>,
        CompareImagesRequest::KIND => work_on::<CompareImagesRequest>,
        PublishRequest::KIND => work_on::<PublishRequest>,
        PackRequest::KIND => work_on::<PackRequest>,
        PlaceRequest::KIND => work_on::<PlaceRequest>,
        PackStateRequest::KIND => work_on::<PackStateRequest>,
        UnpackStateRequest::KIND => work_on::<UnpackStateRequest>,
        CleanRequest::KIND => work_on::<CleanRequest>,
        InstalledRequest::KIND => work_on::<InstalledRequest>,
        ImageReadingRequest::KIND => work_on::<ImageReadingRequest>,
        CompileRequest::KIND => work_on::<CompileRequest>,
        ExtensionBuildRequest::KIND => work_on::<ExtensionBuildRequest>,
        ExtensionImageRequest::KIND => work_on::<ExtensionImageRequest>,
        OsImageRequest::KIND => work_on::<OsImageRequest>,
        OsBundleRequest::KIND => work_on::<OsBundleRequest>,
        DiskImageRequest::KIND => work_on::<DiskImageRequest>,
        ProvisionProgramRequest::KIND => work_on::<ProvisionProgramRequest>,
        RuntimeCompileRequest::KIND => work_on::<RuntimeCompileRequest>,
        RuntimeBuildRequest::KIND => work_on::<RuntimeBuildRequest>,
        SectionPackageRequest::KIND => work_on::<SectionPackageRequest>,
        ContainerStoreRequest::KIND => work_on::<ContainerStoreRequest>,
        VarImageRequest::KIND => work_on::<VarImageRequest>,
        other => {
            let what = format!("this program has no step of the kind `{other}`");
            return Err(BuildError::Invalid(what));
        }
    };
    work(message.request, &context)
}

fn work_on<R: StepRequest>(request: Value, context: &StepContext<'_>) -> Result<Value, BuildError> {
    let result = understood::<R>(request)?.work(context)?;
    serde_json::to_value(result)
        .map_err(|e| BuildError::Invalid(format!("the step's result has no JSON form: {e}")))
}

fn understood<R: StepRequest>(request: Value) -> Result<R, BuildError> {
    serde_json::from_value(request)
        .map_err(|e| BuildError::Invalid(format!("the step's request cannot be understood: {e}")))
}
