//! What a step needs of the project, looked at when the step is planned.
//!
//! Reading a project does not ask for what only some steps need: that a script is not there, or
//! that this version cannot do what one extension wants, is no reason not to list the others.

use std::path::{Path, PathBuf};

use avocado_project::{
    CompileSection, Diagnostic, Extension, KernelConfig, KernelOrigin, Needed, OsImageConfig,
    Overlay, PackageOrigin, Placed, Project, ProjectPackage, Runtime, SourceKind, SourcePlace,
};

use crate::error::BuildError;

/// Everything that some step of the project would stop at, in the order of the file: what it needs and is
/// not there, and what this version cannot do.
pub fn shortcomings(project: &Project) -> Vec<Diagnostic> {
    let mut all = vec![
        for_run(project),
        for_feed(project, "install"),
        for_sdk(project),
    ];
    for (_, os) in project.rootfs.iter().chain(&project.initramfs) {
        all.push(for_os_image(project, "image", os));
    }
    for extension in &project.extensions {
        all.extend([
            for_extension_install(project, extension),
            for_extension_build(project, extension),
            for_extension_image(project, extension),
        ]);
    }
    for section in &project.sdk.compile {
        all.push(for_compile(project, section));
        if section.package.is_some() {
            all.push(for_section_package(project, section));
        }
    }
    for runtime in &project.runtimes {
        all.extend([
            for_runtime_install(project, runtime),
            for_runtime_compile(project, runtime),
            for_kernel_image(project, runtime),
            for_os_bundle(project, runtime),
            for_runtime_build(project, runtime),
            for_var_image(project, runtime),
        ]);
    }
    let failed = all.into_iter().filter_map(Result::err);
    let mut found: Vec<Diagnostic> = failed.flat_map(|e| e.diagnostics().to_vec()).collect();
    found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    // Several steps stop at the same.
    found.dedup();
    found
}

/// What a step cannot do without, or cannot do, as far as it was looked at.
struct Shortcomings<'a> {
    project: &'a Project,
    /// What the paths are relative to, where that is not the directory of the file that names them.
    files: Option<&'a Path>,
    found: Vec<Diagnostic>,
}

/// Whether anything can be done with the files of the project.
pub(crate) fn for_run(project: &Project) -> Result<(), BuildError> {
    match &project.unusable_src_dir {
        None => Ok(()),
        Some(found) => Err(BuildError::Project {
            diagnostics: vec![found.clone()],
        }),
    }
}

/// Whether the feed can be used.
pub(crate) fn for_feed(project: &Project, stage: &str) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.found.extend(project.distro.unusable.iter().cloned());
    short.end(stage)
}

/// Whether the packages of the SDK can be installed.
pub(crate) fn for_sdk(project: &Project) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.packages(&project.sdk.project_packages);
    short.end("sdk install")
}

/// Whether the packages of a rootfs or an initramfs can be installed.
pub(crate) fn for_os_install(
    project: &Project,
    stage: &str,
    os: &OsImageConfig,
) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.os_packages(os);
    short.end(stage)
}

/// Whether the image of a rootfs or an initramfs can be made.
pub(crate) fn for_os_image(
    project: &Project,
    stage: &str,
    os: &OsImageConfig,
) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.os_packages(os);
    short.compiled_packages(project, &os.project_packages);
    short.overlay(os.overlay.as_ref());
    short.script(os.post_install.as_ref());
    short.unsupported(os.kab.as_ref(), "the image type `kab`");
    short.end(stage)
}

/// Whether the packages of an extension can be installed.
pub(crate) fn for_extension_install(
    project: &Project,
    extension: &Extension,
) -> Result<(), BuildError> {
    let mut short = Shortcomings::of_extension(project, extension);
    short.legacy_packages(&extension.project_packages);
    short.end(&format!("ext install {}", extension.name))
}

/// Whether an extension can be built.
pub(crate) fn for_extension_build(
    project: &Project,
    extension: &Extension,
) -> Result<(), BuildError> {
    let mut short = Shortcomings::of_extension(project, extension);
    short.version(extension);
    short.compiled_packages(project, &extension.project_packages);
    short.overlay(extension.overlay.as_ref());
    short.script(extension.post_build.as_ref());
    short.end(&format!("ext build {}", extension.name))
}

/// Whether the image of an extension can be made.
pub(crate) fn for_extension_image(
    project: &Project,
    extension: &Extension,
) -> Result<(), BuildError> {
    let mut short = Shortcomings::of_extension(project, extension);
    short.unsupported(extension.kab.as_ref(), "the image type `kab`");
    short.end(&format!("ext image {}", extension.name))
}

