use avocado_manifest::Name;
use avocado_project::{KernelOrigin, Placed, Project, Runtime, SourcePlace, VersionSpec};

use super::kernel::KERNEL_PACKAGE;
use crate::error::BuildError;

/// Which kernels the project wants for a rootfs: those that its runtimes state.
#[derive(Clone, Copy, Default)]
pub(super) struct WantedKernel<'p> {
    /// The package that brings it, where it is another one than every feed has.
    pub(super) package: Option<&'p Placed<String>>,
    pub(super) version: Option<&'p Placed<VersionSpec>>,
}

impl<'p> WantedKernel<'p> {
    /// `None`: the runtime compiles its kernel, which is not in the rootfs.
    fn of(runtime: &'p Runtime) -> Option<Self> {
        match runtime.kernel.as_ref().map(|kernel| &kernel.origin) {
            Some(KernelOrigin::Feed { package, version }) => Some(WantedKernel {
                package: package.as_ref().filter(|p| p.value != KERNEL_PACKAGE),
                version: version.as_ref(),
            }),
            Some(KernelOrigin::Compiled { .. }) => None,
            None => Some(WantedKernel::default()),
        }
    }

    pub(super) fn is_stated(&self) -> bool {
        self.package.is_some() || self.version.is_some()
    }

    /// Where the project says so.
    pub(super) fn place(&self) -> Option<&'p SourcePlace> {
        let version = self.version.map(|version| &version.place);
        version.or(self.package.map(|package| &package.place))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.package.map(|p| &p.value) == other.package.map(|p| &p.value)
            && self.version.map(|v| &v.value) == other.version.map(|v| &v.value)
    }
}

pub(super) fn wanted_kernel<'p>(
    project: &'p Project,
    rootfs: &Name,
) -> Result<WantedKernel<'p>, BuildError> {
    let runtimes = project.runtimes.iter().filter(|r| r.rootfs == *rootfs);
    let mut wanted = runtimes.filter_map(|r| Some((r, WantedKernel::of(r)?)));
    let Some((first, kernel)) = wanted.next() else {
        return Ok(WantedKernel::default());
    };
    let Some((other, another)) = wanted.find(|(_, another)| !another.is_same(&kernel)) else {
        return Ok(kernel);
    };
    let message = format!(
        "the runtimes `{}` and `{}` have the rootfs `{rootfs}` and want different kernels",
        first.name, other.name
    );
    let found = another.place().or(kernel.place()).map(|place| {
        let found = place.error(message);
        found
            .with_hint("give one of them a rootfs of its own: its packages are made for one kernel")
    });
    Err(BuildError::Project {
        diagnostics: found.into_iter().collect(),
    })
}