/// Whether a section of `sdk.compile` can be compiled.
pub(crate) fn for_compile(project: &Project, section: &CompileSection) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.script(section.compile.as_ref());
    let name = section.name.as_str();
    if name.starts_with('.') || name.is_empty() || name.contains(['/', '\0']) || name.len() > 200 {
        let message = format!("the section `{}` cannot be compiled", name.escape_debug());
        let hint = "its name becomes that of a directory: it has no `/` and no `.` in front";
        short
            .found
            .push(section.name.place.error(message).with_hint(hint));
    }
    short.end(&format!("sdk compile {name}"))
}

/// Whether what a section compiles can be packaged.
pub(crate) fn for_section_package(
    project: &Project,
    section: &CompileSection,
) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    let name = section.name.as_str();
    match &section.package {
        Some(package) => short.script(Some(&package.install)),
        None => {
            let message = format!("the section `{}` has no `package`", name.escape_debug());
            let hint = "add it, with the `install` script and the `version` of the package";
            short
                .found
                .push(section.name.place.error(message).with_hint(hint));
        }
    }
    short.end(&format!("sdk package {name}"))
}

/// Whether the kernel of a runtime can be had by itself.
pub(crate) fn for_kernel_image(project: &Project, runtime: &Runtime) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.kernel(runtime.kernel.as_ref());
    short.end(&format!("kernel image {}", runtime.name))
}

/// Whether the packages of a runtime can be installed.
pub(crate) fn for_runtime_install(project: &Project, runtime: &Runtime) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.legacy_packages(&runtime.project_packages);
    short.end(&format!("runtime install {}", runtime.name))
}

/// Whether what the project compiles for a runtime can be.
pub(crate) fn for_runtime_compile(project: &Project, runtime: &Runtime) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.compiled_packages(project, &runtime.project_packages);
    if let Some(kernel) = &runtime.kernel
        && let KernelOrigin::Compiled { section, install } = &kernel.origin
    {
        short.section(project, section);
        short.script(Some(install));
    }
    short.end(&format!("runtime compile {}", runtime.name))
}

/// Whether a runtime can be assembled.
pub(crate) fn for_runtime_build(project: &Project, runtime: &Runtime) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    short.unsupported(runtime.kos.as_ref(), "a runtime of type `kos`");
    short.kernel(runtime.kernel.as_ref());
    let second_key = runtime.content_key.as_ref();
    short.unsupported(second_key, "a second key for the content");
    let blake3 = runtime.blake3.as_ref();
    short.unsupported(blake3, "the checksum algorithm `blake3`");
    short.end(&format!("runtime build {}", runtime.name))
}

/// Whether the OS bundle of a runtime can be made.
pub(crate) fn for_os_bundle(project: &Project, runtime: &Runtime) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    if let Some(manifest) = &runtime.stone_manifest {
        short.exists("stone manifest", &manifest.place, manifest, Path::is_file);
    }
    let directory = "directory with files of the board";
    for path in &runtime.stone_include_paths {
        short.exists(directory, &path.place, path, Path::is_dir);
    }
    for member in &runtime.extensions {
        let Some(extension) = project.extension(&member.name) else {
            continue;
        };
        let mut of_extension = Shortcomings::of_extension(project, extension);
        for path in &extension.stone_include_paths {
            of_extension.exists(directory, &path.place, path, Path::is_dir);
        }
        short.found.append(&mut of_extension.found);
    }
    short.end(&format!("runtime os-bundle {}", runtime.name))
}

/// Whether the var partition of a runtime can be made.
pub(crate) fn for_var_image(project: &Project, runtime: &Runtime) -> Result<(), BuildError> {
    let mut short = Shortcomings::new(project);
    for file in &runtime.var_files {
        short.exists("file", &file.place, &file.source, |path| path.exists());
    }
    short.script(runtime.post_build.as_ref());
    short.end(&format!("runtime var {}", runtime.name))
}

impl<'a> Shortcomings<'a> {
    fn new(project: &'a Project) -> Self {
        Shortcomings {
            project,
            files: None,
            found: Vec::new(),
        }
    }

    fn of_extension(project: &'a Project, extension: &'a Extension) -> Self {
        Shortcomings {
            files: extension.fetched_to.as_deref(),
            ..Shortcomings::new(project)
        }
    }

    /// The directory that the paths are relative to that are written there.
    fn directory(&self, place: &SourcePlace) -> &'a Path {
        let source = self.project.source_of_file(&place.file);
        let fetched = source.and_then(|source| source.fetched_to.as_deref());
        self.files.or(fetched).unwrap_or(&self.project.src_dir)
    }

    fn unsupported(&mut self, place: Option<&SourcePlace>, what: &str) {
        self.found
            .extend(place.map(|place| place.unsupported(what)));
    }

    fn version(&mut self, extension: &Extension) {
        if let Needed::Missing(why) = &extension.version {
            self.found.push((**why).clone());
        }
    }

    fn os_packages(&mut self, os: &OsImageConfig) {
        self.not_fetched(os.not_fetched.as_ref());
        self.legacy_packages(&os.project_packages);
    }

    /// A section that comes from elsewhere.
    fn not_fetched(&mut self, place: Option<&SourcePlace>) {
        let Some(place) = place else {
            return;
        };
        let stated = place.to_string();
        let mut sources = self.project.sources.iter();
        let source = sources.find(|source| source.stated_at == stated);
        let (from, hint) = match source.map(|source| &source.kind) {
            Some(kind @ SourceKind::Path { .. }) => (kind.to_string(), "put it there"),
            Some(kind) => (kind.to_string(), "run `avocado fetch`"),
            None => ("elsewhere".to_owned(), "run `avocado fetch`"),
        };
        let message = format!("this section comes from {from}, which is not here");
        self.found.push(place.error(message).with_hint(hint));
    }

    fn packages(&mut self, packages: &[ProjectPackage]) {
        for package in packages {
            let what = match package.origin {
                PackageOrigin::Compiled { .. } => "a package that the project compiles",
                PackageOrigin::Extension { .. } => "an extension of another project",
            };
            self.unsupported(Some(&package.name.place), what);
        }
    }

    /// Of another project, in the old form.
    fn legacy_packages(&mut self, packages: &[ProjectPackage]) {
        let compiled = |p: &&ProjectPackage| matches!(p.origin, PackageOrigin::Compiled { .. });
        let legacy = packages.iter().filter(|p| !compiled(p));
        for package in legacy {
            let what = "an extension of another project";
            self.unsupported(Some(&package.name.place), what);
        }
    }

    /// Those that the project compiles: the sections and the scripts have to be there.
    fn compiled_packages(&mut self, project: &Project, packages: &[ProjectPackage]) {
        self.legacy_packages(packages);
        for package in packages {
            self.script(package.install());
            if let PackageOrigin::Compiled {
                section: Some(section),
                ..
            } = &package.origin
            {
                self.section(project, section);
            }
        }
    }

    /// A section that is named has to be there.
    fn section(&mut self, project: &Project, section: &Placed<String>) {
        let sections = || project.sdk.compile.iter().map(|s| s.name.as_str());
        if sections().any(|name| name == section.as_str()) {
            return;
        }
        let message = format!("`sdk.compile` has no section `{}`", &**section);
        let there: Vec<&str> = sections().collect();
        let hint = match there[..] {
            [] => "add it, with the script that compiles".to_owned(),
            _ => format!("it has {}", there.join(", ")),
        };
        let found = section.place.error(message);
        self.found.push(found.with_hint(hint));
    }

    fn kernel(&mut self, kernel: Option<&KernelConfig>) {
        if let Some(kernel) = kernel {
            self.not_fetched(kernel.not_fetched.as_ref());
            self.unsupported(kernel.kab.as_ref(), "the image type `kab`");
        }
    }

    fn overlay(&mut self, overlay: Option<&Overlay>) {
        let Some(overlay) = overlay else {
            return;
        };
        self.exists(
            "overlay directory",
            &overlay.place,
            &overlay.dir,
            Path::is_dir,
        );
    }

    fn script(&mut self, script: Option<&Placed<PathBuf>>) {
        if let Some(script) = script {
            self.exists("script", &script.place, script, Path::is_file);
        }
    }

    fn exists(
        &mut self,
        what: &str,
        place: &SourcePlace,
        path: &Path,
        is_there: impl Fn(&Path) -> bool,
    ) {
        let full = self.directory(place).join(path);
        if is_there(&full) {
            return;
        }
        let shown = path.display();
        let message = if full.exists() {
            format!("`{shown}` is no {what}")
        } else {
            format!("the {what} `{shown}` does not exist")
        };
        let hint = format!("it is looked for at {}", full.display());
        self.found.push(place.error(message).with_hint(hint));
    }

    fn end(self, stage: &str) -> Result<(), BuildError> {
        if self.found.is_empty() {
            return Ok(());
        }
        Err(BuildError::Step {
            step: stage.to_owned(),
            source: Box::new(BuildError::Project {
                diagnostics: self.found,
            }),
        })
    }
}
